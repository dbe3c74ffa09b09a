//! Counts offline messages stored a second, by how many share a commit, on a file, for both values
//! of `store.durability`.
//!
//! The load is batches of 1, 16 and 256 chat messages, written by the writer's own code without its
//! thread; checkpoints, which have a thread of their own in the server, are outside of what is
//! timed. It serves group commit (`The store` in lib.rs): with `full` the sync is most of a small
//! commit, and what waits for it must be shared; the difference to `normal` is what an operator can
//! gain by giving up the last seconds before a power cut. The file lies in cargo's target folder:
//! that disk is what is measured.

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use stanzad::clock::Wall;
use stanzad::jid::BareJid;
use stanzad::sasl::Credentials;
use stanzad::stanza::Stanza;
use stanzad::storage::offline::OfflineMessage;
use stanzad::storage::{Answer, Batch, Durability, Row, WriterCore, accounts};
use tempfile::TempDir;

use crate::payload::chat;

/// Messages after which all are deleted and the log is moved into the database, as the server's
/// checkpoints do, so that the file does not grow with the number of measurements.
const MESSAGES_MAX: i64 = 4096;

/// A store on disk with one account.
struct Disk {
    folder: TempDir,
    durability: Durability,
    /// None only while it is opened anew.
    core: Option<WriterCore>,
    account: i64,
    seq: i64,
    stanza: Stanza,
}

impl Disk {
    fn new(durability: Durability) -> Disk {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut core = WriterCore::open(&folder.path().join("data"), durability).expect("a store");
        let create = |db: &_| {
            let romeo = BareJid::parse("romeo@example.org").expect("an address");
            accounts::create(db, &romeo, &Credentials::default(), Wall::default())
        };
        let account = core.change(create).expect("a new account").id;
        Disk {
            folder,
            durability,
            core: Some(core),
            account,
            seq: 0,
            stanza: chat(Some("juliet@example.org/balcony"), "romeo@example.org"),
        }
    }

    fn core(&mut self) -> &mut WriterCore {
        self.core.as_mut().expect("the store is open")
    }

    fn commit(&mut self, rows: Vec<Row>) {
        let batch = Batch {
            rows,
            ..Batch::default()
        };
        for (_, answer) in self.core().commit(vec![(0, batch)]) {
            assert!(
                matches!(answer, Answer::Committed { rows: Ok(()), .. }),
                "{answer:?}"
            );
        }
    }

    fn messages(&mut self, count: usize) -> Vec<Row> {
        let rows = (0..count).map(|_| {
            self.seq += 1;
            Row::Offline(Box::new(OfflineMessage {
                account: self.account,
                seq: self.seq,
                came: Wall::default(),
                stanza: self.stanza.clone(),
            }))
        });
        rows.collect()
    }

    /// Deletes what was stored, and begins a new log.
    fn clear(&mut self) {
        let (account, seq) = (self.account, self.seq);
        self.commit(vec![Row::OfflineDelivered { account, seq }]);
        self.core.take().expect("the store is open").close();
        let data = self.folder.path().join("data");
        self.core = Some(WriterCore::open(&data, self.durability).expect("the store as it was"));
    }

    /// The time that so many commits of `count` messages take.
    fn measure(&mut self, commits: u64, count: usize) -> Duration {
        let mut total = Duration::ZERO;
        let mut left = MESSAGES_MAX;
        for _ in 0..commits {
            let rows = self.messages(count);
            let start = Instant::now();
            self.commit(rows);
            total += start.elapsed();
            left -= count as i64;
            if left <= 0 {
                self.clear();
                left = MESSAGES_MAX;
            }
        }
        self.clear();
        total
    }
}

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    for (name, durability) in [("full", Durability::Full), ("normal", Durability::Normal)] {
        let mut disk = Disk::new(durability);
        for count in [1, 16, 256] {
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter_custom(|commits| disk.measure(commits, count));
            });
        }
    }
    group.finish();
}

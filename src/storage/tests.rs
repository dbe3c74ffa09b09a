//! The store as a whole: threads, files, crashes.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crossbeam_channel::{Receiver, RecvError, unbounded};

use super::*;
use crate::sasl::Credentials;

/// Answers as a channel.
struct Inbox(Sender<(usize, Vec<Answer>)>);

impl Answers for Inbox {
    fn answer(&self, shard: usize, answers: Vec<Answer>) {
        // The test may be over.
        drop(self.0.send((shard, answers)));
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    data: PathBuf,
    store: Store,
    inbox: Receiver<(usize, Vec<Answer>)>,
    fatal: Receiver<String>,
}

fn options() -> (Options, Receiver<String>) {
    let (tx, fatal) = unbounded();
    let mut options = Options::new(Durability::Full);
    options.readers = 2;
    options.fatal = Arc::new(move |words| tx.send(words.to_owned()).unwrap());
    (options, fatal)
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        Fixture::open(dir, data)
    }

    fn open(dir: tempfile::TempDir, data: PathBuf) -> Fixture {
        let (tx, inbox) = unbounded();
        let (options, fatal) = options();
        let store = Store::open_with(&data, &options, Arc::new(Inbox(tx))).unwrap();
        Fixture {
            _dir: dir,
            data,
            store,
            inbox,
            fatal,
        }
    }

    /// Stops the store, lets `between` touch its files, and opens it again.
    fn reopen(self, between: impl FnOnce(&Path)) -> Fixture {
        self.store.stop();
        between(&self.data.join(directory::DATABASE));
        Fixture::open(self._dir, self.data)
    }

    fn write(&self, id: u64, change: ChangeFn) {
        self.store.write(
            0,
            Batch {
                changes: vec![(id, change)],
                ..Batch::default()
            },
        );
    }

    /// The result of the next answer's only change.
    fn written(&self) -> Result<Value, StoreError> {
        match self.next() {
            Answer::Committed { mut changes, .. } => changes.pop().unwrap().1,
            Answer::Read { .. } => panic!("no read was answered yet"),
        }
    }

    fn next(&self) -> Answer {
        let (_, mut answers) = self.inbox.recv().unwrap();
        assert_eq!(answers.len(), 1);
        answers.pop().unwrap()
    }

    fn next_read(&self) -> (u64, Result<Value, StoreError>) {
        match self.next() {
            Answer::Read { id, result } => (id, result),
            Answer::Committed { .. } => panic!("nothing was written"),
        }
    }
}

fn sql(text: &'static str) -> ChangeFn {
    Box::new(move |db| {
        db.connection().execute_batch(text)?;
        Ok(Box::new(()))
    })
}

fn number(text: &'static str) -> ReadFn {
    Box::new(move |db| {
        let number: i64 = db.connection().query_row(text, [], |row| row.get(0))?;
        Ok(Box::new(number))
    })
}

fn as_number(value: Value) -> i64 {
    *value.downcast().unwrap()
}

fn create(name: &str) -> ChangeFn {
    let jid = BareJid::parse(&format!("{name}@example.org")).unwrap();
    Box::new(move |db| {
        let account = accounts::create(db, &jid, &Credentials::default(), Wall::from_micros(1))?;
        Ok(Box::new(account))
    })
}

fn names(db: &Db) -> Vec<String> {
    let all = accounts::list(db, None).unwrap();
    all.iter()
        .map(|(jid, _)| jid.local().unwrap().to_owned())
        .collect()
}

/// Looks into the database at each answer, as another process would.
struct Witness {
    path: PathBuf,
    seen: Sender<(i64, i64)>,
}

impl Answers for Witness {
    fn answer(&self, _shard: usize, answers: Vec<Answer>) {
        let reader = schema::open_again(&self.path, true).unwrap();
        for answer in answers {
            let Answer::Committed { changes, .. } = answer else {
                continue;
            };
            for (id, result) in changes {
                result.unwrap();
                let id = i64::try_from(id).unwrap();
                let sql = "SELECT count(*) FROM account WHERE id <= ?1";
                let count = reader.query_row(sql, [id], |row| row.get(0)).unwrap();
                self.seen.send((id, count)).unwrap();
            }
        }
    }
}

#[test]
fn an_answer_comes_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (seen, sees) = unbounded();
    let path = data.join(directory::DATABASE);
    let witness = Arc::new(Witness { path, seen });
    let store = Store::open(&data, Durability::Full, witness).unwrap();
    for id in 1..=30 {
        let change = create(&format!("user{id}"));
        store.write(
            0,
            Batch {
                changes: vec![(id, change)],
                ..Batch::default()
            },
        );
        if id % 3 == 0 {
            for _ in 0..3 {
                let (id, count) = sees.recv().unwrap();
                assert_eq!(id, count);
            }
        }
    }
    store.stop();
}

#[test]
fn batches_of_one_shard_that_share_a_commit_are_answered_together_and_in_order() {
    let fixture = Fixture::new();
    // Holds the writer inside a transaction until the batches behind it are queued.
    let (go, gone) = unbounded::<()>();
    fixture.write(
        1,
        Box::new(move |_| {
            assert_eq!(gone.recv(), Err(RecvError));
            Ok(Box::new(()))
        }),
    );
    for (shard, name) in [(1, "juliet"), (2, "romeo"), (1, "nurse")] {
        fixture.store.write(
            shard,
            Batch {
                changes: vec![(7, create(name))],
                ..Batch::default()
            },
        );
    }
    drop(go);
    let mut lists = HashMap::new();
    for _ in 0..3 {
        let (shard, answers) = fixture.inbox.recv().unwrap();
        lists.insert(shard, answers.len());
    }
    assert_eq!(lists, HashMap::from([(0, 1), (1, 2), (2, 1)]));
    assert_eq!(
        (fixture.store.load().posts(), fixture.store.load().bytes()),
        (0, 0)
    );
}

#[test]
fn a_second_store_is_refused_while_the_first_lives_and_not_after() {
    let fixture = Fixture::new();
    let (tx, _inbox) = unbounded();
    let inbox = Arc::new(Inbox(tx));
    let second = Store::open(&fixture.data, Durability::Full, inbox.clone());
    let own = std::process::id();
    assert!(matches!(second, Err(OpenError::AlreadyRunning { pid: Some(pid), .. }) if pid == own));
    fixture.store.stop();
    Store::open(&fixture.data, Durability::Full, inbox)
        .unwrap()
        .stop();
}

#[test]
fn stopping_commits_what_waits_moves_the_log_and_refuses_the_rest() {
    let fixture = Fixture::new();
    for n in 0..50 {
        fixture.write(n, create(&format!("u{n:02}")));
    }
    let (store, data) = (fixture.store.clone(), fixture.data.clone());
    store.stop();
    let answers: Vec<Answer> = fixture
        .inbox
        .try_iter()
        .flat_map(|(_, list)| list)
        .collect();
    assert_eq!(answers.len(), 50);
    for answer in answers {
        let Answer::Committed { mut changes, .. } = answer else {
            panic!("nothing was read")
        };
        changes.pop().unwrap().1.unwrap();
    }
    assert!(
        !data.join("stanzad.sqlite-wal").exists(),
        "all is in the database itself"
    );
    fixture.write(99, create("late"));
    assert!(matches!(fixture.written(), Err(StoreError::Stopped)));
    fixture.store.read(0, 3, Lane::Quick, number("SELECT 1"));
    assert!(matches!(fixture.next_read(), (3, Err(StoreError::Stopped))));
    let core = WriterCore::open(&data, Durability::Full).unwrap();
    assert_eq!(names(core.db()).len(), 50);
}

#[test]
fn acknowledged_changes_are_in_a_copy_of_the_live_files() {
    let fixture = Fixture::new();
    for n in 0..20 {
        fixture.write(n, create(&format!("u{n:02}")));
        fixture.written().unwrap();
    }
    // What a power cut leaves: files, and nobody who closed them.
    let copy = fixture.data.with_file_name("copy");
    DirBuilderExt::mode(&mut fs::DirBuilder::new(), 0o700)
        .create(&copy)
        .unwrap();
    for name in ["stanzad.sqlite", "stanzad.sqlite-wal"] {
        fs::copy(fixture.data.join(name), copy.join(name)).unwrap();
    }
    let core = WriterCore::open(&copy, Durability::Full).unwrap();
    assert_eq!(names(core.db()).len(), 20);
}

const CHILD: &str = "STANZAD_TEST_STORE_CHILD";

/// Not a test of its own: the process that the next test kills. Tells each acknowledged change on
/// standard output.
#[test]
fn child_that_is_killed() {
    let Some(data) = std::env::var_os(CHILD) else {
        return;
    };
    let (tx, inbox) = unbounded();
    let store = Store::open(Path::new(&data), Durability::Full, Arc::new(Inbox(tx))).unwrap();
    for n in 0.. {
        let batch = Batch {
            changes: vec![(n, create(&format!("u{n}")))],
            ..Batch::default()
        };
        store.write(0, batch);
        let (_, answers) = inbox.recv().unwrap();
        let [Answer::Committed { changes, .. }] = &answers[..] else {
            panic!("one change, one answer")
        };
        assert!(changes[0].1.is_ok());
        println!("acknowledged u{n}");
    }
}

#[test]
fn acknowledged_changes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "storage::tests::child_that_is_killed",
            "--nocapture",
        ])
        .env(CHILD, &data)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        let line = line.unwrap();
        if let Some((_, name)) = line.split_once("acknowledged ") {
            acknowledged.push(name.to_owned());
            if acknowledged.len() == 200 {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() >= 200);
    // The lock is free again as well.
    let core = WriterCore::open(&data, Durability::Full).unwrap();
    let stored = names(core.db());
    for name in acknowledged {
        assert!(
            stored.contains(&name),
            "{name} was acknowledged and is lost"
        );
    }
}

#[test]
fn a_read_sees_one_state_though_a_commit_falls_into_it() {
    let fixture = Fixture::new();
    let (begun, has_begun) = unbounded();
    let (go, gone) = unbounded::<()>();
    let read: ReadFn = Box::new(move |db| {
        let before = names(db);
        begun.send(()).unwrap();
        assert_eq!(gone.recv(), Err(RecvError));
        Ok(Box::new(before == names(db)))
    });
    fixture.store.read(0, 1, Lane::Quick, read);
    has_begun.recv().unwrap();
    fixture.write(2, create("juliet"));
    fixture.written().unwrap();
    drop(go);
    let is_same = fixture.next_read().1.unwrap();
    assert!(*is_same.downcast::<bool>().unwrap());
    fixture
        .store
        .read(0, 3, Lane::Quick, number("SELECT count(*) FROM account"));
    assert_eq!(as_number(fixture.next_read().1.unwrap()), 1);
}

#[test]
fn readers_cannot_write() {
    let fixture = Fixture::new();
    fixture
        .store
        .read(0, 1, Lane::Quick, sql("DELETE FROM server"));
    assert!(matches!(
        fixture.next_read(),
        (1, Err(StoreError::Sqlite { .. }))
    ));
}

#[test]
fn an_endless_read_is_stopped_and_the_next_one_has_its_full_budget() {
    let fixture = Fixture::new();
    let endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                   SELECT count(*) FROM n";
    let long = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 20000)
                SELECT count(*) FROM n";
    for round in 0..3 {
        fixture
            .store
            .read(0, round, Lane::Bulk { owner: 1 }, number(endless));
        assert!(matches!(
            fixture.next_read().1,
            Err(StoreError::StepsExceeded)
        ));
        fixture
            .store
            .read(0, round, Lane::Bulk { owner: 1 }, number(long));
        assert_eq!(as_number(fixture.next_read().1.unwrap()), 20_000);
    }
}

#[test]
fn quick_reads_pass_while_bulk_reads_wait_their_turn() {
    let fixture = Fixture::new();
    let (begun, has_begun) = unbounded();
    let (go, gone) = unbounded::<()>();
    let held: ReadFn = Box::new(move |_| {
        begun.send(()).unwrap();
        assert_eq!(gone.recv(), Err(RecvError));
        Ok(Box::new(()))
    });
    fixture.store.read(0, 1, Lane::Bulk { owner: 1 }, held);
    has_begun.recv().unwrap();
    fixture
        .store
        .read(0, 2, Lane::Bulk { owner: 1 }, number("SELECT 2"));
    fixture
        .store
        .read(0, 3, Lane::Bulk { owner: 2 }, number("SELECT 3"));
    fixture
        .store
        .read(0, 4, Lane::Bulk { owner: 1 }, number("SELECT 4"));
    fixture.store.read(0, 5, Lane::Quick, number("SELECT 5"));
    assert_eq!(fixture.next_read().0, 5);
    assert_eq!(fixture.store.read_load().posts(), 3);
    drop(go);
    let order: Vec<u64> = (0..4).map(|_| fixture.next_read().0).collect();
    assert_eq!(order, [1, 3, 2, 4]);
    assert_eq!(
        (
            fixture.store.read_load().posts(),
            fixture.store.read_load().bytes()
        ),
        (0, 0)
    );
}

/// Overwrites the first page of the table `account`.
fn damage(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'account'";
    let page: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let offset = u64::try_from((page - 1) * schema::PAGE_BYTES).unwrap();
    file.write_all_at(&[0xff; 4096], offset).unwrap();
}

#[test]
fn a_damaged_file_ends_the_process_when_it_is_written() {
    let fixture = Fixture::new().reopen(damage);
    fixture.write(1, create("juliet"));
    let words = fixture.fatal.recv().unwrap();
    assert!(
        words.contains("stanzad.sqlite") && words.contains("malformed"),
        "{words}"
    );
    assert!(matches!(fixture.written(), Err(StoreError::Damaged(_))));
    fixture.write(2, sql("UPDATE server SET generation = 5"));
    assert!(matches!(fixture.written(), Err(StoreError::Damaged(_))));
    assert!(fixture.fatal.is_empty(), "it is said once");
}

#[test]
fn a_damaged_file_ends_the_process_when_it_is_read() {
    let fixture = Fixture::new().reopen(damage);
    fixture.store.read(
        0,
        1,
        Lane::Quick,
        number("SELECT count(created) FROM account"),
    );
    fixture.fatal.recv().unwrap();
    assert!(matches!(fixture.next_read().1, Err(StoreError::Damaged(_))));
}

#[test]
fn too_much_that_waits_for_the_writer_shuts_the_gate() {
    let dir = tempfile::tempdir().unwrap();
    let (tx, inbox) = unbounded();
    let (options, _fatal) = options();
    let store = Store::open_with(&dir.path().join("data"), &options, Arc::new(Inbox(tx))).unwrap();
    let (begun, has_begun) = unbounded();
    let (go, gone) = unbounded::<()>();
    let hold: ChangeFn = Box::new(move |_| {
        begun.send(()).unwrap();
        assert_eq!(gone.recv(), Err(RecvError));
        Ok(Box::new(()))
    });
    let batch = |changes| Batch {
        changes,
        ..Batch::default()
    };
    store.write(0, batch(vec![(0, hold)]));
    has_begun.recv().unwrap();
    assert!(!options.gates.any_shut());
    let row = Row::LastSeen {
        account: BareJid::parse("juliet@example.org").unwrap(),
        at: Wall::from_micros(1),
    };
    store.write(
        0,
        Batch {
            rows: vec![row; limits::WAITING_POSTS_MAX + 1],
            last_row: 50_001,
            changes: Vec::new(),
        },
    );
    assert!(options.gates.any_shut());
    drop(go);
    inbox.recv().unwrap();
    inbox.recv().unwrap();
    assert!(!options.gates.any_shut());
    store.stop();
}

/// Lets a writer's thread work off one batch, and yields by how much the log's file grows with the
/// next commit.
fn growth_after_a_batch(is_log_long: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (tx, _inbox) = unbounded();
    let (written, _is_written) = crossbeam_channel::bounded(1);
    let (batches, received) = unbounded();
    let writer = Writer {
        core: WriterCore::open(&data, Durability::Full).unwrap(),
        load: Arc::new(Load::new(1_000, 1_000, Gates::default())),
        answers: Arc::new(Inbox(tx)),
        fatal: Arc::new(|words| panic!("{words}")),
        written,
        is_log_long: Arc::new(AtomicBool::new(is_log_long)),
    };
    let batch = Batch {
        changes: vec![(1, create("juliet"))],
        ..Batch::default()
    };
    let bytes = batch.weight();
    writer.load.add(bytes, batch.posts());
    let shard = 0;
    batches
        .send(Queued {
            shard,
            batch,
            bytes,
        })
        .unwrap();
    drop(batches);
    let mut core = writer.run(&received);
    let size = || fs::metadata(data.join("stanzad.sqlite-wal")).unwrap().len();
    let before = size();
    let romeo = BareJid::parse("romeo@example.org").unwrap();
    core.change(move |db| {
        accounts::create(db, &romeo, &Credentials::default(), Wall::from_micros(1))
    })
    .unwrap();
    size() - before
}

#[test]
fn a_long_log_is_begun_anew_between_two_transactions() {
    assert_eq!(growth_after_a_batch(true), 0);
    assert!(growth_after_a_batch(false) > 0);
}

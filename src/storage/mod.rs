//! The store: one SQLite file, one thread that writes it, and a few that read it
//! (`The store` in lib.rs).
//!
//! A shard hands over what it wants to have written as one [`Batch`] a turn, and reads as closures;
//! both are answered by posts ([`Answers`]), so no shard ever waits for a disk. The writer puts all
//! that has come since its last commit into one transaction and answers after the commit only.
//!
//! Invariants: what was answered with success survives `kill -9`, and with [`Durability::Full`] a
//! power cut too; one job's error harms no other job, unless the whole transaction failed, and then
//! each of its jobs is told so; nothing outside this folder sees rusqlite.

pub mod account_data;
pub mod accounts;
mod body;
mod checkpoint;
mod directory;
mod error;
pub mod handoff;
pub mod logins;
pub mod offline;
pub mod peer_keys;
pub mod peer_queue;
mod reader;
pub mod roster;
mod schema;
mod suspicion;
mod system_error;
#[cfg(test)]
mod tests;
mod transaction;
mod trouble;
mod writer;

use std::any::Any;
use std::cell::OnceCell;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};
use rusqlite::Connection;

use self::checkpoint::Checkpointer;
pub use self::directory::examine;
pub use self::error::{Exposure, OpenError, StoreError};
use self::offline::OfflineMessage;
use self::peer_queue::PeerMessage;
use self::reader::{Job, ReadQueue, Reader};
pub use self::transaction::WriterCore;
use self::trouble::{Trouble, Work};
use self::writer::{Queued, Writer};
use crate::clock::Wall;
pub use crate::config::Durability;
use crate::jid::{BareJid, Domain};
use crate::limits;
use crate::post::{Gates, Load, Weigh};

/// What a change or a read yields; who asked knows its type.
pub type Value = Box<dyn Any + Send>;
/// A change of stored state. Runs on the writer in a savepoint of its own: an error undoes what it
/// wrote, and nothing else. It must not keep what it read as current state of an account: that is
/// the shard's, after the answer.
pub type ChangeFn = Box<dyn FnOnce(&Db) -> Result<Value, StoreError> + Send>;
/// A read. Runs on a reader, in one snapshot of the database.
pub type ReadFn = Box<dyn FnOnce(&Db) -> Result<Value, StoreError> + Send>;

/// A connection to the database, lent to a job. What can be done with it is in the files of this
/// folder, one for each area.
#[derive(Debug)]
pub struct Db {
    connection: Connection,
    /// That of `accounts::secret`, which never changes, once it was read.
    secret: OnceCell<[u8; 32]>,
}

impl Db {
    fn new(connection: Connection) -> Db {
        Db {
            connection,
            secret: OnceCell::new(),
        }
    }

    fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs a statement that yields no rows.
    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

/// A typed write that needs no result of its own. All rows of a batch are stored, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// An account's last session has ended. Nothing happens if the account is gone.
    LastSeen {
        /// Whose.
        account: BareJid,
        /// When.
        at: Wall,
    },
    /// A stanza that was handed off has reached its end. Nothing happens if the row is gone.
    HandedOff {
        /// Of the row.
        id: i64,
    },
    /// A message for an account that is offline. Nothing happens if the account is gone.
    Offline(Box<OfflineMessage>),
    /// The offline messages of an account up to one were delivered.
    OfflineDelivered {
        /// The account's id.
        account: i64,
        /// Of the last one.
        seq: i64,
    },
    /// A message that waits for a stream to another server.
    PeerQueued(Box<PeerMessage>),
    /// It waits no more.
    PeerDone(Box<PeerDone>),
}

/// A row of [`peer_queue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerDone {
    /// As in [`PeerMessage`].
    pub local: Domain,
    /// As in [`PeerMessage`].
    pub remote: Domain,
    /// As in [`PeerMessage`].
    pub id: i64,
}

impl Row {
    fn apply(&self, db: &Db) -> Result<(), StoreError> {
        match self {
            Row::LastSeen { account, at } => accounts::set_last_seen(db, account, *at),
            Row::HandedOff { id } => handoff::delete(db, *id),
            Row::Offline(message) => offline::insert(db, message),
            Row::OfflineDelivered { account, seq } => offline::delete(db, *account, *seq),
            Row::PeerQueued(message) => peer_queue::insert(db, message),
            Row::PeerDone(done) => peer_queue::delete(db, &done.local, &done.remote, done.id),
        }
    }
}

impl Weigh for Row {
    fn weight(&self) -> usize {
        let payload = match self {
            Row::LastSeen { account, .. } => account.as_str().len(),
            Row::HandedOff { .. } | Row::OfflineDelivered { .. } => 0,
            Row::PeerQueued(message) => size_of::<PeerMessage>() + message.stanza.size(),
            Row::PeerDone(_) => size_of::<PeerDone>(),
            Row::Offline(message) => size_of::<OfflineMessage>() + message.bytes(),
        };
        size_of::<Row>() + payload
    }
}

/// What one turn of a shard writes. Rows are written before changes, each in their order; batches
/// of a shard in the order in which they were sent.
#[derive(Default)]
pub struct Batch {
    /// Written together.
    pub rows: Vec<Row>,
    /// The number of the last row of this and all earlier batches of the shard, counted from 1.
    pub last_row: u64,
    /// Each with the id that its answer will have.
    pub changes: Vec<(u64, ChangeFn)>,
}

impl Weigh for Batch {
    /// What a closure keeps on the heap is not seen; one change of an account is outstanding at a
    /// time, and its stanza is bounded.
    fn weight(&self) -> usize {
        let rows: usize = self.rows.iter().map(Weigh::weight).sum();
        let changes: usize = self
            .changes
            .iter()
            .map(|(_, change)| CLOSURE_BYTES + size_of_val(&**change))
            .sum();
        rows + changes
    }
}

impl Batch {
    fn posts(&self) -> usize {
        self.rows.len() + self.changes.len()
    }
}

/// Bytes that a waiting closure is taken to cost beside what it has captured itself.
const CLOSURE_BYTES: usize = 256;

/// How urgent a read is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Loads and credentials: before all others.
    Quick,
    /// Archive, search, export: one at a time for each owner, owners in turn.
    Bulk {
        /// Whose turn it takes, as the shards number owners (a hash of the bare JID will do: two
        /// owners with one number only share a turn).
        owner: u64,
    },
}

/// What became of a batch or a read.
#[derive(Debug)]
pub enum Answer {
    /// Of a [`Batch`], after the commit.
    Committed {
        /// As in the batch.
        last_row: u64,
        /// All rows of the batch, or the reason why none of them is stored.
        rows: Result<(), StoreError>,
        /// Each change of the batch, in order.
        changes: Vec<(u64, Result<Value, StoreError>)>,
    },
    /// Of a read.
    Read {
        /// As it was given.
        id: u64,
        /// What the closure yielded.
        result: Result<Value, StoreError>,
    },
}

/// Where answers go: a shard's mailbox. Called on the store's threads, and on the caller's own
/// when the store has stopped; must not wait.
pub trait Answers: Send + Sync {
    /// All answers for one shard that are due now, in order.
    fn answer(&self, shard: usize, answers: Vec<Answer>);
}

/// Called with words for the operator when disk and memory are no longer known to agree.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// What a commit survives.
    pub durability: Durability,
    /// Shut while too much waits for the writer or the readers.
    pub gates: Gates,
    /// Ends the process: by default it logs and exits with status 1. If it returns (in tests),
    /// every job from then on fails with [`StoreError::Broken`] or [`StoreError::Damaged`].
    pub fatal: Fatal,
    /// Threads that read, at least 1. With more than one, one is kept free of bulk reads.
    pub readers: usize,
}

impl Options {
    /// The defaults: a gate of its own, exit on fatal errors, two readers, or up to four on a
    /// machine with more cores.
    pub fn new(durability: Durability) -> Options {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Options {
            durability,
            gates: Gates::default(),
            fatal: Arc::new(|words| {
                log::error!("stanzad ends: {words}");
                log::logger().flush();
                // The log may be on the disk that fails.
                eprintln!("stanzad ends: {words}");
                std::process::exit(1);
            }),
            readers: cores.clamp(2, 4),
        }
    }
}

/// Whether opening the store in the directory `data` takes long, since it reads the whole database: an
/// earlier process has ended after a failed sync or on damage.
pub fn is_suspect(data: &Path) -> bool {
    suspicion::is_raised(&data.join(directory::DATABASE))
}

/// The running store: a handle for any thread, cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// None once the store is stopping. Locked for the time of a send, which never waits.
    batches: RwLock<Option<Sender<Queued>>>,
    write_load: Arc<Load>,
    reads: Arc<ReadQueue>,
    answers: Arc<dyn Answers>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<WriterCore>,
    readers: Vec<JoinHandle<()>>,
    checkpointer: JoinHandle<()>,
    /// Dropped to stop the checkpointer.
    stop_checkpointer: Sender<()>,
}

impl Store {
    /// Opens the store in the directory `data`, which is created if it is missing, with
    /// [`Options::new`].
    ///
    /// # Errors
    /// See [`OpenError`]; the file is as it was.
    pub fn open(
        data: &Path,
        durability: Durability,
        answers: Arc<dyn Answers>,
    ) -> Result<Store, OpenError> {
        Store::open_with(data, &Options::new(durability), answers)
    }

    /// Opens the store in the directory `data`: checks who may read it, takes its lock, brings the
    /// schema up to date (an older database is copied before), and starts the threads.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is as it was.
    pub fn open_with(
        data: &Path,
        options: &Options,
        answers: Arc<dyn Answers>,
    ) -> Result<Store, OpenError> {
        Store::start(
            WriterCore::open(data, options.durability)?,
            options,
            answers,
        )
    }

    /// Starts the threads on a store that was opened from a file, and on which work may have been done.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(
        core: WriterCore,
        options: &Options,
        answers: Arc<dyn Answers>,
    ) -> Result<Store, OpenError> {
        let path = core.path().expect("it was opened from a file").to_owned();
        let load = || {
            Load::new(
                limits::WAITING_BYTES_MAX,
                limits::WAITING_POSTS_MAX,
                options.gates.clone(),
            )
        };
        // Connections first: what can fail fails before there are threads to end.
        let trouble = Arc::new(Mutex::new(Trouble::new(Work::Reads, &path)));
        let readers = (0..options.readers.max(1))
            .map(|_| Reader::open(&path, &answers, &options.fatal, &trouble))
            .collect::<Result<Vec<_>, _>>()?;
        let is_log_long = Arc::new(AtomicBool::new(false));
        let checkpointer =
            Checkpointer::open(&path, Arc::clone(&is_log_long), Arc::clone(&options.fatal))?;
        let (written, is_written) = crossbeam_channel::bounded(1);
        let (batches, received) = crossbeam_channel::unbounded();
        let reads = Arc::new(ReadQueue::new(readers.len(), load()));
        let write_load = Arc::new(load());
        let writer = Writer {
            core,
            load: Arc::clone(&write_load),
            answers: Arc::clone(&answers),
            fatal: Arc::clone(&options.fatal),
            written,
            is_log_long,
        };
        let threads = start(writer, received, readers, &reads, checkpointer, is_written)
            .inspect_err(|_| drop(reads.close()))
            .map_err(OpenError::io("cannot start the store's threads", &path))?;
        let inner = Inner {
            batches: RwLock::new(Some(batches)),
            write_load,
            reads,
            answers,
            threads: Mutex::new(Some(threads)),
        };
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Queues a batch. Its answer comes after its commit, never before this returns on the same
    /// thread, unless the store has stopped.
    pub fn write(&self, shard: usize, batch: Batch) {
        let batches = self
            .inner
            .batches
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let (bytes, posts) = (batch.weight(), batch.posts());
        let queued = Queued {
            shard,
            batch,
            bytes,
        };
        let refused = match batches.as_ref() {
            Some(sender) => {
                self.inner.write_load.add(bytes, posts);
                // The writer ends after the sender is gone only, so it receives this.
                sender.send(queued).err().map(|unsent| unsent.0)
            }
            None => Some(queued),
        };
        drop(batches);
        if let Some(queued) = refused {
            let answer = transaction::refuse(queued.batch, &StoreError::Stopped);
            self.inner.answers.answer(shard, vec![answer]);
        }
    }

    /// Queues a read.
    pub fn read(&self, shard: usize, id: u64, lane: Lane, read: ReadFn) {
        let job = Job::new(shard, id, lane, read);
        if let Err(job) = self.inner.reads.push(job) {
            self.inner.answers.answer(shard, vec![job.refused()]);
        }
    }

    /// What waits for the writer.
    pub fn load(&self) -> &Load {
        &self.inner.write_load
    }

    /// What waits for the readers.
    pub fn read_load(&self) -> &Load {
        self.inner.reads.load()
    }

    /// Stops the store: reads that wait are answered with [`StoreError::Stopped`], batches that
    /// wait are committed and answered, the write-ahead log is moved into the database, the lock is
    /// freed. Returns when all that is done. What other clones send from now on is refused. A
    /// second call does nothing.
    pub fn stop(self) {
        self.inner.stop();
    }
}

impl Inner {
    fn stop(&self) {
        let threads = self
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(threads) = threads else { return };
        for job in self.reads.close() {
            self.answers.answer(job.shard(), vec![job.refused()]);
        }
        for reader in threads.readers {
            join(reader);
        }
        drop(
            self.batches
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let core = join(threads.writer);
        drop(threads.stop_checkpointer);
        join(threads.checkpointer);
        if let Some(core) = core {
            core.close();
        }
    }
}

impl Drop for Inner {
    /// The same for who forgets to stop, such as a start that fails half-way.
    fn drop(&mut self) {
        self.stop();
    }
}

fn start(
    writer: Writer,
    received: Receiver<Queued>,
    readers: Vec<Reader>,
    reads: &Arc<ReadQueue>,
    checkpointer: Checkpointer,
    is_written: Receiver<()>,
) -> io::Result<Threads> {
    let (stop_checkpointer, stopped) = crossbeam_channel::bounded(0);
    let readers = readers.into_iter().enumerate().map(|(number, reader)| {
        let reads = Arc::clone(reads);
        spawn(&format!("reader-{number}"), move || reader.run(&reads))
    });
    Ok(Threads {
        readers: readers.collect::<io::Result<_>>()?,
        checkpointer: spawn("checkpointer", move || {
            checkpointer.run(&is_written, &stopped)
        })?,
        writer: spawn("writer", move || writer.run(&received))?,
        stop_checkpointer,
    })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

/// What the thread yielded. A thread that panicked has ended the process, but in tests.
fn join<T>(thread: JoinHandle<T>) -> Option<T> {
    let name = thread.thread().name().unwrap_or("store").to_owned();
    let ended = thread.join();
    if ended.is_err() {
        log::error!(thread = name.as_str(); "a thread of the store ended by a panic");
    }
    ended.ok()
}

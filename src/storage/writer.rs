//! The one writer: batches in, one transaction, answers out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::directory::DataDirectory;
use super::error::{OpenError, StoreError};
use super::{
    Answer, Answers, Batch, ChangeFn, Db, Durability, Fatal, ReadFn, Row, Value, accounts,
    checkpoint, schema,
};
use crate::limits;
use crate::post::Load;

/// The writer without its thread: also what the simulator and the commands that run without a
/// server use.
pub struct WriterCore {
    db: Db,
    place: Place,
    queued: Vec<(usize, Batch)>,
    /// Why nothing is written any more.
    broken: Option<StoreError>,
    /// Why the last commit failed, if it did; said once for as long as it lasts.
    trouble: Option<StoreError>,
    troubles_told: u64,
}

enum Place {
    Memory,
    File {
        directory: DataDirectory,
        path: PathBuf,
        durability: Durability,
    },
}

impl WriterCore {
    /// Opens the database in the directory `data` as [`super::Store::open_with`] does, and holds
    /// its lock.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is as it was.
    pub fn open(data: &Path, durability: Durability) -> Result<WriterCore, OpenError> {
        let directory = DataDirectory::open(data)?;
        let path = directory.database();
        let connection = schema::open_file(&path, durability, schema::MIGRATIONS)?;
        let mut secret = [0; 32];
        openssl::rand::rand_bytes(&mut secret).map_err(|error| OpenError::Io {
            what: "cannot get random bytes for the server's secret",
            path: path.clone(),
            error: error.into(),
        })?;
        let place = Place::File {
            directory,
            path: path.clone(),
            durability,
        };
        let core = WriterCore::new(Db::new(connection), place);
        accounts::ensure_secret(&core.db, &secret).map_err(OpenError::database(
            "cannot keep the server's secret",
            &path,
        ))?;
        Ok(core)
    }

    /// Opens an empty database in memory, for tests and the simulator. The server's secret is
    /// given, so that a run can be repeated.
    ///
    /// # Errors
    /// [`OpenError::Database`] and [`OpenError::Migration`].
    pub fn memory(secret: &[u8; 32]) -> Result<WriterCore, OpenError> {
        let core = WriterCore::new(Db::new(schema::open_memory()?), Place::Memory);
        accounts::ensure_secret(&core.db, secret).map_err(OpenError::database(
            "cannot keep the server's secret",
            Path::new(":memory:"),
        ))?;
        Ok(core)
    }

    fn new(db: Db, place: Place) -> WriterCore {
        WriterCore {
            db,
            place,
            queued: Vec::new(),
            broken: None,
            trouble: None,
            troubles_told: 0,
        }
    }

    /// The database file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Memory => None,
            Place::File { path, .. } => Some(path),
        }
    }

    /// The connection, outside of any transaction.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Why nothing can be written any more, once that is so.
    pub fn broken(&self) -> Option<&StoreError> {
        self.broken.as_ref()
    }

    /// Writes the batches in one transaction, and yields an answer for each, in order, once they
    /// are committed. If the transaction fails, each job gets its error.
    pub fn commit(&mut self, batches: Vec<(usize, Batch)>) -> Vec<(usize, Answer)> {
        let mut failure = match &self.broken {
            Some(broken) => Some(broken.clone()),
            None => self.db.execute("BEGIN IMMEDIATE").err(),
        };
        let mut answers = Vec::with_capacity(batches.len());
        for (shard, batch) in batches {
            let answer = match &failure {
                Some(error) => refuse(batch, error),
                None => match self.run(batch) {
                    Ok(answer) => answer,
                    Err((answer, error)) => {
                        failure = Some(error);
                        answer
                    }
                },
            };
            answers.push((shard, answer));
        }
        if failure.is_none() {
            failure = self.db.execute("COMMIT").err();
        }
        match failure {
            None => self.settle_trouble(),
            Some(error) => {
                self.fail(&error);
                for (_, answer) in &mut answers {
                    overrule(answer, &error);
                }
            }
        }
        answers
    }

    /// Makes one change and commits it, at once.
    ///
    /// # Errors
    /// The change's own, or the commit's.
    pub fn change<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let change: ChangeFn = Box::new(|db| change(db).map(|value| Box::new(value) as Value));
        let batch = Batch {
            changes: vec![(0, change)],
            ..Batch::default()
        };
        let mut answers = self.commit(vec![(0, batch)]);
        let Some((_, Answer::Committed { mut changes, .. })) = answers.pop() else {
            unreachable!("each batch has its answer");
        };
        let (_, result) = changes.pop().expect("each change has its result");
        let value = result?.downcast::<T>();
        Ok(*value.expect("the value is what the closure above boxed"))
    }

    /// Runs a read on the writer's own connection, and sees to it that it only reads.
    ///
    /// # Errors
    /// The read's own.
    pub fn read(&self, read: ReadFn) -> Result<Value, StoreError> {
        let connection = self.db.connection();
        connection.execute_batch("PRAGMA query_only = ON")?;
        let result = read(&self.db);
        connection.execute_batch("PRAGMA query_only = OFF")?;
        result
    }

    /// Queues a batch, for who commits at a time of its own choice.
    pub fn queue(&mut self, shard: usize, batch: Batch) {
        self.queued.push((shard, batch));
    }

    /// Commits what is queued.
    pub fn commit_queued(&mut self) -> Vec<(usize, Answer)> {
        let batches = std::mem::take(&mut self.queued);
        if batches.is_empty() {
            return Vec::new();
        }
        self.commit(batches)
    }

    /// What a crash of the process does: all that is not committed is gone, without an answer.
    ///
    /// # Errors
    /// Those of opening the file again.
    pub fn crash(&mut self) -> Result<(), OpenError> {
        self.queued.clear();
        let shown = self.path().unwrap_or(Path::new(":memory:")).to_owned();
        if !self.db.connection().is_autocommit() {
            self.db
                .execute("ROLLBACK")
                .map_err(OpenError::database("cannot roll back", &shown))?;
        }
        if let Place::File {
            path, durability, ..
        } = &self.place
        {
            self.db = Db::new(schema::open_file(path, *durability, schema::MIGRATIONS)?);
        }
        (self.broken, self.trouble) = (None, None);
        Ok(())
    }

    /// Moves the write-ahead log into the database and closes it. An error is logged: all is in
    /// the log, and the next start moves it.
    pub fn close(self) {
        let WriterCore {
            db, place, broken, ..
        } = self;
        // The lock outlives the connection.
        let Place::File {
            directory, path, ..
        } = place
        else {
            return;
        };
        if broken.is_none() {
            if let Err(error) = checkpoint::truncate(db.connection()) {
                log::warn!(
                    "checkpoint-failed database={} error={error}",
                    path.display()
                );
            }
        }
        if let Err((_, error)) = db.connection.close() {
            log::warn!("close-failed database={} error={error}", path.display());
        }
        drop(directory);
    }

    /// Rows in one savepoint, then changes in one each. An error beside the answer: the
    /// transaction cannot go on.
    fn run(&mut self, batch: Batch) -> Result<Answer, (Answer, StoreError)> {
        let mut failure = None;
        let rows = if batch.rows.is_empty() {
            Ok(())
        } else {
            // Around all rows of the batch, which costs next to nothing, and not each
            // (1.2 to 1.6 µs, FACTS §6).
            self.in_savepoint(&mut failure, |db| write_rows(db, &batch.rows))
        };
        let mut changes = Vec::with_capacity(batch.changes.len());
        for (id, change) in batch.changes {
            let result = match &failure {
                Some(error) => Err(StoreError::clone(error)),
                None => self.in_savepoint(&mut failure, change),
            };
            changes.push((id, result));
        }
        let answer = Answer::Committed {
            last_row: batch.last_row,
            rows,
            changes,
        };
        match failure {
            None => Ok(answer),
            Some(error) => Err((answer, error)),
        }
    }

    fn in_savepoint<T>(
        &self,
        failure: &mut Option<StoreError>,
        job: impl FnOnce(&Db) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = self
            .db
            .execute("SAVEPOINT job")
            .and_then(|()| job(&self.db));
        let ended = if self.db.connection().is_autocommit() {
            // SQLite has rolled all back, whatever the job made of the error that it got.
            Err(result.as_ref().err().cloned().unwrap_or(StoreError::Full))
        } else {
            match &result {
                Ok(_) => self.db.execute("RELEASE job"),
                Err(error) if error.spoils_transaction() => Err(error.clone()),
                Err(_) => self
                    .db
                    .execute("ROLLBACK TO job")
                    .and_then(|()| self.db.execute("RELEASE job")),
            }
        };
        if let Err(error) = ended {
            *failure = Some(error.clone());
            return Err(error);
        }
        result
    }

    fn fail(&mut self, error: &StoreError) {
        if self.broken.is_some() {
            return;
        }
        let mut error = error.clone();
        if !self.db.connection().is_autocommit() {
            if let Err(also) = self.db.execute("ROLLBACK") {
                error = StoreError::Broken(format!("{error}; cannot roll back: {also}").into());
            }
        }
        if matches!(error, StoreError::Broken(_)) {
            self.broken = Some(error);
            return;
        }
        let is_known = self
            .trouble
            .as_ref()
            .is_some_and(|known| std::mem::discriminant(known) == std::mem::discriminant(&error));
        if !is_known {
            self.troubles_told += 1;
            log::error!(
                "commit-failed database={} error={error}; what needs to be stored is refused until this ends",
                self.path().unwrap_or(Path::new(":memory:")).display()
            );
        }
        self.trouble = Some(error);
    }

    fn settle_trouble(&mut self) {
        if let Some(error) = self.trouble.take() {
            log::info!("commit-works-again after={error}");
        }
    }
}

fn write_rows(db: &Db, rows: &[Row]) -> Result<(), StoreError> {
    rows.iter().try_for_each(|row| row.apply(db))
}

/// The answer to a batch that is not run.
pub(super) fn refuse(batch: Batch, error: &StoreError) -> Answer {
    let refused = |(id, _)| (id, Err(error.clone()));
    Answer::Committed {
        last_row: batch.last_row,
        rows: Err(error.clone()),
        changes: batch.changes.into_iter().map(refused).collect(),
    }
}

/// Turns an answer that was prepared into the one of a transaction that failed.
fn overrule(answer: &mut Answer, error: &StoreError) {
    if let Answer::Committed { rows, changes, .. } = answer {
        *rows = Err(error.clone());
        for (_, result) in changes {
            *result = Err(error.clone());
        }
    }
}

/// A batch on its way to the writer.
pub(super) struct Queued {
    pub(super) shard: usize,
    pub(super) batch: Batch,
    /// Its weight, counted once.
    pub(super) bytes: usize,
}

/// Jobs after which a group is full enough that waiting for more saves nothing (FACTS §6).
const JOBS_ENOUGH: usize = 64;
/// Jobs in one transaction (FACTS §6): it bounds how long the first of them waits.
const JOBS_MAX: usize = 2_000;
/// Jobs in the last group from which on a longer wait pays.
const JOBS_MANY: usize = 16;
/// After this much time without a job the next one is taken to be alone.
const IDLE: Duration = Duration::from_millis(2);

/// How long the writer waits for company for its first job.
///
/// A commit costs 50 to 140 µs of CPU however little is in it, so at 5,000 rows a second a commit
/// for each burns a quarter of a core, and waiting 1 ms cuts that to a third; at 20,000, 2 ms give
/// groups of 50 at a p50 of 1.6 ms (FACTS §6). But a job that comes after a pause is alone with
/// high odds, and waiting would only delay a person's change: it is committed at once. So the wait
/// begins with the second of jobs that follow each other closely.
fn wait(since_last_commit: Duration, last_jobs: usize, jobs: usize) -> Duration {
    if jobs >= JOBS_ENOUGH || since_last_commit >= IDLE {
        Duration::ZERO
    } else if last_jobs >= JOBS_MANY {
        Duration::from_millis(2)
    } else {
        Duration::from_millis(1)
    }
}

/// The writer's thread.
pub(super) struct Writer {
    pub(super) core: WriterCore,
    pub(super) load: Arc<Load>,
    pub(super) answers: Arc<dyn Answers>,
    pub(super) fatal: Fatal,
    /// Wakes the checkpointer.
    pub(super) written: Sender<()>,
    /// Set by the checkpointer, which never reaches the end of the log while this thread keeps
    /// writing. A checkpoint between two transactions does, and only then does the next one begin
    /// the log anew: else it would grow for as long as the load lasts.
    pub(super) is_log_long: Arc<AtomicBool>,
}

#[derive(Default)]
struct Group {
    batches: Vec<(usize, Batch)>,
    jobs: usize,
    bytes: usize,
}

impl Writer {
    /// Writes until all senders are gone and all that they sent is committed.
    pub(super) fn run(mut self, received: &Receiver<Queued>) -> WriterCore {
        let mut last_commit = Instant::now();
        let mut last_jobs = 0;
        while let Ok(first) = received.recv() {
            let since = last_commit.elapsed();
            let mut group = Group::default();
            self.take(&mut group, first);
            self.take_waiting(&mut group, received);
            let wait = wait(since, last_jobs, group.jobs);
            if !wait.is_zero() {
                // Asleep, and not in `recv`: senders need not wake it once for each batch.
                thread::sleep(wait);
                self.take_waiting(&mut group, received);
            }
            last_jobs = group.jobs;
            self.commit(group.batches);
            last_commit = Instant::now();
        }
        self.core
    }

    fn take(&self, group: &mut Group, queued: Queued) {
        let jobs = queued.batch.posts();
        self.load.sub(queued.bytes, jobs);
        group.jobs += jobs;
        group.bytes += queued.bytes;
        group.batches.push((queued.shard, queued.batch));
    }

    fn take_waiting(&self, group: &mut Group, received: &Receiver<Queued>) {
        while group.jobs < JOBS_MAX && group.bytes < limits::WAITING_BYTES_MAX {
            let Ok(queued) = received.try_recv() else {
                return;
            };
            self.take(group, queued);
        }
    }

    fn commit(&mut self, batches: Vec<(usize, Batch)>) {
        let was_broken = self.core.broken().is_some();
        let answers = self.core.commit(batches);
        if let (false, Some(error)) = (was_broken, self.core.broken()) {
            let path = self.core.path().unwrap_or(Path::new(":memory:")).display();
            (self.fatal)(&format!(
                "database={path}: {error}; look at the disk and the system's log, then start again; \
                 if the database turns out to be damaged, restore a backup"
            ));
        }
        for (shard, answers) in by_shard(answers) {
            self.answers.answer(shard, answers);
        }
        match self.written.try_send(()) {
            // Full: the checkpointer knows already. Gone: it has told the operator why.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
        if self.is_log_long.swap(false, Ordering::Relaxed) {
            if let Err(error) = checkpoint::passive(self.core.db().connection()) {
                log::warn!("checkpoint-failed error={error}");
            }
        }
    }
}

/// One list for each shard, so that each is woken once; the order within a shard stays.
fn by_shard(answers: Vec<(usize, Answer)>) -> Vec<(usize, Vec<Answer>)> {
    let mut lists: Vec<(usize, Vec<Answer>)> = Vec::new();
    for (shard, answer) in answers {
        // At most 256 shards, and mostly few: a scan is quicker than a map.
        match lists.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, list)) => list.push(answer),
            None => lists.push((shard, vec![answer])),
        }
    }
    lists
}

//! Batches in, one transaction, answers out: the writer without its thread.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rusqlite::ffi;

use super::directory::DataDirectory;
use super::error::{OpenError, StoreError};
use super::trouble::{Trouble, Work};
use super::{
    Answer, Batch, ChangeFn, Db, Durability, ReadFn, Row, Value, accounts, body, checkpoint,
    schema, suspicion, system_error,
};

/// The writer without its thread: also what the simulator and the commands that run without a
/// server use.
pub struct WriterCore {
    db: Db,
    place: Place,
    queued: Vec<(usize, Batch)>,
    /// Why nothing is written any more.
    broken: Option<StoreError>,
    /// Commits that failed.
    trouble: Trouble,
    /// Whether one has failed on this connection.
    has_failed: bool,
    /// Whether bodies may be left that no row owns.
    has_orphans: bool,
}

enum Place {
    Memory,
    File {
        directory: DataDirectory,
        path: PathBuf,
        durability: Durability,
    },
}

impl Place {
    /// The database, as it is shown to people.
    fn path(&self) -> &Path {
        match self {
            Place::Memory => Path::new(":memory:"),
            Place::File { path, .. } => path,
        }
    }
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
        let trouble = Trouble::new(Work::Commits, place.path());
        WriterCore {
            db,
            place,
            queued: Vec::new(),
            broken: None,
            trouble,
            has_failed: false,
            has_orphans: true,
        }
    }

    /// The database file, if it is one.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Memory => None,
            Place::File { path, .. } => Some(path),
        }
    }

    /// The database, as it is shown to people.
    pub(super) fn shown_path(&self) -> &Path {
        self.place.path()
    }

    /// The connection, outside of any transaction.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Why nothing can be written any more, once that is so.
    pub fn broken(&self) -> Option<&StoreError> {
        self.broken.as_ref()
    }

    /// Whether a commit, be it an empty one, would find bodies to sweep. A crash may have left some.
    pub(super) fn has_orphans(&self) -> bool {
        self.has_orphans
    }

    /// Writes the batches in one transaction, and yields an answer for each, in order, once they
    /// are committed. If the transaction fails, each job gets its error. A step of the sweep for
    /// bodies without owners is part of it.
    pub fn commit(&mut self, batches: Vec<(usize, Batch)>) -> Vec<(usize, Answer)> {
        if self.has_failed {
            self.forget_system_error();
        }
        let before = self.db.connection().total_changes();
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
        let has_orphans = failure.is_none() && self.sweep(&mut failure);
        if failure.is_none() {
            failure = self.db.execute("COMMIT").err();
        }
        self.has_orphans = has_orphans && failure.is_none();
        match failure {
            None => self.settle_trouble(before),
            Some(error) => {
                let error = self.fail(error);
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

    /// Runs a read on the writer's own connection, in a transaction that is rolled back if it has
    /// written. `PRAGMA query_only` would have each statement compiled anew at its next use.
    ///
    /// # Errors
    /// The read's own; [`StoreError::Refused`] if it has written.
    pub fn read(&self, read: ReadFn) -> Result<Value, StoreError> {
        let before = self.db.connection().total_changes();
        self.db.execute("BEGIN")?;
        let result = read(&self.db);
        let has_written = self.db.connection().total_changes() != before;
        // The transaction is gone already if SQLite itself has ended it.
        if !self.db.connection().is_autocommit() {
            self.db.execute("ROLLBACK")?;
        }
        match has_written {
            true => Err(StoreError::Refused("a read must not write")),
            false => result,
        }
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
        let shown = self.shown_path().to_owned();
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
        self.broken = None;
        self.trouble = Trouble::new(Work::Commits, self.place.path());
        Ok(())
    }

    /// Moves what can be moved of the write-ahead log into the database.
    pub(super) fn checkpoint(&mut self) {
        match checkpoint::passive(self.db.connection()) {
            // Busy: the checkpointer is at it, and asks again if that is not enough.
            Ok(_) | Err(StoreError::Busy) => {}
            Err(error) if error.is_fatal() => self.doubt(error),
            // Told by the checkpointer, which meets it too.
            Err(error) => {
                log::debug!(error:%; "checkpoint failed");
                self.has_failed = true;
            }
        }
    }

    /// Moves the write-ahead log into the database and closes it. An error is logged: all is in
    /// the log, and the next start moves it.
    pub fn close(mut self) {
        if self.broken.is_none()
            && self.path().is_some()
            && let Err(error) = checkpoint::truncate(self.db.connection())
        {
            log::warn!(
                database:% = self.shown_path().display(), error:%;
                "the write-ahead log stays, the next start moves it into the database"
            );
            if error.is_fatal() {
                log::error!("{}", error.last_words(self.shown_path()));
                self.doubt(error);
            }
        }
        // The lock outlives the connection.
        let WriterCore { db, place, .. } = self;
        let Place::File {
            directory, path, ..
        } = place
        else {
            return;
        };
        if let Err((_, error)) = db.connection.close() {
            log::warn!(database:% = path.display(), error:%; "database not closed");
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
            // (1.2 to 1.6 µs, `Measured` in lib.rs).
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

    /// Sweeps some orphaned bodies. True if there may be more.
    fn sweep(&self, failure: &mut Option<StoreError>) -> bool {
        // Without a savepoint as long as there is nothing to do, which is all the time for most.
        let swept = match body::has_orphans(&self.db) {
            Ok(true) => self.in_savepoint(failure, body::sweep),
            none => none,
        };
        match swept {
            Ok(may_be_more) => may_be_more,
            Err(error) => {
                // The next commit tries again; a failure of the whole transaction is told by itself.
                if !error.spoils_transaction() {
                    log::warn!(error:%; "bodies without owners not swept");
                }
                false
            }
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
            Err(result.as_ref().err().cloned().unwrap_or_else(hidden))
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

    /// Ends a transaction that has failed, and yields what it has failed with.
    fn fail(&mut self, error: StoreError) -> StoreError {
        if self.broken.is_some() {
            return error;
        }
        let mut error = system_error::clarify(self.db.connection(), error);
        if !self.db.connection().is_autocommit()
            && let Err(also) = self.db.execute("ROLLBACK")
        {
            error = StoreError::Broken(format!("{error}; cannot roll back: {also}").into());
        }
        if error.is_fatal() {
            self.doubt(error.clone());
            return error;
        }
        self.trouble.failed(Instant::now(), &error);
        self.has_failed = true;
        error
    }

    /// Writes nothing any more, and has the next start check the database.
    fn doubt(&mut self, error: StoreError) {
        if let Some(path) = self.path() {
            suspicion::raise(path, &error);
        }
        // The log holds all that was promised, and closing would move it and remove it.
        if let Err(error) = schema::keep_log(self.db.connection(), true) {
            log::warn!(error:%; "the write-ahead log may be moved into a doubtful database");
        }
        self.broken = Some(error);
    }

    /// See [`system_error::clarify`].
    fn forget_system_error(&mut self) {
        let Place::File {
            path, durability, ..
        } = &self.place
        else {
            return;
        };
        if system_error::is_told(self.db.connection()) {
            match schema::open_writer_again(path, *durability) {
                Ok(connection) => self.db = Db::new(connection),
                Err(error) => {
                    log::debug!(error:%; "database not opened again");
                    return;
                }
            }
        }
        self.has_failed = false;
    }

    fn settle_trouble(&mut self, changes_before: u64) {
        // A transaction that wrote nothing needs no space, and so proves nothing.
        if self.trouble.lasts() && self.db.connection().total_changes() != changes_before {
            self.trouble.worked(Instant::now());
        }
    }
}

fn write_rows(db: &Db, rows: &[Row]) -> Result<(), StoreError> {
    rows.iter().try_for_each(|row| row.apply(db))
}

fn hidden() -> StoreError {
    StoreError::Sqlite {
        code: ffi::SQLITE_ABORT_ROLLBACK,
        message: "a job went on after an error that had ended its transaction".into(),
    }
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

//! What can go wrong in the store, sorted by who has to act.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// What is true of each fault that passes by itself.
const NO_RESTART: &str = "nothing has to be started again";

/// Why a change, a row or a read failed. Cheap to clone, since one failed commit is the answer to
/// each of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// What was to be created is there already.
    Exists,
    /// What was to be read or changed is not there.
    NotFound,
    /// The job itself declined; what it had written is undone.
    Refused(&'static str),
    /// A read ran longer than its lane allows.
    StepsExceeded,
    /// The disk, or the quota of the service user, is full.
    Full,
    /// Another process holds the database, longer than a writer waits for it.
    Busy,
    /// The store is stopping, or has stopped.
    Stopped,
    /// A stored value is none that this version writes: which one.
    Malformed(Arc<str>),
    /// Disk and memory are no longer known to agree (a failed sync). The process has to end: see
    /// [`super::Options::fatal`].
    Broken(Arc<str>),
    /// The file makes no sense. The process has to end, as above.
    Damaged(Arc<str>),
    /// Any other error, with SQLite's extended result code.
    Sqlite {
        /// `SQLITE_…`, extended; 0 if the error did not come from SQLite itself.
        code: i32,
        /// SQLite's words.
        message: Arc<str>,
    },
}

impl StoreError {
    /// Whether the transaction around a job cannot be trusted or continued after this error.
    /// SQLite may roll a whole transaction back on these (sqlite.org/lang_transaction.html,
    /// "Response To Errors Within A Transaction"), so the batch fails with the job.
    pub(super) fn spoils_transaction(&self) -> bool {
        match self {
            StoreError::Full
            | StoreError::Busy
            | StoreError::Broken(_)
            | StoreError::Damaged(_) => true,
            StoreError::Sqlite { code, .. } => {
                matches!(
                    code & 0xff,
                    ffi::SQLITE_IOERR | ffi::SQLITE_NOMEM | ffi::SQLITE_READONLY
                )
            }
            StoreError::Exists
            | StoreError::NotFound
            | StoreError::Refused(_)
            | StoreError::StepsExceeded
            | StoreError::Stopped
            | StoreError::Malformed(_) => false,
        }
    }
}

impl StoreError {
    /// Whether the disk is at fault, so that all who ask may get this error until it works again. The
    /// store tells the operator once.
    pub fn is_of_disk(&self) -> bool {
        self.spoils_transaction()
    }

    /// Whether the process has to end: what is on the disk is unknown, or makes no sense.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, StoreError::Broken(_) | StoreError::Damaged(_))
    }

    /// How loudly the log tells of one request that failed with this.
    pub fn level(&self) -> log::Level {
        if self.is_of_disk() {
            log::Level::Debug
        } else {
            log::Level::Error
        }
    }

    /// What the operator of a running server can do.
    pub fn remedy(&self) -> String {
        let cure = self.cure();
        match self {
            StoreError::Full => format!("{cure}; {NO_RESTART}"),
            StoreError::Sqlite { code, .. } if is_failed_write(*code) => {
                format!("{cure}; {NO_RESTART}")
            }
            _ => cure.to_owned(),
        }
    }

    fn cure(&self) -> &'static str {
        match self {
            StoreError::Full => {
                "make room on its file system, or raise the quota of the service user"
            }
            StoreError::Busy => "end what else uses the database, such as sqlite3",
            StoreError::Broken(_) => {
                "look at the disk and the system's log, then start again, which checks the database"
            }
            StoreError::Damaged(_) => {
                "look at the disk and the system's log, and have a backup at hand; then start again, \
                 which checks the database"
            }
            StoreError::Sqlite { code, .. } if is_failed_write(*code) => {
                "see whether its file system is full or mounted read-only, or a limit on the size of \
                 files is reached (prlimit), and look at the system's log"
            }
            StoreError::Sqlite { .. } => {
                "look at the disk and the system's log, and have a backup at hand"
            }
            StoreError::Exists
            | StoreError::NotFound
            | StoreError::Refused(_)
            | StoreError::StepsExceeded
            | StoreError::Stopped
            | StoreError::Malformed(_) => "look at the log",
        }
    }

    /// What can be done when a step to a newer schema has failed with this.
    fn cure_of_step(&self) -> String {
        match self {
            StoreError::Broken(_) | StoreError::Damaged(_) => self.cure().to_owned(),
            error if error.is_of_disk() => format!("{}, and start again", error.cure()),
            _ => "install the version before again, which finds all as it was, and report this"
                .to_owned(),
        }
    }

    /// Why the process ends, and what to do then.
    pub(super) fn last_words(&self, database: &Path) -> String {
        format!("{}: {self}; {}", database.display(), self.remedy())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Exists => f.write_str("it exists already"),
            StoreError::NotFound => f.write_str("it does not exist"),
            StoreError::Refused(why) => f.write_str(why),
            StoreError::StepsExceeded => f.write_str("the query took too many steps"),
            StoreError::Full => f.write_str("the disk is full"),
            StoreError::Busy => f.write_str("another process holds the database"),
            StoreError::Stopped => f.write_str("the store is stopping"),
            StoreError::Malformed(what) => write!(
                f,
                "the database holds a value unknown to this version: {what}"
            ),
            StoreError::Broken(message) => {
                write!(f, "the database cannot be trusted any more: {message}")
            }
            StoreError::Damaged(message) => write!(f, "the database is damaged: {message}"),
            StoreError::Sqlite { code, message } if is_failed_write(*code) => {
                write!(
                    f,
                    "the disk takes no writes (SQLite: {message}, code {code})"
                )
            }
            StoreError::Sqlite { code, message } if code & 0xff == ffi::SQLITE_IOERR => {
                write!(
                    f,
                    "the disk cannot be read (SQLite: {message}, code {code})"
                )
            }
            StoreError::Sqlite { code, message } => write!(f, "SQLite: {message} (code {code})"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        if matches!(error, rusqlite::Error::QueryReturnedNoRows) {
            return StoreError::NotFound;
        }
        let Some(cause) = sqlite_cause(&error) else {
            return StoreError::Sqlite {
                code: 0,
                message: error.to_string().into(),
            };
        };
        match cause.code {
            ErrorCode::DiskFull => StoreError::Full,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => StoreError::Busy,
            // Nothing but the readers' step limit interrupts.
            ErrorCode::OperationInterrupted => StoreError::StepsExceeded,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                StoreError::Damaged(error.to_string().into())
            }
            _ if is_untrustworthy(cause.extended_code) => {
                StoreError::Broken(format!("{error} (code {})", cause.extended_code).into())
            }
            _ => StoreError::Sqlite {
                code: cause.extended_code,
                message: error.to_string().into(),
            },
        }
    }
}

/// I/O errors after which nobody knows what is on the disk. A failed fsync may have dropped dirty
/// pages, and a second one would report success (the kernel reports such an error once). A failed
/// plain write is not among them: its transaction is rolled back and the write-ahead log
/// overwritten from the same place. Nor is a failed read, which changes nothing anywhere.
fn is_untrustworthy(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_DATA
            | ffi::SQLITE_READONLY_DBMOVED
    )
}

/// Whether it is the code of a write that was refused, for any reason but a full disk.
fn is_failed_write(extended_code: i32) -> bool {
    extended_code & 0xff == ffi::SQLITE_READONLY
        || matches!(
            extended_code,
            ffi::SQLITE_IOERR_WRITE
                | ffi::SQLITE_IOERR_TRUNCATE
                | ffi::SQLITE_IOERR_SHMSIZE
                | ffi::SQLITE_IOERR_SHMOPEN
        )
}

fn sqlite_cause(error: &rusqlite::Error) -> Option<&ffi::Error> {
    match error {
        rusqlite::Error::SqliteFailure(cause, _) => Some(cause),
        rusqlite::Error::SqlInputError { error, .. } => Some(error),
        _ => None,
    }
}

/// Why the store cannot be opened. The text is for the operator: what, where, what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses the data directory.
    AlreadyRunning {
        /// The lock file.
        lock: PathBuf,
        /// The process that holds it, if it has written its number.
        pid: Option<u32>,
    },
    /// Files that others can read, or that belong to somebody else; all of them.
    Unsafe(Vec<Exposure>),
    /// A system call failed.
    Io {
        /// What was tried, as in "cannot create the data directory".
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The data directory's path names something else.
    NotADirectory(PathBuf),
    /// The file is no database of stanzad.
    NotOurs(PathBuf),
    /// The file is a database that makes no sense.
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first thing that was found.
        found: String,
    },
    /// A later version of stanzad has written the file.
    TooNew {
        /// The database.
        path: PathBuf,
        /// The number of its schema.
        found: u32,
        /// The newest number that this version knows.
        known: u32,
    },
    /// A step to a newer schema failed; the file is as it was.
    Migration {
        /// The database.
        path: PathBuf,
        /// The number of the schema that was to be reached.
        number: u32,
        /// What the step does.
        title: &'static str,
        /// Why it failed.
        error: StoreError,
    },
    /// SQLite refused.
    Database {
        /// What was tried.
        what: &'static str,
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        error: StoreError,
    },
}

/// One file that is open to others, and the command that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// A shell command.
    pub remedy: String,
}

impl OpenError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OpenError {
        let path = path.to_owned();
        move |error| OpenError::Io { what, path, error }
    }

    pub(super) fn database<E: Into<StoreError>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> OpenError {
        let path = path.to_owned();
        move |error| match error.into() {
            StoreError::Damaged(found) => OpenError::Damaged {
                path,
                found: found.to_string(),
            },
            error => OpenError::Database { what, path, error },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::AlreadyRunning { lock, pid } => {
                let lock = lock.display();
                match pid {
                    Some(pid) => write!(f, "{lock}: process {pid} uses this data directory")?,
                    None => write!(f, "{lock}: another process uses this data directory")?,
                }
                f.write_str("; stop it first, or choose another directory with `server.data`")
            }
            OpenError::Unsafe(exposures) => {
                f.write_str("stanzad does not start on data that others can read:")?;
                for exposure in exposures {
                    let path = exposure.path.display();
                    write!(
                        f,
                        "\n  {path} {}; to mend it: {}",
                        exposure.problem, exposure.remedy
                    )?;
                }
                Ok(())
            }
            OpenError::Io { what, path, error } => {
                write!(f, "{}: {what}: {error}", path.display())?;
                match error.kind() {
                    ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                        write!(f, "; {}", StoreError::Full.cure())
                    }
                    ErrorKind::ReadOnlyFilesystem => {
                        f.write_str("; mount its file system so that it can be written")
                    }
                    _ => Ok(()),
                }
            }
            OpenError::NotADirectory(path) => write!(
                f,
                "{}: this is not a directory; `server.data` names the directory for the database",
                path.display()
            ),
            OpenError::NotOurs(path) => write!(
                f,
                "{}: this is no database of stanzad; move it away, or choose another directory with \
                 `server.data`; if it was one, its beginning is overwritten: restore a backup",
                path.display()
            ),
            OpenError::Damaged { path, found } => write!(
                f,
                "{}: the database is damaged ({found}); restore a backup (stanzad(8), DIAGNOSTICS), \
                 starting again does not help",
                path.display()
            ),
            OpenError::TooNew { path, found, known } => write!(
                f,
                "{}: a newer stanzad has written this (schema {found}, this version knows up to {known}); \
                 install that version again, or restore the copy that it made before it changed the schema",
                path.display()
            ),
            OpenError::Migration {
                path,
                number,
                title,
                error,
            } => write!(
                f,
                "{}: the step to schema {number} ({title}) failed and was undone: {error}; {}",
                path.display(),
                error.cure_of_step()
            ),
            OpenError::Database { what, path, error } => {
                write!(f, "{}: {what}: {error}", path.display())?;
                match error.is_of_disk() {
                    true => write!(f, "; {}", error.cure()),
                    false => Ok(()),
                }
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            OpenError::Io { error, .. } => Some(error),
            OpenError::Migration { error, .. } | OpenError::Database { error, .. } => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_code(code: i32) -> StoreError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into()
    }

    #[test]
    fn failed_syncs_and_damage_end_the_process() {
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC] {
            let error = from_code(code);
            assert!(matches!(error, StoreError::Broken(_)), "{code}: {error:?}");
            assert!(error.is_fatal() && error.spoils_transaction());
        }
        for code in [
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CORRUPT_INDEX,
            ffi::SQLITE_NOTADB,
        ] {
            let error = from_code(code);
            assert!(matches!(error, StoreError::Damaged(_)), "{code}: {error:?}");
            assert!(error.is_fatal() && error.spoils_transaction());
        }
    }

    #[test]
    fn failed_reads_and_writes_spoil_their_transaction_only() {
        for (code, words) in [
            (ffi::SQLITE_IOERR_WRITE, "takes no writes"),
            (ffi::SQLITE_IOERR_READ, "cannot be read"),
            (ffi::SQLITE_IOERR_CORRUPTFS, "cannot be read"),
        ] {
            let error = from_code(code);
            assert!(!error.is_fatal(), "{code}");
            assert!(error.spoils_transaction());
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn who_cannot_open_is_told_what_to_do() {
        let path = Path::new("/data/lock");
        let io = |kind: ErrorKind| OpenError::io("cannot write", path)(kind.into()).to_string();
        assert!(io(ErrorKind::StorageFull).contains("make room"));
        assert!(io(ErrorKind::ReadOnlyFilesystem).contains("mount"));
        let opened = |code| OpenError::database("cannot open", path)(from_code(code)).to_string();
        assert!(opened(ffi::SQLITE_FULL).contains("make room"));
        assert!(opened(ffi::SQLITE_IOERR_SHMSIZE).contains("file system is full"));
        assert!(opened(ffi::SQLITE_CORRUPT).contains("restore a backup"));
    }

    #[test]
    fn a_broken_constraint_spoils_nothing_but_its_job() {
        assert!(!from_code(ffi::SQLITE_CONSTRAINT_UNIQUE).spoils_transaction());
        assert!(!StoreError::NotFound.spoils_transaction());
    }

    #[test]
    fn a_full_disk_has_its_own_name() {
        assert_eq!(from_code(ffi::SQLITE_FULL), StoreError::Full);
    }
}

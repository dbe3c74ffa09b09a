//! The note that a database is not to be trusted, `stanzad.sqlite.suspect` beside it: left by a process
//! that ends after a failed sync or on damage, and taken away by the next start once it has looked.
//!
//! That start reads the whole database, which no other one does. Without it a damaged database would
//! serve until somebody asks for what is damaged, again and again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::directory::{create_private, sync_parent};
use super::error::{OpenError, StoreError};
use super::system_error;

/// Compares tables only; enough after a failed sync, where a page is whole or missing.
const QUICK: &str = "PRAGMA quick_check(1)";
/// Compares indexes with their tables too, which is how damage may show itself.
const WHOLE: &str = "PRAGMA integrity_check(1)";

/// Bytes of the write-ahead log that are read and written at a time.
const PIECE: usize = 1 << 20;

/// A note that was found.
pub(super) struct Suspicion {
    database: PathBuf,
    check: &'static str,
    reason: String,
}

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn note(database: &Path) -> PathBuf {
    beside(database, ".suspect")
}

/// Whether the next start will check the database.
pub(super) fn is_raised(database: &Path) -> bool {
    note(database).exists()
}

/// Leaves the note. The disk may take nothing any more: then the log says what is missing.
pub(super) fn raise(database: &Path, error: &StoreError) {
    let path = note(database);
    let check = match error {
        StoreError::Damaged(_) => WHOLE,
        _ => QUICK,
    };
    let write = |mut file: File| -> io::Result<()> {
        file.set_len(0)?;
        write!(file, "{check}\n{error}\n")?;
        file.sync_all()
    };
    let written = create_private(&path)
        .and_then(|file| write(file).map_err(OpenError::io("cannot write", &path)))
        .and_then(|()| sync_parent(&path));
    if let Err(error) = written {
        log::error!(error:%; "the next start does not know that it has to check the database");
    }
}

/// The note of an earlier process.
pub(super) fn of(database: &Path) -> Result<Option<Suspicion>, OpenError> {
    let path = note(database);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("cannot read", &path)(error)),
    };
    let (check, reason) = text.split_once('\n').unwrap_or_default();
    Ok(Some(Suspicion {
        database: database.to_owned(),
        // Also what was written half, or by an operator with `touch`.
        check: if check == QUICK { QUICK } else { WHOLE },
        reason: reason.trim().to_owned(),
    }))
}

impl Suspicion {
    /// Writes the write-ahead log again, as it is, and syncs it; before SQLite opens it.
    ///
    /// After a failed sync the system may hold pages of it that are not on the disk and take them for
    /// written. SQLite would find a whole transaction there and put the next ones behind it, and a
    /// power cut would lose them all, though their own syncs succeeded.
    pub(super) fn write_log_again(&self) -> Result<(), OpenError> {
        let path = beside(&self.database, "-wal");
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(OpenError::io("cannot open", &path)(error)),
        };
        write_again(&file).map_err(OpenError::io("cannot write again what it holds", &path))
    }

    /// Checks the database, and takes the note away if it is sound.
    pub(super) fn settle(self, connection: &Connection) -> Result<(), OpenError> {
        let database = self.database.display();
        log::warn!(
            database:%, reason = self.reason;
            "an earlier process ended in doubt about the database, which is checked now"
        );
        let found = connection.query_row(self.check, [], |row| row.get::<_, String>(0));
        let found = found
            .map_err(|error| system_error::clarify(connection, error.into()))
            .map_err(OpenError::database(
                "cannot check the database",
                &self.database,
            ))?;
        if found != "ok" {
            return Err(OpenError::Damaged {
                path: self.database,
                found,
            });
        }
        log::info!(database:%; "the database is sound");
        let path = note(&self.database);
        fs::remove_file(&path).map_err(OpenError::io("cannot remove", &path))?;
        sync_parent(&path)
    }
}

fn write_again(file: &File) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut piece, offset)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&piece[..read], offset)?;
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Durability;
    use crate::storage::schema::{self, Migration};

    const TABLE: Migration = Migration {
        title: "a table with an index",
        sql: "CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT NOT NULL) STRICT;
              CREATE INDEX a_y ON a (y);
              INSERT INTO a VALUES (1, 'one'), (2, 'two'), (3, 'three');",
    };

    fn open(path: &Path) -> Result<Connection, OpenError> {
        schema::open_file(path, Durability::Full, &[TABLE])
    }

    fn unsynced() -> StoreError {
        StoreError::Broken("disk I/O error (code 1034)".into())
    }

    fn damaged() -> StoreError {
        StoreError::Damaged("database disk image is malformed".into())
    }

    #[test]
    fn a_sound_database_clears_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(open(&path).unwrap());
        for error in [unsynced(), damaged()] {
            raise(&path, &error);
            let mode = fs::metadata(note(&path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            let found = of(&path).unwrap().unwrap();
            assert_eq!(found.reason, error.to_string());
            drop(open(&path).unwrap());
            assert!(!is_raised(&path));
        }
    }

    /// An index with a wrong entry in place of the right one: only the whole check finds it.
    #[test]
    fn the_check_is_that_of_the_suspicion_and_a_damaged_database_stays_suspect() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let connection = open(&path).unwrap();
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = 'CREATE INDEX a_y ON a (x || y)'
                 WHERE name = 'a_y';
                 PRAGMA writable_schema = RESET;
                 INSERT INTO a VALUES (0, 'none');
                 PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = 'CREATE INDEX a_y ON a (y)' WHERE name = 'a_y';
                 PRAGMA writable_schema = RESET;",
            )
            .unwrap();
        drop(connection);
        raise(&path, &unsynced());
        drop(open(&path).unwrap());
        for _ in 0..2 {
            raise(&path, &damaged());
            let error = open(&path).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("a_y"), "{error}");
            assert!(is_raised(&path));
        }
    }

    #[test]
    fn a_note_without_words_asks_for_the_whole_check() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        for text in ["", "quick", "\u{fffd}\n"] {
            fs::write(note(&path), text).unwrap();
            assert_eq!(of(&path).unwrap().unwrap().check, WHOLE);
        }
    }

    #[test]
    fn writing_a_file_again_changes_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..2 * PIECE + 7).map(|at| at as u8).collect();
        fs::write(&path, &bytes).unwrap();
        write_again(&File::options().read(true).write(true).open(&path).unwrap()).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

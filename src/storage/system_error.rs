//! What the system said when SQLite failed: which error it was, and whether a file that makes no sense
//! is damaged or could not be read.
//!
//! SQLite takes a read that fails with `EIO`, `ENXIO` or `ERANGE` for damage (`SQLITE_IOERR_CORRUPTFS`,
//! which a statement turns into `SQLITE_CORRUPT`). For stanzad the two are apart. Damage means that what
//! was acknowledged may be gone, so the process ends. A sector that cannot be read fails only who asks
//! for what is in it: nothing was written, disk and memory agree, and ending the process would take the
//! server from everybody, for the next start would meet the same sector.

use std::io;
use std::ptr;

use rusqlite::Connection;
use rusqlite::ffi;
use rustix::io::Errno;

use super::error::StoreError;

/// The errors of a read that SQLite takes for damage.
const OF_READS: [Errno; 3] = [Errno::IO, Errno::NXIO, Errno::RANGE];

/// The error of a statement on this connection, told apart and with the words of the system.
///
/// A connection keeps the number of the system's last error as long as it lives. After a failure for
/// which [`is_told`] is true it has to be opened anew, as soon as the disk lets it be, or it would take
/// later damage for a read that failed.
pub(super) fn clarify(connection: &Connection, error: StoreError) -> StoreError {
    match last(connection) {
        Some(errno) => explain(error, errno),
        None => error,
    }
}

/// Whether the connection remembers an error of the system.
pub(super) fn is_told(connection: &Connection) -> bool {
    last(connection).is_some()
}

fn explain(error: StoreError, errno: Errno) -> StoreError {
    let words = || io::Error::from(errno).to_string().into();
    match error {
        StoreError::Damaged(_) if OF_READS.contains(&errno) => StoreError::Sqlite {
            code: ffi::SQLITE_IOERR_READ,
            message: words(),
        },
        StoreError::Sqlite { code, .. } if code & 0xff == ffi::SQLITE_IOERR => StoreError::Sqlite {
            code,
            message: words(),
        },
        error => error,
    }
}

/// The last error of the system with the write-ahead log, or else with the database.
fn last(connection: &Connection) -> Option<Errno> {
    let numbers = numbers(connection);
    let number = numbers.into_iter().find(|number| *number != 0)?;
    Some(Errno::from_raw_os_error(number))
}

#[expect(unsafe_code, reason = "rusqlite has no call for it")]
fn numbers(connection: &Connection) -> [i32; 2] {
    let mut database = 0;
    let mut log = 0;
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is that of an open connection, which this thread has borrowed and which stays
    // open. The first control writes an int, the second a pointer to the file of the log, which SQLite
    // keeps as long as the connection; the pointer to its methods is null while it is not open. A file
    // answers a control that it does not know by a code and writes nothing.
    unsafe {
        let handle = connection.handle();
        let main = c"main".as_ptr();
        ffi::sqlite3_file_control(
            handle,
            main,
            ffi::SQLITE_FCNTL_LAST_ERRNO,
            (&raw mut database).cast(),
        );
        ffi::sqlite3_file_control(
            handle,
            main,
            ffi::SQLITE_FCNTL_JOURNAL_POINTER,
            (&raw mut file).cast(),
        );
        if let Some(methods) = file.as_ref().and_then(|file| file.pMethods.as_ref())
            && let Some(control) = methods.xFileControl
        {
            control(file, ffi::SQLITE_FCNTL_LAST_ERRNO, (&raw mut log).cast());
        }
    }
    [log, database]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::schema;

    fn damaged() -> StoreError {
        StoreError::Damaged("database disk image is malformed".into())
    }

    #[test]
    fn a_read_that_failed_is_no_damage() {
        for errno in OF_READS {
            let error = explain(damaged(), errno);
            assert!(!error.is_fatal(), "{error}");
            assert!(error.is_of_disk(), "{error}");
            assert!(error.to_string().contains("cannot be read"), "{error}");
        }
        // A write that failed before says nothing of what is read.
        assert_eq!(explain(damaged(), Errno::NOSPC), damaged());
    }

    #[test]
    fn a_sync_that_failed_stays_one() {
        let broken = StoreError::Broken("disk I/O error (code 1034)".into());
        assert_eq!(explain(broken.clone(), Errno::IO), broken);
    }

    #[test]
    fn a_write_that_failed_has_the_words_of_the_system() {
        let error = StoreError::Sqlite {
            code: ffi::SQLITE_IOERR_WRITE,
            message: "disk I/O error".into(),
        };
        let error = explain(error, Errno::ROFS).to_string();
        assert!(error.contains("Read-only file system"), "{error}");
        assert!(error.contains("takes no writes"), "{error}");
    }

    #[test]
    fn a_connection_without_errors_tells_none() {
        assert!(!is_told(&schema::open_memory().unwrap()));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let durability = crate::config::Durability::Full;
        let connection = schema::open_file(&path, durability, schema::MIGRATIONS).unwrap();
        connection.execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(!is_told(&connection));
        assert_eq!(clarify(&connection, damaged()), damaged());
    }
}

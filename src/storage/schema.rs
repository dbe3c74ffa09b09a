//! The schema, as numbered steps, and how a connection to it is set up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::directory::{create_private, sync_parent};
use super::error::{OpenError, StoreError};
use super::{suspicion, system_error};
use crate::config::Durability;

/// One step to a newer schema. Its number is its place in [`MIGRATIONS`], counted from 1, and is
/// kept in the file as `user_version`.
pub(super) struct Migration {
    pub(super) title: &'static str,
    /// Runs in a transaction, with foreign keys checked at its end only.
    pub(super) sql: &'static str,
}

/// All steps. A released one is never edited: what changes is a new step at the end.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        title: "accounts and their credentials",
        // `account.id` is AUTOINCREMENT and generations are drawn from one counter of the server, so
        // that neither ever names another account after a deletion: what a shard has proven about an
        // account cannot hold for a later one of the same name.
        sql: "
        CREATE TABLE server (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            secret BLOB NOT NULL CHECK (length(secret) = 32),
            generation INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE account (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            jid TEXT NOT NULL UNIQUE,
            domain TEXT NOT NULL,
            enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
            generation INTEGER NOT NULL,
            created INTEGER NOT NULL,
            last_seen INTEGER
        ) STRICT;
        CREATE INDEX account_domain ON account (domain, jid);
        CREATE TABLE credential (
            account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
            kind TEXT NOT NULL CHECK (kind IN ('SHA-1', 'SHA-256', 'SHA-512', 'bcrypt')),
            salt BLOB,
            iterations INTEGER,
            stored_key BLOB,
            server_key BLOB,
            bcrypt TEXT,
            PRIMARY KEY (account, kind),
            CHECK (CASE kind
                WHEN 'bcrypt' THEN bcrypt IS NOT NULL AND salt IS NULL AND iterations IS NULL
                    AND stored_key IS NULL AND server_key IS NULL
                ELSE bcrypt IS NULL AND salt IS NOT NULL AND iterations IS NOT NULL
                    AND stored_key IS NOT NULL AND server_key IS NOT NULL
            END)
        ) STRICT, WITHOUT ROWID;
    ",
    },
    Migration {
        title: "rosters, and subscription stanzas on their way",
        // `state` has the bits of `storage::roster::State`; `groups` is a JSON array of strings, which an
        // operator's `sqlite3` reads too; `request` is the stanza of a subscription request that waits
        // for its answer (RFC 6121 §3.1.3). Versions are counted per account (§2.6): `forgotten` is the
        // newest removal that is no longer kept in `roster_removed`.
        sql: "
        CREATE TABLE roster (
            account INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
            version INTEGER NOT NULL,
            forgotten INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE roster_item (
            account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
            contact TEXT NOT NULL,
            state INTEGER NOT NULL,
            version INTEGER NOT NULL,
            name TEXT,
            groups TEXT NOT NULL DEFAULT '[]',
            request BLOB,
            PRIMARY KEY (account, contact)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE roster_removed (
            account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
            contact TEXT NOT NULL,
            version INTEGER NOT NULL,
            PRIMARY KEY (account, contact)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE handoff (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            sender TEXT NOT NULL,
            recipient TEXT NOT NULL,
            kind TEXT NOT NULL
                CHECK (kind IN ('subscribe', 'subscribed', 'unsubscribe', 'unsubscribed')),
            stanza BLOB NOT NULL
        ) STRICT;
    ",
    },
    Migration {
        title: "private XML and vCards",
        sql: "
        CREATE TABLE private_data (
            account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
            ns TEXT NOT NULL,
            name TEXT NOT NULL,
            xml BLOB NOT NULL,
            PRIMARY KEY (account, ns, name)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE vcard (
            account INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
            xml BLOB NOT NULL
        ) STRICT;
    ",
    },
    Migration {
        title: "places of accounts in their domains",
        // From 0 up without gaps, so that a random account of a domain is found by its place
        // (`super::logins`). Each insert gives one; the default is only for the rows that are here.
        sql: "
        ALTER TABLE account ADD COLUMN place INTEGER NOT NULL DEFAULT 0;
        UPDATE account SET place = ranked.place
            FROM (
                SELECT id, row_number() OVER (PARTITION BY domain ORDER BY id) - 1 AS place
                FROM account
            ) AS ranked
            WHERE ranked.id = account.id;
        CREATE UNIQUE INDEX account_place ON account (domain, place);
    ",
    },
    Migration {
        title: "offline messages, and bodies that rows can share",
        // `owners` counts the index rows that refer to a body. A foreign key would have each deletion
        // of a body search all index tables; the trigger counts cascades too. `offline.seq` orders the
        // messages of an account; `came` is the time that is told, and may jump.
        sql: "
        CREATE TABLE body (
            id INTEGER PRIMARY KEY,
            owners INTEGER NOT NULL CHECK (owners >= 0),
            sender TEXT NOT NULL,
            recipient TEXT NOT NULL,
            type TEXT NOT NULL,
            stanza_id TEXT,
            lang TEXT,
            payload BLOB NOT NULL
        ) STRICT;
        CREATE INDEX body_orphan ON body (id) WHERE owners = 0;
        CREATE TABLE offline (
            account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
            seq INTEGER NOT NULL,
            came INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            body INTEGER NOT NULL,
            PRIMARY KEY (account, seq)
        ) STRICT, WITHOUT ROWID;
        CREATE TRIGGER offline_deleted AFTER DELETE ON offline BEGIN
            UPDATE body SET owners = owners - 1 WHERE id = old.body;
        END;
    ",
    },
    Migration {
        title: "messages that wait for other servers",
        // `id` orders those of a link, and is drawn by the shard that owns it. A message is for one
        // server only, so that its body is not shared.
        sql: "
        CREATE TABLE peer_queue (
            remote TEXT NOT NULL,
            local TEXT NOT NULL,
            id INTEGER NOT NULL,
            came INTEGER NOT NULL,
            stanza BLOB NOT NULL,
            PRIMARY KEY (remote, local, id)
        ) STRICT, WITHOUT ROWID;
    ",
    },
    Migration {
        title: "the keys that other servers have shown",
        // Of the certificate: the SHA-256 of its key, and of the one before it.
        sql: "
        CREATE TABLE peer_key (
            remote TEXT NOT NULL,
            local TEXT NOT NULL,
            key BLOB NOT NULL,
            since INTEGER NOT NULL,
            seen INTEGER NOT NULL,
            previous BLOB,
            PRIMARY KEY (remote, local)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX peer_key_seen ON peer_key (seen);
    ",
    },
];

/// `application_id` of our files: "Stzd".
const APPLICATION_ID: i32 = 0x5374_7a64;
/// How long a connection waits for a lock of another process (an operator's `sqlite3`).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that the write-ahead log keeps on disk once all of it is in the database: 64 MiB.
pub(super) const WAL_BYTES_KEPT: i64 = 64 << 20;
/// Bytes of a page: SQLite's default, with which the rest was measured.
pub(super) const PAGE_BYTES: i64 = 4096;
/// KiB of pages that the writer keeps, which reads each page before it changes it.
const WRITER_CACHE_KIB: i64 = 16_384;
/// KiB of pages that each of the others keeps. What they miss is in the system's memory mostly, and a
/// small machine with a few hundred sessions should not spend more on this than on them.
const READER_CACHE_KIB: i64 = 1_024;
/// Prepared statements that a connection keeps.
const STATEMENTS_KEPT: usize = 64;

/// The connection that writes, to a file whose schema is the newest.
///
/// # Errors
/// [`OpenError::NotOurs`], [`OpenError::Damaged`], [`OpenError::TooNew`] and [`OpenError::Migration`]
/// leave the file as it was.
pub(super) fn open_file(
    path: &Path,
    durability: Durability,
    migrations: &[Migration],
) -> Result<Connection, OpenError> {
    // Created here and not by SQLite, which would ask the umask. The journals get the mode of the
    // database.
    let is_new = !path.exists();
    create_private(path)?;
    let suspicion = suspicion::of(path)?;
    if let Some(suspicion) = &suspicion {
        suspicion.write_log_again()?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)
        .map_err(OpenError::database("cannot open the database", path))?;
    let set_up_failed = |error| OpenError::database("cannot set up the database", path)(error);
    // Else a refused database would be written when it is closed.
    keep_log(&connection, true)
        .and_then(|()| connection.busy_timeout(BUSY_TIMEOUT))
        .map_err(set_up_failed)?;
    // Before anything is written: the file may be somebody else's.
    let version = version(&connection, path)?;
    let no_log = |error| OpenError::database("cannot use a write-ahead log", path)(error);
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|error| no_log(StoreError::from(error)))?;
    if mode != "wal" {
        return Err(no_log(StoreError::Refused(
            "its file system cannot share memory (a network file system?); use a local disk",
        )));
    }
    set_up_writer(&connection, durability).map_err(set_up_failed)?;
    if let Some(suspicion) = suspicion {
        suspicion.settle(&connection)?;
    }
    migrate(&mut connection, Some(path), version, migrations)?;
    keep_log(&connection, false).map_err(set_up_failed)?;
    if is_new {
        sync_parent(path)?;
    }
    Ok(connection)
}

/// A database without a file, with the newest schema.
pub(super) fn open_memory() -> Result<Connection, OpenError> {
    let path = Path::new(":memory:");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_in_memory_with_flags(flags).map_err(
        OpenError::database("cannot open a database in memory", path),
    )?;
    set_up(&connection, WRITER_CACHE_KIB)
        .map_err(OpenError::database("cannot set up the database", path))?;
    migrate(&mut connection, None, 0, MIGRATIONS)?;
    Ok(connection)
}

/// One more connection to a file that [`open_file`] has opened before.
pub(super) fn open_again(path: &Path, read_only: bool) -> Result<Connection, OpenError> {
    let access = if read_only {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)
        .map_err(OpenError::database("cannot open the database again", path))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .and_then(|()| connection.execute_batch("PRAGMA wal_autocheckpoint = 0"))
        .and_then(|()| set_up(&connection, READER_CACHE_KIB))
        .map_err(OpenError::database("cannot set up the database", path))?;
    Ok(connection)
}

/// The connection that writes, opened once more in place of one that remembers an error
/// ([`system_error`]).
pub(super) fn open_writer_again(
    path: &Path,
    durability: Durability,
) -> Result<Connection, OpenError> {
    let connection = open_again(path, false)?;
    set_up_writer(&connection, durability)
        .map_err(OpenError::database("cannot set up the database", path))?;
    Ok(connection)
}

/// Whether the write-ahead log stays as it is when the last connection to the database is closed.
pub(super) fn keep_log(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)?;
    Ok(())
}

fn set_up_writer(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    connection.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous};
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = {WAL_BYTES_KEPT};"
    ))?;
    set_up(connection, WRITER_CACHE_KIB)
}

fn set_up(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Else a plan depends on what is bound to `LIMIT ?`, and the statement is compiled anew whenever
    // that is bound again: three times what its run costs (perf).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;",
    )?;
    connection.pragma_update(None, "cache_size", -cache_kib)
}

/// The number of the file's schema; 0 for an empty one.
fn version(connection: &Connection, path: &Path) -> Result<u32, OpenError> {
    let read = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = |sql: &str| {
        read(sql).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotOurs(path.to_owned()),
            _ => {
                let error = system_error::clarify(connection, error.into());
                OpenError::database("cannot read the database", path)(error)
            }
        })
    };
    let objects = read("SELECT count(*) FROM sqlite_schema")?;
    if objects == 0 {
        return Ok(0);
    }
    if read("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err(OpenError::NotOurs(path.to_owned()));
    }
    // It is a signed field; a negative one is none of ours.
    let version = read("PRAGMA user_version")?;
    u32::try_from(version).map_err(|_| OpenError::NotOurs(path.to_owned()))
}

fn migrate(
    connection: &mut Connection,
    path: Option<&Path>,
    version: u32,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let shown = path.unwrap_or(Path::new(":memory:"));
    let known = u32::try_from(migrations.len()).expect("there are few migrations");
    if version > known {
        return Err(OpenError::TooNew {
            path: shown.to_owned(),
            found: version,
            known,
        });
    }
    let steps = (1..=known).zip(migrations).skip(version as usize);
    if let (Some(path), true) = (path, 0 < version && version < known) {
        let copy = copy_before(connection, path, version)?;
        log::info!(
            "migrating database={} schema={version} to={known} copy={}",
            path.display(),
            copy.display()
        );
    }
    for (number, migration) in steps {
        migrate_one(connection, number, migration).map_err(|error| OpenError::Migration {
            path: shown.to_owned(),
            number,
            title: migration.title,
            error: system_error::clarify(connection, error),
        })?;
    }
    Ok(())
}

fn migrate_one(
    connection: &mut Connection,
    number: u32,
    migration: &Migration,
) -> Result<(), StoreError> {
    // A table is changed by building it anew and dropping the old one, which would cascade
    // (sqlite.org/lang_altertable.html §7). The pragma does nothing inside a transaction.
    connection.execute_batch("PRAGMA foreign_keys = OFF")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(migration.sql)?;
    let is_whole = !transaction
        .prepare("PRAGMA foreign_key_check")?
        .exists([])?;
    if !is_whole {
        return Err(StoreError::Refused("rows would refer to nothing"));
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", number)?;
    transaction.commit()?;
    connection.execute_batch("PRAGMA foreign_keys = ON")?;
    Ok(())
}

/// A copy of the database beside it, so that an operator can go back to the version before.
fn copy_before(connection: &Connection, path: &Path, version: u32) -> Result<PathBuf, OpenError> {
    let named = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".schema-{version}{end}"));
        PathBuf::from(name)
    };
    let (copy, partial) = (named(""), named(".partial"));
    let failed = |error| {
        OpenError::database("cannot copy the database before its migration", &partial)(error)
    };
    let Some(target) = partial.to_str() else {
        return Err(failed(StoreError::Refused("its path is not UTF-8")));
    };
    // What is left of an attempt that was cut short.
    if partial.exists() {
        fs::remove_file(&partial).map_err(OpenError::io("cannot remove", &partial))?;
    }
    // VACUUM INTO takes an empty file, and leaves its mode alone; one that it created would have
    // the umask's.
    create_private(&partial)?;
    if let Err(error) = connection.execute("VACUUM INTO ?1", [target]) {
        if let Err(error) = fs::remove_file(&partial) {
            log::warn!("cannot remove file={} error={error}", partial.display());
        }
        return Err(failed(error.into()));
    }
    File::open(&partial)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&partial, &copy))
        .map_err(OpenError::io("cannot keep the copy of the database", &copy))?;
    sync_parent(&copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FIRST: Migration = Migration {
        title: "a table",
        sql: "CREATE TABLE a (x INTEGER PRIMARY KEY) STRICT; INSERT INTO a VALUES (7);",
    };
    const SECOND: Migration = Migration {
        title: "another table",
        sql: "CREATE TABLE b (a INTEGER REFERENCES a) STRICT; DELETE FROM a;",
    };
    const DANGLING: Migration = Migration {
        title: "a row without its parent",
        sql: "CREATE TABLE b (a INTEGER REFERENCES a) STRICT; INSERT INTO b VALUES (8);",
    };

    fn open(path: &Path, migrations: &[Migration]) -> Result<Connection, OpenError> {
        open_file(path, Durability::Full, migrations)
    }

    fn number(connection: &Connection, sql: &str) -> i64 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_whole_schema_consists_of_strict_tables() {
        let connection = open_memory().unwrap();
        let loose = number(
            &connection,
            "SELECT count(*) FROM pragma_table_list
             WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%' AND strict = 0",
        );
        assert_eq!(loose, 0);
    }

    #[test]
    fn a_writer_is_set_up_as_the_design_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        for (durability, level) in [(Durability::Full, 2), (Durability::Normal, 1)] {
            let connection = open_file(&path, durability, MIGRATIONS).unwrap();
            assert_eq!(number(&connection, "PRAGMA synchronous"), level);
            assert_eq!(number(&connection, "PRAGMA foreign_keys"), 1);
            assert_eq!(number(&connection, "PRAGMA wal_autocheckpoint"), 0);
            assert_eq!(number(&connection, "PRAGMA page_size"), PAGE_BYTES);
            let again = open_writer_again(&path, durability).unwrap();
            for pragma in [
                "synchronous",
                "foreign_keys",
                "wal_autocheckpoint",
                "journal_size_limit",
                "cache_size",
                "trusted_schema",
            ] {
                let sql = format!("PRAGMA {pragma}");
                assert_eq!(number(&again, &sql), number(&connection, &sql), "{pragma}");
            }
        }
        let reader = open_again(&path, true).unwrap();
        assert!(reader.is_readonly("main").unwrap());
    }

    #[test]
    fn database_and_journals_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let _open = open(&path, MIGRATIONS).unwrap();
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        assert!(dir.path().join("db-wal").exists());
    }

    #[test]
    fn a_migration_leaves_a_private_copy_of_what_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(open(&path, &[FIRST]).unwrap());
        let copy = dir.path().join("db.schema-1");
        assert!(!copy.exists(), "a new file needs no copy");
        fs::write(dir.path().join("db.schema-1.partial"), "cut short").unwrap();
        let migrated = open(&path, &[FIRST, SECOND]).unwrap();
        assert_eq!(number(&migrated, "PRAGMA user_version"), 2);
        assert_eq!(number(&migrated, "SELECT count(*) FROM a"), 0);
        assert_eq!(
            fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let before = Connection::open(&copy).unwrap();
        assert_eq!(number(&before, "PRAGMA user_version"), 1);
        assert_eq!(number(&before, "SELECT x FROM a"), 7);
        drop(before);
        // The copy is a database that the older version opens.
        open(&copy, &[FIRST]).unwrap();
    }

    #[test]
    fn accounts_of_before_get_places_in_their_domains() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let title = "places of accounts in their domains";
        let step = MIGRATIONS.iter().position(|step| step.title == title);
        let (before, _) = MIGRATIONS.split_at(step.unwrap());
        let connection = open(&path, before).unwrap();
        for (id, domain) in [(1, "a"), (2, "b"), (5, "a"), (9, "a"), (10, "b")] {
            let sql = "INSERT INTO account VALUES (?1, ?1 || '@' || ?2, ?2, 1, 1, 1, NULL)";
            connection.execute(sql, (id, domain)).unwrap();
        }
        drop(connection);
        let connection = open(&path, MIGRATIONS).unwrap();
        let sql = "SELECT group_concat(id || domain || place, ' ') FROM
                   (SELECT * FROM account ORDER BY id)";
        let places: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(places, "1a0 2b0 5a1 9a2 10b1");
    }

    #[test]
    fn a_failed_migration_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(open(&path, &[FIRST]).unwrap());
        let error = open(&path, &[FIRST, DANGLING]).unwrap_err();
        assert!(
            matches!(error, OpenError::Migration { number: 2, .. }),
            "{error}"
        );
        let as_before = open(&path, &[FIRST]).unwrap();
        assert_eq!(number(&as_before, "SELECT x FROM a"), 7);
        assert_eq!(number(&as_before, "SELECT count(*) FROM sqlite_schema"), 1);
    }

    /// It needs room that the server has not needed before, so a disk can be too small just then.
    #[test]
    fn a_migration_that_finds_no_room_is_undone_and_says_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let mut connection = open(&path, &[FIRST]).unwrap();
        connection
            .execute_batch("PRAGMA max_page_count = 1")
            .unwrap();
        let error = migrate(&mut connection, None, 1, &[FIRST, SECOND]).unwrap_err();
        assert!(
            matches!(
                &error,
                OpenError::Migration {
                    error: StoreError::Full,
                    ..
                }
            ),
            "{error}"
        );
        let told = error.to_string();
        assert!(told.contains("make room on its file system"), "{told}");
        assert!(told.contains("start again"), "{told}");
        assert_eq!(number(&connection, "SELECT x FROM a"), 7);
        assert_eq!(number(&connection, "PRAGMA user_version"), 1);
        connection
            .execute_batch("PRAGMA max_page_count = 1000")
            .unwrap();
        migrate(&mut connection, None, 1, &[FIRST, SECOND]).unwrap();
        assert_eq!(number(&connection, "PRAGMA user_version"), 2);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(open(&path, &[FIRST, SECOND]).unwrap());
        let error = open(&path, &[FIRST]).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::TooNew {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_another_program_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (foreign, text) = (dir.path().join("foreign"), dir.path().join("text"));
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE t (x)")
            .unwrap();
        fs::write(
            &text,
            "no database at all, but long enough to be looked at\n".repeat(40),
        )
        .unwrap();
        for path in [&foreign, &text] {
            let before = fs::read(path).unwrap();
            let error = open(path, MIGRATIONS).unwrap_err();
            assert!(matches!(error, OpenError::NotOurs(_)), "{error}");
            assert_eq!(fs::read(path).unwrap(), before);
        }
    }

    /// The log of the database is not moved either, though nobody else has it open.
    #[test]
    fn a_schema_that_makes_no_sense_is_damage_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let connection = open(&path, MIGRATIONS).unwrap();
        connection
            .execute_batch(
                "PRAGMA writable_schema = ON;
                 UPDATE sqlite_schema SET sql = 'CREATE TABLE account (' WHERE name = 'account';
                 PRAGMA wal_checkpoint(TRUNCATE);
                 CREATE TABLE in_the_log (x);",
            )
            .unwrap();
        let log = dir.path().join("db-wal");
        // As after a crash: closing the connection would move the log.
        let before = (fs::read(&path).unwrap(), fs::read(&log).unwrap());
        drop(connection);
        fs::write(&path, &before.0).unwrap();
        fs::write(&log, &before.1).unwrap();
        let error = open(&path, MIGRATIONS).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("account"), "{error}");
        assert!(error.to_string().contains("restore a backup"), "{error}");
        assert!((fs::read(&path).unwrap(), fs::read(&log).unwrap()) == before);
    }
}

//! Accounts, what proves their passwords, and the server's own secret.

use rusqlite::{OptionalExtension, Row, params};

use super::{Db, StoreError};
use crate::clock::Wall;
use crate::jid::BareJid;
use crate::sasl::{Credentials, Hash, Verifier};

/// What is stored of an account itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// Names the account in other tables. Never used again after a deletion.
    pub id: i64,
    /// Whether it may log in and gets stanzas.
    pub enabled: bool,
    /// Grows whenever sessions that were proven before must not go on: a new password, enabling,
    /// disabling. Unique in the server, so that it tells an account from a later one of its name.
    pub generation: u64,
    /// When it was created.
    pub created: Wall,
    /// When its last session ended; none before its first has.
    pub last_seen: Option<Wall>,
}

/// Accounts that [`list`] reads in one statement.
const PAGE: usize = 1_000;
const BCRYPT: &str = "bcrypt";

/// The account, if there is one of that name.
///
/// # Errors
/// Only those of the database, here and in all functions below, besides what each names.
pub fn find(db: &Db, jid: &BareJid) -> Result<Option<AccountRecord>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT id, enabled, generation, created, last_seen FROM account WHERE jid = ?1",
    )?;
    statement
        .query_row([jid.as_str()], |row| Ok(record(row)))
        .optional()?
        .transpose()
}

/// The account with what proves its password.
pub fn credentials(
    db: &Db,
    jid: &BareJid,
) -> Result<Option<(AccountRecord, Credentials)>, StoreError> {
    match find(db, jid)? {
        Some(account) => Ok(Some((account, credentials_of(db, account.id)?))),
        None => Ok(None),
    }
}

/// What proves the password of an account; empty if there is no account of that id.
pub(super) fn credentials_of(db: &Db, account: i64) -> Result<Credentials, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT kind, salt, iterations, stored_key, server_key, bcrypt
         FROM credential WHERE account = ?1 ORDER BY kind",
    )?;
    let mut rows = statement.query([account])?;
    let mut found = Credentials::default();
    while let Some(row) = rows.next()? {
        let kind: String = row.get(0)?;
        if kind == BCRYPT {
            found.bcrypt = Some(row.get(5)?);
            continue;
        }
        let hash = Hash::parse(&kind).ok_or_else(|| malformed("credential.kind", &kind))?;
        found.scram.push(Verifier {
            hash,
            salt: row.get(1)?,
            iterations: row.get(2)?,
            stored_key: row.get(3)?,
            server_key: row.get(4)?,
        });
    }
    Ok(found)
}

/// Creates an enabled account.
///
/// # Errors
/// [`StoreError::Exists`].
pub fn create(
    db: &Db,
    jid: &BareJid,
    credentials: &Credentials,
    created: Wall,
) -> Result<AccountRecord, StoreError> {
    if find(db, jid)?.is_some() {
        return Err(StoreError::Exists);
    }
    let generation = next_generation(db)?;
    let mut statement = db.connection().prepare_cached(
        "INSERT INTO account (jid, domain, enabled, generation, created, place)
         SELECT ?1, ?2, 1, ?3, ?4, ifnull(max(place) + 1, 0) FROM account WHERE domain = ?2",
    )?;
    let id = statement.insert(params![
        jid.as_str(),
        jid.domain(),
        generation,
        to_column(created)
    ])?;
    insert_credentials(db, id, credentials)?;
    Ok(AccountRecord {
        id,
        enabled: true,
        generation: from_column(generation, "account.generation")?,
        created,
        last_seen: None,
    })
}

/// Replaces what proves the password, and yields the account's new generation.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_credentials(
    db: &Db,
    jid: &BareJid,
    credentials: &Credentials,
) -> Result<u64, StoreError> {
    let account = find(db, jid)?.ok_or(StoreError::NotFound)?;
    replace_credentials(db, account.id, credentials)?;
    let generation = next_generation(db)?;
    db.connection()
        .prepare_cached("UPDATE account SET generation = ?2 WHERE id = ?1")?
        .execute([account.id, generation])?;
    from_column(generation, "account.generation")
}

/// Stores the same password in another form (more hashes, more iterations). The generation stays:
/// whoever has proven the password is still right. `false`, and nothing changed, if the account is
/// gone or its generation is not `expected_generation` any more.
pub fn upgrade_credentials(
    db: &Db,
    jid: &BareJid,
    expected_generation: u64,
    credentials: &Credentials,
) -> Result<bool, StoreError> {
    match find(db, jid)? {
        Some(account) if account.generation == expected_generation => {
            replace_credentials(db, account.id, credentials)?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Enables or disables the account, and yields its new generation: also if it was so already, so
/// that disabling it ends each login in flight.
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn set_enabled(db: &Db, jid: &BareJid, enabled: bool) -> Result<u64, StoreError> {
    let generation = next_generation(db)?;
    let changed = db
        .connection()
        .prepare_cached("UPDATE account SET enabled = ?2, generation = ?3 WHERE jid = ?1")?
        .execute(params![jid.as_str(), enabled, generation])?;
    if changed == 0 {
        return Err(StoreError::NotFound);
    }
    from_column(generation, "account.generation")
}

/// Deletes the account and all that belongs to it. The account at the last place of the domain takes
/// its place (see [`super::logins`]).
///
/// # Errors
/// [`StoreError::NotFound`].
pub fn delete(db: &Db, jid: &BareJid) -> Result<(), StoreError> {
    let place: i64 = db
        .connection()
        .prepare_cached("DELETE FROM account WHERE jid = ?1 RETURNING place")?
        .query_row([jid.as_str()], |row| row.get(0))
        .optional()?
        .ok_or(StoreError::NotFound)?;
    db.connection()
        .prepare_cached(
            "UPDATE account SET place = ?2 WHERE domain = ?1 AND place > ?2
             AND place = (SELECT max(place) FROM account WHERE domain = ?1)",
        )?
        .execute(params![jid.domain(), place])?;
    Ok(())
}

/// All accounts, of one domain or of all, in the order of their JIDs. On a reader prefer
/// [`list_after`], whose cost is bounded.
pub fn list(db: &Db, domain: Option<&str>) -> Result<Vec<(BareJid, AccountRecord)>, StoreError> {
    let mut all: Vec<(BareJid, AccountRecord)> = Vec::new();
    loop {
        let after = all.last().map(|(jid, _)| jid);
        let page = list_after(db, domain, after, PAGE)?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// At most `max` accounts, of one domain or of all, that follow `after` in the order of JIDs.
pub fn list_after(
    db: &Db,
    domain: Option<&str>,
    after: Option<&BareJid>,
    max: usize,
) -> Result<Vec<(BareJid, AccountRecord)>, StoreError> {
    let after = after.map_or("", BareJid::as_str);
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let sql = match domain {
        Some(_) => {
            "SELECT id, enabled, generation, created, last_seen, jid
             FROM account WHERE domain = ?3 AND jid > ?1 ORDER BY jid LIMIT ?2"
        }
        None => {
            "SELECT id, enabled, generation, created, last_seen, jid
             FROM account WHERE jid > ?1 ORDER BY jid LIMIT ?2"
        }
    };
    let mut statement = db.connection().prepare_cached(sql)?;
    let mut rows = match domain {
        Some(domain) => statement.query(params![after, max, domain])?,
        None => statement.query(params![after, max])?,
    };
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(5)?;
        let jid = BareJid::parse(&text).map_err(|_| malformed("account.jid", &text))?;
        page.push((jid, record(row)?));
    }
    Ok(page)
}

/// The server's secret: 32 random bytes, made with the database. What must be stable and cannot be
/// guessed (the salt shown for an unknown user) is derived from it.
pub fn secret(db: &Db) -> Result<[u8; 32], StoreError> {
    if let Some(secret) = db.secret.get() {
        return Ok(*secret);
    }
    let read = |row: &Row<'_>| row.get(0);
    let secret = db
        .connection()
        .query_row("SELECT secret FROM server", [], read)?;
    Ok(*db.secret.get_or_init(|| secret))
}

/// Gives a new database its secret; an old one keeps its own.
pub(super) fn ensure_secret(db: &Db, fresh: &[u8; 32]) -> Result<(), StoreError> {
    db.connection().execute(
        "INSERT INTO server (one, secret, generation) VALUES (1, ?1, 0) ON CONFLICT DO NOTHING",
        [fresh],
    )?;
    Ok(())
}

/// Notes when an account was last seen. An account that is gone needs no note, and a clock that
/// was set back does not rewrite one.
pub(super) fn set_last_seen(db: &Db, jid: &BareJid, at: Wall) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached(
            "UPDATE account SET last_seen = ?2 WHERE jid = ?1 AND ifnull(last_seen, 0) < ?2",
        )?
        .execute(params![jid.as_str(), to_column(at)])?;
    Ok(())
}

fn next_generation(db: &Db) -> Result<i64, StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("UPDATE server SET generation = generation + 1 RETURNING generation")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn replace_credentials(db: &Db, id: i64, credentials: &Credentials) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached("DELETE FROM credential WHERE account = ?1")?
        .execute([id])?;
    insert_credentials(db, id, credentials)
}

fn insert_credentials(db: &Db, id: i64, credentials: &Credentials) -> Result<(), StoreError> {
    let mut statement = db.connection().prepare_cached(
        "INSERT INTO credential (account, kind, salt, iterations, stored_key, server_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for verifier in &credentials.scram {
        statement.execute(params![
            id,
            verifier.hash.name(),
            verifier.salt,
            verifier.iterations,
            verifier.stored_key,
            verifier.server_key,
        ])?;
    }
    if let Some(hash) = &credentials.bcrypt {
        db.connection()
            .prepare_cached("INSERT INTO credential (account, kind, bcrypt) VALUES (?1, ?2, ?3)")?
            .execute(params![id, BCRYPT, hash])?;
    }
    Ok(())
}

/// Reads the columns `id, enabled, generation, created, last_seen`.
pub(super) fn record(row: &Row<'_>) -> Result<AccountRecord, StoreError> {
    let last_seen: Option<i64> = row.get(4)?;
    Ok(AccountRecord {
        id: row.get(0)?,
        enabled: row.get(1)?,
        generation: from_column(row.get(2)?, "account.generation")?,
        created: Wall::from_micros(from_column(row.get(3)?, "account.created")?),
        last_seen: last_seen
            .map(|micros| from_column(micros, "account.last_seen").map(Wall::from_micros))
            .transpose()?,
    })
}

/// SQLite's integers are signed; microseconds since 1970 reach that bound in the year 294,247.
pub(super) fn to_column(at: Wall) -> i64 {
    i64::try_from(at.micros()).unwrap_or(i64::MAX)
}

pub(super) fn from_column(value: i64, column: &str) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| malformed(column, &value.to_string()))
}

/// What a column holds is nothing that this version writes.
pub(super) fn malformed(column: &str, value: &str) -> StoreError {
    StoreError::Malformed(format!("{column} = {value:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::WriterCore;

    const NOON: Wall = Wall::from_micros(1_000_000);

    fn core() -> WriterCore {
        WriterCore::memory(&[7; 32]).unwrap()
    }

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    fn juliet() -> BareJid {
        jid("juliet@example.org")
    }

    fn verifier(hash: Hash, mark: u8) -> Verifier {
        Verifier {
            hash,
            salt: vec![mark; 16],
            iterations: 10_000,
            stored_key: vec![mark; 20],
            server_key: vec![mark + 1; 20],
        }
    }

    fn both() -> Credentials {
        Credentials {
            scram: vec![verifier(Hash::Sha1, 1), verifier(Hash::Sha256, 3)],
            bcrypt: Some("$2b$10$abcdefghijklmnopqrstuv".to_owned()),
        }
    }

    fn one() -> Credentials {
        Credentials {
            scram: vec![verifier(Hash::Sha512, 9)],
            bcrypt: None,
        }
    }

    fn rows(db: &Db) -> i64 {
        let sql = "SELECT count(*) FROM credential";
        db.connection()
            .query_row(sql, [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn an_account_is_read_as_it_was_created() {
        let core = core();
        let db = core.db();
        assert_eq!(find(db, &juliet()).unwrap(), None);
        assert_eq!(credentials(db, &juliet()).unwrap(), None);
        let created = create(db, &juliet(), &both(), NOON).unwrap();
        assert!(created.enabled);
        assert_eq!(created.created, NOON);
        assert_eq!(credentials(db, &juliet()).unwrap(), Some((created, both())));
    }

    #[test]
    fn a_name_is_taken_once() {
        let core = core();
        create(core.db(), &juliet(), &both(), NOON).unwrap();
        let again = create(core.db(), &juliet(), &one(), NOON);
        assert_eq!(again, Err(StoreError::Exists));
        assert_eq!(
            credentials(core.db(), &juliet()).unwrap().unwrap().1,
            both()
        );
    }

    #[test]
    fn a_new_password_replaces_all_forms_of_the_old_one_and_counts_up() {
        let core = core();
        let before = create(core.db(), &juliet(), &both(), NOON).unwrap();
        let generation = set_credentials(core.db(), &juliet(), &one()).unwrap();
        assert!(generation > before.generation);
        let (after, stored) = credentials(core.db(), &juliet()).unwrap().unwrap();
        assert_eq!((after.generation, stored), (generation, one()));
    }

    #[test]
    fn enabling_and_disabling_count_up_even_if_it_was_so() {
        let core = core();
        let mut last = create(core.db(), &juliet(), &both(), NOON)
            .unwrap()
            .generation;
        for enabled in [false, false, true, true] {
            let generation = set_enabled(core.db(), &juliet(), enabled).unwrap();
            let account = find(core.db(), &juliet()).unwrap().unwrap();
            assert_eq!((account.enabled, account.generation), (enabled, generation));
            assert!(generation > last);
            last = generation;
        }
    }

    #[test]
    fn an_upgrade_keeps_the_generation_and_loses_against_a_new_password() {
        let core = core();
        let created = create(core.db(), &juliet(), &both(), NOON).unwrap();
        assert!(upgrade_credentials(core.db(), &juliet(), created.generation, &one()).unwrap());
        let (account, stored) = credentials(core.db(), &juliet()).unwrap().unwrap();
        assert_eq!((account.generation, stored), (created.generation, one()));
        set_credentials(core.db(), &juliet(), &both()).unwrap();
        assert!(!upgrade_credentials(core.db(), &juliet(), created.generation, &one()).unwrap());
        assert_eq!(
            credentials(core.db(), &juliet()).unwrap().unwrap().1,
            both()
        );
        assert!(!upgrade_credentials(core.db(), &jid("nobody@example.org"), 1, &one()).unwrap());
    }

    #[test]
    fn deletion_takes_the_credentials_along() {
        let core = core();
        create(core.db(), &juliet(), &both(), NOON).unwrap();
        assert_eq!(rows(core.db()), 3);
        delete(core.db(), &juliet()).unwrap();
        assert_eq!(rows(core.db()), 0);
        assert_eq!(find(core.db(), &juliet()).unwrap(), None);
    }

    #[test]
    fn nothing_proven_of_a_deleted_account_holds_for_its_successor() {
        let core = core();
        let first = create(core.db(), &juliet(), &both(), NOON).unwrap();
        delete(core.db(), &juliet()).unwrap();
        let second = create(core.db(), &juliet(), &both(), NOON).unwrap();
        assert_ne!(second.id, first.id);
        assert!(second.generation > first.generation);
    }

    #[test]
    fn what_does_not_exist_cannot_be_changed() {
        let core = core();
        let db = core.db();
        assert_eq!(
            set_credentials(db, &juliet(), &one()),
            Err(StoreError::NotFound)
        );
        assert_eq!(set_enabled(db, &juliet(), true), Err(StoreError::NotFound));
        assert_eq!(delete(db, &juliet()), Err(StoreError::NotFound));
        set_last_seen(db, &juliet(), NOON).unwrap();
    }

    #[test]
    fn last_seen_never_goes_back() {
        let core = core();
        create(core.db(), &juliet(), &both(), NOON).unwrap();
        for (at, expected) in [(50, 50), (40, 50), (60, 60)] {
            set_last_seen(core.db(), &juliet(), Wall::from_micros(at)).unwrap();
            let account = find(core.db(), &juliet()).unwrap().unwrap();
            assert_eq!(account.last_seen, Some(Wall::from_micros(expected)));
        }
    }

    #[test]
    fn a_list_is_sorted_whole_and_of_one_domain_if_asked() {
        let core = core();
        for n in 0..PAGE + 5 {
            create(core.db(), &jid(&format!("u{n:05}@b.example")), &one(), NOON).unwrap();
        }
        create(core.db(), &jid("z@a.example"), &one(), NOON).unwrap();
        let names = |domain| -> Vec<String> {
            let all = list(core.db(), domain).unwrap();
            all.iter().map(|(jid, _)| jid.as_str().to_owned()).collect()
        };
        let (all, some) = (names(None), names(Some("b.example")));
        assert_eq!(all.len(), PAGE + 6);
        assert!(all.is_sorted());
        assert_eq!(some, all[..PAGE + 5]);
        assert_eq!(names(Some("a.example")), ["z@a.example"]);
        assert!(names(Some("c.example")).is_empty());
    }

    #[test]
    fn the_secret_is_made_once() {
        let core = core();
        assert_eq!(secret(core.db()).unwrap(), [7; 32]);
        ensure_secret(core.db(), &[8; 32]).unwrap();
        assert_eq!(secret(core.db()).unwrap(), [7; 32]);
    }
}

//! Rosters: contacts with subscription states, names, groups and versions (RFC 6121 §2, §3).
//!
//! Versions are counted per account, in the transaction of the change that clients see. Of what was
//! removed a note is kept, for clients that come back with an older version.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::{OptionalExtension, Row, params};

use super::accounts::{self, malformed};
use super::{Db, StoreError};
use crate::jid::BareJid;
use crate::limits::ROSTER_REMOVALS_MAX;

/// The subscription between an account and a contact, seen from the account, and what waits for an
/// answer (RFC 6121 §A.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State(u8);

impl State {
    /// No relation at all: neither in the roster nor waiting for an answer.
    pub const NONE: State = State(0);
    /// The account gets the contact's presence (`to`).
    pub const TO: State = State(1);
    /// The contact gets the account's presence (`from`).
    pub const FROM: State = State(2);
    /// The account has asked for the contact's presence (`ask='subscribe'`).
    pub const PENDING_OUT: State = State(4);
    /// The contact has asked for the account's presence and waits for an answer.
    pub const PENDING_IN: State = State(8);
    /// The contact's request is approved before it comes (RFC 6121 §3.4).
    pub const APPROVED: State = State(16);
    /// It is an item of the roster that clients see. An entity that only waits for an answer is none
    /// (RFC 6121 §3.1.3).
    pub const LISTED: State = State(32);

    const ALL: u8 = 63;

    /// The state of a column; unknown bits are dropped.
    pub const fn from_bits(bits: u8) -> State {
        State(bits & State::ALL)
    }

    /// For the column.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: State) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` set too.
    #[must_use]
    pub const fn with(self, other: State) -> State {
        State(self.0 | other.0)
    }

    /// With the bits of `other` cleared.
    #[must_use]
    pub const fn without(self, other: State) -> State {
        State(self.0 & !other.0)
    }

    /// Whether clients see it as a roster item.
    pub const fn is_listed(self) -> bool {
        self.has(State::LISTED)
    }

    /// What clients see of it: nothing of an entity that is not listed, and of an item neither
    /// requests that wait for an answer nor anything else that no attribute shows.
    fn shown(self) -> State {
        if self.is_listed() {
            self.without(State::PENDING_IN)
        } else {
            State::NONE
        }
    }

    /// The `subscription` attribute of its roster item (RFC 6121 §2.1.2.5).
    pub const fn subscription(self) -> &'static str {
        match (self.has(State::TO), self.has(State::FROM)) {
            (true, true) => "both",
            (true, false) => "to",
            (false, true) => "from",
            (false, false) => "none",
        }
    }
}

/// A contact as the store has it, or as clients now see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Whom it is about.
    pub contact: BareJid,
    /// [`State::NONE`] of an item that clients no longer see.
    pub state: State,
    /// The handle that the user has given it (RFC 6121 §2.1.2.4); never empty.
    pub name: Option<String>,
    /// The groups that the user has put it in, as they came (RFC 6121 §2.1.2.6).
    pub groups: Vec<String>,
    /// The version of the roster that made it what it is (RFC 6121 §2.6).
    pub version: u64,
}

/// A roster as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its version; 0 if it has never been changed.
    pub version: u64,
    /// In the order of the contacts' JIDs.
    pub items: Vec<Item>,
}

/// What has become of a roster since an earlier version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Each item that was changed or removed, once, in the order of their versions: the interim
    /// pushes of RFC 6121 §2.6.3.
    pub items: Vec<Item>,
    /// How many items the roster has now.
    pub listed: usize,
}

/// The contacts of an account with their states; none of an account that does not exist.
///
/// # Errors
/// Those of the database, and [`StoreError::Malformed`] for what no version has written; here and in
/// all functions below, besides what each names.
pub fn states(db: &Db, account: &BareJid) -> Result<Vec<(BareJid, State)>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, state FROM roster_item
         WHERE account = (SELECT id FROM account WHERE jid = ?1) ORDER BY contact",
    )?;
    let mut rows = statement.query([account.as_str()])?;
    let mut contacts = Vec::new();
    while let Some(row) = rows.next()? {
        contacts.push((read_contact(row, 0)?, read_state(row, 1)?));
    }
    Ok(contacts)
}

/// The state of one contact of an account: none of one that is not there, and none of an account that
/// does not exist.
pub fn state(db: &Db, account: &BareJid, contact: &BareJid) -> Result<State, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT state FROM roster_item
         WHERE account = (SELECT id FROM account WHERE jid = ?1) AND contact = ?2",
    )?;
    let mut rows = statement.query(params![account.as_str(), contact.as_str()])?;
    let row = rows.next()?;
    row.map_or(Ok(State::NONE), |row| read_state(row, 0))
}

/// A contact of an account, whether clients see it or not.
pub fn item(db: &Db, account_id: i64, contact: &BareJid) -> Result<Option<Item>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, state, name, groups, version FROM roster_item
         WHERE account = ?1 AND contact = ?2",
    )?;
    let mut rows = statement.query(params![account_id, contact.as_str()])?;
    rows.next()?.map(read_item).transpose()
}

/// The roster that clients see.
pub fn listed(db: &Db, account_id: i64) -> Result<Listed, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, state, name, groups, version FROM roster_item
         WHERE account = ?1 AND state & ?2 ORDER BY contact",
    )?;
    let mut rows = statement.query(params![account_id, State::LISTED.bits()])?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(read_item(row)?);
    }
    Ok(Listed {
        version: versions(db, account_id)?.version,
        items,
    })
}

/// What has changed since a version that a client has; none if that cannot be told, because too much
/// was removed since, or no such version has been given out.
pub fn changes(db: &Db, account_id: i64, since: u64) -> Result<Option<Changes>, StoreError> {
    let known = versions(db, account_id)?;
    if since < known.forgotten || since > known.version {
        return Ok(None);
    }
    let mut changes = Changes::default();
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, state, name, groups, version FROM roster_item
         WHERE account = ?1 AND state & ?2",
    )?;
    let mut rows = statement.query(params![account_id, State::LISTED.bits()])?;
    while let Some(row) = rows.next()? {
        changes.listed += 1;
        if read_version(row, 4, "roster_item.version")? > since {
            changes.items.push(read_item(row)?);
        }
    }
    let mut statement = db
        .connection()
        .prepare_cached("SELECT contact, version FROM roster_removed WHERE account = ?1")?;
    let mut rows = statement.query([account_id])?;
    while let Some(row) = rows.next()? {
        let version = read_version(row, 1, "roster_removed.version")?;
        if version > since {
            changes.items.push(gone(read_contact(row, 0)?, version));
        }
    }
    changes.items.sort_unstable_by_key(|item| item.version);
    Ok(Some(changes))
}

/// Requests for the account's presence that wait for its answer (RFC 6121 §3.1.3), with the payload
/// of each; at most `max`. Those of entities outside the roster come in about the order in which they
/// were made.
pub fn requests(
    db: &Db,
    account: &BareJid,
    max: usize,
) -> Result<Vec<(BareJid, Vec<u8>)>, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT contact, request FROM roster_item
         WHERE account = (SELECT id FROM account WHERE jid = ?1)
            AND state & ?2 AND request IS NOT NULL
         ORDER BY version, contact LIMIT ?3",
    )?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![account.as_str(), State::PENDING_IN.bits(), max])?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        requests.push((read_contact(row, 0)?, row.get(1)?));
    }
    Ok(requests)
}

/// Puts a contact into the roster, or gives the item another name and other groups (RFC 6121 §2.3,
/// §2.4); its subscription stays. Yields the item that clients have to be told of. None, and nothing
/// is changed, if names and groups of the roster would have more than `bytes_max` bytes, as they are
/// stored, and more than before.
pub fn set_item(
    db: &Db,
    account_id: i64,
    contact: &BareJid,
    name: Option<&str>,
    groups: &[String],
    bytes_max: u64,
) -> Result<Option<Item>, StoreError> {
    let before = item(db, account_id, contact)?;
    let bytes_before = match &before {
        Some(item) if item.state.is_listed() => bytes(item.name.as_deref(), &encode(&item.groups)?),
        _ => 0,
    };
    let bytes_now = bytes(name, &encode(groups)?);
    if bytes_now > bytes_before
        && listed_bytes(db, account_id)?.saturating_sub(bytes_before) + bytes_now > bytes_max
    {
        return Ok(None);
    }
    let state = before.map_or(State::NONE, |item| item.state);
    let item = Item {
        contact: contact.clone(),
        state: state.with(State::LISTED),
        name: name.map(str::to_owned),
        groups: groups.to_vec(),
        version: next_version(db, account_id)?,
    };
    put(db, account_id, &item, None)?;
    if !state.is_listed() {
        forget_removal(db, account_id, contact)?;
    }
    Ok(Some(item))
}

/// Sets the state of a contact; [`State::NONE`] forgets it. Name and groups stay for as long as
/// clients see it. `request` is the payload of a request that came in; it is kept while
/// [`State::PENDING_IN`] is set. Yields the item as clients now see it if that has changed: they have
/// to be told (RFC 6121 §2.1.6), and its version is new.
///
/// # Errors
/// [`StoreError::NotFound`] if there is no such account.
pub fn set_state(
    db: &Db,
    account: &BareJid,
    contact: &BareJid,
    new: State,
    request: Option<&[u8]>,
) -> Result<Option<Item>, StoreError> {
    let account_id = accounts::find(db, account)?.ok_or(StoreError::NotFound)?.id;
    let before = item(db, account_id, contact)?;
    let old = before.as_ref().map_or(State::NONE, |item| item.state);
    let is_seen = old.shown() != new.shown();
    let version = match &before {
        _ if is_seen => next_version(db, account_id)?,
        Some(item) => item.version,
        None => versions(db, account_id)?.version,
    };
    let (name, groups) = match before {
        Some(item) if new.is_listed() => (item.name, item.groups),
        _ => (None, Vec::new()),
    };
    let item = Item {
        contact: contact.clone(),
        state: new,
        name,
        groups,
        version,
    };
    if new == State::NONE {
        db.connection()
            .prepare_cached("DELETE FROM roster_item WHERE account = ?1 AND contact = ?2")?
            .execute(params![account_id, contact.as_str()])?;
    } else {
        put(db, account_id, &item, request)?;
    }
    match (old.is_listed(), new.is_listed()) {
        (true, false) => {
            note_removal(db, account_id, contact, version)?;
            return Ok(Some(gone(item.contact, version)));
        }
        (false, true) => forget_removal(db, account_id, contact)?,
        _ => {}
    }
    Ok(is_seen.then_some(item))
}

/// An item that clients no longer see.
fn gone(contact: BareJid, version: u64) -> Item {
    Item {
        contact,
        state: State::NONE,
        name: None,
        groups: Vec::new(),
        version,
    }
}

fn put(db: &Db, account_id: i64, item: &Item, request: Option<&[u8]>) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached(
            "INSERT INTO roster_item (account, contact, state, version, name, groups, request)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?3 & ?8 THEN ?7 END)
             ON CONFLICT (account, contact) DO UPDATE SET
                state = ?3, version = ?4, name = ?5, groups = ?6,
                request = CASE WHEN ?3 & ?8 THEN ifnull(?7, request) END",
        )?
        .execute(params![
            account_id,
            item.contact.as_str(),
            item.state.bits(),
            to_column(item.version)?,
            item.name,
            encode(&item.groups)?,
            request,
            State::PENDING_IN.bits(),
        ])?;
    Ok(())
}

/// Keeps a note for clients that come back with an older version: the newest
/// [`ROSTER_REMOVALS_MAX`]. What is dropped makes versions before it unknown.
fn note_removal(
    db: &Db,
    account_id: i64,
    contact: &BareJid,
    version: u64,
) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached(
            "INSERT INTO roster_removed (account, contact, version) VALUES (?1, ?2, ?3)
             ON CONFLICT (account, contact) DO UPDATE SET version = ?3",
        )?
        .execute(params![account_id, contact.as_str(), to_column(version)?])?;
    let mut statement = db.connection().prepare_cached(
        "DELETE FROM roster_removed WHERE account = ?1 AND version <= (
            SELECT version FROM roster_removed WHERE account = ?1
            ORDER BY version DESC LIMIT 1 OFFSET ?2)
         RETURNING version",
    )?;
    let mut rows = statement.query(params![account_id, ROSTER_REMOVALS_MAX])?;
    let mut forgotten: Option<i64> = None;
    while let Some(row) = rows.next()? {
        forgotten = forgotten.max(row.get(0)?);
    }
    if let Some(forgotten) = forgotten {
        db.connection()
            .prepare_cached("UPDATE roster SET forgotten = max(forgotten, ?2) WHERE account = ?1")?
            .execute([account_id, forgotten])?;
    }
    Ok(())
}

fn forget_removal(db: &Db, account_id: i64, contact: &BareJid) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached("DELETE FROM roster_removed WHERE account = ?1 AND contact = ?2")?
        .execute(params![account_id, contact.as_str()])?;
    Ok(())
}

/// Where the versions of a roster have come to.
#[derive(Default)]
struct Versions {
    version: u64,
    forgotten: u64,
}

fn versions(db: &Db, account_id: i64) -> Result<Versions, StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("SELECT version, forgotten FROM roster WHERE account = ?1")?;
    let mut rows = statement.query([account_id])?;
    let Some(row) = rows.next()? else {
        return Ok(Versions::default());
    };
    Ok(Versions {
        version: read_version(row, 0, "roster.version")?,
        forgotten: read_version(row, 1, "roster.forgotten")?,
    })
}

fn next_version(db: &Db, account_id: i64) -> Result<u64, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "UPDATE roster SET version = version + 1 WHERE account = ?1 RETURNING version",
    )?;
    let counted = statement
        .query_row([account_id], |row| {
            Ok(read_version(row, 0, "roster.version"))
        })
        .optional()?;
    if let Some(version) = counted {
        return version;
    }
    let first = first_version(db, account_id)?;
    db.connection()
        .prepare_cached("INSERT INTO roster (account, version, forgotten) VALUES (?1, ?2 + 1, ?2)")?
        .execute(params![account_id, to_column(first)?])?;
    Ok(first + 1)
}

/// A number of 46 bits that no other roster begins with, so that what a client kept of an account
/// that was deleted is not taken for a version of its successor. Account ids are never used again;
/// the server's secret keeps them, which count accounts, from being told.
fn first_version(db: &Db, account_id: i64) -> Result<u64, StoreError> {
    let mut hasher = DefaultHasher::new();
    (accounts::secret(db)?, account_id).hash(&mut hasher);
    Ok(hasher.finish() >> 18)
}

/// Bytes of names and groups that clients see, as they are stored.
fn listed_bytes(db: &Db, account_id: i64) -> Result<u64, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT ifnull(sum(
            ifnull(length(CAST(name AS BLOB)), 0) + length(CAST(groups AS BLOB))), 0)
         FROM roster_item WHERE account = ?1 AND state & ?2",
    )?;
    let sum: i64 =
        statement.query_row(params![account_id, State::LISTED.bits()], |row| row.get(0))?;
    Ok(u64::try_from(sum).unwrap_or(0))
}

fn bytes(name: Option<&str>, groups: &str) -> u64 {
    (name.map_or(0, str::len) + groups.len()) as u64
}

fn encode(groups: &[String]) -> Result<String, StoreError> {
    serde_json::to_string(groups).map_err(|_| StoreError::Refused("groups that JSON cannot hold"))
}

/// Reads the columns `contact, state, name, groups, version`.
fn read_item(row: &Row<'_>) -> Result<Item, StoreError> {
    let groups: String = row.get(3)?;
    Ok(Item {
        contact: read_contact(row, 0)?,
        state: read_state(row, 1)?,
        name: row.get(2)?,
        groups: serde_json::from_str(&groups)
            .map_err(|_| malformed("roster_item.groups", &groups))?,
        version: read_version(row, 4, "roster_item.version")?,
    })
}

fn read_contact(row: &Row<'_>, at: usize) -> Result<BareJid, StoreError> {
    let text: String = row.get(at)?;
    BareJid::parse(&text).map_err(|_| malformed("roster contact", &text))
}

fn read_state(row: &Row<'_>, at: usize) -> Result<State, StoreError> {
    let bits: i64 = row.get(at)?;
    u8::try_from(bits)
        .ok()
        .filter(|bits| State::from_bits(*bits).bits() == *bits)
        .map(State::from_bits)
        .ok_or_else(|| malformed("roster_item.state", &bits.to_string()))
}

fn read_version(row: &Row<'_>, at: usize, column: &str) -> Result<u64, StoreError> {
    let version: i64 = row.get(at)?;
    u64::try_from(version).map_err(|_| malformed(column, &version.to_string()))
}

fn to_column(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|_| StoreError::Refused("a version beyond all counts"))
}

#[cfg(test)]
mod tests;

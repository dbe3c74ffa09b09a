//! The bodies of stored messages: each once, however many index rows own it
//! (`The store` in lib.rs).
//!
//! An index table (today [`offline`](super::offline)) counts its row in when it inserts one and has a
//! trigger that counts it out when one goes, also by a cascade. A body without an owner is an orphan;
//! orphans are swept in small steps, so that no deletion holds the writer for long.

use rusqlite::{Row, params};

use super::accounts::malformed;
use super::{Db, StoreError};
use crate::jid::Jid;
use crate::stanza::{Kind, Stanza, Type};
use crate::xml::Payload;

/// The columns of a body `b`, as [`read`] takes them.
pub(super) const COLUMNS: &str = "b.sender, b.recipient, b.type, b.stanza_id, b.lang, b.payload";

/// Orphans that one commit sweeps at most: 1 to 2 ms of the writer.
pub(super) const SWEPT_MAX: i64 = 256;

/// Stores a message's body with one owner, which the caller inserts, and yields its id.
///
/// # Errors
/// Those of the database; `Refused` for a message without addresses, which none is once it is routed.
pub(super) fn insert(db: &Db, message: &Stanza) -> Result<i64, StoreError> {
    let (Some(from), Some(to)) = (&message.from, &message.to) else {
        return Err(StoreError::Refused("a message without addresses"));
    };
    db.connection()
        .prepare_cached(
            "INSERT INTO body (owners, sender, recipient, type, stanza_id, lang, payload)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            from.as_str(),
            to.as_str(),
            message.type_.as_str(Kind::Message),
            message.id,
            message.lang,
            message.payload.bytes(),
        ])?;
    Ok(db.connection().last_insert_rowid())
}

/// The message whose [`COLUMNS`] begin at `first`.
///
/// # Errors
/// Those of the database, and `Malformed`.
pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Stanza, StoreError> {
    let address = |column: &str, index: usize| {
        let text: String = row.get(index)?;
        Jid::parse(&text).map_err(|_| malformed(column, &text))
    };
    let from = address("body.sender", first)?;
    let to = address("body.recipient", first + 1)?;
    let type_: String = row.get(first + 2)?;
    let type_ = Type::parse(Kind::Message, Some(&type_)).unwrap_or(Type::Normal);
    let payload = Payload::from_canonical(row.get(first + 5)?)
        .ok_or_else(|| malformed("body.payload", "(not canonical)"))?;
    let mut message = Stanza::new(Kind::Message, type_, payload);
    (message.from, message.to) = (Some(from), Some(to));
    message.id = row.get(first + 3)?;
    message.lang = row.get(first + 4)?;
    Ok(message)
}

/// Whether there are orphans: one look at their index, which is empty nearly always.
///
/// # Errors
/// Only those of the database.
pub(super) fn has_orphans(db: &Db) -> Result<bool, StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM body WHERE owners = 0)")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Deletes at most [`SWEPT_MAX`] orphans. True if there may be more.
///
/// # Errors
/// Only those of the database.
pub(super) fn sweep(db: &Db) -> Result<bool, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "DELETE FROM body WHERE id IN (SELECT id FROM body WHERE owners = 0 LIMIT ?1)",
    )?;
    let swept = statement.execute([SWEPT_MAX])?;
    Ok(i64::try_from(swept).is_ok_and(|swept| swept == SWEPT_MAX))
}

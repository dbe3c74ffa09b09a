//! Subscription stanzas between local accounts, from the commit of the sender's change to that of the
//! recipient's (`Two commits` in lib.rs).

use rusqlite::{OptionalExtension, Row, params};

use super::accounts::malformed;
use super::{Db, StoreError};
use crate::jid::BareJid;
use crate::stanza::{Kind, Stanza};

/// A stanza on its way between two accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// Of the row; later ones are greater, and none is used again.
    pub id: i64,
    /// Presence of one of the four subscription types, from one bare JID to another.
    pub stanza: Stanza,
}

/// Writes a stanza down and yields the row's id.
///
/// # Errors
/// [`StoreError::Refused`] for a stanza without addresses, which none is once it is routed; here and
/// below, those of the database.
pub fn insert(db: &Db, stanza: &Stanza) -> Result<i64, StoreError> {
    let (Some(from), Some(to)) = (&stanza.from, &stanza.to) else {
        return Err(StoreError::Refused("a hand-off without addresses"));
    };
    let mut statement = db.connection().prepare_cached(
        "INSERT INTO handoff (sender, recipient, kind, stanza) VALUES (?1, ?2, ?3, ?4)",
    )?;
    Ok(statement.insert(params![
        from.bare_str(),
        to.bare_str(),
        stanza.type_.as_str(Kind::Presence),
        stanza.to_stored(),
    ])?)
}

/// Deletes a row. False if it is gone: the stanza has had its effect.
pub fn take(db: &Db, id: i64) -> Result<bool, StoreError> {
    let deleted = db
        .connection()
        .prepare_cached("DELETE FROM handoff WHERE id = ?1")?
        .execute([id])?;
    Ok(deleted > 0)
}

/// Deletes a row, if it is there.
pub fn delete(db: &Db, id: i64) -> Result<(), StoreError> {
    take(db, id).map(drop)
}

/// At most `max` rows after an id, in order. A damaged row is logged and left out; the last id that was
/// looked at comes with them, none if there are no more rows.
pub fn all(db: &Db, after: i64, max: usize) -> Result<(Vec<Handoff>, Option<i64>), StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("SELECT id, stanza FROM handoff WHERE id > ?1 ORDER BY id LIMIT ?2")?;
    let mut rows = statement.query(params![after, to_limit(max)])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        last = Some(id);
        match read(row) {
            Ok(handoff) => found.push(handoff),
            Err(error) => log::error!(id, error:%; "hand-off is damaged"),
        }
    }
    Ok((found, last))
}

/// Rows of one sender.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that can be read, in order.
    pub rows: Vec<Handoff>,
    /// Those that cannot, with what they were to say.
    pub damaged: Vec<Damaged>,
    /// The last id that was looked at; none if there are no more rows.
    pub last: Option<i64>,
}

/// A row whose stanza is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// Of the row.
    pub id: i64,
    /// Who was to hear of it, as it is written.
    pub recipient: String,
    /// The type of the subscription stanza, as it is written.
    pub kind: String,
}

/// At most `max` rows of one sender after an id.
pub fn of_sender(db: &Db, sender: &BareJid, after: i64, max: usize) -> Result<Page, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT id, stanza, recipient, kind FROM handoff
         WHERE id > ?2 AND sender = ?1 ORDER BY id LIMIT ?3",
    )?;
    let mut rows = statement.query(params![sender.as_str(), after, to_limit(max)])?;
    let mut page = Page::default();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        page.last = Some(id);
        match read(row) {
            Ok(handoff) => page.rows.push(handoff),
            Err(StoreError::Malformed(_)) => page.damaged.push(Damaged {
                id,
                recipient: words(row, 2)?,
                kind: words(row, 3)?,
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(page)
}

/// How many rows there are.
pub fn count(db: &Db) -> Result<u64, StoreError> {
    let mut statement = db
        .connection()
        .prepare_cached("SELECT count(*) FROM handoff")?;
    let count: Option<i64> = statement.query_row([], |row| row.get(0)).optional()?;
    Ok(count.unwrap_or(0).unsigned_abs())
}

/// Reads the columns `id, stanza`.
fn read(row: &Row<'_>) -> Result<Handoff, StoreError> {
    let stanza = Stanza::from_stored(row.get(1)?)
        .filter(|stanza| stanza.from.is_some() && stanza.to.is_some())
        .ok_or_else(|| malformed("handoff.stanza", "(no stanza)"))?;
    Ok(Handoff {
        id: row.get(0)?,
        stanza,
    })
}

/// A column of a row that is damaged, for people.
fn words(row: &Row<'_>, column: usize) -> Result<String, StoreError> {
    let bytes = row.get_ref(column)?.as_bytes();
    Ok(bytes.map_or(String::new(), |bytes| {
        String::from_utf8_lossy(bytes).into_owned()
    }))
}

fn to_limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

/// Makes a row what a bad disk makes of it.
#[cfg(test)]
pub fn damage(db: &Db, id: i64) {
    let sql = "UPDATE handoff SET stanza = x'3c' WHERE id = ?1";
    assert_eq!(db.connection().execute(sql, [id]), Ok(1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::Type;
    use crate::storage::WriterCore;
    use crate::xml::Payload;

    fn jid(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    fn core() -> WriterCore {
        WriterCore::memory(&[7; 32]).unwrap()
    }

    fn stanza(from: &str, type_: Type) -> Stanza {
        let mut stanza = Stanza::new(Kind::Presence, type_, Payload::empty());
        stanza.from = Some(jid(from).to_jid());
        stanza.to = Some(jid("nurse@example.org").to_jid());
        stanza
    }

    #[test]
    fn rows_are_read_in_order_in_pages_and_taken_once() {
        let core = core();
        let db = core.db();
        let types = [Type::Subscribe, Type::Unsubscribe, Type::Unsubscribed];
        let sent: Vec<Handoff> = types
            .iter()
            .zip(["juliet@example.org", "romeo@example.org"].iter().cycle())
            .map(|(type_, from)| {
                let stanza = stanza(from, *type_);
                let id = insert(db, &stanza).unwrap();
                Handoff { id, stanza }
            })
            .collect();
        let (page, last) = all(db, 0, 2).unwrap();
        assert_eq!((&page[..], last), (&sent[..2], Some(sent[1].id)));
        let (page, last) = all(db, sent[1].id, 2).unwrap();
        assert_eq!((&page[..], last), (&sent[2..], Some(sent[2].id)));
        assert_eq!(all(db, sent[2].id, 2).unwrap(), (Vec::new(), None));
        let juliet = of_sender(db, &jid("juliet@example.org"), 0, 9).unwrap();
        assert_eq!(juliet.rows, [sent[0].clone(), sent[2].clone()]);
        assert_eq!((juliet.last, juliet.damaged.len()), (Some(sent[2].id), 0));
        let none = of_sender(db, &jid("juliet@example.org"), sent[2].id, 9).unwrap();
        assert_eq!(none, Page::default());
        assert!(take(db, sent[0].id).unwrap());
        assert!(!take(db, sent[0].id).unwrap());
        assert_eq!(count(db).unwrap(), 2);
    }

    #[test]
    fn a_damaged_row_is_left_out() {
        let core = core();
        let db = core.db();
        let good = stanza("juliet@example.org", Type::Subscribe);
        let bad = insert(db, &good).unwrap();
        let id = insert(db, &good).unwrap();
        damage(db, bad);
        let (rows, last) = all(db, 0, 9).unwrap();
        let good = vec![Handoff { id, stanza: good }];
        assert_eq!((rows, last), (good.clone(), Some(id)));
        let damaged = Damaged {
            id: bad,
            recipient: "nurse@example.org".to_owned(),
            kind: "subscribe".to_owned(),
        };
        let page = of_sender(db, &jid("juliet@example.org"), 0, 9).unwrap();
        assert_eq!((page.rows, page.damaged), (good, vec![damaged]));
        let page = of_sender(db, &jid("juliet@example.org"), 0, 1).unwrap();
        assert_eq!((page.rows.len(), page.last), (0, Some(bad)));
    }
}

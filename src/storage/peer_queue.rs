//! Messages that wait for a stream to another server, in the order in which they came
//! (`Settlement` in lib.rs).

use rusqlite::params;

use super::accounts::{from_column, malformed, to_column};
use super::{Db, StoreError};
use crate::clock::Wall;
use crate::jid::Domain;
use crate::limits::{PEER_PAGE_BYTES_MAX, PEER_PAGE_MESSAGES_MAX};
use crate::stanza::Stanza;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// Of its row: greater than those of all that came before on the same link.
    pub id: i64,
    /// The domain that sends it.
    pub local: Domain,
    /// The domain that it is for.
    pub remote: Domain,
    /// When it came.
    pub came: Wall,
    /// The message, with `from` and `to`.
    pub stanza: Stanza,
}

/// Stores a message.
///
/// # Errors
/// Only those of the database, here and below.
pub(super) fn insert(db: &Db, message: &PeerMessage) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached(
            "INSERT INTO peer_queue (remote, local, id, came, stanza) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            message.remote.as_str(),
            message.local.as_str(),
            message.id,
            to_column(message.came),
            message.stanza.to_stored(),
        ])?;
    Ok(())
}

/// Deletes a message, if it is there.
pub(super) fn delete(db: &Db, local: &Domain, remote: &Domain, id: i64) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached("DELETE FROM peer_queue WHERE remote = ?1 AND local = ?2 AND id = ?3")?
        .execute(params![remote.as_str(), local.as_str(), id])?;
    Ok(())
}

/// A part of the messages that wait.
#[derive(Debug, Default)]
pub struct Page {
    /// Those of each link in order.
    pub messages: Vec<PeerMessage>,
    /// Where the next page begins; none if this was the last.
    pub next: Option<Place>,
}

/// A place among all messages that wait, behind a row that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    remote: String,
    local: String,
    id: i64,
}

/// The messages behind a place, as many as a page has room for. A damaged row is logged and left out.
pub fn page(db: &Db, after: &Place) -> Result<Page, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT id, local, remote, came, stanza FROM peer_queue
         WHERE (remote, local, id) > (?1, ?2, ?3) ORDER BY remote, local, id",
    )?;
    let mut rows = statement.query(params![after.remote, after.local, after.id])?;
    let mut page = Page::default();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        match read(row) {
            Ok(message) => {
                bytes += message.stanza.size();
                page.messages.push(message);
            }
            Err(error) => log::error!(id, error:%; "message for another server is damaged"),
        }
        if page.messages.len() >= PEER_PAGE_MESSAGES_MAX || bytes >= PEER_PAGE_BYTES_MAX {
            page.next = Some(Place {
                remote: row.get(2)?,
                local: row.get(1)?,
                id,
            });
            break;
        }
    }
    Ok(page)
}

/// All messages that wait.
#[cfg(test)]
pub(crate) fn all(db: &Db) -> Result<Vec<PeerMessage>, StoreError> {
    let (mut found, mut after) = (Vec::new(), Place::default());
    loop {
        let page = page(db, &after)?;
        found.extend(page.messages);
        match page.next {
            Some(next) => after = next,
            None => return Ok(found),
        }
    }
}

fn read(row: &rusqlite::Row<'_>) -> Result<PeerMessage, StoreError> {
    let domain = |index: usize, column: &'static str| {
        let name: String = row.get(index)?;
        Domain::parse(&name).map_err(|_| malformed(column, &name))
    };
    let stanza = Stanza::from_stored(row.get(4)?)
        .filter(|stanza| stanza.from.is_some() && stanza.to.is_some())
        .ok_or_else(|| malformed("peer_queue.stanza", "(no stanza)"))?;
    Ok(PeerMessage {
        id: row.get(0)?,
        local: domain(1, "peer_queue.local")?,
        remote: domain(2, "peer_queue.remote")?,
        came: Wall::from_micros(from_column(row.get(3)?, "peer_queue.came")?),
        stanza,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Jid;
    use crate::stanza::{Kind, Type};
    use crate::storage::{Row, WriterCore};
    use crate::xml::Payload;

    fn message(remote: &str, id: i64) -> PeerMessage {
        let mut stanza = Stanza::new(Kind::Message, Type::Chat, Payload::empty());
        stanza.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
        stanza.to = Some(Jid::parse(&format!("romeo@{remote}")).unwrap());
        PeerMessage {
            id,
            local: Domain::parse("example.org").unwrap(),
            remote: Domain::parse(remote).unwrap(),
            came: Wall::from_micros(1_700_000_000_000_000 + id.unsigned_abs()),
            stanza,
        }
    }

    #[test]
    fn messages_come_back_by_link_in_their_order_until_they_are_done() {
        let mut core = WriterCore::memory(&[7; 32]).unwrap();
        let all_of = [
            message("example.com", 2),
            message("example.com", 9),
            message("example.net", 1),
            // Another link may have the same number.
            message("example.net", 2),
        ];
        let mut batch = crate::storage::Batch::default();
        for index in [3, 1, 0, 2] {
            batch
                .rows
                .push(Row::PeerQueued(Box::new(all_of[index].clone())));
        }
        core.commit(vec![(0, batch)]);
        assert_eq!(all(core.db()).unwrap(), all_of);
        let gone = &all_of[0];
        delete(core.db(), &gone.local, &gone.remote, gone.id).unwrap();
        delete(core.db(), &gone.local, &gone.remote, gone.id).unwrap();
        assert_eq!(all(core.db()).unwrap(), all_of[1..]);
    }

    #[test]
    fn a_damaged_row_is_left_out() {
        let core = WriterCore::memory(&[7; 32]).unwrap();
        insert(core.db(), &message("example.com", 1)).unwrap();
        insert(core.db(), &message("example.com", 2)).unwrap();
        let sql = "UPDATE peer_queue SET stanza = x'3c' WHERE id = 1";
        core.db().connection().execute(sql, []).unwrap();
        assert_eq!(all(core.db()).unwrap(), [message("example.com", 2)]);
    }

    #[test]
    fn pages_lead_through_all_of_them() {
        let mut core = WriterCore::memory(&[7; 32]).unwrap();
        let last = PEER_PAGE_MESSAGES_MAX as i64 / 2;
        let mut batch = crate::storage::Batch::default();
        let mut expected = Vec::new();
        for remote in ["example.com", "example.net", "example.org"] {
            for id in 1..=last {
                expected.push(message(remote, id));
            }
        }
        let rows = expected.iter().cloned().map(Box::new);
        batch.rows.extend(rows.map(Row::PeerQueued));
        core.commit(vec![(0, batch)]);
        let first = page(core.db(), &Place::default()).unwrap();
        assert_eq!(first.messages.len(), PEER_PAGE_MESSAGES_MAX);
        assert!(first.next.is_some());
        assert_eq!(all(core.db()).unwrap(), expected);
    }
}

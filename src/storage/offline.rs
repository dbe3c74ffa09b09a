//! Messages that wait for an account's next session (XEP-0160): an index row for each, in the order in
//! which they came, and its body.

use rusqlite::params;

use super::accounts::{from_column, to_column};
use super::{Db, StoreError, body};
use crate::clock::Wall;
use crate::stanza::Stanza;

/// A message to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineMessage {
    /// The id of the account, which no later account of the same name has.
    pub account: i64,
    /// Its place among the account's messages: greater than those of all that came before.
    pub seq: i64,
    /// When it came.
    pub came: Wall,
    /// The message, with `from` and `to`.
    pub stanza: Stanza,
}

impl OfflineMessage {
    /// Bytes that count for the quota.
    pub fn bytes(&self) -> usize {
        self.stanza.size()
    }
}

/// How much is stored, or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub messages: u64,
    /// Their bytes, as [`OfflineMessage::bytes`] counts them.
    pub bytes: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Tally) -> Tally {
        Tally {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left without a part of it.
    #[must_use]
    pub fn minus(self, part: Tally) -> Tally {
        debug_assert!(part.messages <= self.messages && part.bytes <= self.bytes);
        Tally {
            messages: self.messages.saturating_sub(part.messages),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }
}

/// What is stored for an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// All of it.
    pub tally: Tally,
    /// The greatest [`OfflineMessage::seq`]; 0 if nothing is stored.
    pub last_seq: i64,
}

/// Some stored messages of an account, in order.
#[derive(Debug)]
pub struct Page {
    /// The messages.
    pub messages: Vec<StoredMessage>,
    /// Whether none is behind them.
    pub is_last: bool,
}

/// A message as it is stored.
#[derive(Debug)]
pub struct StoredMessage {
    /// As it was stored.
    pub seq: i64,
    /// As it was stored.
    pub came: Wall,
    /// As it was counted.
    pub bytes: u64,
    /// None if the database is damaged there, which is logged.
    pub stanza: Option<Stanza>,
}

/// What is stored for an account, by its id; nothing for an id that does not exist.
///
/// # Errors
/// Only those of the database.
pub fn holding(db: &Db, account: i64) -> Result<Holding, StoreError> {
    let mut statement = db.connection().prepare_cached(
        "SELECT count(*), ifnull(sum(bytes), 0), ifnull(max(seq), 0) FROM offline
         WHERE account = ?1",
    )?;
    let (messages, bytes, last_seq) =
        statement.query_row([account], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Holding {
        tally: Tally {
            messages: from_column(messages, "count(*)")?,
            bytes: from_column(bytes, "sum(offline.bytes)")?,
        },
        last_seq,
    })
}

/// Stores a message. Nothing happens if the account is gone.
///
/// # Errors
/// Only those of the database.
pub(super) fn insert(db: &Db, message: &OfflineMessage) -> Result<(), StoreError> {
    let exists = db
        .connection()
        .prepare_cached("SELECT 1 FROM account WHERE id = ?1")?
        .exists([message.account])?;
    if !exists {
        return Ok(());
    }
    let body = body::insert(db, &message.stanza)?;
    db.connection()
        .prepare_cached(
            "INSERT INTO offline (account, seq, came, bytes, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![
            message.account,
            message.seq,
            to_column(message.came),
            i64::try_from(message.bytes()).unwrap_or(i64::MAX),
            body,
        ])?;
    Ok(())
}

/// The messages after `seq`, at most so many and so many bytes, but at least one if there is any.
///
/// # Errors
/// Only those of the database: a message that is malformed there is logged, and takes its place
/// without a stanza.
pub fn page(
    db: &Db,
    account: i64,
    seq: i64,
    messages_max: usize,
    bytes_max: u64,
) -> Result<Page, StoreError> {
    let columns = body::COLUMNS;
    let mut statement = db.connection().prepare_cached(&format!(
        "SELECT o.seq, o.came, o.bytes, {columns} FROM offline o JOIN body b ON b.id = o.body
         WHERE o.account = ?1 AND o.seq > ?2 ORDER BY o.seq"
    ))?;
    let mut rows = statement.query(params![account, seq])?;
    let mut page = Page {
        messages: Vec::new(),
        is_last: true,
    };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let size = from_column(row.get(2)?, "offline.bytes")?;
        bytes += size;
        let is_first = page.messages.is_empty();
        if page.messages.len() >= messages_max || (bytes > bytes_max && !is_first) {
            page.is_last = false;
            break;
        }
        let stanza = match body::read(row, 3) {
            Ok(stanza) => Some(stanza),
            Err(error @ StoreError::Malformed(_)) => {
                log::error!(account, seq, error:%; "offline message unreadable");
                None
            }
            Err(error) => return Err(error),
        };
        page.messages.push(StoredMessage {
            seq,
            came: Wall::from_micros(from_column(row.get(1)?, "offline.came")?),
            bytes: size,
            stanza,
        });
    }
    Ok(page)
}

/// Deletes an account's messages up to and including `seq`. Their bodies are swept later.
///
/// # Errors
/// Only those of the database.
pub(super) fn delete(db: &Db, account: i64, seq: i64) -> Result<(), StoreError> {
    db.connection()
        .prepare_cached("DELETE FROM offline WHERE account = ?1 AND seq <= ?2")?
        .execute(params![account, seq])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::{BareJid, Jid};
    use crate::sasl::Credentials;
    use crate::stanza::{Kind, Type};
    use crate::storage::{Answer, Batch, Row, WriterCore, accounts};
    use crate::xml::{Element, Payload};

    fn core() -> WriterCore {
        WriterCore::memory(&[7; 32]).unwrap()
    }

    fn account(core: &mut WriterCore, jid: &str) -> i64 {
        let jid = BareJid::parse(jid).unwrap();
        let create = move |db: &Db| {
            accounts::create(db, &jid, &Credentials::default(), Wall::default())?;
            Ok(accounts::find(db, &jid)?.expect("it was created").id)
        };
        core.change(create).unwrap()
    }

    fn message(account: i64, seq: i64) -> OfflineMessage {
        let body = Element::new(crate::ns::CLIENT, "body").with_text("word ".repeat(9) + "&");
        let payload = Payload::from_elements(&[body, Element::new("urn:x", "y")]);
        let mut stanza = Stanza::new(Kind::Message, Type::Chat, payload);
        stanza.from = Some(Jid::parse("romeo@example.net/orchard").unwrap());
        stanza.to = Some(Jid::parse("juliet@example.org").unwrap());
        stanza.id = Some(seq.to_string().into());
        OfflineMessage {
            account,
            seq,
            came: Wall::from_micros(1_000 + u64::try_from(seq).unwrap()),
            stanza,
        }
    }

    fn write(core: &mut WriterCore, rows: Vec<Row>) {
        let batch = Batch {
            rows,
            ..Batch::default()
        };
        for (_, answer) in core.commit(vec![(0, batch)]) {
            assert!(matches!(answer, Answer::Committed { rows: Ok(()), .. }));
        }
    }

    fn store(core: &mut WriterCore, account: i64, seqs: impl Iterator<Item = i64>) {
        let rows = seqs.map(|seq| Row::Offline(Box::new(message(account, seq))));
        write(core, rows.collect());
    }

    fn seqs(page: &Page) -> Vec<i64> {
        page.messages.iter().map(|message| message.seq).collect()
    }

    fn count(core: &WriterCore, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        let connection = core.db().connection();
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_message_comes_back_as_it_was_stored() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        let mut bare = message(juliet, 2);
        bare.stanza = Stanza::new(Kind::Message, Type::Normal, Payload::empty());
        bare.stanza.from = Some(Jid::parse("example.net").unwrap());
        bare.stanza.to = Some(Jid::parse("juliet@example.org/balcony").unwrap());
        let mut odd = message(juliet, 3);
        odd.stanza.lang = Some("de".into());
        let stored = [message(juliet, 1), bare, odd];
        let rows = stored.iter().cloned().map(Box::new).map(Row::Offline);
        write(&mut core, rows.collect());
        let page = page(core.db(), juliet, 0, 10, 100_000).unwrap();
        assert!(page.is_last);
        for (read, written) in page.messages.iter().zip(&stored) {
            assert_eq!(read.stanza.as_ref(), Some(&written.stanza));
            assert_eq!((read.seq, read.came), (written.seq, written.came));
            assert_eq!(read.bytes, written.bytes() as u64);
        }
        let held = holding(core.db(), juliet).unwrap();
        let bytes = stored.iter().map(|message| message.bytes() as u64).sum();
        assert_eq!(held.tally, Tally { messages: 3, bytes });
        assert_eq!(held.last_seq, 3);
    }

    #[test]
    fn a_page_is_bounded_in_count_and_in_bytes_but_never_empty() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        let nurse = account(&mut core, "nurse@example.org");
        store(&mut core, juliet, 1..=5);
        store(&mut core, nurse, 1..=1);
        let size = message(juliet, 1).bytes() as u64;
        for (after, count, bytes, expected, is_last) in [
            (0, 3, 100 * size, vec![1, 2, 3], false),
            (3, 3, 100 * size, vec![4, 5], true),
            (2, 3, 100 * size, vec![3, 4, 5], true),
            (0, 9, 2 * size, vec![1, 2], false),
            (0, 9, 3 * size - 1, vec![1, 2], false),
            (4, 9, 1, vec![5], true),
            (3, 9, 1, vec![4], false),
            (5, 9, 100 * size, vec![], true),
        ] {
            let page = page(core.db(), juliet, after, count, bytes).unwrap();
            assert_eq!((seqs(&page), page.is_last), (expected, is_last), "{after}");
        }
    }

    #[test]
    fn deleting_takes_what_was_delivered_and_its_bodies() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        let nurse = account(&mut core, "nurse@example.org");
        store(&mut core, juliet, 1..=3);
        store(&mut core, nurse, 1..=1);
        let delivered = Row::OfflineDelivered {
            account: juliet,
            seq: 2,
        };
        write(&mut core, vec![delivered]);
        assert_eq!(seqs(&page(core.db(), juliet, 0, 9, 9999).unwrap()), [3]);
        assert_eq!(seqs(&page(core.db(), nurse, 0, 9, 9999).unwrap()), [1]);
        assert_eq!(count(&core, "body"), 2);
    }

    /// XEP-0160 §5: what is stored may be nobody's but the account's.
    #[test]
    fn a_deleted_account_leaves_no_message_and_no_body_in_steps() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        let nurse = account(&mut core, "nurse@example.org");
        let count_max = 2 * body::SWEPT_MAX + 10;
        store(&mut core, juliet, 1..=count_max);
        store(&mut core, nurse, 1..=1);
        let jid = BareJid::parse("juliet@example.org").unwrap();
        core.change(move |db| accounts::delete(db, &jid)).unwrap();
        assert_eq!(count(&core, "offline"), 1);
        let mut left = vec![count(&core, "body")];
        while core.has_orphans() {
            core.commit(Vec::new());
            left.push(count(&core, "body"));
        }
        let step = body::SWEPT_MAX;
        assert_eq!(left, [count_max - step + 1, count_max - 2 * step + 1, 1]);
        assert_eq!(holding(core.db(), juliet).unwrap(), Holding::default());
    }

    #[test]
    fn a_body_stays_while_any_row_owns_it() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        store(&mut core, juliet, 1..=1);
        let connection = core.db().connection();
        connection
            .execute("UPDATE body SET owners = 2", [])
            .unwrap();
        write(
            &mut core,
            vec![Row::OfflineDelivered {
                account: juliet,
                seq: 1,
            }],
        );
        assert_eq!((count(&core, "offline"), count(&core, "body")), (0, 1));
    }

    #[test]
    fn a_message_for_an_account_that_is_gone_harms_no_other() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        let rows = [message(77, 1), message(juliet, 1)];
        let rows = rows.map(Box::new).map(Row::Offline).to_vec();
        write(&mut core, rows);
        assert_eq!((count(&core, "offline"), count(&core, "body")), (1, 1));
    }

    #[test]
    fn a_damaged_message_does_not_hold_up_those_behind_it() {
        let mut core = core();
        let juliet = account(&mut core, "juliet@example.org");
        store(&mut core, juliet, 1..=3);
        for (id, damage) in [(1, "payload = x'3c'"), (2, "sender = '@'")] {
            let sql = format!("UPDATE body SET {damage} WHERE id = {id}");
            core.db().connection().execute(&sql, []).unwrap();
        }
        let page = page(core.db(), juliet, 0, 9, 9999).unwrap();
        let whole = page.messages.iter().map(|m| m.stanza.is_some());
        assert_eq!(whole.collect::<Vec<_>>(), [false, false, true]);
    }

    /// Its rows are looked up by their account, and its orphans by an index.
    #[test]
    fn no_statement_reads_a_whole_table() {
        let core = core();
        for sql in [
            "SELECT count(*) FROM offline WHERE account = 1",
            "SELECT b.id FROM offline o JOIN body b ON b.id = o.body
             WHERE o.account = 1 AND o.seq > 1 ORDER BY o.seq",
            "DELETE FROM offline WHERE account = 1 AND seq <= 1",
            "DELETE FROM body WHERE id IN (SELECT id FROM body WHERE owners = 0 LIMIT 256)",
        ] {
            let connection = core.db().connection();
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let steps = plan.query_map([], |row| row.get::<_, String>(3)).unwrap();
            for step in steps.map(Result::unwrap) {
                let is_scan = step.starts_with("SCAN") && !step.contains("body_orphan");
                assert!(!is_scan && !step.contains("TEMP B-TREE"), "{sql}: {step}");
            }
        }
    }
}

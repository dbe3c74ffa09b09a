use super::*;
use crate::clock::{Mono, Now, Wall};
use crate::jid::BareJid;
use crate::limits::{
    ASKED_MAX, INBOX_STANZAS_MAX, OFFLINE_HELD_STANZAS_MAX, OFFLINE_PAGE_BYTES_MAX,
    OFFLINE_PAGE_MESSAGES_MAX, OFFLINE_READ_PAUSES,
};
use crate::router::account::{Proof, Standing};
use crate::router::testing::{Seat, Site, record};
use crate::slots::Key;
use crate::storage::offline::{Tally, holding};
use crate::storage::{Answer, Batch, Db, StoreError, accounts};
use crate::xml::Element;

mod order;
mod property;
mod reading;

static FEATURES: &[&Feature] = &[&FEATURE];
const JULIET: &str = "juliet@example.org";

/// The account juliet, which is offline, and who writes to it.
pub(super) struct House {
    pub site: Site,
    pub romeo: Seat,
    pub juliet: Key,
    sent: u64,
}

impl House {
    pub fn new() -> House {
        let mut site = Site::new(FEATURES);
        site.create(JULIET);
        let juliet = load(&mut site);
        let romeo = site.bind("romeo@example.org", "orchard", None);
        let mut house = House {
            site,
            romeo,
            juliet,
            sent: 0,
        };
        house.pass(1_000_000);
        house
    }

    /// Lets time pass, in microseconds.
    pub fn pass(&mut self, micros: u64) {
        let now = self.site.router.now;
        self.site.router.now = Now {
            mono: Mono::from_millis(now.mono.millis() + micros / 1000),
            wall: Wall::from_micros(now.wall.micros() + micros),
        };
    }

    pub fn message(&mut self, type_: Type, to: &str, payload: &str) {
        let payload = Payload::from_canonical(payload.as_bytes().to_vec()).unwrap();
        let mut message = Stanza::new(Kind::Message, type_, payload);
        message.to = Some(Jid::parse(to).unwrap());
        message.id = Some(self.sent.to_string().into());
        self.sent += 1;
        self.site.send(self.romeo, message);
    }

    /// Romeo sends the next `count` messages to juliet; their ids are consecutive numbers.
    pub fn chat(&mut self, count: u64) {
        for _ in 0..count {
            self.pass(10);
            self.message(Type::Chat, JULIET, "<body>hi</body>");
        }
    }

    /// Juliet binds a resource that takes messages.
    pub fn log_in(&mut self, resource: &str) -> Seat {
        let seat = self.site.bind(JULIET, resource, None);
        self.presence(seat, 0);
        seat
    }

    pub fn presence(&mut self, seat: Seat, priority: i8) {
        let priority = Element::new(ns::CLIENT, "priority").with_text(priority.to_string());
        let payload = Payload::from_elements(&[priority]);
        let presence = Stanza::new(Kind::Presence, Type::Available, payload);
        self.site.send(seat, presence);
    }

    pub fn log_out(&mut self, seat: Seat) {
        self.site.router.session_closed(seat.session);
        self.site.router.out.outputs.close(seat.conn);
    }

    /// The client takes all its output, and answers pings; what comes of that waits for the store.
    pub fn take(&mut self, seat: Seat) -> Vec<(u64, bool)> {
        let text = self.site.take(seat);
        for ask in asks(&text) {
            self.answer(seat, ask);
        }
        messages(&text)
    }

    pub fn answer(&mut self, seat: Seat, ask: &str) {
        let mut answer = Stanza::new(Kind::Iq, Type::Result, Payload::empty());
        answer.to = Some(Jid::parse("example.org").unwrap());
        answer.id = Some(ask.into());
        self.site.send(seat, answer);
    }

    /// Takes the messages that come, page by page, until nothing is left to do.
    pub fn drain(&mut self, seat: Seat) -> Vec<(u64, bool)> {
        let mut all = Vec::new();
        loop {
            self.site.run_store();
            let some = self.take(seat);
            if some.is_empty() && self.site.router.waiting() == 0 {
                return all;
            }
            all.extend(some);
        }
    }

    /// The store refuses all that waits to be written, and answers what is asked.
    pub fn fail_writes(&mut self) {
        let batch = self.batch();
        let error = StoreError::Full;
        self.site
            .router
            .rows_answered(batch.last_row, &Err(error.clone()));
        for (id, _) in batch.changes {
            self.site.router.answered(id, Err(error.clone()));
        }
        self.site.router.work();
    }

    pub fn batch(&mut self) -> Batch {
        let batch = &mut self.site.router.out.batch;
        let next = Batch {
            last_row: batch.last_row,
            ..Batch::default()
        };
        std::mem::replace(batch, next)
    }

    pub fn commit(&mut self, batch: Batch) {
        for (_, answer) in self.site.store.commit(vec![(0, batch)]) {
            let Answer::Committed { last_row, rows, .. } = answer else {
                unreachable!("a batch is answered by its commit");
            };
            self.site.router.rows_answered(last_row, &rows);
        }
        self.site.router.work();
    }

    pub fn held(&self) -> Tally {
        let id = self.account().standing.id().unwrap();
        holding(self.site.store.db(), id).unwrap().tally
    }

    pub fn account(&self) -> &crate::router::account::Account {
        self.site.router.accounts.get(self.juliet).unwrap()
    }

    /// What romeo was answered: the ids of errors, all of which are service-unavailable.
    pub fn refused(&mut self) -> Vec<u64> {
        let text = self.site.take(self.romeo);
        let errors = text.matches("<service-unavailable ").count();
        let ids: Vec<u64> = ids(&text).collect();
        assert_eq!(ids.len(), errors, "{text}");
        ids
    }
}

/// Loads juliet's account, as a login does.
fn load(site: &mut Site) -> Key {
    let jid = BareJid::parse(JULIET).unwrap();
    let conn = crate::slots::Slots::default().insert(());
    site.router.admit(conn, &jid, Proof::Certificate);
    site.run_store();
    assert_eq!(site.router.out.admitted.pop(), Some((conn, Ok(()))));
    site.router.admission_ended(conn, &jid);
    site.router.accounts.find(JULIET).unwrap()
}

fn ids(text: &str) -> impl Iterator<Item = u64> {
    text.split("<message ").skip(1).map(|rest| {
        let (_, rest) = rest.split_once("id='").unwrap();
        rest.split_once('\'').unwrap().0.parse().unwrap()
    })
}

/// The ids of the server's pings.
pub(super) fn asks(text: &str) -> Vec<&str> {
    let parts = text.split("<iq ").skip(1);
    let pings = parts.filter(|part| part.contains("<ping xmlns='urn:xmpp:ping'/>"));
    pings
        .map(|part| {
            part.split_once("id='")
                .unwrap()
                .1
                .split_once('\'')
                .unwrap()
                .0
        })
        .collect()
}

/// The ids of messages, and whether each is marked as delayed by our domain.
pub(super) fn messages(text: &str) -> Vec<(u64, bool)> {
    let delay = "<delay xmlns='urn:xmpp:delay' from='example.org' ";
    let parts = text.split("<message ").skip(1);
    ids(text)
        .zip(parts.map(|part| part.contains(delay)))
        .collect()
}

fn numbers(range: std::ops::Range<u64>, is_delayed: bool) -> Vec<(u64, bool)> {
    range.map(|number| (number, is_delayed)).collect()
}

/// XEP-0160 §3, XEP-0334 §4, RFC 6121 §8.5.2.2.1.
#[test]
fn what_is_stored_and_what_comes_back() {
    const BODY: &str = "<body>hi</body>";
    const STATE: &str = "<active xmlns='http://jabber.org/protocol/chatstates'/>";
    const RECEIPT: &str = "<received xmlns='urn:xmpp:receipts' id='1'/>";
    const THREAD: &str = "<thread>t</thread>";
    const ORIGIN: &str = "<origin-id xmlns='urn:xmpp:sid:0' id='1'/>";
    const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
    const NO_PERMANENT: &str = "<no-permanent-store xmlns='urn:xmpp:hints'/>";
    const STORE: &str = "<store xmlns='urn:xmpp:hints'/>";
    let (stored, refused, ignored) = (Some(true), Some(false), None);
    for (type_, payload, expected) in [
        (Type::Normal, vec![BODY], stored),
        (Type::Chat, vec![BODY], stored),
        (Type::Groupchat, vec![BODY], refused),
        (Type::Headline, vec![BODY], ignored),
        (Type::Error, vec![BODY], ignored),
        (Type::Normal, vec![], stored),
        (Type::Chat, vec![], stored),
        (Type::Normal, vec![RECEIPT], stored),
        (Type::Chat, vec![RECEIPT], stored),
        (Type::Chat, vec![STATE], refused),
        (Type::Normal, vec![STATE], refused),
        (
            Type::Chat,
            vec![STATE, THREAD, ORIGIN, NO_PERMANENT],
            refused,
        ),
        (Type::Chat, vec![STATE, BODY], stored),
        (Type::Chat, vec![RECEIPT, STATE], stored),
        (Type::Chat, vec![THREAD], stored),
        (Type::Chat, vec![BODY, NO_STORE], refused),
        (Type::Chat, vec![BODY, NO_STORE, STORE], refused),
        (Type::Chat, vec![BODY, NO_PERMANENT], stored),
        (Type::Chat, vec![STATE, STORE], stored),
        (Type::Headline, vec![BODY, STORE], ignored),
        (Type::Groupchat, vec![BODY, STORE], refused),
    ] {
        let mut house = House::new();
        house.message(type_, JULIET, &payload.concat());
        house.site.run_store();
        let is_stored = house.held().messages == 1;
        let found = match house.refused().len() {
            1 => refused,
            _ if is_stored => stored,
            _ => ignored,
        };
        assert_eq!(found, expected, "{type_:?} {payload:?}");
        assert_eq!(is_stored, expected == stored);
        assert_eq!(house.site.open(house.romeo), 0);
    }
}

/// XEP-0160 §2: who is there, but takes no messages, gets them later. XEP-0203 §2: with their time.
#[test]
fn messages_wait_for_a_session_that_takes_messages() {
    let mut house = House::new();
    let balcony = house.site.bind(JULIET, "balcony", None);
    house.presence(balcony, -1);
    house.chat(2);
    house.message(Type::Chat, "juliet@example.org/gone", "<body>to you</body>");
    house.site.run_store();
    house.site.take(balcony);
    assert_eq!(house.held().messages, 3);
    house.pass(60_000_000);
    house.presence(balcony, 1);
    house.site.run_store();
    let text = house.site.take(balcony);
    let delay = |stamp: &str| {
        format!("<delay xmlns='urn:xmpp:delay' from='example.org' stamp='{stamp}'/></message>")
    };
    assert!(text.contains(&delay("1970-01-01T00:00:01.000Z")), "{text}");
    assert!(text.contains("to='juliet@example.org' "), "{text}");
    assert!(text.contains("to='juliet@example.org/gone' "), "{text}");
    assert_eq!(messages(&text), numbers(0..3, true));
}

/// `Stored before shown` in lib.rs: what only the socket has taken is still there, since nobody
/// knows who has it.
#[test]
fn a_page_is_deleted_when_the_client_has_proven_that_it_got_it() {
    let mut house = House::new();
    house.chat(3);
    let balcony = house.log_in("balcony");
    house.site.run_store();
    assert_eq!(messages(&house.site.take(balcony)), numbers(0..3, true));
    house.log_out(balcony);
    house.site.run_store();
    assert_eq!(house.held().messages, 3, "nobody said that they came");
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(0..3, true));
    assert_eq!(house.held(), Tally::default());
    assert!(house.account().offline.is_idle());
    let orchard = house.log_in("orchard");
    assert_eq!(house.drain(orchard), []);
}

/// RFC 6120 §8.2.3: a client that knows no ping answers with an error, behind what it has read.
#[test]
fn an_error_proves_as_much_as_a_result() {
    let mut house = House::new();
    house.chat(3);
    let balcony = house.log_in("balcony");
    house.site.run_store();
    let text = house.site.take(balcony);
    let mut answer = Stanza::new(Kind::Iq, Type::Error, Payload::empty());
    answer.to = Some(Jid::parse("example.org").unwrap());
    answer.id = Some(asks(&text)[0].into());
    house.site.send(balcony, answer);
    house.site.run_store();
    assert_eq!(house.held(), Tally::default());
}

/// RFC 6120 §4.4: who closes the stream reads until the other end is closed as well.
#[test]
fn who_closes_the_stream_in_an_orderly_way_has_got_the_page() {
    let mut house = House::new();
    house.chat(60);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.site.run_store();
    assert_eq!(messages(&house.site.take(balcony)), numbers(0..50, true));
    let closed = SessionEvent::Closed;
    house.site.router.session_event(closed, balcony.session);
    house.log_out(balcony);
    house.site.run_store();
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(50..60, true));
}

/// A page is asked about once, whatever its session does meanwhile.
#[test]
fn a_session_that_has_not_answered_gets_nothing_twice() {
    let mut house = House::new();
    house.chat(2);
    let balcony = house.log_in("balcony");
    house.site.run_store();
    let first = house.site.take(balcony);
    assert_eq!(messages(&first), numbers(0..2, true));
    for priority in [-1, 0, -1, 0] {
        house.presence(balcony, priority);
        house.site.run_store();
        let more = house.site.take(balcony);
        assert_eq!((messages(&more), asks(&more)), (vec![], vec![]));
    }
    assert_eq!(house.held().messages, 2);
    house.answer(balcony, asks(&first)[0]);
    house.site.run_store();
    assert_eq!(house.held(), Tally::default());
}

/// A client that leaves everything unanswered is asked no more, and gets nothing that is stored.
#[test]
fn who_answers_nothing_gets_what_is_live_and_leaves_what_is_stored() {
    let mut house = House::new();
    house.chat(2);
    let balcony = house.site.bind(JULIET, "balcony", None);
    for _ in 0..ASKED_MAX {
        let question = Payload::from_elements(&[Element::new("urn:example:question", "q")]);
        let then = Box::new(|_: &mut Router, _: Key, _: &Stanza| ());
        house.site.router.ask(balcony.session, question, then);
    }
    house.presence(balcony, 0);
    house.site.run_store();
    assert_eq!(messages(&house.site.take(balcony)), []);
    house.chat(1);
    house.site.run_store();
    assert_eq!(messages(&house.site.take(balcony)), numbers(2..3, false));
    house.log_out(balcony);
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(0..2, true));
}

/// A slow reader costs a page of memory, and a turn no more than a page.
#[test]
fn thousands_of_messages_come_a_page_at_a_time() {
    let mut house = House::new();
    for _ in 0..10 {
        house.chat(250);
        house.site.run_store();
    }
    let balcony = house.log_in("balcony");
    let mut all = Vec::new();
    loop {
        house.site.run_store();
        let page = house.take(balcony);
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= OFFLINE_PAGE_MESSAGES_MAX);
        all.extend(page);
    }
    assert_eq!(all, numbers(0..2500, true));
    assert_eq!(house.held(), Tally::default());
}

#[test]
fn large_messages_come_a_few_at_a_time() {
    let mut house = House::new();
    let body = format!("<body>{}</body>", "x".repeat(30_000));
    for _ in 0..5 {
        house.message(Type::Chat, JULIET, &body);
    }
    house.message(
        Type::Chat,
        JULIET,
        &format!("<body>{}</body>", "y".repeat(200_000)),
    );
    house.site.run_store();
    let balcony = house.log_in("balcony");
    let mut pages = Vec::new();
    loop {
        house.site.run_store();
        let bytes = house.site.router.out.outputs.len(balcony.conn) as u64;
        let page = house.take(balcony);
        if page.is_empty() {
            break;
        }
        assert!(page.len() == 1 || bytes < OFFLINE_PAGE_BYTES_MAX + 1000);
        pages.push(page.len());
    }
    assert_eq!(pages, [2, 2, 1, 1]);
}

/// XEP-0160 §2: `service-unavailable` when the queue is full.
#[test]
fn more_than_the_quota_comes_back() {
    let mut house = House::new();
    let mut settings = (*house.site.router.settings).clone();
    settings.limits.offline_messages_max = 3;
    settings.limits.offline_bytes_max = 10_000;
    house.site.router.settings = std::sync::Arc::new(settings);
    house.chat(5);
    assert_eq!(house.refused(), [3, 4], "those on their way count, too");
    house.site.run_store();
    assert_eq!(house.held().messages, 3);
    let balcony = house.log_in("balcony");
    assert_eq!(house.drain(balcony).len(), 3);
    house.log_out(balcony);
    house.message(
        Type::Chat,
        JULIET,
        &format!("<body>{}</body>", "x".repeat(9_000)),
    );
    house.message(
        Type::Chat,
        JULIET,
        &format!("<body>{}</body>", "x".repeat(1_000)),
    );
    house.message(Type::Chat, JULIET, "<body>small</body>");
    assert_eq!(house.refused(), [6]);
    house.site.run_store();
    assert_eq!(house.account().offline.waiting(), house.held());
}

#[test]
fn commits_that_fail_leave_no_trace_in_the_count() {
    let mut house = House::new();
    house.chat(4);
    house.fail_writes();
    let answer = house.site.take(house.romeo);
    assert_eq!(answer.matches("<resource-constraint ").count(), 4);
    assert_eq!(house.account().offline.waiting(), Tally::default());
    assert!(house.account().offline.is_idle());
    house.chat(2);
    house.site.run_store();
    assert_eq!(house.account().offline.waiting(), house.held());
    assert_eq!(house.held().messages, 2);
    assert_eq!(house.site.open(house.romeo), 0);
}

#[test]
fn a_deletion_that_fails_is_made_up_for_and_nothing_comes_twice() {
    let mut house = House::new();
    house.chat(2);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.site.run_store();
    assert_eq!(house.take(balcony).len(), 2);
    house.fail_writes();
    house.log_out(balcony);
    house.fail_writes();
    assert_eq!(house.held().messages, 2, "still in the store");
    assert_eq!(house.account().offline.waiting(), Tally::default());
    house.chat(1);
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(2..3, true));
    assert_eq!(house.held(), Tally::default());
}

/// `Features` in lib.rs: live messages wait behind stored ones.
#[test]
fn nothing_overtakes_while_there_is_more_than_a_page() {
    let mut house = House::new();
    house.chat(70);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.chat(10);
    house.site.run_store();
    house.chat(10);
    // Some are on their way to the store when the first page has been taken. The rest is one page.
    let mut all = house.take(balcony);
    assert_eq!(all.len(), OFFLINE_PAGE_MESSAGES_MAX);
    house.chat(10);
    all.extend(house.drain(balcony));
    house.chat(10);
    all.extend(house.take(balcony));
    let mut expected = numbers(0..90, true);
    expected.extend(numbers(90..110, false));
    assert_eq!(all, expected);
}

/// The last page is in the output: what comes now comes behind it, without the store.
#[test]
fn messages_are_live_again_when_the_last_page_is_in_the_output() {
    let mut house = House::new();
    house.chat(3);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    assert!(house.account().is_busy(), "the last page is being read");
    house.chat(2);
    assert_eq!(house.account().inbox.len(), 2);
    house.site.run_store();
    house.chat(2);
    assert_eq!(house.held().messages, 3, "no more were stored");
    let mut expected = numbers(0..3, true);
    expected.extend(numbers(3..7, false));
    assert_eq!(house.take(balcony), expected);
}

/// A burst that is longer than the inbox comes back to nobody.
#[test]
fn more_than_the_inbox_holds_is_stored_behind_the_last_page() {
    let mut house = House::new();
    house.chat(3);
    let balcony = house.log_in("balcony");
    assert!(house.account().is_busy());
    house.chat(INBOX_STANZAS_MAX as u64 + 10);
    assert_eq!(house.account().inbox.len(), 0);
    assert!(house.refused().is_empty());
    let all = house.drain(balcony);
    assert_eq!(all, numbers(0..INBOX_STANZAS_MAX as u64 + 13, true));
    house.site.run_store();
    let batch = house.batch();
    house.commit(batch);
    house.log_out(balcony);
    house.chat(3);
    house.site.run_store();
    house.log_in("chamber");
    assert_eq!(
        house.site.router.out.reads.len(),
        1,
        "the page is being read"
    );
    house.chat(INBOX_STANZAS_MAX as u64 + 10);
    assert!(house.refused().is_empty());
    house.site.run_store();
}

/// Messages on their way to the store at login come first, too.
#[test]
fn a_login_waits_for_messages_whose_commit_is_under_way() {
    let mut house = House::new();
    house.chat(2);
    let balcony = house.log_in("balcony");
    house.chat(1);
    let mut expected = numbers(0..2, true);
    expected.push((2, false));
    assert_eq!(house.drain(balcony), expected);
}

#[test]
fn a_second_resource_gets_what_came_since_and_nothing_twice() {
    let mut house = House::new();
    house.chat(80);
    house.site.run_store();
    let first = house.log_in("first");
    house.site.run_store();
    house.chat(1);
    let second = house.log_in("second");
    house.chat(2);
    house.site.run_store();
    assert_eq!(
        house.take(second),
        numbers(81..83, false),
        "though the first is slow"
    );
    house.chat(1);
    let mut all = house.take(first);
    all.extend(house.drain(first));
    assert_eq!(all, numbers(0..84, true));
    assert_eq!(house.drain(second), numbers(83..84, false));
    house.chat(1);
    assert_eq!(house.take(first), numbers(84..85, false));
    assert_eq!(house.take(second), numbers(84..85, false));
}

#[test]
fn another_session_goes_on_where_one_has_ended_without_what_it_has() {
    let mut house = House::new();
    house.chat(130);
    house.site.run_store();
    let first = house.log_in("first");
    house.site.run_store();
    assert_eq!(house.take(first).len(), 50);
    house.site.run_store();
    let second = house.log_in("second");
    house.chat(2);
    house.site.run_store();
    house.chat(1);
    house.log_out(first);
    let all = house.drain(second);
    let mut expected = numbers(130..132, false);
    expected.extend(numbers(50..130, true));
    expected.push((132, true));
    assert_eq!(all, expected);
    assert_eq!(house.held(), Tally::default());
}

/// Also if it takes no messages for a while in between.
#[test]
fn a_session_that_takes_over_after_a_pause_gets_what_it_has_missed_and_nothing_twice() {
    let mut house = House::new();
    house.chat(130);
    house.site.run_store();
    let first = house.log_in("first");
    house.site.run_store();
    assert_eq!(house.take(first).len(), 50);
    house.site.run_store();
    let second = house.log_in("second");
    house.chat(2);
    house.site.run_store();
    house.presence(second, -1);
    house.chat(2);
    house.site.run_store();
    house.presence(second, 0);
    house.chat(2);
    house.site.run_store();
    let mut live = numbers(130..132, false);
    live.extend(numbers(134..136, false));
    assert_eq!(house.take(second), live);
    house.log_out(first);
    let mut stored = numbers(50..130, true);
    stored.extend(numbers(132..134, true));
    assert_eq!(house.drain(second), stored);
    assert_eq!(house.held(), Tally::default());
}

#[test]
fn a_session_that_turns_negative_is_flushed_no_further() {
    let mut house = House::new();
    house.chat(80);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.site.run_store();
    house.presence(balcony, -5);
    assert_eq!(house.drain(balcony), numbers(0..50, true));
    assert_eq!(house.held().messages, 30);
    assert!(house.account().offline.is_idle());
    house.presence(balcony, 0);
    assert_eq!(house.drain(balcony), numbers(50..80, true));
}

/// XEP-0203 §5.
#[test]
fn a_delay_that_claims_to_be_ours_is_dropped_and_others_are_not() {
    let mut house = House::new();
    let balcony = house.site.bind(JULIET, "balcony", None);
    let delay =
        |from: &str| format!("<delay xmlns='urn:xmpp:delay' {from} stamp='2002-09-10T23:08:25Z'/>");
    let (ours, also) = (delay("from='example.org'"), delay("from='Example.ORG'"));
    let (room, none) = (delay("from='coven@chat.example'"), delay(""));
    let payload = format!("{ours}<body>a</body>{room}{also}{none}");
    house.message(Type::Chat, "juliet@example.org/balcony", &payload);
    let text = house.site.take(balcony);
    assert!(
        text.contains(&format!("<body>a</body>{room}{none}</message>")),
        "{text}"
    );
    house.message(Type::Chat, JULIET, &payload);
    house.site.run_store();
    house.presence(balcony, 0);
    house.site.run_store();
    let text = house.site.take(balcony);
    let stored =
        format!("<body>a</body>{room}{none}<delay xmlns='urn:xmpp:delay' from='example.org'");
    assert!(text.contains(&stored), "{text}");
    assert_eq!(text.matches("from='example.org' stamp").count(), 1);
}

#[test]
fn a_loaded_account_knows_what_is_stored_for_it() {
    let mut house = House::new();
    house.chat(3);
    house.site.run_store();
    let before = house.account().offline.waiting();
    house.site.router.accounts.remove(house.juliet);
    house.juliet = load(&mut house.site);
    assert_eq!(house.account().offline.waiting(), before);
    // Also if the clock has gone back meanwhile.
    house.site.router.now = Now::default();
    house.chat(1);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    assert_eq!(house.drain(balcony), numbers(0..4, true));
}

/// An account that is on its way to or from the store is not forgotten, since a load would count wrong.
#[test]
fn an_account_with_writes_under_way_stays_in_memory() {
    let mut house = House::new();
    house.chat(1);
    let is_kept = |house: &mut House| {
        let juliet = house.juliet;
        house.pass(3_600_000_000);
        house
            .site
            .router
            .accounts
            .mark_idle(juliet, Mono::default());
        house.site.router.work();
        house.site.router.accounts.get(juliet).is_some()
    };
    assert!(is_kept(&mut house));
    house.site.run_store();
    assert!(!is_kept(&mut house));
}

#[test]
fn a_new_account_of_the_same_name_has_nothing_of_the_old_one() {
    let mut house = House::new();
    house.chat(3);
    house.site.run_store();
    let jid = BareJid::parse(JULIET).unwrap();
    let command =
        |apply: fn(&Db) -> Result<(), StoreError>| crate::router::commands::AccountCommand {
            apply: Box::new(apply),
            ends_sessions: None,
        };
    let delete = command(|db| accounts::delete(db, &BareJid::parse(JULIET).unwrap()));
    let create = command(|db| {
        let jid = BareJid::parse(JULIET).unwrap();
        let credentials = crate::sasl::Credentials::default();
        accounts::create(db, &jid, &credentials, Wall::default()).map(drop)
    });
    for command in [delete, create] {
        let reply = Box::new(|result: Result<u64, StoreError>| assert!(result.is_ok()));
        house.site.router.command(&jid, command, reply);
        house.site.run_store();
        assert_eq!(house.account().offline.waiting(), Tally::default());
    }
    house.chat(1);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    assert_eq!(house.drain(balcony), numbers(3..4, true));
}

/// XEP-0175 §3: nobody will ever log in to it again.
#[test]
fn nothing_is_stored_for_an_anonymous_account() {
    let mut house = House::new();
    house.site.account("ghost@example.org", Standing::Anonymous);
    house.message(Type::Chat, "ghost@example.org", "<body>boo</body>");
    assert_eq!(house.refused(), [0]);
    let mut disabled = record(false);
    disabled.id = 77;
    house
        .site
        .account("off@example.org", Standing::Known(disabled));
    house.message(Type::Chat, "off@example.org", "<body>hi</body>");
    assert_eq!(house.refused(), [1]);
    assert!(house.batch().rows.is_empty());
}

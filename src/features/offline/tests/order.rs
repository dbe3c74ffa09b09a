//! RFC 6120 §10.1: what is not stored does not overtake what its sender has said before.

use super::*;

const STATE: &str = "<gone xmlns='http://jabber.org/protocol/chatstates'/>";
const BODY: &str = "<body>hi</body>";

impl House {
    /// Somebody else sends juliet what is never stored.
    fn headline_of_another(&mut self) {
        let romeo = self.romeo;
        self.romeo = self.site.bind("nurse@example.org", "hall", None);
        self.message(Type::Headline, JULIET, BODY);
        self.romeo = romeo;
    }
}

/// 120 messages are stored, and a session has come for them.
fn flushing(resource: &str) -> (House, Seat) {
    let mut house = House::new();
    house.chat(120);
    house.site.run_store();
    let seat = house.log_in(resource);
    house.site.run_store();
    (house, seat)
}

/// Found by the simulator, which had an excuse for it.
#[test]
fn what_is_not_stored_comes_behind_what_is_stored_of_the_same_sender() {
    for (type_, to, payload) in [
        (Type::Headline, JULIET, BODY),
        (Type::Chat, JULIET, STATE),
        (Type::Headline, "juliet@example.org/balcony", BODY),
        (Type::Chat, "juliet@example.org/balcony", BODY),
    ] {
        let (mut house, balcony) = flushing("balcony");
        house.message(type_, to, payload);
        house.chat(1);
        house.message(type_, to, payload);
        let mut expected = numbers(0..120, true);
        expected.extend([(120, false), (121, true), (122, false)]);
        let all = house.drain(balcony);
        assert_eq!(all, expected, "{type_:?} {to} {payload}");
        assert!(house.refused().is_empty());
        assert_eq!(house.site.open(house.romeo), 0);
    }
}

#[test]
fn what_others_send_does_not_wait() {
    let (mut house, balcony) = flushing("balcony");
    house.headline_of_another();
    assert_eq!(house.take(balcony).last(), Some(&(120, false)));
}

/// The session that is not flushed to gets messages after their commit.
#[test]
fn a_second_resource_gets_it_behind_the_commit_and_no_later() {
    let (mut house, first) = flushing("first");
    let second = house.log_in("second");
    house.message(Type::Headline, JULIET, BODY);
    assert_eq!(
        house.take(second),
        numbers(120..121, false),
        "its own are committed"
    );
    house.chat(1);
    house.message(Type::Headline, JULIET, BODY);
    house.message(Type::Chat, "juliet@example.org/second", BODY);
    assert_eq!(house.take(second), [], "its commit is under way");
    house.site.run_store();
    assert_eq!(
        house.take(second),
        numbers(121..124, false),
        "the first is slow"
    );
    house.chat(1);
    house.message(Type::Headline, JULIET, BODY);
    house.fail_writes();
    assert_eq!(
        house.take(second),
        numbers(125..126, false),
        "124 came back"
    );
    house.site.take(house.romeo);
    let late = |number| number < 120 || number == 121;
    let of_first = [0..120, 120..123, 125..126];
    let expected: Vec<(u64, bool)> = of_first
        .into_iter()
        .flatten()
        .map(|n| (n, late(n)))
        .collect();
    assert_eq!(house.drain(first), expected);
}

/// What was sent to the account is lost with the session, as what is in its output.
#[test]
fn what_waits_for_a_session_that_ends_goes_where_it_would_go_without_it() {
    let (mut house, first) = flushing("first");
    house.message(Type::Headline, JULIET, BODY);
    house.message(Type::Chat, "juliet@example.org/first", BODY);
    house.message(Type::Normal, "juliet@example.org/first", BODY);
    house.log_out(first);
    house.site.router.work();
    assert_eq!(house.refused(), [122], "RFC 6121 §8.5.3.2.1");
    house.site.run_store();
    let second = house.log_in("second");
    let mut expected = numbers(0..120, true);
    expected.push((121, true));
    assert_eq!(house.drain(second), expected);
}

/// RFC 6120 §4.4: when a client that closes its stream is known to have its page, our end of the stream is
/// written. Found by the simulator: what waited for it was written behind that, and lost.
#[test]
fn what_waits_for_a_client_that_closes_its_stream_is_not_written_behind_our_end() {
    let mut house = House::new();
    house.chat(50);
    house.site.run_store();
    house.chat(1);
    // The page is not the last one, until the message behind it could not be stored.
    let balcony = house.log_in("balcony");
    let behind = house.batch();
    let (id, _, read) = house.site.router.out.reads.remove(0);
    let page = house.site.store.read(read);
    house.site.router.answered(id, page);
    assert_eq!(messages(&house.site.take(balcony)), numbers(0..50, true));
    house.message(Type::Chat, "juliet@example.org/balcony", BODY);
    let full = Err(StoreError::Full);
    house.site.router.rows_answered(behind.last_row, &full);
    house.site.router.work();
    let closed = SessionEvent::Closed;
    house.site.router.session_event(closed, balcony.session);
    house.site.router.session_closed(balcony.session);
    house.site.router.work();
    assert_eq!(house.site.take(balcony), "");
    house.site.take(house.romeo);
    house.site.run_store();
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(51..52, true));
    assert!(house.account().offline.is_idle());
}

/// Found by the simulator: a request that waited was never answered when the account was deleted.
#[test]
fn what_waits_for_a_session_of_a_deleted_account_comes_back() {
    let (mut house, balcony) = flushing("balcony");
    house.message(Type::Headline, JULIET, BODY);
    house.message(Type::Normal, "juliet@example.org/balcony", BODY);
    let jid = BareJid::parse(JULIET).unwrap();
    let of = jid.clone();
    let delete = crate::router::commands::AccountCommand {
        apply: Box::new(move |db| accounts::delete(db, &of)),
        ends_sessions: Some(crate::stanza::StreamError::new(
            crate::stanza::StreamCondition::NotAuthorized,
            "deleted",
        )),
    };
    let reply = Box::new(|result: Result<u64, StoreError>| assert_eq!(result.ok(), Some(1)));
    house.site.router.command(&jid, delete, reply);
    house.site.run_store();
    house.site.router.work();
    assert_eq!(house.refused(), [121], "RFC 6121 §8.5.1");
    assert_eq!(numbers(0..50, true), house.take(balcony));
}

/// A session that takes no messages any more gets what was sent to it alone.
#[test]
fn a_session_that_turns_negative_gets_what_was_sent_to_it() {
    let (mut house, balcony) = flushing("balcony");
    house.message(Type::Headline, JULIET, BODY);
    house.message(Type::Chat, "juliet@example.org/balcony", BODY);
    house.presence(balcony, -1);
    house.message(Type::Chat, "juliet@example.org/balcony", BODY);
    let mut expected = numbers(0..50, true);
    expected.extend(numbers(121..123, false));
    assert_eq!(house.drain(balcony), expected);
    house.presence(balcony, 0);
    assert_eq!(house.drain(balcony), numbers(50..120, true));
}

#[test]
fn more_than_can_wait_comes_back() {
    let (mut house, balcony) = flushing("balcony");
    for _ in 0..=OFFLINE_HELD_STANZAS_MAX {
        house.message(Type::Headline, JULIET, BODY);
    }
    let text = house.site.take(house.romeo);
    assert_eq!(text.matches("<resource-constraint ").count(), 1, "{text}");
    let large = format!("<body>{}</body>", "x".repeat(300_000));
    assert_eq!(house.drain(balcony).len(), 120 + OFFLINE_HELD_STANZAS_MAX);
    house.message(Type::Headline, JULIET, &large);
    assert!(house.refused().is_empty(), "nothing waits any more");
}

/// With more senders than are told apart, nobody's message overtakes.
#[test]
fn a_sender_among_many_does_not_overtake_itself() {
    let mut house = House::new();
    house.chat(60);
    let romeo = house.romeo;
    for number in 0..100 {
        house.romeo = house
            .site
            .bind(&format!("u{number}@example.org"), "r", None);
        house.chat(1);
    }
    house.romeo = romeo;
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.site.run_store();
    house.message(Type::Headline, JULIET, BODY);
    house.headline_of_another();
    let all = house.drain(balcony);
    let place = |number| all.iter().position(|(n, _)| *n == number).unwrap();
    assert_eq!(all.len(), 162);
    assert!(place(160) > place(59) && place(161) > place(59), "{all:?}");
    assert!(place(160) < 161, "it does not wait for all");
}

use super::*;
use crate::limits::LATER_MAX;
use crate::router::feature::{Feature, IqRoute, Spec, value};
use crate::router::testing::{Seat, Site};
use crate::stanza::StanzaError;
use crate::xml::Element;

const NS: &str = "urn:example:test";

fn then() -> ThenFn {
    Box::new(|_, _, result| match result {
        Ok(_) => Ok(Payload::from_elements(&[Element::new(NS, "done")])),
        Err(_) => Err(StanzaError::new(Condition::InternalServerError)),
    })
}

fn now(_: &IqContext<'_>) -> Answer {
    Answer::Now(Payload::from_elements(&[Element::new(NS, "done")]))
}

fn later(_: &IqContext<'_>) -> Answer {
    Answer::Later(Box::new(|_| Ok(value(()))), then())
}

fn change(_: &IqContext<'_>) -> Answer {
    Answer::Change(Box::new(|_| Ok(value(()))), then())
}

fn refuse(_: &IqContext<'_>) -> Answer {
    Answer::Error(StanzaError::new(Condition::NotAllowed))
}

const fn route(
    target: Target,
    name: &'static str,
    handler: crate::router::feature::IqHandler,
) -> IqRoute {
    IqRoute {
        target,
        type_: Type::Set,
        ns: NS,
        name,
        handler,
    }
}

static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "none",
        version: "",
    }],
    iq: &[
        route(Target::Domain, "now", now),
        route(Target::OwnAccount, "now", now),
        route(Target::Account, "later", later),
        route(Target::OwnAccount, "change", change),
        route(Target::OwnAccount, "refuse", refuse),
        route(Target::Account, "change", change),
    ],
    ..Feature::named("test")
};

static FEATURES: &[&Feature] = &[&FEATURE];

fn site() -> (Site, Seat) {
    let mut site = Site::new(FEATURES);
    let seat = site.bind("juliet@example.org", "balcony", Some(0));
    (site, seat)
}

fn request(name: &str, id: &str, to: Option<&str>) -> Stanza {
    let payload = Payload::from_elements(&[Element::new(NS, name)]);
    let mut stanza = Stanza::new(Kind::Iq, Type::Set, payload);
    stanza.id = Some(id.into());
    stanza.to = to.map(|to| Jid::parse(to).unwrap());
    stanza
}

fn holds(site: &Site, seat: Seat) -> bool {
    site.router.holds_reading(seat.session)
}

#[test]
fn what_is_known_is_answered_at_once() {
    let (mut site, juliet) = site();
    for to in [None, Some("juliet@example.org"), Some("example.org")] {
        site.send(juliet, request("now", "1", to));
        let reply = site.take(juliet);
        assert!(reply.contains("id='1' type='result'><done"), "{reply}");
        assert_eq!(site.open(juliet), 0);
    }
}

/// RFC 6120 §13.11: for others the account's own requests are not there.
#[test]
fn only_the_account_itself_reaches_what_is_its_own() {
    let (mut site, juliet) = site();
    let romeo = site.bind("romeo@example.org", "orchard", None);
    site.send(romeo, request("now", "1", Some("juliet@example.org")));
    site.run_store();
    assert!(site.take(romeo).contains("<service-unavailable "));
    assert_eq!(site.take(juliet), "");
}

#[test]
fn a_refusal_is_an_error_reply() {
    let (mut site, juliet) = site();
    site.send(juliet, request("refuse", "1", None));
    let reply = site.take(juliet);
    assert!(reply.contains("id='1' type='error'"), "{reply}");
    assert!(reply.contains("<not-allowed "), "{reply}");
    assert_eq!(site.open(juliet), 0);
}

/// RFC 6120 §10.1: the readers are several, and would answer in any order.
#[test]
fn a_read_is_answered_later_and_suspends_its_own_stream_alone() {
    let (mut site, juliet) = site();
    let phone = site.bind("juliet@example.org", "phone", Some(0));
    let romeo = site.bind("romeo@example.org", "orchard", Some(0));
    site.send(juliet, request("later", "1", None));
    assert_eq!(site.open(juliet), 1);
    assert!(holds(&site, juliet), "what it sends next waits");
    site.send(phone, request("now", "2", None));
    assert!(site.take(phone).contains("id='2'"), "nobody else waits");
    site.answer_read(Ok(value(())));
    assert!(site.take(juliet).contains("id='1' type='result'"));
    assert!(!holds(&site, juliet));
    assert!(site.router.out.resumed.contains(&juliet.conn));
    assert_eq!(site.open(juliet), 0);
    site.send(romeo, request("later", "1", Some("juliet@example.org")));
    assert!(!holds(&site, romeo) && !holds(&site, juliet));
    site.answer_read(Ok(value(())));
    assert!(site.take(romeo).contains("id='1' type='result'"));
    site.send(juliet, request("later", "3", None));
    site.answer_read(Err(StoreError::Stopped));
    assert!(site.take(juliet).contains("<internal-server-error "));
    assert_eq!(site.open(juliet), 0);
}

#[test]
fn more_reads_than_allowed_are_refused() {
    let (mut site, juliet) = site();
    for _ in 0..LATER_MAX {
        site.send(juliet, request("later", "1", None));
    }
    assert_eq!(site.take(juliet), "");
    site.send(juliet, request("later", "2", None));
    assert!(site.take(juliet).contains("<resource-constraint "));
    for _ in 0..LATER_MAX {
        site.answer_read(Ok(value(())));
    }
    site.take(juliet);
    site.send(juliet, request("later", "3", None));
    assert_eq!(site.router.out.reads.len(), 1, "and let in again");
    site.answer_read(Ok(value(())));
}

/// All contacts of somebody with a new picture ask for it at once (XEP-0153 §3.2).
#[test]
fn hundreds_ask_the_same_account_at_once() {
    let (mut site, _juliet) = site();
    let seats: Vec<Seat> = (0..10 * LATER_MAX)
        .map(|n| site.bind(&format!("user{n}@example.org"), "home", None))
        .collect();
    for seat in &seats {
        site.send(*seat, request("later", "1", Some("juliet@example.org")));
    }
    site.run_store();
    for seat in seats {
        let reply = site.take(seat);
        assert!(reply.contains("type='result'><done"), "{reply}");
        assert_eq!(site.open(seat), 0);
    }
}

/// `Commit first` in lib.rs, RFC 6120 §10.1.
#[test]
fn a_change_suspends_its_stream_and_makes_others_wait_until_its_commit() {
    let (mut site, juliet) = site();
    let phone = site.bind("juliet@example.org", "phone", Some(0));
    let romeo = site.bind("romeo@example.org", "orchard", None);
    site.send(juliet, request("change", "1", None));
    assert!(holds(&site, juliet), "the stream that asked is suspended");
    assert!(!holds(&site, phone), "the account's others are not");
    for body in ["one", "two"] {
        let payload = Payload::from_elements(&[Element::new("jabber:client", body)]);
        let mut chat = Stanza::new(Kind::Message, Type::Chat, payload);
        chat.to = Some(Jid::parse("juliet@example.org/phone").unwrap());
        site.send(romeo, chat);
    }
    assert_eq!(site.take(phone), "");
    assert_eq!(site.open(romeo), 2);
    site.answer_change(Ok(value(())));
    assert!(!holds(&site, juliet));
    assert!(site.router.out.resumed.contains(&juliet.conn));
    assert!(site.take(juliet).contains("id='1' type='result'><done"));
    let got = site.take(phone);
    let (one, two) = (got.find("<one"), got.find("<two"));
    assert!(one.is_some() && one < two, "{got}");
    assert_eq!((site.open(juliet), site.open(romeo)), (0, 0));
}

#[test]
fn changes_of_one_account_follow_each_other() {
    let (mut site, juliet) = site();
    let phone = site.bind("juliet@example.org", "phone", Some(0));
    site.send(juliet, request("change", "1", None));
    site.send(phone, request("change", "2", None));
    assert_eq!(site.router.out.batch.changes.len(), 1, "the second waits");
    site.answer_change(Ok(value(())));
    assert_eq!(site.router.out.batch.changes.len(), 1);
    assert!(
        site.take(juliet).contains("id='1' type='result'"),
        "at once"
    );
    assert!(holds(&site, phone) && !holds(&site, juliet));
    site.answer_change(Ok(value(())));
    assert!(site.take(phone).contains("id='2' type='result'"));
    assert_eq!((site.open(juliet), site.open(phone)), (0, 0));
}

#[test]
fn a_change_that_fails_is_an_error_and_frees_account_and_stream() {
    let (mut site, juliet) = site();
    site.send(juliet, request("change", "1", None));
    site.answer_change(Err(StoreError::Stopped));
    assert!(site.take(juliet).contains("<internal-server-error "));
    assert!(!holds(&site, juliet));
    site.send(juliet, request("now", "2", None));
    assert!(site.take(juliet).contains("id='2' type='result'"));
}

#[test]
fn a_session_that_ends_during_its_change_harms_nobody() {
    let (mut site, juliet) = site();
    let phone = site.bind("juliet@example.org", "phone", Some(0));
    site.send(juliet, request("change", "1", None));
    site.router.session_closed(juliet.session);
    site.answer_change(Ok(value(())));
    assert!(
        !site.take(phone).contains("<iq"),
        "the result was not for it"
    );
    site.send(phone, request("now", "2", None));
    assert!(site.take(phone).contains("id='2' type='result'"));
}

/// RFC 6120 §13.11: one read, in memory or not, there or not.
#[test]
fn a_stranger_is_answered_after_one_read_whatever_the_name_stands_for() {
    let (mut site, romeo) = site();
    site.create("cold@example.org");
    site.bind("online@example.org", "balcony", Some(0));
    for to in ["cold", "online", "nobody", "nobody", "cold"] {
        site.send(
            romeo,
            request("none", "1", Some(&format!("{to}@example.org"))),
        );
        assert_eq!(site.router.out.reads.len(), 1, "{to}");
        site.run_store();
        assert!(site.take(romeo).contains("<service-unavailable "), "{to}");
    }
    assert_eq!(site.open(romeo), 0);
}

/// RFC 6120 §10.1: a roster get and then initial presence, while another client changes the account.
#[test]
fn what_waits_for_ones_own_account_is_not_overtaken_by_what_one_sends_next() {
    let (mut site, juliet) = site();
    let phone = site.bind("juliet@example.org", "phone", Some(0));
    site.send(phone, request("change", "1", None));
    site.send(juliet, request("now", "2", None));
    assert_eq!(site.take(juliet), "");
    assert!(holds(&site, juliet), "its presence is not read yet");
    site.answer_change(Ok(value(())));
    assert!(site.take(juliet).contains("id='2' type='result'"));
    assert!(!holds(&site, juliet));
    assert!(site.router.out.resumed.contains(&juliet.conn));
    assert_eq!((site.open(juliet), site.open(phone)), (0, 0));
    // It may end meanwhile.
    site.send(phone, request("change", "3", None));
    site.send(juliet, request("now", "4", None));
    site.end(juliet);
    site.answer_change(Ok(value(())));
    assert_eq!(site.open(phone), 0);
}

/// Clients begin to count anew with each stream, so that the successor's own request may have the same
/// id. Found by `tests/simulation.rs`.
#[test]
fn a_successor_on_the_resource_is_told_nothing_of_what_its_predecessor_has_asked() {
    let (mut site, juliet) = site();
    site.send(juliet, request("change", "1", None));
    let other = site.bind("juliet@example.org", "phone", Some(0));
    for name in ["now", "later", "change", "refuse"] {
        // It waits: the account is changing.
        site.send(other, request(name, "2", None));
    }
    let successor = site.bind("juliet@example.org", "phone", Some(0));
    site.run_store();
    assert_eq!(site.take(successor), "");
    assert!(site.take(juliet).contains("id='1' type='result'"));
    site.send(successor, request("now", "2", None));
    assert!(site.take(successor).contains("id='2' type='result'"));
}

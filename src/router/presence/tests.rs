mod remote;

use super::*;
use crate::clock::Now;
use crate::limits::{
    BROADCASTS_MAX, FANOUT_BYTES_TURN, FANOUT_SLICE, FANOUT_TURN, INBOX_STANZAS_MAX,
};
use crate::router::account::Standing;
use crate::router::delivery::Routed;
use crate::router::feature::{Feature, SessionHook};
use crate::router::settlement::Ticket;
use crate::router::testing::{Seat, Site, record, stanza};
use crate::storage::StoreError;
use crate::xml::Element;

const JULIET: &str = "juliet@example.org";
const ROMEO: &str = "romeo@example.org";

fn presence(type_: Type) -> Stanza {
    Stanza::new(Kind::Presence, type_, Payload::empty())
}

fn presence_to(type_: Type, to: &str) -> Stanza {
    stanza(Kind::Presence, type_, Some(to))
}

fn with_child(name: &str, text: &str) -> Stanza {
    let child = Element::new(ns::CLIENT, name).with_text(text);
    Stanza::new(
        Kind::Presence,
        Type::Available,
        Payload::from_elements(&[child]),
    )
}

/// `from` and type of each presence that was written, in order; "" is available.
fn heard(site: &mut Site, seat: Seat) -> Vec<(String, String)> {
    let written = site.take(seat);
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!(" {name}='"))?;
        Some(rest.split_once('\'')?.0.to_owned())
    };
    let tags = written.split("<presence").skip(1);
    tags.map(|tag| tag.split_once('>').unwrap().0)
        .map(|tag| {
            let type_ = attribute(tag, "type").unwrap_or_default();
            (attribute(tag, "from").unwrap(), type_)
        })
        .collect()
}

fn said(from: &str, type_: &str) -> (String, String) {
    (from.to_owned(), type_.to_owned())
}

/// The stanzas that wait to be delivered on this shard.
fn on_their_way(site: &Site) -> Vec<(Type, String)> {
    let work = site.router.out.work.iter();
    work.map(|routed| {
        let to = routed.stanza.to.as_ref().unwrap();
        (routed.stanza.type_, to.as_str().to_owned())
    })
    .collect()
}

/// juliet's presence goes to romeo, his to her.
fn friends() -> Site {
    let mut site = Site::new(&[]);
    let both = State::LISTED.with(State::FROM).with(State::TO);
    site.contact(JULIET, ROMEO, both);
    site.contact(ROMEO, JULIET, both);
    site
}

/// RFC 6121 §4.2.2, §4.3.1.
#[test]
fn initial_presence_goes_to_contacts_and_asks_for_theirs() {
    let mut site = friends();
    for (contact, state) in [
        ("from@example.org", State::FROM),
        ("to@example.org", State::TO),
        ("none@example.org", State::LISTED),
        ("asked@example.org", State::PENDING_OUT),
        ("asks@example.org", State::PENDING_IN),
    ] {
        site.contact(JULIET, contact, state);
    }
    let juliet = site.bind(JULIET, "balcony", None);
    let first = presence(Type::Available);
    site.router.outbound(juliet.session, first, 10).unwrap();
    assert_eq!(
        on_their_way(&site),
        [
            (Type::Available, "from@example.org".to_owned()),
            (Type::Available, ROMEO.to_owned()),
            (Type::Probe, ROMEO.to_owned()),
            (Type::Probe, "to@example.org".to_owned()),
        ]
    );
    site.router.work();
    assert!(site.router.out.reads.is_empty(), "nobody is loaded for it");
    let again = presence(Type::Available);
    site.router.outbound(juliet.session, again, 10).unwrap();
    let types: Vec<Type> = on_their_way(&site)
        .into_iter()
        .map(|(type_, _)| type_)
        .collect();
    assert_eq!(types, [Type::Available; 2], "later presence asks nobody");
    assert_eq!(site.open(juliet), 1);
    site.router.work();
    assert_eq!(site.open(juliet), 0);
}

/// RFC 6121 §4.2.2, §4.3.2, §4.4.2.
#[test]
fn contacts_see_each_other_whoever_comes_first() {
    let mut site = friends();
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, with_child("show", "away"));
    assert_eq!(
        heard(&mut site, juliet),
        [said("juliet@example.org/balcony", "")]
    );
    let orchard = site.bind(ROMEO, "orchard", None);
    site.send(orchard, presence(Type::Available));
    assert_eq!(
        heard(&mut site, juliet),
        [said("romeo@example.org/orchard", "")]
    );
    let written = site.take(orchard);
    let echo = "<presence from='romeo@example.org/orchard' to='romeo@example.org'/>";
    let answer = "<presence from='juliet@example.org/balcony' to='romeo@example.org/orchard'>\
                  <show>away</show><delay xmlns='urn:xmpp:delay'";
    let rest = written.strip_prefix(echo).unwrap();
    assert!(rest.starts_with(answer), "{rest}");
    // A second resource is told of the first one, and of what juliet has said last.
    let garden = site.bind(ROMEO, "garden", None);
    site.send(garden, presence(Type::Available));
    assert_eq!(
        heard(&mut site, garden),
        [
            said("romeo@example.org/garden", ""),
            said("romeo@example.org/orchard", ""),
            said("juliet@example.org/balcony", ""),
        ]
    );
    assert_eq!(
        heard(&mut site, orchard),
        [said("romeo@example.org/garden", "")],
        "what only the new one has asked for"
    );
    site.send(juliet, presence(Type::Available));
    for seat in [orchard, garden] {
        let from = said("juliet@example.org/balcony", "");
        assert_eq!(heard(&mut site, seat), [from]);
    }
}

static EVENTS: Feature = Feature {
    session: &[
        SessionHook {
            event: SessionEvent::Available,
            run: |router, session| mark(router, session, "<!available>"),
        },
        SessionHook {
            event: SessionEvent::TakesMessages,
            run: |router, session| mark(router, session, "<!takes messages>"),
        },
    ],
    ..Feature::named("events")
};

fn mark(router: &mut Router, session: Key, what: &str) {
    let conn = router.sessions.get(session).unwrap().conn;
    let output = router.out.outputs.append(conn).unwrap();
    output.extend_from_slice(what.as_bytes());
}

#[test]
fn features_are_told_after_the_echo_and_once() {
    static FEATURES: [&Feature; 1] = [&EVENTS];
    let mut site = Site::new(&FEATURES);
    let juliet = site.bind(JULIET, "balcony", None);
    let events = |site: &mut Site, stanza: Stanza| -> Vec<String> {
        site.send(juliet, stanza);
        let written = site.take(juliet);
        let tags = written.split('<').skip(1);
        tags.filter(|tag| tag.starts_with(['!', 'p']))
            .map(|tag| tag.split([' ', '>']).next().unwrap().to_owned())
            .collect()
    };
    let low = with_child("priority", "-1");
    assert_eq!(events(&mut site, low)[..2], ["presence", "priority"]);
    let available = presence(Type::Available);
    assert_eq!(events(&mut site, available), ["presence", "!takes"]);
    let available = presence(Type::Available);
    assert_eq!(events(&mut site, available), ["presence"]);
    assert_eq!(events(&mut site, presence(Type::Unavailable)), ["presence"]);
    let available = presence(Type::Available);
    assert_eq!(
        events(&mut site, available),
        ["presence", "!available", "!takes"]
    );
}

/// RFC 6121 §4.5.2.
#[test]
fn unavailable_presence_goes_to_all_who_have_seen_the_resource_and_once() {
    let mut site = friends();
    let romeo = site.bind(ROMEO, "orchard", None);
    let nurse = site.bind("nurse@example.org", "hall", None);
    site.send(romeo, presence(Type::Available));
    site.send(nurse, presence(Type::Available));
    let garden = site.bind(JULIET, "garden", None);
    site.send(garden, presence(Type::Available));
    let balcony = site.bind(JULIET, "balcony", None);
    let begin = |site: &mut Site| {
        site.send(balcony, presence(Type::Available));
        site.send(balcony, presence_to(Type::Available, "nurse@example.org"));
        for seat in [romeo, nurse, garden, balcony] {
            site.take(seat);
        }
    };
    let gone = || [said("juliet@example.org/balcony", "unavailable")];
    begin(&mut site);
    let mut leaving = with_child("status", "asleep");
    leaving.type_ = Type::Unavailable;
    site.send(balcony, leaving);
    let written = site.take(romeo);
    assert!(written.contains("<status>asleep</status>"), "{written}");
    for seat in [nurse, garden, balcony] {
        assert_eq!(heard(&mut site, seat), gone());
    }
    site.send(balcony, presence(Type::Unavailable));
    for seat in [romeo, nurse, garden, balcony] {
        assert_eq!(heard(&mut site, seat), [], "it was gone already");
    }
    // The session goes on, and a new presence session begins (§4.5.2).
    begin(&mut site);
    site.end(balcony);
    for seat in [romeo, nurse, garden] {
        assert_eq!(heard(&mut site, seat), gone());
    }
    site.end(balcony);
    for seat in [romeo, nurse, garden] {
        assert_eq!(heard(&mut site, seat), []);
    }
}

/// Found by `tests/simulation.rs`: what waited for the account came after the word that it was over.
#[test]
fn directed_presence_to_the_account_itself_is_not_overtaken_by_a_broadcast() {
    let mut site = friends();
    let garden = site.bind(ROMEO, "garden", Some(0));
    let orchard = site.bind(ROMEO, "orchard", Some(0));
    site.take(garden);
    let account = site.router.accounts.find(ROMEO).unwrap();
    site.router.accounts.get_mut(account).unwrap().is_changing = true;
    site.send(orchard, presence_to(Type::Available, ROMEO));
    site.send(
        orchard,
        presence_to(Type::Available, "romeo@example.org/garden"),
    );
    site.send(orchard, presence(Type::Unavailable));
    site.router.no_longer_changing(account);
    site.run_store();
    let types = heard(&mut site, garden).into_iter().map(|(_, type_)| type_);
    assert_eq!(types.collect::<Vec<_>>(), ["", "", "unavailable"]);
    assert_eq!(site.open(orchard), 0);
}

/// Found by `tests/simulation.rs`: the resource was taken to be gone that had come in its place.
#[test]
fn the_end_of_directed_presence_to_the_account_itself_does_not_follow_a_successors_broadcast() {
    let mut site = friends();
    let garden = site.bind(ROMEO, "garden", Some(0));
    let orchard = site.bind(ROMEO, "orchard", None);
    site.send(
        orchard,
        presence_to(Type::Available, "romeo@example.org/garden"),
    );
    let account = site.router.accounts.find(ROMEO).unwrap();
    site.router.accounts.get_mut(account).unwrap().is_changing = true;
    site.end(orchard);
    let orchard = site.bind(ROMEO, "orchard", None);
    site.send(orchard, presence(Type::Available));
    site.router.no_longer_changing(account);
    site.run_store();
    let types = heard(&mut site, garden).into_iter().map(|(_, type_)| type_);
    assert_eq!(types.collect::<Vec<_>>(), ["", "unavailable", ""]);
}

/// Found by `tests/simulation.rs`.
#[test]
fn the_answer_to_a_probe_of_ones_own_account_is_not_overtaken_by_a_broadcast() {
    let mut site = friends();
    let garden = site.bind(ROMEO, "garden", Some(0));
    let orchard = site.bind(ROMEO, "orchard", Some(0));
    site.take(garden);
    let account = site.router.accounts.find(ROMEO).unwrap();
    site.router.accounts.get_mut(account).unwrap().is_changing = true;
    site.send(
        garden,
        presence_to(Type::Probe, "romeo@example.org/orchard"),
    );
    site.router.no_longer_changing(account);
    // At once, before the account may begin to change again.
    assert_eq!(
        heard(&mut site, garden),
        [said("romeo@example.org/orchard", "")]
    );
    site.send(orchard, presence(Type::Unavailable));
    assert_eq!(
        heard(&mut site, garden),
        [said("romeo@example.org/orchard", "unavailable")]
    );
    assert_eq!(site.open(garden), 0);
}

/// RFC 6121 §4.6.3.
#[test]
fn directed_presence_is_followed_by_unavailable_presence_where_no_broadcast_goes() {
    let mut site = friends();
    let romeo = site.bind(ROMEO, "orchard", None);
    let nurse = site.bind("nurse@example.org", "hall", None);
    let juliet = site.bind(JULIET, "balcony", None);
    let hear = |site: &mut Site, seat: Seat| -> Vec<String> {
        heard(site, seat)
            .into_iter()
            .map(|(_, type_)| type_)
            .collect()
    };
    site.send(romeo, presence(Type::Available));
    site.take(romeo);
    // Case 3: before initial presence, also to a contact.
    site.send(juliet, presence_to(Type::Available, ROMEO));
    site.send(
        juliet,
        presence_to(Type::Available, "nurse@example.org/hall"),
    );
    assert_eq!(
        hear(&mut site, nurse),
        [""],
        "connected is enough (§8.5.3.1)"
    );
    site.send(juliet, presence(Type::Unavailable));
    assert_eq!(hear(&mut site, romeo), ["", "unavailable"]);
    assert_eq!(hear(&mut site, nurse), ["unavailable"]);
    // Case 1: a contact is told by the broadcast only.
    site.send(juliet, presence(Type::Available));
    site.send(juliet, presence_to(Type::Available, ROMEO));
    // Case 2: others are told of nothing between.
    site.send(
        juliet,
        presence_to(Type::Available, "nurse@example.org/hall"),
    );
    site.send(juliet, presence(Type::Available));
    assert_eq!(hear(&mut site, romeo), ["", "", ""]);
    assert_eq!(hear(&mut site, nurse), [""]);
    site.send(juliet, presence(Type::Unavailable));
    assert_eq!(hear(&mut site, romeo), ["unavailable"]);
    assert_eq!(hear(&mut site, nurse), ["unavailable"]);
    // Who was told so directly is not told again.
    site.send(
        juliet,
        presence_to(Type::Available, "nurse@example.org/hall"),
    );
    site.send(
        juliet,
        presence_to(Type::Unavailable, "nurse@example.org/hall"),
    );
    site.end(juliet);
    assert_eq!(hear(&mut site, nurse), ["", "unavailable"]);
}

/// RFC 6121 §4.6.1: SHOULD.
#[test]
fn who_is_gone_or_answers_with_an_error_is_forgotten() {
    let mut site = Site::new(&[]);
    let juliet = site.bind(JULIET, "balcony", None);
    let romeo = site.bind(ROMEO, "orchard", None);
    let directed = |site: &Site| -> Vec<String> {
        let session = site.router.sessions.get(juliet.session).unwrap();
        session
            .directed
            .iter()
            .map(|jid| jid.as_str().to_owned())
            .collect()
    };
    let orchard = || vec!["romeo@example.org/orchard".to_owned()];
    for (type_, to, is_forgotten) in [
        (Type::Unavailable, "juliet@example.org/balcony", true),
        (Type::Unavailable, JULIET, true),
        (Type::Error, "juliet@example.org/balcony", true),
        (Type::Available, "juliet@example.org/balcony", false),
    ] {
        let hello = presence_to(Type::Available, "romeo@example.org/orchard");
        site.send(juliet, hello);
        assert_eq!(directed(&site), orchard());
        site.send(romeo, presence_to(type_, to));
        assert_eq!(directed(&site).is_empty(), is_forgotten, "{type_:?} {to}");
    }
    // Who had too much of something is there all the same.
    let hello = presence_to(Type::Available, "romeo@example.org/orchard");
    let refusal = hello.error(&StanzaError::new(Condition::PolicyViolation));
    let mut refusal = refusal.unwrap();
    refusal.to = Some(Jid::parse("juliet@example.org/balcony").unwrap());
    site.send(romeo, refusal);
    assert_eq!(directed(&site), orchard());
    // What cannot be sent at all comes back as an error.
    site.send(juliet, presence_to(Type::Available, "room@example.net/me"));
    assert_eq!(directed(&site).len(), 2);
    site.fail_links();
    assert!(site.take(juliet).contains("<remote-server-not-found "));
    assert_eq!(directed(&site), orchard());
}

#[test]
fn presence_is_sent_directly_to_no_more_than_the_bound() {
    let mut site = Site::new(&[]);
    let juliet = site.bind(JULIET, "balcony", None);
    let to = |n: usize| presence_to(Type::Available, &format!("user{n}@example.org"));
    for n in 0..DIRECTED_MAX {
        site.send(juliet, to(n));
    }
    site.send(juliet, to(0));
    assert_eq!(site.take(juliet), "");
    site.send(juliet, to(DIRECTED_MAX));
    assert!(site.take(juliet).contains("<resource-constraint "));
    let leave = presence_to(Type::Unavailable, "user0@example.org");
    site.send(juliet, leave);
    site.send(juliet, to(DIRECTED_MAX));
    assert_eq!(site.take(juliet), "");
    assert_eq!(site.open(juliet), 0);
}

/// RFC 6121 §4.7.2.3; RFC 6120 §8.3.3.1.
#[test]
fn a_priority_is_one_integer_in_its_range_or_the_presence_is_refused() {
    for (text, expected) in [
        ("5", Some(5)),
        (" -128 ", Some(-128)),
        ("127", Some(127)),
        ("", Some(0)),
        ("128", None),
        ("-129", None),
        ("much", None),
        ("1.5", None),
    ] {
        let priority = priority_of(&with_child("priority", text));
        assert_eq!(priority.ok(), expected, "{text:?}");
    }
    let one = Element::new(ns::CLIENT, "priority").with_text("1");
    let other = Element::new("urn:example:test", "priority").with_text("much");
    let of = |children: &[Element]| {
        let payload = Payload::from_elements(children);
        priority_of(&Stanza::new(Kind::Presence, Type::Available, payload))
    };
    assert_eq!(of(&[other.clone(), one.clone(), other]).unwrap(), 1);
    assert!(of(&[one.clone(), one]).is_err());
    let mut site = friends();
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, with_child("priority", "128"));
    let refused = site.take(juliet);
    assert!(refused.contains("<bad-request "), "{refused}");
    assert!(refused.contains("from='juliet@example.org' "), "{refused}");
    let session = site.router.sessions.get(juliet.session).unwrap();
    assert_eq!(session.presence, None);
    assert_eq!(site.open(juliet), 0);
}

/// The answers to a probe, which another server's user has sent, without their addresses.
fn probed(site: &mut Site, from: &str, to: &str) -> Vec<String> {
    let mut probe = presence_to(Type::Probe, to);
    probe.from = Some(Jid::parse(from).unwrap());
    let seat = site.bind("prober@example.org", "home", None);
    let key = site
        .router
        .accounts
        .find(Jid::parse(to).unwrap().bare_str());
    if let Some(key) = key {
        site.router
            .inbound_probe(key, Routed::new(probe, Ticket::none()));
    }
    let mut answers = Vec::new();
    for routed in site.router.out.work.drain(..) {
        let answer = routed.stanza;
        let (from, id) = (answer.from.unwrap(), answer.id.unwrap_or_default());
        let type_ = answer.type_.as_str(Kind::Presence);
        let children = String::from_utf8(answer.payload.bytes().to_vec()).unwrap();
        answers.push(format!("{from} {id} {type_} {children}"));
    }
    site.end(seat);
    answers
}

/// RFC 6121 §4.3.2, §4.3.2.1.
#[test]
fn a_probe_is_answered_for_who_may_see_and_alike_for_all_others() {
    let mut site = friends();
    let lurker = site.bind(JULIET, "cellar", None);
    let unavailable = || vec!["juliet@example.org 7 unavailable ".to_owned()];
    assert_eq!(
        probed(&mut site, "romeo@example.org", JULIET),
        unavailable()
    );
    let balcony = site.bind(JULIET, "balcony", None);
    let garden = site.bind(JULIET, "garden", None);
    let mut dnd = with_child("show", "dnd");
    dnd.id = Some("pres1".into());
    site.send(balcony, dnd);
    site.send(garden, presence(Type::Available));
    let all = [
        "juliet@example.org/balcony pres1  <show>dnd</show><delay xmlns='urn:xmpp:delay' \
         from='juliet@example.org/balcony' stamp='1970-01-01T00:00:00.000Z'/>",
        "juliet@example.org/garden   <delay xmlns='urn:xmpp:delay' \
         from='juliet@example.org/garden' stamp='1970-01-01T00:00:00.000Z'/>",
    ];
    for from in [ROMEO, "romeo@example.org/orchard", JULIET] {
        assert_eq!(probed(&mut site, from, JULIET), all, "{from}");
    }
    let of = |site: &mut Site, resource: &str| {
        probed(site, ROMEO, &format!("juliet@example.org/{resource}"))
    };
    assert_eq!(
        of(&mut site, "balcony"),
        ["juliet@example.org/balcony pres1  "]
    );
    for resource in ["cellar", "nowhere"] {
        let gone = format!("juliet@example.org/{resource} 7 unavailable ");
        assert_eq!(of(&mut site, resource), [gone]);
    }
    site.account("nobody@example.org", Standing::Unknown);
    site.account("disabled@example.org", Standing::Known(record(false)));
    site.contact("disabled@example.org", ROMEO, State::FROM);
    for name in ["juliet", "nobody", "disabled"] {
        let bare = format!("{name}@example.org");
        let refused = [format!("{bare} 7 unsubscribed ")];
        for to in [
            bare.clone(),
            format!("{bare}/balcony"),
            format!("{bare}/none"),
        ] {
            assert_eq!(probed(&mut site, "tybalt@example.org/x", &to), refused);
        }
    }
    assert_eq!(
        probed(&mut site, ROMEO, "disabled@example.org"),
        ["disabled@example.org 7 unavailable "],
        "a subscription outlives the time in which its account is disabled"
    );
    site.end(balcony);
    site.end(garden);
    site.end(lurker);
    assert_eq!(
        probed(&mut site, ROMEO, JULIET),
        [
            "juliet@example.org 7 unavailable <delay xmlns='urn:xmpp:delay' \
          from='juliet@example.org' stamp='1970-01-01T00:00:00.000Z'/>"
        ]
    );
}

/// RFC 6121 §4.6.6.
#[test]
fn a_probe_of_an_entity_that_was_sent_presence_directly_sees_that_resource_only() {
    let mut site = Site::new(&[]);
    let balcony = site.bind(JULIET, "balcony", None);
    let garden = site.bind(JULIET, "garden", None);
    for seat in [balcony, garden] {
        site.send(seat, with_child("show", "away"));
    }
    let room = "room@example.org/romeo";
    site.send(balcony, presence_to(Type::Available, room));
    let seen = ["juliet@example.org/balcony   "];
    assert_eq!(probed(&mut site, room, "juliet@example.org/balcony"), seen);
    assert_eq!(probed(&mut site, room, JULIET), seen);
    let refused = ["juliet@example.org 7 unsubscribed "];
    assert_eq!(
        probed(&mut site, room, "juliet@example.org/garden"),
        refused
    );
    site.send(balcony, presence_to(Type::Unavailable, room));
    assert_eq!(
        probed(&mut site, room, "juliet@example.org/balcony"),
        refused
    );
}

/// RFC 6120 §13.11: neither answers nor what they cost tell who has an account.
#[test]
fn a_probe_of_a_stranger_costs_one_read_whether_there_is_an_account_or_not() {
    let mut site = Site::new(&[]);
    let romeo = site.bind(ROMEO, "orchard", None);
    for (name, standing) in [
        ("absent@example.org", Standing::Known(record(true))),
        ("nobody@example.org", Standing::Unknown),
    ] {
        for resource in ["", "/home"] {
            let probe = presence_to(Type::Probe, &format!("{name}{resource}"));
            site.send(romeo, probe);
            assert_eq!(site.router.out.reads.len(), 1, "{name}{resource}");
            site.answer_read(Err(StoreError::Stopped));
        }
        let key = site.account(name, standing);
        site.router.accounts.get_mut(key).unwrap().roster = None;
        let probe = presence_to(Type::Probe, name);
        site.send(romeo, probe);
        assert_eq!(
            site.router.out.reads.len(),
            1,
            "a look whether he is a contact"
        );
        site.answer_read(Err(StoreError::Stopped));
        site.take(romeo);
    }
    // Nor does whether it is in memory, and online.
    let juliet = site.bind(JULIET, "balcony", Some(0));
    site.account("known@example.org", Standing::Unknown);
    for to in [JULIET, "juliet@example.org/balcony", "known@example.org"] {
        site.send(romeo, presence_to(Type::Probe, to));
        assert_eq!(site.router.out.reads.len(), 1, "{to}");
        assert_eq!((site.open(romeo), site.take(romeo)), (1, String::new()));
        site.answer_read(Err(StoreError::Stopped));
        // `unsubscribed` from whom one has asked nothing does not reach the client (Appendix A).
        assert_eq!((site.open(romeo), site.take(romeo)), (0, String::new()));
    }
    site.end(juliet);
    // What is for nobody costs nothing.
    for type_ in [Type::Available, Type::Unavailable, Type::Error] {
        for to in ["absent@example.org", "nobody@example.org/home"] {
            site.send(romeo, presence_to(type_, to));
        }
    }
    assert!(site.router.out.reads.is_empty());
    assert_eq!((site.open(romeo), site.take(romeo)), (0, String::new()));
}

/// RFC 6121 §4.3: a client's own probe goes its way and is no error; one that would undo its own
/// request does nothing.
#[test]
fn a_probe_of_a_client_is_answered_to_its_resource() {
    let mut site = friends();
    let juliet = site.bind(JULIET, "balcony", None);
    let romeo = site.bind(ROMEO, "orchard", None);
    let garden = site.bind(ROMEO, "garden", None);
    for seat in [juliet, romeo, garden] {
        site.send(seat, presence(Type::Available));
    }
    let take_all = |site: &mut Site| {
        for seat in [juliet, romeo, garden] {
            site.take(seat);
        }
    };
    take_all(&mut site);
    site.send(romeo, presence_to(Type::Probe, JULIET));
    assert_eq!(
        heard(&mut site, romeo),
        [said("juliet@example.org/balcony", "")]
    );
    assert_eq!(heard(&mut site, garden), []);
    site.send(romeo, presence(Type::Probe));
    assert_eq!(heard(&mut site, romeo).len(), 2, "of its own account");
    site.contact(ROMEO, "nurse@example.org", State::PENDING_OUT);
    let probe = presence_to(Type::Probe, "nurse@example.org");
    site.router.outbound(romeo.session, probe, 10).unwrap();
    assert!(site.router.out.work.is_empty());
    site.router.work();
    assert_eq!(site.open(romeo), 0);
}

/// RFC 6121 §3.1.5, §3.2.2, §3.3.3, §4.6.1.
#[test]
fn a_contact_is_told_of_each_available_resource_when_its_subscription_begins_or_ends() {
    let mut site = Site::new(&[]);
    let romeo = site.bind(ROMEO, "orchard", None);
    site.send(romeo, presence(Type::Available));
    let balcony = site.bind(JULIET, "balcony", None);
    let garden = site.bind(JULIET, "garden", None);
    let cellar = site.bind(JULIET, "cellar", None);
    for seat in [balcony, garden] {
        site.send(seat, presence(Type::Available));
    }
    site.take(romeo);
    let account = site.router.accounts.find(JULIET).unwrap();
    let contact = BareJid::parse(ROMEO).unwrap();
    site.router.send_presence_to(account, &contact);
    site.router.work();
    let (on_balcony, in_garden) = ("juliet@example.org/balcony", "juliet@example.org/garden");
    let in_cellar = "juliet@example.org/cellar";
    assert_eq!(
        heard(&mut site, romeo),
        [said(on_balcony, ""), said(in_garden, "")]
    );
    site.send(
        cellar,
        presence_to(Type::Available, "romeo@example.org/orchard"),
    );
    site.take(romeo);
    site.router.send_unavailable_to(account, &contact);
    site.router.work();
    assert_eq!(
        heard(&mut site, romeo),
        [
            said(on_balcony, "unavailable"),
            said(in_garden, "unavailable"),
            said(in_cellar, "unavailable"),
        ]
    );
    site.end(cellar);
    site.end(balcony);
    assert_eq!(heard(&mut site, romeo), [], "it was told already");
}

fn many(site: &mut Site, account: &str, count: usize) {
    for n in 0..count {
        site.contact(account, &format!("user{n:05}@example.org"), State::FROM);
    }
}

/// `Order of a turn` in lib.rs; RFC 6120 §10.1.
#[test]
fn a_large_roster_takes_turns_of_a_bounded_size_and_its_session_waits() {
    let mut site = Site::new(&[]);
    many(&mut site, JULIET, 1_000);
    let juliet = site.bind(JULIET, "balcony", None);
    let mut told = Vec::new();
    let mut sent = |site: &mut Site| {
        let now = on_their_way(site);
        site.router.out.work.clear();
        told.extend(now.iter().map(|(_, to)| to.clone()));
        now.len()
    };
    site.router
        .outbound(juliet.session, presence(Type::Available), 10)
        .unwrap();
    let mut per_turn = vec![sent(&mut site)];
    assert!(site.router.holds_reading(juliet.session));
    while site.router.has_fanout() {
        assert!(site.router.out.resumed.is_empty());
        site.router.begin_turn(Now::default());
        site.router.fan_out();
        per_turn.push(sent(&mut site));
    }
    assert!(
        per_turn.iter().all(|count| *count <= FANOUT_TURN),
        "{per_turn:?}"
    );
    assert!(per_turn.len() <= 5, "{per_turn:?}");
    assert_eq!(told.len(), 1_000);
    assert!(told.is_sorted(), "each once");
    assert!(!site.router.holds_reading(juliet.session));
    assert_eq!(site.router.out.resumed, [juliet.conn]);
    let account = site.router.accounts.find(JULIET).unwrap();
    assert_eq!(site.router.accounts.get(account).unwrap().broadcasts, 0);
}

#[test]
fn a_contact_that_gets_nothing_counts_too_and_probes_count() {
    for state in [State::LISTED, State::FROM.with(State::TO)] {
        let mut site = Site::new(&[]);
        for n in 0..2 * FANOUT_TURN {
            site.contact(JULIET, &format!("user{n}@example.org"), state);
        }
        let juliet = site.bind(JULIET, "balcony", None);
        let first = presence(Type::Available);
        site.router.outbound(juliet.session, first, 10).unwrap();
        assert!(on_their_way(&site).len() <= FANOUT_TURN);
        assert!(site.router.has_fanout(), "{state:?}");
    }
}

#[test]
fn a_small_roster_does_not_wait_for_a_large_one() {
    let mut site = friends();
    many(&mut site, "crowd@example.org", 10 * FANOUT_TURN);
    let romeo = site.bind(ROMEO, "orchard", None);
    site.send(romeo, presence(Type::Available));
    let crowd = site.bind("crowd@example.org", "square", None);
    site.send(crowd, presence(Type::Available));
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, presence(Type::Available));
    site.take(romeo);
    assert!(site.router.holds_reading(juliet.session));
    site.turn();
    assert_eq!(
        heard(&mut site, romeo),
        [said("juliet@example.org/balcony", "")]
    );
    assert!(!site.router.holds_reading(juliet.session));
    assert!(site.router.holds_reading(crowd.session));
    const { assert!(FANOUT_TURN >= 4 * FANOUT_SLICE) };
}

/// RFC 6121 §4.5.2: the end of a session follows what it said, at each contact.
#[test]
fn a_session_that_ends_during_its_broadcast_is_unavailable_after_it() {
    let mut site = Site::new(&[]);
    many(&mut site, JULIET, 3 * FANOUT_TURN);
    let last = format!("user{:05}@example.org", 3 * FANOUT_TURN - 1);
    let romeo = site.bind(&last, "home", None);
    site.send(romeo, presence(Type::Available));
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, presence(Type::Available));
    site.end(juliet);
    site.take(romeo);
    let account = site.router.accounts.find(JULIET).unwrap();
    assert_eq!(site.router.accounts.get(account).unwrap().broadcasts, 2);
    while site.router.has_fanout() {
        site.turn();
    }
    assert_eq!(
        heard(&mut site, romeo),
        [
            said("juliet@example.org/balcony", ""),
            said("juliet@example.org/balcony", "unavailable"),
        ]
    );
}

#[test]
fn a_contact_that_may_not_see_any_more_when_its_turn_comes_gets_nothing() {
    let mut site = Site::new(&[]);
    many(&mut site, JULIET, 2 * FANOUT_TURN);
    let last = format!("user{:05}@example.org", 2 * FANOUT_TURN - 1);
    let romeo = site.bind(&last, "home", None);
    site.send(romeo, presence(Type::Available));
    site.take(romeo);
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, presence(Type::Available));
    site.contact(JULIET, &last, State::LISTED);
    site.contact(JULIET, "user99999@example.org", State::FROM);
    let late = site.bind("user99999@example.org", "home", Some(0));
    while site.router.has_fanout() {
        site.turn();
    }
    assert_eq!(site.take(romeo), "");
    assert!(
        site.take(late)
            .contains("from='juliet@example.org/balcony'")
    );
}

#[test]
fn an_account_whose_broadcasts_pile_up_binds_no_more() {
    let mut site = Site::new(&[]);
    many(&mut site, JULIET, 10 * FANOUT_TURN);
    for _ in 0..BROADCASTS_MAX / 2 {
        let seat = site.bind(JULIET, "balcony", None);
        site.send(seat, presence(Type::Available));
        site.end(seat);
    }
    let refused = site.try_bind(JULIET, "balcony", None).err().unwrap();
    assert_eq!(refused.condition, Condition::ResourceConstraint);
    while site.router.has_fanout() {
        site.turn();
    }
    site.bind(JULIET, "balcony", None);
}

/// XEP-0175: an anonymous account is gone with its session; what it has said is not.
#[test]
fn rooms_are_told_that_an_anonymous_session_is_gone() {
    let mut site = Site::new(&[]);
    site.account("ghost@example.org", Standing::Anonymous);
    let romeo = site.bind(ROMEO, "orchard", Some(0));
    let ghost = site.bind("ghost@example.org", "x", None);
    site.send(ghost, presence_to(Type::Available, ROMEO));
    site.end(ghost);
    assert!(site.router.accounts.find("ghost@example.org").is_none());
    let hers = "ghost@example.org/x";
    assert_eq!(
        heard(&mut site, romeo),
        [said(hers, ""), said(hers, "unavailable")]
    );
}

/// `Commit first` in lib.rs: while an account is changing, what is for it waits in order.
#[test]
fn presence_of_many_contacts_waits_for_a_commit_and_none_is_lost() {
    let mut site = Site::new(&[]);
    let romeo = site.bind(ROMEO, "orchard", Some(0));
    let key = site.router.accounts.find(ROMEO).unwrap();
    site.router
        .change_account(key, Box::new(|_| Ok(Box::new(()))), Box::new(|_, _, _| {}));
    let count = 3 * INBOX_STANZAS_MAX;
    let seats: Vec<Seat> = (0..count)
        .map(|n| site.bind(&format!("user{n:04}@example.org"), "home", None))
        .collect();
    for seat in &seats {
        site.send(*seat, presence_to(Type::Unavailable, ROMEO));
    }
    assert_eq!(heard(&mut site, romeo), []);
    site.answer_change(Ok(Box::new(())));
    let heard = heard(&mut site, romeo);
    assert_eq!(heard.len(), count);
    assert!(heard.is_sorted());
}

/// RFC 6121 §4.6.3, case 3: also to one's own account.
#[test]
fn an_own_resource_that_was_sent_presence_directly_is_told_that_it_is_gone() {
    let mut site = Site::new(&[]);
    let balcony = site.bind(JULIET, "balcony", Some(0));
    let phone = site.bind(JULIET, "phone", None);
    for to in [JULIET, "juliet@example.org/balcony"] {
        site.send(phone, presence_to(Type::Available, to));
    }
    site.take(balcony);
    site.end(phone);
    let gone = said("juliet@example.org/phone", "unavailable");
    assert_eq!(heard(&mut site, balcony), [gone.clone(), gone]);
    // One that was available is told of by the broadcast.
    let phone = site.bind(JULIET, "phone", None);
    site.send(phone, presence_to(Type::Available, JULIET));
    site.send(phone, presence(Type::Available));
    site.take(balcony);
    site.end(phone);
    assert_eq!(
        heard(&mut site, balcony),
        [said("juliet@example.org/phone", "unavailable")]
    );
}

/// RFC 6121 §3.2.2, §4.5.2: its turn in the broadcast had not come yet.
#[test]
fn a_contact_that_is_cut_off_while_a_resource_goes_is_told_that_it_is_gone() {
    for ends in [true, false] {
        let mut site = friends();
        for n in 0..2 * FANOUT_TURN {
            let contact = format!("contact{n}@example.org");
            site.contact(JULIET, &contact, State::LISTED.with(State::FROM));
        }
        let romeo = site.bind(ROMEO, "orchard", Some(0));
        let juliet = site.bind(JULIET, "balcony", Some(0));
        if ends {
            site.end(juliet);
        } else {
            site.send(juliet, presence(Type::Unavailable));
        }
        assert_eq!(heard(&mut site, romeo), [], "his turn has not come");
        let account = site.router.accounts.find(JULIET).unwrap();
        site.contact(JULIET, ROMEO, State::LISTED.with(State::TO));
        let contact = BareJid::parse(ROMEO).unwrap();
        site.router.send_unavailable_to(account, &contact);
        while site.router.has_fanout() {
            site.turn();
        }
        let gone = said("juliet@example.org/balcony", "unavailable");
        assert_eq!(heard(&mut site, romeo), [gone], "ends: {ends}");
    }
}

/// A turn's share is bounded in bytes as well: each copy is written out for its contact.
#[test]
fn large_presence_takes_more_turns() {
    let mut site = Site::new(&[]);
    for n in 0..FANOUT_TURN / 4 {
        let contact = format!("contact{n:03}@example.org");
        site.contact(JULIET, &contact, State::LISTED.with(State::FROM));
    }
    let juliet = site.bind(JULIET, "balcony", None);
    let large = with_child("status", &"x".repeat(64 * 1024));
    site.router.begin_turn(site.router.now);
    site.router.outbound(juliet.session, large, 10).unwrap();
    let sent: usize = (site.router.out.work.iter())
        .map(|routed| routed.stanza.size())
        .sum();
    assert!((1..=FANOUT_BYTES_TURN).contains(&sent), "{sent}");
    site.router.work();
    let mut turns = 1;
    while site.router.has_fanout() {
        site.turn();
        turns += 1;
    }
    assert!(turns > 1);
    assert_eq!(site.open(juliet), 0);
}

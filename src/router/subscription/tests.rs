//! What subscription stanzas do to rosters, and who sees what of them in which order.

mod agreement;
mod failures;
mod realm;
mod remote;

use self::realm::{Realm, Seat, Step, signal};
use crate::jid::Jid;
use crate::limits::{FANOUT_TURN, SUBSCRIPTION_BYTES_MAX};
use crate::router::account::Standing;
use crate::router::roster::Roster;
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::roster::State;
use crate::xml::{Element, Payload};

pub(super) const JULIET: &str = "juliet@example.org";
pub(super) const ROMEO: &str = "romeo@example.org";
const NURSE: &str = "nurse@example.org";

const ASKED: State = State::LISTED.with(State::PENDING_OUT);
const TO: State = State::LISTED.with(State::TO);
const FROM: State = State::LISTED.with(State::FROM);

/// Juliet and romeo, on two shards, each with a session.
pub(super) fn couple() -> (Realm, Seat, Seat) {
    let mut realm = Realm::new(&[JULIET, ROMEO], |_| ());
    let juliet = realm.login("juliet@example.org/balcony");
    let romeo = realm.login("romeo@example.org/orchard");
    assert_ne!(juliet.shard, romeo.shard);
    (realm, juliet, romeo)
}

pub(super) fn send(realm: &mut Realm, from: Seat, type_: Type, to: &str) {
    realm.send(from, signal(type_, to));
    realm.run();
}

/// Romeo has juliet's presence.
pub(super) fn subscribed() -> (Realm, Seat, Seat) {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    realm.heard(juliet);
    realm.heard(romeo);
    (realm, juliet, romeo)
}

/// RFC 6121 §3.1.2, §3.1.3, §3.1.5, §3.1.6.
#[test]
fn a_request_that_is_approved_goes_through_all_steps_in_order() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    assert_eq!(realm.heard(romeo), ["push juliet@example.org none ask"]);
    assert_eq!(realm.heard(juliet), ["subscribe romeo@example.org"]);
    assert_eq!(realm.stored(ROMEO, JULIET), ASKED);
    assert_eq!(realm.stored(JULIET, ROMEO), State::PENDING_IN);
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    assert_eq!(realm.heard(juliet), ["push romeo@example.org from"]);
    let expected = [
        "subscribed juliet@example.org",
        "push juliet@example.org to",
        "available juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(romeo), expected);
    assert_eq!(realm.stored(ROMEO, JULIET), TO);
    assert_eq!(realm.stored(JULIET, ROMEO), FROM);
    assert_eq!((realm.open(juliet), realm.open(romeo)), (0, 0));
    assert_eq!(realm.handoffs(), 0);
}

/// RFC 6121 §3.2.2, §3.2.3.
#[test]
fn a_cancellation_is_heard_after_unavailable_presence() {
    let (mut realm, juliet, romeo) = subscribed();
    send(&mut realm, juliet, Type::Unsubscribed, ROMEO);
    assert_eq!(realm.heard(juliet), ["push romeo@example.org none"]);
    let expected = [
        "unavailable juliet@example.org/balcony",
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(romeo), expected);
    assert_eq!(realm.stored(ROMEO, JULIET), State::LISTED);
    assert_eq!(realm.stored(JULIET, ROMEO), State::LISTED);
}

/// RFC 6121 §3.3.2, §3.3.3.
#[test]
fn who_unsubscribes_is_told_unavailable_presence() {
    let (mut realm, juliet, romeo) = subscribed();
    send(&mut realm, romeo, Type::Unsubscribe, JULIET);
    let expected = [
        "push juliet@example.org none",
        "unavailable juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(romeo), expected);
    let expected = [
        "unsubscribe romeo@example.org",
        "push romeo@example.org none",
    ];
    assert_eq!(realm.heard(juliet), expected);
}

/// RFC 6121 §3.1, implementation note: requests are for available resources, all else for interested
/// ones.
#[test]
fn each_resource_gets_what_it_is_there_for() {
    let (mut realm, juliet, romeo) = couple();
    let mute = realm.login("juliet@example.org/mute");
    let away = realm.login("juliet@example.org/away");
    let sessions = &mut realm.routers[juliet.shard].sessions;
    sessions.get_mut(mute.session).unwrap().is_interested = false;
    sessions.get_mut(away.session).unwrap().presence = None;
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    assert_eq!(realm.heard(mute), ["subscribe romeo@example.org"]);
    assert_eq!(realm.heard(away), [""; 0]);
    send(&mut realm, romeo, Type::Unsubscribe, JULIET);
    assert_eq!(realm.heard(mute), [""; 0]);
    assert_eq!(realm.heard(away), ["unsubscribe romeo@example.org"]);
}

/// RFC 6121 §3.1.2, rule 1.
#[test]
fn a_request_to_a_full_jid_is_for_the_bare_one() {
    let (mut realm, juliet, romeo) = couple();
    send(
        &mut realm,
        romeo,
        Type::Subscribe,
        "juliet@example.org/balcony",
    );
    assert_eq!(realm.heard(juliet), ["subscribe romeo@example.org"]);
    assert_eq!(realm.stored(ROMEO, JULIET), ASKED);
}

#[test]
fn nobody_subscribes_to_oneself() {
    let (mut realm, juliet, _) = couple();
    for type_ in [Type::Subscribe, Type::Subscribed, Type::Unsubscribe] {
        send(&mut realm, juliet, type_, JULIET);
        let mut without = signal(type_, JULIET);
        without.to = None;
        realm.send(juliet, without);
        realm.run();
    }
    assert_eq!(realm.heard(juliet), [""; 0]);
    assert_eq!(realm.open(juliet), 0);
    assert_eq!(realm.stored(JULIET, JULIET), State::NONE);
}

/// RFC 6121 §8.5.1; RFC 6120 §13.11.
#[test]
fn nothing_tells_a_name_without_an_account_from_one_that_is_silent() {
    for name in [JULIET, "nobody@example.org"] {
        let mut realm = Realm::new(&[JULIET, ROMEO], |_| ());
        let romeo = realm.login("romeo@example.org/orchard");
        send(&mut realm, romeo, Type::Subscribe, name);
        assert_eq!(realm.heard(romeo), [format!("push {name} none ask")]);
        send(&mut realm, romeo, Type::Subscribe, name);
        assert_eq!(realm.heard(romeo), [""; 0]);
        send(&mut realm, romeo, Type::Unsubscribe, name);
        assert_eq!(realm.heard(romeo), [format!("push {name} none")]);
        assert_eq!((realm.open(romeo), realm.handoffs()), (0, 0));
    }
}

/// A contact of an account that is disabled may leave meanwhile.
#[test]
fn a_disabled_account_keeps_its_subscriptions_and_misses_none_of_their_ends() {
    let (mut realm, _, romeo) = subscribed();
    realm.set_enabled(JULIET, false);
    realm.run();
    assert_eq!(realm.stored(JULIET, ROMEO), FROM);
    assert_eq!(realm.stored(ROMEO, JULIET), TO);
    realm.heard(romeo);
    send(&mut realm, romeo, Type::Unsubscribe, JULIET);
    assert_eq!(realm.heard(romeo), ["push juliet@example.org none"]);
    assert_eq!(realm.stored(JULIET, ROMEO), State::LISTED);
    assert_eq!(realm.handoffs(), 0);
}

/// What the account wants of the contact stays, as when the contact does not answer.
#[test]
fn a_request_stays_when_no_server_of_the_contact_is_found() {
    let (mut realm, _, romeo) = couple();
    let remote = "rosaline@example.net";
    send(&mut realm, romeo, Type::Subscribe, remote);
    let expected = [
        "push rosaline@example.net none ask",
        "error remote-server-not-found",
    ];
    let mut heard = realm.heard(romeo);
    heard.sort_by(|one, other| other.cmp(one));
    assert_eq!(heard, expected);
    assert_eq!(realm.stored(ROMEO, remote), ASKED);
    send(&mut realm, romeo, Type::Unsubscribe, remote);
    assert_eq!(realm.stored(ROMEO, remote), State::LISTED);
    assert_eq!((realm.open(romeo), realm.handoffs()), (0, 0));
}

/// RFC 6121 §3.4.2.
#[test]
fn a_request_that_was_approved_before_is_answered_at_once() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    assert_eq!(
        realm.heard(juliet),
        ["push romeo@example.org none approved"]
    );
    assert_eq!(realm.heard(romeo), [""; 0], "it is not routed");
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    assert_eq!(realm.heard(juliet), ["push romeo@example.org from"]);
    let expected = [
        "push juliet@example.org none ask",
        "subscribed juliet@example.org",
        "push juliet@example.org to",
        "available juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(romeo), expected);
    assert_eq!(realm.handoffs(), 0);
}

/// RFC 6121 §3.1.3, rule 4.
#[test]
fn a_request_waits_whole_until_it_is_answered() {
    let mut realm = Realm::new(&[JULIET, ROMEO], |_| ());
    let romeo = realm.login("romeo@example.org/orchard");
    let nick = Element::new("http://jabber.org/protocol/nick", "nick").with_text("R > J");
    let mut request = signal(Type::Subscribe, JULIET);
    request.payload = Payload::from_elements(&[nick]);
    (request.id, request.lang) = (Some("xk3h1v69".into()), Some("it".into()));
    realm.send(romeo, request.clone());
    realm.run();
    let mut expected = request;
    expected.from = Some(realm::jid(ROMEO).to_jid());
    for resource in ["juliet@example.org/balcony", "juliet@example.org/chamber"] {
        let seat = realm.login(resource);
        realm.routers[seat.shard].deliver_requests(seat.session);
        assert!(!realm.is_heard(seat), "it is held until they have come");
        realm.run();
        assert!(realm.is_heard(seat));
        let outputs = &realm.routers[seat.shard].out.outputs;
        let written = outputs.bytes(seat.conn).to_vec();
        assert_eq!(Stanza::from_stored(written), Some(expected.clone()));
        realm.heard(seat);
        if resource == "juliet@example.org/chamber" {
            send(&mut realm, seat, Type::Unsubscribed, ROMEO);
            realm.heard(seat);
            realm.routers[seat.shard].deliver_requests(seat.session);
            assert!(realm.is_heard(seat), "nothing is read");
            realm.run();
            assert_eq!(realm.heard(seat), [""; 0]);
        }
    }
    assert_eq!(realm.stored(JULIET, ROMEO), State::NONE, "it is denied");
}

#[test]
fn a_request_that_is_withdrawn_while_it_is_read_is_not_shown() {
    let (mut realm, _, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    let chamber = realm.login("juliet@example.org/chamber");
    realm.routers[chamber.shard].deliver_requests(chamber.session);
    realm.send(romeo, signal(Type::Unsubscribe, JULIET));
    // All but the read.
    loop {
        let steps = realm.steps();
        let step = steps
            .iter()
            .find(|step| !matches!(step, realm::Step::Read(_)));
        let Some(step) = step else { break };
        realm.take(*step);
    }
    realm.run();
    assert_eq!(realm.heard(chamber), ["unsubscribe romeo@example.org"]);
}

/// RFC 6121 §3.1.3, security warning.
#[test]
fn no_more_requests_wait_than_may_and_senders_hear_nothing_of_it() {
    let names: Vec<String> = (0..4).map(|n| format!("user{n}@example.org")).collect();
    let mut all: Vec<&str> = names.iter().map(String::as_str).collect();
    all.push(JULIET);
    let mut realm = Realm::new(&all, |settings| settings.limits.pending_requests_max = 2);
    let juliet = realm.login("juliet@example.org/balcony");
    let seats: Vec<Seat> = names
        .iter()
        .map(|name| realm.login(&format!("{name}/there")))
        .collect();
    for seat in &seats {
        send(&mut realm, *seat, Type::Subscribe, JULIET);
        assert_eq!(realm.heard(*seat), ["push juliet@example.org none ask"]);
    }
    let shown = ["subscribe user0@example.org", "subscribe user1@example.org"];
    assert_eq!(realm.heard(juliet), shown);
    assert_eq!(realm.stored(JULIET, "user2@example.org"), State::NONE);
    // There is room again.
    send(&mut realm, juliet, Type::Unsubscribed, "user0@example.org");
    send(&mut realm, seats[3], Type::Subscribe, JULIET);
    assert_eq!(realm.heard(juliet), ["subscribe user3@example.org"]);
    assert_eq!(realm.handoffs(), 0);
}

/// RFC 6121 §3.1.3, security warning.
#[test]
fn a_request_that_is_too_large_comes_back() {
    let (mut realm, juliet, romeo) = couple();
    let text = "x".repeat(SUBSCRIPTION_BYTES_MAX);
    let status = Element::new(crate::ns::CLIENT, "status").with_text(text);
    for to in [JULIET, "nobody@example.org"] {
        let mut request = signal(Type::Subscribe, to);
        request.payload = Payload::from_elements(std::slice::from_ref(&status));
        realm.send(romeo, request);
        realm.run();
        assert_eq!(realm.heard(romeo), ["error policy-violation"]);
    }
    assert_eq!(realm.heard(juliet), [""; 0]);
    assert_eq!(realm.stored(ROMEO, JULIET), State::NONE);
    assert_eq!(realm.open(romeo), 0);
}

/// A client cannot fill a roster by requests either.
#[test]
fn a_full_roster_takes_no_contact_more() {
    let mut realm = Realm::new(&[JULIET, ROMEO, NURSE], |settings| {
        settings.limits.roster_items_max = 1;
    });
    let juliet = realm.login("juliet@example.org/balcony");
    let romeo = realm.login("romeo@example.org/orchard");
    send(&mut realm, romeo, Type::Subscribe, NURSE);
    realm.heard(romeo);
    send(&mut realm, juliet, Type::Subscribe, ROMEO);
    assert_eq!(realm.heard(romeo), ["subscribe juliet@example.org"]);
    for (type_, to) in [
        (Type::Subscribe, JULIET),
        (Type::Subscribed, JULIET),
        (Type::Subscribed, "nobody@example.org"),
    ] {
        send(&mut realm, romeo, type_, to);
        assert_eq!(realm.heard(romeo), ["error policy-violation"]);
    }
    assert_eq!(realm.stored(ROMEO, JULIET), State::PENDING_IN);
    // What adds nobody is done.
    send(&mut realm, romeo, Type::Unsubscribed, JULIET);
    assert_eq!(realm.stored(JULIET, ROMEO), State::LISTED);
    send(&mut realm, romeo, Type::Unsubscribe, NURSE);
    assert_eq!(realm.heard(romeo), ["push nurse@example.org none"]);
}

/// What a session sends while its account is changing waits, and its stream is not read meanwhile, also
/// if the session ends.
#[test]
fn stanzas_wait_while_the_account_is_changing() {
    let (mut realm, _, romeo) = couple();
    let other = realm.login("romeo@example.org/other");
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    realm.send(other, signal(Type::Subscribe, NURSE));
    assert!(!realm.is_heard(romeo));
    assert!(!realm.is_heard(other));
    realm.routers[other.shard].session_closed(other.session);
    realm.run();
    assert!(realm.is_heard(romeo));
    let heard = realm.heard(romeo);
    let pushes: Vec<_> = heard
        .iter()
        .filter(|told| told.starts_with("push"))
        .collect();
    let expected = [
        "push juliet@example.org none ask",
        "push nurse@example.org none ask",
    ];
    assert_eq!(pushes, expected);
    assert_eq!(realm.stored(ROMEO, NURSE), ASKED);
}

/// RFC 6121 §2.5.2.
#[test]
fn a_removed_contact_is_told_and_keeps_nothing() {
    let (mut realm, juliet, romeo) = subscribed();
    send(&mut realm, juliet, Type::Subscribe, ROMEO);
    send(&mut realm, romeo, Type::Subscribed, JULIET);
    realm.heard(juliet);
    realm.heard(romeo);
    assert!(realm.remove(JULIET, ROMEO));
    realm.run();
    let mut heard = realm.heard(juliet);
    assert_eq!(heard.remove(0), "push romeo@example.org remove");
    assert_eq!(heard, ["unavailable romeo@example.org/orchard"]);
    let expected = [
        "unavailable juliet@example.org/balcony",
        "unsubscribe juliet@example.org",
        "push juliet@example.org to",
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(romeo), expected);
    assert_eq!(realm.stored(ROMEO, JULIET), State::LISTED);
    assert_eq!(realm.stored(JULIET, ROMEO), State::NONE);
    assert_eq!(realm.handoffs(), 0);
}

/// The removal withdraws what waits, too; else the other would wait for ever.
#[test]
fn removing_a_contact_withdraws_a_request() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    realm.heard(juliet);
    assert!(realm.remove(ROMEO, JULIET));
    realm.run();
    assert_eq!(realm.heard(juliet), ["unsubscribe romeo@example.org"]);
    assert_eq!(realm.stored(JULIET, ROMEO), State::NONE);
}

/// Issue 4: deleting an account tells its contacts.
#[test]
fn contacts_of_a_deleted_account_are_told_and_a_successor_begins_anew() {
    let mut realm = Realm::new(&[JULIET, ROMEO, NURSE], |_| ());
    let juliet = realm.login("juliet@example.org/balcony");
    let romeo = realm.login("romeo@example.org/orchard");
    let nurse = realm.login("nurse@example.org/room");
    // Romeo has juliet's presence, nurse has asked for it, juliet has asked for romeo's.
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    send(&mut realm, juliet, Type::Subscribe, ROMEO);
    send(&mut realm, nurse, Type::Subscribe, JULIET);
    realm.heard(romeo);
    realm.heard(nurse);
    realm.delete(JULIET);
    realm.create_live(JULIET);
    realm.settle();
    let expected = [
        "unsubscribe juliet@example.org",
        "unavailable juliet@example.org/balcony",
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(romeo), expected);
    let expected = [
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(nurse), expected, "no resource is shown to it");
    assert_eq!(realm.handoffs(), 0);
    assert_eq!(realm.remembered(JULIET, ROMEO), Some(State::NONE));
    let again = realm.login("juliet@example.org/balcony");
    send(&mut realm, again, Type::Subscribe, ROMEO);
    assert_eq!(realm.heard(romeo), ["subscribe juliet@example.org"]);
    assert_eq!(
        realm.stored(ROMEO, JULIET),
        State::LISTED.with(State::PENDING_IN)
    );
}

/// RFC 6121 §2.5.2, §4.5.2: an operator ends the sessions of an account and deletes it. Who has not been
/// told of the end when the roster goes is told with the deletion, and only once.
#[test]
fn contacts_of_a_deleted_account_are_told_of_resources_that_had_just_gone() {
    let (mut realm, juliet, romeo) = subscribed();
    let router = &mut realm.routers[juliet.shard];
    let account = router.accounts.find(JULIET).unwrap();
    let roster = &mut router.accounts.get_mut(account).unwrap().roster;
    for n in 0..2 * FANOUT_TURN {
        let contact = format!("o{n}@example.org");
        roster.as_mut().unwrap().set(&realm::jid(&contact), FROM);
    }
    router.session_closed(juliet.session);
    assert!(router.has_fanout());
    realm.delete(JULIET);
    realm.settle();
    let expected = [
        "unavailable juliet@example.org/balcony",
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(romeo), expected);
    while realm.routers[juliet.shard].has_fanout() {
        let router = &mut realm.routers[juliet.shard];
        router.begin_turn(router.now);
        router.fan_out();
        realm.run();
    }
    assert_eq!(realm.heard(romeo), [""; 0]);
}

/// RFC 6120 §13.11: what a stranger asks next of an account waits for the commit of its request; of a
/// name that does not exist, as long.
#[test]
fn a_request_to_nobody_keeps_what_follows_it_waiting_as_one_to_an_account_does() {
    let mut realm = Realm::new(&[JULIET, ROMEO, NURSE], |_| ());
    let romeo = realm.login("romeo@example.org/orchard");
    let nobody = (0..)
        .map(|n| format!("nobody{n}@example.org"))
        .find(|name| realm.shard_of(name) == realm.shard_of(NURSE))
        .unwrap();
    // Loaded, so that nothing else has them wait.
    for name in [NURSE, &nobody] {
        send(&mut realm, romeo, Type::Probe, name);
    }
    // New, made again, withdrawn, withdrawn again.
    for type_ in [
        Type::Subscribe,
        Type::Subscribe,
        Type::Unsubscribe,
        Type::Unsubscribe,
    ] {
        let commits =
            [NURSE, &nobody].map(|name| commits_before_answer(&mut realm, romeo, type_, name));
        assert_eq!(commits, [1, 1], "{type_:?}");
    }
    assert_eq!(realm.handoffs(), 0);
}

/// Sends a subscription stanza and then what is answered at once, and counts the commits of the
/// recipient's shard until the answer.
fn commits_before_answer(realm: &mut Realm, from: Seat, type_: Type, to: &str) -> usize {
    let shard = realm.shard_of(to);
    assert_ne!(shard, from.shard);
    realm.run();
    realm.heard(from);
    realm.send(from, signal(type_, to));
    let (mut commits, mut is_asked) = (0, false);
    loop {
        if !is_asked && realm.is_heard(from) {
            let mut message = Stanza::new(Kind::Message, Type::Groupchat, Payload::empty());
            message.to = Some(Jid::parse(to).unwrap());
            realm.send(from, message);
            is_asked = true;
        }
        if realm.heard(from).iter().any(|one| one.starts_with("error")) {
            return commits;
        }
        let step = *realm.steps().first().expect("the answer comes");
        commits += usize::from(step == Step::Commit(shard));
        realm.take(step);
    }
}

/// XEP-0175: what is sent to it meanwhile is settled all the same.
#[test]
fn a_request_to_an_anonymous_account_keeps_nothing_waiting_for_it() {
    let mut realm = Realm::new(&[ROMEO], |_| ());
    let romeo = realm.login("romeo@example.org/orchard");
    let ghost = realm::jid("ghost@example.org");
    let shard = realm.shard_of(ghost.as_str());
    let router = &mut realm.routers[shard];
    let key = router
        .accounts
        .insert(ghost.clone(), Standing::Anonymous, router.now.mono);
    router.accounts.get_mut(key).unwrap().roster = Some(Roster::default());
    realm.send(romeo, signal(Type::Subscribe, ghost.as_str()));
    while let Some(step) = realm.steps().first().copied() {
        realm.take(step);
        let account = realm.routers[shard].accounts.get(key).unwrap();
        assert!(!account.is_busy());
    }
    assert_eq!((realm.open(romeo), realm.handoffs()), (0, 0));
}

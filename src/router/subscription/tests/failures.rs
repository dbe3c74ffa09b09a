//! Crashes between the two commits, stores that fail, and stanzas that cross.

use super::realm::{Realm, Seat, Step, jid, signal};
use super::{JULIET, ROMEO, couple, send, subscribed};
use crate::limits::HANDOFF_RETRY;
use crate::router::subscription::{delete_account, redeliver};
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::roster::{self, State};
use crate::storage::{Db, handoff};
use crate::xml::Payload;

/// Does what is due but for one kind of step.
fn run_without(realm: &mut Realm, left_out: impl Fn(Step) -> bool) {
    loop {
        let steps = realm.steps();
        let Some(step) = steps.into_iter().find(|step| !left_out(*step)) else {
            return;
        };
        realm.take(step);
    }
}

/// `Two commits` in lib.rs: at no point does a crash leave two rosters that disagree.
#[test]
fn a_crash_at_any_step_leaves_rosters_that_agree() {
    let mut steps_max = 0;
    for crash_after in 0.. {
        let (mut realm, _, romeo) = couple();
        realm.send(romeo, signal(Type::Subscribe, JULIET));
        let mut taken = 0;
        while taken < crash_after {
            let Some(step) = realm.steps().first().copied() else {
                break;
            };
            realm.take(step);
            taken += 1;
        }
        realm.crash();
        let (asks, is_asked) = (realm.stored(ROMEO, JULIET), realm.stored(JULIET, ROMEO));
        assert_eq!(
            asks.has(State::PENDING_OUT),
            is_asked.has(State::PENDING_IN),
            "after {taken} steps"
        );
        assert_eq!(realm.handoffs(), 0);
        if taken < crash_after {
            assert!(asks.has(State::PENDING_OUT));
            steps_max = taken;
            break;
        }
    }
    assert!(steps_max >= 5, "{steps_max} steps");
}

/// A request is not lost by a crash, with all that is in it (RFC 6121 §3.1.3).
#[test]
fn a_request_that_a_crash_caught_on_its_way_is_shown_at_the_next_login() {
    let (mut realm, juliet, romeo) = couple();
    let juliets = juliet.shard;
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    run_without(&mut realm, |step| step == Step::Post(romeo.shard, juliets));
    assert_eq!(realm.handoffs(), 1);
    assert_eq!(realm.open(romeo), 0, "the row vouches for it");
    realm.crash();
    let juliet = realm.login("juliet@example.org/balcony");
    realm.routers[juliets].deliver_requests(juliet.session);
    realm.run();
    assert_eq!(realm.heard(juliet), ["subscribe romeo@example.org"]);
}

/// RFC 6121 §3.4.2: also the answer that the server makes survives.
#[test]
fn an_automatic_answer_that_a_crash_caught_arrives() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    let (from, to) = (juliet.shard, romeo.shard);
    run_without(&mut realm, |step| step == Step::Post(from, to));
    assert!(realm.stored(JULIET, ROMEO).has(State::FROM));
    assert!(realm.stored(ROMEO, JULIET).has(State::PENDING_OUT));
    realm.crash();
    assert!(realm.stored(ROMEO, JULIET).has(State::TO));
}

#[test]
fn the_store_is_asked_in_bounded_pieces_after_a_crash() {
    let (mut realm, _, _) = couple();
    let count = 1_000;
    let write = move |db: &Db| {
        let own = jid(JULIET);
        for n in 0..count {
            let contact = jid(&format!("user{n}@example.org"));
            let asks = State::LISTED.with(State::PENDING_OUT);
            roster::set_state(db, &own, &contact, asks, None)?;
            let mut stanza = Stanza::new(Kind::Presence, Type::Subscribe, Payload::empty());
            stanza.from = Some(own.to_jid());
            stanza.to = Some(contact.to_jid());
            handoff::insert(db, &stanza)?;
        }
        Ok(())
    };
    realm.store.change(write).unwrap();
    assert_eq!(redeliver(&mut realm.store, 100).unwrap(), count);
    assert_eq!(realm.handoffs(), 0);
    assert_eq!(redeliver(&mut realm.store, 100).unwrap(), 0);
}

#[test]
fn requests_that_a_crash_left_are_bounded_as_others_are() {
    let names = ["a@example.org", "b@example.org", "c@example.org"];
    let all = [names[0], names[1], names[2], JULIET];
    let mut realm = Realm::new(&all, |settings| settings.limits.pending_requests_max = 2);
    let seats = names.map(|name| realm.login(&format!("{name}/there")));
    for seat in seats {
        realm.send(seat, signal(Type::Subscribe, JULIET));
    }
    let juliets = realm.shard_of(JULIET);
    // Each is committed at its sender; the recipient's shard does nothing more.
    for shard in 0..2 {
        while realm.steps().contains(&Step::Commit(shard)) {
            realm.take(Step::Commit(shard));
        }
    }
    assert_eq!(realm.handoffs(), 3, "shard {juliets} has not looked");
    realm.crash();
    let waiting = names.map(|name| realm.stored(JULIET, name).has(State::PENDING_IN));
    assert_eq!(waiting.iter().filter(|waits| **waits).count(), 2);
}

/// A full disk is an error for who asks, and changes nothing.
#[test]
fn a_change_that_fails_at_the_sender_comes_back() {
    let (mut realm, juliet, romeo) = couple();
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    realm.steps();
    realm.fail(romeo.shard);
    realm.run();
    assert_eq!(realm.heard(romeo), ["error internal-server-error"]);
    assert_eq!(realm.heard(juliet), [""; 0]);
    assert_eq!(realm.remembered(ROMEO, JULIET), Some(State::NONE));
    assert!(realm.is_heard(romeo));
    assert_eq!(realm.open(romeo), 0);
}

/// What was acknowledged is done as soon as the store can.
#[test]
fn a_change_that_fails_at_the_recipient_is_tried_again_in_order() {
    let (mut realm, juliet, romeo) = couple();
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    let juliets = juliet.shard;
    run_without(&mut realm, |step| step == Step::Commit(juliets));
    realm.fail(juliets);
    realm.run();
    assert_eq!(realm.heard(juliet), [""; 0]);
    assert_eq!(realm.handoffs(), 1);
    send(&mut realm, romeo, Type::Unsubscribe, JULIET);
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    assert_eq!(realm.heard(juliet), [""; 0], "they stand behind it");
    realm.pass(HANDOFF_RETRY);
    realm.run();
    assert_eq!(realm.heard(juliet)[0], "subscribe romeo@example.org");
    assert_eq!(realm.stored(JULIET, ROMEO), State::PENDING_IN);
    assert_eq!(realm.handoffs(), 0);
}

/// Found by `tests/simulation.rs`: the request got lost with the account that could not be loaded.
#[test]
fn a_hand_off_to_an_account_that_cannot_be_loaded_is_tried_again() {
    let mut realm = Realm::new(&[JULIET, ROMEO], |_| ());
    let romeo = realm.login("romeo@example.org/orchard");
    let juliets = realm.shard_of(JULIET);
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    run_without(&mut realm, |step| step == Step::Read(juliets));
    realm.fail_read(juliets);
    realm.run();
    assert_eq!(realm.handoffs(), 1);
    assert_eq!(
        realm.heard(romeo),
        ["push juliet@example.org none ask"],
        "nothing comes back"
    );
    realm.settle();
    assert_eq!(realm.stored(JULIET, ROMEO), State::PENDING_IN);
    assert_eq!(realm.handoffs(), 0);
}

/// RFC 6121 §3.1.6, rule 3. Found by `tests/simulation.rs`.
#[test]
fn a_resource_that_comes_while_an_approval_is_late_gets_the_contacts_presence() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    realm.send(juliet, signal(Type::Subscribed, ROMEO));
    let romeos = romeo.shard;
    run_without(&mut realm, |step| step == Step::Commit(romeos));
    realm.fail(romeos);
    realm.run();
    let garden = realm.login("romeo@example.org/garden");
    realm.settle();
    let expected = [
        "subscribed juliet@example.org",
        "push juliet@example.org to",
        "available juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(garden), expected);
}

/// The same, if it is late because of what its sender has said before it. Found by
/// `tests/simulation.rs`.
#[test]
fn a_resource_that_comes_while_an_approval_waits_for_another_stanza_gets_presence() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    realm.send(juliet, signal(Type::Subscribe, ROMEO));
    let romeos = romeo.shard;
    run_without(&mut realm, |step| step == Step::Commit(romeos));
    realm.fail(romeos);
    send(&mut realm, juliet, Type::Subscribed, ROMEO);
    let garden = realm.login("romeo@example.org/garden");
    realm.settle();
    let expected = [
        "subscribe juliet@example.org",
        "subscribed juliet@example.org",
        "push juliet@example.org to",
        "available juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(garden), expected);
}

/// Romeo's server takes it that he has left and asks anew; juliet's has not heard that he left.
#[test]
fn who_asks_again_before_his_leave_has_arrived_gets_presence_again() {
    let (mut realm, juliet, romeo) = subscribed();
    let (from, to) = (romeo.shard, juliet.shard);
    for type_ in [Type::Unsubscribe, Type::Subscribe] {
        realm.send(romeo, signal(type_, JULIET));
        run_without(&mut realm, |step| step == Step::Post(from, to));
    }
    let conn = realm.admit(ROMEO);
    let garden = realm.bind(ROMEO, "garden", conn).flatten().unwrap();
    realm.run();
    let expected = [
        "subscribed juliet@example.org",
        "push juliet@example.org to",
        "available juliet@example.org/balcony",
    ];
    assert_eq!(realm.heard(garden), expected);
    assert_eq!(realm.stored(JULIET, ROMEO), super::FROM);
}

/// RFC 6121 §4.3.2, rule 1: the answer to a probe says what was so when the probe came. A request that
/// is made since is none of its business.
#[test]
fn the_answer_to_a_probe_ends_no_request_that_was_made_since() {
    let (mut realm, juliet, romeo) = subscribed();
    let (from, to) = (juliet.shard, romeo.shard);
    let is_from_juliet = |step| step == Step::Post(from, to);
    realm.send(juliet, signal(Type::Unsubscribed, ROMEO));
    run_without(&mut realm, is_from_juliet);
    let romeos = realm.routers[to].accounts.find(ROMEO).unwrap();
    realm.routers[to].probe_for_all(romeos, &jid(JULIET));
    run_without(&mut realm, is_from_juliet);
    while realm.stored(ROMEO, JULIET).has(State::TO) {
        realm.take(Step::Post(from, to));
        run_without(&mut realm, is_from_juliet);
    }
    realm.send(romeo, signal(Type::Subscribe, JULIET));
    run_without(&mut realm, is_from_juliet);
    assert!(
        realm.steps().into_iter().any(is_from_juliet),
        "the answer is on its way"
    );
    realm.settle();
    assert!(realm.stored(ROMEO, JULIET).has(State::PENDING_OUT));
    assert!(realm.stored(JULIET, ROMEO).has(State::PENDING_IN));
}

/// Also the contacts of an account that is deleted are told as soon as the store can tell them apart.
#[test]
fn contacts_of_a_deleted_account_are_told_though_a_read_fails() {
    let (mut realm, juliet, romeo) = subscribed();
    realm.delete(JULIET);
    realm.create_live(JULIET);
    run_without(&mut realm, |step| step == Step::Read(juliet.shard));
    realm.fail_read(juliet.shard);
    realm.run();
    assert_eq!(realm.stored(ROMEO, JULIET), super::TO);
    realm.settle();
    let expected = [
        "unavailable juliet@example.org/balcony",
        "unsubscribed juliet@example.org",
        "push juliet@example.org none",
    ];
    assert_eq!(realm.heard(romeo), expected);
    assert_eq!(realm.handoffs(), 0);
    realm.login("juliet@example.org/balcony");
}

/// What a bad disk has made of one hand-off keeps neither the others from their contacts nor anybody
/// from the name.
#[test]
fn a_damaged_hand_off_does_not_keep_the_name_of_a_deleted_account() {
    let (mut realm, juliet, romeo) = subscribed();
    send(&mut realm, juliet, Type::Subscribe, ROMEO);
    send(&mut realm, romeo, Type::Subscribed, JULIET);
    realm.heard(romeo);
    realm.delete(JULIET);
    realm.create_live(JULIET);
    run_without(&mut realm, |step| step == Step::Read(juliet.shard));
    let (rows, _) = handoff::all(realm.store.db(), 0, 9).unwrap();
    let kinds: Vec<Type> = rows.iter().map(|row| row.stanza.type_).collect();
    assert_eq!(kinds, [Type::Unsubscribe, Type::Unsubscribed]);
    handoff::damage(realm.store.db(), rows[0].id);
    realm.settle();
    assert_eq!(realm.handoffs(), 0);
    let heard = realm.heard(romeo);
    assert!(
        heard.contains(&"unsubscribed juliet@example.org".to_owned()),
        "{heard:?}"
    );
    assert!(
        !heard.contains(&"unsubscribe juliet@example.org".to_owned()),
        "{heard:?}"
    );
    realm.login("juliet@example.org/balcony");
}

/// A login has more of the account loaded than its deletion needs.
#[test]
fn an_account_that_is_being_deleted_survives_a_read_that_fails() {
    let (mut realm, juliet, _) = subscribed();
    let juliets = juliet.shard;
    realm.crash();
    realm.delete(JULIET);
    run_without(&mut realm, |step| step == Step::Commit(juliets));
    realm.admit(JULIET);
    realm.steps();
    realm.fail_read(juliets);
    realm.settle();
    assert_eq!(realm.stored(ROMEO, JULIET), State::LISTED);
    assert_eq!(realm.handoffs(), 0);
}

/// Also the end of a stanza without effect.
#[test]
fn a_row_that_could_not_be_deleted_is_deleted_later() {
    let (mut realm, juliet, romeo) = couple();
    realm.send(romeo, signal(Type::Unsubscribe, JULIET));
    let juliets = juliet.shard;
    run_without(&mut realm, |step| step == Step::Commit(juliets));
    realm.fail(juliets);
    realm.run();
    assert_eq!(realm.handoffs(), 1);
    realm.settle();
    assert_eq!(realm.handoffs(), 0);
}

/// The approval of a request that was withdrawn and made again meanwhile.
#[test]
fn an_approval_meets_no_request_but_its_own() {
    let (mut realm, juliet, romeo) = couple();
    send(&mut realm, romeo, Type::Subscribe, JULIET);
    realm.send(juliet, signal(Type::Subscribed, ROMEO));
    let (from, to) = (juliet.shard, romeo.shard);
    let is_approval = |step| step == Step::Post(from, to);
    run_without(&mut realm, is_approval);
    for type_ in [Type::Unsubscribe, Type::Subscribe] {
        realm.send(romeo, signal(type_, JULIET));
        run_without(&mut realm, is_approval);
    }
    realm.run();
    assert!(realm.stored(ROMEO, JULIET).has(State::PENDING_OUT));
    assert!(realm.stored(JULIET, ROMEO).has(State::PENDING_IN));
    assert!(!realm.stored(JULIET, ROMEO).has(State::FROM));
}

fn rows_about(realm: &Realm, name: &str) -> usize {
    let states = roster::states(realm.store.db(), &jid(name)).unwrap();
    states.len()
}

/// Without a server: the next start tells the contacts.
#[test]
fn an_account_deleted_without_a_server_is_gone_for_its_contacts_at_the_next_start() {
    let (mut realm, _, _): (Realm, Seat, Seat) = subscribed();
    realm.crash();
    let delete = |db: &Db| delete_account(db, &jid(JULIET));
    realm.store.change(delete).unwrap();
    assert_eq!(rows_about(&realm, JULIET), 0);
    assert_eq!(realm.handoffs(), 1);
    realm.crash();
    assert_eq!(realm.stored(ROMEO, JULIET), State::LISTED);
    assert_eq!(realm.handoffs(), 0);
}

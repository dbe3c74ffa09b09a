//! Subscriptions with accounts of other servers, whose stanzas nothing vouches for: only what the account
//! has a part in changes anything (RFC 6121 Appendix A).

use crate::jid::BareJid;
use crate::router::testing::{Remote, Seat, Site, stanza};
use crate::stanza::{Kind, Type};
use crate::storage::accounts;
use crate::storage::roster::{self, State};

const JULIET: &str = "juliet@example.org";
const ROMEO: &str = "romeo@example.net";
const FROM: State = State::LISTED.with(State::FROM);
const TO: State = State::LISTED.with(State::TO);
const ASKED: State = State::LISTED.with(State::PENDING_OUT);

/// A session of juliet that is available and gets roster pushes, and romeo's server.
fn couple() -> (Site, Seat, Remote) {
    let mut site = Site::new(&[]);
    site.create(JULIET);
    let juliet = login(&mut site, "balcony");
    let remote = site.remote();
    (site, juliet, remote)
}

fn login(site: &mut Site, resource: &str) -> Seat {
    let seat = site.bind(JULIET, resource, None);
    site.router
        .sessions
        .get_mut(seat.session)
        .unwrap()
        .is_interested = true;
    let mut presence = stanza(Kind::Presence, Type::Available, None);
    presence.id = Some("initial".into());
    site.send(seat, presence);
    site.run_store();
    site.take(seat);
    seat
}

fn hear(site: &mut Site, remote: &Remote, type_: Type, from: &str, to: &str) {
    let signal = stanza(Kind::Presence, type_, Some(to));
    site.send_from_remote(remote, from, signal);
    site.run_store();
}

fn say(site: &mut Site, seat: Seat, type_: Type) {
    site.send(seat, stanza(Kind::Presence, type_, Some(ROMEO)));
    site.run_store();
}

/// Both in the store and in memory.
fn set(site: &mut Site, state: State) {
    site.contact(JULIET, ROMEO, state);
    let (own, contact) = (
        BareJid::parse(JULIET).unwrap(),
        BareJid::parse(ROMEO).unwrap(),
    );
    site.store
        .change(move |db| roster::set_state(db, &own, &contact, state, None).map(drop))
        .unwrap();
}

fn state(site: &Site) -> State {
    let states = roster::states(site.store.db(), &BareJid::parse(JULIET).unwrap()).unwrap();
    let found = states.iter().find(|(contact, _)| contact.as_str() == ROMEO);
    let stored = found.map_or(State::NONE, |(_, state)| *state);
    let key = site.router.accounts.find(JULIET).unwrap();
    let account = site.router.accounts.get(key).unwrap();
    assert_eq!(account.roster.as_ref().unwrap().state(ROMEO), stored);
    stored
}

/// RFC 6121 §3.1.3, §3.1.5.
#[test]
fn a_request_of_another_server_is_shown_once_and_approved() {
    let (mut site, juliet, mut remote) = couple();
    // Resources have no part in it, though other servers may send them.
    for _ in 0..2 {
        hear(
            &mut site,
            &remote,
            Type::Subscribe,
            "romeo@example.net/orchard",
            "juliet@example.org/x",
        );
    }
    let shown = site.take(juliet);
    assert!(
        shown.contains("from='romeo@example.net' to='juliet@example.org'"),
        "{shown}"
    );
    assert_eq!(shown.matches("<presence").count(), 1, "{shown}");
    assert!(!shown.contains("<iq"), "nobody asks for a push: {shown}");
    assert_eq!(state(&site), State::PENDING_IN);
    assert_eq!(site.told_remote(&mut remote), [""; 0]);
    say(&mut site, juliet, Type::Subscribed);
    assert_eq!(
        site.told_remote(&mut remote),
        [
            "subscribed juliet@example.org romeo@example.net",
            "- juliet@example.org/balcony romeo@example.net",
        ]
    );
    assert!(site.take(juliet).contains("subscription='from'"));
    assert_eq!(state(&site), FROM);
}

/// RFC 6121 §3.1.6, §3.2.3, §3.3.3, each with its first check: what was never asked for changes nothing,
/// and nobody is told.
#[test]
fn what_nobody_has_asked_for_changes_nothing_and_is_told_to_nobody() {
    let (mut site, juliet, mut remote) = couple();
    for listed in [State::NONE, State::LISTED] {
        set(&mut site, listed);
        for type_ in [Type::Subscribed, Type::Unsubscribe, Type::Unsubscribed] {
            for to in [JULIET, "juliet@example.org/balcony", "juliet@example.org/x"] {
                hear(&mut site, &remote, type_, ROMEO, to);
                assert_eq!(site.take(juliet), "", "{type_:?} to {to}");
                assert_eq!(state(&site), listed);
            }
        }
    }
    // Who is asked, and says that he is another one.
    set(&mut site, ASKED);
    hear(
        &mut site,
        &remote,
        Type::Subscribed,
        "tybalt@example.net",
        JULIET,
    );
    assert_eq!((site.take(juliet), state(&site)), (String::new(), ASKED));
    // A contact that has the account's presence cannot make the account have his.
    set(&mut site, FROM);
    hear(&mut site, &remote, Type::Subscribed, ROMEO, JULIET);
    assert_eq!((site.take(juliet), state(&site)), (String::new(), FROM));
    assert_eq!(site.told_remote(&mut remote), [""; 0]);
}

/// RFC 6121 §3.1.2, §3.1.6, §3.2.3.
#[test]
fn a_request_to_another_server_is_answered_by_it_alone() {
    let (mut site, juliet, mut remote) = couple();
    say(&mut site, juliet, Type::Subscribe);
    assert_eq!(
        site.told_remote(&mut remote),
        ["subscribe juliet@example.org romeo@example.net"]
    );
    assert!(site.take(juliet).contains("ask='subscribe'"));
    assert_eq!(state(&site), ASKED);
    for (type_, subscription, expected) in [
        (Type::Subscribed, "to", TO),
        (Type::Unsubscribed, "none", State::LISTED),
    ] {
        hear(&mut site, &remote, type_, ROMEO, JULIET);
        let heard = site.take(juliet);
        let (stanza, push) = heard.split_once("<iq").expect("a push follows");
        assert!(stanza.contains("from='romeo@example.net'"), "{heard}");
        assert!(
            push.contains(&format!("subscription='{subscription}'")),
            "{heard}"
        );
        assert_eq!(state(&site), expected);
    }
    assert_eq!(site.told_remote(&mut remote), [""; 0]);
}

/// RFC 6121 §A.3.1, §A.3.2, §3.3.3, §3.4.2.
#[test]
fn another_server_gets_the_answers_that_the_account_does_not_give_itself() {
    let (mut site, juliet, mut remote) = couple();
    set(&mut site, FROM);
    hear(&mut site, &remote, Type::Subscribe, ROMEO, JULIET);
    let approved = [
        "subscribed juliet@example.org romeo@example.net",
        "- juliet@example.org/balcony romeo@example.net",
    ];
    assert_eq!(site.told_remote(&mut remote), approved);
    assert_eq!(site.take(juliet), "", "nothing is new");
    hear(&mut site, &remote, Type::Unsubscribe, ROMEO, JULIET);
    let mut told = site.told_remote(&mut remote);
    told.sort();
    let expected = [
        "unavailable juliet@example.org/balcony romeo@example.net",
        "unsubscribed juliet@example.org romeo@example.net",
    ];
    assert_eq!(told, expected);
    assert!(site.take(juliet).contains("subscription='none'"));
    set(&mut site, State::LISTED.with(State::APPROVED));
    hear(&mut site, &remote, Type::Subscribe, ROMEO, JULIET);
    assert_eq!(site.told_remote(&mut remote), approved);
    assert_eq!(state(&site), FROM);
}

/// RFC 6121 §2.5.2.
#[test]
fn a_contact_of_another_server_is_told_of_the_deletion_of_an_account() {
    use crate::router::commands::AccountCommand;
    use crate::stanza::{StreamCondition, StreamError};
    let (mut site, _, mut remote) = couple();
    set(&mut site, TO.with(State::FROM));
    let own = BareJid::parse(JULIET).unwrap();
    let of = own.clone();
    let command = AccountCommand {
        apply: Box::new(move |db| super::super::delete_account(db, &of)),
        ends_sessions: Some(StreamError::new(StreamCondition::NotAuthorized, "deleted")),
    };
    site.router.command(&own, command, Box::new(|_| ()));
    site.run_store();
    assert_eq!(
        site.told_remote(&mut remote),
        [
            "unsubscribe juliet@example.org romeo@example.net",
            "unavailable juliet@example.org/balcony romeo@example.net",
            "unsubscribed juliet@example.org romeo@example.net",
        ]
    );
    let waiting = crate::storage::handoff::count(site.store.db()).unwrap();
    assert_eq!(waiting, 0);
    assert!(accounts::find(site.store.db(), &own).unwrap().is_none());
}

/// RFC 6121 §3.1.2, last paragraph; §4.3.1.
#[test]
fn a_login_asks_those_again_that_have_not_answered() {
    let (mut site, _, mut remote) = couple();
    set(&mut site, ASKED);
    login(&mut site, "garden");
    assert_eq!(
        site.told_remote(&mut remote),
        ["subscribe juliet@example.org romeo@example.net"]
    );
    set(&mut site, TO);
    login(&mut site, "cellar");
    assert_eq!(
        site.told_remote(&mut remote),
        ["probe juliet@example.org romeo@example.net"]
    );
    // Of accounts of this server nothing gets lost.
    set(&mut site, State::LISTED);
    site.contact(JULIET, "nurse@example.org", ASKED);
    login(&mut site, "hall");
    assert_eq!(site.told_remote(&mut remote), [""; 0]);
}

/// RFC 6121 §4.3.2, rule 1: what one server has lost comes back to the other by the next probe.
#[test]
fn a_contact_that_does_not_know_of_a_subscription_ends_it_by_its_answer() {
    let (mut site, juliet, remote) = couple();
    set(&mut site, TO);
    hear(&mut site, &remote, Type::Unsubscribed, ROMEO, JULIET);
    assert!(site.take(juliet).contains("subscription='none'"));
    assert_eq!(state(&site), State::LISTED);
}

/// RFC 6120 §13.11: neither answers nor what they wait for tell another server who has an account.
#[test]
fn a_request_tells_another_server_nothing_of_whether_there_is_an_account() {
    for to in [JULIET, "nobody@example.org"] {
        let (mut site, _, mut remote) = couple();
        // The account is in memory, with its roster, since somebody else has asked.
        let ask = stanza(Kind::Presence, Type::Subscribe, Some(to));
        site.send_from_remote(&remote, "mercutio@example.net", ask);
        site.run_store();
        let ask = stanza(Kind::Presence, Type::Subscribe, Some(to));
        site.send_from_remote(&remote, ROMEO, ask);
        assert_eq!(site.router.out.batch.changes.len(), 1, "{to}");
        let disco = stanza(Kind::Iq, Type::Get, Some(to));
        site.send_from_remote(&remote, ROMEO, disco);
        assert!(
            site.router.out.reads.is_empty(),
            "it waits for the commit: {to}"
        );
        assert_eq!(
            site.told_remote(&mut remote),
            [format!("error {to} romeo@example.net")]
        );
    }
}

//! Presence of and for accounts of other servers (RFC 6121 §4).

use super::*;
use crate::router::testing::Remote;

const TYBALT: &str = "tybalt@example.net";
const PARIS: &str = "paris@example.net";

/// tybalt gets juliet's presence, and she his.
fn site() -> (Site, Remote) {
    let mut site = Site::new(&[]);
    let both = State::LISTED.with(State::FROM).with(State::TO);
    site.contact(JULIET, TYBALT, both);
    let remote = site.remote();
    (site, remote)
}

fn ask(site: &mut Site, remote: &mut Remote, from: &str, to: &str) -> Vec<String> {
    site.send_from_remote(remote, from, presence_to(Type::Probe, to));
    site.told_remote(remote)
}

/// RFC 6121 §4.2.2, §4.3.1, §4.4.2, §4.5.2: probes to other servers are in the name of the account.
#[test]
fn another_server_is_told_when_a_session_comes_and_however_it_ends() {
    let (mut site, mut remote) = site();
    let balcony = site.bind(JULIET, "balcony", None);
    site.send(balcony, presence(Type::Available));
    assert_eq!(
        site.told_remote(&mut remote),
        [
            "- juliet@example.org/balcony tybalt@example.net",
            "probe juliet@example.org tybalt@example.net",
        ]
    );
    site.send(balcony, with_child("show", "away"));
    assert_eq!(
        site.told_remote(&mut remote),
        ["- juliet@example.org/balcony tybalt@example.net"]
    );
    let gone = ["unavailable juliet@example.org/balcony tybalt@example.net"];
    site.send(balcony, presence(Type::Unavailable));
    assert_eq!(site.told_remote(&mut remote), gone);
    site.send(balcony, presence(Type::Available));
    site.told_remote(&mut remote);
    // Its connection is lost, or the stream ended: all the same to the router.
    site.end(balcony);
    assert_eq!(site.told_remote(&mut remote), gone);
}

/// RFC 6121 §4.3.2.
#[test]
fn a_probe_of_another_server_is_answered_with_the_last_presence_of_each_resource() {
    let (mut site, mut remote) = site();
    let to_tybalt = |from: &str| format!("- juliet@example.org/{from} tybalt@example.net");
    let unavailable = ["unavailable juliet@example.org tybalt@example.net"];
    for from in [TYBALT, "tybalt@example.net/home"] {
        let answers = ask(&mut site, &mut remote, from, JULIET);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].starts_with(unavailable[0]), "{answers:?}");
    }
    let seats = ["balcony", "garden"].map(|resource| {
        let seat = site.bind(JULIET, resource, None);
        site.send(seat, presence(Type::Available));
        seat
    });
    site.told_remote(&mut remote);
    let expected = [to_tybalt("balcony"), to_tybalt("garden")];
    assert_eq!(ask(&mut site, &mut remote, TYBALT, JULIET), expected);
    site.end(seats[0]);
    site.told_remote(&mut remote);
    assert_eq!(ask(&mut site, &mut remote, TYBALT, JULIET), expected[1..]);
}

/// RFC 6120 §13.11, RFC 6121 §4.3.2: a stranger hears the same of an account that is online, one that is
/// not, and a name without one, after as many reads of the store.
#[test]
fn a_stranger_of_another_server_hears_the_same_of_everybody() {
    let (mut site, mut remote) = site();
    let juliet = site.bind(JULIET, "balcony", Some(0));
    site.create("nurse@example.org");
    site.account("known@example.org", Standing::Unknown);
    let names = ["juliet", "nurse", "known", "nobody"];
    for name in names {
        for resource in ["", "/balcony"] {
            let to = format!("{name}@example.org{resource}");
            site.send_from_remote(&remote, PARIS, presence_to(Type::Probe, &to));
            assert_eq!(site.router.out.reads.len(), 1, "{to}");
            assert_eq!(
                site.told_remote(&mut remote),
                [format!("unsubscribed {name}@example.org paris@example.net")]
            );
        }
        for to in [
            format!("{name}@example.org"),
            format!("{name}@example.org/balcony"),
        ] {
            let disco = stanza(Kind::Iq, Type::Get, Some(&to));
            site.send_from_remote(&remote, PARIS, disco);
            assert_eq!(site.router.out.reads.len(), 1, "{to}");
            assert_eq!(
                site.told_remote(&mut remote),
                [format!("error {to} paris@example.net")]
            );
        }
        // Presence is told to nobody but who is there, and answered by nobody.
        for type_ in [Type::Available, Type::Unavailable, Type::Error] {
            let to = format!("{name}@example.org/cellar");
            site.send_from_remote(&remote, PARIS, presence_to(type_, &to));
            assert!(site.router.out.reads.is_empty());
            assert_eq!(site.told_remote(&mut remote), [""; 0]);
        }
    }
    assert_eq!(site.take(juliet), "");
}

/// RFC 6121 §4.6.3, §4.6.6.
#[test]
fn directed_presence_to_another_server_lasts_until_the_session_ends() {
    let (mut site, mut remote) = site();
    let balcony = site.bind(JULIET, "balcony", None);
    let garden = site.bind(JULIET, "garden", None);
    for seat in [balcony, garden] {
        site.send(seat, presence(Type::Available));
    }
    let home = "paris@example.net/home";
    site.send(balcony, presence_to(Type::Available, home));
    site.told_remote(&mut remote);
    site.send(balcony, with_child("show", "away"));
    let told = site.told_remote(&mut remote);
    assert!(told.iter().all(|one| one.ends_with(TYBALT)), "{told:?}");
    assert_eq!(
        ask(&mut site, &mut remote, home, "juliet@example.org/balcony"),
        ["- juliet@example.org/balcony paris@example.net/home"]
    );
    assert_eq!(
        ask(&mut site, &mut remote, home, "juliet@example.org/garden"),
        ["unsubscribed juliet@example.org paris@example.net"]
    );
    // His server probes for a subscription that it believes in, and juliet knows of none.
    assert_eq!(
        ask(&mut site, &mut remote, PARIS, JULIET),
        [
            "unsubscribed juliet@example.org paris@example.net",
            "- juliet@example.org/balcony paris@example.net",
        ]
    );
    site.end(balcony);
    let mut told = site.told_remote(&mut remote);
    told.sort();
    assert_eq!(
        told,
        [
            "unavailable juliet@example.org/balcony paris@example.net/home",
            "unavailable juliet@example.org/balcony tybalt@example.net",
        ]
    );
}

/// RFC 6121 §4.6.1: somebody whose server cannot be reached for a while still takes the session to be
/// there, and is told when it goes.
#[test]
fn who_cannot_be_reached_for_a_while_is_told_of_the_end_all_the_same() {
    let (mut site, mut remote) = site();
    let balcony = site.bind(JULIET, "balcony", Some(0));
    site.send(balcony, presence_to(Type::Available, PARIS));
    site.told_remote(&mut remote);
    let mut lost = presence_to(Type::Available, PARIS);
    lost.from = Some(Jid::parse("juliet@example.org/balcony").unwrap());
    let error = StanzaError::new(Condition::RemoteServerTimeout);
    site.router.reject(Routed::new(lost, Ticket::none()), error);
    site.router.work();
    assert!(site.take(balcony).contains("<remote-server-timeout "));
    site.end(balcony);
    let told = site.told_remote(&mut remote);
    assert!(
        told.contains(&format!("unavailable juliet@example.org/balcony {PARIS}")),
        "{told:?}"
    );
}

/// RFC 6121 §2.1.6: no push but the server's own reaches a client, not even of a contact.
#[test]
fn a_roster_push_of_another_server_reaches_nobody() {
    let (mut site, mut remote) = site();
    let balcony = site.bind(JULIET, "balcony", None);
    site.send(balcony, presence(Type::Available));
    site.told_remote(&mut remote);
    site.take(balcony);
    let item = Element::new(ns::ROSTER, "item").attr("jid", PARIS);
    let query = Element::new(ns::ROSTER, "query").child(item);
    for to in [JULIET, "juliet@example.org/balcony"] {
        let mut push = Stanza::new(
            Kind::Iq,
            Type::Set,
            Payload::from_elements(std::slice::from_ref(&query)),
        );
        (push.id, push.to) = (Some("push".into()), Some(Jid::parse(to).unwrap()));
        site.send_from_remote(&remote, TYBALT, push);
        assert_eq!(
            site.told_remote(&mut remote),
            [format!("error {to} tybalt@example.net")]
        );
        assert_eq!(site.take(balcony), "");
    }
    // Any other request of a contact does.
    let to = "juliet@example.org/balcony";
    site.send_from_remote(&remote, TYBALT, stanza(Kind::Iq, Type::Set, Some(to)));
    assert!(site.take(balcony).starts_with("<iq "));
}

/// RFC 6121 §3.1.5, §4.2.2; found by `tests/simulation.rs`: presence that comes behind `subscribed` was
/// dropped while that was being committed, since nobody was there to hear it. Who became available
/// meanwhile heard nothing of the contact, and did not know whom to probe.
#[test]
fn presence_that_follows_an_approval_is_not_lost_while_that_is_committed() {
    let mut site = Site::new(&[]);
    site.create(JULIET);
    site.contact(JULIET, "romeo@example.net", State::PENDING_OUT);
    let remote = site.remote();
    let approval = presence_to(Type::Subscribed, JULIET);
    site.send_from_remote(&remote, "romeo@example.net", approval);
    let first = presence_to(Type::Available, JULIET);
    site.send_from_remote(&remote, "romeo@example.net/orchard", first);
    let juliet = site.bind(JULIET, "balcony", None);
    site.send(juliet, presence(Type::Available));
    site.run_store();
    assert_eq!(
        heard(&mut site, juliet),
        [
            said("juliet@example.org/balcony", ""),
            said("romeo@example.net/orchard", "")
        ]
    );
}

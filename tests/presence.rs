//! Presence over real sockets, between accounts on the same shard and on different ones
//! (RFC 6121 §4).

mod common;

use stanzad::jid::BareJid;
use stanzad::storage::roster::{State, set_state};
use stanzad::xml::Element;

use common::client::{Client, text};
use common::server::{ACCOUNTS, PASSWORD, Server, site, with_store};
use common::site::Site;

const JULIET: &str = "juliet@example.org";
const BALCONY: &str = "juliet@example.org/balcony";

/// A site in whose store each of these accounts has each contact in that state.
fn with_rosters(conf: &str, rosters: &[(&str, &str, State)]) -> Site {
    let site = site(conf);
    let items: Vec<(BareJid, BareJid, State)> = rosters
        .iter()
        .map(|(account, contact, state)| {
            let [account, contact] = [account, contact].map(|jid| BareJid::parse(jid).unwrap());
            (account, contact, state.with(State::LISTED))
        })
        .collect();
    with_store(&site, |store| {
        store
            .change(move |db| {
                for (account, contact, state) in items {
                    set_state(db, &account, &contact, state, None)?;
                }
                Ok(())
            })
            .unwrap();
    });
    site
}

/// All accounts of the tests see each other: some on the same shard, others not, in two domains.
fn friends() -> Server {
    let both = State::FROM.with(State::TO);
    let mut rosters = Vec::new();
    for account in ACCOUNTS {
        for contact in ACCOUNTS {
            if contact != account {
                rosters.push((account, contact, both));
            }
        }
    }
    Server::start_in(with_rosters("", &rosters))
}

fn attribute<'a>(presence: &'a Element, name: &str) -> &'a str {
    presence.attribute(name).unwrap_or_default()
}

/// The presence that comes next: who it is of, and its type.
fn heard(client: &mut Client) -> (String, String) {
    let presence = client.stanza("presence");
    let (from, type_) = (attribute(&presence, "from"), attribute(&presence, "type"));
    (from.to_owned(), type_.to_owned())
}

fn said(from: &str, type_: &str) -> (String, String) {
    (from.to_owned(), type_.to_owned())
}

/// All that a client has heard before a message that `sender` sends it now, by the same way on which
/// the sender's presence comes.
fn before_message(sender: &mut Client, client: &mut Client) -> Vec<Element> {
    sender.send(format!("<message to='{}' id='marker'/>", client.jid));
    let mut heard = Vec::new();
    loop {
        let element = client.element();
        if attribute(&element, "id") == "marker" {
            return heard;
        }
        heard.push(element);
    }
}

/// Logs in and becomes available: the echo comes first. What comes with it is left to be heard.
fn appear(server: &Server, jid: &str) -> Client {
    let mut client = Client::login(server, jid);
    client.send("<presence/>");
    assert_eq!(heard(&mut client), said(jid, ""));
    client
}

/// RFC 6121 §4.2.2, §4.3.2: whoever comes later is told of those that are there, and they of it.
#[test]
fn contacts_see_each_other_within_and_across_shards() {
    let server = friends();
    let mut clients: Vec<Client> = Vec::new();
    for account in ACCOUNTS {
        let jid = format!("{account}/home");
        let mut client = appear(&server, &jid);
        let mut seen: Vec<_> = clients.iter().map(|_| heard(&mut client)).collect();
        seen.sort();
        let mut expected: Vec<_> = clients.iter().map(|other| said(&other.jid, "")).collect();
        expected.sort();
        assert_eq!(seen, expected);
        for other in &mut clients {
            assert_eq!(heard(other), said(&jid, ""));
        }
        clients.push(client);
    }
    // RFC 6121 §4.4.2: later presence, whole.
    for index in 0..clients.len() {
        clients[index]
            .send("<presence id='later'><show>dnd</show><status>busy</status></presence>");
        let jid = clients[index].jid.clone();
        for client in &mut clients {
            let presence = client.stanza("presence");
            assert_eq!(attribute(&presence, "from"), jid);
            assert_eq!(attribute(&presence, "id"), "later");
            assert_eq!(
                presence.find("jabber:client", "status").unwrap().text(),
                "busy"
            );
        }
    }
    let mut last = clients.pop().unwrap();
    for client in &mut clients {
        let more = before_message(&mut last, client);
        assert!(more.is_empty(), "{more:?}");
    }
}

/// RFC 6121 §4.3.2, XEP-0203 §2.
#[test]
fn a_new_resource_gets_the_last_presence_with_its_time() {
    let server = friends();
    let mut juliet = appear(&server, BALCONY);
    juliet.send("<presence id='p1'><show>away</show><c xmlns='urn:example:c' v='1'/></presence>");
    juliet.stanza("presence");
    juliet.settle();
    for resource in ["orchard", "garden"] {
        let mut romeo = appear(&server, &format!("romeo@example.org/{resource}"));
        let presence = loop {
            let presence = romeo.stanza("presence");
            if attribute(&presence, "from") == BALCONY {
                break presence;
            }
        };
        assert_eq!(attribute(&presence, "id"), "p1");
        assert_eq!(
            presence.find("jabber:client", "show").unwrap().text(),
            "away"
        );
        let c = presence.find("urn:example:c", "c").unwrap();
        assert_eq!(c.attribute("v"), Some("1"));
        let delay = presence.find("urn:xmpp:delay", "delay").unwrap();
        assert_eq!(delay.attribute("from"), Some(BALCONY));
        assert!(delay.attribute("stamp").unwrap().starts_with("20"));
        romeo.send("</stream:stream>");
    }
}

/// RFC 6121 §4.2.2: each state of a subscription.
#[test]
fn presence_goes_only_where_a_subscription_lets_it() {
    let rosters = [
        (JULIET, "romeo@example.org", State::FROM),
        ("romeo@example.org", JULIET, State::TO),
        (JULIET, "mercutio@example.org", State::TO),
        ("mercutio@example.org", JULIET, State::FROM),
        (JULIET, "tybalt@example.org", State::NONE),
        (JULIET, "nurse@example.org", State::PENDING_OUT),
        ("nurse@example.org", JULIET, State::PENDING_IN),
    ];
    let server = Server::start_in(with_rosters("", &rosters));
    let mut others: Vec<Client> = ["romeo", "mercutio", "tybalt", "nurse"]
        .map(|name| appear(&server, &format!("{name}@example.org/home")))
        .into();
    // Those that log in may have something to tell at their own login only.
    for client in &mut others {
        client.settle();
    }
    let mut juliet = appear(&server, BALCONY);
    assert_eq!(heard(&mut juliet), said("mercutio@example.org/home", ""));
    juliet.send("<presence><show>xa</show></presence>");
    juliet.stanza("presence");
    for client in &mut others {
        let heard = before_message(&mut juliet, client);
        let count = if client.jid.starts_with("romeo") {
            2
        } else {
            0
        };
        assert_eq!(heard.len(), count, "{}: {heard:?}", client.jid);
    }
    juliet.send("</stream:stream>");
    assert_eq!(heard(&mut others[0]), said(BALCONY, "unavailable"));
}

/// RFC 6121 §4.5.2: gracefully or not.
#[test]
fn every_end_of_a_session_is_told_to_contacts_once() {
    let server = friends();
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    let mut nurse = appear(&server, "nurse@example.org/hall");
    assert_eq!(heard(&mut nurse).0, "romeo@example.org/orchard");
    assert_eq!(heard(&mut romeo).0, "nurse@example.org/hall");
    let mut last: Vec<Client> = Vec::new();
    let input = format!("{PASSWORD}\n");
    let mut ends: Vec<(&str, Box<dyn FnMut(&mut Client) + '_>)> = vec![
        (
            "own",
            Box::new(|juliet| juliet.send("<presence type='unavailable'/>")),
        ),
        (
            "stream closed",
            Box::new(|juliet| juliet.send("</stream:stream>")),
        ),
        ("connection lost", Box::new(|juliet| juliet.shutdown())),
        ("stream error", Box::new(|juliet| juliet.send("<unknown/>"))),
        (
            "operator",
            Box::new(|_| {
                let ended = server.run(&["account", "passwd", JULIET], &input);
                assert_eq!(ended.status, 0, "{}", ended.stderr);
            }),
        ),
    ];
    for (what, end) in &mut ends {
        let mut juliet = appear(&server, BALCONY);
        for client in [&mut romeo, &mut nurse] {
            assert_eq!(heard(client), said(BALCONY, ""), "{what}");
        }
        end(&mut juliet);
        for client in [&mut romeo, &mut nurse] {
            assert_eq!(heard(client), said(BALCONY, "unavailable"), "{what}");
        }
        last.push(juliet);
    }
    // A conflict: the new session is seen after the end of the old one.
    let _taken = appear(&server, BALCONY);
    let mut juliet = appear(&server, BALCONY);
    for client in [&mut romeo, &mut nurse] {
        for type_ in ["", "unavailable", ""] {
            assert_eq!(heard(client), said(BALCONY, type_));
        }
        let more = before_message(&mut juliet, client);
        assert!(more.is_empty(), "{more:?}");
    }
    let ended = server.run(&["account", "disable", JULIET], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    for client in [&mut romeo, &mut nurse] {
        assert_eq!(heard(client), said(BALCONY, "unavailable"));
    }
}

/// RFC 6121 §4.5.2: with what the client says of it; itself is told, too.
#[test]
fn unavailable_presence_keeps_its_status() {
    let server = friends();
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    let mut juliet = appear(&server, BALCONY);
    romeo.stanza("presence");
    juliet.stanza("presence");
    juliet.send("<presence type='unavailable' id='u'><status>asleep</status></presence>");
    for client in [&mut romeo, &mut juliet] {
        let presence = client.stanza("presence");
        assert_eq!(attribute(&presence, "type"), "unavailable");
        assert_eq!(attribute(&presence, "id"), "u");
        let status = presence.find("jabber:client", "status").unwrap();
        assert_eq!(status.text(), "asleep");
    }
    // The session is there still, and hears no more presence.
    romeo.send("<presence><show>away</show></presence>");
    romeo.stanza("presence");
    let heard = before_message(&mut romeo, &mut juliet);
    assert!(heard.is_empty(), "{heard:?}");
    juliet.send("</stream:stream>");
    juliet.closes();
    romeo.settle();
}

/// RFC 6121 §4.6.3.
#[test]
fn who_was_sent_presence_directly_is_told_of_the_end_only() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, BALCONY);
    let mut others: Vec<Client> = ACCOUNTS[1..]
        .iter()
        .map(|account| appear(&server, &format!("{account}/home")))
        .collect();
    for client in &mut others {
        juliet.send(format!("<presence to='{}'/>", client.jid));
        assert_eq!(heard(client), said(BALCONY, ""));
    }
    juliet.send("<presence/><presence><show>away</show></presence>");
    let left = others[0].jid.clone();
    juliet.send(format!("<presence type='unavailable' to='{left}'/>"));
    assert_eq!(heard(&mut others[0]), said(BALCONY, "unavailable"));
    for client in &mut others {
        let more = before_message(&mut juliet, client);
        assert!(more.is_empty(), "{more:?}");
    }
    juliet.shutdown();
    for client in &mut others[1..] {
        assert_eq!(heard(client), said(BALCONY, "unavailable"));
    }
    others[0].settle();
}

/// RFC 6121 §4.3, §4.3.2: a client's probe is answered to it alone, and brings no error.
#[test]
fn a_client_that_probes_hears_what_it_may() {
    let rosters = [
        (JULIET, "romeo@example.org", State::FROM.with(State::TO)),
        ("romeo@example.org", JULIET, State::FROM.with(State::TO)),
        ("romeo@example.org", "mercutio@example.org", State::TO),
        ("mercutio@example.org", "romeo@example.org", State::FROM),
    ];
    let server = Server::start_in(with_rosters("", &rosters));
    let mut juliet = appear(&server, BALCONY);
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    romeo.send("<presence type='probe' id='a' to='juliet@example.org'/>");
    assert_eq!(heard(&mut romeo), said(BALCONY, ""));
    romeo.send("<presence type='probe' id='b' to='juliet@example.org/balcony'/>");
    let presence = romeo.stanza("presence");
    assert_eq!(attribute(&presence, "from"), BALCONY);
    assert_eq!(presence.elements().count(), 0, "{}", text(&presence));
    romeo.send("<presence type='probe' id='c' to='juliet@example.org/none'/>");
    let presence = romeo.stanza("presence");
    assert_eq!(attribute(&presence, "from"), "juliet@example.org/none");
    assert_eq!(attribute(&presence, "id"), "c");
    // One that is not there now, and has been.
    let mut mercutio = Client::login(&server, "mercutio@example.org/home");
    mercutio.send("</stream:stream>");
    mercutio.closes();
    romeo.send("<presence type='probe' id='d' to='mercutio@example.org'/>");
    let presence = romeo.stanza("presence");
    assert_eq!(attribute(&presence, "from"), "mercutio@example.org");
    assert_eq!(attribute(&presence, "type"), "unavailable");
    assert_eq!(attribute(&presence, "id"), "d");
    let delay = presence.find("urn:xmpp:delay", "delay").unwrap();
    assert!(delay.attribute("stamp").is_some());
    // Strangers learn nothing, not even whether there is such an account.
    for to in [
        "tybalt@example.org",
        "nobody@example.org",
        "tybalt@example.org/home",
    ] {
        romeo.send(format!("<presence type='probe' to='{to}'/>"));
    }
    romeo.settle();
    juliet.settle();
}

/// RFC 6121 §4.7.2.3; RFC 6120 §8.3.3.1.
#[test]
fn a_priority_that_is_none_is_a_bad_request() {
    let server = friends();
    let mut romeo = appear(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, BALCONY);
    for priority in ["128", "-129", "high", "1</priority><priority>2"] {
        juliet.send(format!(
            "<presence id='p'><priority>{priority}</priority></presence>"
        ));
        let error = juliet.refused("presence", "bad-request");
        assert_eq!(attribute(&error, "id"), "p");
    }
    let heard = before_message(&mut juliet, &mut romeo);
    assert!(heard.is_empty(), "{heard:?}");
}

/// RFC 6120 §10.1: a broadcast to thousands takes several turns, and what its session says later
/// comes later; so does its end.
#[test]
fn a_broadcast_to_thousands_keeps_the_order_and_delays_nobody_for_long() {
    let names: Vec<String> = (0..3_000)
        .map(|n| format!("crowd{n}@example.org"))
        .collect();
    let mut rosters: Vec<(&str, &str, State)> = names
        .iter()
        .map(|name| (JULIET, name.as_str(), State::FROM.with(State::TO)))
        .collect();
    // The last one of the roster, and one of the other domain.
    for contact in ["tybalt@example.org", "paris@example.net"] {
        rosters.push((JULIET, contact, State::FROM));
        rosters.push((contact, JULIET, State::TO));
    }
    let server = Server::start_in(with_rosters("", &rosters));
    let mut watchers = [
        appear(&server, "tybalt@example.org/home"),
        appear(&server, "paris@example.net/villa"),
    ];
    let mut juliet = Client::login(&server, BALCONY);
    let mut script = String::new();
    for round in 0..5 {
        script += &format!("<presence id='p{round}'/>");
        for client in &watchers {
            script += &format!("<message to='{}' id='m{round}'/>", client.jid);
        }
    }
    juliet.send(script + "</stream:stream>");
    for client in &mut watchers {
        for round in 0..5 {
            for kind in ["p", "m"] {
                let element = client.element();
                assert_eq!(attribute(&element, "id"), format!("{kind}{round}"));
            }
        }
        assert_eq!(heard(client), said(BALCONY, "unavailable"));
        client.settle();
    }
}

/// `Commit first` in lib.rs: a stop waits for no broadcast, and no ticket is lost by one that is
/// cut off.
#[test]
fn a_server_with_large_rosters_stops_in_good_order() {
    let names: Vec<String> = (0..2_000)
        .map(|n| format!("crowd{n}@example.org"))
        .collect();
    let mut rosters: Vec<(&str, &str, State)> = Vec::new();
    for account in &ACCOUNTS[..3] {
        rosters.extend(
            names
                .iter()
                .map(|name| (*account, name.as_str(), State::FROM)),
        );
    }
    let mut server = Server::start_in(with_rosters("", &rosters));
    let mut clients: Vec<Client> = ACCOUNTS
        .iter()
        .map(|account| appear(&server, &format!("{account}/home")))
        .collect();
    clients[0].send("<presence><show>away</show></presence>");
    clients[0].stanza("presence");
    server.stop();
    for client in &mut clients {
        client.fails("system-shutdown");
    }
}

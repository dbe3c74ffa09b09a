//! Reloads, and streams with other servers.

use std::sync::Arc;

use super::*;
use crate::config::{S2s, S2sPeer, Settings};
use crate::jid::Domain;
use crate::limits::TURN_REJUDGED_MAX;
use crate::net::certificate::Pin;
use crate::shard::testing::servers::{EXTERNAL, header, lenient_settings, to_juliet};
use crate::shard::testing::{AnyCertificate, Client, NoNetwork};

fn generation(settings: Settings) -> Post {
    Post::Reload(Arc::new(Generation {
        settings: Arc::new(settings),
        certificates: Arc::new(AnyCertificate),
        dialler: Arc::new(NoNetwork),
    }))
}

/// Other settings of all domains, in the next generation.
fn with(change: impl Fn(&mut S2s)) -> Settings {
    let mut settings = lenient_settings();
    settings.generation = 1;
    for domain in settings.domains.values_mut() {
        change(&mut Arc::make_mut(domain).s2s);
    }
    settings
}

fn connected(server: &mut Server, name: &str) -> Client {
    let peer = server.connect_securely(0, name);
    let said = server.say(&peer, &format!("{EXTERNAL}{}", header(name)));
    assert!(said.starts_with("<success "), "{said}");
    peer
}

/// Some of them in each turn, and the next reload does not forget those that are left.
#[test]
fn all_streams_are_judged_anew_however_many_there_are() {
    for is_lifted in [false, true] {
        let mut server = Server::new(1, lenient_settings());
        let names = (0..2 * TURN_REJUDGED_MAX).map(|n| format!("s{n}.example"));
        let peers: Vec<Client> = names.map(|name| connected(&mut server, &name)).collect();
        server.post(
            0,
            generation(with(|s2s| s2s.deny.add("*.example").unwrap())),
        );
        if is_lifted {
            server.post(0, generation(lenient_settings()));
        }
        server.run();
        for peer in &peers {
            let said = peer.take();
            assert!(said.contains("<policy-violation "), "{said}");
        }
    }
}

/// `Who owns what` in lib.rs: the stream is on its way from the shard that has accepted it to that
/// of its domain, when both hear of the reload.
#[test]
fn a_stream_that_moves_meanwhile_is_judged_anew_where_it_arrives() {
    let mut server = Server::new(2, lenient_settings());
    let juliet = server.log_in(1, "juliet", "balcony");
    let remote = server.remote_of(1);
    let peer = server.connect_securely(0, &remote);
    let romeo = format!("romeo@{remote}/orchard");
    let text = format!("{EXTERNAL}{}{}", header(&remote), to_juliet(&romeo, "hark"));
    peer.wire.lock().unwrap().sent.extend(text.into_bytes());
    // Its new shard hears of the reload before it comes, and its old one has not heard of it.
    let pin = S2sPeer {
        pins: vec![Pin::from([7; 32])],
        ..S2sPeer::default()
    };
    let name = Domain::parse(&remote).unwrap();
    server.post(
        1,
        generation(with(|s2s| {
            s2s.peers.insert(name.clone(), pin.clone());
        })),
    );
    server.news();
    server.run();
    let said = peer.take();
    assert!(said.starts_with("<success "), "{said}");
    assert!(said.contains("<policy-violation "), "{said}");
    assert!(!juliet.take().contains("hark"));
}

/// XEP-0198 §4; RFC 6120 §4.4: behind the end of a stream nothing is said.
#[test]
fn what_was_handled_is_said_before_a_reload_closes_the_stream_and_not_after() {
    let mut server = Server::new(1, lenient_settings());
    let juliet = server.log_in(0, "juliet", "balcony");
    let peer = connected(&mut server, "s1.example");
    let enabled = server.say(&peer, "<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(enabled.contains("<enabled "), "{enabled}");
    let hark = to_juliet("romeo@s1.example/orchard", "hark");
    assert_eq!(server.say(&peer, &hark), "");
    // What decides now has not been asked for.
    server.post(0, generation(with(|s2s| s2s.dane = true)));
    server.run();
    let said = peer.take();
    assert_eq!(said, "<a xmlns='urn:xmpp:sm:3' h='1'/></stream:stream>");
    let said = server.say(&peer, &format!("{hark}</stream:stream>"));
    assert_eq!(said, "");
    assert!(peer.is_dropped());
    assert_eq!(juliet.take().matches("hark").count(), 2);
}

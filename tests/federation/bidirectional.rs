//! Stanzas both ways on one stream (XEP-0288), between two servers that are both this program and with
//! a peer that the test plays.

use std::time::Instant;

use serde_json::Value;
use stanzad::ns;

use super::common::client::Client;
use super::common::network::{Network, address};
use super::common::server::{PATIENCE, Server};
use super::common::wire::text;

const CAPULET: &str = "capulet.example";
const MONTAGUE: &str = "montague.example";
const JULIET: &str = "juliet@capulet.example/balcony";
const ROMEO: &str = "romeo@montague.example/orchard";
const BIDI: &str = "<bidi xmlns='urn:xmpp:bidi'/>";

/// What `stanzad s2s list` tells of the streams of a server.
fn streams(server: &Server) -> Vec<Value> {
    let listed = server.run(&["s2s", "list", "--json"], "");
    let listed: Value = serde_json::from_str(&listed.stdout).expect(&listed.stdout);
    listed["servers"].as_array().expect("a list").clone()
}

fn directions(server: &Server) -> Vec<String> {
    let streams = streams(server);
    let direction = |stream: &Value| stream["direction"].as_str().unwrap_or("none").to_owned();
    streams.iter().map(direction).collect()
}

fn burst(to: &str, count: usize) -> String {
    let one = |n| format!("<message to='{to}' type='chat' id='{n}'><body>b</body></message>");
    (0..count).map(one).collect()
}

fn assert_in_order(client: &mut Client, count: usize) {
    for n in 0..count {
        let heard = client.stanza("message");
        assert_eq!(heard.attribute("type"), Some("chat"), "{}", text(&heard));
        assert_eq!(heard.attribute("id"), Some(&*n.to_string()));
    }
}

/// One message each way; the servers have one stream then, which the first has dialled.
fn talk_by_one_stream(capulet: &Server, montague: &Server, is_direct: bool) {
    let mut juliet = Client::available(capulet, JULIET);
    let mut romeo = Client::available(montague, ROMEO);
    juliet.send(burst(ROMEO, 3));
    assert_in_order(&mut romeo, 3);
    romeo.send(burst(JULIET, 3));
    assert_in_order(&mut juliet, 3);
    romeo.send("<iq to='capulet.example' type='get' id='q'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    assert_eq!(romeo.stanza("iq").attribute("type"), Some("result"));
    let (dialled, accepted) = (streams(capulet), streams(montague));
    assert_eq!(dialled.len(), 1, "{dialled:?}");
    assert_eq!(accepted.len(), 1, "{accepted:?}");
    assert_eq!(dialled[0]["direction"], "dialled");
    assert_eq!(accepted[0]["direction"], "accepted");
    assert_eq!(dialled[0]["direct_tls"], is_direct);
}

/// XEP-0288 §2, RFC 6120 §5.
#[test]
fn two_servers_talk_by_one_stream_after_starttls() {
    let network = Network::new();
    let [capulet, montague] = [CAPULET, MONTAGUE].map(|domain| {
        let address = address();
        network.announce_starttls(domain, address);
        network.start(network.site(&[domain], address, ""))
    });
    talk_by_one_stream(&capulet, &montague, false);
}

/// XEP-0288 §2, XEP-0368 §2.
#[test]
fn two_servers_talk_by_one_stream_that_begins_with_tls() {
    let network = Network::new();
    let [capulet, montague] = [CAPULET, MONTAGUE].map(|domain| {
        let address = address();
        network.announce_direct(domain, address);
        network.start(network.site(&[domain], address, ""))
    });
    talk_by_one_stream(&capulet, &montague, true);
}

/// RFC 6120 §10.1.
#[test]
fn when_both_servers_dial_at_once_every_stanza_comes_once_and_in_order() {
    const COUNT: usize = 200;
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let montague = network.server(MONTAGUE, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let mut romeo = Client::available(&montague, ROMEO);
    juliet.send(burst(ROMEO, COUNT));
    romeo.send(burst(JULIET, COUNT));
    assert_in_order(&mut romeo, COUNT);
    assert_in_order(&mut juliet, COUNT);
    // What comes next comes behind it, and is all that there is.
    juliet.send(burst(ROMEO, 1));
    romeo.send(burst(JULIET, 1));
    assert_in_order(&mut romeo, 1);
    assert_in_order(&mut juliet, 1);
}

/// RFC 6120 §4.6.3: a stream that neither needs is closed, and the next stanza opens another one.
#[test]
fn an_idle_stream_is_closed_by_both_and_made_anew() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[s2s]\nidle_seconds = 1");
    let montague = network.server(MONTAGUE, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let mut romeo = Client::available(&montague, ROMEO);
    for round in 0..2 {
        juliet.send(burst(ROMEO, 2));
        assert_in_order(&mut romeo, 2);
        romeo.send(burst(JULIET, 2));
        assert_in_order(&mut juliet, 2);
        let until = Instant::now() + PATIENCE;
        while !(directions(&capulet).is_empty() && directions(&montague).is_empty()) {
            assert!(
                Instant::now() < until,
                "round {round}: {:?}",
                streams(&montague)
            );
        }
    }
}

/// XEP-0288 §2.2.
#[test]
fn a_peer_that_asks_for_it_gets_our_stanzas_on_its_stream_and_others_are_dialled() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, JULIET);
    let (mut stream, features) = peer.dial_secured(&capulet, CAPULET);
    assert!(
        features.find(ns::BIDI_FEATURE, "bidi").is_some(),
        "{}",
        text(&features)
    );
    stream.send(BIDI);
    stream.external();
    let features = stream.open();
    assert!(
        features.find(ns::BIDI_FEATURE, "bidi").is_none(),
        "{}",
        text(&features)
    );
    juliet.send(burst(ROMEO, 1));
    assert_eq!(stream.stanza("message").attribute("from"), Some(JULIET));
    stream.send(format!(
        "<message from='{ROMEO}' to='{JULIET}' type='chat' id='0'><body>b</body></message>"
    ));
    assert_in_order(&mut juliet, 1);
    assert!(!peer.is_dialled());
    // It goes, and comes back without: we dial.
    stream.send("</stream:stream>");
    stream.closes();
    let _one_way = peer.dial_external(&capulet, CAPULET);
    juliet.send(burst(ROMEO, 1));
    let mut dialled = peer.accept_ready();
    assert_eq!(dialled.stanza("message").attribute("from"), Some(JULIET));
}

/// A peer that we dial is asked to send to us only if it offers that.
#[test]
fn a_peer_that_offers_it_is_asked_to_send_on_our_stream() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, JULIET);
    juliet.send(burst(ROMEO, 1));
    let mut stream = peer.accept_secured();
    stream.answer("1");
    stream.offer("<bidi xmlns='urn:xmpp:features:bidi'/>");
    let asked = stream.element();
    assert!(asked.is(ns::BIDI, "bidi"), "{}", text(&asked));
    assert!(stream.element().is(ns::DIALBACK, "result"));
    stream.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"
    ));
    assert_eq!(stream.stanza("message").attribute("id"), Some("0"));
    stream.send(format!(
        "<message from='{ROMEO}' to='{JULIET}' type='chat' id='0'><body>b</body></message>"
    ));
    assert_in_order(&mut juliet, 1);
    // Nobody else's stanzas, as on any stream.
    stream.send("<message from='tybalt@verona.example' to='juliet@capulet.example'/>");
    stream.fails("invalid-from");
}

//! Receipt by pings (XEP-0199 §4.3): peers without stream management, that answer, do not answer, or lie.

use stanzad::ns;
use stanzad::xml::Element;

use super::common::client::{Client, error_of};
use super::common::network::Network;
use super::common::peer::{Peer, PeerStream};
use super::common::server::Server;
use super::common::wire::text;
use super::restarts::until_stored;

const CAPULET: &str = "capulet.example";
const MONTAGUE: &str = "montague.example";

fn chat(n: usize) -> String {
    format!("<message to='romeo@{MONTAGUE}' id='{n}' type='chat'><body>{n}</body></message>")
}

fn session(server: &Server) -> Client {
    Client::available(server, "juliet@capulet.example/balcony")
}

/// The next stream of the server under test, and the ids of the stanzas on it up to the first ping.
fn dialled(peer: &Peer) -> (PeerStream, Vec<String>, Element) {
    let mut stream = peer.accept_external();
    stream.hears_pings = true;
    let (ids, ping) = until_pinged(&mut stream);
    (stream, ids, ping)
}

/// The ids of the next stanzas, up to the next ping.
fn until_pinged(stream: &mut PeerStream) -> (Vec<String>, Element) {
    let mut ids = Vec::new();
    loop {
        let element = stream.element();
        let id = element
            .attribute("id")
            .unwrap_or_else(|| panic!("{}", text(&element)));
        if element.find(ns::PING, "ping").is_some() && element.attribute("from") == Some(CAPULET) {
            assert_eq!(element.name, "iq");
            assert_eq!(element.attribute("type"), Some("get"));
            assert_eq!(element.attribute("to"), Some(MONTAGUE));
            return (ids, element);
        }
        ids.push(id.to_owned());
    }
}

fn answer(ping: &Element) -> String {
    let id = ping.attribute("id").unwrap();
    format!("<iq type='result' id='{id}' from='{MONTAGUE}' to='{CAPULET}'/>")
}

fn error(ping: &Element) -> String {
    let id = ping.attribute("id").unwrap();
    format!(
        "<iq type='error' id='{id}' from='{MONTAGUE}' to='{CAPULET}'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    )
}

/// `Settlement` in lib.rs: the answer comes by a stream of the peer's own.
#[test]
fn what_was_not_received_before_a_cut_is_sent_again() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let (mut stream, ids, ping) = dialled(&peer);
    assert_eq!(ids, ["1"]);
    // It waited for the stream, and has a row until it is received.
    until_stored(&capulet, 1);
    let mut back = peer.dial_external(&capulet, CAPULET);
    back.send(answer(&ping));
    until_stored(&capulet, 0);

    for n in 2..=9 {
        juliet.send(chat(n));
    }
    juliet.send(format!(
        "<iq type='get' to='{MONTAGUE}' id='q'><ping xmlns='{}'/></iq>",
        ns::PING
    ));
    let mut heard = Vec::new();
    // It reads half of them, and is gone.
    while !heard.contains(&"5".to_owned()) {
        let (ids, ping) = until_pinged(&mut stream);
        heard.extend(ids);
        if heard.len() < 4 {
            // A server that does not know pings has received what came before them all the same.
            back.send(error(&ping));
        }
    }
    drop(stream);
    let returned = juliet.stanza("iq");
    assert_eq!(returned.attribute("id"), Some("q"));
    assert_eq!(error_of(&returned), "remote-server-timeout");

    let (mut stream, again, ping) = dialled(&peer);
    heard.extend(again);
    back.send(answer(&ping));
    while heard.last().is_none_or(|last| last != "9") {
        let (ids, ping) = until_pinged(&mut stream);
        heard.extend(ids);
        back.send(answer(&ping));
    }
    // The request may have been on the first stream.
    heard.retain(|id| id != "q");
    for n in 2..=9 {
        let n = n.to_string();
        assert!(heard.contains(&n), "{n} of {heard:?}");
    }
    until_stored(&capulet, 0);
    assert!(juliet.until_settled().is_empty(), "nothing else came back");
}

/// How the peer says what it has received, as `stanzad s2s list` tells it of each stream.
fn receipts(server: &Server) -> Vec<(String, Option<String>)> {
    let listed = server.run(&["s2s", "list", MONTAGUE, "--json"], "").stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect(&listed);
    let streams = listed["servers"].as_array().expect("a list").iter();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    streams
        .map(|stream| {
            (
                text(&stream["direction"]).unwrap(),
                text(&stream["receipts"]),
            )
        })
        .collect()
}

/// Operators see on whom they can rely. A stream on which nothing is sent tells nothing.
#[test]
fn how_a_peer_says_what_it_has_received_is_listed() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let told = |dialled: &str| ("dialled".to_owned(), Some(dialled.to_owned()));
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let (mut stream, _, ping) = dialled(&peer);
    assert_eq!(receipts(&capulet), [told("not known")]);
    let mut back = peer.dial_external(&capulet, CAPULET);
    back.send(answer(&ping));
    until_stored(&capulet, 0);
    assert_eq!(
        receipts(&capulet),
        [("accepted".to_owned(), None), told("answers pings")]
    );
    stream.send("</stream:stream>");
    stream.closes();
    drop(back);
    juliet.send(chat(2));
    let mut stream = peer.accept_managed();
    assert_eq!(stream.stanza("message").attribute("id"), Some("2"));
    assert!(receipts(&capulet).contains(&told("acknowledges")));
}

/// RFC 6120 §4.6.4, §4.9.3.4: [stream/connection-timeout].
#[test]
fn a_peer_that_has_answered_and_stops_to_is_given_up() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[s2s]\nack_timeout_seconds = 2\n");
    let peer = network.peer(MONTAGUE);
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let (mut stream, _, ping) = dialled(&peer);
    let mut back = peer.dial_external(&capulet, CAPULET);
    back.send(answer(&ping));
    until_stored(&capulet, 0);
    juliet.send(chat(2));
    assert_eq!(until_pinged(&mut stream).0, ["2"]);
    // Once more, in case the answer got lost.
    assert!(until_pinged(&mut stream).0.is_empty());
    stream.fails("connection-timeout");
    capulet.logs("server does not answer, its stream is given up");
    let (_stream, ids, ping) = dialled(&peer);
    assert_eq!(ids, ["2"]);
    back.send(answer(&ping));
    until_stored(&capulet, 0);
}

/// RFC 6120 §8.2.3 has it answer; it must not be cut off, and hears everything once.
#[test]
fn a_peer_that_answers_no_pings_is_done_without() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[s2s]\nack_timeout_seconds = 1\n");
    let peer = network.peer(MONTAGUE);
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let (mut stream, ids, _) = dialled(&peer);
    assert_eq!(ids, ["1"]);
    for _ in 0..2 {
        assert!(until_pinged(&mut stream).0.is_empty());
    }
    until_stored(&capulet, 0);
    capulet.logs("server answers no pings");
    juliet.send(chat(2));
    // It is tried once on each stream, and not again.
    assert_eq!(stream.stanza("message").attribute("id"), Some("2"));
    juliet.send(chat(3));
    assert_eq!(stream.stanza("message").attribute("id"), Some("3"));
    stream.send("</stream:stream>");
    stream.closes();
    juliet.send(chat(4));
    let (mut stream, ids, ping) = dialled(&peer);
    assert_eq!(ids, ["4"]);
    // It can now: from here on everything is received or sent again.
    let mut back = peer.dial_external(&capulet, CAPULET);
    back.send(answer(&ping));
    back.send("<message from='romeo@montague.example' to='juliet@capulet.example' id='0'/>");
    juliet.stanza("message");
    juliet.send(chat(5));
    assert_eq!(until_pinged(&mut stream).0, ["5"]);
    drop(stream);
    assert_eq!(dialled(&peer).1, ["5"]);
}

/// Another server, another number, an account of the same server, and one of our own.
#[test]
fn an_answer_that_is_not_the_peers_says_nothing() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let other = network.peer("verona.example");
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let (stream, ids, ping) = dialled(&peer);
    assert_eq!(ids, ["1"]);
    let forged = answer(&ping);
    let mut back = peer.dial_external(&capulet, CAPULET);
    let mut verona = other.dial_external(&capulet, CAPULET);
    verona.send(forged.replace(MONTAGUE, "verona.example"));
    back.send(forged.replace("receipt-", "receipt-0"));
    let id = ping.attribute("id").unwrap();
    let digit = id.chars().last().unwrap();
    let wrong = if digit == '0' { '1' } else { '0' };
    let wrong = format!("{}{wrong}", &id[..id.len() - 1]);
    back.send(forged.replace(id, &wrong));
    back.send(forged.replace(MONTAGUE, &format!("romeo@{MONTAGUE}/orchard")));
    back.send(forged.replace(CAPULET, "juliet@capulet.example/balcony"));
    let own = format!("<iq type='result' id='{id}' to='{CAPULET}'/>");
    juliet.send(own);
    let heard = juliet.stanza("iq");
    assert_eq!(
        heard.attribute("from"),
        Some(MONTAGUE),
        "only what was sent to her"
    );
    verona.send("<message from='a@verona.example' to='juliet@capulet.example' id='v'/>");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("v"));
    drop(stream);
    let (_stream, ids, ping) = dialled(&peer);
    assert_eq!(ids, ["1"], "it was not received");
    back.send(answer(&ping));
    until_stored(&capulet, 0);
}

/// XEP-0288: the answer comes the same way.
#[test]
fn on_a_stream_that_the_peer_has_opened_it_is_the_same() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = session(&capulet);
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    stream.send("<bidi xmlns='urn:xmpp:bidi'/>");
    stream.external();
    stream.open();
    stream.hears_pings = true;
    // It is known to the server by its first stanza at the latest.
    stream.send(format!(
        "<message from='romeo@{MONTAGUE}' to='juliet@{CAPULET}' id='0'/>"
    ));
    juliet.stanza("message");
    juliet.send(chat(1));
    let (ids, ping) = until_pinged(&mut stream);
    assert_eq!(ids, ["1"]);
    stream.send(answer(&ping));
    juliet.send(chat(2));
    assert_eq!(until_pinged(&mut stream).0, ["2"]);
    drop(stream);
    assert_eq!(dialled(&peer).1, ["2"]);
}

/// XEP-0220: proven by dialback alone, in both directions.
#[test]
fn with_dialback_it_is_the_same() {
    let network = Network::new();
    let conf = "[s2s]\nsecure_auth = false\n";
    let capulet = network.server(CAPULET, conf);
    let peer = network.peer(MONTAGUE);
    let mut juliet = session(&capulet);
    juliet.send(chat(1));
    let mut stream = peer.accept_ready();
    stream.hears_pings = true;
    let (ids, ping) = until_pinged(&mut stream);
    assert_eq!(ids, ["1"]);
    let (mut back, _) = peer.dial_secured(&capulet, CAPULET);
    back.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}'>0123</db:result>"
    ));
    let valid = back.element();
    assert_eq!(valid.attribute("type"), Some("valid"), "{}", text(&valid));
    back.send(answer(&ping));
    until_stored(&capulet, 0);
    juliet.send(chat(2));
    assert_eq!(until_pinged(&mut stream).0, ["2"]);
}

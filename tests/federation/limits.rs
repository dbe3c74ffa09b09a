//! What another server may cost (RFC 6120 §13.12, `Bounds` in lib.rs): bounds before and after it
//! has proven a domain, on both listeners, beside others who do not feel them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Instant;

use stanzad::limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX;
use stanzad::xml::Element;

use super::common::client::Client;
use super::common::memory::{BESIDE, forget_peak, peak_bytes};
use super::common::network::{Network, address};
use super::common::peer::{Peer, PeerStream, header};
use super::common::server::{PATIENCE, Server};
use super::common::wire::{Heard, Wire, text};
use super::{CAPULET, MONTAGUE, body, message};

/// `s2s.stanza_bytes_max` by default.
const STANZA_BYTES: usize = 512 * 1024;

const JULIET: &str = "juliet@capulet.example/balcony";
const ROMEO: &str = "romeo@montague.example/orchard";

/// A message of exactly so many bytes.
fn long_message(bytes: usize) -> String {
    let around = message(ROMEO, JULIET, "").len();
    let long = message(ROMEO, JULIET, &"x".repeat(bytes - around));
    assert_eq!(long.len(), bytes);
    long
}

/// A server, Juliet on it, and proven streams of two others: of Romeo's, and of one that is honest.
fn beside(network: &Network, conf: &str) -> (Server, Client, [PeerStream; 2]) {
    let capulet = network.server(CAPULET, conf);
    let juliet = Client::available(&capulet, JULIET);
    let streams = [MONTAGUE, "verona.example"];
    let streams = streams.map(|domain| network.peer(domain).dial_external(&capulet, CAPULET));
    (capulet, juliet, streams)
}

/// The stream error that comes next: its condition and its text.
fn error(wire: &mut Wire) -> (String, String) {
    let error = wire.element();
    assert_eq!(error.name, "error", "{}", text(&error));
    let mut children = error.elements();
    let condition = children.next().unwrap().name.clone();
    (
        condition,
        children.next().map(Element::text).unwrap_or_default(),
    )
}

/// Streams of a peer on which nothing is proven: in the clear, behind STARTTLS, with direct TLS.
fn unproven(peer: &Peer, server: &Server) -> [PeerStream; 3] {
    let mut clear = peer.dial(server, CAPULET);
    clear.open();
    let (secured, _) = peer.dial_secured(server, CAPULET);
    let mut direct = peer.dial_direct(server, CAPULET);
    direct.open();
    [clear, secured, direct]
}

/// A question that is answered on the stream on which it is asked (XEP-0220 §2.2).
fn ask(stream: &mut PeerStream) {
    stream.send("<db:verify from='montague.example' to='capulet.example' id='1'>0</db:verify>");
    let answer = stream.element();
    assert_eq!(answer.name, "verify", "{}", text(&answer));
}

/// `Bounds` in lib.rs: 10 KiB before anything is proven; [stream/policy-violation].
#[test]
fn an_element_of_a_stranger_may_have_so_many_bytes_and_no_more() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    for mut stream in unproven(&peer, &capulet) {
        stream.send(long_message(UNAUTHENTICATED_ELEMENT_BYTES_MAX));
        // It was read, and has another fault.
        stream.fails("not-authorized");
    }
    for mut stream in unproven(&peer, &capulet) {
        stream.send(long_message(UNAUTHENTICATED_ELEMENT_BYTES_MAX + 1));
        let (condition, why) = error(&mut stream);
        assert_eq!(condition, "policy-violation");
        assert!(why.contains("size of one element"), "{why}");
        stream.closes();
    }
}

/// `Bounds` in lib.rs: the bound holds before the memory is spent.
#[test]
fn elements_of_strangers_that_never_end_take_little_memory() {
    const STRANGERS: usize = 60;
    const BYTES: usize = 1024 * 1024;
    /// What each may take with TLS (`Bounds` in lib.rs).
    const MEMORY: usize = STRANGERS * 64 * 1024;
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut strangers: Vec<PeerStream> = (0..STRANGERS)
        .map(|_| {
            let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
            stream.send("<message><body>");
            stream
        })
        .collect();
    forget_peak(&capulet);
    let before = peak_bytes(&capulet);
    let much = "x".repeat(BYTES);
    for stream in &mut strangers {
        // The server may close the connection meanwhile.
        let _ = stream.try_send(&much);
    }
    for stream in &mut strangers {
        assert_eq!(error(stream).0, "policy-violation");
    }
    let more = peak_bytes(&capulet) - before;
    let bound = MEMORY + BESIDE;
    assert!(more < bound, "{more} bytes for {STRANGERS} strangers");
}

/// RFC 6120 §4.9.3.14, §13.12 rule 5; `s2s.stanza_bytes_max`; [stream/policy-violation].
#[test]
fn a_stanza_of_full_size_is_delivered_and_one_byte_more_ends_that_stream_alone() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let peer = network.peer(MONTAGUE);
    let other = network.peer("verona.example");
    let mut stream = peer.dial_external(&capulet, CAPULET);
    let mut second = peer.dial_external(&capulet, CAPULET);
    let mut honest = other.dial_external(&capulet, CAPULET);
    stream.send(long_message(STANZA_BYTES));
    let around = message(ROMEO, JULIET, "").len();
    let whole = body(&juliet.stanza("message"));
    assert_eq!(whole.len(), STANZA_BYTES - around);
    juliet.forget();

    stream.send(message(ROMEO, JULIET, "before"));
    // The server may stop to read.
    let _ = stream.try_send(long_message(STANZA_BYTES + 1));
    let (condition, why) = error(&mut stream);
    assert_eq!(condition, "policy-violation");
    assert!(why.contains("size of one element"), "{why}");
    stream.closes();
    second.send(message(ROMEO, JULIET, "second"));
    honest.send(message("escalus@verona.example", JULIET, "honest"));
    let mut heard = [(); 3].map(|()| body(&juliet.stanza("message")));
    heard.sort();
    assert_eq!(heard, ["before", "honest", "second"]);
    juliet.settle();
}

/// RFC 6120 §13.12: who sends too many bytes waits, and nobody else does.
#[test]
fn a_peer_that_sends_too_many_bytes_is_slowed_down_and_others_are_not() {
    let network = Network::new();
    let conf = "[limits]\nserver_bytes_per_second_max = 20000\nserver_stanzas_per_second_max = 0\n";
    let (capulet, mut juliet, [mut flooding, mut honest]) = beside(&network, conf);
    // 200,000 bytes may come at once.
    let long = "x".repeat(90_000);
    let flood: String = (0..3)
        .map(|n| message(ROMEO, JULIET, &format!("{n}{long}")))
        .collect();
    flooding.send(flood + &message(ROMEO, JULIET, "3"));
    let line = capulet.logs("server sends more than it may, and is slowed down");
    assert!(line.contains("server_bytes_per_second_max"), "{line}");
    honest.send(message("escalus@verona.example", JULIET, "honest"));
    let (mut from_peer, mut before) = (String::new(), None);
    while from_peer.len() < 4 || before.is_none() {
        let stanza = juliet.stanza("message");
        juliet.forget();
        match stanza.attribute("from") {
            Some(ROMEO) => from_peer.push(body(&stanza).remove(0)),
            _ => before = Some(from_peer.len()),
        }
    }
    assert_eq!(from_peer, "0123");
    assert!(before < Some(4), "the honest one waited for the flood");
    juliet.settle();
}

/// RFC 6120 §13.12: a server that floods waits, and nobody else does.
#[test]
fn a_peer_that_sends_too_many_stanzas_is_slowed_down_and_others_are_not() {
    let network = Network::new();
    let conf = "[limits]\nserver_stanzas_per_second_max = 10\nbytes_per_second_max = 0\n";
    let (capulet, mut juliet, [mut flooding, mut honest]) = beside(&network, conf);
    let flood = (0..140).fold(String::new(), |mut flood, n| {
        write!(flood, "{}", message(ROMEO, JULIET, &n.to_string())).unwrap();
        flood
    });
    flooding.send(flood);
    let line = capulet.logs("server sends more than it may, and is slowed down");
    assert!(line.contains("server_stanzas_per_second_max"), "{line}");
    honest.send(message("escalus@verona.example", JULIET, "honest"));
    let (mut from_peer, mut before) = (Vec::new(), None);
    while from_peer.len() < 140 || before.is_none() {
        match body(&juliet.stanza("message")).as_str() {
            "honest" => before = Some(from_peer.len()),
            number => from_peer.push(number.to_owned()),
        }
    }
    let expected: Vec<String> = (0..140).map(|n| n.to_string()).collect();
    assert_eq!(from_peer, expected);
    assert!(before < Some(140), "the honest one waited for the flood");
}

/// `Bounds` in lib.rs: dialback keys that are refused one after the other, of a peer that has
/// proven a domain. Neither its first stream nor that of another peer ends for it.
#[test]
fn a_stream_that_claims_too_much_ends_and_those_that_are_proven_go_on() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let peer = network.peer(MONTAGUE);
    let other = network.peer("verona.example");
    let mut proven = peer.dial_external(&capulet, CAPULET);
    let mut honest = other.dial_external(&capulet, CAPULET);
    let mut claiming = peer.dial_external(&capulet, CAPULET);
    let claims = (0..1_000).fold(String::new(), |mut claims, n| {
        let from = format!("d{n}.example");
        write!(
            claims,
            "<db:result from='{from}' to='{CAPULET}'>k</db:result>"
        )
        .unwrap();
        claims
    });
    // The server closes in the middle of it.
    let _ = claiming.try_send(claims);
    let mut refused = 0;
    let condition = loop {
        let element = claiming.element();
        if element.name == "error" {
            break element.elements().next().unwrap().name.clone();
        }
        assert_eq!(element.attribute("type"), Some("error"));
        refused += 1;
    };
    assert_eq!(condition, "policy-violation");
    assert!(refused < 100, "{refused}");
    for (stream, from) in [
        (&mut proven, ROMEO),
        (&mut honest, "escalus@verona.example"),
    ] {
        stream.send(message(from, JULIET, "Peace"));
        assert_eq!(juliet.stanza("message").attribute("from"), Some(from));
    }
}

/// A connection to one of the listeners, from an address. `None`: it was closed without a word.
fn begun(server: &Server, from: SocketAddr, is_direct: bool, peer: &Peer) -> Option<PeerStream> {
    let to = if is_direct {
        server.s2s_tls
    } else {
        server.s2s
    };
    let mut stream = peer.over(Wire::connect_from(from, to), CAPULET);
    if is_direct {
        stream.handshake(peer.connector(CAPULET)).ok()?;
    }
    // A refused one is closed, perhaps before it can say anything.
    let _ = stream.try_send(header(MONTAGUE, CAPULET, ""));
    matches!(stream.try_hear(), Ok(Heard::Open(_))).then_some(stream)
}

/// `limits.connections_per_address_max`: streams that are proven count, too.
#[test]
fn an_address_may_have_so_many_connections_at_a_time_and_another_its_own() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[limits]\nconnections_per_address_max = 4\n");
    let peer = network.peer(MONTAGUE);
    let own: SocketAddr = (peer.ip(), 0).into();
    let mut juliet = Client::available(&capulet, JULIET);
    let mut proven = peer.dial_external(&capulet, CAPULET);
    let mut open: Vec<PeerStream> = [false, true, false]
        .into_iter()
        .map(|is_direct| begun(&capulet, own, is_direct, &peer).expect("there is room"))
        .collect();
    for is_direct in [false, true] {
        assert!(begun(&capulet, own, is_direct, &peer).is_none());
    }
    let line = capulet.logs("connections refused, too many from one address");
    assert!(
        line.contains("limits.connections_per_address_max"),
        "{line}"
    );
    let mut other = network
        .peer("verona.example")
        .dial_external(&capulet, CAPULET);
    other.send(message("escalus@verona.example", JULIET, "honest"));
    assert_eq!(body(&juliet.stanza("message")), "honest");
    proven.send(message(ROMEO, JULIET, "proven"));
    assert_eq!(body(&juliet.stanza("message")), "proven");
    // One that ends makes room for the next.
    let mut first = open.swap_remove(0);
    first.element();
    first.send("</stream:stream>");
    first.closes();
    drop(first);
    while begun(&capulet, own, false, &peer).is_none() {
        capulet.status();
    }
}

/// `limits.new_connections_per_address_max`, of both listeners together; told once.
#[test]
fn an_address_that_comes_too_often_is_refused_and_another_is_not() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[limits]\nnew_connections_per_address_max = 3\n");
    let peer = network.peer(MONTAGUE);
    let from: SocketAddr = (address(), 0).into();
    let came = (0..20).filter(|n| begun(&capulet, from, n % 2 == 0, &peer).is_some());
    assert_eq!(came.count(), 3);
    peer.dial_external(&capulet, CAPULET);
    // The log is one queue: this comes behind all of the refusals.
    capulet.logs("server authenticated");
    let log = capulet.log();
    let told = log.matches("connections refused, too many from one address");
    assert_eq!(told.count(), 1, "{log}");
}

/// `limits.handshakes_per_address_max`, by STARTTLS and with direct TLS; [stream/policy-violation].
#[test]
fn an_address_that_shakes_hands_too_often_is_refused_and_another_is_not() {
    let network = Network::new();
    let conf = "[limits]\nhandshakes_per_address_max = 2\nunauthenticated_seconds_max = 10\n";
    let capulet = network.server(CAPULET, conf);
    let peer = network.peer(MONTAGUE);
    let from: SocketAddr = (address(), 0).into();
    assert!(begun(&capulet, from, true, &peer).is_some());
    let mut second = peer.over(Wire::connect_from(from, capulet.s2s), CAPULET);
    second.open();
    second.starttls(peer.connector(CAPULET));
    second.open();
    assert!(begun(&capulet, from, true, &peer).is_none());
    let line = capulet.logs("TLS handshakes refused, too many with one address");
    assert!(line.contains("limits.handshakes_per_address_max"), "{line}");
    let mut third = peer.over(Wire::connect_from(from, capulet.s2s), CAPULET);
    third.open();
    third.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    third.fails("policy-violation");
    peer.dial_external(&capulet, CAPULET);
}

/// `limits.unauthenticated_seconds_max`; RFC 6120 §4.9.3.4: [stream/connection-timeout].
#[test]
fn a_peer_that_proves_nothing_in_time_loses_its_stream() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[limits]\nunauthenticated_seconds_max = 3\n");
    let peer = network.peer(MONTAGUE);
    let mut silent = Wire::connect(capulet.s2s);
    let mut silent_direct = Wire::connect(capulet.s2s_tls);
    let mut headless = peer.dial_direct(&capulet, CAPULET);
    let unproven = unproven(&peer, &capulet);
    let mut in_time = peer.dial_external(&capulet, CAPULET);
    let mut half = peer.dial(&capulet, CAPULET);
    half.open();
    half.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(half.element().name, "proceed");
    for mut stream in unproven {
        stream.fails("connection-timeout");
    }
    for stream in [&mut silent, &mut headless] {
        stream.hear_header();
        stream.fails("connection-timeout");
    }
    // In the middle of a handshake nothing can be said.
    for stream in [&mut half, &mut silent_direct] {
        assert!(matches!(stream.try_hear(), Ok(Heard::End) | Err(_)));
    }
    ask(&mut in_time);
}

/// `limits.unauthenticated_seconds_max`: what a peer says gains no time, nor does a key that nobody
/// confirms.
#[test]
fn a_peer_that_says_much_and_proves_nothing_loses_its_stream_in_time() {
    let network = Network::new();
    let conf = "[limits]\nunauthenticated_seconds_max = 3\n[s2s]\nsecure_auth = false\n";
    let capulet = network.server(CAPULET, conf);
    let talker = super::self_signed(&network, "talker.example");
    let (mut talking, _) = talker.dial_secured(&capulet, CAPULET);
    let claimer = super::self_signed(&network, MONTAGUE);
    let (mut claiming, _) = claimer.dial_secured(&capulet, CAPULET);
    claiming.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}'>k3y</db:result>"
    ));
    // The authoritative server takes the connection, and says nothing.
    let _asked = claimer.accept();
    let question = "<db:verify from='talker.example' to='capulet.example' id='1'>0</db:verify>";
    let deadline = Instant::now() + PATIENCE;
    let condition = loop {
        assert!(Instant::now() < deadline, "it may talk on");
        // The server may have closed the connection.
        let _ = talking.try_send(question);
        let element = talking.element();
        if element.name == "error" {
            break element.elements().next().unwrap().name.clone();
        }
        assert_eq!(element.name, "verify", "{}", text(&element));
    };
    assert_eq!(condition, "connection-timeout");
    claiming.fails("connection-timeout");
}

//! Stream management between servers (XEP-0198), and peers that are gone or do not read.

use std::net::SocketAddr;

use stanzad::ns;
use stanzad::xml::Element;

use super::common::client::{Client, error_of};
use super::common::network::Network;
use super::common::peer::PeerStream;
use super::common::server::Server;
use super::common::wire::{Heard, text};

/// The ids of the next stanzas, up to the request to acknowledge them.
fn until_asked(stream: &mut PeerStream) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let element = stream.element();
        if element.is(ns::STREAM_MANAGEMENT, "r") {
            return ids;
        }
        ids.push(element.attribute("id").unwrap().to_owned());
    }
}

fn chat(n: usize, body: &str) -> String {
    format!(
        "<message to='romeo@montague.example' id='{n}' type='chat'><body>{body}</body></message>"
    )
}

fn session(server: &Server) -> Client {
    Client::available(server, "juliet@capulet.example/balcony")
}

/// XEP-0198 §4, `Settlement` in lib.rs.
#[test]
fn what_was_not_acknowledged_is_sent_again_on_the_next_stream() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let mut juliet = session(&capulet);
    for n in 1..=3 {
        juliet.send(chat(n, "Romeo"));
    }
    let mut stream = peer.accept_managed();
    let mut heard = until_asked(&mut stream);
    while heard.len() < 3 {
        stream.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", heard.len()));
        heard.extend(until_asked(&mut stream));
    }
    assert_eq!(heard, ["1", "2", "3"]);
    stream.send("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    juliet.send("<iq type='get' to='montague.example' id='4'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert_eq!(stream.stanza("iq").attribute("id"), Some("4"));
    drop(stream);

    let back = juliet.stanza("iq");
    assert_eq!(back.attribute("id"), Some("4"));
    assert_eq!(error_of(&back), "remote-server-timeout");
    let mut stream = peer.accept_managed();
    assert_eq!(until_asked(&mut stream), ["3"]);
    stream.send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
    juliet.send(chat(5, "Good night"));
    assert_eq!(until_asked(&mut stream), ["5"]);
}

/// RFC 6120 §4.6.4. Meanwhile others are served.
#[test]
fn a_peer_that_neither_reads_nor_answers_is_given_up_and_its_stanzas_go_on() {
    let network = Network::new();
    let conf = "[s2s]\nack_timeout_seconds = 2\n\
                [limits]\nbytes_per_second_max = 0\nstanzas_per_second_max = 0\n";
    let capulet = network.server("capulet.example", conf);
    let peer = network.peer("montague.example");
    let verona = network.server("verona.example", "");
    let mut nurse = Client::available(&verona, "nurse@verona.example/hall");
    let mut juliet = session(&capulet);
    juliet.send(chat(0, "Romeo"));
    let stalled = peer.accept_managed();
    let body = "x".repeat(60_000);
    for n in 1..=15 {
        juliet.send(chat(n, &body));
    }
    juliet
        .send("<message to='nurse@verona.example' id='n' type='chat'><body>Anon</body></message>");
    assert_eq!(nurse.stanza("message").attribute("id"), Some("n"));

    let mut stream = peer.accept_managed();
    let mut heard = Vec::new();
    while heard.len() < 16 {
        heard.extend(until_asked(&mut stream));
        stream.send(format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", heard.len()));
    }
    let expected: Vec<String> = (0..=15).map(|n| n.to_string()).collect();
    assert_eq!(heard, expected);
    assert!(juliet.until_settled().is_empty(), "nothing came back");
    drop(stalled);
}

/// XEP-0198 §6; RFC 6120 §4.9.3.21: [stream/undefined-condition].
#[test]
fn a_peer_that_acknowledges_too_much_is_told() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    session(&capulet).send(chat(1, "Romeo"));
    let mut stream = peer.accept_managed();
    assert_eq!(until_asked(&mut stream), ["1"]);
    stream.send("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    let error = stream.element();
    assert!(error.is(ns::STREAM, "error"), "{}", text(&error));
    let too_high = error.find(ns::STREAM_MANAGEMENT, "handled-count-too-high");
    let too_high = too_high.expect("the condition of the application");
    assert_eq!(too_high.attribute("send-count"), Some("1"));
}

/// XEP-0198 §3; RFC 6120 §8.3.3.22: [stanza/unexpected-request].
#[test]
fn a_peer_that_asks_for_it_twice_or_too_early_is_refused_and_goes_on() {
    const ENABLE: &str = "<enable xmlns='urn:xmpp:sm:3'/>";
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let (mut stream, _) = peer.dial_secured(&capulet, "capulet.example");
    let is_refused = |answer: &Element| {
        let condition = answer.find(ns::STANZA_ERROR, "unexpected-request");
        answer.is(ns::STREAM_MANAGEMENT, "failed") && condition.is_some()
    };
    stream.send(ENABLE);
    let answer = stream.element();
    assert!(is_refused(&answer), "{}", text(&answer));
    stream.external();
    stream.open();
    stream.send(ENABLE);
    assert!(stream.element().is(ns::STREAM_MANAGEMENT, "enabled"));
    stream.send(ENABLE);
    let answer = stream.element();
    assert!(is_refused(&answer), "{}", text(&answer));
    stream.send("</stream:stream>");
    stream.closes();
}

/// XEP-0198 §3, §4.
#[test]
fn what_a_peer_sends_is_acknowledged_once_it_is_settled() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let mut juliet = session(&capulet);
    let (mut stream, _) = peer.dial_secured(&capulet, "capulet.example");
    stream.external();
    let features = stream.open();
    assert!(features.find(ns::STREAM_MANAGEMENT, "sm").is_some());
    let message = |id: &str| {
        format!(
            "<message from='romeo@montague.example/1' to='juliet@capulet.example' id='{id}'>\
             <body>{id}</body></message>"
        )
    };
    stream.send(message("before"));
    stream.send("<enable xmlns='urn:xmpp:sm:3'/>");
    assert!(stream.element().is(ns::STREAM_MANAGEMENT, "enabled"));
    stream.send(message("1"));
    stream.send(message("2"));
    // The nurse is not there: hers is stored.
    stream.send(message("3").replace("juliet@", "nurse@"));
    stream.send("<r xmlns='urn:xmpp:sm:3'/>");
    let mut h = 0;
    while h < 3 {
        let ack = stream.element();
        assert!(ack.is(ns::STREAM_MANAGEMENT, "a"), "{}", text(&ack));
        let next = ack.attribute("h").unwrap().parse().unwrap();
        assert!(next > h || h == 0, "{next} after {h}");
        h = next;
    }
    assert_eq!(h, 3);
    for id in ["before", "1", "2"] {
        assert_eq!(juliet.stanza("message").attribute("id"), Some(id));
    }
    stream.send("</stream:stream>");
    stream.closes();
}

/// A peer that closes each stream as soon as it is ready.
#[test]
fn a_peer_that_ends_its_streams_is_not_dialled_all_the_time() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    session(&capulet).send(chat(1, "Romeo"));
    for _ in 0..2 {
        let mut stream = peer.accept_managed();
        stream.send("</stream:stream>");
        while !matches!(stream.hear(), Heard::Close) {}
    }
    capulet.logs("its streams end soon after they are ready");
    let mut stream = peer.accept_managed();
    assert_eq!(
        until_asked(&mut stream),
        ["1"],
        "after a pause it is tried again"
    );
}

fn address_of(server: &Server) -> std::net::Ipv4Addr {
    match server.s2s {
        SocketAddr::V4(address) => *address.ip(),
        SocketAddr::V6(address) => panic!("{address}"),
    }
}

/// RFC 6120 §4.9.3.6, §8.3.3.16.
#[test]
fn a_name_that_leads_back_to_this_server_is_not_found_and_dialled_once() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let own = address_of(&capulet);
    network.announce("both.example", own);
    network.announce_starttls("clear.example", own);
    network.announce_direct("direct.example", own);
    let mut juliet = session(&capulet);
    for domain in ["both.example", "clear.example", "direct.example"] {
        for n in 0..3 {
            juliet.send(format!(
                "<message to='romeo@{domain}' id='{n}' type='chat'/>"
            ));
            let back = juliet.stanza("message");
            assert_eq!(back.attribute("id"), Some(n.to_string().as_str()));
            assert_eq!(
                error_of(&back),
                "remote-server-not-found",
                "{domain}: {}",
                text(&back)
            );
            assert!(text(&back).contains("</text>"), "{}", text(&back));
        }
        capulet.logs(&format!("to={domain}"));
        let log = capulet.log();
        let dialled = log
            .lines()
            .filter(|line| line.contains("dialling") && line.contains(&format!("to={domain}")));
        assert!((1..=2).contains(&dialled.count()), "{domain}: {log}");
    }
}

#[test]
fn a_domain_that_talks_to_no_others_is_not_reached_and_reaches_nobody() {
    let network = Network::new();
    let address = super::common::network::address();
    let conf = "[domain.\"verona.example\".s2s]\nenabled = false\n";
    let site = network.site(&["capulet.example", "verona.example"], address, conf);
    let capulet = network.start(site);
    let peer = network.peer("montague.example");
    for is_direct in [false, true] {
        let mut stream = match is_direct {
            false => peer.dial(&capulet, "verona.example"),
            true => peer.dial_direct(&capulet, "verona.example"),
        };
        stream.send_header();
        stream.hear_header();
        stream.fails("host-unknown");
    }
    let mut stream = peer.dial_external(&capulet, "capulet.example");
    stream.send("<db:result from='montague.example' to='verona.example'>0123</db:result>");
    let refused = stream.element();
    assert!(refused.is(ns::DIALBACK, "result"), "{}", text(&refused));
    assert_eq!(refused.attribute("type"), Some("error"));
    assert_eq!(error_of(&refused), "item-not-found");

    let mut nurse = Client::available(&capulet, "nurse@verona.example/hall");
    for stanza in [
        "<message to='romeo@montague.example' id='1' type='chat'/>",
        "<iq to='montague.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        nurse.send(stanza);
        let back = nurse.element();
        assert_eq!(
            error_of(&back),
            "remote-server-not-found",
            "{}",
            text(&back)
        );
        assert!(text(&back).contains("s2s.enabled"), "{}", text(&back));
    }
    // Within the server it is no matter.
    let mut juliet = session(&capulet);
    nurse.send("<message to='juliet@capulet.example' id='2' type='chat'/>");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("2"));
    assert!(!peer.is_dialled());
}

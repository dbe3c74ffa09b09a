//! Peers that send rubbish, too much, too little, or nothing (RFC 6120 §11, §13.12): they lose their
//! stream, and nobody else notices.

use std::io::ErrorKind;

use stanzad::limits::{DIALBACK_ID_BYTES_MAX, PEER_OUTPUT_HOLD_BYTES};

use super::common::client::Client;
use super::common::memory::{BESIDE, forget_peak, peak_bytes};
use super::common::network::Network;
use super::common::peer::header;
use super::common::wire::{Heard, Wire};
use super::{CAPULET, MONTAGUE, body, chat, message};

/// RFC 6120 §11.1, §11.3, §4.9.3.13, §4.9.3.18.
#[test]
fn what_is_no_xml_of_this_kind_ends_the_stream() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let peer = network.peer(MONTAGUE);
    for (bytes, condition) in [
        (&b"<message></presence>"[..], "not-well-formed"),
        (b"<!-- I bite my thumb -->", "restricted-xml"),
        (b"<?bite thumb?>", "restricted-xml"),
        (b"<message><body>&thumb;</body></message>", "restricted-xml"),
        (
            b"<message><body>\xff\xfe</body></message>",
            "unsupported-encoding",
        ),
        (b"<x:message/>", "not-well-formed"),
        (b"<message a='1' a='2'/>", "not-well-formed"),
        (b"thumb", "bad-format"),
    ] {
        let mut stream = peer.dial_external(&capulet, CAPULET);
        stream.send(bytes);
        match stream.hear() {
            Heard::Element(error) => {
                let found = error.elements().next().unwrap();
                let bytes = String::from_utf8_lossy(bytes);
                assert_eq!(found.name, condition, "{bytes}");
            }
            other => panic!("{other:?}"),
        }
        stream.closes();
    }
    juliet.settle();
}

/// RFC 6120 §11.1: a DTD is refused before it can be expanded.
#[test]
fn a_stream_that_begins_with_a_dtd_is_refused() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut wire = Wire::connect(capulet.s2s);
    wire.send("<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>");
    wire.send(header(MONTAGUE, CAPULET, ""));
    wire.hear_header();
    let error = wire.element();
    assert_eq!(error.elements().next().unwrap().name, "restricted-xml");
}

/// A peer that floods and does not read is not read itself at some time; another one is not harmed.
#[test]
fn a_peer_that_floods_and_does_not_listen_harms_nobody() {
    /// More than the buffers of both kernels take.
    const FLOOD: usize = 64 * 1024 * 1024;
    /// Messages of the other one, in whose time the server could have read.
    const MESSAGES: usize = 300;
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut other = network.peer(MONTAGUE).dial_external(&capulet, CAPULET);
    let flood = network.peer("flood.example");
    let mut stream = flood.dial_external(&capulet, CAPULET);
    stream.tcp().set_nonblocking(true).unwrap();
    // Each asks for an answer on the same stream, and none is read.
    let id = "1".repeat(DIALBACK_ID_BYTES_MAX);
    let ask =
        format!("<db:verify from='flood.example' to='capulet.example' id='{id}'>0</db:verify>");
    let ask = ask.repeat(100);
    forget_peak(&capulet);
    let before = peak_bytes(&capulet);
    let (mut sent, mut unread) = (0, 0);
    while unread < MESSAGES {
        match stream.try_send_some(&ask.as_bytes()[sent % ask.len()..]) {
            Ok(some) => (sent, unread) = (sent + some, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                unread += 1;
                let words = unread.to_string();
                other.send(message(
                    "romeo@montague.example",
                    "juliet@capulet.example",
                    &words,
                ));
                assert_eq!(body(&juliet.stanza("message")), words);
            }
            Err(error) => panic!("{error}"),
        }
        assert!(sent < FLOOD, "all of it is read");
    }
    let more = peak_bytes(&capulet) - before;
    // A buffer that grows doubles: when it has just grown, the old one is there too.
    let bound = 3 * PEER_OUTPUT_HOLD_BYTES + BESIDE;
    assert!(more < bound, "{more} bytes for {sent} that were sent");
}

/// A peer that takes a connection and says nothing keeps nobody from others.
#[test]
fn a_peer_that_stalls_holds_up_what_is_for_it_alone() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let (stalling, other) = (network.peer("stalling.example"), network.peer(MONTAGUE));
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@stalling.example", "Wherefore?"));
    let mut silent = stalling.accept();
    silent.hear_open();
    for n in 0..3 {
        juliet.send(chat("romeo@montague.example", &n.to_string()));
    }
    let mut stream = other.accept_ready();
    for n in 0..3 {
        assert_eq!(body(&stream.stanza("message")), n.to_string());
    }
    juliet.settle();
}

//! Certificates of other servers over time and by purpose: a stream does not outlive the certificate
//! that has proven its peer, and one that is for servers alone serves in both directions.

use std::ops::RangeInclusive;

use super::common::authority::{Issued, Wish};
use super::common::client::Client;
use super::common::network::Network;
use super::common::peer::{Peer, PeerStream};
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, body, chat, message, why};

const JULIET: &str = "juliet@capulet.example/balcony";
const ROMEO: &str = "romeo@montague.example";

/// How long a certificate lasts that is to end during a test, in seconds: time for a handshake on a
/// busy machine, and less than a test waits for anything.
const SHORT: i64 = 6;

fn issued(network: &Network, valid: RangeInclusive<i64>, purposes: &[&str]) -> Issued {
    let wish = Wish {
        dns: &[MONTAGUE],
        valid: Some((*valid.start(), *valid.end())),
        purposes,
        ..Wish::default()
    };
    wish.by(&network.authority)
}

/// A peer whose certificate ends soon. It is in the DNS.
fn short_lived(network: &Network) -> Peer {
    let peer = network.stranger(MONTAGUE, issued(network, 0..=SHORT, &[]));
    network.announce_starttls(MONTAGUE, peer.ip());
    peer
}

/// A message of the peer comes to Juliet.
fn comes_in(stream: &mut PeerStream, juliet: &mut Client, words: &str) {
    stream.send(message(ROMEO, JULIET, words));
    assert_eq!(body(&juliet.stanza("message")), words);
}

/// RFC 6120 §13.7.2.3, §4.9.3.16: [stream/reset].
#[test]
fn a_stream_that_a_peer_has_opened_ends_with_its_certificate() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let mut lasting = network
        .peer("verona.example")
        .dial_external(&capulet, CAPULET);
    let mut peer = short_lived(&network);
    let mut stream = peer.dial_external(&capulet, CAPULET);
    comes_in(&mut stream, &mut juliet, "one");
    stream.fails("reset");
    capulet.logs("certificate of server has expired");

    // It proves nothing any more, and the next one does.
    let (_, features) = peer.dial_secured(&capulet, CAPULET);
    assert!(super::common::offer::mechanisms(&features).is_empty());
    peer.identity = issued(&network, 0..=3_600, &[]);
    let mut stream = peer.dial_external(&capulet, CAPULET);
    comes_in(&mut stream, &mut juliet, "two");
    lasting.send(message("escalus@verona.example", JULIET, "three"));
    assert_eq!(body(&juliet.stanza("message")), "three");
}

/// RFC 6120 §13.7.2.3, §4.9.3.16: [stream/reset]. What is written then goes to who has a new one.
#[test]
fn a_stream_that_we_have_opened_ends_with_the_certificate_of_its_peer() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, JULIET);
    let mut peer = short_lived(&network);
    juliet.send(chat(ROMEO, "one"));
    let mut stream = peer.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "one");
    stream.fails("reset");
    capulet.logs("certificate of server has expired");

    peer.identity = issued(&network, 0..=3_600, &[]);
    juliet.send(chat(ROMEO, "two"));
    let mut stream = peer.accept_ready();
    // The first once more: it did not say that it has received that.
    assert_eq!(body(&stream.stanza("message")), "one");
    assert_eq!(body(&stream.stanza("message")), "two");
    juliet.settle();
}

/// What becomes of a peer with a certificate for this: whether it is offered EXTERNAL, and why a
/// stream to it is refused, if it is.
fn with_purposes(purposes: &[&str]) -> (bool, Option<String>) {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.stranger(MONTAGUE, issued(&network, 0..=3_600, purposes));
    network.announce_starttls(MONTAGUE, peer.ip());
    (is_let_in(&capulet, &peer), is_reached(&capulet, &peer))
}

fn is_let_in(capulet: &Server, peer: &Peer) -> bool {
    let (mut stream, features) = peer.dial_secured(capulet, CAPULET);
    if super::common::offer::mechanisms(&features) != ["EXTERNAL"] {
        return false;
    }
    stream.external();
    stream.open();
    let mut juliet = Client::available(capulet, JULIET);
    comes_in(&mut stream, &mut juliet, "one");
    true
}

fn is_reached(capulet: &Server, peer: &Peer) -> Option<String> {
    let mut juliet = Client::available(capulet, JULIET);
    juliet.send(chat(ROMEO, "two"));
    let mut stream = peer.accept_secured();
    stream.answer("1");
    stream.offer("");
    let first = match stream.hear() {
        super::common::wire::Heard::Element(first) => first,
        _ => return Some(why(&juliet.refused("message", "remote-server-not-found"))),
    };
    assert_eq!(first.name, "result");
    stream.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"
    ));
    assert_eq!(body(&stream.stanza("message")), "two");
    None
}

/// Issue 6: public authorities issue such ones alone now.
#[test]
fn a_certificate_for_servers_alone_proves_its_peer_both_ways() {
    assert_eq!(with_purposes(&["serverAuth"]), (true, None));
}

/// As RFC 5280 §4.2.1.12 has it: who takes a connection is a server.
#[test]
fn a_certificate_for_clients_alone_proves_who_opens_a_stream_and_nobody_else() {
    let (is_let_in, refusal) = with_purposes(&["clientAuth"]);
    assert!(is_let_in);
    let refusal = refusal.expect("it is not reached");
    assert!(refusal.contains("not valid"), "{refusal}");
}

/// The same: one that is for neither.
#[test]
fn a_certificate_for_other_purposes_proves_nothing() {
    let (is_let_in, refusal) = with_purposes(&["codeSigning"]);
    assert!(!is_let_in);
    assert!(refusal.is_some());
}

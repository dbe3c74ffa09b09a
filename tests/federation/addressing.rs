//! Peers that say in whose name they speak, or to whom, and may not (RFC 6120 §8.1, §4.9.3).

use super::common::client::Client;
use super::common::network::Network;
use super::common::peer::{PeerStream, header};
use super::common::server::Server;
use super::common::wire::Wire;
use super::{CAPULET, MONTAGUE, message};

/// A server, a session on it, and a stream on which a peer has proven montague.example.
fn proven() -> (Server, Client, PeerStream) {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let stream = network.peer(MONTAGUE).dial_external(&capulet, CAPULET);
    (capulet, juliet, stream)
}

/// RFC 6120 §8.1.2.2, §4.9.3.9: [stanza-attribute-from-validate].
#[test]
fn a_peer_that_speaks_in_the_name_of_another_domain_loses_its_stream_and_reaches_nobody() {
    for from in [
        "tybalt@verona.example/1",
        "juliet@capulet.example/balcony",
        "capulet.example",
        "romeo@sub.montague.example",
        "montague.example.org",
    ] {
        let (_capulet, mut juliet, mut stream) = proven();
        stream.send(message(from, "juliet@capulet.example", "Trust me"));
        stream.fails("invalid-from");
        juliet.settle();
    }
}

/// RFC 6120 §8.1.1.2, §8.1.2.2, §4.9.3.7: [stanza-attribute-to-validate].
#[test]
fn a_stanza_without_an_address_ends_the_stream_of_a_server() {
    for stanza in [
        "<message to='juliet@capulet.example'><body>Who?</body></message>",
        "<message from='romeo@montague.example'><body>To whom?</body></message>",
        "<presence/>",
        "<message from='romeo@montague.example' to='a b@capulet.example'><body>x</body></message>",
    ] {
        let (_capulet, mut juliet, mut stream) = proven();
        stream.send(stanza);
        stream.fails("improper-addressing");
        juliet.settle();
    }
}

/// RFC 6120 §4.9.3.9: what was proven was proven to one domain.
#[test]
fn a_peer_writes_only_to_the_domain_to_which_it_has_proven_itself() {
    let network = Network::new();
    let ip = super::common::network::address();
    let capulet = Server::start_in(network.site(&[CAPULET, "verona.example"], ip, ""));
    let mut tybalt = Client::available(&capulet, "nurse@verona.example/hall");
    let mut stream = network.peer(MONTAGUE).dial_external(&capulet, CAPULET);
    stream.send(message(
        "romeo@montague.example",
        "nurse@verona.example",
        "Peace",
    ));
    stream.fails("invalid-from");
    tybalt.settle();
}

/// RFC 6120 §4.9.3.12: [stream/not-authorized].
#[test]
fn a_stanza_before_any_proof_ends_the_stream_and_reaches_nobody() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let peer = network.peer(MONTAGUE);
    let stanza = message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "Let me in",
    );
    let mut stream = peer.dial(&capulet, CAPULET);
    stream.open();
    stream.send(&stanza);
    stream.fails("not-authorized");
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    stream.send(&stanza);
    stream.fails("not-authorized");
    juliet.settle();
}

/// RFC 6120 §4.9.3.9: the domains of this server are nobody else's.
#[test]
fn a_peer_that_claims_a_domain_of_this_server_is_refused_whatever_it_shows() {
    let network = Network::new();
    let ip = super::common::network::address();
    let capulet = Server::start_in(network.site(&[CAPULET, "verona.example"], ip, ""));
    let thief = network.stranger("verona.example", network.issue(&["verona.example"]));
    let mut stream = thief.dial(&capulet, CAPULET);
    stream.send_header();
    stream.hear_header();
    stream.fails("invalid-from");
    // By a dialback key as well, on a stream that is someone's.
    let peer = network.stranger(MONTAGUE, network.issue(&[MONTAGUE, "verona.example"]));
    let mut stream = peer.dial_external(&capulet, CAPULET);
    stream.send("<db:result from='verona.example' to='capulet.example'>0</db:result>");
    let answer = stream.element();
    assert_eq!(answer.attribute("type"), Some("error"));
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    stream.send(message(
        "nurse@verona.example",
        "juliet@capulet.example",
        "It is I",
    ));
    stream.fails("invalid-from");
    juliet.settle();
}

/// RFC 6120 §4.9.3.6: [stream/host-unknown].
#[test]
fn a_stream_to_a_domain_that_is_not_served_is_refused() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    for to in [" to='verona.example'", " to='juliet@capulet.example'", ""] {
        let mut wire = Wire::connect(capulet.s2s);
        wire.send(format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             from='montague.example' version='1.0'{to}>"
        ));
        wire.hear_header();
        match to.contains('@') {
            true => wire.fails("improper-addressing"),
            false => wire.fails("host-unknown"),
        }
    }
}

/// RFC 6120 §4.8.2, §4.9.3.10: [xml-namespace-content-server].
#[test]
fn a_stream_between_servers_is_in_the_namespace_of_servers() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut wire = Wire::connect(capulet.s2s);
    wire.send(header(MONTAGUE, CAPULET, "").replace("jabber:server'", "jabber:client'"));
    let header = wire.hear_header();
    assert_eq!(header.content_ns, "jabber:server");
    wire.fails("invalid-namespace");
    let (_capulet, mut juliet, mut stream) = proven();
    let stanza = message("romeo@montague.example", "juliet@capulet.example", "Hail");
    stream.send(stanza.replace("<message", "<message xmlns='jabber:client'"));
    stream.fails("unsupported-stanza-type");
    juliet.settle();
}

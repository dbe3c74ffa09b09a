//! What is negotiated on streams, in both directions, with a peer that the test plays.

use super::common::client::Client;
use super::common::network::Network;
use super::common::offer::mechanisms;

/// RFC 6120 §5, XEP-0178 §3.
#[test]
fn a_peer_with_a_certificate_is_offered_external_and_its_stanzas_are_delivered() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let (mut stream, features) = peer.dial_secured(&capulet, "capulet.example");
    assert_eq!(mechanisms(&features), ["EXTERNAL"]);
    stream.external();
    let features = stream.open();
    assert!(mechanisms(&features).is_empty());
    stream.send(
        "<message from='romeo@montague.example/1' to='juliet@capulet.example'>\
         <body>I take thee at thy word</body></message>",
    );
    let heard = juliet.stanza("message");
    assert_eq!(heard.attribute("from"), Some("romeo@montague.example/1"));
}

/// XEP-0178 §3, RFC 6120 §6.4.
#[test]
fn a_peer_that_offers_external_is_shown_our_certificate() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    juliet.send("<message to='romeo@montague.example' id='1'><body>Romeo</body></message>");
    let mut stream = peer.accept_external();
    let message = stream.stanza("message");
    assert_eq!(
        message.attribute("from"),
        Some("juliet@capulet.example/balcony")
    );
    let shown = stream.tls().peer_certificate().unwrap();
    let names = shown.subject_alt_names().unwrap();
    assert_eq!(names[0].dnsname(), Some("capulet.example"));
}

/// XEP-0220 §2.1.1.
#[test]
fn a_peer_that_offers_nothing_gets_a_dialback_key() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let peer = network.peer("montague.example");
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    juliet.send("<message to='romeo@montague.example' id='1'><body>Romeo</body></message>");
    let mut stream = peer.accept_ready();
    assert_eq!(stream.stanza("message").attribute("id"), Some("1"));
}

//! What is negotiated on streams, in both directions, with a peer that the test plays.

use super::common::client::Client;
use super::common::network::Network;
use super::common::offer::mechanisms;
use super::common::peer::header;
use super::common::wire::text;
use super::{CAPULET, MONTAGUE, body, chat, message};
use stanzad::ns;

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

/// XEP-0368: TLS from the first byte, with the protocol of servers, in both directions.
#[test]
fn direct_tls_carries_streams_of_servers_both_ways() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.stranger(MONTAGUE, network.issue(&[MONTAGUE]));
    network.announce_direct(MONTAGUE, peer.ip());
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut from = peer.dial_direct(&capulet, CAPULET);
    let features = from.open();
    assert!(features.find(ns::TLS, "starttls").is_none());
    assert_eq!(mechanisms(&features), ["EXTERNAL"]);
    from.external();
    from.open();
    from.send(message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "She speaks",
    ));
    assert_eq!(body(&juliet.stanza("message")), "She speaks");
    juliet.send(chat("romeo@montague.example", "Ay me!"));
    let mut to = peer.accept_direct();
    assert_eq!(to.tls().selected_alpn_protocol(), Some(&b"xmpp-server"[..]));
    to.hear_open();
    to.answer("1");
    to.offer("");
    assert_eq!(to.element().name, "result");
    to.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"
    ));
    assert_eq!(body(&to.stanza("message")), "Ay me!");
}

/// RFC 6120 §5.4.3.3: what was sent in the clear does not count behind TLS.
#[test]
fn bytes_between_starttls_and_the_handshake_are_refused() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut stream = network.peer(MONTAGUE).dial(&capulet, CAPULET);
    stream.open();
    stream.send(format!(
        "<starttls xmlns='{}'/>{}",
        ns::TLS,
        header(MONTAGUE, CAPULET, "")
    ));
    stream.fails("policy-violation");
}

/// RFC 6120 §6.5.5, §6.5.6, §6.5.8; RFC 4422 App. A; XEP-0178 §3.
#[test]
fn external_fails_for_another_name_and_the_stream_goes_on() {
    let network = Network::new();
    let limits = "[limits]\nlogin_failures_per_stream_max = 6\n";
    let capulet = network.server(CAPULET, limits);
    let (mut stream, _) = network.peer(MONTAGUE).dial_secured(&capulet, CAPULET);
    for (mechanism, identity, condition) in [
        ("EXTERNAL", "dHliYWx0LmV4YW1wbGU=", "invalid-authzid"),
        // "romeo@montague.example" is no domain.
        (
            "EXTERNAL",
            "cm9tZW9AbW9udGFndWUuZXhhbXBsZQ==",
            "invalid-authzid",
        ),
        ("EXTERNAL", "!", "incorrect-encoding"),
        // A NUL.
        ("EXTERNAL", "AA==", "malformed-request"),
        ("PLAIN", "AGEAYg==", "invalid-mechanism"),
    ] {
        stream.send(format!(
            "<auth xmlns='{}' mechanism='{mechanism}'>{identity}</auth>",
            ns::SASL
        ));
        let failure = stream.element();
        assert!(failure.is(ns::SASL, "failure"), "{}", text(&failure));
        assert_eq!(failure.elements().next().unwrap().name, condition);
    }
    stream.external();
    stream.open();
}

/// RFC 6120 §8.3.1: an error is not answered, and what breaks a rule is, to its sender.
#[test]
fn errors_of_a_peer_are_not_answered_and_its_mistakes_are() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut from = peer.dial_external(&capulet, CAPULET);
    from.send(
        "<message type='error' from='romeo@montague.example' to='nobody@capulet.example'/>\
         <iq type='result' id='1' from='romeo@montague.example' to='nobody@capulet.example'/>\
         <iq type='bogus' id='2' from='romeo@montague.example' to='nobody@capulet.example'/>\
         <message from='romeo@montague.example' to='nobody@capulet.example'/>",
    );
    let (mut to, mut heard) = (peer.accept_ready(), Vec::new());
    // That there is no such account is looked up, which a ping does not wait for.
    let mut answers = vec![to.element(), to.element()];
    answers.extend(from.until_settled(&mut to));
    for element in answers {
        let error = element.find(ns::CLIENT, "error").unwrap();
        heard.push((
            element.name.clone(),
            error.elements().next().unwrap().name.clone(),
        ));
    }
    heard.sort();
    let expected = [("iq", "bad-request"), ("message", "service-unavailable")];
    assert_eq!(
        heard,
        expected.map(|(name, error)| (name.to_owned(), error.to_owned()))
    );
}

/// RFC 6120 §4.8.3, XEP-0297 §2: what is in the content namespace changes it with the stream, and what
/// is forwarded whole does not.
#[test]
fn a_stanza_is_in_the_content_namespace_of_each_stream_that_carries_it() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let inner = "<forwarded xmlns='urn:xmpp:forward:0'>\
                 <message xmlns='jabber:client' to='nurse@capulet.example'><body>in</body>\
                 </message></forwarded>";
    juliet.send(format!(
        "<message to='romeo@montague.example' id='out'><body>out</body>{inner}</message>"
    ));
    let mut to = peer.accept_ready();
    to.forget();
    let message = to.stanza("message");
    let raw = String::from_utf8(to.raw.clone()).unwrap();
    assert!(raw.contains("<body>out</body>"), "{raw}");
    assert!(raw.contains("<message xmlns='jabber:client'"), "{raw}");
    assert!(raw.contains("<body>in</body>"), "{raw}");
    assert!(!raw.contains("jabber:server"), "{raw}");
    assert_eq!(message.attribute("id"), Some("out"));
    let mut from = peer.dial_external(&capulet, CAPULET);
    juliet.forget();
    from.send(format!(
        "<message from='romeo@montague.example' to='juliet@capulet.example'>\
         <body>out</body>{inner}</message>"
    ));
    juliet.stanza("message");
    let raw = String::from_utf8(juliet.raw.clone()).unwrap();
    assert!(raw.contains("<body>out</body>"), "{raw}");
    assert!(raw.contains("<message xmlns='jabber:client'"), "{raw}");
    assert!(!raw.contains("jabber:server"), "{raw}");
}

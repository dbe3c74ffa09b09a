//! STARTTLS and what it protects (RFC 6120 §5, §13.7, §13.8; RFC 7590).

use openssl::ssl::SslVersion;
use stanzad::ns;

use crate::common::client::{Client, Heard, ssl};
use crate::common::server::{PASSWORD, Server};

const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// [tls-support] [tls-restart] RFC 6120 §5.4.3.3: a new stream with a new id, and no STARTTLS
/// again.
#[test]
fn a_new_stream_begins_under_tls() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("example.org");
    let before = client.opened().id;
    client.features();
    client.starttls("example.org");
    client.send_header("example.org");
    assert_ne!(client.opened().id, before);
    let features = client.features();
    assert!(features.find(ns::TLS, "starttls").is_none());
    assert!(features.find(ns::SASL, "mechanisms").is_some());
}

/// [tls-mtn] RFC 6120 §5.3.1: required, and nothing else beside it.
#[test]
fn starttls_is_mandatory_and_stands_alone() {
    let server = Server::start("");
    let features = Client::connect(&server).open("example.org");
    let starttls = features.find(ns::TLS, "starttls").unwrap();
    assert!(starttls.find(ns::TLS, "required").is_some());
    assert_eq!(features.elements().count(), 1);
}

/// [tls-mtn] RFC 6120 §5.3.1: where the operator says so, it is voluntary.
#[test]
fn starttls_can_be_made_voluntary() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    let features = client.open("example.org");
    let starttls = features.find(ns::TLS, "starttls").unwrap();
    assert!(starttls.find(ns::TLS, "required").is_none());
    assert!(features.find(ns::SASL, "mechanisms").is_some());
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    client.open("example.org");
    client.bind(None);
}

/// [security-mti-confidentiality] RFC 6120 §13.8 as RFC 7590 §3.4 and RFC 9325 §4.2 replace it:
/// forward secrecy and an AEAD, with TLS 1.2 as with TLS 1.3.
#[test]
fn both_versions_of_tls_give_forward_secrecy() {
    let server = Server::start("");
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut client = Client::connect(&server);
        client.open("example.org");
        client.send(STARTTLS);
        client.element();
        let ssl = ssl("example.org", |builder| {
            builder.set_min_proto_version(Some(version)).unwrap();
            builder.set_max_proto_version(Some(version)).unwrap();
        });
        client.handshake(ssl).unwrap();
        let cipher = client.tls().current_cipher().unwrap().name();
        assert!(
            cipher.starts_with("ECDHE-") || cipher.starts_with("TLS_"),
            "{cipher}"
        );
        assert!(
            cipher.contains("GCM") || cipher.contains("CHACHA20"),
            "{cipher}"
        );
        client.open("example.org");
    }
}

/// [security-mti-both-plain] [security-mti-both-scram] RFC 6120 §13.8 names
/// TLS_RSA_WITH_AES_128_CBC_SHA; RFC 7590 §3.4 with RFC 9325 §4.1 forbids key transport by RSA, so
/// that a client with nothing better is refused, before it sends a password.
#[test]
fn key_transport_by_rsa_is_refused() {
    let site = crate::common::server::site("");
    crate::common::server::certify_rsa(&site, "example.org", "example.org");
    let server = Server::start_in(site);
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(STARTTLS);
    client.element();
    let ssl = ssl("example.org", |builder| {
        builder
            .set_max_proto_version(Some(SslVersion::TLS1_2))
            .unwrap();
        builder.set_cipher_list("AES128-SHA").unwrap();
    });
    let error = client.handshake(ssl).unwrap_err();
    assert!(error.contains("handshake failure"), "{error}");
}

/// [tls-certs] RFC 6120 §13.7.2: a client finds the domain in the certificate, whether it asks by
/// SNI or by the stream's `to` alone.
#[test]
fn the_certificate_is_for_the_domain_of_the_stream() {
    let server = Server::start("");
    for domain in ["example.org", "example.net"] {
        let mut client = Client::connect(&server);
        client.open(domain);
        client.send(STARTTLS);
        client.element();
        // Loopback's address is no name: no SNI is sent.
        client.handshake(ssl("127.0.0.1", |_| ())).unwrap();
        assert!(
            client
                .tls()
                .servername(openssl::ssl::NameType::HOST_NAME)
                .is_none()
        );
        let certificate = client.tls().peer_certificate().unwrap();
        let names = certificate.subject_alt_names().unwrap();
        assert!(names.iter().any(|name| name.dnsname() == Some(domain)));
    }
}

/// RFC 6120 §5.3.3, §5.4.3.2 (CVE-2011-0411 in other protocols): bytes slipped in behind
/// `<starttls/>` are not taken for what the client says under TLS.
#[test]
fn bytes_behind_starttls_are_never_parsed() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    for behind in [
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>",
        "<",
        "<message/>",
        "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
    ] {
        let mut client = Client::connect(&server);
        client.open("example.org");
        client.send(format!("{STARTTLS}{behind}"));
        client.fails("policy-violation");
    }
}

/// RFC 6120 §5.3.3: white space may stand behind an element, but no `<proceed/>` is lost for it.
#[test]
fn white_space_behind_starttls_does_not_reach_the_stream_under_tls() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(STARTTLS);
    client.element();
    // The handshake begins with what came last, so that white space breaks it.
    client.send(" \n");
    assert!(client.handshake(ssl("example.org", |_| ())).is_err());
}

/// RFC 6120 §5.4.2.2: the failure, the end of the stream, the end of the connection.
#[test]
fn starttls_under_tls_fails() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.send(STARTTLS);
    let failure = client.element();
    assert!(failure.is(ns::TLS, "failure"));
    client.closes();
}

/// RFC 6120 §5.4.3.1: what is no TLS ends the connection; there is no stream to say so on.
#[test]
fn a_failed_handshake_ends_the_connection() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(STARTTLS);
    client.element();
    client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>");
    let mut bytes = Vec::new();
    // An alert comes, then the end, which may be a reset.
    let _ = std::io::Read::read_to_end(client.tcp(), &mut bytes);
    assert_ne!(bytes.first(), Some(&b'<'), "{bytes:?}");
    assert_eq!(server.status().connections, 0);
}

/// XEP-0368 §2: direct TLS, with the ALPN of client streams.
#[test]
fn direct_tls_needs_no_starttls() {
    let server = Server::start("");
    let mut client = Client::connect_tls(&server);
    assert_eq!(
        client.tls().selected_alpn_protocol(),
        Some(&b"xmpp-client"[..])
    );
    let features = client.open("example.org");
    assert!(features.find(ns::TLS, "starttls").is_none());
    client
        .scram("SCRAM-SHA-512-PLUS", "juliet", PASSWORD)
        .unwrap();
    client.open("example.org");
    client.bind(None);
}

/// RFC 6120 §5.2, §4.4: the end of the stream comes with TLS's own, so that nobody can cut it
/// short.
#[test]
fn tls_ends_with_close_notify() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client.send("</stream:stream>");
    assert!(matches!(client.hear(), Heard::Close));
    client.ends();
    assert!(client.heard_close_notify());
}

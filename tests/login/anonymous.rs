//! ANONYMOUS (RFC 4505, XEP-0175).

use super::common::client::{Client, failure_of};
use super::common::offer::mechanisms;
use super::common::server::Server;
use super::{binds_as, secured};

const CONF: &str = "[domain.\"example.net\".auth]\nanonymous = true\n";

fn guest(server: &Server, trace: &[u8]) -> Client {
    let (mut client, features) = secured(server, "example.net", |_| ());
    assert!(mechanisms(&features).contains(&"ANONYMOUS".to_owned()));
    client.auth("ANONYMOUS", trace);
    client.outcome().unwrap();
    client.open("example.net");
    client.bind(None);
    client
}

/// XEP-0175 §2.
#[test]
fn each_guest_gets_an_address_of_its_own_that_ends_with_the_session() {
    let server = Server::start(CONF);
    let (mut one, mut two) = (guest(&server, b""), guest(&server, b"sirhc"));
    let bare = |client: &Client| client.jid.split_once('/').unwrap().0.to_owned();
    assert_ne!(bare(&one), bare(&two));
    assert!(bare(&one).ends_with("@example.net"));
    one.send(format!(
        "<message to='{}'><body>hi</body></message>",
        two.jid
    ));
    assert_eq!(two.stanza("message").attribute("from"), Some(&*one.jid));

    let gone = two.jid.clone();
    two.send("</stream:stream>");
    two.closes();
    assert!(server.sessions(Some(&gone)).is_empty());
    one.send(format!("<message to='{gone}'><body>hi</body></message>"));
    let bounce = one.stanza("message");
    assert_eq!(bounce.attribute("type"), Some("error"));
}

#[test]
fn anonymous_is_neither_offered_nor_taken_on_other_domains() {
    let server = Server::start(CONF);
    let (mut client, features) = secured(&server, "example.org", |_| ());
    assert!(!mechanisms(&features).contains(&"ANONYMOUS".to_owned()));
    client.auth("ANONYMOUS", b"");
    let outcome = client.outcome().map(drop);
    assert_eq!(failure_of(outcome), "invalid-mechanism");
}

/// It is a login like any other: encryption comes first.
#[test]
fn anonymous_needs_tls_where_encryption_is_required() {
    let server = Server::start(CONF);
    let mut client = Client::connect(&server);
    client.open("example.net");
    client.auth("ANONYMOUS", b"");
    let outcome = client.outcome().map(drop);
    assert_eq!(failure_of(outcome), "encryption-required");
}

/// Accounts and guests share a domain if the operator says so.
#[test]
fn accounts_of_a_domain_with_guests_log_in_as_before() {
    let server = Server::start(CONF);
    let _guest = guest(&server, b"");
    let (mut client, _) = secured(&server, "example.net", |_| ());
    let password = super::common::server::PASSWORD;
    client.scram("SCRAM-SHA-256", "paris", password).unwrap();
    binds_as(&mut client, "paris@example.net");
}

/// RFC 4505 §2: trace information is short UTF-8 without control characters.
#[test]
fn broken_trace_information_is_refused() {
    let server = Server::start(CONF);
    for trace in [&b"\xff"[..], b"a\nb", "\u{e9}".repeat(256).as_bytes()] {
        let (mut client, _) = secured(&server, "example.net", |_| ());
        client.auth("ANONYMOUS", trace);
        let outcome = client.outcome().map(drop);
        assert_eq!(failure_of(outcome), "malformed-request");
    }
}

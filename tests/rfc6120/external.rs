//! Logins by a client's certificate (RFC 6120 §13.7, §13.8.3; XEP-0178 §2).

use crate::common::authority::{Issued, Wish};
use crate::common::client::{Client, failure_of, header, ssl, text};
use crate::common::offer::mechanisms;
use crate::common::server::{Server, site};

const CONF: &str = "[auth]\nmechanisms = [\"SCRAM-SHA-256\", \"EXTERNAL\"]\n\
                    client_ca = \"./client-ca.pem\"\n";

fn authority() -> Issued {
    let wish = Wish {
        is_authority: true,
        ..Wish::default()
    };
    wish.self_signed()
}

/// A client's certificate for these addresses.
fn certify(authority: &Issued, addresses: &[&str]) -> Issued {
    let wish = Wish {
        xmpp: addresses,
        ..Wish::default()
    };
    wish.by(authority)
}

fn start(authority: &Issued) -> Server {
    let site = site("");
    authority.write(&site.path("client-ca.pem"), &site.path("client-ca.key"));
    crate::common::server::write_conf(&site, CONF);
    Server::start_in(site)
}

/// A stream under TLS on which the client has shown its certificate; and whether EXTERNAL is
/// offered.
fn secured(server: &Server, own: &Issued) -> (Client, bool) {
    let ssl = ssl("example.org", |builder| own.show(builder));
    let mut client = Client::try_connect_tls(server, ssl).unwrap();
    let features = client.open("example.org");
    let offered = mechanisms(&features).contains(&"EXTERNAL".to_owned());
    (client, offered)
}

/// [security-mti-both-external] RFC 6120 §13.8.3.
#[test]
fn a_certificate_logs_its_account_in() {
    let authority = authority();
    let server = start(&authority);
    for authzid in ["", "juliet@example.org"] {
        let (mut client, offered) = secured(&server, &certify(&authority, &["juliet@example.org"]));
        assert!(offered);
        client.auth("EXTERNAL", authzid.as_bytes());
        client.outcome().unwrap();
        client.open("example.org");
        assert!(client.bind(None).starts_with("juliet@example.org/"));
    }
}

/// [tls-certs] RFC 6120 §13.7.2: neither another authority's word nor another domain's name counts.
#[test]
fn a_certificate_that_proves_nothing_here_is_not_asked_for() {
    let authority = authority();
    let server = start(&authority);
    for own in [
        certify(&self::authority(), &["juliet@example.org"]),
        certify(&authority, &["juliet@montague.example"]),
        certify(&authority, &["example.org"]),
    ] {
        let (mut client, offered) = secured(&server, &own);
        assert!(!offered);
        client.auth("EXTERNAL", b"juliet@example.org");
        let failure = failure_of(client.outcome().map(drop));
        assert_eq!(failure, "invalid-mechanism");
    }
}

/// [sasl/invalid-authzid] RFC 6120 §6.3.8: a certificate is good for its own names alone.
#[test]
fn a_certificate_does_not_log_somebody_else_in() {
    let authority = authority();
    let server = start(&authority);
    let own = certify(&authority, &["juliet@example.org"]);
    let (mut client, _) = secured(&server, &own);
    client.auth("EXTERNAL", b"romeo@example.org");
    assert_eq!(failure_of(client.outcome().map(drop)), "invalid-authzid");
}

/// XEP-0178 §2: who has several names says which.
#[test]
fn a_certificate_with_two_names_needs_a_choice() {
    let authority = authority();
    let server = start(&authority);
    let own = certify(&authority, &["juliet@example.org", "nurse@example.org"]);
    let (mut client, _) = secured(&server, &own);
    client.auth("EXTERNAL", b"");
    assert_eq!(failure_of(client.outcome().map(drop)), "invalid-authzid");
    client.auth("EXTERNAL", b"nurse@example.org");
    client.outcome().unwrap();
    client.open("example.org");
    assert!(client.bind(None).starts_with("nurse@example.org/"));
}

/// [tls-correlate] RFC 6120 §13.7.2, §6.4.6: the stream is from whom the certificate names.
#[test]
fn a_stream_from_somebody_else_than_the_certificate_is_refused() {
    let authority = authority();
    let server = start(&authority);
    let own = certify(&authority, &["juliet@example.org"]);
    let (mut client, _) = secured(&server, &own);
    client.auth("EXTERNAL", b"");
    client.outcome().unwrap();
    client.send(header("example.org").replace(" to=", " from='romeo@example.org' to="));
    client.opened();
    client.fails("invalid-from");
}

/// An account that is not there, or may not come in, has no use of a certificate.
#[test]
fn a_certificate_for_an_unknown_or_disabled_account_fails() {
    let authority = authority();
    let server = start(&authority);
    let ended = server.run(&["account", "disable", "juliet@example.org"], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    for (address, condition) in [
        ("rosaline@example.org", "not-authorized"),
        ("juliet@example.org", "account-disabled"),
    ] {
        let (mut client, _) = secured(&server, &certify(&authority, &[address]));
        client.auth("EXTERNAL", b"");
        let failure = client.outcome().unwrap_err();
        let found = failure.elements().next().unwrap();
        assert_eq!(found.name, condition, "{}", text(&failure));
    }
}

//! EXTERNAL with a client certificate (RFC 4422 Appendix A, XEP-0178 §2).

use stanzad::xml::Element;

use super::common::authority::{Issued, Wish, write_private};
use super::common::client::{Client, failure_of, ssl};
use super::common::offer::mechanisms;
use super::common::server::{Server, site};
use super::{binds_as, secured};

const CONF: &str = "[domain.\"example.org\".auth]\nclient_ca = \"ca.pem\"\n";

fn authority() -> Issued {
    Wish {
        is_authority: true,
        ..Wish::default()
    }
    .self_signed()
}

fn client_certificate(authority: &Issued, addresses: &[&str]) -> Issued {
    Wish {
        xmpp: addresses,
        ..Wish::default()
    }
    .by(authority)
}

fn server(authority: &Issued) -> Server {
    let site = site(CONF);
    write_private(
        &site.path("ca.pem"),
        &authority.certificate.to_pem().unwrap(),
    );
    Server::start_in(site)
}

fn showing(server: &Server, domain: &str, certificate: &Issued) -> (Client, Element) {
    secured(server, domain, |builder| certificate.show(builder))
}

fn is_offered(features: &Element) -> bool {
    mechanisms(features).contains(&"EXTERNAL".to_owned())
}

fn external(client: &mut Client, authzid: &str) -> Result<(), Element> {
    client.auth("EXTERNAL", authzid.as_bytes());
    client.outcome().map(drop)
}

/// XEP-0178 §2 case 11a.
#[test]
fn a_certificate_with_one_address_logs_its_account_in() {
    let authority = authority();
    let server = server(&authority);
    let certificate = client_certificate(&authority, &["Juliet@example.org"]);
    // Nothing said, the identity itself, and itself in another spelling.
    for authzid in ["", "juliet@example.org", "JULIET@example.org"] {
        let (mut client, features) = showing(&server, "example.org", &certificate);
        assert!(is_offered(&features));
        external(&mut client, authzid).unwrap();
        binds_as(&mut client, "juliet@example.org");
    }
}

/// The same over direct TLS (XEP-0368), and without an initial response (RFC 6120 §6.4.2).
#[test]
fn external_works_over_direct_tls_and_without_an_initial_response() {
    let authority = authority();
    let server = server(&authority);
    let certificate = client_certificate(&authority, &["juliet@example.org"]);
    let session = ssl("example.org", |builder| certificate.show(builder));
    let mut client = Client::try_connect_tls(&server, session).unwrap();
    assert!(is_offered(&client.open("example.org")));
    client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'/>");
    client.outcome().unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// XEP-0178 §2 case 11b.
#[test]
fn a_certificate_with_several_addresses_needs_to_be_told_which() {
    let authority = authority();
    let server = server(&authority);
    let addresses = ["juliet@example.org", "nurse@example.org"];
    let certificate = client_certificate(&authority, &addresses);
    for address in addresses {
        let (mut client, _) = showing(&server, "example.org", &certificate);
        external(&mut client, address).unwrap();
        binds_as(&mut client, address);
    }
    let (mut client, _) = showing(&server, "example.org", &certificate);
    assert_eq!(failure_of(external(&mut client, "")), "invalid-authzid");
}

/// One account, however often and however it is written.
#[test]
fn several_spellings_of_one_address_are_one() {
    let authority = authority();
    let server = server(&authority);
    let addresses = ["juliet@example.org", "JULIET@EXAMPLE.ORG"];
    let certificate = client_certificate(&authority, &addresses);
    let (mut client, _) = showing(&server, "example.org", &certificate);
    external(&mut client, "").unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// An address of another domain in the certificate does not stand in the way.
#[test]
fn addresses_of_other_domains_do_not_count() {
    let authority = authority();
    let server = server(&authority);
    let addresses = ["juliet@example.org", "juliet@elsewhere.example"];
    let certificate = client_certificate(&authority, &addresses);
    let (mut client, _) = showing(&server, "example.org", &certificate);
    external(&mut client, "").unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// RFC 6120 §6.3.8.
#[test]
fn nobody_logs_in_as_somebody_whom_the_certificate_does_not_name() {
    let authority = authority();
    let server = server(&authority);
    let certificate = client_certificate(&authority, &["juliet@example.org"]);
    for authzid in [
        "romeo@example.org",
        "juliet@example.net",
        "example.org",
        "@",
    ] {
        let (mut client, _) = showing(&server, "example.org", &certificate);
        let outcome = external(&mut client, authzid);
        assert_eq!(failure_of(outcome), "invalid-authzid", "{authzid}");
    }
}

/// RFC 6120 §6.5.5, §6.5.6, §6.5.8; RFC 4422 App. A: what is no base64, what is no message of EXTERNAL, and
/// what is no JID, or that of nobody whom the certificate names.
#[test]
fn what_is_wrong_with_a_message_of_external_is_told() {
    let authority = authority();
    let server = server(&authority);
    let certificate = client_certificate(&authority, &["juliet@example.org"]);
    for (message, condition) in [
        ("!", "incorrect-encoding"),
        ("==", "incorrect-encoding"),
        // juliet@example.org, but for its end.
        ("anVsaWV0QGV4YW1wbGUub3JnCg=", "incorrect-encoding"),
        ("anVsaWV0QGV4YW1wbGUub3J", "incorrect-encoding"),
        // FF is not UTF-8, and 00 a NUL.
        ("/w==", "malformed-request"),
        ("anVsaWV0AA==", "malformed-request"),
        // "@", "juliet", "romeo@example.org".
        ("QA==", "invalid-authzid"),
        ("anVsaWV0", "invalid-authzid"),
        ("cm9tZW9AZXhhbXBsZS5vcmc=", "invalid-authzid"),
    ] {
        let (mut client, _) = showing(&server, "example.org", &certificate);
        client.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>{message}</auth>"
        ));
        let outcome = client.outcome().map(drop);
        assert_eq!(failure_of(outcome), condition, "{message}");
        // The stream goes on: with nothing said it is the one account that the certificate names.
        external(&mut client, "").unwrap();
        binds_as(&mut client, "juliet@example.org");
    }
}

/// XEP-0178 §2 case 8: EXTERNAL is offered if the certificate can be accepted. The others stay.
#[test]
fn external_is_not_offered_to_a_certificate_that_proves_no_account_of_the_domain() {
    let authority = authority();
    let server = server(&authority);
    let stranger = self::authority();
    let bad = [
        ("no address", client_certificate(&authority, &[])),
        (
            "foreign domain",
            client_certificate(&authority, &["juliet@elsewhere.example"]),
        ),
        ("a domain", client_certificate(&authority, &["example.org"])),
        ("no JID", client_certificate(&authority, &["@@@"])),
        (
            "untrusted authority",
            client_certificate(&stranger, &["juliet@example.org"]),
        ),
        (
            "self-signed",
            Wish {
                xmpp: &["juliet@example.org"],
                ..Wish::default()
            }
            .self_signed(),
        ),
    ];
    for (name, certificate) in &bad {
        let (mut client, features) = showing(&server, "example.org", certificate);
        assert!(!is_offered(&features), "{name}");
        for authzid in ["", "juliet@example.org"] {
            let outcome = external(&mut client, authzid);
            assert_eq!(failure_of(outcome), "invalid-mechanism", "{name}");
        }
        let password = super::common::server::PASSWORD;
        client.scram("SCRAM-SHA-256", "juliet", password).unwrap();
        binds_as(&mut client, "juliet@example.org");
    }
}

/// The authority is this domain's alone.
#[test]
fn the_authority_of_one_domain_is_nobody_in_another() {
    let authority = authority();
    let server = server(&authority);
    let certificate = client_certificate(&authority, &["paris@example.net"]);
    let (mut client, features) = showing(&server, "example.net", &certificate);
    assert!(!is_offered(&features));
    let outcome = external(&mut client, "");
    assert_eq!(failure_of(outcome), "invalid-mechanism");
}

#[test]
fn a_client_without_a_certificate_is_not_offered_external() {
    let server = server(&authority());
    let (mut client, features) = secured(&server, "example.org", |_| ());
    assert!(!is_offered(&features));
    let outcome = external(&mut client, "juliet@example.org");
    assert_eq!(failure_of(outcome), "invalid-mechanism");
}

/// A certificate is no account: who is not in the store does not get in, nor who is disabled.
#[test]
fn a_certificate_lets_nobody_in_who_has_no_account_or_a_disabled_one() {
    let authority = authority();
    let server = server(&authority);
    let ghost = client_certificate(&authority, &["ghost@example.org"]);
    let (mut client, _) = showing(&server, "example.org", &ghost);
    assert_eq!(failure_of(external(&mut client, "")), "not-authorized");

    server.run(&["account", "disable", "juliet@example.org"], "");
    let juliet = client_certificate(&authority, &["juliet@example.org"]);
    let (mut client, _) = showing(&server, "example.org", &juliet);
    assert_eq!(failure_of(external(&mut client, "")), "account-disabled");
}

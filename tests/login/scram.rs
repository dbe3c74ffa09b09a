//! SCRAM, with and without channel binding (RFC 5802, RFC 7677, RFC 9266, RFC 5929, XEP-0440,
//! XEP-0474).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::ssl::{SslConnectorBuilder, SslOptions, SslVersion};
use stanzad::xml::Element;

use super::common::authority::Wish;
use super::common::client::{Client, failure_of};
use super::common::offer::{bindings, mechanisms};
use super::common::scram::{Channel, Scram, digest};
use super::common::server::{PASSWORD, Server, add_offline, site};
use super::{binds_as, secured};

const EXPORTER: &str = "tls-exporter";
const END_POINT: &str = "tls-server-end-point";

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Domains whose certificates differ: key and hash of the signature.
const RSA: &str = "rsa.example";
const SHA384: &str = "sha384.example";

/// A server with example.org (ECDSA, SHA-256), [`RSA`] and [`SHA384`], each with a juliet.
fn server() -> Server {
    let site = site(&format!(
        "[domain.\"{RSA}\"]\ncertificate = \"own/rsa.crt\"\nkey = \"own/rsa.key\"\n\
         [domain.\"{SHA384}\"]\ncertificate = \"own/sha384.crt\"\nkey = \"own/sha384.key\"\n"
    ));
    let of_rsa = Wish {
        dns: &[RSA],
        is_rsa: true,
        ..Wish::default()
    };
    of_rsa
        .self_signed()
        .write(&site.path("own/rsa.crt"), &site.path("own/rsa.key"));
    let of_sha384 = Wish {
        dns: &[SHA384],
        digest: Some(MessageDigest::sha384()),
        ..Wish::default()
    };
    of_sha384
        .self_signed()
        .write(&site.path("own/sha384.crt"), &site.path("own/sha384.key"));
    let juliets = [RSA, SHA384].map(|domain| format!("juliet@{domain}"));
    add_offline(&site, &juliets.each_ref().map(String::as_str));
    Server::start_in(site)
}

fn only(version: SslVersion) -> impl Fn(&mut SslConnectorBuilder) {
    move |builder| {
        builder.set_min_proto_version(Some(version)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
    }
}

/// Logs juliet in, bound to what `channel` makes of the connection.
fn log_in(
    client: &mut Client,
    mechanism: &str,
    channel: impl FnOnce(&Client) -> Channel,
) -> Result<(), Element> {
    let channel = channel(client);
    let scram = Scram::new(mechanism, "juliet", PASSWORD, None, channel);
    client.scram_with(mechanism, &scram)
}

fn bound_to_end_point(client: &Client) -> Channel {
    Channel::Bound(END_POINT.to_owned(), client.end_point())
}

fn bound_to_exporter(client: &Client) -> Channel {
    Channel::Bound(EXPORTER.to_owned(), client.exporter())
}

/// RFC 5802, RFC 7677; `tls-exporter` by RFC 9266, `tls-server-end-point` by RFC 5929 §4.
#[test]
fn every_hash_logs_in_with_and_without_either_binding_on_either_version_of_tls() {
    let server = server();
    for version in [SslVersion::TLS1_3, SslVersion::TLS1_2] {
        for domain in ["example.org", RSA, SHA384] {
            for mechanism in MECHANISMS {
                let plus = format!("{mechanism}-PLUS");
                let bare = format!("juliet@{domain}");
                let (mut client, features) = secured(&server, domain, only(version));
                assert_eq!(bindings(&features), [EXPORTER, END_POINT]);
                log_in(&mut client, mechanism, |_| Channel::Unable).unwrap();
                binds_as(&mut client, &bare);
                for bind in [bound_to_exporter, bound_to_end_point] {
                    let (mut client, _) = secured(&server, domain, only(version));
                    log_in(&mut client, &plus, bind).unwrap();
                    binds_as(&mut client, &bare);
                }
            }
        }
    }
}

/// XEP-0368: a binding needs TLS, not STARTTLS.
#[test]
fn a_client_of_direct_tls_binds_to_its_channel() {
    let server = Server::start("");
    for bind in [bound_to_exporter, bound_to_end_point] {
        let mut client = Client::connect_tls(&server);
        client.open("example.org");
        log_in(&mut client, "SCRAM-SHA-256-PLUS", bind).unwrap();
        binds_as(&mut client, "juliet@example.org");
    }
}

/// RFC 9266 §3: without the extended master secret (RFC 7627) the exporter of TLS 1.2 is not bound
/// to the connection.
#[test]
fn the_exporter_is_not_offered_on_tls_1_2_without_extended_master_secret() {
    let server = Server::start("");
    let set = |builder: &mut SslConnectorBuilder| {
        only(SslVersion::TLS1_2)(builder);
        // SSL_OP_NO_EXTENDED_MASTER_SECRET, which the crate has no name for.
        builder.set_options(SslOptions::from_bits_retain(1));
    };
    let (mut client, features) = secured(&server, "example.org", set);
    assert_eq!(bindings(&features), [END_POINT]);
    log_in(&mut client, "SCRAM-SHA-256-PLUS", bound_to_end_point).unwrap();
    binds_as(&mut client, "juliet@example.org");

    let (mut client, _) = secured(&server, "example.org", set);
    let outcome = log_in(&mut client, "SCRAM-SHA-256-PLUS", bound_to_exporter);
    assert_eq!(failure_of(outcome), "not-authorized");
}

/// RFC 5802 §6. What an attacker between two TLS connections would send.
#[test]
fn a_wrong_binding_is_refused_and_its_reason_is_logged() {
    let server = server();
    let wrong: [fn(&Client) -> Channel; 4] = [
        |_| Channel::Bound(EXPORTER.to_owned(), vec![7; 32]),
        |_| Channel::Bound(END_POINT.to_owned(), vec![7; 32]),
        // Right data under the wrong name.
        |client| Channel::Bound(EXPORTER.to_owned(), client.end_point()),
        |client| Channel::Bound(END_POINT.to_owned(), client.exporter()),
    ];
    for version in [SslVersion::TLS1_3, SslVersion::TLS1_2] {
        for domain in ["example.org", RSA] {
            for channel in wrong {
                let (mut client, _) = secured(&server, domain, only(version));
                let outcome = log_in(&mut client, "SCRAM-SHA-256-PLUS", channel);
                assert_eq!(failure_of(outcome), "not-authorized");
                log_in(&mut client, "SCRAM-SHA-256-PLUS", bound_to_exporter).unwrap();
            }
        }
    }
    server.logs("channel binding");
}

/// The exporter of another connection of the same client is not this one's.
#[test]
fn the_binding_of_another_connection_is_refused() {
    let server = Server::start("");
    let (other, _) = secured(&server, "example.org", |_| ());
    let (mut client, _) = secured(&server, "example.org", |_| ());
    let outcome = log_in(&mut client, "SCRAM-SHA-256-PLUS", |_| {
        Channel::Bound(EXPORTER.to_owned(), other.exporter())
    });
    assert_eq!(failure_of(outcome), "not-authorized");
}

/// RFC 5929 §3 `tls-unique` has no meaning in TLS 1.3 and is broken before; RFC 5802 §6.
#[test]
fn a_binding_that_was_not_announced_is_refused() {
    let server = Server::start("");
    for version in [SslVersion::TLS1_3, SslVersion::TLS1_2] {
        let (mut client, features) = secured(&server, "example.org", only(version));
        assert!(!bindings(&features).contains(&"tls-unique".to_owned()));
        let outcome = log_in(&mut client, "SCRAM-SHA-1-PLUS", |_| {
            Channel::Bound("tls-unique".to_owned(), vec![1; 12])
        });
        assert_eq!(failure_of(outcome), "not-authorized");
    }
}

/// RFC 5802 §6: the client could bind, and believes that the server cannot. Somebody has taken
/// -PLUS out of the offer.
#[test]
fn a_stripped_plus_offer_is_refused() {
    let server = Server::start("");
    for mechanism in MECHANISMS {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        let outcome = log_in(&mut client, mechanism, |_| Channel::Unoffered);
        assert_eq!(failure_of(outcome), "not-authorized");
    }
    server.logs("somebody changed the offer");
}

/// RFC 5802 §6: where no -PLUS was offered, a client that could bind is right to say so.
#[test]
fn a_client_that_could_bind_logs_in_where_no_plus_is_offered() {
    let server = Server::start("[auth]\nmechanisms = [\"SCRAM-SHA-256\"]\n");
    let (mut client, features) = secured(&server, "example.org", |_| ());
    assert_eq!(mechanisms(&features), ["SCRAM-SHA-256"]);
    // XEP-0440 §3: types are announced beside -PLUS only.
    assert!(bindings(&features).is_empty());
    log_in(&mut client, "SCRAM-SHA-256", |_| Channel::Unoffered).unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// RFC 5802 §6: without TLS there is nothing to bind to.
#[test]
fn nothing_is_bound_without_tls() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    let features = client.open("example.org");
    assert!(bindings(&features).is_empty());
    let plus = |name: &String| name.ends_with("-PLUS");
    assert!(!mechanisms(&features).iter().any(plus));
    let outcome = client.scram_with(
        "SCRAM-SHA-256-PLUS",
        &Scram::new(
            "SCRAM-SHA-256-PLUS",
            "juliet",
            PASSWORD,
            None,
            Channel::Bound(EXPORTER.to_owned(), vec![0; 32]),
        ),
    );
    assert_eq!(failure_of(outcome), "encryption-required");
    log_in(&mut client, "SCRAM-SHA-256", |_| Channel::Unoffered).unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// What XEP-0474 §6.1 has a client compute from the offer that it has seen.
fn protection(mechanism: &str, features: &Element) -> String {
    let (mut mechanisms, mut bindings) = (mechanisms(features), bindings(features));
    mechanisms.sort();
    bindings.sort();
    let mut seen = mechanisms.join("\u{1e}");
    if !bindings.is_empty() {
        seen.push('\u{1f}');
        seen.push_str(&bindings.join("\u{1e}"));
    }
    STANDARD.encode(hash(digest(mechanism), seen.as_bytes()).unwrap())
}

/// The server's hash of its offer, and the rest of a login that is good in all else.
fn announced(client: &mut Client, mechanism: &str) -> String {
    let channel = match mechanism.ends_with("-PLUS") {
        true => bound_to_exporter(client),
        false => Channel::Unable,
    };
    let scram = Scram::new(mechanism, "juliet", PASSWORD, None, channel);
    client.auth(mechanism, scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let proof = scram.proof(&challenge);
    client.respond(proof.message.as_bytes());
    // The signature covers the challenge, and with it the hash.
    let success = client.outcome().unwrap();
    assert_eq!(String::from_utf8(success).unwrap(), proof.expected);
    let field = challenge
        .split(',')
        .find_map(|field| field.strip_prefix("h="));
    field.expect("the challenge has the hash").to_owned()
}

/// XEP-0474 §6.1.
#[test]
fn the_offer_is_protected_by_its_hash_in_every_scram_exchange() {
    let server = Server::start("");
    for mechanism in MECHANISMS {
        for mechanism in [mechanism.to_owned(), format!("{mechanism}-PLUS")] {
            let (mut client, features) = secured(&server, "example.org", |_| ());
            let hash = announced(&mut client, &mechanism);
            assert_eq!(hash, protection(&mechanism, &features), "{mechanism}");
        }
    }
}

/// XEP-0474 §6.2: what an attacker changes in the offer, the client finds out.
#[test]
fn a_client_sees_by_the_hash_that_the_offer_was_tampered_with() {
    let server = Server::start("");
    let (mut client, features) = secured(&server, "example.org", |_| ());
    let hash = announced(&mut client, "SCRAM-SHA-1");
    assert_eq!(hash, protection("SCRAM-SHA-1", &features));
    let is_weak = |name: &str| name == "SCRAM-SHA-1" || name == "PLAIN";
    let tampered = filtered(&features, &|text| is_weak(text));
    assert_eq!(mechanisms(&tampered), ["SCRAM-SHA-1", "PLAIN"]);
    assert_ne!(hash, protection("SCRAM-SHA-1", &tampered));
    let without_bindings = without_bindings(&features);
    assert_eq!(mechanisms(&without_bindings), mechanisms(&features));
    assert_ne!(hash, protection("SCRAM-SHA-1", &without_bindings));
}

/// The same features with fewer mechanisms.
fn filtered(features: &Element, keep: &dyn Fn(&str) -> bool) -> Element {
    use stanzad::xml::Node;
    let mut changed = features.clone();
    for node in &mut changed.nodes {
        if let Node::Element(child) = node
            && child.name == "mechanisms"
        {
            child.nodes.retain(|node| match node {
                Node::Element(mechanism) => keep(&mechanism.text()),
                Node::Text(_) => true,
            });
        }
    }
    changed
}

fn without_bindings(features: &Element) -> Element {
    use stanzad::xml::Node;
    let mut changed = features.clone();
    changed.nodes.retain(|node| match node {
        Node::Element(child) => child.name != "sasl-channel-binding",
        Node::Text(_) => true,
    });
    changed
}

/// RFC 5802 §5.1: somebody in between who answers for the server with other data is found out, as
/// the server's proof covers the client's view.
#[test]
fn a_proof_over_another_challenge_is_refused() {
    let server = Server::start("");
    let (mut client, _) = secured(&server, "example.org", |_| ());
    let scram = Scram::new("SCRAM-SHA-256", "juliet", PASSWORD, None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let (kept, _) = challenge.split_once(",h=").unwrap();
    let proof = scram.proof(kept);
    client.respond(proof.message.as_bytes());
    assert_eq!(failure_of(client.outcome().map(drop)), "not-authorized");
}

/// RFC 6120 §6.3.8: an authorization identity is one's own or refused.
#[test]
fn an_authorization_identity_is_ones_own_or_refused() {
    let server = Server::start("");
    let try_as = |authzid| {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        let channel = Channel::Unable;
        let scram = Scram::new("SCRAM-SHA-256", "juliet", PASSWORD, Some(authzid), channel);
        client.scram_with("SCRAM-SHA-256", &scram).map(|()| client)
    };
    let mut client = try_as("juliet@example.org").unwrap();
    binds_as(&mut client, "juliet@example.org");
    for other in ["romeo@example.org", "juliet@example.net", "example.org"] {
        let outcome = try_as(other).map(drop);
        assert_eq!(failure_of(outcome), "invalid-authzid", "{other}");
    }
}

/// RFC 5802 §9: a server without a verifier for the hash behaves as for a wrong password.
#[test]
fn an_unknown_user_gets_the_same_salt_each_time_and_a_challenge_like_any_other() {
    let server = Server::start("");
    let challenge = |user: &str| {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        let scram = Scram::new("SCRAM-SHA-256", user, "wrong", None, Channel::Unable);
        client.auth("SCRAM-SHA-256", scram.first().as_bytes());
        let challenge = client.challenge().unwrap();
        let proof = scram.proof(&challenge);
        client.respond(proof.message.as_bytes());
        assert_eq!(failure_of(client.outcome().map(drop)), "not-authorized");
        let fields: Vec<_> = challenge.split(',').skip(1).map(str::to_owned).collect();
        fields
    };
    let (ghost, juliet) = (challenge("ghost"), challenge("juliet"));
    assert_eq!(ghost, challenge("ghost"));
    assert_eq!(juliet, challenge("juliet"));
    assert_ne!(ghost[0], challenge("phantom")[0], "salts differ by name");
    // Lengths and all else are alike.
    assert_eq!(ghost[0].len(), juliet[0].len());
    assert_eq!(ghost[1..], juliet[1..]);
}

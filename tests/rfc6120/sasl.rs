//! SASL (RFC 6120 §6): mechanisms, failures, and what a login must not tell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use stanzad::ns;

use crate::common::client::{Client, failure_of};
use crate::common::offer::mechanisms;
use crate::common::scram::{Channel, Scram};
use crate::common::server::{PASSWORD, Server};

/// [sasl-support] [security-mti-auth-scram] RFC 6120 §13.8.
#[test]
fn scram_logs_in_with_each_hash() {
    let server = Server::start("");
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut client = Client::secured(&server);
        client.scram(mechanism, "juliet", PASSWORD).unwrap();
    }
}

/// [security-mti-auth-scram] [security-mti-both-scram] RFC 6120 §13.8, RFC 9266, RFC 5929 §4.
#[test]
fn scram_plus_logs_in_with_each_channel_binding() {
    let server = Server::start("");
    for mechanism in [
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256-PLUS",
        "SCRAM-SHA-512-PLUS",
    ] {
        for name in ["tls-exporter", "tls-server-end-point"] {
            let mut client = Client::secured(&server);
            let data = if name == "tls-exporter" {
                client.exporter()
            } else {
                client.end_point()
            };
            let channel = Channel::Bound(name.to_owned(), data);
            let scram = Scram::new(mechanism, "juliet", PASSWORD, None, channel);
            client.scram_with(mechanism, &scram).unwrap();
        }
    }
}

/// [security-mti-both-plain] RFC 6120 §13.8, with the suites of RFC 9325.
#[test]
fn plain_logs_in_under_tls() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.plain("juliet", PASSWORD).unwrap();
    client.open("example.org");
    client.bind(None);
}

/// [sasl-mtn] RFC 6120 §6.3.1: the login is offered and there is no way around it.
#[test]
fn sasl_is_mandatory() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let features = client.secure("example.org");
    assert!(!mechanisms(&features).is_empty());
    assert!(features.find(ns::BIND, "bind").is_none());
    client.send("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
    client.fails("not-authorized");
}

/// [sasl-restart] RFC 6120 §6.3.2, §6.4.6: a stanza without a new header is none.
#[test]
fn a_new_stream_begins_after_the_login() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    client.send("<presence/>");
    client.opened();
    client.fails("invalid-namespace");
}

/// [sasl-correlate] RFC 6120 §6.4.6: the stream is from whom the login was.
#[test]
fn a_stream_from_somebody_else_than_the_login_is_refused() {
    let server = Server::start("");
    let header = crate::common::client::header("example.org");
    for (from, is_right) in [
        ("juliet@example.org", true),
        ("JULIET@example.org/balcony", true),
        ("romeo@example.org", false),
    ] {
        let mut client = Client::secured(&server);
        client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
        client.send(header.replace(" to=", &format!(" from='{from}' to=")));
        client.opened();
        if is_right {
            client.features();
        } else {
            client.fails("invalid-from");
        }
    }
}

/// [sasl/aborted] RFC 6120 §6.5.1, §6.4.4.
#[test]
fn an_aborted_login_can_be_begun_again() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    let scram = Scram::new("SCRAM-SHA-256", "juliet", PASSWORD, None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    client.challenge().unwrap();
    client.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert_eq!(failure_of(client.outcome().map(drop)), "aborted");
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
}

/// [sasl/account-disabled] RFC 6120 §6.5.2: told only to those who know the password.
#[test]
fn a_disabled_account_cannot_log_in() {
    let server = Server::start("");
    let ended = server.run(&["account", "disable", "juliet@example.org"], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    let mut client = Client::secured(&server);
    let wrong = client.scram("SCRAM-SHA-256", "juliet", "r0sal1ne");
    assert_eq!(failure_of(wrong), "not-authorized");
    let right = client.scram("SCRAM-SHA-256", "juliet", PASSWORD);
    assert_eq!(failure_of(right), "account-disabled");
    let right = client.plain("juliet", PASSWORD);
    assert_eq!(failure_of(right), "account-disabled");
}

/// [sasl/encryption-required] RFC 6120 §6.5.4.
#[test]
fn sasl_before_tls_is_refused_where_tls_is_required() {
    let server = Server::start("");
    for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
        let mut client = Client::connect(&server);
        client.open("example.org");
        client.auth(mechanism, b"\0juliet\0r0m30myr0m30");
        assert_eq!(
            failure_of(client.outcome().map(drop)),
            "encryption-required"
        );
        client.starttls("example.org");
        client.open("example.org");
        client.plain("juliet", PASSWORD).unwrap();
    }
}

/// [sasl/encryption-required] RFC 6120 §6.5.4, §13.8.3: PLAIN is for TLS, even where the rest is
/// not.
#[test]
fn plain_without_tls_is_neither_offered_nor_taken() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    let offered = mechanisms(&client.open("example.org"));
    assert!(!offered.contains(&"PLAIN".to_owned()), "{offered:?}");
    assert!(offered.contains(&"SCRAM-SHA-256".to_owned()), "{offered:?}");
    assert_eq!(
        failure_of(client.plain("juliet", PASSWORD)),
        "encryption-required"
    );
}

/// [sasl/incorrect-encoding] RFC 6120 §6.5.5.
#[test]
fn what_is_no_base64_is_refused() {
    let server = Server::start("");
    for data in ["[all these brackets]", "A", "AGp1bGlldA=", "AA==AA=="] {
        let mut client = Client::secured(&server);
        client.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{data}</auth>"
        ));
        assert_eq!(
            failure_of(client.outcome().map(drop)),
            "incorrect-encoding",
            "{data}"
        );
    }
}

/// [sasl/invalid-authzid] RFC 6120 §6.5.6, §6.3.8: nobody acts as somebody else, by any mechanism.
#[test]
fn a_foreign_authorization_identity_is_refused() {
    let server = Server::start("");
    for authzid in [
        "romeo@example.org",
        "juliet@example.net",
        "romeo",
        "example.org",
    ] {
        let mut client = Client::secured(&server);
        client.auth("PLAIN", format!("{authzid}\0juliet\0{PASSWORD}").as_bytes());
        assert_eq!(
            failure_of(client.outcome().map(drop)),
            "invalid-authzid",
            "{authzid}"
        );
        let mut client = Client::secured(&server);
        let (mechanism, channel) = ("SCRAM-SHA-256", Channel::Unable);
        let scram = Scram::new(mechanism, "juliet", PASSWORD, Some(authzid), channel);
        let outcome = client.scram_with(mechanism, &scram);
        assert_eq!(failure_of(outcome), "invalid-authzid", "{authzid}");
    }
}

/// RFC 6120 §6.3.8: one's own bare JID is no other identity.
#[test]
fn ones_own_authorization_identity_is_taken() {
    let server = Server::start("");
    for authzid in ["juliet@example.org", "Juliet@EXAMPLE.org"] {
        let mut client = Client::secured(&server);
        client.auth("PLAIN", format!("{authzid}\0juliet\0{PASSWORD}").as_bytes());
        client.outcome().unwrap();
        let mut client = Client::secured(&server);
        let (mechanism, channel) = ("SCRAM-SHA-1", Channel::Unable);
        let scram = Scram::new(mechanism, "juliet", PASSWORD, Some(authzid), channel);
        client.scram_with(mechanism, &scram).unwrap();
    }
}

/// [sasl/invalid-mechanism] RFC 6120 §6.5.7.
#[test]
fn mechanisms_that_were_not_offered_are_refused() {
    let server = Server::start("[auth]\nmechanisms = [\"SCRAM-SHA-256\"]\n");
    for mechanism in [
        "PLAIN",
        "SCRAM-SHA-1",
        "EXTERNAL",
        "ANONYMOUS",
        "CRAM-MD5",
        "plain",
        "",
    ] {
        let mut client = Client::secured(&server);
        client.auth(mechanism, b"\0juliet\0r0m30myr0m30");
        assert_eq!(
            failure_of(client.outcome().map(drop)),
            "invalid-mechanism",
            "{mechanism}"
        );
    }
}

/// [sasl/malformed-request] RFC 6120 §6.5.8.
#[test]
fn messages_that_break_their_mechanism_are_refused() {
    let server = Server::start("");
    for (mechanism, message) in [
        ("PLAIN", "juliet"),
        ("PLAIN", "\0\0r0m30myr0m30"),
        ("PLAIN", "\0juliet\0a\0b"),
        ("SCRAM-SHA-256", "juliet"),
        ("SCRAM-SHA-256", "n,,n=juliet"),
        ("SCRAM-SHA-256", "n,,m=x,n=juliet,r=abc"),
        ("SCRAM-SHA-256", "n,,n=juli=et,r=abc"),
        ("SCRAM-SHA-256", "p=tls-exporter,,n=juliet,r=abc"),
        ("SCRAM-SHA-256-PLUS", "n,,n=juliet,r=abc"),
    ] {
        let mut client = Client::secured(&server);
        client.auth(mechanism, message.as_bytes());
        let condition = failure_of(client.outcome().map(drop));
        assert_eq!(condition, "malformed-request", "{mechanism} {message:?}");
    }
    let mut client = Client::secured(&server);
    client.respond(b"r=abc");
    assert_eq!(failure_of(client.outcome().map(drop)), "malformed-request");
}

/// [sasl/not-authorized] [sasl-errors] RFC 6120 §6.5.10.
#[test]
fn a_wrong_password_is_refused_and_a_right_one_may_follow() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    assert_eq!(
        failure_of(client.plain("juliet", "r0sal1ne")),
        "not-authorized"
    );
    let wrong = client.scram("SCRAM-SHA-256", "juliet", "r0sal1ne");
    assert_eq!(failure_of(wrong), "not-authorized");
    client.plain("juliet", PASSWORD).unwrap();
}

/// [sasl/temporary-auth-failure] RFC 6120 §6.5.11: an account at which somebody guesses rests for
/// him.
#[test]
fn too_many_wrong_passwords_for_an_account_pause_it() {
    let conf = "[limits]\nlogin_failures_per_account_max = 2\n\
                login_failures_per_address_max = 20\n";
    let server = Server::start(conf);
    let mut guessing: Vec<Client> = (0..3).map(|_| Client::secured(&server)).collect();
    for client in &mut guessing {
        client.auth("PLAIN", b"\0juliet\0r0sal1ne");
    }
    // Three, since a failure begins to fade at once.
    for client in &mut guessing {
        assert_eq!(failure_of(client.outcome().map(drop)), "not-authorized");
    }
    let mut client = Client::secured(&server);
    assert_eq!(
        failure_of(client.plain("juliet", PASSWORD)),
        "temporary-auth-failure"
    );
    // Others are not concerned.
    client.plain("romeo", PASSWORD).unwrap();
}

/// [stream/policy-violation] RFC 6120 §6.4.5: the last failure is told, then the stream ends.
#[test]
fn wrong_passwords_in_one_stream_are_limited() {
    let server = Server::start("[limits]\nlogin_failures_per_stream_max = 3\n");
    let mut client = Client::secured(&server);
    for _ in 0..3 {
        assert_eq!(
            failure_of(client.plain("juliet", "r0sal1ne")),
            "not-authorized"
        );
    }
    client.fails("policy-violation");
}

/// [stream/policy-violation] RFC 6120 §6.4.5: a new stream by TLS does not start the count anew.
#[test]
fn failures_before_tls_count_too() {
    let server = Server::start("[limits]\nlogin_failures_per_stream_max = 3\n");
    let mut client = Client::connect(&server);
    client.open("example.org");
    for _ in 0..2 {
        client.auth("PLAIN", b"\0juliet\0r0m30myr0m30");
        assert_eq!(
            failure_of(client.outcome().map(drop)),
            "encryption-required"
        );
    }
    client.starttls("example.org");
    client.open("example.org");
    assert_eq!(
        failure_of(client.plain("juliet", "r0sal1ne")),
        "not-authorized"
    );
    client.fails("policy-violation");
}

/// The bytes of a whole failed login by SCRAM, its nonces taken out.
fn failed_scram(server: &Server, mechanism: &str, user: &str) -> (String, String) {
    let mut client = Client::secured(server);
    let scram = Scram::new(mechanism, user, "r0sal1ne", None, Channel::Unable);
    client.auth(mechanism, scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let (nonce, rest) = challenge.split_once(',').unwrap();
    assert!(nonce.starts_with("r=fyko+d2lbbFgONRv9qkxdawL"));
    client.respond(scram.proof(&challenge).message.as_bytes());
    let failure = client.outcome().unwrap_err();
    let shape = format!("{} {}", nonce.len(), crate::common::client::text(&failure));
    (rest.to_owned(), shape)
}

/// RFC 6120 §6.5.10, §13.11; RFC 5802 §5: nothing in a login tells whether the account exists.
#[test]
fn an_unknown_account_looks_like_a_wrong_password() {
    let server = Server::start("");
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let (known, known_failure) = failed_scram(&server, mechanism, "juliet");
        let (unknown, unknown_failure) = failed_scram(&server, mechanism, "rosaline");
        assert_eq!(known_failure, unknown_failure);
        let field = |challenge: &str, name: &str| -> String {
            let mut fields = challenge.split(',');
            fields
                .find_map(|field| field.strip_prefix(name))
                .unwrap()
                .to_owned()
        };
        let salt = |challenge: &str| STANDARD.decode(field(challenge, "s=")).unwrap();
        assert_eq!(field(&known, "i="), field(&unknown, "i="));
        assert_eq!(salt(&known).len(), salt(&unknown).len());
        assert_ne!(salt(&known), salt(&unknown));
        // Asked again, each gives the same salt, and another name another one.
        assert_eq!(failed_scram(&server, mechanism, "juliet").0, known);
        assert_eq!(failed_scram(&server, mechanism, "rosaline").0, unknown);
        // However it is written: the salt is of the account, not of the spelling.
        assert_eq!(failed_scram(&server, mechanism, "Rosaline").0, unknown);
        assert_ne!(failed_scram(&server, mechanism, "benvolio").0, unknown);
    }
}

/// RFC 6120 §6.5.10, §13.11.
#[test]
fn plain_does_not_tell_whether_an_account_exists() {
    let server = Server::start("");
    let failure = |user: &str| {
        let mut client = Client::secured(&server);
        client.forget();
        let outcome = client.plain(user, "r0sal1ne");
        assert_eq!(failure_of(outcome), "not-authorized");
        client.raw.clone()
    };
    assert_eq!(failure("juliet"), failure("rosaline"));
    assert_eq!(failure("juliet"), failure("no such localpart"));
}

/// The fake salt must outlive the process, else a restart tells names apart (RFC 5802 §5.1).
#[test]
fn the_salt_of_an_unknown_account_survives_a_restart() {
    let mut server = Server::start("");
    let before = failed_scram(&server, "SCRAM-SHA-256", "rosaline");
    assert_eq!(server.run(&["stop"], "").status, 0);
    assert!(server.wait().success());
    server.start_again();
    assert_eq!(failed_scram(&server, "SCRAM-SHA-256", "rosaline"), before);
}

/// RFC 5802 §6: a client that can bind and was told that the server cannot.
#[test]
fn a_stripped_offer_of_plus_is_refused() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    let (mechanism, channel) = ("SCRAM-SHA-256", Channel::Unoffered);
    let scram = Scram::new(mechanism, "juliet", PASSWORD, None, channel);
    assert_eq!(
        failure_of(client.scram_with(mechanism, &scram)),
        "not-authorized"
    );
}

/// RFC 5802 §6: somebody in the middle has another TLS connection.
#[test]
fn a_wrong_channel_binding_is_refused() {
    let server = Server::start("");
    for name in ["tls-exporter", "tls-server-end-point"] {
        let mut client = Client::secured(&server);
        let (mechanism, channel) = (
            "SCRAM-SHA-256-PLUS",
            Channel::Bound(name.to_owned(), vec![7; 32]),
        );
        let scram = Scram::new(mechanism, "juliet", PASSWORD, None, channel);
        assert_eq!(
            failure_of(client.scram_with(mechanism, &scram)),
            "not-authorized"
        );
    }
}

/// RFC 6120 §6.4.2: a mechanism that begins with the client asks for its first message.
#[test]
fn a_login_without_initial_response_is_asked_for_it() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>");
    assert!(client.element().is(ns::SASL, "challenge"));
    client.respond(format!("\0juliet\0{PASSWORD}").as_bytes());
    client.outcome().unwrap();
}

/// RFC 6120 §6.4.6, §4.3.3: what comes before its turn waits for it, also when the connection moves
/// to another shard in between.
#[test]
fn a_whole_login_may_come_in_one_piece() {
    let server = Server::start("[server]\nshards = 4\n");
    let header = crate::common::client::header("example.org");
    for user in ["juliet", "romeo", "mercutio", "tybalt", "nurse"] {
        let mut client = Client::secured(&server);
        let plain = STANDARD.encode(format!("\0{user}\0{PASSWORD}"));
        client.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>\
             {header}<iq type='set' id='b'>\
             <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>r</resource></bind></iq>\
             <message to='{user}@example.org/r' id='m'/>"
        ));
        client.outcome().unwrap();
        client.opened();
        client.features();
        assert_eq!(client.stanza("iq").attribute("id"), Some("b"));
        assert_eq!(client.stanza("message").attribute("id"), Some("m"));
    }
}

/// RFC 6120 §6.3.7, RFC 8265 §3.3: names and passwords are prepared.
#[test]
fn names_and_passwords_are_prepared_before_they_are_compared() {
    let server = Server::start("");
    server.add("j\u{fc}rgen@example.org", "pa\u{df} w\u{f6}rd");
    for name in ["j\u{fc}rgen", "J\u{dc}RGEN", "ju\u{308}rgen"] {
        // The password with a no-break space and a decomposed letter: OpaqueString maps both.
        let mut client = Client::secured(&server);
        client.plain(name, "pa\u{df}\u{a0}wo\u{308}rd").unwrap();
        client.open("example.org");
        assert!(client.bind(None).starts_with("j\u{fc}rgen@example.org/"));
    }
}

/// A password that was changed after the challenge was sent is the old one
/// (`Who owns what` in lib.rs).
#[test]
fn a_login_in_flight_fails_when_the_password_changes() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    let scram = Scram::new("SCRAM-SHA-256", "juliet", PASSWORD, None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let ended = server.run(&["account", "passwd", "juliet@example.org"], "w1ll1am\n");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    client.respond(scram.proof(&challenge).message.as_bytes());
    assert_eq!(failure_of(client.outcome().map(drop)), "not-authorized");
    client.plain("juliet", "w1ll1am").unwrap();
}

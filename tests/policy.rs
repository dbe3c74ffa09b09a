//! May this client log in here, and how? Every combination of `c2s.require_encryption`,
//! `c2s.allow_unencrypted_plain`, the kind of connection and a domain's own settings, over sockets:
//! what is offered, and what each attempt at SASL is answered (RFC 6120 §5.3.1, §6.3.3, §6.5,
//! §13.8; `Verdicts` in lib.rs).

mod common;

use common::client::{Client, failure_of, ssl};
use common::offer::describe;
use common::server::{PASSWORD, Server};

/// How a client comes.
#[derive(Clone, Copy, Debug)]
enum By {
    Clear,
    StartTls,
    DirectTls,
}

const WAYS: [By; 3] = [By::Clear, By::StartTls, By::DirectTls];

/// The two options as they hold for a domain: encryption required, PLAIN allowed without it.
type Policy = (bool, bool);

const POLICIES: [Policy; 4] = [(true, false), (true, true), (false, false), (false, true)];

const OVER_TLS: &str = "SCRAM-SHA-512-PLUS SCRAM-SHA-512 SCRAM-SHA-256-PLUS SCRAM-SHA-256 \
                        SCRAM-SHA-1-PLUS SCRAM-SHA-1 PLAIN";

/// What must be offered, written down apart from the server's own rules.
fn offer(by: By, policy: Policy) -> &'static str {
    match (by, policy) {
        (By::Clear, (true, _)) => "STARTTLS!",
        (By::Clear, (false, false)) => "STARTTLS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1",
        (By::Clear, (false, true)) => "STARTTLS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN",
        (By::StartTls | By::DirectTls, _) => OVER_TLS,
    }
}

const ATTEMPTS: [&str; 6] = [
    "SCRAM-SHA-256",
    "SCRAM-SHA-256-PLUS",
    "PLAIN",
    "EXTERNAL",
    "ANONYMOUS",
    "X-UNHEARD-OF",
];

/// What an attempt with the right password must be answered.
fn answer(by: By, policy: Policy, mechanism: &str) -> &'static str {
    match (by, policy, mechanism) {
        (_, _, "X-UNHEARD-OF") => "invalid-mechanism",
        (By::Clear, (true, _), _) => "encryption-required",
        (_, _, "EXTERNAL" | "ANONYMOUS") => "invalid-mechanism",
        (By::Clear, _, "SCRAM-SHA-256-PLUS") => "encryption-required",
        (By::Clear, (_, false), "PLAIN") => "encryption-required",
        _ => "success",
    }
}

/// An open stream, and its offer.
fn open(server: &Server, by: By, domain: &str) -> (Client, String) {
    let (client, features) = match by {
        By::Clear => {
            let mut client = Client::connect(server);
            let features = client.open(domain);
            (client, features)
        }
        By::StartTls => {
            let mut client = Client::connect(server);
            let features = client.secure(domain);
            (client, features)
        }
        By::DirectTls => {
            let mut client = Client::try_connect_tls(server, ssl(domain, |_| ())).unwrap();
            let features = client.open(domain);
            (client, features)
        }
    };
    (client, describe(&features))
}

/// Tries to log in and to bind; gives the failure, or `success`.
fn attempt(client: &mut Client, by: By, mechanism: &str, user: &str, domain: &str) -> String {
    let outcome = match mechanism {
        "PLAIN" => client.plain(user, PASSWORD),
        // There is no channel to bind to: any message will do.
        "SCRAM-SHA-256-PLUS" if matches!(by, By::Clear) => {
            client.auth(mechanism, b"p=tls-exporter,,n=juliet,r=abcdef");
            client.outcome().map(drop)
        }
        scram if scram.starts_with("SCRAM") => client.scram(scram, user, PASSWORD),
        other => {
            client.auth(other, b"");
            client.outcome().map(drop)
        }
    };
    if outcome.is_err() {
        return failure_of(outcome);
    }
    client.open(domain);
    client.bind(None);
    "success".to_owned()
}

fn check(server: &Server, domain: &str, user: &str, policy: Policy, what: &str) {
    for by in WAYS {
        let (_, offered) = open(server, by, domain);
        assert_eq!(offered, offer(by, policy), "{what} {by:?}");
        for mechanism in ATTEMPTS {
            let (mut client, _) = open(server, by, domain);
            let answered = attempt(&mut client, by, mechanism, user, domain);
            let expected = answer(by, policy, mechanism);
            assert_eq!(answered, expected, "{what} {by:?} {mechanism}");
        }
    }
}

/// For all domains, and each way in which one domain can differ from it.
fn check_combinations((required, allowed): Policy) {
    let mut server = None;
    let own = [None, Some(false), Some(true)];
    for own_required in own {
        for own_allowed in own {
            let set = |key: &str, value: Option<bool>| match value {
                Some(value) => format!("{key} = {value}\n"),
                None => String::new(),
            };
            let conf = format!(
                "[c2s]\nrequire_encryption = {required}\nallow_unencrypted_plain = {allowed}\n\
                 [domain.\"example.net\".c2s]\n{}{}",
                set("require_encryption", own_required),
                set("allow_unencrypted_plain", own_allowed),
            );
            let server = server.get_or_insert_with(|| Server::start(&conf));
            server.configure(&conf);
            server.reload();
            let own = (
                own_required.unwrap_or(required),
                own_allowed.unwrap_or(allowed),
            );
            check(server, "example.net", "paris", own, &conf);
        }
    }
    let server = server.unwrap();
    check(&server, "example.org", "juliet", (required, allowed), "all");
}

#[test]
fn encryption_is_required_and_plain_is_not_allowed_without_it() {
    check_combinations(POLICIES[0]);
}

/// The second option has no effect while the first stands.
#[test]
fn encryption_is_required_though_plain_would_be_allowed_without_it() {
    check_combinations(POLICIES[1]);
}

#[test]
fn encryption_is_not_required_and_plain_needs_it() {
    check_combinations(POLICIES[2]);
}

#[test]
fn encryption_is_not_required_and_plain_does_without() {
    check_combinations(POLICIES[3]);
}

/// The defaults are the strict ones.
#[test]
fn nothing_set_is_encryption_required_and_no_plain_without_it() {
    let server = Server::start("");
    check(&server, "example.org", "juliet", (true, false), "defaults");
}

/// `Verdicts` in lib.rs: a refusal can be explained, and the reason names the option that decides.
#[test]
fn the_log_names_the_option_that_refused() {
    let server = Server::start("[domain.\"example.net\".c2s]\nrequire_encryption = false\n");
    let (mut client, _) = open(&server, By::Clear, "example.org");
    attempt(
        &mut client,
        By::Clear,
        "SCRAM-SHA-256",
        "juliet",
        "example.org",
    );
    let line = server.logs("login failed");
    assert!(line.contains("c2s.require_encryption = true"), "{line}");
    assert!(line.contains("condition=encryption-required"), "{line}");

    let (mut client, _) = open(&server, By::Clear, "example.net");
    attempt(&mut client, By::Clear, "PLAIN", "paris", "example.net");
    let line = server.logs("c2s.allow_unencrypted_plain = false");
    assert!(line.contains("domain=example.net"), "{line}");
}

/// RFC 6120 §5.3.1: where TLS is mandatory nothing else is taken either.
#[test]
fn where_encryption_is_required_nothing_but_starttls_gets_on() {
    let server = Server::start("");
    for stanza in [
        "<message to='romeo@example.org'><body>hi</body></message>",
        "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    ] {
        let (mut client, _) = open(&server, By::Clear, "example.org");
        client.send(stanza);
        client.fails("not-authorized");
    }
}

/// A failed attempt leaves STARTTLS open, and the login goes on under it.
#[test]
fn after_encryption_required_the_client_can_encrypt_and_log_in() {
    let server = Server::start("");
    let (mut client, _) = open(&server, By::Clear, "example.org");
    let refused = attempt(&mut client, By::Clear, "PLAIN", "juliet", "example.org");
    assert_eq!(refused, "encryption-required");
    client.starttls("example.org");
    assert_eq!(describe(&client.open("example.org")), OVER_TLS);
    let answered = attempt(&mut client, By::StartTls, "PLAIN", "juliet", "example.org");
    assert_eq!(answered, "success");
}

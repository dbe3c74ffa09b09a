//! PLAIN (RFC 4616), and credentials in other forms than a domain asks for.

use stanzad::clock::Wall;
use stanzad::jid::BareJid;
use stanzad::sasl::Credentials;
use stanzad::storage::accounts;

use super::common::client::{Client, failure_of};
use super::common::offer::mechanisms;
use super::common::scram::{Channel, Scram};
use super::common::server::{PASSWORD, Server, site, with_store};
use super::common::site::Site;
use super::{binds_as, secured};

/// PLAIN shows the password: only under TLS (RFC 6120 §13.8.3).
#[test]
fn plain_is_offered_and_taken_under_tls_alone() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    let features = client.open("example.org");
    assert!(!mechanisms(&features).contains(&"PLAIN".to_owned()));
    let outcome = client.plain("juliet", PASSWORD);
    assert_eq!(failure_of(outcome), "encryption-required");

    let (mut client, features) = secured(&server, "example.org", |_| ());
    assert!(mechanisms(&features).contains(&"PLAIN".to_owned()));
    client.plain("juliet", PASSWORD).unwrap();
    binds_as(&mut client, "juliet@example.org");

    let mut client = Client::connect_tls(&server);
    client.open("example.org");
    client.plain("juliet", PASSWORD).unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// RFC 6120 §6.3.8.
#[test]
fn an_authorization_identity_is_ones_own_or_refused() {
    let server = Server::start("");
    let try_as = |authzid: &str| {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        client.auth("PLAIN", format!("{authzid}\0juliet\0{PASSWORD}").as_bytes());
        client.outcome().map(|_| client)
    };
    let mut client = try_as("juliet@example.org").unwrap();
    binds_as(&mut client, "juliet@example.org");
    for other in ["romeo@example.org", "juliet@example.net", "juliet"] {
        let outcome = try_as(other).map(drop);
        assert_eq!(failure_of(outcome), "invalid-authzid", "{other}");
    }
}

/// RFC 6120 §6.5.10: one answer for an unknown user and for a wrong password.
#[test]
fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let server = Server::start("");
    let refusal = |user: &str, password: &str| {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        client.forget();
        client.plain(user, password).unwrap_err();
        String::from_utf8(client.raw.clone()).unwrap()
    };
    let wrong = refusal("juliet", "wrong");
    assert_eq!(refusal("ghost", PASSWORD), wrong);
    assert_eq!(refusal("ghost", "wrong"), wrong);
}

const BCRYPT: &str = "[domain.\"example.net\".auth]\nstorage = \"bcrypt\"\nbcrypt_cost = 10\n";

/// `Verdicts` in lib.rs: bcrypt takes the password itself.
#[test]
fn a_domain_with_bcrypt_storage_offers_plain_only() {
    let server = Server::start(BCRYPT);
    server.add("mercutio@example.net", "queen mab");
    let (mut client, features) = secured(&server, "example.net", |_| ());
    assert_eq!(mechanisms(&features), ["PLAIN"]);
    let scram = Scram::new(
        "SCRAM-SHA-256",
        "mercutio",
        "queen mab",
        None,
        Channel::Unable,
    );
    let outcome = client.scram_with("SCRAM-SHA-256", &scram);
    assert_eq!(failure_of(outcome), "invalid-mechanism");
    assert_eq!(
        failure_of(client.plain("mercutio", "queen")),
        "not-authorized"
    );
    client.plain("mercutio", "queen mab").unwrap();
    binds_as(&mut client, "mercutio@example.net");

    let (_, others) = secured(&server, "example.org", |_| ());
    assert!(mechanisms(&others).contains(&"SCRAM-SHA-256".to_owned()));
}

/// A hash of the password "queen mab", as PHP programs make them.
const IMPORTED: &str = "benvolio@example.org";

/// A site with an account of which only an imported bcrypt hash is stored.
fn site_with_import(conf: &str) -> Site {
    let site = site(conf);
    // The lowest cost, for the test's sake; `$2y$` and `$2b$` are one algorithm.
    let hash = bcrypt::hash_with_result("queen mab", 4).unwrap();
    let hash = hash.format_for_version(bcrypt::Version::TwoY);
    let credentials = Credentials::from_modular_crypt(&hash).unwrap();
    let jid = BareJid::parse(IMPORTED).unwrap();
    let now = Wall::from_micros(1);
    with_store(&site, |store| {
        store.change(move |db| accounts::create(db, &jid, &credentials, now))
    })
    .unwrap();
    site
}

/// Tries SCRAM-SHA-256 with the right password on a fresh stream.
fn scram(server: &Server) -> Result<Client, String> {
    let (mut client, _) = secured(server, "example.org", |_| ());
    match client.scram("SCRAM-SHA-256", "benvolio", "queen mab") {
        Ok(()) => Ok(client),
        failed => Err(failure_of(failed)),
    }
}

/// The account does not show by its failure that it is another kind of account.
#[test]
fn scram_for_a_bcrypt_only_account_fails_as_a_wrong_password_and_the_log_says_why() {
    let server = Server::start_in(site_with_import(""));
    assert_eq!(scram(&server).err().unwrap(), "not-authorized");
    let line = server.logs("login failed");
    assert!(line.contains(IMPORTED), "{line}");
    assert!(line.contains("only a bcrypt hash"), "{line}");

    // A client that guesses is told the same.
    let (mut client, _) = secured(&server, "example.org", |_| ());
    let outcome = client.scram("SCRAM-SHA-256", "juliet", "wrong");
    assert_eq!(failure_of(outcome), "not-authorized");
}

/// `Verdicts` in lib.rs: verified through PLAIN, then stored as the domain wants it.
#[test]
fn an_imported_hash_logs_in_by_plain_and_is_upgraded_to_scram() {
    let mut server = Server::start_in(site_with_import(""));
    let (mut client, _) = secured(&server, "example.org", |_| ());
    let outcome = client.plain("benvolio", "queen Mab");
    assert_eq!(failure_of(outcome), "not-authorized");
    assert!(scram(&server).is_err(), "a wrong password upgrades nothing");
    client.plain("benvolio", "queen mab").unwrap();
    binds_as(&mut client, IMPORTED);
    server.logs(&format!("credentials upgraded jid={IMPORTED}"));
    let mut client = scram(&server).unwrap();
    binds_as(&mut client, IMPORTED);
    // The bcrypt hash is gone: what is stored is what the domain asks for.
    server.stop();
    let jid = BareJid::parse(IMPORTED).unwrap();
    let found = with_store(&server.site, |store| {
        accounts::credentials(store.db(), &jid)
    });
    let (_, credentials) = found.unwrap().unwrap();
    assert_eq!(credentials.bcrypt, None);
    assert_eq!(credentials.scram.len(), 3);
}

/// The iterations that a challenge tells.
fn iterations(server: &Server, user: &str) -> String {
    let (mut client, _) = secured(server, "example.org", |_| ());
    let scram = Scram::new("SCRAM-SHA-256", user, PASSWORD, None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    let field = challenge
        .split(',')
        .find_map(|field| field.strip_prefix("i="));
    field.unwrap().to_owned()
}

/// RFC 7677 §4 wants counts to be raised with time; only a login that shows the password can.
#[test]
fn a_login_by_plain_raises_the_iterations_and_one_by_scram_does_not() {
    let server = Server::start("");
    assert_eq!(iterations(&server, "juliet"), "4096");
    server.configure("[auth]\niterations = 5000\n");
    server.reload();
    let (mut client, _) = secured(&server, "example.org", |_| ());
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    binds_as(&mut client, "juliet@example.org");
    assert_eq!(iterations(&server, "juliet"), "4096");

    let (mut client, _) = secured(&server, "example.org", |_| ());
    client.plain("juliet", PASSWORD).unwrap();
    binds_as(&mut client, "juliet@example.org");
    server.logs("credentials upgraded jid=juliet@example.org");
    assert_eq!(iterations(&server, "juliet"), "5000");
    let (mut client, _) = secured(&server, "example.org", |_| ());
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    // Whoever logged in before stays: the password is the same.
    binds_as(&mut client, "juliet@example.org");
}

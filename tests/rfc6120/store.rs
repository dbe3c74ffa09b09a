//! What clients see of a store that fails: errors that tell them to come back later.

use rusqlite::Connection;

use crate::common::client::{Client, failure_of};
use crate::common::server::{PASSWORD, Server};

/// Takes the accounts away under the running server: whatever it reads of them fails.
fn break_store(server: &Server) {
    let database = server.site.path("data/stanzad.sqlite");
    let database = Connection::open(database).unwrap();
    let sql = "ALTER TABLE account RENAME TO elsewhere";
    database.execute_batch(sql).unwrap();
}

/// [stanza/internal-server-error] RFC 6120 §8.3.3.6: a stanza for an account that cannot be loaded.
#[test]
fn a_stanza_to_an_account_that_cannot_be_loaded_comes_back() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    break_store(&server);
    juliet.send("<message to='romeo@example.org' id='1'/>");
    let error = juliet.refused("message", "internal-server-error");
    assert_eq!(error.attribute("id"), Some("1"));
    // What needs no store goes on.
    juliet.send("<message to='juliet@example.org/balcony' id='2'/>");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("2"));
}

/// [sasl/temporary-auth-failure] RFC 6120 §6.5.11: nothing is wrong with the password.
#[test]
fn a_login_whose_credentials_cannot_be_read_may_be_tried_again() {
    let server = Server::start("");
    break_store(&server);
    let mut client = Client::secured(&server);
    for user in ["juliet", "rosaline"] {
        let outcome = client.scram("SCRAM-SHA-256", user, PASSWORD);
        assert_eq!(failure_of(outcome), "temporary-auth-failure");
        let outcome = client.plain(user, PASSWORD);
        assert_eq!(failure_of(outcome), "temporary-auth-failure");
    }
}

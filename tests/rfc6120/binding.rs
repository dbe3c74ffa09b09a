//! Resource binding (RFC 6120 §7).

use stanzad::ns;

use crate::common::client::{Client, error_of, text};
use crate::common::server::{PASSWORD, Server};

const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";

/// [bind-gen] RFC 6120 §7.6.1.
#[test]
fn the_server_makes_a_resource_that_nobody_can_guess() {
    let server = Server::start("");
    let mut resources = Vec::new();
    for _ in 0..4 {
        let mut client = Client::login(&server, "juliet@example.org");
        let (bare, resource) = client.jid.split_once('/').unwrap();
        assert_eq!(bare, "juliet@example.org");
        assert!(resource.len() >= 20, "{resource}");
        resources.push(resource.to_owned());
        client.settle();
    }
    resources.sort();
    resources.dedup();
    assert_eq!(resources.len(), 4);
}

/// [bind-gen] RFC 6120 §7.7.1, §7.7.2.1: an empty resource is none.
#[test]
fn an_empty_resource_gets_one_made() {
    let server = Server::start("");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    assert!(client.bind(Some("")).len() > "juliet@example.org/".len() + 10);
}

/// [bind-support] RFC 6120 §7.7.1, RFC 7622 §3.4.
#[test]
fn a_client_can_choose_its_resource() {
    let server = Server::start("");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    assert_eq!(client.bind(Some("balcony")), "juliet@example.org/balcony");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    // OpaqueString: other spaces become ASCII's, letters keep their case.
    assert_eq!(
        client.bind(Some("My\u{a0}Balcony")),
        "juliet@example.org/My Balcony"
    );
}

/// [bind-mtn] RFC 6120 §7.3.1: offered, and without it nothing goes.
#[test]
fn binding_is_mandatory() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    for stanza in [
        "<message to='romeo@example.org/orchard'/>",
        "<presence/>",
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    ] {
        let mut client = Client::secured(&server);
        client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
        assert!(client.open("example.org").find(ns::BIND, "bind").is_some());
        client.send(stanza);
        client.fails("not-authorized");
    }
    romeo.settle();
}

/// [bind-restart] RFC 6120 §7.3.2.
#[test]
fn no_new_stream_begins_after_binding() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client.settle();
}

/// [stanza/bad-request] RFC 6120 §7.7.2.1.
#[test]
fn a_resource_that_cannot_be_is_refused_and_another_one_taken() {
    let server = Server::start("");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    for resource in ["a\u{7f}b".to_owned(), "a".repeat(1_024)] {
        assert_eq!(error_of(&client.try_bind(Some(&resource))), "bad-request");
    }
    client.bind(Some(&"a".repeat(1_023)));
}

/// [stanza/not-allowed] RFC 6120 §7.6.2.
#[test]
fn a_resource_of_somebody_else_is_refused() {
    let server = Server::start("");
    for addresses in [
        "to='romeo@example.org'",
        "from='romeo@example.org'",
        "to='example.net'",
        "from='romeo@example.org/orchard' to='example.org'",
    ] {
        let mut client = Client::authenticated(&server, "juliet@example.org");
        client.send(format!("<iq {addresses} type='set' id='b'>{BIND}</iq>"));
        let answer = client.refused("iq", "not-allowed");
        assert_eq!(answer.attribute("id"), Some("b"));
        client.bind(None);
    }
    assert!(server.sessions(Some("romeo@example.org")).is_empty());
}

/// [stanza/not-allowed] [stream/reset] RFC 6120 §7.6.2.2, §4.9.3.16: what was proven at the login
/// must hold still.
#[test]
fn a_login_that_an_operator_has_undone_binds_nothing() {
    let server = Server::start("");
    for (name, words) in [
        ("juliet", &["account", "passwd"][..]),
        ("romeo", &["account", "disable"][..]),
        ("nurse", &["account", "delete"][..]),
    ] {
        let jid = format!("{name}@example.org");
        let mut client = Client::authenticated(&server, &jid);
        let ended = server.run(&[words, &[&jid]].concat(), "w1ll1am\n");
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        assert_eq!(error_of(&client.try_bind(None)), "not-allowed");
        client.fails("reset");
    }
    assert!(server.sessions(None).is_empty());
}

/// [stream/conflict] RFC 6120 §7.7.2.2, §4.9.3.3: the newer session wins.
#[test]
fn a_taken_resource_ends_the_older_session() {
    let server = Server::start("");
    let mut older = Client::login(&server, "juliet@example.org/balcony");
    let mut newer = Client::login(&server, "juliet@example.org/balcony");
    older.fails("conflict");
    newer.settle();
    newer.send("<message to='juliet@example.org/balcony' id='1'/>");
    assert_eq!(newer.stanza("message").attribute("id"), Some("1"));
    assert_eq!(server.sessions(Some("juliet@example.org")).len(), 1);
}

/// [stanza/conflict] RFC 6120 §7.7.2.2, §8.3.3.2: the older session wins, where the operator says
/// so.
#[test]
fn a_taken_resource_is_refused_where_the_operator_wants_it() {
    let server = Server::start("[c2s]\nresource_conflict = \"refuse\"\n");
    let mut older = Client::login(&server, "juliet@example.org/balcony");
    let mut newer = Client::authenticated(&server, "juliet@example.org");
    assert_eq!(error_of(&newer.try_bind(Some("balcony"))), "conflict");
    newer.bind(Some("garden"));
    older.settle();
}

/// [stanza/resource-constraint] RFC 6120 §7.6.2.1.
#[test]
fn too_many_resources_are_refused_until_one_is_free() {
    let server = Server::start("[limits]\nresources_per_account_max = 2\n");
    let mut first = Client::login(&server, "juliet@example.org/1");
    let _second = Client::login(&server, "juliet@example.org/2");
    let mut third = Client::authenticated(&server, "juliet@example.org");
    assert_eq!(error_of(&third.try_bind(Some("3"))), "resource-constraint");
    // Another account has its own.
    Client::login(&server, "romeo@example.org/1");
    first.send("</stream:stream>");
    first.closes();
    third.bind(Some("3"));
}

/// RFC 6120 §7.7.2.2: replacing one's own resource needs no free one.
#[test]
fn a_resource_can_be_replaced_at_the_limit() {
    let server = Server::start("[limits]\nresources_per_account_max = 1\n");
    let mut older = Client::login(&server, "juliet@example.org/balcony");
    let _newer = Client::login(&server, "juliet@example.org/balcony");
    older.fails("conflict");
}

/// RFC 6120 §7.1: one resource a stream.
#[test]
fn a_second_bind_gets_an_error_and_changes_nothing() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    let answer = client.try_bind(Some("garden"));
    assert_eq!(answer.attribute("type"), Some("error"), "{}", text(&answer));
    let sessions = server.sessions(Some("juliet@example.org"));
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].jid, "juliet@example.org/balcony");
}

/// RFC 6120 §8.2.3: the id comes back, whatever it is.
#[test]
fn the_answer_to_a_bind_has_its_id() {
    let server = Server::start("");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    client.send(format!(
        "<iq type='set' id='&lt;&quot;&apos;&#x1f339;'>{BIND}</iq>"
    ));
    let answer = client.stanza("iq");
    assert_eq!(answer.attribute("id"), Some("<\"'\u{1f339}"));
}

//! Clients that say nothing (RFC 6120 §4.6).

use stanzad::ns;

use crate::common::client::{Client, Heard};
use crate::common::server::Server;

/// [stream/connection-timeout] RFC 6120 §4.9.3.4: in whatever phase before the login is done.
#[test]
fn a_client_that_does_not_log_in_is_cut_off() {
    let server = Server::start("[limits]\nunauthenticated_seconds_max = 2\n");
    let mut silent = Client::connect(&server);
    let mut opened = Client::connect(&server);
    opened.open("example.org");
    let mut secured = Client::secured(&server);
    let mut authenticated = Client::authenticated(&server, "juliet@example.org");
    silent.opened();
    for client in [&mut silent, &mut opened, &mut secured, &mut authenticated] {
        client.fails("connection-timeout");
    }
}

/// RFC 6120 §4.6.1: time is counted from the connection on, so that trickling helps nobody.
#[test]
fn a_client_that_trickles_is_cut_off_too() {
    let server = Server::start("[limits]\nunauthenticated_seconds_max = 1\n");
    let mut client = Client::connect(&server);
    client.send("<?xml version='1.0'?>");
    client.send(" ");
    client.opened();
    client.fails("connection-timeout");
}

/// RFC 6120 §13.12: a connection for TLS that never begins it, or stops in the middle.
#[test]
fn a_client_that_never_begins_tls_is_cut_off() {
    let server = Server::start("[limits]\nunauthenticated_seconds_max = 1\n");
    let mut direct = Client::connect_to(server.c2s_tls);
    let mut upgrading = Client::connect(&server);
    upgrading.open("example.org");
    upgrading.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    upgrading.element();
    // A record of a handshake that does not go on.
    upgrading.send(b"\x16\x03\x01\x02\x00\x01");
    for client in [&mut direct, &mut upgrading] {
        assert!(matches!(client.try_hear(), Ok(Heard::End) | Err(_)));
    }
    // Each shard answers still, and has forgotten them.
    assert_eq!(server.status().connections, 0);
}

/// The operator's limit does not reach those who have logged in.
#[test]
fn a_client_with_a_resource_may_be_silent() {
    let server = Server::start("[limits]\nunauthenticated_seconds_max = 2\n");
    let mut juliet = Client::login(&server, "juliet@example.org");
    // When this connection, which is younger, is cut off, hers has outlived the limit.
    let mut silent = Client::connect(&server);
    silent.opened();
    silent.fails("connection-timeout");
    juliet.settle();
}

/// RFC 6120 §4.6.4, XEP-0199 §4.1: who answers the ping stays.
#[test]
fn a_silent_client_is_pinged_and_stays_when_it_answers() {
    let server = Server::start("[c2s]\nidle_seconds = 1\n");
    let mut client = Client::login(&server, "juliet@example.org");
    for _ in 0..2 {
        let ping = client.stanza("iq");
        assert_eq!(ping.attribute("type"), Some("get"));
        assert_eq!(ping.attribute("from"), Some("example.org"));
        assert!(ping.find(ns::PING, "ping").is_some());
        let id = ping.attribute("id").unwrap();
        client.send(format!("<iq type='result' to='example.org' id='{id}'/>"));
    }
    client.until_settled();
}

/// RFC 6120 §4.6.4: any byte is a sign of life, an answer to the ping is not asked for.
#[test]
fn white_space_keeps_a_client_alive() {
    let server = Server::start("[c2s]\nidle_seconds = 1\n");
    let mut client = Client::login(&server, "juliet@example.org");
    for _ in 0..3 {
        client.stanza("iq");
        client.send(" ");
    }
    client.until_settled();
}

/// [stream/connection-timeout] RFC 6120 §4.9.3.4, §4.6.4.
#[test]
fn a_client_that_does_not_answer_the_ping_is_cut_off() {
    let server = Server::start("[c2s]\nidle_seconds = 1\nping_timeout_seconds = 1\n");
    let mut client = Client::login(&server, "juliet@example.org");
    client.stanza("iq");
    client.fails("connection-timeout");
    assert!(server.sessions(None).is_empty());
}

/// RFC 6120 §4.6.4: what a client hears is no sign of life from it.
#[test]
fn messages_from_others_do_not_keep_a_silent_client() {
    let server = Server::start("[c2s]\nidle_seconds = 1\nping_timeout_seconds = 1\n");
    let mut silent = Client::login(&server, "juliet@example.org/balcony");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    loop {
        let heard = romeo.element();
        if heard.attribute("type") == Some("get") {
            romeo.send("<message to='juliet@example.org/balcony'/>");
        }
        if server.sessions(Some("juliet@example.org")).is_empty() {
            break;
        }
    }
    loop {
        if silent.element().name == "error" {
            break;
        }
    }
    silent.closes();
}

/// RFC 6120 §4.4: the client's own end is not waited for without end, and nobody else waits for it.
#[test]
fn a_client_that_never_closes_its_stream_is_dropped() {
    let server = Server::start("[c2s]\nidle_seconds = 1\n");
    let mut rude = Client::connect(&server);
    rude.open("example.org");
    rude.send("<unknown/>");
    rude.fails("unsupported-stanza-type");
    // Her pings are the clock.
    let mut juliet = Client::login(&server, "juliet@example.org");
    let mut pings = 0;
    while server.status().connections > 1 {
        juliet.stanza("iq");
        juliet.send(" ");
        pings += 1;
        assert!(pings < 10, "it is never dropped");
    }
}

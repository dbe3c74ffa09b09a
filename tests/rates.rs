//! Who sends too much is slowed down, and who comes too often is refused or waits (RFC 6120 §13.12,
//! `Bounds` in lib.rs): over real sockets, beside others who do not feel it.

mod common;

use std::net::SocketAddr;

use common::client::{Client, Heard, ssl};
use common::server::Server;

const JULIET: &str = "juliet@example.org/balcony";
const ROMEO: &str = "romeo@example.org/orchard";

/// An address of this machine.
fn address(last: u8) -> SocketAddr {
    ([127, 3, 0, last], 0).into()
}

fn chat(body: &str) -> String {
    format!("<message to='{ROMEO}' type='chat'><body>{body}</body></message>")
}

/// Direct TLS from an address. `Err` is a failed handshake.
fn direct_tls(server: &Server, from: SocketAddr) -> Result<Client, String> {
    let mut client = Client::connect_from(from, server.c2s_tls);
    client.handshake(ssl("example.org", |_| ()))?;
    Ok(client)
}

#[test]
fn a_flood_is_slowed_beside_others_and_all_of_it_arrives_in_order() {
    let server = Server::start("[server]\nshards = 1\n[limits]\nstanzas_per_second_max = 10\n");
    let mut romeo = Client::login(&server, ROMEO);
    let mut juliet = Client::login(&server, JULIET);
    let mut nurse = Client::login(&server, "nurse@example.org");
    // A hundred may come at once, and sixteen more in the same turn.
    let flood: String = (0..180).map(|n| chat(&n.to_string())).collect();
    juliet.send(flood);
    let (mut of_juliet, mut of_nurse) = (Vec::new(), 0);
    while of_juliet.len() < 180 || of_nurse < 10 {
        let message = romeo.stanza("message");
        if message.attribute("from") != Some(JULIET) {
            assert!(of_juliet.len() < 180, "the flood was not slowed");
            of_nurse += 1;
            continue;
        }
        of_juliet.push(message.elements().next().unwrap().text());
        if of_juliet.len() == 100 {
            nurse.send(chat("hark").repeat(10));
        }
    }
    let expected: Vec<String> = (0..180).map(|n| n.to_string()).collect();
    assert_eq!(of_juliet, expected);
    juliet.settle();
    server.logs("client sends more than it may, and is slowed down");
}

#[test]
fn a_flood_of_bytes_is_slowed_and_a_stanza_of_full_size_gets_through() {
    let server = Server::start("[server]\nshards = 1\n[limits]\nbytes_per_second_max = 20000\n");
    let mut romeo = Client::login(&server, ROMEO);
    let mut juliet = Client::login(&server, JULIET);
    // 200,000 bytes may come at once.
    let body = "x".repeat(100_000);
    juliet.send(chat(&body).repeat(3) + &chat("done"));
    for _ in 0..3 {
        let message = romeo.stanza("message");
        assert_eq!(message.elements().next().unwrap().text(), body);
    }
    assert_eq!(
        romeo.stanza("message").elements().next().unwrap().text(),
        "done"
    );
    juliet.settle();
    server.logs("client sends more than it may, and is slowed down");
}

#[test]
fn an_address_that_comes_too_often_is_refused_and_told_of_once() {
    let server = Server::start("[limits]\nnew_connections_per_address_max = 3\n");
    let mut let_in = 0;
    for _ in 0..20 {
        let mut client = Client::connect_from(address(1), server.c2s);
        // A refused one is closed, perhaps before it can say anything.
        let _ = client.try_send(common::client::header("example.org"));
        let_in += u32::from(matches!(client.try_hear(), Ok(Heard::Open(_))));
    }
    assert_eq!(let_in, 3);
    let mut client = Client::connect_from(address(2), server.c2s);
    client.secure("example.org");
    // The log is one queue: this comes behind all of the refusals.
    let unknown = client.plain("nobody", "wrong");
    assert!(unknown.is_err());
    server.logs("nobody@example.org");
    let log = server.log();
    let told = log.matches("connections refused, too many from one address");
    assert_eq!(told.count(), 1, "{log}");
}

#[test]
fn a_handshake_waits_for_its_turn_and_is_completed_then() {
    let server = Server::start("[limits]\nhandshakes_per_address_max = 12\n");
    // One in five seconds comes back.
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(direct_tls(&server, address(1)).unwrap());
        if server.log().contains("TLS handshake waits for its turn") {
            break;
        }
    }
    server.logs("TLS handshake waits for its turn");
    let mut last = clients.pop().unwrap();
    last.open("example.org");
}

#[test]
fn a_handshake_whose_turn_comes_too_late_is_refused_and_others_are_not() {
    let server = Server::start(
        "[limits]\nhandshakes_per_address_max = 2\nunauthenticated_seconds_max = 10\n",
    );
    for _ in 0..2 {
        direct_tls(&server, address(1)).unwrap().open("example.org");
    }
    assert!(direct_tls(&server, address(1)).is_err());
    server.logs("TLS handshakes refused, too many with one address");
    // By STARTTLS it is the same.
    let mut client = Client::connect_from(address(1), server.c2s);
    client.open("example.org");
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    client.fails("policy-violation");
    direct_tls(&server, address(2)).unwrap().open("example.org");
}

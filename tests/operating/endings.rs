//! What the log tells of each stream that has ended: who it was, from where, and why (RFC 6120 §4.4, §4.9).

use super::common::client::Client;
use super::common::component::{Component, SECRET};
use super::common::network::Network;
use super::common::server::Server;

const JULIET: &str = "juliet@example.org/balcony";

/// A session of juliet's, and the server.
fn session() -> (Server, Client) {
    let server = Server::start("");
    let juliet = Client::login(&server, JULIET);
    (server, juliet)
}

/// The one line about the end of juliet's session.
fn end_of_session(server: &Server) -> String {
    let line = server.logs("session ended");
    let who = format!("session ended jid={JULIET} address=127.0.0.1 stream=");
    assert!(line.contains(&who) && line.contains(" info "), "{line}");
    let log = server.log();
    let ends = |line: &&str| line.contains("stream ended") || line.contains("session ended");
    assert_eq!(log.lines().filter(ends).count(), 1, "{log}");
    line
}

#[test]
fn a_session_that_its_client_closes_is_told_so() {
    let (server, mut juliet) = session();
    juliet.send("</stream:stream>");
    juliet.closes();
    let line = end_of_session(&server);
    assert!(line.ends_with("reason=\"the peer closed it\""), "{line}");
}

#[test]
fn a_session_whose_connection_is_gone_is_told_so() {
    let (server, juliet) = session();
    drop(juliet);
    let line = end_of_session(&server);
    assert!(line.contains("reason=\"the connection was "), "{line}");
}

/// RFC 6120 §4.9.3.18, §11.1: an error of ours has a condition and a text.
#[test]
fn a_session_that_the_server_ends_is_told_with_condition_and_text() {
    let (server, mut juliet) = session();
    juliet.send("<message><body>&nope;</body></message>");
    juliet.fails("restricted-xml");
    let line = end_of_session(&server);
    let why = "reason=\"restricted-xml: XMPP forbids entity references but the five predefined\"";
    assert!(line.ends_with(why), "{line}");
}

/// RFC 6120 §4.9.2: what the client says of it is its own choice, and stays one value on one line.
#[test]
fn a_session_that_its_client_ends_by_an_error_is_told_in_its_words() {
    let (server, mut juliet) = session();
    juliet.send(
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>gone\" jid=\"romeo\nsession ended</text>\
         </stream:error></stream:stream>",
    );
    juliet.closes();
    let line = end_of_session(&server);
    // What ends a line is a space, and quotes are escaped.
    let words =
        r#"reason="the peer reported undefined-condition: gone\" jid=\"romeo session ended""#;
    assert!(line.ends_with(words), "{line}");
}

/// Anybody may connect: that is no news for an operator's day.
#[test]
fn the_end_of_a_stream_without_a_session_is_told_at_debug() {
    let server = Server::start("");
    let mut nobody = Client::connect(&server);
    nobody.open("example.org");
    nobody.send("</stream:stream>");
    nobody.closes();
    let line = server.logs("stream ended jid=- address=127.0.0.1 stream=");
    assert!(line.contains(" debug "), "{line}");
    assert!(line.ends_with("reason=\"the peer closed it\""), "{line}");
}

#[test]
fn the_end_of_a_servers_stream_names_both_domains_and_who_opened_it() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let peer = network.peer("b.example");
    let mut stream = peer.dial_external(&server, "a.example");
    server.logs("server authenticated");
    stream.send(
        "<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         </stream:error></stream:stream>",
    );
    stream.closes();
    let line = server.logs("server stream ended");
    let who = format!(
        " address={} direction=accepted peer=b.example local=a.example ",
        peer.ip()
    );
    assert!(line.contains(&who) && line.contains(" info "), "{line}");
    assert!(
        line.ends_with("reason=\"the peer reported system-shutdown\""),
        "{line}"
    );
}

#[test]
fn the_end_of_a_components_stream_names_the_component() {
    let conf = format!("[component.\"irc.example.org\"]\nsecret = \"{SECRET}\"\n");
    let server = Server::start(&conf);
    let mut irc = Component::connect(&server, "irc.example.org");
    irc.send("</stream:stream>");
    irc.closes();
    let line = server.logs("component stream ended component=irc.example.org address=127.0.0.1 ");
    assert!(line.ends_with("reason=\"the peer closed it\""), "{line}");
    drop(Component::connect(&server, "irc.example.org"));
    server.logs("reason=\"the connection was ");
}

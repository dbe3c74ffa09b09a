//! How streams end (RFC 6120 §4.4, §4.9), and who else learns of it.

use std::fs;
use std::io::Read;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::client::{Client, Heard};
use crate::common::server::Server;

/// RFC 6120 §4.4.
#[test]
fn the_end_of_a_stream_is_answered_by_its_end() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client.send("</stream:stream>");
    client.closes();
    assert!(server.sessions(None).is_empty());
}

/// RFC 6120 §4.4.
#[test]
fn a_stream_can_end_in_every_phase() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send("</stream:stream>");
    client.closes();
    let mut client = Client::secured(&server);
    client.send("</stream:stream>");
    client.closes();
    let mut client = Client::authenticated(&server, "juliet@example.org");
    client.send("</stream:stream>");
    client.closes();
}

/// RFC 6120 §4.4: what was sent before the end is processed.
#[test]
fn stanzas_before_the_end_of_the_stream_are_delivered() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='romeo@example.org/orchard' id='adieu'/></stream:stream>");
    juliet.closes();
    assert_eq!(romeo.stanza("message").attribute("id"), Some("adieu"));
}

/// RFC 6120 §4.4: a client that has no more to say at all still hears our end.
#[test]
fn a_half_closed_connection_hears_the_end_of_the_stream() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send("</stream:stream>");
    client.shutdown();
    client.closes();
}

/// RFC 6120 §4.4: nothing behind the end is looked at.
#[test]
fn nothing_behind_the_end_of_a_stream_counts() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("</stream:stream><message to='romeo@example.org/orchard'/>");
    juliet.closes();
    romeo.settle();
}

/// RFC 6120 §4.5: a connection that breaks ends its session.
#[test]
fn a_connection_without_an_end_of_stream_frees_its_resource() {
    let server = Server::start("[c2s]\nresource_conflict = \"refuse\"\n");
    let mut client = Client::login(&server, "juliet@example.org/balcony");
    client.shutdown();
    // The server ends it too, and then the resource is free.
    while !matches!(client.try_hear(), Ok(Heard::End) | Err(_)) {}
    Client::login(&server, "juliet@example.org/balcony");
}

/// RFC 6120 §4.9.1.1: a stream error of the client's ends the stream; it gets no error back.
#[test]
fn a_stream_error_of_the_client_is_answered_by_the_end() {
    let error = "<stream:error><undefined-condition \
                 xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(error);
    client.closes();
    let mut client = Client::authenticated(&server, "juliet@example.org");
    client.send(error);
    client.closes();
    let mut client = Client::login(&server, "juliet@example.org");
    client.send(error);
    client.closes();
}

/// [stream-error-generate] RFC 6120 §4.9.1.1: error, end of stream, end of TLS, end of TCP; all
/// of it although the client sends nothing more.
#[test]
fn a_stream_error_comes_with_the_end_of_stream_and_connection() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client.send("<unknown/>");
    client.fails("unsupported-stanza-type");
    assert!(client.heard_close_notify());
    let mut byte = [0];
    assert_eq!(client.tcp().read(&mut byte).unwrap(), 0);
}

/// [stream-error-generate] RFC 6120 §4.9.1.2: our header comes first, also when there was none.
#[test]
fn an_error_in_the_first_bytes_comes_after_our_header() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    client.opened();
    match client.hear() {
        Heard::Element(error) => assert_eq!(error.name, "error"),
        other => panic!("{other:?}"),
    }
    client.closes();
}

/// [stream/host-gone] RFC 6120 §4.9.3.5.
#[test]
fn a_domain_that_a_reload_takes_away_ends_its_sessions() {
    let server = Server::start("");
    let mut gone = Client::login(&server, "paris@example.net");
    let path = server.site.path("stanzad.toml");
    let mut conf: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let domains = conf["domain"].as_table_mut().unwrap();
    domains.remove("example.net");
    fs::write(&path, conf.to_string()).unwrap();
    server.reload();
    gone.fails("host-gone");
    let mut late = Client::connect(&server);
    late.send_header("example.net");
    late.opened();
    late.fails("host-unknown");
}

/// [stream/system-shutdown] RFC 6120 §4.9.3.20.
#[test]
fn sigterm_tells_everybody_of_the_shutdown() {
    let mut server = Server::start("");
    let mut opened = Client::connect(&server);
    opened.open("example.org");
    let mut bound = Client::login(&server, "juliet@example.org");
    kill_process(Pid::from_raw(server.pid() as i32).unwrap(), Signal::TERM).unwrap();
    for client in [&mut opened, &mut bound] {
        client.fails("system-shutdown");
        client.send("</stream:stream>");
    }
    assert!(server.wait().success());
}

/// RFC 6120 §4.4: a stop waits a moment for the clients' ends, not for ever.
#[test]
fn a_stop_does_not_wait_for_clients_that_never_close() {
    let mut server = Server::start("");
    let mut bound = Client::login(&server, "juliet@example.org");
    let _silent = Client::connect(&server);
    let _unsecured = Client::connect_to(server.c2s_tls);
    assert_eq!(server.run(&["stop"], "").status, 0);
    assert!(server.wait().success());
    bound.fails("system-shutdown");
}

/// [stream/reset] RFC 6120 §4.9.3.16.
#[test]
fn a_new_password_ends_the_sessions_of_the_account_alone() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let ended = server.run(&["account", "passwd", "juliet@example.org"], "w1ll1am\n");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    juliet.fails("reset");
    romeo.settle();
}

/// [stream/not-authorized] RFC 6120 §4.9.3.12.
#[test]
fn disabling_or_deleting_an_account_ends_its_sessions() {
    let server = Server::start("");
    for verb in ["disable", "delete"] {
        let mut client = Client::connect(&server);
        let name = if verb == "disable" { "juliet" } else { "romeo" };
        client.secure("example.org");
        client
            .scram("SCRAM-SHA-256", name, crate::common::server::PASSWORD)
            .unwrap();
        client.open("example.org");
        client.bind(None);
        let ended = server.run(&["account", verb, &format!("{name}@example.org")], "");
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        client.fails("not-authorized");
    }
}

/// [stream/resource-constraint] RFC 6120 §4.9.3.17: whoever does not read what others send is cut
/// off, and nobody else is held up by it.
#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::start("");
    let mut deaf = Client::login(&server, "juliet@example.org/balcony");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let body = "a".repeat(200_000);
    let message = format!(
        "<message to='juliet@example.org/balcony' type='normal'><body>{body}</body></message>"
    );
    // The kernel's buffers take some, the server 4 MiB; then the resource is gone, and messages to
    // it come back.
    let mut sent = 0;
    loop {
        romeo.send(&message);
        sent += 1;
        if romeo
            .until_settled()
            .iter()
            .any(|heard| heard.name == "message")
        {
            break;
        }
        assert!(sent < 1_000, "it takes more than it should");
    }
    assert!(server.sessions(Some("juliet@example.org")).is_empty());
    let end = loop {
        match deaf.try_hear() {
            Ok(Heard::Element(element)) if element.name == "error" => {
                let condition = element.elements().next().unwrap();
                assert_eq!(condition.name, "resource-constraint");
            }
            Ok(Heard::Element(_)) => {}
            Ok(end) => break Some(end),
            // Or it was reset before it read so far.
            Err(_) => break None,
        }
    };
    assert!(!matches!(end, Some(Heard::Open(_))), "{end:?}");
}

//! `[limits]`.

use std::net::SocketAddr;

use base64::Engine;
use stanzad::ns;

use super::common::client::{Client, Heard, error_of, failure_of, ssl};
use super::common::server::{PASSWORD, Server};
use super::{fresh, stranger};

super::cases! {
    connections_per_address_max: "limits.connections_per_address_max",
        [
            "[limits]\nconnections_per_address_max = 2\n",
            "[limits]\nconnections_per_address_max = 4\n",
        ],
        ["2", "4"],
        connections;
    new_connections_per_address_max: "limits.new_connections_per_address_max",
        [
            "[limits]\nnew_connections_per_address_max = 2\n",
            "[limits]\nnew_connections_per_address_max = 4\n",
        ],
        ["2", "4"],
        new_connections;
    handshakes_per_address_max: "limits.handshakes_per_address_max",
        [
            "[limits]\nhandshakes_per_address_max = 2\nunauthenticated_seconds_max = 10\n",
            "[limits]\nhandshakes_per_address_max = 4\nunauthenticated_seconds_max = 10\n",
        ],
        ["2", "4"],
        handshakes;
    bytes_per_second_max: "limits.bytes_per_second_max",
        [
            "[limits]\nbytes_per_second_max = 1000\nstanzas_per_second_max = 0\n",
            "[limits]\nbytes_per_second_max = 0\nstanzas_per_second_max = 0\n",
        ],
        ["slowed down", "not slowed down"],
        |server| sent(server, &" ".repeat(13_000));
    stanzas_per_second_max: "limits.stanzas_per_second_max",
        [
            "[limits]\nstanzas_per_second_max = 4\nbytes_per_second_max = 0\n",
            "[limits]\nstanzas_per_second_max = 0\nbytes_per_second_max = 0\n",
        ],
        ["slowed down", "not slowed down"],
        |server| sent(server, &"<message/>".repeat(50));
    unauthenticated_seconds_max: "limits.unauthenticated_seconds_max",
        [
            "[limits]\nunauthenticated_seconds_max = 600\n[c2s]\nidle_seconds = 5\n",
            "[limits]\nunauthenticated_seconds_max = 3\n[c2s]\nidle_seconds = 5\n",
        ],
        ["still there", "connection-timeout"],
        unauthenticated;
    resources_per_account_max: "limits.resources_per_account_max",
        [
            "[limits]\nresources_per_account_max = 1\n",
            "[limits]\nresources_per_account_max = 3\n",
        ],
        ["1", "3"],
        resources;
    roster_items_max: "limits.roster_items_max",
        [
            "[limits]\nroster_items_max = 2\n",
            "[limits]\nroster_items_max = 3\n",
        ],
        ["2", "3"],
        contacts;
    pending_requests_max: "limits.pending_requests_max",
        [
            "[limits]\npending_requests_max = 1\n",
            "[limits]\npending_requests_max = 2\n",
        ],
        ["1", "2"],
        requests;
    login_failures_per_stream_max: "limits.login_failures_per_stream_max",
        [
            "[limits]\nlogin_failures_per_stream_max = 3\n",
            "[limits]\nlogin_failures_per_stream_max = 4\n",
        ],
        ["3", "4"],
        failures_of_stream;
    login_failures_per_address_max: "limits.login_failures_per_address_max",
        [
            "[limits]\nlogin_failures_per_address_max = 1000\n",
            "[limits]\nlogin_failures_per_address_max = 1\n",
        ],
        ["not-authorized", "temporary-auth-failure"],
        |server| {
            // Two accounts, so that only the address counts.
            let mut client = stranger(server);
            guess(&mut client, &format!("ghost{}", fresh()));
            guess(&mut client, &format!("ghost{}", fresh()))
        };
    login_failures_per_account_max: "limits.login_failures_per_account_max",
        [
            "[limits]\nlogin_failures_per_account_max = 1000\n",
            "[limits]\nlogin_failures_per_account_max = 1\n",
        ],
        ["not-authorized", "temporary-auth-failure"],
        |server| {
            let ghost = format!("ghost{}", fresh());
            let mut client = stranger(server);
            guess(&mut client, &ghost);
            let twice = guess(&mut client, &ghost);
            // The address may go on with others.
            assert_eq!(guess(&mut client, &format!("ghost{}", fresh())), "not-authorized");
            twice
        };
    private_bytes_max: "limits.private_bytes_max",
        [
            "[limits]\nprivate_bytes_max = 1024\n",
            "[limits]\nprivate_bytes_max = 4096\n",
        ],
        ["policy-violation", "result"],
        |server| kept(server, "<query xmlns='jabber:iq:private'><a xmlns='x'>", "</a></query>");
    vcard_bytes_max: "limits.vcard_bytes_max",
        [
            "[limits]\nvcard_bytes_max = 1024\n",
            "[limits]\nvcard_bytes_max = 4096\n",
        ],
        ["policy-violation", "result"],
        |server| kept(server, "<vCard xmlns='vcard-temp'><NOTE>", "</NOTE></vCard>");
    offline_messages_max: "limits.offline_messages_max",
        [
            "[limits]\noffline_messages_max = 1\n",
            "[limits]\noffline_messages_max = 3\n",
        ],
        ["1", "3"],
        |server| stored(server, 10);
    offline_bytes_max: "limits.offline_bytes_max",
        [
            "[limits]\noffline_bytes_max = 10000\n",
            "[limits]\noffline_bytes_max = 20000\n",
        ],
        ["2", "4"],
        |server| stored(server, 4_500);
}

/// What comes of a set with 2,000 bytes of text.
fn kept(server: &Server, before: &str, after: &str) -> String {
    let mut client = Client::login(server, "juliet@example.org");
    let text = "x".repeat(2_000);
    client.send(format!("<iq type='set' id='k'>{before}{text}{after}</iq>"));
    let reply = client.stanza("iq");
    // Who has something may store as much as that, whatever the limit is now.
    client.send(format!("<iq type='set' id='k'>{before}{after}</iq>"));
    assert_eq!(client.stanza("iq").attribute("type"), Some("result"));
    match reply.attribute("type") {
        Some("error") => error_of(&reply),
        other => other.unwrap().to_owned(),
    }
}

/// How many of five messages with so many bytes are kept for an account that is not available.
fn stored(server: &Server, bytes: usize) -> String {
    let jid = format!("guest{}@example.org", fresh());
    server.add(&jid, PASSWORD);
    let mut client = Client::login(server, &jid);
    let body = "x".repeat(bytes);
    for _ in 0..5 {
        client.send(format!("<message to='{jid}'><body>{body}</body></message>"));
    }
    let refused = client.until_settled();
    for error in &refused {
        assert_eq!(error_of(error), "service-unavailable");
    }
    (5 - refused.len()).to_string()
}

fn guess(client: &mut Client, user: &str) -> String {
    failure_of(client.plain(user, "wrong"))
}

/// What the log says of a client that sends this, ten seconds' worth and more, in a moment.
fn sent(server: &Server, text: &str) -> String {
    let jid = format!("guest{}@example.org", fresh());
    server.add(&jid, PASSWORD);
    let mut client = Client::login(server, &jid);
    client.send(text);
    client.settle();
    client.send("</stream:stream>");
    client.closes();
    let end = server.logs(&format!("session ended jid={jid}/"));
    let stream = end.split(' ').find(|field| field.starts_with("stream="));
    let log = server.log();
    let is_of_stream = |line: &str| line.split(' ').any(|field| Some(field) == stream);
    let slowed = log
        .lines()
        .any(|line| line.contains("and is slowed down") && is_of_stream(line));
    match slowed {
        true => "slowed down".to_owned(),
        false => "not slowed down".to_owned(),
    }
}

/// An address of this machine that nobody has come from before.
fn elsewhere() -> SocketAddr {
    let n = fresh();
    ([127, 2, (n / 200) as u8, (n % 200) as u8 + 1], 0).into()
}

/// How many of six connections that come one after the other are let in.
fn new_connections(server: &Server) -> String {
    let from = elsewhere();
    let is_let_in = |_: &u32| {
        let mut client = Client::connect_from(from, server.c2s);
        // A refused one is closed, perhaps before it can say anything.
        let _ = client.try_send(super::common::client::header("example.org"));
        matches!(client.try_hear(), Ok(Heard::Open(_)))
    };
    (0..6).filter(is_let_in).count().to_string()
}

/// How many of six clients from one address may encrypt.
fn handshakes(server: &Server) -> String {
    let from = elsewhere();
    let is_secured = |_: &u32| {
        let mut client = Client::connect_from(from, server.c2s);
        client.open("example.org");
        client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        let came = client.element();
        if came.is(ns::STREAM, "error") {
            assert_eq!(came.elements().next().unwrap().name, "policy-violation");
            return false;
        }
        client.handshake(ssl("example.org", |_| ())).unwrap();
        true
    };
    (0..6).filter(is_secured).count().to_string()
}

/// How many of six connections from one address are let in.
fn connections(server: &Server) -> String {
    let from = elsewhere();
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect_from(from, server.c2s);
        // A refused one is closed, perhaps before it can say anything.
        let _ = client.try_send(super::common::client::header("example.org"));
        match client.try_hear() {
            Ok(Heard::Open(_)) => open.push(client),
            Ok(Heard::End) | Err(_) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }
    open.len().to_string()
}

/// What has become of a client that does not log in, when a later one is pinged for its silence.
fn unauthenticated(server: &Server) -> String {
    let mut silent = Client::connect(server);
    silent.open("example.org");
    let mut clock = Client::login(server, "juliet@example.org");
    assert!(clock.element().find(ns::PING, "ping").is_some());
    // The server may have closed the connection.
    let _ = silent.try_send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let came = silent.element();
    match &*came.name {
        "proceed" => "still there".to_owned(),
        _ => came.elements().next().unwrap().name.clone(),
    }
}

/// How many resources of one account can be bound.
fn resources(server: &Server) -> String {
    let mut bound = Vec::new();
    let refused = loop {
        let mut client = Client::connect(server);
        client.secure("example.org");
        client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
        client.open("example.org");
        let answer = client.try_bind(None);
        match answer.attribute("type") {
            Some("result") => bound.push(client),
            _ => break answer,
        }
    };
    assert_eq!(error_of(&refused), "resource-constraint");
    let count = bound.len();
    for client in &mut bound {
        client.send("</stream:stream>");
        client.closes();
    }
    count.to_string()
}

/// How many contacts an account may have.
fn contacts(server: &Server) -> String {
    let mut client = Client::login(server, "juliet@example.org");
    let mut set = |n: usize, subscription: &str| {
        client.send(format!(
            "<iq type='set' id='1'><query xmlns='jabber:iq:roster'>\
             <item jid='c{n}@example.org'{subscription}/></query></iq>"
        ));
        client.stanza("iq")
    };
    let mut count = 0;
    let refused = loop {
        let answer = set(count, "");
        if answer.attribute("type") == Some("error") {
            break answer;
        }
        count += 1;
    };
    assert_eq!(error_of(&refused), "policy-violation");
    for n in 0..count {
        let answer = set(n, " subscription='remove'");
        assert_eq!(answer.attribute("type"), Some("result"));
    }
    count.to_string()
}

/// How many failed logins end a stream.
fn failures_of_stream(server: &Server) -> String {
    let mut client = stranger(server);
    let mut count = 0;
    loop {
        let user = format!("ghost{}", fresh());
        let message = format!("\0{user}\0wrong");
        // The server may have closed the connection after the last one.
        let _ = client.try_send(format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{}</auth>",
            ns::SASL,
            base64::engine::general_purpose::STANDARD.encode(message)
        ));
        let came = client.element();
        if came.is(ns::STREAM, "error") {
            assert_eq!(came.elements().next().unwrap().name, "policy-violation");
            return count.to_string();
        }
        assert!(came.is(ns::SASL, "failure"), "{came:?}");
        count += 1;
    }
}

/// How many of three requests wait until the account logs in.
fn requests(server: &Server) -> String {
    let n = fresh();
    let popular = format!("popular{n}@example.org");
    server.add(&popular, PASSWORD);
    for fan in 0..3 {
        let fan = format!("fan{fan}of{n}@example.org");
        server.add(&fan, PASSWORD);
        let mut client = Client::login(server, &fan);
        client.send(format!("<presence type='subscribe' to='{popular}'/>"));
        // It comes to the popular one's shard after the request.
        client.send(format!(
            "<iq type='get' id='q' to='{popular}'><q xmlns='urn:q'/></iq>"
        ));
        client.refused("iq", "service-unavailable");
    }
    let mut client = Client::login(server, &popular);
    client.send("<presence/>");
    let shown = client.until_settled();
    let requests = shown
        .iter()
        .filter(|stanza| stanza.attribute("type") == Some("subscribe"));
    requests.count().to_string()
}

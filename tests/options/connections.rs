//! `[c2s]`.

use stanzad::ns;
use stanzad::xml::Element;

use super::common::client::{Client, error_of};
use super::common::offer::describe;
use super::common::server::{PASSWORD, Server};

/// Pings and their time-outs of example.net are a clock for those of example.org: no test measures.
const CLOCK: &str = "[domain.\"example.net\".c2s]\nidle_seconds = 1\nping_timeout_seconds = 1\n";

super::cases! {
    require_encryption: "c2s.require_encryption",
        ["[c2s]\nrequire_encryption = true\n", "[c2s]\nrequire_encryption = false\n"],
        ["STARTTLS!", "STARTTLS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1"],
        in_the_clear;
    allow_unencrypted_plain: "c2s.allow_unencrypted_plain",
        [
            "[c2s]\nrequire_encryption = false\nallow_unencrypted_plain = false\n",
            "[c2s]\nrequire_encryption = false\nallow_unencrypted_plain = true\n",
        ],
        [
            "STARTTLS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1",
            "STARTTLS SCRAM-SHA-512 SCRAM-SHA-256 SCRAM-SHA-1 PLAIN",
        ],
        in_the_clear;
    stanza_bytes_max: "c2s.stanza_bytes_max",
        ["[c2s]\nstanza_bytes_max = 20000\n", "[c2s]\nstanza_bytes_max = 30000\n"],
        ["20000 announced, policy-violation", "30000 announced, taken"],
        long_stanza;
    idle_seconds: "c2s.idle_seconds",
        [
            const_format(&["[c2s]\nidle_seconds = 3600\n", CLOCK]),
            const_format(&["[c2s]\nidle_seconds = 1\n", CLOCK]),
        ],
        ["not pinged", "pinged"],
        pinged;
    ping_timeout_seconds: "c2s.ping_timeout_seconds",
        [
            const_format(&["[c2s]\nidle_seconds = 1\nping_timeout_seconds = 3600\n", CLOCK]),
            const_format(&["[c2s]\nidle_seconds = 1\nping_timeout_seconds = 1\n", CLOCK]),
        ],
        ["still there", "connection-timeout"],
        timed_out;
    resource_conflict: "c2s.resource_conflict",
        ["[c2s]\nresource_conflict = \"replace\"\n", "[c2s]\nresource_conflict = \"refuse\"\n"],
        ["the older ends", "the newer is refused"],
        conflict;
}

/// Joins texts for the life of the tests.
pub fn const_format(parts: &[&str]) -> &'static str {
    Box::leak(parts.concat().into_boxed_str())
}

fn in_the_clear(server: &Server) -> String {
    describe(&Client::connect(server).open("example.org"))
}

/// `stanzad.toml.5`: an option that holds for new connections leaves those that are open as they
/// were.
#[test]
fn an_open_stream_keeps_the_bound_that_it_was_told() {
    let server = Server::start("[c2s]\nstanza_bytes_max = 20000\n");
    let mut old = Client::login(&server, "juliet@example.org/balcony");
    server.configure("[c2s]\nstanza_bytes_max = 30000\n");
    server.reload();
    assert_eq!(long_stanza(&server), "30000 announced, taken");
    old.settle();
    let body = "x".repeat(25_000);
    let jid = old.jid.clone();
    old.send(format!("<message to='{jid}'><body>{body}</body></message>"));
    old.fails("policy-violation");
}

fn long_stanza(server: &Server) -> String {
    let mut client = Client::connect(server);
    client.secure("example.org");
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    let features = client.open("example.org");
    let limits = features.find(ns::STREAM_LIMITS, "limits").unwrap();
    let announced = limits.find(ns::STREAM_LIMITS, "max-bytes").unwrap().text();
    let jid = client.bind(None);
    let body = "x".repeat(25_000);
    client.send(format!("<message to='{jid}'><body>{body}</body></message>"));
    let came = client.element();
    let outcome = match &*came.name {
        "message" => "taken".to_owned(),
        _ => condition(&came),
    };
    format!("{announced} announced, {outcome}")
}

/// The condition of a stream error.
pub fn condition(error: &Element) -> String {
    assert!(error.is(ns::STREAM, "error"), "{error:?}");
    error.elements().next().unwrap().name.clone()
}

fn is_ping(element: &Element) -> bool {
    element.find(ns::PING, "ping").is_some()
}

/// A client that is older than the clock, and the clock.
fn with_clock(server: &Server) -> (Client, Client) {
    let client = Client::login(server, "juliet@example.org");
    let clock = Client::login(server, "paris@example.net");
    (client, clock)
}

fn pinged(server: &Server) -> String {
    let (mut client, mut clock) = with_clock(server);
    assert!(is_ping(&clock.element()));
    let heard = client.until_settled();
    let count = heard.iter().filter(|element| is_ping(element)).count();
    assert_eq!(heard.len(), count, "{heard:?}");
    match count {
        0 => "not pinged".to_owned(),
        _ => "pinged".to_owned(),
    }
}

fn timed_out(server: &Server) -> String {
    let (mut client, mut clock) = with_clock(server);
    assert!(is_ping(&clock.element()));
    assert_eq!(condition(&clock.element()), "connection-timeout");
    assert!(is_ping(&client.element()));
    // Has the client's own time-out come by now, it is on the wire before the answer to this.
    let ping = "<iq type='get' id='late'><ping xmlns='urn:xmpp:ping'/></iq>";
    // The server may have closed the connection.
    let _ = client.try_send(ping);
    let came = client.element();
    match &*came.name {
        "iq" => "still there".to_owned(),
        _ => condition(&came),
    }
}

fn conflict(server: &Server) -> String {
    let mut older = Client::login(server, "juliet@example.org/balcony");
    let mut newer = Client::connect(server);
    newer.secure("example.org");
    newer.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    newer.open("example.org");
    let answer = newer.try_bind(Some("balcony"));
    let outcome = match answer.attribute("type") {
        Some("result") => {
            older.fails("conflict");
            newer.settle();
            "the older ends"
        }
        _ => {
            assert_eq!(error_of(&answer), "conflict");
            older.send("</stream:stream>");
            older.closes();
            "the newer is refused"
        }
    };
    newer.send("</stream:stream>");
    newer.closes();
    outcome.to_owned()
}

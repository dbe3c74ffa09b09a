//! `[s2s]` and `[dns]`.

use std::sync::LazyLock;

use stanzad::ns;
use stanzad::xml::Element;

use super::common::authority::Wish;
use super::common::client::{Client, Heard, error_of};
use super::common::names::{NameServer, Zone};
use super::common::network::{Network, address};
use super::common::offer::describe;
use super::common::peer::{Peer, header};
use super::common::server::Server;
use super::common::wire::Wire;
use super::connections::{condition, const_format};
use super::fresh;

super::cases! {
    enabled: "s2s.enabled",
        ["[s2s]\nenabled = true\n", "[s2s]\nenabled = false\n"],
        ["STARTTLS!", "host-unknown"],
        opened;
    require_encryption: "s2s.require_encryption",
        ["[s2s]\nrequire_encryption = true\n", "[s2s]\nrequire_encryption = false\n"],
        ["STARTTLS!", "STARTTLS"],
        opened;
    allow: "s2s.allow",
        ["[s2s]\nallow = []\n", "[s2s]\nallow = [\"example.com\"]\n"],
        ["STARTTLS!", "policy-violation"],
        opened;
    deny: "s2s.deny",
        ["[s2s]\ndeny = []\n", "[s2s]\ndeny = [\"montague.example\"]\n"],
        ["STARTTLS!", "policy-violation"],
        opened;
    secure_auth: "s2s.secure_auth",
        [with_names("[s2s]\nsecure_auth = true\n"), with_names("[s2s]\nsecure_auth = false\n")],
        ["policy-violation", "remote-server-not-found"],
        claimed;
    secure_domains: "s2s.secure_domains",
        [
            with_names("[s2s]\nsecure_auth = false\nsecure_domains = []\n"),
            with_names("[s2s]\nsecure_auth = false\nsecure_domains = [\"*.example\"]\n"),
        ],
        ["remote-server-not-found", "policy-violation"],
        claimed;
    insecure_domains: "s2s.insecure_domains",
        [
            with_names("[s2s]\ninsecure_domains = []\n"),
            with_names("[s2s]\ninsecure_domains = [\"*.example\"]\n"),
        ],
        ["policy-violation", "remote-server-not-found"],
        claimed;
    stanza_bytes_max: "s2s.stanza_bytes_max",
        ["[s2s]\nstanza_bytes_max = 20000\n", "[s2s]\nstanza_bytes_max = 30000\n"],
        ["policy-violation", "taken"],
        long_stanza,
        |site| NETWORK.vouch(site);
    idle_seconds: "s2s.idle_seconds",
        [
            const_format(&["[s2s]\nidle_seconds = 3600\n", IDLE_CLOCK]),
            const_format(&["[s2s]\nidle_seconds = 1\n", IDLE_CLOCK]),
        ],
        ["still there", "closed"],
        idle,
        |site| NETWORK.vouch(site);
    message_wait_seconds: "s2s.message_wait_seconds",
        [
            with_names(const_format(&["[s2s]\nmessage_wait_seconds = 3600\n", WAIT_CLOCK])),
            with_names(const_format(&["[s2s]\nmessage_wait_seconds = 1\n", WAIT_CLOCK])),
        ],
        ["waits", "remote-server-timeout"],
        waiting;
    ack_timeout_seconds: "s2s.ack_timeout_seconds",
        [
            with_names(const_format(&["[s2s]\nack_timeout_seconds = 3600\n", ACK_CLOCK])),
            with_names(const_format(&["[s2s]\nack_timeout_seconds = 1\n", ACK_CLOCK])),
        ],
        ["waits", "connection-timeout"],
        unanswered,
        |site| NETWORK.vouch(site);
    server_bytes_per_second_max: "limits.server_bytes_per_second_max",
        [
            "[limits]\nserver_bytes_per_second_max = 1000\nserver_stanzas_per_second_max = 0\n",
            "[limits]\nserver_bytes_per_second_max = 0\nserver_stanzas_per_second_max = 0\n",
        ],
        ["slowed down", "not slowed down"],
        |server| flooded(server, |_| " ".repeat(13_000)),
        |site| NETWORK.vouch(site);
    server_stanzas_per_second_max: "limits.server_stanzas_per_second_max",
        [
            "[limits]\nserver_stanzas_per_second_max = 4\nserver_bytes_per_second_max = 0\n",
            "[limits]\nserver_stanzas_per_second_max = 0\nserver_bytes_per_second_max = 0\n",
        ],
        ["slowed down", "not slowed down"],
        |server| flooded(server, |peer| message(peer, "m").repeat(50)),
        |site| NETWORK.vouch(site);
    dns_servers: "dns.servers",
        [
            const_format(&["[dns]\nservers = [\"", &NAMES[0].address.to_string(), "\"]\n"]),
            const_format(&["[dns]\nservers = [\"", &NAMES[1].address.to_string(), "\"]\n"]),
        ],
        ["the first", "the second"],
        asked;
}

/// The authority that vouches for peers here.
static NETWORK: LazyLock<Network> = LazyLock::new(Network::new);

/// Two name servers that know nothing.
static NAMES: LazyLock<[NameServer; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Zone::of("example.").serve()));

/// A conf file with the network's name server.
fn with_names(conf: &str) -> &'static str {
    let address = NETWORK.names.address.to_string();
    const_format(&["[dns]\nservers = [\"", &address, "\"]\n", conf])
}

/// Streams of example.net end after those of example.org, if these end at all: no test measures.
const IDLE_CLOCK: &str = "[domain.\"example.net\".s2s]\nidle_seconds = 2\n";

/// Messages of example.net come back after those of example.org.
const WAIT_CLOCK: &str = "[domain.\"example.net\".s2s]\nmessage_wait_seconds = 2\n";

/// Servers that example.net talks to are given up after those of example.org.
const ACK_CLOCK: &str = "[domain.\"example.net\".s2s]\nack_timeout_seconds = 2\n";

/// What a stream of montague.example is offered, or why there is none.
fn opened(server: &Server) -> String {
    let mut wire = Wire::connect(server.s2s);
    wire.send(header("montague.example", "example.org", ""));
    wire.hear_header();
    let first = wire.element();
    match first.is(ns::STREAM, "features") {
        true => describe(&first),
        false => condition(&first),
    }
}

/// What a dialback key of a peer with a certificate of its own making is answered. The peer is not
/// in the DNS, so that nobody can be asked about the key.
fn claimed(server: &Server) -> String {
    let domain = format!("montague{}.example", fresh());
    let wish = Wish {
        dns: &[&domain],
        ..Wish::default()
    };
    let peer = NETWORK.stranger(&domain, wish.self_signed());
    let (mut stream, _) = peer.dial_secured(server, "example.org");
    stream.send(format!(
        "<db:result from='{domain}' to='example.org'>0</db:result>"
    ));
    let answer = stream.element();
    assert!(answer.is(ns::DIALBACK, "result"), "{answer:?}");
    assert_eq!(answer.attribute("type"), Some("error"));
    let error = answer.elements().next().unwrap();
    let mut conditions = error.elements().filter(|child| child.name != "text");
    conditions.next().unwrap().name.clone()
}

/// A peer with a valid certificate, and its domain.
fn peer() -> Peer {
    let domain = format!("montague{}.example", fresh());
    NETWORK.stranger(&domain, NETWORK.issue(&[&domain]))
}

fn long_stanza(server: &Server) -> String {
    let mut juliet = Client::available(server, "juliet@example.org");
    let peer = peer();
    let mut stream = peer.dial_external(server, "example.org");
    let body = "x".repeat(25_000);
    stream.send(message(&peer, &body));
    // The error of a stream that ends would be the first that comes on it.
    stream.send(ask(&peer, "example.org"));
    match stream.element() {
        error if error.is(ns::STREAM, "error") => condition(&error),
        _ => {
            let text = juliet
                .stanza("message")
                .find(ns::CLIENT, "body")
                .map(Element::text);
            assert_eq!(text.as_ref(), Some(&body));
            "taken".to_owned()
        }
    }
}

fn message(peer: &Peer, body: &str) -> String {
    let domain = &peer.domain;
    format!("<message from='romeo@{domain}' to='juliet@example.org'><body>{body}</body></message>")
}

/// A question that is answered on the stream on which it is asked (XEP-0220 §2.2).
fn ask(peer: &Peer, domain: &str) -> String {
    let own = &peer.domain;
    format!("<db:verify from='{own}' to='{domain}' id='1'>0</db:verify>")
}

fn idle(server: &Server) -> String {
    let (peer, clock) = (peer(), peer());
    let mut stream = peer.dial_external(server, "example.org");
    clock.dial_external(server, "example.net").closes();
    // The server may have closed the connection.
    let _ = stream.try_send(ask(&peer, "example.org"));
    match stream.try_hear() {
        Ok(Heard::Element(answer)) => {
            assert!(answer.is(ns::DIALBACK, "verify"), "{answer:?}");
            "still there".to_owned()
        }
        Ok(Heard::Close) => "closed".to_owned(),
        other => panic!("{other:?}"),
    }
}

fn waiting(server: &Server) -> String {
    let mut juliet = Client::login(server, "juliet@example.org");
    let mut clock = Client::login(server, "paris@example.net");
    let domain = format!("montague{}.example", fresh());
    NETWORK.announce_starttls(&domain, address());
    let message = format!("<message to='romeo@{domain}'><body>Romeo</body></message>");
    juliet.send(&message);
    clock.send(&message);
    clock.refused("message", "remote-server-timeout");
    match juliet.until_settled().as_slice() {
        [] => "waits".to_owned(),
        [came] => error_of(came),
        more => panic!("{more:?}"),
    }
}

/// A peer of either domain takes a message and never says that it has it.
fn unanswered(server: &Server) -> String {
    let silent = |from: &str| {
        let domain = format!("montague{}.example", fresh());
        let peer = NETWORK.peer(&domain);
        let mut sender = Client::login(server, from);
        sender.send(format!(
            "<message to='romeo@{domain}'><body>m</body></message>"
        ));
        let mut stream = peer.accept_managed();
        stream.stanza("message");
        assert!(stream.element().is(ns::STREAM_MANAGEMENT, "r"));
        (peer, stream)
    };
    let (_peer, mut stream) = silent("juliet@example.org");
    let (_clock, mut clock) = silent("paris@example.net");
    assert_eq!(condition(&clock.element()), "connection-timeout");
    // The server may have closed the connection.
    let _ = stream.try_send("</stream:stream>");
    match stream.hear() {
        Heard::Close => "waits".to_owned(),
        Heard::Element(error) => condition(&error),
        other => panic!("{other:?}"),
    }
}

/// Whether a peer was slowed down that sends this.
fn flooded(server: &Server, text: fn(&Peer) -> String) -> String {
    let peer = peer();
    let mut stream = peer.dial_external(server, "example.org");
    stream.send(text(&peer));
    stream.send(ask(&peer, "example.org"));
    assert!(stream.element().is(ns::DIALBACK, "verify"));
    stream.send("</stream:stream>");
    stream.closes();
    let proven = server.logs(&format!("from={} ", peer.domain));
    let number = proven.split(' ').find(|field| field.starts_with("stream="));
    let number = number.unwrap();
    server.logs(&format!("server stream ended {number} "));
    let log = server.log();
    let slowed = log.lines().any(|line| {
        line.contains("and is slowed down") && line.split(' ').any(|field| field == number)
    });
    match slowed {
        true => "slowed down".to_owned(),
        false => "not slowed down".to_owned(),
    }
}

/// Which of the name servers is asked about a domain.
fn asked(server: &Server) -> String {
    let domain = format!("montague{}.example", fresh());
    let mut juliet = Client::login(server, "juliet@example.org");
    juliet.send(format!(
        "<iq type='get' id='1' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
    ));
    juliet.refused("iq", "remote-server-not-found");
    let service = format!("_xmpp-server._tcp.{domain}");
    let is_asked = |names: &NameServer| {
        names.asked(&service, trust_dns_resolver::proto::rr::RecordType::SRV) != (0, 0)
    };
    match [0, 1].map(|n| is_asked(&NAMES[n])) {
        [true, false] => "the first".to_owned(),
        [false, true] => "the second".to_owned(),
        other => panic!("{other:?}"),
    }
}

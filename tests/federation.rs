//! Servers talk: real programs over real sockets and TLS on loopback, with real peers and with some that
//! a test plays. The modules have one matter each; `common::network` makes the network. The comment above
//! a test names features and conditions of RFC 6120 in brackets, which `tests/rfc6120.rs` counts.

mod common;

#[path = "federation/addressing.rs"]
mod addressing;
#[path = "federation/anonymous.rs"]
mod anonymous;
#[path = "federation/bidirectional.rs"]
mod bidirectional;
#[path = "federation/certificates.rs"]
mod certificates;
#[path = "federation/dialback.rs"]
mod dialback;
#[path = "federation/finding.rs"]
mod finding;
#[path = "federation/garbage.rs"]
mod garbage;
#[path = "federation/limits.rs"]
mod limits;
#[path = "federation/managed.rs"]
mod managed;
#[path = "federation/messaging.rs"]
mod messaging;
#[path = "federation/negotiation.rs"]
mod negotiation;
#[path = "federation/objections.rs"]
mod objections;
#[path = "federation/pinged.rs"]
mod pinged;
#[path = "federation/policy.rs"]
mod policy;
#[path = "federation/presence.rs"]
mod presence;
#[path = "federation/proof.rs"]
mod proof;
#[path = "federation/reloads.rs"]
mod reloads;
#[path = "federation/restarts.rs"]
mod restarts;

use std::fmt::Write;

use common::authority::Wish;
use common::client::error_of;
use common::network::Network;
use common::peer::Peer;
use stanzad::ns;
use stanzad::xml::Element;

/// Ours, where a peer is played.
const CAPULET: &str = "capulet.example";
/// Theirs.
const MONTAGUE: &str = "montague.example";

/// A message of chat.
fn message(from: &str, to: &str, body: &str) -> String {
    format!("<message from='{from}' to='{to}' type='chat'><body>{body}</body></message>")
}

/// A message of chat of a session.
fn chat(to: &str, body: &str) -> String {
    format!("<message to='{to}' type='chat'><body>{body}</body></message>")
}

/// A ping of a session.
fn ping(to: &str) -> String {
    format!("<iq type='get' id='ping' to='{to}'><ping xmlns='urn:xmpp:ping'/></iq>")
}

/// The body of a message.
fn body(message: &Element) -> String {
    let body = message
        .elements()
        .find(|child| child.name == "body")
        .expect("it has a body");
    body.text()
}

/// The text of a stanza's error, for people.
fn why(stanza: &Element) -> String {
    error_of(stanza);
    let error = stanza.find(ns::CLIENT, "error").unwrap();
    error
        .find(ns::STANZA_ERROR, "text")
        .map(Element::text)
        .unwrap_or_default()
}

/// What presence says: `type from`, for the bare JID in `from`.
fn told(presence: &Element) -> String {
    let mut text = presence.attribute("type").unwrap_or("available").to_owned();
    let from = presence.attribute("from").unwrap();
    write!(text, " {from}").unwrap();
    text
}

/// A peer whose certificate is its own work, and that is in the DNS.
fn self_signed(network: &Network, domain: &str) -> Peer {
    let wish = Wish {
        dns: &[domain],
        ..Wish::default()
    };
    let peer = network.stranger(domain, wish.self_signed());
    network.announce_starttls(domain, peer.ip());
    peer
}

//! Sessions: bound resources. A session may outlive its stream (XEP-0198, later); today each has one.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::clock::Wall;
use crate::jid::{FullJid, Jid};
use crate::router::ask::Asked;
use crate::router::settlement::Unsettled;
use crate::sasl::Mechanism;
use crate::slots::Key;
use crate::stanza::Stanza;
use crate::stanza::capabilities::Capabilities;

/// A connected resource (RFC 6121 §1.4 has the terms).
#[derive(Debug)]
pub struct Session {
    /// Its full JID.
    pub jid: FullJid,
    /// Its account, on the same shard.
    pub account: Key,
    /// Its connection, on the same shard.
    pub conn: Key,
    /// Set from initial presence on: it is an available resource.
    pub presence: Option<Availability>,
    /// Its stanzas whose way has not ended.
    pub unsettled: Unsettled,
    /// How many changes, snapshots and broadcasts that it asked for are not done yet: while there are
    /// any, its stream is not read, so that what it sends later comes later (RFC 6120 §10.1).
    pub holds: u16,
    /// Whether it has asked for the roster (RFC 6121 §2.2): it gets roster pushes.
    pub is_interested: bool,
    /// Entities that were sent presence directly and have not been told that it is gone
    /// (RFC 6121 §4.6).
    pub directed: Vec<Jid>,
    /// What its client can do, once the client has told it (XEP-0115).
    pub capabilities: Option<Arc<Capabilities>>,
    /// The node and hash that they stand behind, or will when it has answered.
    pub asked_caps: Option<Box<str>>,
    /// Questions of the server that it has not answered yet.
    pub asked: Vec<Asked>,
    /// How many it was asked.
    pub questions: u32,
    /// How it came to be.
    pub origin: Box<SessionOrigin>,
}

/// What an available resource last said of itself (RFC 6121 §4.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// -128 to 127; a negative one takes no messages to the bare JID (RFC 6121 §8.5.2.1.1).
    pub priority: i8,
    /// When it became available.
    pub since: Wall,
    /// The last presence that it broadcast, with `from` and without `to`: what a probe is answered
    /// with (RFC 6121 §4.3.2).
    pub stanza: Stanza,
}

/// The facts of a login, for operators.
#[derive(Clone, Debug)]
pub struct SessionOrigin {
    /// The client's address.
    pub address: SocketAddr,
    /// When the resource was bound.
    pub since: Wall,
    /// TLS version, suite and group; none without encryption.
    pub tls: Option<TlsSummary>,
    /// How the client proved who it is.
    pub mechanism: Mechanism,
    /// The log id of its stream.
    pub stream: u64,
}

/// What remains known of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSummary {
    /// As "TLSv1.3".
    pub version: &'static str,
    /// The cipher suite.
    pub cipher: Box<str>,
    /// The key exchange group.
    pub group: Box<str>,
}

impl Session {
    /// Whether messages to the bare JID may be delivered here.
    pub fn takes_messages(&self) -> bool {
        self.presence
            .as_ref()
            .is_some_and(|presence| presence.priority >= 0)
    }

    /// Whether its connection is to be left unread for now.
    pub fn holds_reading(&self) -> bool {
        self.holds > 0 || self.unsettled.is_full()
    }
}

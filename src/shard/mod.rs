//! Shards: one reactor thread each, which own connections, sessions and accounts
//! (`Threads` in lib.rs, `Who owns what` in lib.rs).

pub mod budget;
pub mod connection;
pub mod listener;
pub mod reactor;
mod resting;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timer;
pub mod turn;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::turn::survey::{Remembered, SurveyedLink, SurveyedServer, SurveyedStream};
use crate::clock::Wall;
use crate::config::Settings;
use crate::dns::Found;
use crate::jid::{BareJid, Domain};
use crate::net::transport::Transport;
use crate::post::Weigh;
use crate::router::commands::{AccountCommand, CommandReply};
use crate::router::effects::RouterPost;
use crate::router::peers::history::Attempt;
use crate::router::session::SessionOrigin;
use crate::shard::connection::Moving;
use crate::slots::Key;
use crate::storage::peer_queue::PeerMessage;
use crate::storage::{Answer, Value};
use crate::stream::dialback::Checked;
use crate::stream::s2s::{Ask, Asker};
use crate::stream::{Certificates, Origin};

/// What a shard takes from its mailbox.
pub enum Post {
    /// From the router of another shard.
    Router(RouterPost),
    /// From the listener: a new connection.
    Accepted(Box<Accepted>),
    /// From another shard: a connection whose account, or whose peer, lives here.
    Moved(Box<Moving>),
    /// From the store.
    Store(Answer),
    /// From a worker: the connection that asked, and what it found out.
    Worked(Key, Value),
    /// From the resolver: what is known under the id of a question.
    Resolved(Key, Box<Found>),
    /// From another shard: a dialback key that a link's server is to be asked about.
    Verify(Box<Ask>),
    /// From another shard: what came of that.
    Verified(Asker, Checked),
    /// From the store, at the start: messages that wait for other servers of this shard.
    PeerMessages(Vec<PeerMessage>),
    /// From the control socket.
    Command(BareJid, AccountCommand, CommandReply),
    /// From the control socket: what is going on here?
    Survey(Box<dyn FnOnce(Survey) + Send>),
    /// From another shard: what came of an attempt at a stream with a server of this shard.
    Attempted(Box<Attempt>),
    /// From the control socket: what is remembered of a server?
    Recall(Domain, Box<dyn FnOnce(Remembered) + Send>),
    /// From the control socket: end the sessions of an account, or the one of a full JID, and tell how
    /// many they were.
    EndSessions(String, Box<dyn FnOnce(u64) + Send>),
    /// A new configuration is in force.
    Reload(Arc<Generation>),
    /// End all streams (RFC 6120 §4.9.3.20), then the thread.
    Stop,
    /// While stopping: the last shard has come to rest, so no more posts come.
    AllAtRest,
}

/// A connection that the listener has accepted.
pub struct Accepted {
    /// The connection.
    pub transport: Box<dyn Transport>,
    /// Where it comes from.
    pub origin: Origin,
    /// Who is at the other end.
    pub peer: Peer,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client.
    Client,
    /// Another server.
    Server,
    /// A component.
    Component,
}

/// One generation of everything that a reload replaces (`Reloads` in lib.rs).
pub struct Generation {
    /// The conf file.
    pub settings: Arc<Settings>,
    /// The certificates.
    pub certificates: Arc<dyn Certificates>,
    /// What connects to other servers.
    pub dialler: Arc<dyn Dialler>,
}

/// Connects to other servers.
pub trait Dialler: Send + Sync {
    /// Begins a connection for a stream from a local domain to a remote one, in A-labels; `is_direct`:
    /// it begins with TLS. Yields it with its number in the log.
    ///
    /// # Errors
    /// What can be told at once: no route, no descriptor left.
    fn dial(
        &self,
        address: SocketAddr,
        local: &str,
        remote: &str,
        is_direct: bool,
    ) -> std::io::Result<(Box<dyn Transport>, u64)>;
}

/// What a shard tells of itself.
#[derive(Debug, Default)]
pub struct Survey {
    /// Which shard this is.
    pub shard: u32,
    /// Connections, in whatever state.
    pub connections: usize,
    /// Accounts in memory.
    pub accounts: usize,
    /// Each session.
    pub sessions: Vec<SurveyedSession>,
    /// Each component that is connected.
    pub components: Vec<SurveyedComponent>,
    /// Each stream with another server, and each link that has none but a reason to be told.
    pub servers: Vec<SurveyedServer>,
    /// Posts that wait for this shard.
    pub posts_waiting: usize,
}

/// What a shard tells of a component.
#[derive(Debug)]
pub struct SurveyedComponent {
    /// Its domain.
    pub domain: Domain,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Since when.
    pub since: Wall,
    /// Stanzas that wait for it to read.
    pub stanzas_waiting: usize,
}

/// What a shard tells of a session.
#[derive(Debug)]
pub struct SurveyedSession {
    /// Its full JID.
    pub jid: String,
    /// How it came to be.
    pub origin: SessionOrigin,
    /// Its priority, if it is available.
    pub priority: Option<i8>,
    /// The name by which the client's software goes, if it has told.
    pub client: Option<String>,
    /// Seconds since the client last sent a byte.
    pub idle_seconds: u64,
}

impl Weigh for Post {
    fn weight(&self) -> usize {
        match self {
            Post::Router(
                RouterPost::Route(routed)
                | RouterPost::ToPeer(routed)
                | RouterPost::ToComponent(routed),
            ) => routed.stanza.size(),
            Post::Moved(moving) => moving.weight(),
            _ => 0,
        }
    }
}

//! What a shard tells operators: of sessions, of components, of its streams with other servers, and of
//! links.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Shard;
use crate::jid::Domain;
use crate::router::peers::history::Attempt;
use crate::router::peers::{LinkState, Receipts};
use crate::router::session::{Session, TlsSummary};
use crate::shard::{Survey, SurveyedComponent, SurveyedSession};
use crate::slots::Key;
use crate::stanza::capabilities::Identity;
use crate::stream::machine::Machine;
use crate::stream::policy::s2s::Direction;
use crate::stream::s2s::Proof;

/// A stream with another server, or a link that has none.
#[derive(Debug)]
pub struct SurveyedServer {
    /// The stream; none if nobody is being reached just now.
    pub stream: Option<SurveyedStream>,
    /// The link whose stanzas the stream takes, or will take.
    pub link: Option<SurveyedLink>,
}

/// What is told of a stream with another server.
#[derive(Debug)]
pub struct SurveyedStream {
    /// Who has opened it.
    pub direction: Direction,
    /// Our domain and the peer's, as the stream's headers tell them.
    pub claimed: (Option<String>, Option<String>),
    /// The pairs that are proven.
    pub proofs: Vec<Proof>,
    /// Whether both sides send stanzas on it (XEP-0288).
    pub goes_both_ways: bool,
    /// The peer's address.
    pub address: SocketAddr,
    /// Whether it began with TLS.
    pub is_direct: bool,
    /// What TLS agreed on; none without encryption.
    pub tls: Option<TlsSummary>,
    /// How the peer says what it has received; none if it is sent nothing on it.
    pub receipts: Option<Receipts>,
    /// Its state, for people.
    pub state: &'static str,
    /// Time since it was accepted or dialled.
    pub age: Duration,
    /// Time since the peer last sent a byte.
    pub idle: Duration,
}

/// What is told of a link.
#[derive(Debug)]
pub struct SurveyedLink {
    /// Ours.
    pub local: String,
    /// Theirs.
    pub remote: String,
    /// Stanzas that wait for a stream.
    pub waiting: usize,
    /// Why there is no stream, and how long nobody is tried.
    pub resting: Option<(Duration, String)>,
}

/// What a shard remembers of the server of a remote domain.
#[derive(Debug)]
pub struct Remembered {
    /// The last attempts at streams.
    pub attempts: Vec<Attempt>,
    /// How it says what it has received, to domains of ours.
    pub receipts: Vec<(Domain, Receipts)>,
}

impl Shard {
    /// What this shard tells of itself.
    pub(super) fn survey(&self) -> Survey {
        let now = self.router.now.mono;
        let sessions = self.router.sessions.iter();
        Survey {
            shard: self.router.shard,
            connections: self.connections.len(),
            accounts: self.router.accounts.len(),
            servers: self.survey_servers(),
            components: self.survey_components(),
            sessions: sessions
                .map(|(_, session)| SurveyedSession {
                    jid: session.jid.as_str().to_owned(),
                    origin: (*session.origin).clone(),
                    client: client(session),
                    priority: session.presence.as_ref().map(|presence| presence.priority),
                    idle_seconds: self.connections.get(session.conn).map_or(0, |connection| {
                        now.since(connection.stream.touched()).as_secs()
                    }),
                })
                .collect(),
            posts_waiting: 0,
        }
    }

    /// What is remembered of a server that this shard would dial.
    pub(super) fn remembered(&self, remote: &Domain) -> Remembered {
        let peers = &self.router.peers;
        Remembered {
            attempts: peers.history.of(remote),
            receipts: peers.receipts_of(remote),
        }
    }

    /// All streams with other servers, and the links that have none but stanzas or a failure.
    fn survey_servers(&self) -> Vec<SurveyedServer> {
        let now = self.router.now.mono;
        let mut found = Vec::new();
        let mut with_stream = HashSet::new();
        for (key, connection) in self.connections.iter() {
            let Machine::Server(stream) = &connection.stream else {
                continue;
            };
            let link = stream.ready_link().or_else(|| stream.dialled_link());
            with_stream.extend(link);
            let claimed = stream.claimed();
            found.push(SurveyedServer {
                stream: Some(SurveyedStream {
                    direction: stream.direction(),
                    claimed: (claimed.0.map(str::to_owned), claimed.1.map(str::to_owned)),
                    proofs: stream.proofs().cloned().collect(),
                    goes_both_ways: stream.goes_both_ways(),
                    address: stream.origin.address,
                    is_direct: stream.began_with_tls(),
                    tls: stream.tls().cloned(),
                    receipts: self.router.peers.receipts_by(key),
                    state: stream.phase(),
                    age: now.since(stream.origin.accepted),
                    idle: now.since(stream.touched()),
                }),
                link: link.and_then(|link| self.survey_link(link)),
            });
        }
        let others = self.router.peers.links();
        let others = others.filter(|(key, link)| {
            // One that is ready has a stream, if not one of its own.
            let is_quiet = match link.state() {
                LinkState::Idle => link.waiting() == 0,
                LinkState::Ready => true,
                LinkState::Making | LinkState::Resting(..) => false,
            };
            !is_quiet && !with_stream.contains(key)
        });
        found.extend(others.map(|(key, _)| SurveyedServer {
            stream: None,
            link: self.survey_link(key),
        }));
        found
    }

    fn survey_components(&self) -> Vec<SurveyedComponent> {
        let components = self.router.components.iter();
        let surveyed = components.filter_map(|(_, component)| {
            let connection = self.connections.get(component.conn)?;
            Some(SurveyedComponent {
                domain: component.domain.clone(),
                address: connection.stream.origin().address,
                since: component.since,
                stanzas_waiting: component.waiting(),
            })
        });
        surveyed.collect()
    }

    fn survey_link(&self, key: Key) -> Option<SurveyedLink> {
        let link = self.router.peers.get(key)?;
        let resting = match link.state() {
            LinkState::Resting(until, failure) => {
                let left = until.since(self.router.now.mono);
                Some((left, failure.text.clone()))
            }
            LinkState::Idle | LinkState::Making | LinkState::Ready => None,
        };
        Some(SurveyedLink {
            local: link.local.as_str().to_owned(),
            remote: link.remote.as_str().to_owned(),
            waiting: link.waiting(),
            resting,
        })
    }
}

/// The name by which the client's software goes, as it told itself.
fn client(session: &Session) -> Option<String> {
    let capabilities = session.capabilities.as_ref()?;
    let named = |identity: &&Identity| &*identity.category == "client" && !identity.name.is_empty();
    let identity = capabilities.identities().iter().find(named)?;
    Some(identity.name.to_string())
}

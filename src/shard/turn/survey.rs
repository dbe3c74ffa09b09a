//! What a shard tells of its streams with other servers, and of its links.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Shard;
use crate::jid::Domain;
use crate::router::peers::history::Attempt;
use crate::router::peers::{LinkState, Receipts};
use crate::router::session::TlsSummary;
use crate::shard::Post;
use crate::slots::Key;
use crate::stream::machine::Machine;
use crate::stream::peer_facts::{PeerDns, PeerQuestion};
use crate::stream::policy::s2s::Direction;
use crate::stream::s2s::{Attempted, Proof};

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
    /// What is remembered of a server that this shard would dial.
    pub(super) fn remembered(&self, remote: &Domain) -> Remembered {
        let peers = &self.router.peers;
        Remembered {
            attempts: peers.history.of(remote),
            receipts: peers.receipts_of(remote),
        }
    }

    /// All streams with other servers, and the links that have none but stanzas or a failure.
    pub(super) fn survey_servers(&self) -> Vec<SurveyedServer> {
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

    /// Notes on the shard of the other server what came of an attempt at a stream with it.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let Attempted {
            mut attempt,
            chain,
            dns,
        } = attempted;
        // A domain that a reload has taken away judges nobody any more.
        let local = self.generation.settings.served(attempt.local.as_str());
        if let (Some(chain), Some(local)) = (chain.filter(|chain| !chain.is_empty()), local) {
            let question = PeerQuestion {
                chain: &chain,
                direction: match attempt.is_dialled {
                    true => Direction::Dialled,
                    false => Direction::Accepted,
                },
                local,
                remote: &attempt.remote,
                dns: match local.s2s.dane {
                    true => &dns,
                    false => &PeerDns::Nothing,
                },
                now: self.router.now.wall,
            };
            attempt.certificate = Some(self.generation.certificates.describe(&question));
        }
        self.note_attempt(attempt);
    }

    /// The same for one whose certificate is known, or that came to no stream.
    pub(super) fn note_attempt(&mut self, mut attempt: Attempt) {
        attempt.at = self.router.now.wall;
        let owner = self.router.placement.shard_of(attempt.remote.as_str());
        if owner == self.router.shard {
            self.router.peers.history.note(attempt);
        } else if let Some(posts) = self.posts.get_mut(owner as usize) {
            posts.push(Post::Attempted(Box::new(attempt)));
        }
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

//! Streams that are being made to other servers: where they are (`dns`), one address after the other
//! (RFC 6120 §3.2.1), until one stream is ready or none is left.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use ::log::debug;

use super::asks::Asks;
use super::{Outside, Shard};
use crate::config::{DomainSettings, S2sPeer};
use crate::dns::srv;
use crate::dns::{self, Endpoint, Found, Question};
use crate::jid::Domain;
use crate::limits::{DIAL_ATTEMPTS_MAX, DIALS_MAX};
use crate::router::peers::{Failure, LinkState, Sender};
use crate::shard::connection::Connection;
use crate::slots::{Key, Slots};
use crate::stanza::Condition;
use crate::stream::dialback::Unreached;
use crate::stream::machine::Machine;
use crate::stream::peer_facts::PeerDns;
use crate::stream::policy::s2s::{S2sPolicy, shut_out};
use crate::stream::s2s::{Dialled, ServerStream};
use crate::stream::{Event, Origin};
use crate::turns::Turns;

/// The links for which a stream is being made.
pub(super) struct Diallings {
    by_link: HashMap<Key, Dialling>,
    /// What the resolver is asked.
    questions: Slots<Asked>,
    /// Dialback keys that wait until a link's server can be asked.
    pub(super) asks: Asks,
    /// Links whose turn has not come: so many are being made already, or so many of their senders'.
    turns: Turns<Sender, Key>,
    /// The same, each with the sender whose turn it waits for; who had it before may have moved on.
    waiting: HashMap<Key, Sender>,
}

impl Default for Diallings {
    fn default() -> Diallings {
        Diallings {
            by_link: HashMap::new(),
            questions: Slots::default(),
            asks: Asks::default(),
            turns: Turns::new(DIALS_MAX),
            waiting: HashMap::new(),
        }
    }
}

impl Diallings {
    /// Whether a link that waits for its turn can be dialled for.
    pub(super) fn has_turn(&self) -> bool {
        self.turns.has_turn()
    }

    /// The stream that is being made for a link, if the server there can be asked about keys by it.
    pub(super) fn open(&self, link: Key) -> Option<Key> {
        self.by_link.get(&link)?.open
    }

    /// The server of a link can be asked by this connection.
    pub(super) fn opened(&mut self, link: Key, conn: Key) {
        if let Some(dialling) = self.by_link.get_mut(&link) {
            dialling.open = Some(conn);
        }
    }

    fn wait(&mut self, link: Key, sender: Sender) {
        if self.waiting.insert(link, sender) != Some(sender) {
            self.turns.wait(sender, link);
        }
    }

    /// The next link, and the sender in whose turn it is dialled for: [`Turns::leave`] ends that.
    fn next(&mut self) -> Option<(Key, Sender)> {
        loop {
            let (sender, link) = self.turns.let_in()?;
            if self.waiting.get(&link) == Some(&sender) {
                self.waiting.remove(&link);
                return Some((link, sender));
            }
            self.turns.leave(&sender);
        }
    }

    /// Nothing is dialled for a link any more.
    fn end(&mut self, link: Key) {
        if let Some(dialling) = self.by_link.remove(&link) {
            self.turns.leave(&dialling.sender);
        }
    }
}

/// What a question to the resolver is for.
enum Asked {
    /// To dial a link; whether TLSA records were asked for.
    Link(Key, bool),
    /// To judge the peer of a connection, which claims a domain.
    Peer(Key, Domain),
}

/// A place to be tried.
struct Attempt {
    address: SocketAddr,
    /// Whether TLS comes first there (XEP-0368).
    is_direct: bool,
    dns: PeerDns,
}

struct Dialling {
    /// In whose turn.
    sender: Sender,
    /// Addresses that have not been tried.
    attempts: VecDeque<Attempt>,
    /// Why those that were tried came to nothing.
    failures: Vec<String>,
    /// The stream at the address that is tried, once the server there can be asked about keys. It may
    /// ask about ours before it lets stanzas in, and have a key of its own verified before it does
    /// that: Prosody 0.12 does, so that waiting for stanzas to flow would be waiting for each other.
    open: Option<Key>,
}

impl Shard {
    /// Begins to make the streams that the router wants.
    pub(super) fn dial_links(&mut self, outside: &mut dyn Outside) {
        for link in std::mem::take(&mut self.router.out.dials) {
            // Those of one that is forgotten by now are told so below, as soon as anybody's.
            let sender = self.router.peers.sender(link);
            self.dials
                .wait(link, sender.unwrap_or(self.router.strangers()));
        }
        while let Some((link, sender)) = self.dials.next() {
            if !self.begin_dialling(link, sender, outside) {
                self.dials.turns.leave(&sender);
            }
        }
    }

    /// False if nothing is to be dialled for a link.
    fn begin_dialling(&mut self, link: Key, sender: Sender, outside: &mut dyn Outside) -> bool {
        if self.is_stopping {
            // What waits is stored, or goes with who would hear of it.
            return false;
        }
        let Some((local, remote)) = self.domains_of(link) else {
            self.ask_nobody(link, Unreached::Timeout, outside);
            return false;
        };
        if self.dials.by_link.contains_key(&link) || self.is_needless(link) {
            return false;
        }
        let domain = self.router.settings.served(local.as_str());
        let verdict =
            domain.and_then(|domain| shut_out(&S2sPolicy::of(&domain.s2s, &remote), &remote));
        if let Some(verdict) = verdict {
            let text = verdict.reason.sentence(&remote);
            self.note_unreached(link, None, false, &text);
            self.dial_failed(link, text, true, outside);
            return false;
        }
        self.dials.by_link.insert(
            link,
            Dialling {
                sender,
                attempts: VecDeque::new(),
                failures: Vec::new(),
                open: None,
            },
        );
        let local = self.generation.settings.served(local.as_str());
        let question = Question {
            sender: sender.number(),
            ..question(local.map(Arc::as_ref), &remote)
        };
        let asked = Asked::Link(link, question.wants_tlsa);
        if let Err(refused) = self.ask_dns(asked, question, outside) {
            self.note_unreached(link, None, false, &refused.to_string());
            self.dial_failed(link, refused.to_string(), false, outside);
        }
        true
    }

    fn domains_of(&self, link: Key) -> Option<(Domain, Domain)> {
        let link = self.router.peers.get(link)?;
        Some((link.local.clone(), link.remote.clone()))
    }

    fn ask_dns(
        &mut self,
        asked: Asked,
        question: Question,
        outside: &mut dyn Outside,
    ) -> Result<(), dns::Refused> {
        let id = self.dials.questions.insert(asked);
        outside.resolve(id, question).inspect_err(|_| {
            self.dials.questions.remove(id);
        })
    }

    /// Finds out what the DNS vouches for about a peer that claims a domain.
    pub(super) fn look_up(&mut self, conn: Key, remote: Domain, outside: &mut dyn Outside) {
        let question = Question {
            wants_tlsa: true,
            sender: self.router.strangers().number(),
            ..Question::about(remote.to_ascii())
        };
        let asked = Asked::Peer(conn, remote.clone());
        if self.ask_dns(asked, question, outside).is_err() {
            self.event(conn, Event::LookedUp(remote, PeerDns::Unknown), outside);
        }
    }

    /// The resolver has answered.
    pub(super) fn resolved(&mut self, id: Key, found: Found, outside: &mut dyn Outside) {
        match self.dials.questions.remove(id) {
            Some(Asked::Link(link, wanted_tlsa)) => self.found(link, wanted_tlsa, &found, outside),
            Some(Asked::Peer(conn, remote)) => {
                let dns = PeerDns::of_domain(&found);
                self.event(conn, Event::LookedUp(remote, dns), outside);
                self.list(conn);
            }
            None => {}
        }
    }

    fn found(&mut self, link: Key, wanted_tlsa: bool, found: &Found, outside: &mut dyn Outside) {
        let attempts = srv::attempts(&found.targets, |most| {
            let mut bytes = [0; 8];
            outside.random(&mut bytes);
            srv::drawn(bytes, most)
        });
        let Some(dialling) = self.dials.by_link.get_mut(&link) else {
            return;
        };
        let attempt = |attempt: srv::Attempt| {
            let target = found.targets.get(attempt.target)?;
            Some(Attempt {
                address: attempt.address,
                is_direct: target.kind == dns::Kind::DirectTls,
                // Should `s2s.dane` be set only now, records that nobody has asked for are not taken to
                // be absent.
                dns: match wanted_tlsa {
                    true => PeerDns::of_target(target),
                    false => PeerDns::Unknown,
                },
            })
        };
        let attempts = attempts.into_iter().take(DIAL_ATTEMPTS_MAX);
        dialling.attempts = attempts.filter_map(attempt).collect();
        if dialling.attempts.is_empty() {
            let (text, is_final) = found.nowhere();
            self.note_unreached(link, None, false, &text);
            self.dial_failed(link, text, is_final, outside);
            return;
        }
        self.dial_next(link, outside);
    }

    /// Tries the next address.
    fn dial_next(&mut self, link: Key, outside: &mut dyn Outside) {
        let Some((local, remote)) = self.domains_of(link) else {
            self.dials.end(link);
            self.ask_nobody(link, Unreached::Timeout, outside);
            return;
        };
        if self.is_needless(link) {
            self.dials.end(link);
            return;
        }
        loop {
            let Some(dialling) = self.dials.by_link.get_mut(&link) else {
                return;
            };
            dialling.open = None;
            let Some(attempt) = dialling.attempts.pop_front() else {
                let failures = std::mem::take(&mut dialling.failures);
                self.dial_failed(link, failures.join("; "), false, outside);
                return;
            };
            let Attempt {
                address,
                is_direct,
                dns,
            } = attempt;
            let dialler = &self.generation.dialler;
            match dialler.dial(address, local.as_str(), &remote.to_ascii(), is_direct) {
                Ok((transport, stream)) => {
                    let origin = Origin {
                        stream,
                        address,
                        accepted: self.router.now.mono,
                    };
                    debug!(stream, address:%, to:% = remote; "dialling");
                    let dialled = Dialled::new(link, local, remote, is_direct, dns);
                    let machine = Machine::Server(Box::new(ServerStream::dialled(origin, dialled)));
                    let connection = Connection::new(transport, machine);
                    if let Some(key) = self.insert(connection, Vec::new(), outside) {
                        self.event(key, Event::Begin, outside);
                    }
                    return;
                }
                Err(error) => {
                    dialling.failures.push(format!("{address}: {error}"));
                    self.note_unreached(link, Some(address), is_direct, &error.to_string());
                }
            }
        }
    }

    /// A stream that was dialled came to nothing: the next address is tried, unless that would not help.
    pub(super) fn stream_failed(
        &mut self,
        link: Key,
        address: SocketAddr,
        failure: Failure,
        outside: &mut dyn Outside,
    ) {
        let Some(dialling) = self.dials.by_link.get_mut(&link) else {
            return;
        };
        if failure.is_final {
            self.dials.end(link);
            self.router.link_failed(link, failure);
            self.ask_nobody(link, Unreached::Timeout, outside);
            return;
        }
        dialling
            .failures
            .push(format!("{address}: {}", failure.text));
        self.dial_next(link, outside);
    }

    fn dial_failed(&mut self, link: Key, text: String, is_final: bool, outside: &mut dyn Outside) {
        self.dials.end(link);
        let (condition, why) = match is_final {
            true => (Condition::RemoteServerNotFound, Unreached::NotFound),
            false => (Condition::RemoteServerTimeout, Unreached::Timeout),
        };
        self.router.link_failed(
            link,
            Failure {
                condition,
                text,
                is_final,
            },
        );
        self.ask_nobody(link, why, outside);
    }

    /// A stream takes the stanzas of its link.
    pub(super) fn link_is_ready(&mut self, link: Key, conn: Key) {
        self.dials.end(link);
        self.router.link_ready(link, conn);
    }

    /// Whether nothing is won by dialling on: the link's server has opened a stream that takes its
    /// stanzas, and is not to be asked about dialback keys. A stream that is being made by then is
    /// left to itself; if it comes, it stands by.
    fn is_needless(&self, link: Key) -> bool {
        let found = self.router.peers.get(link);
        let is_ready = found.is_some_and(|link| matches!(link.state(), LinkState::Ready));
        is_ready && !self.dials.asks.has(link)
    }
}

/// Where the server of a domain is to be looked for: where the operator says, or the DNS.
pub fn question(local: Option<&DomainSettings>, remote: &Domain) -> Question {
    let peer: Option<&S2sPeer> = local.and_then(|local| local.s2s.peers.get(remote));
    let endpoint = peer.and_then(|peer| {
        let address = peer.address.as_ref()?;
        Some(Endpoint {
            host: address.host.clone(),
            port: address.port,
            kind: match peer.is_direct_tls {
                true => dns::Kind::DirectTls,
                false => dns::Kind::StartTls,
            },
        })
    });
    Question {
        endpoint,
        wants_tlsa: local.is_some_and(|local| local.s2s.dane),
        ..Question::about(remote.to_ascii())
    }
}

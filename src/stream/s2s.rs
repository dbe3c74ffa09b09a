//! A stream between servers, accepted or dialled, from its first header to its end (RFC 6120 §4 to §6,
//! XEP-0178, XEP-0220).
//!
//! ```text
//! accepted:  Opening ─ header ─► Open ─ starttls ─► Securing ─ TLS ─► Opening
//!                                 │  ▲
//!                               EXTERNAL, or a dialback key that is good: a pair of domains is proven,
//!                               and stanzas of that pair flow
//!
//! dialled:   Opening ─ header ─► Featuring ─ starttls ─► Starting ─ proceed ─► Securing ─ TLS ─► Opening
//!                                 │
//!                               EXTERNAL ─► Authenticating ─ success ─► Opening ─► … ─► Open, ready
//!                               or a dialback key ─► Open ─ valid ─► ready
//! ```
//! With its first proof an accepted stream moves to the shard of the peer's domain
//! (`Who owns what` in lib.rs), and its machine hears nothing until it is there
//! ([`Event::Placed`]). Other domains that the peer proves on it later have their links elsewhere
//! perhaps; what it sends for them goes its way from here all the same.
//!
//! Whether the peer is who it claims to be is decided by `policy::s2s` alone, for both directions.
//! Stanzas flow from who has opened the stream, and both ways where both sides want it (XEP-0288).

mod accepted;
mod bidirectional;
mod dialled;
mod ending;
mod managed;
mod open;
mod proof;
mod reloaded;
mod report;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::log::debug;

pub use self::dialled::Dialled;
use self::proof::Expiry;
pub use self::report::{Attempted, Exchange, Proof};
use crate::clock::Mono;
use crate::jid::Domain;
use crate::net::certificate::PresentedChain;
use crate::net::transport::TlsFacts;
use crate::ns;
use crate::router::session::TlsSummary;
use crate::slots::Key;
use crate::stanza::{StreamCondition, StreamError};
use crate::stream::dialback::{Ledger, Pair};
use crate::stream::ending::Cause;
use crate::stream::peer_facts::PeerDns;
use crate::stream::{Action, Context, Event, Origin, header};
use crate::xml::Header;

/// The stream of one connection with another server.
pub struct ServerStream {
    /// Where it comes from, or leads to.
    pub origin: Origin,
    role: Role,
    state: State,
    tls: Option<PeerTls>,
    /// Who has asked what on the stream; there once it has an id.
    ledger: Option<Ledger<Asker>>,
    /// Where what the peer sends is settled; there once it has proven a pair of domains.
    source: Option<Key>,
    /// The first domain that the peer has proven, until the stream is on its way to that domain's shard.
    first_proven: Option<Domain>,
    /// When the first certificate ends that a proof rests on.
    expiry: Option<Expiry>,
    /// The generation of the settings by which policy has last judged the peer.
    judged_by: u64,
    /// What the DNS vouches for about peers that claim a domain.
    looked_up: Vec<(Domain, PeerDns)>,
    /// Pairs whose keys wait for that.
    unruled: Vec<Pair>,
    /// Accepted: the peer has proven the pair of its header by EXTERNAL.
    is_external: bool,
    /// Accepted: how often the peer has tried SASL in vain.
    sasl_failures: u32,
    is_header_sent: bool,
    /// Whether both sides have agreed that stanzas flow both ways.
    is_bidirectional: bool,
    /// Accepted: the pairs of domains whose stanzas may go by it.
    writes: Vec<Pair>,
    touched: Mono,
    /// When the peer last sent something that it needs the stream for.
    used: Mono,
    /// When something was last sent to the peer that we need the stream for.
    written: Mono,
    /// The pairs for which policy has accepted the peer, proven or not yet.
    proofs: Vec<Proof>,
    /// How far stream management is.
    management: managed::Management,
    /// What policy said last.
    verdict: Option<String>,
    /// How it ended, if that is more than a close.
    outcome: Option<String>,
    /// Whether it was told what came of it, for `stanzad explain`.
    is_noted: bool,
    /// What the log is told of its end.
    end: End,
}

/// Why a stream has ended.
enum End {
    /// It has not.
    Open,
    /// For people; and whether an operator would want to know.
    By { reason: String, is_news: bool },
    /// The log has it.
    Told,
}

/// Who has opened the stream.
enum Role {
    /// The peer, in the name of the domain that its header tells, for one of ours.
    Accepted(Option<(Domain, Option<Domain>)>),
    /// We have.
    Dialled(Box<Dialled>),
}

/// What is known of the peer by TLS.
struct PeerTls {
    summary: TlsSummary,
    /// Whether it was there before the stream.
    is_direct: bool,
    /// Also with what is noted of the stream.
    chain: Arc<PresentedChain>,
}

/// Who waits for a dialback key to be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The shard of the stream on which the key was offered.
    pub shard: u32,
    /// Its connection there.
    pub conn: Key,
    /// What the key is to prove.
    pub pair: Pair,
}

/// A dialback key that the authoritative server is to be asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Who waits for the answer.
    pub asker: Asker,
    /// The id of the stream on which the key was offered.
    pub id: String,
    /// The key.
    pub key: String,
}

enum State {
    /// The peer's header is due.
    Opening,
    /// Dialled: the peer's features are due.
    Featuring,
    /// Dialled: `<starttls/>` was sent; whether the peer had offered it.
    Starting { is_offered: bool },
    /// The TLS handshake runs.
    Securing,
    /// Accepted: the peer's header is answered, and what the DNS vouches for about it is due; whether it
    /// is offered features then.
    LookingUp { has_features: bool },
    /// Dialled: `<auth/>` was sent.
    Authenticating,
    /// Packets of dialback, and stanzas of who may send them.
    Open,
    /// Our direction is closed; the peer's is waited for.
    Closing { until: Mono },
    /// Nothing more happens.
    Closed,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Opening => "opening",
            State::Featuring => "featuring",
            State::Starting { .. } => "starting",
            State::Securing => "securing",
            State::LookingUp { .. } => "looking up",
            State::Authenticating => "authenticating",
            State::Open => "open",
            State::Closing { .. } => "closing",
            State::Closed => "closed",
        }
    }
}

impl ServerStream {
    /// The stream of a connection that was just accepted.
    pub fn accepted(origin: Origin) -> ServerStream {
        ServerStream::new(origin, Role::Accepted(None))
    }

    /// The stream of a connection that is being made.
    pub fn dialled(origin: Origin, dialled: Dialled) -> ServerStream {
        ServerStream::new(origin, Role::Dialled(Box::new(dialled)))
    }

    fn new(origin: Origin, role: Role) -> ServerStream {
        ServerStream {
            origin,
            role,
            state: State::Opening,
            tls: None,
            ledger: None,
            source: None,
            first_proven: None,
            expiry: None,
            judged_by: 0,
            looked_up: Vec::new(),
            unruled: Vec::new(),
            is_external: false,
            sasl_failures: 0,
            is_header_sent: false,
            is_bidirectional: false,
            writes: Vec::new(),
            touched: origin.accepted,
            used: origin.accepted,
            written: origin.accepted,
            proofs: Vec::new(),
            management: managed::Management::default(),
            verdict: None,
            outcome: None,
            is_noted: false,
            end: End::Open,
        }
    }

    /// Whether we have opened it.
    pub fn is_dialled(&self) -> bool {
        matches!(self.role, Role::Dialled(_))
    }

    /// Notes that the peer sent bytes.
    pub fn touch(&mut self, now: Mono) {
        self.touched = now;
    }

    /// Notes that bytes were sent to the peer, other than pings and their answers.
    pub fn note_written(&mut self, now: Mono) {
        self.written = now;
    }

    /// When the peer last sent a byte.
    pub fn touched(&self) -> Mono {
        self.touched
    }

    /// Whether the machine takes input now.
    pub fn takes_input(&self) -> bool {
        !matches!(self.state, State::Closed | State::LookingUp { .. })
    }

    /// Whether our end of the stream is written, and perhaps not yet sent.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// Where what the peer sends is settled.
    pub fn source(&self) -> Option<Key> {
        self.source
    }

    /// The link whose stanzas the stream takes, once it does.
    pub fn ready_link(&self) -> Option<Key> {
        match &self.role {
            Role::Dialled(dialled) if dialled.is_ready => Some(dialled.link),
            _ => None,
        }
    }

    /// Whether the peer, or we, have proven something: the limits of strangers end there.
    pub fn is_authenticated(&self) -> bool {
        self.source.is_some() || self.ready_link().is_some()
    }

    /// The state's name, for people.
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let before = state.name();
        match self.next(state, event, cx) {
            Ok(state) => self.state = state,
            Err(error) => self.fail(error, cx),
        }
        if let Some(remote) = self.first_proven.take()
            && !self.is_ending()
        {
            cx.actions.push(Action::PeerProven(remote));
        }
        self.origin.tell_change(before, self.state.name());
    }

    fn next(
        &mut self,
        state: State,
        event: Event,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        match (state, event) {
            (State::Closed, _) => Ok(State::Closed),
            (State::Closing { until }, event) => Ok(self.while_closing(until, event, cx)),
            (State::Securing, Event::End(error)) => {
                self.ends_by(Cause::Error(&error));
                Ok(self.drop_now("the connection was ended during the TLS handshake", cx))
            }
            (State::Starting { is_offered: false }, Event::Close) => self.without_tls(false, cx),
            (_, Event::Close) => Ok(self.close(cx)),
            (state, Event::Top(top)) if top.is(ns::STREAM, "error") => {
                self.peer_failed(&state, &top, cx)
            }
            (_, Event::End(error)) => Err(error),
            (_, Event::BadXml(error)) => Err(StreamError::from(error)),
            (state, Event::Deadline) => self.deadline_reached(state, cx),

            (State::Opening, Event::Begin) => {
                // With direct TLS the header waits for the handshake.
                if !self.is_direct() {
                    self.send_our_header(cx);
                }
                Ok(State::Opening)
            }
            (State::Opening, Event::Established(facts)) => {
                self.secured(*facts, true);
                if matches!(self.role, Role::Dialled(_)) {
                    self.send_our_header(cx);
                }
                Ok(State::Opening)
            }
            (State::Securing, Event::Established(facts)) => {
                self.secured(*facts, false);
                // XEP-0288 §2.1: what was agreed on before is void.
                self.is_bidirectional = false;
                self.restart(cx);
                Ok(State::Opening)
            }
            (State::Opening, Event::Open(header)) => self.opened(&header, cx),
            (State::Featuring, Event::Top(top)) => self.features(&top, cx),
            (State::Starting { is_offered }, Event::Top(top)) => self.proceed(&top, is_offered, cx),
            (State::Authenticating, Event::Top(top)) => self.authenticated(&top, cx),
            (State::Open, Event::Top(top)) => self.open_top(*top, cx),
            (state, Event::Ask(ask)) => {
                self.ask(*ask, cx);
                Ok(state)
            }
            (state, Event::Placed(source)) => self.placed(state, source, cx),
            (state, Event::LookedUp(remote, dns)) => self.looked_up(state, remote, dns, cx),
            (state, Event::Reloaded { is_elsewhere }) => self.reloaded(state, is_elsewhere, cx),
            (State::Open, Event::Verified(pair, checked)) => {
                let checked = self.checked_now(&pair, checked, cx);
                let actions = self
                    .ledger_mut()
                    .map(|ledger| ledger.verified(&pair, checked));
                self.act(actions.unwrap_or_default(), cx)
            }
            (state, event) => {
                debug_assert!(
                    !matches!(event, Event::Open(_) | Event::Top(_)),
                    "a state without input got some"
                );
                Ok(state)
            }
        }
    }

    fn opened(&mut self, header: &Header, cx: &mut Context<'_>) -> Result<State, StreamError> {
        let opened = header::check_server(header)?;
        match self.role {
            Role::Accepted(_) => self.opened_by_peer(opened, cx),
            Role::Dialled(_) => self.opened_by_us(opened, cx),
        }
    }

    fn secured(&mut self, facts: TlsFacts, is_direct: bool) {
        debug!(
            stream = self.origin.stream, version = facts.version, cipher = facts.cipher.as_str(),
            group = facts.group.as_str();
            "encrypted"
        );
        self.tls = Some(PeerTls {
            summary: TlsSummary {
                version: facts.version,
                cipher: facts.cipher.into(),
                group: facts.group.into(),
            },
            is_direct,
            chain: Arc::new(facts.peer_chain.into()),
        });
    }

    /// What TLS agreed on, if it is there.
    pub fn tls(&self) -> Option<&TlsSummary> {
        self.tls.as_ref().map(|tls| &tls.summary)
    }

    fn is_direct(&self) -> bool {
        match &self.role {
            Role::Dialled(dialled) => dialled.is_direct,
            Role::Accepted(_) => false,
        }
    }

    /// A new document follows, in both directions if we have opened the stream.
    fn restart(&mut self, cx: &mut Context<'_>) {
        cx.actions.push(Action::Restart);
        self.is_header_sent = false;
        self.ledger = None;
        if matches!(self.role, Role::Dialled(_)) {
            self.send_our_header(cx);
        }
    }

    fn ledger_mut(&mut self) -> Option<&mut Ledger<Asker>> {
        self.ledger.as_mut()
    }

    /// The stream stands where it stays: keys that have waited for that are looked at.
    fn placed(
        &mut self,
        state: State,
        source: Key,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        self.source = Some(source);
        self.write_proven_pairs(cx);
        // The DNS is asked again: its answers have not come along.
        self.unruled.clear();
        self.count_from_peer(cx);
        let state = match (state, &self.ledger) {
            (State::Open, Some(ledger)) => {
                let actions = ledger.placed();
                self.act(actions, cx)?
            }
            (state, _) => state,
        };
        self.make_up_for_reload(state, cx)
    }
}

/// Whoever says so, it is none of our own: those need no stream.
fn ours() -> StreamError {
    StreamError::new(
        StreamCondition::InvalidFrom,
        "That domain is served here, by nobody else",
    )
}

fn no_stream() -> StreamError {
    StreamError::new(
        StreamCondition::UnsupportedStanzaType,
        "There is no stream yet",
    )
}

/// RFC 6120 §4.9.3.24.
fn unsupported() -> StreamError {
    StreamError::new(
        StreamCondition::UnsupportedStanzaType,
        "This server does not know this element here",
    )
}

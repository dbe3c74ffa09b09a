//! The stream of a client, from its first header to its end (RFC 6120 §4 to §7).
//!
//! ```text
//! Opening ─ header ─► Negotiating ─ starttls ─► Securing ─ TLS ─► Opening
//!                       │    ▲
//!                     auth   └─ failure ── Delayed ◄──┐
//!                       ▼                             │
//!             Asked, Loading, Responding, Hashing ────┤
//!                       │ proof                       │
//!                       ▼                             │
//!                    Admitting ── refused ────────────┘
//!                       │ success
//!                       ▼
//!                    Opening ─ header ─► Binding ─ bind ─► Bound ─► Closing
//! ```
//! A state that waits for a helper is not given input: the client's bytes stay in the socket.

mod binding;
mod ending;
#[cfg(test)]
mod tests;

use ::log::{debug, warn};

use crate::clock::Mono;
use crate::config::Settings;
use crate::jid::{BareJid, FullJid, Jid};
use crate::limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX;
use crate::net::transport::TlsFacts;
use crate::ns;
use crate::router::session::TlsSummary;
use crate::sasl::scram::Bindings;
use crate::sasl::{Mechanism, identity};
use crate::slots::Key;
use crate::stanza::{self, Stanza};
use crate::stanza::{StreamCondition, StreamError};
use crate::stream::authenticate::{Attempt, Identity, Negotiating, Responding};
use crate::stream::ending::{Cause, Reported, is_awaited};
use crate::stream::features::{self, Offer};
use crate::stream::header::{self, Opened};
use crate::stream::policy::c2s::{Facts, StartTls};
use crate::stream::{Action, Context, Event, Origin, starttls};
use crate::xml::{Header, Top};

/// The stream of one client connection.
pub struct ClientStream {
    /// Where it comes from.
    pub origin: Origin,
    pub(super) state: State,
    pub(super) security: Security,
    /// Failed logins on this connection (RFC 6120 §6.4.5).
    pub(super) failures: u32,
    is_header_sent: bool,
    /// Whether the log was told why the stream ends.
    is_end_told: bool,
    touched: Mono,
}

/// What protects the connection.
pub(super) enum Security {
    Clear,
    Tls {
        summary: TlsSummary,
        /// What is needed until authentication is done.
        proof: Box<TlsProof>,
    },
    /// After authentication: the rest is no longer needed.
    Settled(TlsSummary),
}

#[derive(Default)]
pub(super) struct TlsProof {
    pub bindings: Bindings,
    pub peer_chain: Vec<Vec<u8>>,
}

pub(super) enum State {
    /// A stream header is due; with an identity if the client is authenticated.
    Opening(Option<Box<Identity>>),
    /// Features were sent.
    Negotiating(Box<Negotiating>),
    /// `<proceed/>` was sent and the TLS handshake runs.
    Securing,
    /// The client chose a mechanism without an initial response.
    Asked(Box<Negotiating>, Mechanism),
    /// The store is asked for credentials.
    Loading(Box<Negotiating>, Box<Attempt>),
    /// A worker compares a password.
    Hashing(Box<Negotiating>, Box<Identity>),
    /// A challenge was sent.
    Responding(Box<Negotiating>, Box<Responding>),
    /// A failure is held back.
    Delayed(Box<Negotiating>, Mono, crate::sasl::SaslFailure),
    /// The identity is proven; the account's shard decides.
    Admitting(Box<Negotiating>, Box<Identity>),
    /// The client is authenticated and must bind a resource.
    Binding(Box<Binding>),
    /// Stanzas flow.
    Bound(Box<Bound>),
    /// Our direction is closed; the peer's is waited for.
    Closing { until: Mono },
    /// Nothing more happens.
    Closed,
}

pub(super) struct Binding {
    identity: Box<Identity>,
    opened: Opened,
    /// The request that the account's shard is deciding on.
    asked: Option<Stanza>,
}

pub(super) struct Bound {
    session: Key,
    jid: FullJid,
    opened: Opened,
    /// When the client was pinged, if it has sent nothing since.
    pinged: Option<Mono>,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Opening(None) => "opening",
            State::Opening(Some(_)) => "authenticated",
            State::Negotiating(_) => "negotiating",
            State::Securing => "securing",
            State::Asked(..) => "asked",
            State::Loading(..) => "loading",
            State::Hashing(..) => "hashing",
            State::Responding(..) => "responding",
            State::Delayed(..) => "delayed",
            State::Admitting(..) => "admitting",
            State::Binding(_) => "binding",
            State::Bound(_) => "bound",
            State::Closing { .. } => "closing",
            State::Closed => "closed",
        }
    }
}

impl ClientStream {
    /// The stream of a connection that was just accepted.
    pub fn new(origin: Origin) -> ClientStream {
        ClientStream {
            origin,
            state: State::Opening(None),
            security: Security::Clear,
            failures: 0,
            is_header_sent: false,
            is_end_told: false,
            touched: origin.accepted,
        }
    }

    /// Notes that the peer sent bytes, whatever they are (RFC 6120 §4.6.1). True if the deadline may
    /// have come nearer: until the next ping it is shorter than from a ping to its answer.
    pub fn touch(&mut self, now: Mono) -> bool {
        self.touched = now;
        match &mut self.state {
            // Times would not tell: an answer may come in the millisecond of the ping.
            State::Bound(bound) => bound.pinged.take().is_some(),
            _ => false,
        }
    }

    /// When the peer last sent a byte.
    pub fn touched(&self) -> Mono {
        self.touched
    }

    /// Whether the machine takes input now.
    pub fn takes_input(&self) -> bool {
        !matches!(
            self.state,
            State::Loading(..)
                | State::Hashing(..)
                | State::Delayed(..)
                | State::Admitting(..)
                | State::Closed
        )
    }

    /// Whether our end of the stream is written, and perhaps not yet sent.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// The session, once a resource is bound.
    pub fn session(&self) -> Option<Key> {
        match &self.state {
            State::Bound(bound) => Some(bound.session),
            _ => None,
        }
    }

    /// The state's name, for people.
    pub fn state_name(&self) -> &'static str {
        self.state.name()
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self, settings: &Settings) -> Option<Mono> {
        let login = self.login_deadline(settings);
        match &self.state {
            State::Bound(bound) => bound.deadline(self.touched),
            State::Closing { until } => Some(*until),
            State::Delayed(_, until, _) => Some(login.min(*until)),
            State::Closed => None,
            _ => Some(login),
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let before = state.name();
        match self.next(state, event, cx) {
            Ok(state) => self.state = state,
            Err(error) => self.fail(error, cx),
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
            (State::Closing { until }, event) => Ok(match is_awaited(until, &event, cx) {
                true => State::Closing { until },
                false => State::Closed,
            }),
            // No stream to write an error to: the handshake runs.
            (State::Securing, Event::End(error)) => {
                self.tell_end(None, Cause::Error(&error));
                cx.actions.push(Action::Drop);
                Ok(State::Closed)
            }
            // Whatever the state, these end the stream.
            (state, Event::Close) => {
                if let State::Bound(bound) = &state {
                    cx.actions.push(Action::Closed(bound.session));
                }
                Ok(self.close(state, Cause::Closed, cx))
            }
            // RFC 6120 §4.9.1.1: no error answers the client's, only the end.
            (state, Event::Top(top)) if top.is(ns::STREAM, "error") => {
                let reported = Reported::of(&top);
                Ok(self.close(state, Cause::Reported(&reported), cx))
            }
            (state, Event::End(error)) => Err(self.leave_by(state, error, cx)),
            (state, Event::BadXml(error)) => {
                Err(self.leave_by(state, StreamError::from(error), cx))
            }
            (state, Event::Deadline) => self.deadline_reached(state, cx),

            (State::Opening(None), Event::Established(facts)) => {
                self.secured(*facts);
                Ok(State::Opening(None))
            }
            (State::Securing, Event::Established(facts)) => {
                self.secured(*facts);
                cx.actions.push(Action::Restart);
                self.is_header_sent = false;
                Ok(State::Opening(None))
            }
            (State::Opening(identity), Event::Open(header)) => self.opened(identity, &header, cx),

            (State::Negotiating(negotiating), Event::Top(top)) => {
                self.negotiate(negotiating, *top, cx)
            }
            (State::Asked(negotiating, mechanism), Event::Top(top)) => {
                self.asked(negotiating, mechanism, &top, cx)
            }
            (State::Loading(negotiating, attempt), Event::Credentials(answer)) => {
                self.loaded(negotiating, *attempt, answer, cx)
            }
            (State::Hashing(negotiating, identity), Event::Worked(value)) => {
                self.hashed(negotiating, identity, value, cx)
            }
            (State::Responding(negotiating, responding), Event::Top(top)) => {
                self.responded(negotiating, *responding, &top, cx)
            }
            (State::Admitting(negotiating, identity), Event::Admitted(verdict)) => {
                self.admitted(negotiating, identity, verdict, cx)
            }

            (State::Binding(binding), Event::Top(top)) => self.bind(binding, *top, cx),
            (State::Binding(binding), Event::Bound(result)) => self.bound(*binding, result, cx),
            (State::Bound(bound), Event::Top(top)) => self.stanza(bound, *top, cx),

            // What is left are answers that came too late for their state, and events that the
            // shard does not make in it.
            (state, event) => {
                debug_assert!(
                    !matches!(event, Event::Open(_) | Event::Top(_)),
                    "a state without input got some"
                );
                Ok(state)
            }
        }
    }

    // --- headers and features ---

    fn opened(
        &mut self,
        identity: Option<Box<Identity>>,
        header: &Header,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let expected = identity.as_ref().map(|identity| identity.domain.as_ref());
        let checked = header::check(header, cx.settings, expected)
            .and_then(|opened| correlate(opened, identity.as_deref()));
        let opened = match checked {
            Ok(opened) => opened,
            Err(error) => {
                if let Some(identity) = identity {
                    cx.actions.push(Action::Leave(identity.jid));
                }
                if let Some((domain, to)) = header::answerer(header, cx.settings) {
                    self.send_header(domain.as_str(), to.as_ref(), cx);
                }
                return Err(error);
            }
        };
        self.send_header(opened.domain.name.as_str(), opened.from.as_ref(), cx);
        if let Some(identity) = identity {
            features::write_after_authentication(cx.out, &opened.domain, cx.pipeline);
            return Ok(State::Binding(Box::new(Binding {
                identity,
                opened,
                asked: None,
            })));
        }
        let identities = self.client_identities(&opened, cx);
        let facts = self.facts(&opened, !identities.is_empty(), cx);
        let offer = Offer::new(&opened.domain, facts, self.bindings());
        features::write_before_authentication(
            cx.out,
            &offer,
            &opened.domain,
            cx.pipeline,
            UNAUTHENTICATED_ELEMENT_BYTES_MAX,
        );
        if offer.starttls == StartTls::No && offer.mechanisms.is_empty() {
            warn!(
                domain:% = opened.domain.name, address:% = self.origin.ip(),
                encrypted = facts.is_encrypted, stream = self.origin.stream;
                "nobody can log in here: [auth] and [c2s] leave no mechanism, or there is no \
                 certificate"
            );
        }
        Ok(State::Negotiating(Box::new(Negotiating {
            opened,
            offer,
            facts,
            identities,
        })))
    }

    fn send_header(&mut self, domain: &str, to: Option<&Jid>, cx: &mut Context<'_>) {
        let id = cx.random_hex(16);
        header::write(cx.out, domain, &id, to);
        self.is_header_sent = true;
    }

    /// The accounts of the domain that the client's certificate proves.
    fn client_identities(&self, opened: &Opened, cx: &Context<'_>) -> Vec<BareJid> {
        let domain = &opened.domain.name;
        match &self.security {
            Security::Tls { proof, .. } if !proof.peer_chain.is_empty() => {
                let chain = &proof.peer_chain;
                let addresses = cx.certificates.client_identities(domain.as_str(), chain);
                identity::accounts(&addresses, domain)
            }
            _ => Vec::new(),
        }
    }

    fn facts(&self, opened: &Opened, has_client_identity: bool, cx: &Context<'_>) -> Facts {
        Facts {
            is_encrypted: !matches!(self.security, Security::Clear),
            has_certificate: cx.certificates.has_certificate(opened.domain.name.as_str()),
            has_binding: !self.bindings().available().is_empty(),
            has_client_identity,
        }
    }

    pub(super) fn bindings(&self) -> &Bindings {
        static NONE: Bindings = Bindings {
            exporter: None,
            end_point: None,
        };
        match &self.security {
            Security::Tls { proof, .. } => &proof.bindings,
            Security::Clear | Security::Settled(_) => &NONE,
        }
    }

    fn secured(&mut self, facts: TlsFacts) {
        debug!(
            stream = self.origin.stream, version = facts.version, cipher = facts.cipher.as_str(),
            group = facts.group.as_str();
            "encrypted"
        );
        self.security = Security::Tls {
            summary: TlsSummary {
                version: facts.version,
                cipher: facts.cipher.into(),
                group: facts.group.into(),
            },
            proof: Box::new(TlsProof {
                bindings: facts.bindings,
                peer_chain: facts.peer_chain,
            }),
        };
    }

    /// STARTTLS (RFC 6120 §5.4.2).
    pub(super) fn start_tls(
        &mut self,
        negotiating: Box<Negotiating>,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if negotiating.offer.starttls == StartTls::No {
            starttls::refuse(cx);
            let state = State::Negotiating(negotiating);
            return Ok(self.close(state, Cause::Ours("STARTTLS was refused"), cx));
        }
        let domain = negotiating.opened.domain.name.as_str();
        starttls::proceed(&self.origin, domain, cx)?;
        Ok(State::Securing)
    }

    /// The client is authenticated: a new stream follows (RFC 6120 §6.4.6).
    pub(super) fn authenticated(&mut self, identity: Box<Identity>, cx: &mut Context<'_>) -> State {
        self.security = match std::mem::replace(&mut self.security, Security::Clear) {
            Security::Tls { summary, .. } => Security::Settled(summary),
            other => other,
        };
        self.is_header_sent = false;
        cx.actions.push(Action::Restart);
        cx.actions
            .push(Action::AcceptStanzas(identity.domain.c2s.stanza_bytes_max));
        State::Opening(Some(identity))
    }

    // --- stanzas ---

    fn stanza(
        &mut self,
        bound: Box<Bound>,
        top: Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let size = top.size;
        match read_stanza(top, Some(&bound.jid), cx) {
            Ok(Some(mut stanza)) => {
                if stanza.lang.is_none() {
                    // RFC 6120 §4.7.4, §8.1.5.
                    stanza.lang.clone_from(&bound.opened.lang);
                }
                cx.actions.push(Action::Route(Box::new(stanza), size));
                Ok(State::Bound(bound))
            }
            Ok(None) => Ok(State::Bound(bound)),
            Err(error) => Err(self.leave_by(State::Bound(bound), error, cx)),
        }
    }
}

/// RFC 6120 §6.4.6: who opens a stream after a login is who logged in. A bare domain says nothing of
/// it, and a guest's name is the server's choice.
fn correlate(opened: Opened, identity: Option<&Identity>) -> Result<Opened, StreamError> {
    let is_other = match (&opened.from, identity) {
        (Some(from), Some(identity)) if identity.mechanism != Mechanism::Anonymous => {
            from.local().is_some() && from.bare_str() != identity.jid.as_str()
        }
        _ => false,
    };
    if is_other {
        return Err(StreamError::new(
            StreamCondition::InvalidFrom,
            "The 'from' of the stream is not the account that logged in",
        ));
    }
    Ok(opened)
}

/// Reads a stanza; one that gets an error reply yields none. The reply goes to `jid`, once there is
/// one, whatever `from` the stanza had: it names the client of this very stream (RFC 6120 §8.1.1.2).
fn read_stanza(
    top: Top,
    jid: Option<&FullJid>,
    cx: &mut Context<'_>,
) -> Result<Option<Stanza>, StreamError> {
    let is_stanza =
        top.ns == ns::CLIENT && matches!(top.name.as_str(), "message" | "presence" | "iq");
    if !is_stanza {
        return Err(unsupported(&top));
    }
    match Stanza::from_top(top) {
        Ok(stanza) => Ok(Some(stanza)),
        Err(bad) => match bad.answer() {
            stanza::Answer::Stanza(mut reply) => {
                reply.to = jid.map(FullJid::to_jid);
                reply.write(cx.out);
                Ok(None)
            }
            stanza::Answer::Nothing => Ok(None),
            stanza::Answer::StreamError(condition) => Err(StreamError::new(condition, bad.text())),
        },
    }
}

/// RFC 6120 §4.9.3.24, and §4.9.3.10 for what no stream carries.
pub(super) fn unsupported(top: &Top) -> StreamError {
    if matches!(top.ns.as_str(), ns::STREAM | ns::SERVER) {
        return StreamError::new(
            StreamCondition::InvalidNamespace,
            "This element has no place in a client's stream",
        );
    }
    StreamError::new(
        StreamCondition::UnsupportedStanzaType,
        "This server does not know this element here",
    )
}

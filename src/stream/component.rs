//! The stream of a component (XEP-0114 1.6, `jabber:component:accept`), from its header to its end.
//!
//! ```text
//! Opening ─ header ─► Shaking ─ handshake ─► Admitting ─ on its domain's shard ─► Open
//!                        │
//!                      a wrong one ─► Delayed ─► not-authorized
//! ```
//! Left out: `jabber:component:connect`, where the server dials (§2: accept "is by far the most
//! common"), and TLS, which the protocol does not know: the default is to listen on loopback only.
//!
//! A component speaks for all addresses of its own domain, and for none of a domain above or below it
//! (§3). It is trusted as far as that, and so it is slowed down by no rate: what limits it is how many
//! of its stanzas are on their way.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use ::log::info;

use crate::clock::Mono;
use crate::config::{ComponentSettings, Secret, Settings};
use crate::jid::{Domain, Jid};
use crate::limits::COMPONENT_PROBE_EVERY;
use crate::net::throttle::Verdict;
use crate::ns;
use crate::slots::Key;
use crate::stanza::{self, Condition, Stanza, StanzaError, StreamCondition, StreamError};
use crate::stream::ending::{self, Cause, Reported, is_awaited};
use crate::stream::{Action, Context, Event, Origin, header, hex};
use crate::xml::{Header, Top};

/// The stream of one connection with a component.
pub struct ComponentStream {
    /// Where it comes from.
    pub origin: Origin,
    state: State,
    /// The one that its header names, and that is known here.
    name: Option<Domain>,
    is_header_sent: bool,
    touched: Mono,
}

enum State {
    /// Its header is due.
    Opening,
    /// Its handshake is due, made with this stream id.
    Shaking(Arc<ComponentSettings>, String),
    /// Its handshake was wrong; it hears of that later.
    Delayed(Mono),
    /// The shard of its domain is to let it in.
    Admitting(Arc<ComponentSettings>),
    /// Stanzas flow.
    Open(Open),
    /// Our direction is closed; the component's is waited for.
    Closing { until: Mono },
    /// Nothing more happens.
    Closed,
}

struct Open {
    domain: Domain,
    component: Key,
    /// When it was last sent a space because of its silence.
    probed: Mono,
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::Opening => "opening",
            State::Shaking(..) => "shaking",
            State::Delayed(_) => "delayed",
            State::Admitting(_) => "admitting",
            State::Open(_) => "open",
            State::Closing { .. } => "closing",
            State::Closed => "closed",
        }
    }

    fn component(&self) -> Option<Key> {
        match self {
            State::Open(open) => Some(open.component),
            _ => None,
        }
    }
}

impl ComponentStream {
    /// The stream of a connection that was just accepted.
    pub fn new(origin: Origin) -> ComponentStream {
        ComponentStream {
            origin,
            state: State::Opening,
            name: None,
            is_header_sent: false,
            touched: origin.accepted,
        }
    }

    /// Notes that the component sent bytes.
    pub fn touch(&mut self, now: Mono) {
        self.touched = now;
    }

    /// When it last sent a byte.
    pub fn touched(&self) -> Mono {
        self.touched
    }

    /// Whether the machine takes input now.
    pub fn takes_input(&self) -> bool {
        !matches!(
            self.state,
            State::Delayed(_) | State::Admitting(_) | State::Closed
        )
    }

    /// Whether our end of the stream is written, and perhaps not yet sent.
    pub fn is_ending(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// The component, once it is let in.
    pub fn component(&self) -> Option<Key> {
        self.state.component()
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self, settings: &Settings) -> Option<Mono> {
        match &self.state {
            State::Closing { until } => Some(*until),
            State::Closed => None,
            State::Open(open) => Some(open.probe_due(self.touched)),
            State::Delayed(until) => Some(*until),
            State::Opening | State::Shaking(..) | State::Admitting(_) => {
                let limit = Duration::from_secs(settings.limits.unauthenticated_seconds_max);
                Some(self.origin.accepted + limit)
            }
        }
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        let before = state.name();
        let held = state.component();
        match self.next(state, event, cx) {
            Ok(state) => self.state = state,
            Err(error) => self.fail(error, cx),
        }
        if let (Some(component), State::Closing { .. } | State::Closed) = (held, &self.state) {
            cx.actions.push(Action::ComponentClosed(component));
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
            (_, Event::Close) => Ok(self.close(Cause::Closed, cx)),
            (_, Event::Top(top)) if top.is(ns::STREAM, "error") => {
                let reported = Reported::of(&top);
                Ok(self.close(Cause::Reported(&reported), cx))
            }
            (_, Event::End(error)) => Err(error),
            (_, Event::BadXml(error)) => Err(StreamError::from(error)),
            (State::Opening, Event::Open(header)) => self.opened(&header, cx),
            (State::Shaking(settings, id), Event::Top(top)) => self.shaken(settings, &id, &top, cx),
            (State::Admitting(settings), Event::ComponentAdmitted(admitted)) => {
                self.admitted(&settings, admitted?, cx)
            }
            (State::Open(open), Event::Top(top)) => self.stanza(open, *top, cx),
            (State::Open(open), Event::Deadline) => Ok(State::Open(self.probe(open, cx))),
            (State::Delayed(until), Event::Deadline) if until <= cx.now.mono => Err(wrong()),
            (
                state @ (State::Opening | State::Shaking(..) | State::Admitting(_)),
                Event::Deadline,
            ) => {
                let limit = Duration::from_secs(cx.settings.limits.unauthenticated_seconds_max);
                match self.origin.accepted + limit <= cx.now.mono {
                    true => Err(StreamError::new(
                        StreamCondition::ConnectionTimeout,
                        "You did not prove yourself in time",
                    )),
                    false => Ok(state),
                }
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

    /// §3: `to` is the component's own name.
    fn opened(&mut self, header: &Header, cx: &mut Context<'_>) -> Result<State, StreamError> {
        header.check(ns::COMPONENT)?;
        let Some(to) = header.to.as_deref() else {
            return Err(StreamError::new(
                StreamCondition::HostUnknown,
                "The stream has no 'to': name the component that you are",
            ));
        };
        let name = Domain::parse(to).map_err(|_| {
            StreamError::new(
                StreamCondition::ImproperAddressing,
                "The 'to' of the stream is no domain",
            )
        })?;
        let Some(settings) = cx.settings.components.get(&name).cloned() else {
            info!(
                address:% = self.origin.ip(), component:% = name, stream = self.origin.stream;
                "component is not in the conf file"
            );
            let text = match cx.settings.domains.contains_key(&name) {
                true => "That is a domain of this server; 'to' is the component's own name",
                false => "This server has no such component",
            };
            return Err(StreamError::new(StreamCondition::HostUnknown, text));
        };
        let id = cx.random_hex(16);
        self.send_header(Some(&name), &id, cx);
        self.name = Some(name);
        Ok(State::Shaking(settings, id))
    }

    fn send_header(&mut self, from: Option<&Domain>, id: &str, cx: &mut Context<'_>) {
        header::write_component(cx.out, from.map(Domain::as_str), id);
        self.is_header_sent = true;
    }

    /// §3: what proves the component, before anything else.
    fn shaken(
        &mut self,
        settings: Arc<ComponentSettings>,
        id: &str,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if !top.is(ns::COMPONENT, "handshake") {
            return Err(StreamError::new(
                StreamCondition::NotAuthorized,
                "A <handshake/> comes first",
            ));
        }
        let (address, now) = (self.origin.ip(), cx.now.mono);
        let name = settings.domain.name.as_str();
        if cx.throttle.may_shake_hands(address, name, now) == Verdict::Refuse {
            self.tell_failure(name, "too many failed handshakes from this address");
            return Err(StreamError::new(
                StreamCondition::PolicyViolation,
                "Too many failed handshakes; come again in a minute",
            ));
        }
        if is_proof(&top.text(), id, &settings.secret) {
            cx.actions
                .push(Action::AdmitComponent(Arc::clone(&settings)));
            return Ok(State::Admitting(settings));
        }
        self.tell_failure(name, "the secrets differ");
        cx.throttle.handshake_failed(address, name, now);
        match cx.throttle.may_shake_hands(address, name, now) {
            Verdict::SlowDown(delay) => Ok(State::Delayed(now + delay)),
            Verdict::Allowed | Verdict::Refuse => Err(wrong()),
        }
    }

    fn tell_failure(&self, component: &str, reason: &str) {
        info!(
            address:% = self.origin.ip(), component, reason, stream = self.origin.stream;
            "component handshake failed"
        );
    }

    fn admitted(
        &mut self,
        settings: &ComponentSettings,
        component: Key,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let domain = settings.domain.name.clone();
        info!(
            address:% = self.origin.ip(), component:% = domain, stream = self.origin.stream;
            "component connected"
        );
        cx.out.extend_from_slice(b"<handshake/>");
        cx.actions
            .push(Action::AcceptStanzas(settings.stanza_bytes_max));
        Ok(State::Open(Open {
            domain,
            component,
            probed: cx.now.mono,
        }))
    }

    fn stanza(&mut self, open: Open, top: Top, cx: &mut Context<'_>) -> Result<State, StreamError> {
        let is_stanza = matches!(top.name.as_str(), "message" | "presence" | "iq");
        if top.ns != ns::COMPONENT || !is_stanza {
            return Err(StreamError::new(
                StreamCondition::UnsupportedStanzaType,
                "This server does not know this element here",
            ));
        }
        let size = top.size;
        let reply = match Stanza::from_top(top) {
            Ok(mut stanza) => {
                if stanza.from.is_none() {
                    // slixmpp 1.17 has none in a component's pings, against §3. Nobody else is meant.
                    stanza.from = Jid::parse(open.domain.as_str()).ok();
                }
                open.check_from(stanza.from.as_ref())?;
                if stanza.to.is_some() {
                    cx.actions
                        .push(Action::FromComponent(Box::new(stanza), size));
                    return Ok(State::Open(open));
                }
                let error = StanzaError::new(Condition::BadRequest)
                    .text("A stanza of a component has a 'to'");
                stanza.error(&error).map(Box::new)
            }
            Err(bad) => match bad.answer() {
                stanza::Answer::Stanza(reply) => {
                    open.check_from(reply.to.as_ref())?;
                    Some(reply)
                }
                stanza::Answer::Nothing => None,
                stanza::Answer::StreamError(condition) => {
                    return Err(StreamError::new(condition, bad.text()));
                }
            },
        };
        if let Some(reply) = reply {
            reply.write(cx.out);
        }
        Ok(State::Open(open))
    }

    /// A space keeps TCP from taking a machine that is gone for a silent one (RFC 6120 §4.6.1).
    fn probe(&mut self, mut open: Open, cx: &mut Context<'_>) -> Open {
        if open.probe_due(self.touched) <= cx.now.mono {
            cx.out.push(b' ');
            open.probed = cx.now.mono;
        }
        open
    }

    /// Answers the component's end of stream (RFC 6120 §4.4).
    fn close(&mut self, cause: Cause<'_>, cx: &mut Context<'_>) -> State {
        self.tell_end(cause);
        State::Closing {
            until: ending::close(self.is_header_sent, cx),
        }
    }

    /// Ends the stream with an error. Our header goes first if it is still due (RFC 6120 §4.9.1.2).
    fn fail(&mut self, error: StreamError, cx: &mut Context<'_>) {
        self.tell_end(Cause::Error(&error));
        if !self.is_header_sent {
            let id = cx.random_hex(16);
            self.send_header(None, &id, cx);
        }
        self.state = State::Closing {
            until: ending::fail(&error, cx),
        };
    }

    /// The connection is gone without an end of the stream; `why`, if that is known.
    pub fn hung_up(&mut self, why: Option<&str>, actions: &mut Vec<Action>) {
        if !self.is_ending() {
            self.tell_end(Cause::Lost(why));
        }
        actions.extend(self.state.component().map(Action::ComponentClosed));
        self.state = State::Closed;
    }

    fn tell_end(&self, cause: Cause<'_>) {
        info!(
            component = self.name.as_ref().map_or("-", Domain::as_str),
            address:% = self.origin.ip(), stream = self.origin.stream, reason:% = cause;
            "component stream ended"
        );
    }
}

impl Open {
    /// §3: "the domain identifier portion of the JID contained in the 'from' attribute MUST match the
    /// hostname of the component".
    fn check_from(&self, from: Option<&Jid>) -> Result<(), StreamError> {
        if from.is_some_and(|from| from.domain() == self.domain.as_str()) {
            return Ok(());
        }
        Err(StreamError::new(
            StreamCondition::InvalidFrom,
            "The 'from' of a stanza is an address of the component's domain",
        ))
    }

    fn probe_due(&self, touched: Mono) -> Mono {
        touched.max(self.probed) + COMPONENT_PROBE_EVERY
    }
}

/// §3: the SHA-1 of stream id and secret, in lower-case hexadecimal digits.
fn is_proof(given: &str, id: &str, secret: &Secret) -> bool {
    let hash = openssl::sha::sha1([id, secret.reveal()].concat().as_bytes());
    let wanted = hex(&hash);
    // In the same time wherever they differ. The length is known to everybody.
    given.len() == wanted.len() && openssl::memcmp::eq(given.as_bytes(), wanted.as_bytes())
}

fn wrong() -> StreamError {
    StreamError::new(
        StreamCondition::NotAuthorized,
        "The handshake does not fit: the secret here is another one",
    )
}

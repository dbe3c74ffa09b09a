//! How a client's stream ends: by time, by its peer, or by an error (RFC 6120 §4.4, §4.6, §4.9).

use std::time::Duration;

use ::log::{debug, info};

use super::{Bound, ClientStream, State};
use crate::clock::Mono;
use crate::config::Settings;
use crate::jid::{BareJid, Jid};
use crate::ns;
use crate::stanza::{self, Stanza, StreamCondition, StreamError};
use crate::stream::ending::{self, Cause};
use crate::stream::{Action, Context};
use crate::xml::{Element, Payload};

impl ClientStream {
    pub(super) fn deadline_reached(
        &mut self,
        state: State,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let now = cx.now.mono;
        match state {
            State::Bound(bound) => self.idle(bound, cx),
            State::Delayed(negotiating, until, failure) if until <= now => {
                self.send_failure(negotiating, failure, cx)
            }
            state if self.login_deadline(cx.settings) > now => Ok(state),
            State::Securing => Ok(self.drop_now("the TLS handshake was not done in time", cx)),
            state => {
                let text = "You did not log in in time";
                let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
                Err(self.leave_by(state, error, cx))
            }
        }
    }

    /// When a client must have bound a resource.
    pub(super) fn login_deadline(&self, settings: &Settings) -> Mono {
        let limit = Duration::from_secs(settings.limits.unauthenticated_seconds_max);
        self.origin.accepted + limit
    }

    /// RFC 6120 §4.6.4: a silent client is asked once, then taken for gone.
    fn idle(&mut self, mut bound: Box<Bound>, cx: &mut Context<'_>) -> Result<State, StreamError> {
        let now = cx.now.mono;
        if bound.deadline(self.touched).is_none_or(|due| due > now) {
            return Ok(State::Bound(bound));
        }
        if bound.pinged.is_some() {
            let text = "You did not answer a ping";
            let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
            return Err(self.leave_by(State::Bound(bound), error, cx));
        }
        bound.pinged = Some(now);
        let id = cx.random_hex(4);
        let mut ping = Stanza::new(
            stanza::Kind::Iq,
            stanza::Type::Get,
            Payload::from_elements(&[Element::new(ns::PING, "ping")]),
        );
        // XEP-0199 §4.1, RFC 6120 §8.1.2.1.
        ping.from = Jid::parse(bound.opened.domain.name.as_str()).ok();
        ping.to = Some(bound.jid.to_jid());
        ping.id = Some(format!("ping-{id}").into());
        ping.write(cx.out);
        Ok(State::Bound(bound))
    }

    /// Answers the peer's end of stream, or makes ours (RFC 6120 §4.4).
    pub(super) fn close(&mut self, state: State, cause: Cause<'_>, cx: &mut Context<'_>) -> State {
        self.leave(state, cause, cx.actions);
        State::Closing {
            until: ending::close(self.is_header_sent, cx),
        }
    }

    /// Ends the stream with an error (RFC 6120 §4.9.1.1). Our header goes first if it is still due
    /// (§4.9.1.2).
    pub(super) fn fail(&mut self, error: StreamError, cx: &mut Context<'_>) {
        self.tell_end(None, Cause::Error(&error));
        if !self.is_header_sent {
            let domain = cx.settings.domains.keys().next();
            let domain = domain.map_or(String::new(), |domain| domain.as_str().to_owned());
            self.send_header(&domain, None, cx);
        }
        self.state = State::Closing {
            until: ending::fail(&error, cx),
        };
    }

    /// The connection is gone without an end of the stream; `why`, if that is known.
    pub fn hung_up(&mut self, why: Option<&str>, actions: &mut Vec<Action>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.leave(state, Cause::Lost(why), actions);
    }

    /// Leaves a state by an error, which is to end the stream.
    pub(super) fn leave_by(
        &mut self,
        state: State,
        error: StreamError,
        cx: &mut Context<'_>,
    ) -> StreamError {
        self.leave(state, Cause::Error(&error), cx.actions);
        error
    }

    /// Gives back what the state holds in the account, and tells the log that the stream ends.
    pub(super) fn leave(&mut self, state: State, cause: Cause<'_>, actions: &mut Vec<Action>) {
        match state {
            State::Closing { .. } | State::Closed => {}
            State::Bound(bound) => {
                info!(
                    jid:% = bound.jid, address:% = self.origin.ip(), stream = self.origin.stream,
                    reason:% = cause;
                    "session ended"
                );
                self.is_end_told = true;
                actions.push(Action::Unbind(bound.session));
            }
            State::Binding(binding) => self.leave_login(binding.identity.jid, cause, actions),
            State::Opening(Some(identity)) | State::Admitting(_, identity) => {
                self.leave_login(identity.jid, cause, actions);
            }
            _ => self.tell_end(None, cause),
        }
    }

    fn leave_login(&mut self, jid: BareJid, cause: Cause<'_>, actions: &mut Vec<Action>) {
        self.tell_end(Some(&jid), cause);
        actions.push(Action::Leave(jid));
    }

    /// Tells the log once that a stream without a session ends: anybody may open those.
    pub(super) fn tell_end(&mut self, jid: Option<&BareJid>, cause: Cause<'_>) {
        if !std::mem::replace(&mut self.is_end_told, true) {
            debug!(
                jid = jid.map_or("-", BareJid::as_str), address:% = self.origin.ip(),
                stream = self.origin.stream, reason:% = cause;
                "stream ended"
            );
        }
    }

    /// Ends the connection where no stream can be ended.
    pub(super) fn drop_now(&mut self, why: &'static str, cx: &mut Context<'_>) -> State {
        self.tell_end(None, Cause::Ours(why));
        cx.actions.push(Action::Drop);
        State::Closed
    }
}

impl Bound {
    pub(super) fn deadline(&self, touched: Mono) -> Option<Mono> {
        let c2s = &self.opened.domain.c2s;
        if c2s.idle_seconds == 0 {
            return None;
        }
        match self.pinged {
            Some(pinged) => Some(pinged + Duration::from_secs(c2s.ping_timeout_seconds)),
            None => Some(touched + Duration::from_secs(c2s.idle_seconds)),
        }
    }
}

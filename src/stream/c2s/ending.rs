//! How a client's stream ends: by time, by its peer, or by an error (RFC 6120 §4.4, §4.6, §4.9).

use std::time::Duration;

use ::log::{debug, info};

use super::{Bound, ClientStream, State};
use crate::clock::Mono;
use crate::config::Settings;
use crate::jid::Jid;
use crate::ns;
use crate::stanza::{self, Stanza, StreamCondition, StreamError};
use crate::stream::{Action, Context, ending};
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
            State::Securing => Ok(drop_now(cx)),
            state => {
                self.leave(state, cx.actions);
                Err(StreamError::new(
                    StreamCondition::ConnectionTimeout,
                    "You did not log in in time",
                ))
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
            self.leave(State::Bound(bound), cx.actions);
            return Err(StreamError::new(
                StreamCondition::ConnectionTimeout,
                "You did not answer a ping",
            ));
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
    pub(super) fn close(&mut self, state: State, cx: &mut Context<'_>) -> State {
        self.leave(state, cx.actions);
        State::Closing {
            until: ending::close(self.is_header_sent, cx),
        }
    }

    /// Ends the stream with an error (RFC 6120 §4.9.1.1). Our header goes first if it is still due
    /// (§4.9.1.2).
    pub(super) fn fail(&mut self, error: StreamError, cx: &mut Context<'_>) {
        debug!(
            stream = self.origin.stream, condition = error.condition.name(), text:% = error.text;
            "stream ends"
        );
        if !self.is_header_sent {
            let domain = cx.settings.domains.keys().next();
            let domain = domain.map_or(String::new(), |domain| domain.as_str().to_owned());
            self.send_header(&domain, None, cx);
        }
        self.state = State::Closing {
            until: ending::fail(&error, cx),
        };
    }

    /// The connection is gone without an end of the stream.
    pub fn hung_up(&mut self, actions: &mut Vec<Action>) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.leave(state, actions);
    }

    /// Gives back what the state holds in the account.
    pub(super) fn leave(&mut self, state: State, actions: &mut Vec<Action>) {
        match state {
            State::Bound(bound) => {
                info!(jid:% = bound.jid, stream = self.origin.stream; "session ended");
                actions.push(Action::Unbind(bound.session));
            }
            State::Binding(binding) => actions.push(Action::Leave(binding.identity.jid)),
            State::Opening(Some(identity)) => actions.push(Action::Leave(identity.jid)),
            State::Admitting(_, identity) => actions.push(Action::Leave(identity.jid)),
            _ => {}
        }
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

/// Ends the connection where no stream can be ended.
pub(super) fn drop_now(cx: &mut Context<'_>) -> State {
    cx.actions.push(Action::Drop);
    State::Closed
}

//! How a stream between servers ends: by time, by its peer, or by an error (RFC 6120 §4.4, §4.6, §4.9).

use std::time::Duration;

use ::log::{Level, debug, info, log};

use super::{End, Role, ServerStream, State, proof};
use crate::clock::Mono;
use crate::config::Settings;
use crate::jid::Domain;
use crate::limits::{CLOSE_WAIT, DIAL_WAIT};
use crate::ns;
use crate::router::peers::{Objection, is_about_itself};
use crate::stanza::{Condition, StreamCondition, StreamError};
use crate::stream::dialback::{Checked, Ledger, Unreached};
use crate::stream::ending::{self, Cause, Reported};
use crate::stream::{Action, Context, Event, header};
use crate::xml::Top;

impl ServerStream {
    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self, settings: &Settings) -> Option<Mono> {
        self.deadline_of(&self.state, settings)
    }

    /// When a peer must have proven something, or a dialled stream must be ready.
    fn negotiation_deadline(&self, settings: &Settings) -> Mono {
        let limit = match self.role {
            Role::Accepted(_) => Duration::from_secs(settings.limits.unauthenticated_seconds_max),
            Role::Dialled(_) => DIAL_WAIT,
        };
        self.origin.accepted + limit
    }

    fn idle_deadline(&self, settings: &Settings) -> Option<Mono> {
        let local = match &self.role {
            Role::Accepted(header) => header.as_ref().map(|(local, _)| local),
            Role::Dialled(dialled) => Some(&dialled.local),
        };
        let domain = local.and_then(|local| settings.served(local.as_str()));
        let s2s = domain.map_or(&settings.s2s, |domain| &domain.s2s);
        let idle = Duration::from_secs(s2s.idle_seconds);
        let wait = match self.role {
            // What is on its way when a stream is closed may be taken for lost and sent again. Who has
            // opened it knows of no such thing, and closes it first.
            Role::Accepted(_) => idle * 2,
            // An acknowledgment is due, and has its own time.
            Role::Dialled(_) if self.is_managed() && self.touched < self.written => {
                idle.max(Duration::from_secs(s2s.ack_timeout_seconds))
            }
            Role::Dialled(_) => idle,
        };
        // A stream is idle if neither side sends anything but pings and their answers.
        let last = self.used.max(self.written);
        (!idle.is_zero()).then(|| last + wait)
    }

    pub(super) fn deadline_reached(
        &mut self,
        state: State,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        self.give_up_questions(cx);
        if self
            .deadline_of(&state, cx.settings)
            .is_none_or(|due| due > cx.now.mono)
        {
            return Ok(state);
        }
        if self.is_authenticated() {
            if self.has_expired(cx.now) {
                info!(
                    stream = self.origin.stream, address:% = self.origin.ip();
                    "certificate of server has expired"
                );
                return Err(proof::expired());
            }
            let idle = self.idle_deadline(cx.settings);
            if idle.is_none_or(|due| due > cx.now.mono) {
                return Ok(state);
            }
            // Nobody has anything to say: a stream that is not needed is closed (RFC 6120 §4.6.3).
            return Ok(self.retire("nobody had anything to say for a while", cx));
        }
        match state {
            State::Securing => Ok(self.drop_now("the TLS handshake was not done in time", cx)),
            _ => Err(StreamError::new(
                StreamCondition::ConnectionTimeout,
                "The stream was not negotiated in time",
            )),
        }
    }

    fn deadline_of(&self, state: &State, settings: &Settings) -> Option<Mono> {
        match state {
            State::Closing { until } => Some(*until),
            State::Closed => None,
            _ => {
                let answer = self.ledger.as_ref().and_then(Ledger::due);
                let others = match self.is_authenticated() {
                    true => [self.idle_deadline(settings), self.expiry.map(|it| it.due)],
                    false => [Some(self.negotiation_deadline(settings)), None],
                };
                others.into_iter().flatten().chain(answer).min()
            }
        }
    }

    /// Those who have asked the peer about a key that it says nothing of are told so.
    fn give_up_questions(&mut self, cx: &mut Context<'_>) {
        let askers = self
            .ledger
            .as_mut()
            .map(|ledger| ledger.give_up(cx.now.mono));
        for asker in askers.unwrap_or_default() {
            info!(
                stream = self.origin.stream, address:% = self.origin.ip(),
                peer:% = asker.pair.remote, local:% = asker.pair.local;
                "server does not answer about a dialback key"
            );
            let unreached = Checked::Unreached(Unreached::Timeout);
            cx.actions.push(Action::Tell(Box::new((asker, unreached))));
        }
    }

    /// The peer ends the stream by an error.
    pub(super) fn peer_failed(
        &mut self,
        state: &State,
        top: &Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let reported = Reported::of(top);
        self.ends_by(Cause::Reported(&reported));
        let Reported { condition, text } = &reported;
        // RFC 7590 §3.1 has STARTTLS tried where it is not offered: a peer that does not know it may
        // also answer by an error (RFC 6120 §4.9.3.24). To end the stream is to have no TLS then.
        if matches!(state, State::Starting { is_offered: false }) && !is_about_itself(condition) {
            return self.without_tls(false, cx);
        }
        // RFC 6120 §4.9.3.6, §4.9.3.5: it is not there, wherever else is asked.
        let is_final = matches!(condition.as_str(), "host-unknown" | "host-gone");
        let condition_back = match is_final {
            true => Condition::RemoteServerNotFound,
            false => Condition::RemoteServerTimeout,
        };
        let why = format!("it ended the stream: {condition} {text}");
        self.outcome = Some(why.trim_end().to_owned());
        let objection = Objection::new(condition, text).map(Box::new);
        cx.actions.extend(objection.map(Action::PeerObjected));
        self.failed(condition_back, why.trim_end(), is_final, cx.actions);
        Ok(self.close(cx))
    }

    /// Answers the peer's end of stream, or makes ours (RFC 6120 §4.4).
    pub(super) fn close(&mut self, cx: &mut Context<'_>) -> State {
        self.ends_by(Cause::Closed);
        // A peer that closes before anything is agreed on leaves the link without a stream.
        self.failed(
            Condition::RemoteServerTimeout,
            "it closed the stream before that was ready",
            false,
            cx.actions,
        );
        self.leave(cx.actions);
        State::Closing {
            until: ending::close(self.is_header_sent, cx),
        }
    }

    /// Makes our end of a stream that is not needed. What the peer has sent meanwhile is still taken,
    /// until it makes its own.
    pub(super) fn retire(&mut self, why: &'static str, cx: &mut Context<'_>) -> State {
        self.ends_by(Cause::Ours(why));
        self.stop_writing(cx.actions);
        cx.out.extend_from_slice(header::CLOSE);
        State::Closing {
            until: cx.now.mono + CLOSE_WAIT,
        }
    }

    /// Ends the stream with an error (RFC 6120 §4.9.1.1).
    pub(super) fn fail(&mut self, error: StreamError, cx: &mut Context<'_>) {
        self.ends_by(Cause::Error(&error));
        let why = format!("the stream came to an end: {}", error.text);
        self.failed(
            Condition::RemoteServerTimeout,
            why.as_str(),
            false,
            cx.actions,
        );
        self.outcome = Some(why);
        self.leave(cx.actions);
        if !self.is_header_sent {
            match &self.role {
                Role::Dialled(_) => self.send_our_header(cx),
                Role::Accepted(_) => {
                    let settings = std::sync::Arc::clone(cx.settings);
                    let domain = settings.domains.keys().next().map(Domain::as_str);
                    let id = cx.random_hex(16);
                    header::write_server(cx.out, domain, None, Some(&id));
                    self.is_header_sent = true;
                }
            }
        }
        self.state = State::Closing {
            until: ending::fail(&error, cx),
        };
    }

    /// The connection is gone without an end of the stream; `why`, if that is known.
    pub fn hung_up(&mut self, why: Option<&str>, actions: &mut Vec<Action>) {
        self.ends_by(Cause::Lost(why));
        if !self.is_ending() {
            let text = why.unwrap_or("the connection was closed");
            self.failed(Condition::RemoteServerTimeout, text, false, actions);
            self.outcome = Some(text.to_owned());
        }
        self.state = State::Closed;
        self.leave(actions);
    }

    /// Gives back what the stream holds: its link, its place, and the questions of others.
    fn leave(&mut self, actions: &mut Vec<Action>) {
        self.note_end(actions);
        if let Some(ledger) = self.ledger.take() {
            for asker in ledger.end() {
                let unreached = Checked::Unreached(Unreached::Timeout);
                actions.push(Action::Tell(Box::new((asker, unreached))));
            }
        }
        self.tell_end();
        actions.extend(self.source.take().map(Action::PeerClosed));
        self.stop_writing(actions);
    }

    /// Keeps why the stream ends; what follows from that is no other reason.
    pub(super) fn ends_by(&mut self, cause: Cause<'_>) {
        if let End::Open = self.end {
            let is_news = matches!(cause, Cause::Reported(_)) || self.proofs().next().is_some();
            self.end = End::By {
                reason: cause.to_string(),
                is_news,
            };
        }
    }

    /// Tells the log once why the stream has ended. That a stranger's has is no news.
    fn tell_end(&mut self) {
        let End::By { reason, is_news } = std::mem::replace(&mut self.end, End::Told) else {
            return;
        };
        let level = match is_news {
            true => Level::Info,
            false => Level::Debug,
        };
        let (local, remote) = self.claimed();
        log!(
            level, stream = self.origin.stream, address:% = self.origin.ip(),
            direction = match self.role {
                Role::Accepted(_) => "accepted",
                Role::Dialled(_) => "dialled",
            },
            peer = remote.unwrap_or("-"), local = local.unwrap_or("-"), reason = reason.as_str();
            "server stream ended"
        );
    }

    /// Ends the connection where no stream can be ended.
    pub(super) fn drop_now(&mut self, why: &'static str, cx: &mut Context<'_>) -> State {
        self.ends_by(Cause::Ours(why));
        self.failed(Condition::RemoteServerTimeout, why, false, cx.actions);
        self.leave(cx.actions);
        cx.actions.push(Action::Drop);
        State::Closed
    }

    /// After our end of the stream: what the peer has sent before it saw that is still taken
    /// (RFC 6120 §4.4).
    pub(super) fn while_closing(
        &mut self,
        until: Mono,
        event: Event,
        cx: &mut Context<'_>,
    ) -> State {
        match event {
            Event::Top(top) if self.source.is_some() && top.ns == ns::SERVER => {
                if let Err(error) = self.stanza(*top, cx) {
                    debug!(
                        stream = self.origin.stream, condition = error.condition.name();
                        "stanza at the end of a server stream not taken"
                    );
                    cx.actions.push(Action::Drop);
                }
            }
            Event::Close => cx.actions.extend([Action::Shutdown, Action::Drop]),
            Event::Deadline if until <= cx.now.mono => {
                cx.actions.push(Action::Drop);
                return State::Closed;
            }
            _ => {}
        }
        State::Closing { until }
    }
}

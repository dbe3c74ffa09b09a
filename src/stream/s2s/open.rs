//! What comes on an open stream between servers: packets of dialback, and stanzas of the pairs of domains
//! that are proven.

use std::collections::VecDeque;

use ::log::info;

use super::{Asker, Exchange, Role, ServerStream, State, no_stream, unsupported};
use crate::jid::Jid;
use crate::ns;
use crate::router::peers::is_aside;
use crate::stanza::{self, Stanza, StreamCondition, StreamError};
use crate::stream::dialback::{self, Checked, Packet};
use crate::stream::ending::Cause;
use crate::stream::{Action, Context};
use crate::xml::Top;

impl ServerStream {
    /// Takes a child of an open stream.
    pub(super) fn open_top(
        &mut self,
        top: Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if top.ns != ns::SERVER {
            self.used = cx.now.mono;
        }
        match top.ns.as_str() {
            ns::DIALBACK => {
                let packet = Packet::parse(&top)?;
                let ledger = self.ledger_mut().ok_or_else(no_stream)?;
                let actions = ledger.receive(packet)?;
                self.act(actions, cx)
            }
            ns::SERVER => self.stanza(top, cx),
            ns::BIDI if top.name == "bidi" && matches!(self.role, Role::Accepted(_)) => {
                self.made_bidirectional(cx)?;
                Ok(State::Open)
            }
            ns::STREAM_MANAGEMENT => self.managed(&top, cx).map(|()| State::Open),
            ns::TLS | ns::SASL if matches!(self.role, Role::Accepted(_)) => self.negotiate(top, cx),
            _ => Err(unsupported()),
        }
    }

    pub(super) fn stanza(&mut self, top: Top, cx: &mut Context<'_>) -> Result<State, StreamError> {
        if !matches!(top.name.as_str(), "message" | "presence" | "iq") {
            return Err(unsupported());
        }
        let (size, last_use) = (top.size, self.used);
        self.used = cx.now.mono;
        let stanza = match Stanza::from_top(top) {
            Ok(stanza) => stanza,
            Err(bad) => {
                return match bad.answer() {
                    stanza::Answer::Stanza(reply) => {
                        // It goes by the link to its sender, who is proven or nobody.
                        self.require_proven(&reply.to, &reply.from)?;
                        cx.actions.push(Action::ToPeer(reply));
                        self.stanza_answered(size, cx);
                        Ok(State::Open)
                    }
                    stanza::Answer::Nothing => {
                        self.stanza_answered(size, cx);
                        Ok(State::Open)
                    }
                    stanza::Answer::StreamError(condition) => {
                        Err(StreamError::new(condition, bad.text()))
                    }
                };
            }
        };
        self.require_proven(&stanza.from, &stanza.to)?;
        if is_aside(&stanza) {
            self.used = last_use;
        }
        cx.actions.push(Action::FromPeer(Box::new(stanza), size));
        Ok(State::Open)
    }

    /// RFC 6120 §8.1.1.2, §8.1.2.2: both addresses, of a pair of domains that the peer has proven.
    fn require_proven(&self, from: &Option<Jid>, to: &Option<Jid>) -> Result<(), StreamError> {
        let (Some(from), Some(to)) = (from, to) else {
            return Err(StreamError::new(
                StreamCondition::ImproperAddressing,
                "Between servers a stanza has 'from' and 'to'",
            ));
        };
        let ledger = self.ledger.as_ref();
        if ledger.is_some_and(|ledger| ledger.is_proven(to.domain(), from.domain())) {
            return Ok(());
        }
        if ledger.is_none_or(|ledger| ledger.proven().next().is_none()) {
            // RFC 6120 §4.9.3.12.
            return Err(StreamError::new(
                StreamCondition::NotAuthorized,
                "You have not proven any domain yet",
            ));
        }
        Err(StreamError::new(
            StreamCondition::InvalidFrom,
            "You have not proven that you may send this from that domain to that one",
        ))
    }

    /// Carries out what the ledger asks for.
    pub(super) fn act(
        &mut self,
        actions: Vec<dialback::Action<Asker>>,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let mut waiting: VecDeque<_> = actions.into();
        let mut is_over = false;
        while let Some(action) = waiting.pop_front() {
            match action {
                dialback::Action::Send(packet) => packet.write(cx.out),
                dialback::Action::Rule(pair) => {
                    let Some(ruling) = self.rule(&pair, cx) else {
                        continue;
                    };
                    let more = self.ledger_mut().map(|ledger| ledger.rule(&pair, ruling));
                    waiting.extend(more.unwrap_or_default());
                }
                dialback::Action::Verify { pair, id, key } => {
                    cx.actions.push(Action::Verify(Box::new((pair, id, key))));
                }
                dialback::Action::Proven(pair) => self.proven(&pair, Exchange::Dialback, cx),
                dialback::Action::Denied(pair) => {
                    info!(
                        stream = self.origin.stream, address:% = self.origin.ip(),
                        from:% = pair.remote, to:% = pair.local;
                        "a server claimed a domain with a key that is not that domain's"
                    );
                    let outcome =
                        "the domain's own server says that the dialback key is not its own";
                    self.note_attempt(&pair, false, outcome, cx.actions);
                }
                dialback::Action::Answered(_, answer) => {
                    if self.dialback_answered(&answer, cx) {
                        continue;
                    }
                    is_over = true;
                }
                dialback::Action::Tell(asker, answer) => cx
                    .actions
                    .push(Action::Tell(Box::new((asker, Checked::Answered(answer))))),
                dialback::Action::Check { pair, id, key } => {
                    let serves = cx.settings.served(pair.local.as_str());
                    let serves = serves.is_some_and(|domain| domain.s2s.enabled);
                    let secret = dialback::Secret::new(cx.secret);
                    secret.answer(pair, id, &key, serves).write(cx.out);
                }
                dialback::Action::Close => is_over = true,
                dialback::Action::End(error) => return Err(error),
            }
        }
        if is_over {
            self.ends_by(Cause::Ours("dialback has failed"));
            return Ok(self.close(cx));
        }
        Ok(State::Open)
    }
}

//! A client's stream between login and session: the bind (RFC 6120 §7).

use ::log::info;

use super::{Binding, Bound, ClientStream, Security, State, read_stanza};
use crate::jid::FullJid;
use crate::ns;
use crate::router::session::{SessionOrigin, TlsSummary};
use crate::slots::Key;
use crate::stanza::{self, Stanza, StanzaError, StreamCondition, StreamError};
use crate::stream::{Action, BindRequest, Context, bind};
use crate::xml::Top;

impl ClientStream {
    pub(super) fn bind(
        &mut self,
        mut binding: Box<Binding>,
        top: Top,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        if top.ns == ns::CLIENT && matches!(top.name.as_str(), "message" | "presence") {
            return Err(self.leave_by(State::Binding(binding), not_bound(), cx));
        }
        let stanza = match read_stanza(top, None, cx) {
            Ok(Some(stanza)) => stanza,
            Ok(None) => return Ok(State::Binding(binding)),
            Err(error) => return Err(self.leave_by(State::Binding(binding), error, cx)),
        };
        match bind::request(&stanza, &binding.identity.jid) {
            bind::Request::Bind(resource) => {
                let resource = resource.unwrap_or_else(|| cx.random_hex(bind::MADE_RESOURCE_BYTES));
                let origin = SessionOrigin {
                    address: self.origin.address,
                    since: cx.now.wall,
                    tls: self.tls_summary(),
                    mechanism: binding.identity.mechanism,
                    stream: self.origin.stream,
                };
                cx.actions.push(Action::Bind(Box::new(BindRequest {
                    jid: binding.identity.jid.clone(),
                    resource,
                    proof: binding.identity.proof,
                    origin,
                })));
                binding.asked = Some(stanza);
                Ok(State::Binding(binding))
            }
            bind::Request::Refused(error) => {
                write_error(&stanza, &error, cx);
                Ok(State::Binding(binding))
            }
            bind::Request::Other => Err(self.leave_by(State::Binding(binding), not_bound(), cx)),
        }
    }

    pub(super) fn bound(
        &mut self,
        mut binding: Binding,
        result: Result<(Key, FullJid), StanzaError>,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        let Some(request) = binding.asked.take() else {
            return Ok(State::Binding(Box::new(binding)));
        };
        match result {
            Ok((session, jid)) => {
                let mut reply = request.reply(stanza::Type::Result, bind::result(&jid));
                // Neither side has an address before the bind; clients compare ids only.
                reply.from = None;
                reply.to = None;
                reply.write(cx.out);
                info!(
                    jid:% = jid, address:% = self.origin.ip(),
                    mechanism = binding.identity.mechanism.name(),
                    encrypted = !matches!(self.security, Security::Clear),
                    stream = self.origin.stream;
                    "session bound"
                );
                Ok(State::Bound(Box::new(Bound {
                    session,
                    jid,
                    opened: binding.opened,
                    pinged: None,
                })))
            }
            Err(error) => {
                write_error(&request, &error, cx);
                Ok(State::Binding(Box::new(binding)))
            }
        }
    }

    fn tls_summary(&self) -> Option<TlsSummary> {
        match &self.security {
            Security::Clear => None,
            Security::Tls { summary, .. } | Security::Settled(summary) => Some(summary.clone()),
        }
    }
}

/// RFC 6120 §7.1, §4.9.3.12.
fn not_bound() -> StreamError {
    StreamError::new(
        StreamCondition::NotAuthorized,
        "Bind a resource before you send stanzas",
    )
}

fn write_error(stanza: &Stanza, error: &StanzaError, cx: &mut Context<'_>) {
    if let Some(mut reply) = stanza.error(error) {
        reply.to = None;
        reply.write(cx.out);
    }
}

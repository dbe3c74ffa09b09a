//! Logins without a password: by certificate, and as a guest.

use std::sync::Arc;

use super::failure::Failure;
use super::{Identity, Negotiating, Next};
use crate::jid::BareJid;
use crate::router::account::Proof;
use crate::sasl::{Mechanism, SaslFailure, identity, simple};
use crate::stream::Context;
use crate::stream::c2s::ClientStream;

impl ClientStream {
    /// XEP-0178 §2: the certificate says who it is; an authorization identity chooses among several.
    pub(super) fn external(
        &mut self,
        negotiating: Box<Negotiating>,
        data: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        let domain = Arc::clone(&negotiating.opened.domain);
        let authzid = match simple::parse_external(data) {
            Ok(authzid) => authzid,
            Err(failure) => {
                let failure =
                    Failure::new(failure, "the message is broken").with(Mechanism::External);
                return self.failed(negotiating, failure, cx);
            }
        };
        match identity::certified(&negotiating.identities, authzid.as_deref()) {
            Ok(jid) => {
                let identity = Box::new(Identity {
                    jid,
                    domain,
                    mechanism: Mechanism::External,
                    proof: Proof::Certificate,
                    upgrade: None,
                    success: None,
                });
                Ok(self.proven(negotiating, identity, cx))
            }
            Err(refusal) => {
                let failure =
                    Failure::new(refusal.failure, refusal.reason).with(Mechanism::External);
                self.failed(negotiating, failure, cx)
            }
        }
    }

    /// XEP-0175: a random account for as long as its session lives. The name is drawn until it falls
    /// on this shard, which spares the connection a move.
    pub(super) fn anonymous(
        &mut self,
        negotiating: Box<Negotiating>,
        data: &[u8],
        cx: &mut Context<'_>,
    ) -> Next {
        if let Err(failure) = simple::check_anonymous(data) {
            let failure = Failure::new(failure, "the message is broken").with(Mechanism::Anonymous);
            return self.failed(negotiating, failure, cx);
        }
        let domain = Arc::clone(&negotiating.opened.domain);
        // With 256 shards a thousand draws miss once in fifty; then the connection moves.
        for is_last in (0..1000).map(|draw| draw == 999) {
            let name = cx.random_hex(16);
            let Ok(jid) = BareJid::new(Some(&name), &domain.name) else {
                break;
            };
            if is_last || cx.placement.shard_of(jid.as_str()) == cx.shard {
                let identity = Box::new(Identity {
                    jid,
                    domain,
                    mechanism: Mechanism::Anonymous,
                    proof: Proof::Anonymous,
                    upgrade: None,
                    success: None,
                });
                return Ok(self.proven(negotiating, identity, cx));
            }
        }
        let failure = Failure::new(SaslFailure::TemporaryAuthFailure, "no name could be made")
            .with(Mechanism::Anonymous);
        self.failed(negotiating, failure, cx)
    }
}

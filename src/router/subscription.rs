//! Subscriptions between accounts (RFC 6121 §3, Appendix A), and the hand-off that makes two commits of
//! one change (DESIGN §5).

use crate::router::Router;
use crate::router::delivery::Routed;
use crate::slots::Key;

impl Router {
    /// Takes a subscription stanza that a session sends. The session is not held yet.
    pub(crate) fn outbound_subscription(&mut self, _session: Key, routed: Routed) {
        if routed.stanza.to.is_none() {
            self.drop_routed(routed);
            return;
        }
        self.route(routed);
    }

    /// Takes a subscription stanza for an account, whose roster is loaded.
    pub(crate) fn inbound_subscription(&mut self, _account: Key, routed: Routed) {
        self.drop_routed(routed);
    }

    /// Forgets the row that stands for a stanza whose way has ended.
    pub(crate) fn end_handoff(&mut self, handoff: Option<i64>) {
        if let Some(id) = handoff {
            self.row(crate::storage::Row::HandedOff { id });
        }
    }
}

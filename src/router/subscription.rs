//! Subscriptions between accounts (RFC 6121 §3, Appendix A), and the hand-off that makes two commits of
//! one change (DESIGN §5).

use crate::jid::BareJid;
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::slots::Key;
use crate::storage::handoff::Handoff;
use crate::storage::roster::State;
use crate::storage::{Db, StoreError};

/// For the change that removes a contact with the state `old` from an account's roster: the hand-offs
/// of what the contact is to be told (RFC 6121 §2.5.2).
pub(crate) fn removal_handoffs(
    _db: &Db,
    _account: &BareJid,
    _contact: &BareJid,
    _old: State,
) -> Result<Vec<Handoff>, StoreError> {
    Ok(Vec::new())
}

impl Router {
    /// Tells a contact that was removed, after the commit.
    pub(crate) fn removed_from_roster(
        &mut self,
        _account: Key,
        _contact: &BareJid,
        _old: State,
        handoffs: Vec<Handoff>,
    ) {
        debug_assert!(handoffs.is_empty(), "{handoffs:?}");
    }

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

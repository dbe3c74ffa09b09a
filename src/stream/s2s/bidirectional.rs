//! Stanzas both ways on one stream (XEP-0288): what is agreed on, and which pairs of domains of ours
//! write to a stream that the peer has opened.
//!
//! Left out: we prove no further domains of ours on a stream that the peer has opened (§2.2 allows it).
//! A link whose pair the peer has not proven dials.

use super::{Role, ServerStream, no_stream};
use crate::ns;
use crate::stanza::StreamError;
use crate::stream::dialback::Pair;
use crate::stream::policy::s2s::{Dialback, Direction, S2sPolicy, bidirectional};
use crate::stream::{Action, Context};

/// What a stream that goes both ways says before anything is proven.
pub(super) fn write_request(out: &mut Vec<u8>) {
    out.extend_from_slice(format!("<bidi xmlns='{}'/>", ns::BIDI).as_bytes());
}

impl ServerStream {
    /// The peer, who has opened the stream, takes stanzas on it from now on.
    pub(super) fn made_bidirectional(&mut self, cx: &mut Context<'_>) -> Result<(), StreamError> {
        self.is_bidirectional = true;
        self.ledger
            .as_mut()
            .ok_or_else(no_stream)?
            .make_bidirectional();
        self.write_proven_pairs(cx);
        Ok(())
    }

    /// Dialled: whether the peer is to be asked to send to us on the stream.
    pub(super) fn wants_bidirectional(&self, pair: &Pair, cx: &Context<'_>) -> bool {
        let Some(local) = cx.settings.served(pair.local.as_str()) else {
            return false;
        };
        let (facts, _) = self.facts(
            local,
            &pair.remote,
            Direction::Accepted,
            Dialback::Verified,
            cx,
        );
        bidirectional::may_receive(
            &S2sPolicy::of(&local.s2s, &pair.remote),
            &pair.remote,
            &facts,
        )
    }

    /// Accepted: has the links of the pairs that the peer has proven write to the stream. Nothing
    /// happens before the stream stands where it stays, which is where those links are.
    pub(super) fn write_proven_pairs(&mut self, cx: &mut Context<'_>) {
        if !self.is_bidirectional || self.source.is_none() || matches!(self.role, Role::Dialled(_))
        {
            return;
        }
        let proven = self.ledger.iter().flat_map(|ledger| ledger.proven());
        let new: Vec<Pair> = proven
            .filter(|pair| !self.writes.contains(pair) && self.may_write(pair, cx))
            .cloned()
            .collect();
        for pair in new {
            self.writes.push(pair.clone());
            cx.actions.push(Action::PairOpen(pair));
        }
    }

    pub(super) fn may_write(&self, pair: &Pair, cx: &Context<'_>) -> bool {
        // Links of domains of other shards are there, and they dial.
        if cx.placement.shard_of(pair.remote.as_str()) != cx.shard {
            return false;
        }
        let Some(local) = cx.settings.served(pair.local.as_str()) else {
            return false;
        };
        let (facts, _) = self.facts(
            local,
            &pair.remote,
            Direction::Dialled,
            Dialback::Verified,
            cx,
        );
        bidirectional::may_send(
            &S2sPolicy::of(&local.s2s, &pair.remote),
            &pair.remote,
            &facts,
        )
    }

    /// The pairs of domains whose stanzas may go by a stream that the peer has opened.
    pub fn written_pairs(&self) -> &[Pair] {
        &self.writes
    }

    /// No more of our stanzas go by the stream.
    pub(super) fn stop_writing(&mut self, actions: &mut Vec<Action>) {
        for pair in std::mem::take(&mut self.writes) {
            actions.push(Action::PairClosed(pair));
        }
        if let Role::Dialled(dialled) = &mut self.role
            && std::mem::take(&mut dialled.is_ready)
        {
            actions.push(Action::LinkEnded(dialled.link));
        }
    }
}

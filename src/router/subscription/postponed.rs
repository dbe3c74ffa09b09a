//! What the router of a shard does some time later: hand-offs that the store could not complete, since
//! a disk that is full has room again some time; and a look whether the contacts of an account that
//! was deleted know; rows of messages for other servers that could not be deleted; and reads of offline
//! messages that failed.

use crate::clock::Mono;
use crate::limits::HANDOFF_RETRY;
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::subscription::parting::Deceased;
use crate::slots::Key;
use crate::storage::PeerDone;

/// What waits for its time. No bound is needed: each hand-off was committed by its sender's change, which
/// fails, too, while the store does; and accounts are deleted by operators.
#[derive(Default)]
pub(crate) struct Postponed {
    /// In the order in which they came.
    handoffs: Vec<(Mono, Routed)>,
    /// Rows to be deleted.
    ended: Vec<(Mono, i64)>,
    deceased: Vec<(Mono, Deceased)>,
    /// Rows of messages for other servers that are to be deleted. As many as have left a queue since the
    /// store began to fail, which takes no more into one; or as were in one when their domain became
    /// one of ours.
    messages: Vec<(Mono, PeerDone)>,
    /// Flushes of offline messages, by account and number: one for each account with a session, and those
    /// that nobody waits for any more, for seconds.
    flushes: Vec<(Mono, (Key, u64))>,
}

impl Postponed {
    /// Lets a hand-off wait for another try.
    pub(super) fn push(&mut self, now: Mono, routed: Routed) {
        self.handoffs.push((now + HANDOFF_RETRY, routed));
    }

    /// Whether one of the same sender to the same recipient waits: it goes first.
    pub(super) fn holds(&self, routed: &Routed) -> bool {
        self.handoffs.iter().any(|(_, other)| {
            (&other.stanza.from, &other.stanza.to) == (&routed.stanza.from, &routed.stanza.to)
        })
    }

    /// Lets the row of a hand-off wait that has no effect.
    pub(super) fn end_later(&mut self, now: Mono, id: i64) {
        self.ended.push((now + HANDOFF_RETRY, id));
    }

    /// Lets an account wait, whose contacts do not all know that it was deleted.
    pub(super) fn wait_for_contacts(&mut self, due: Mono, deceased: Deceased) {
        self.deceased.push((due, deceased));
    }

    /// Lets the row of a message for another server wait, whose way has ended.
    pub(crate) fn end_message_later(&mut self, now: Mono, done: PeerDone) {
        self.messages.push((now + HANDOFF_RETRY, done));
    }

    /// Lets a flush of an account's offline messages wait for another try.
    pub(crate) fn flush_later(&mut self, due: Mono, account: Key, number: u64) {
        self.flushes.push((due, (account, number)));
    }

    /// When the first of all is due.
    pub(crate) fn next(&self) -> Option<Mono> {
        let handoffs = self.handoffs.iter().map(|(due, _)| *due);
        let ended = self.ended.iter().map(|(due, _)| *due);
        let deceased = self.deceased.iter().map(|(due, _)| *due);
        let messages = self.messages.iter().map(|(due, _)| *due);
        let flushes = self.flushes.iter().map(|(due, _)| *due);
        let stored = handoffs.chain(ended).chain(deceased).chain(messages);
        stored.chain(flushes).min()
    }
}

impl Router {
    /// Does what is due. If one hand-off is, all are tried, so that none overtakes another.
    pub(crate) fn do_postponed(&mut self) {
        let now = self.now.mono;
        let postponed = &mut self.postponed;
        if postponed.next().is_none_or(|due| due > now) {
            return;
        }
        if postponed.handoffs.iter().any(|(due, _)| *due <= now) {
            for (_, routed) in std::mem::take(&mut self.postponed.handoffs) {
                self.inbound(routed);
            }
        }
        for id in take_due(&mut self.postponed.ended, now) {
            self.end_handoff(Some(id));
        }
        for done in take_due(&mut self.postponed.messages, now) {
            self.end_peer_message(done);
        }
        for deceased in take_due(&mut self.postponed.deceased, now) {
            self.tell_contacts(deceased);
        }
        for (account, number) in take_due(&mut self.postponed.flushes, now) {
            self.flush_again(account, number);
        }
    }
}

fn take_due<T>(waiting: &mut Vec<(Mono, T)>, now: Mono) -> Vec<T> {
    let (due, rest) = std::mem::take(waiting)
        .into_iter()
        .partition::<Vec<_>, _>(|(due, _)| *due <= now);
    *waiting = rest;
    due.into_iter().map(|(_, what)| what).collect()
}

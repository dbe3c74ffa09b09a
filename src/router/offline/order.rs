//! Stanzas that are not stored, behind those of the same sender that are (RFC 6120 §10.1).
//!
//! While stored messages are flushed, a headline, a chat state, or a message or IQ to a full JID would
//! overtake what its sender has said before and the session has yet to get. So it is held in memory, for
//! each session apart, until that is in the session's output: its page for the session that is flushed
//! to, the commit for the others. Whoever has nothing stored is not held up. What is held counts as
//! delivered, as what is in the output does; but if its session ends, what was sent to that session alone
//! goes the way of what is sent to a resource that is gone.
//!
//! Left out: presence, which keeps its order with subscriptions instead; those are not held. What was
//! stored before the account was last loaded is older than
//! [`IDLE_ACCOUNT_AGE`](crate::limits::IDLE_ACCOUNT_AGE), and holds nothing up.

use std::collections::{BTreeMap, VecDeque, vec_deque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::Offline;
use crate::jid::Jid;
use crate::limits::{OFFLINE_HELD_BYTES_MAX, OFFLINE_HELD_STANZAS_MAX, OFFLINE_SENDERS_MAX};
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::settlement::Ticket;
use crate::slots::Key;
use crate::stanza::{Condition, Stanza, StanzaError};

/// Stands for the JID of a sender. Whoever found one with the same hash would wait for it, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sender(u64);

/// Who has sent a message.
pub(super) fn sender_of(stanza: &Stanza) -> Sender {
    let mut hasher = DefaultHasher::new();
    let from = stanza.from.as_ref().map_or("", Jid::as_str);
    from.hash(&mut hasher);
    Sender(hasher.finish())
}

/// Who has sent what is stored, or on its way to the store.
#[derive(Debug, Default)]
pub(super) struct Senders {
    /// The number of each one's last message.
    last: BTreeMap<Sender, i64>,
    /// Up to here a message may be anybody's: those of the senders that there was no room for.
    anybody: i64,
}

impl Senders {
    pub(super) fn note(&mut self, sender: Sender, seq: i64) {
        if self.last.len() >= OFFLINE_SENDERS_MAX && !self.last.contains_key(&sender) {
            let oldest = self.last.iter().min_by_key(|(_, seq)| **seq);
            if let Some((sender, seq)) = oldest.map(|(sender, seq)| (*sender, *seq)) {
                self.last.remove(&sender);
                self.anybody = self.anybody.max(seq);
            }
        }
        self.last.insert(sender, seq);
    }

    /// The number of a sender's last message; 0 if there is none.
    fn last(&self, sender: Sender) -> i64 {
        let last = self.last.get(&sender).copied();
        last.unwrap_or(0).max(self.anybody)
    }
}

/// A stanza that waits for a session.
#[derive(Debug)]
pub(crate) struct HeldStanza {
    session: Key,
    sender: Sender,
    /// The stored message that goes first.
    behind: i64,
    stanza: Stanza,
}

/// Stanzas that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<HeldStanza>,
    bytes: usize,
}

impl Held {
    fn has_room_for(&self, count: usize, size: usize) -> bool {
        self.waiting.len().saturating_add(count) <= OFFLINE_HELD_STANZAS_MAX
            && self.bytes.saturating_add(size.saturating_mul(count)) <= OFFLINE_HELD_BYTES_MAX
    }

    fn push(&mut self, message: HeldStanza) {
        self.bytes += message.stanza.size();
        self.waiting.push_back(message);
    }

    /// What the last stanza waits for that a sender has here for a session.
    fn last(&self, session: Key, sender: Sender) -> Option<i64> {
        let is_meant = |held: &&HeldStanza| (held.session, held.sender) == (session, sender);
        self.waiting
            .iter()
            .rev()
            .find(is_meant)
            .map(|held| held.behind)
    }

    /// Takes out what is meant, in order.
    fn take(&mut self, is_meant: impl Fn(&HeldStanza) -> bool) -> Vec<HeldStanza> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (meant, rest): (Vec<_>, Vec<_>) = waiting.partition(is_meant);
        self.waiting = rest.into();
        self.bytes = self.waiting.iter().map(|held| held.stanza.size()).sum();
        meant
    }
}

impl IntoIterator for Held {
    type Item = HeldStanza;
    type IntoIter = vec_deque::IntoIter<HeldStanza>;

    fn into_iter(self) -> Self::IntoIter {
        self.waiting.into_iter()
    }
}

impl Offline {
    /// What waits for sessions, where nothing that is stored will go before it any more.
    pub(crate) fn into_held(self) -> impl Iterator<Item = HeldStanza> {
        self.flush.into_iter().flat_map(|flush| flush.held)
    }

    /// The stored message that a session must be given before what is sent to it now; none if it may
    /// have that at once.
    fn goes_before(&self, session: Key, sender: Sender, takes_messages: bool) -> Option<i64> {
        let flush = self.flush.as_ref()?;
        let stored = self.senders.last(sender);
        let is_awaited = if session == flush.session {
            self.is_flushing() && stored > flush.sent_seq && !flush.shown.has(stored)
        } else {
            let mut others = flush.others.iter();
            let is_shown = others.any(|other| other.session == session && other.first <= stored);
            is_shown && stored > self.answered_seq
        };
        let stored = (is_awaited && takes_messages).then_some(stored);
        stored.max(flush.held.last(session, sender))
    }
}

impl Router {
    /// Writes a stanza to sessions of an account, to each as soon as it has what is stored of the same
    /// sender.
    ///
    /// # Errors
    /// `resource-constraint` if no more can wait: none of them gets it.
    pub(crate) fn write_in_order(
        &mut self,
        key: Key,
        sessions: &[Key],
        stanza: &Stanza,
    ) -> Result<(), StanzaError> {
        let first = self.what_goes_before(key, sessions, stanza)?;
        for (index, &session) in sessions.iter().enumerate() {
            let account = self.accounts.get_mut(key);
            let flush = account.and_then(|account| account.offline.flush.as_mut());
            match (first.get(index).copied().flatten(), flush) {
                (Some(behind), Some(flush)) => flush.held.push(HeldStanza {
                    session,
                    sender: sender_of(stanza),
                    behind,
                    stanza: stanza.clone(),
                }),
                _ => self.write(session, stanza),
            }
        }
        Ok(())
    }

    /// For each session, the stored message behind which a stanza waits; nothing if it waits for none.
    fn what_goes_before(
        &self,
        key: Key,
        sessions: &[Key],
        stanza: &Stanza,
    ) -> Result<Vec<Option<i64>>, StanzaError> {
        let offline = self.accounts.get(key).map(|account| &account.offline);
        let Some((offline, flush)) =
            offline.and_then(|offline| Some((offline, offline.flush.as_ref()?)))
        else {
            return Ok(Vec::new());
        };
        let sender = sender_of(stanza);
        let goes_before = |session: &Key| {
            let takes_messages = self.takes_messages(key, *session);
            offline.goes_before(*session, sender, takes_messages)
        };
        let first: Vec<Option<i64>> = sessions.iter().map(goes_before).collect();
        let count = first.iter().flatten().count();
        if count == 0 || flush.held.has_room_for(count, stanza.size()) {
            return Ok(first);
        }
        if stanza.is_answer() {
            // Nobody would send an answer again: rather too early than never.
            return Ok(Vec::new());
        }
        let error = StanzaError::new(Condition::ResourceConstraint);
        Err(error.text("Too many stanzas wait for this account; try again soon"))
    }

    /// A session has got what is stored up to a message, or gets no more of it: what waits behind that
    /// is written to it.
    pub(super) fn release_held(&mut self, key: Key, session: Key, seq: i64) {
        self.release_where(key, |held| held.session == session && held.behind <= seq);
    }

    /// Commits were answered: the sessions that are not flushed to have got those messages.
    pub(super) fn release_committed(&mut self, key: Key) {
        let Some(offline) = self.accounts.get(key).map(|account| &account.offline) else {
            return;
        };
        let Some(flush) = &offline.flush else {
            return;
        };
        let (session, answered) = (flush.session, offline.answered_seq);
        self.release_where(key, |held| {
            held.session != session && held.behind <= answered
        });
    }

    fn release_where(&mut self, key: Key, is_meant: impl Fn(&HeldStanza) -> bool) {
        let account = self.accounts.get_mut(key);
        let Some(flush) = account.and_then(|account| account.offline.flush.as_mut()) else {
            return;
        };
        for held in flush.held.take(is_meant) {
            self.write_held(key, held);
        }
    }

    /// Writes what has waited to its session. If that has ended, what was sent to it goes the way of
    /// what is sent to a resource that is gone (RFC 6121 §8.5.3.2); if it takes no messages any more,
    /// what was sent to the account is no longer meant for it.
    pub(crate) fn write_held(&mut self, key: Key, held: HeldStanza) {
        let HeldStanza {
            session, stanza, ..
        } = held;
        let to = stanza.to.as_ref();
        let is_direct = to.is_some_and(|to| to.resource().is_some());
        let account = self.accounts.get(key);
        let is_there = account.is_some_and(|account| account.sessions.contains(&session));
        if is_there && (is_direct || self.takes_messages(key, session)) {
            self.write(session, &stanza);
        } else if is_direct && !is_there {
            self.route(Routed::new(stanza, Ticket::none()));
        }
    }
}

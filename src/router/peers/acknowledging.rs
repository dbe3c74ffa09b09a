//! Stanzas that were sent to another server by a stream with stream management (XEP-0198), until it says
//! that it has handled them.
//!
//! What a broken stream leaves open is sent again on the next one, in front of what waits: a message or
//! presence may arrive twice, and is never lost silently. A request goes back to its sender instead, who
//! can tell better whether to do it again.

use std::time::Duration;

use super::link::Waiting;
use super::{Link, sending};
use crate::clock::Mono;
use crate::router::Router;
use crate::router::management::{Bounds, Cadence, Nonza, Unacknowledged};
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, StreamCondition, StreamError, Type};

/// What the stream of a link tells of its stream management.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// It has sent `<enable/>`: what follows is counted.
    Enabling,
    /// The peer has answered `<enabled/>`.
    Enabled,
    /// The peer does without.
    Failed,
    /// The peer has handled so many stanzas.
    Acknowledged(u32),
}

/// What was sent and is not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    /// The connection whose stream counts. Another one may write for the link before (XEP-0288).
    conn: Key,
    unacknowledged: Unacknowledged<Waiting>,
    /// Since when the answer to `<enable/>` is due; none once it is there.
    enabling: Option<Mono>,
    /// How long an answer may take.
    answer_wait: Duration,
}

impl Sent {
    /// Whether a stanza for that connection has no place.
    pub fn is_full(&self, conn: Key, bytes: usize) -> bool {
        self.conn == conn && self.unacknowledged.is_full(bytes)
    }

    pub fn len(&self) -> usize {
        self.unacknowledged.len()
    }

    pub fn bytes(&self) -> usize {
        self.unacknowledged.bytes()
    }

    /// When there is something to be done: to ask, or to give the stream up.
    pub fn next_due(&self) -> Option<Mono> {
        let asks = match self.enabling {
            None => self.unacknowledged.request_at(),
            Some(_) => None,
        };
        asks.into_iter().chain(self.silent_at()).min()
    }

    /// When the peer has left a question unanswered for so long that it is taken for gone.
    fn silent_at(&self) -> Option<Mono> {
        let asked = self.enabling.or(self.unacknowledged.asked_at())?;
        Some(asked + self.answer_wait)
    }
}

impl Router {
    /// Takes news of the stream management on the stream of a link.
    pub fn link_news(&mut self, key: Key, conn: Key, news: LinkNews) {
        match news {
            LinkNews::Enabling => self.count_sent(key, conn),
            LinkNews::Enabled => {
                if let Some(sent) = self.sent_mut(key) {
                    sent.enabling = None;
                    self.ask_if_due(key);
                    self.peers.arm_again(key);
                }
            }
            LinkNews::Failed => {
                let sent = self.peers.change(key, |link| link.sent.take()).flatten();
                for waiting in sent
                    .into_iter()
                    .flat_map(|it| it.unacknowledged.into_waiting())
                {
                    self.acknowledged(key, waiting);
                }
                self.drain_link(key);
            }
            LinkNews::Acknowledged(h) => self.link_acknowledged(key, h),
        }
    }

    fn sent_mut(&mut self, key: Key) -> Option<&mut Sent> {
        self.peers.links.get_mut(key)?.sent.as_mut()
    }

    fn count_sent(&mut self, key: Key, conn: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let local = self.settings.served(link.local.as_str());
        let seconds = local.map_or(0, |domain| domain.s2s.ack_timeout_seconds);
        debug_assert!(link.sent.is_none(), "the former stream has ended");
        link.sent = Some(Sent {
            conn,
            unacknowledged: Unacknowledged::new(Bounds::PEER, Cadence::PEER),
            enabling: Some(now),
            answer_wait: Duration::from_secs(seconds),
        });
        self.peers.arm_again(key);
    }

    /// Keeps a stanza that was just written, or gives it back if nobody will acknowledge it.
    pub(super) fn keep_sent(&mut self, key: Key, conn: Key, waiting: Waiting) -> Option<Waiting> {
        let now = self.now.mono;
        let bytes = waiting.bytes;
        let kept = self.peers.change(key, |link| match &mut link.sent {
            Some(sent) if sent.conn == conn => sent.unacknowledged.push(waiting, bytes, now),
            _ => Err(waiting),
        });
        match kept? {
            Ok(()) => {
                self.ask_if_due(key);
                self.peers.arm_again(key);
                None
            }
            Err(waiting) => Some(waiting),
        }
    }

    /// Asks the peer what it has handled, if it is time to.
    pub(super) fn ask_if_due(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        if let Some(sent) = &mut link.sent
            && sent.enabling.is_none()
            && sent.unacknowledged.is_request_due(now)
            && let Some(output) = self.out.outputs.append(sent.conn)
        {
            Nonza::Request.write(output);
            sent.unacknowledged.request(now);
        }
    }

    /// Ends the stream of a peer that does not answer: it is dead, or does not read.
    pub(super) fn end_if_silent(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let Some(sent) = link.sent.as_mut() else {
            return;
        };
        if sent.silent_at().is_some_and(|at| at <= now) {
            let conn = sent.conn;
            // Once: its end comes back as `link_ended`.
            sent.enabling = Some(now);
            let text = "You have not acknowledged what you were sent in time";
            let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
            ::log::info!(
                from:% = link.local, to:% = link.remote, unacknowledged = sent.len();
                "server does not answer, its stream is given up"
            );
            self.out.ends.push((conn, error));
        }
    }

    fn link_acknowledged(&mut self, key: Key, h: u32) {
        let now = self.now.mono;
        let done = self.peers.change(key, |link| {
            let sent = link.sent.as_mut()?;
            Some(sent.unacknowledged.acknowledge(h, now))
        });
        match done.flatten() {
            None => {}
            Some(Ok(done)) => {
                if let Some(link) = self.peers.links.get_mut(key) {
                    link.retry.succeeded();
                }
                for waiting in done {
                    self.acknowledged(key, waiting);
                }
                self.ask_if_due(key);
                self.peers.arm_again(key);
                self.drain_link(key);
            }
            Some(Err(too_high)) => {
                if let Some(sent) = self.sent_mut(key) {
                    let conn = sent.conn;
                    self.out.ends.push((conn, too_high.stream_error()));
                }
            }
        }
    }

    fn acknowledged(&mut self, key: Key, waiting: Waiting) {
        self.end_peer_row(key, &waiting);
        self.drop_routed(waiting.routed);
    }

    /// Takes back what the stream of a link leaves open at its end.
    pub(super) fn take_back(&mut self, key: Key, conn: Key) {
        let sent = self.peers.change(key, |link| {
            let sent = &mut link.sent;
            sent.take_if(|sent| sent.conn == conn)
        });
        let Some(sent) = sent.flatten() else {
            return;
        };
        let (requests, again): (Vec<_>, Vec<_>) =
            sent.unacknowledged.into_waiting().partition(is_request);
        let messages = again
            .iter()
            .filter(|it| it.is_patient() && it.row.is_none());
        let unstored: Vec<i64> = messages.map(|it| it.place.id).collect();
        self.peers.change(key, |link| {
            for waiting in again.into_iter().rev() {
                link.queue.push_front(waiting);
            }
        });
        for id in unstored {
            self.store_waiting(key, id);
        }
        self.peers.arm_again(key);
        self.return_to_senders(key, requests, &sending::broken());
    }
}

fn is_request(waiting: &Waiting) -> bool {
    let stanza = &waiting.routed.stanza;
    stanza.kind == Kind::Iq && matches!(stanza.type_, Type::Get | Type::Set)
}

impl Link {
    /// The stanzas that were sent and are not acknowledged, in their order.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &Stanza> {
        let sent = self.sent.iter();
        let waiting = sent.flat_map(|sent| sent.unacknowledged.waiting());
        waiting.map(|waiting| &waiting.routed.stanza)
    }

    /// The stanza that has a row of that number.
    pub(super) fn by_row(&mut self, id: i64) -> Option<&mut Waiting> {
        let queued = self.queue.by_id(id);
        let sent = self.sent.as_mut();
        let mut sent = sent
            .into_iter()
            .flat_map(|it| it.unacknowledged.waiting_mut());
        let waiting = queued.or_else(|| sent.find(|waiting| waiting.place.id == id))?;
        waiting.row.is_some().then_some(waiting)
    }
}

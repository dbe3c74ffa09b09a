//! Stanzas that were sent to another server, until it says that it has handled them: by stream management
//! (XEP-0198) where the stream has that, and else by answering pings ([`super::pinged`]).
//!
//! What a broken stream leaves open is sent again on the next one, in front of what waits: a message or
//! presence may arrive twice, and is never lost silently. A request goes back to its sender instead, who
//! can tell better whether to do it again.

use std::time::Duration;

use super::link::Waiting;
use super::pinged::{Habit, Pinged, Rest};
use super::{Link, Objection, pinging, sending};
use crate::clock::Mono;
use crate::router::Router;
use crate::router::management::{Bounds, Cadence, Nonza, Unacknowledged};
use crate::router::settlement::Ticket;
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

/// What was sent on one stream and is not acknowledged.
#[derive(Debug)]
pub(super) struct Sent {
    /// The connection of that stream. Another one may write for the link before (XEP-0288).
    pub conn: Key,
    pub receipt: Receipt,
    /// The error by which the peer has ended it; its end is on its way.
    pub objection: Option<Objection>,
}

/// How the peer says what it has handled.
#[derive(Debug)]
pub(super) enum Receipt {
    /// By counting.
    Managed(Managed),
    /// By answering pings.
    Pinged(Pinged<Waiting>),
}

/// What was sent on a stream with stream management.
#[derive(Debug)]
pub(super) struct Managed {
    unacknowledged: Unacknowledged<Waiting>,
    /// Since when the answer to `<enable/>` is due; none once it is there.
    enabling: Option<Mono>,
    /// How long an answer may take.
    answer_wait: Duration,
    /// Whether its stream is being ended since the peer does not answer.
    is_given_up: bool,
}

impl Sent {
    pub fn len(&self) -> usize {
        match &self.receipt {
            Receipt::Managed(managed) => managed.unacknowledged.len(),
            Receipt::Pinged(pinged) => pinged.len(),
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.receipt {
            Receipt::Managed(managed) => managed.unacknowledged.bytes(),
            Receipt::Pinged(pinged) => pinged.bytes(),
        }
    }

    /// When there is something to be done: to ask, or to give the stream up.
    pub fn next_due(&self, habit: Habit) -> Option<Mono> {
        match &self.receipt {
            Receipt::Managed(managed) => managed.next_due(),
            Receipt::Pinged(pinged) => pinged.next_due(habit),
        }
    }

    fn waiting(&self) -> Box<dyn Iterator<Item = &Waiting> + '_> {
        match &self.receipt {
            Receipt::Managed(managed) => Box::new(managed.unacknowledged.waiting()),
            Receipt::Pinged(pinged) => Box::new(pinged.waiting()),
        }
    }

    fn waiting_mut(&mut self) -> Box<dyn Iterator<Item = &mut Waiting> + '_> {
        match &mut self.receipt {
            Receipt::Managed(managed) => Box::new(managed.unacknowledged.waiting_mut()),
            Receipt::Pinged(pinged) => Box::new(pinged.waiting_mut()),
        }
    }
}

impl Managed {
    /// Whether the peer has agreed to count.
    pub fn is_enabled(&self) -> bool {
        self.enabling.is_none()
    }

    fn next_due(&self) -> Option<Mono> {
        if self.is_given_up {
            return None;
        }
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
                if let Some(managed) = self.managed_mut(key, conn) {
                    managed.enabling = None;
                    self.ask_if_due(key);
                    self.peers.arm_again(key);
                }
            }
            LinkNews::Failed => {
                // It is pinged about that instead.
                let sent = self.peers.change(key, |link| link.take_sent(conn));
                if let Some(Receipt::Managed(managed)) = sent.flatten().map(|sent| sent.receipt) {
                    for waiting in managed.unacknowledged.into_waiting() {
                        self.keep_sent(key, conn, waiting);
                    }
                }
                self.drain_link(key);
            }
            LinkNews::Acknowledged(h) => self.link_acknowledged(key, conn, h),
        }
    }

    fn managed_mut(&mut self, key: Key, conn: Key) -> Option<&mut Managed> {
        let link = self.peers.links.get_mut(key)?;
        match &mut link.sent_by_mut(conn)?.receipt {
            Receipt::Managed(managed) => Some(managed),
            Receipt::Pinged(_) => None,
        }
    }

    /// How long the peer of a link may take to answer.
    fn answer_wait(&self, key: Key) -> Duration {
        let link = self.peers.links.get(key);
        let local = link.and_then(|link| self.settings.served(link.local.as_str()));
        Duration::from_secs(local.map_or(0, |domain| domain.s2s.ack_timeout_seconds))
    }

    fn count_sent(&mut self, key: Key, conn: Key) {
        let now = self.now.mono;
        let answer_wait = self.answer_wait(key);
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        debug_assert!(link.sent_by(conn).is_none(), "stanzas follow this");
        link.sent.push(Sent {
            conn,
            receipt: Receipt::Managed(Managed {
                unacknowledged: Unacknowledged::new(Bounds::PEER, Cadence::PEER),
                enabling: Some(now),
                answer_wait,
                is_given_up: false,
            }),
            objection: None,
        });
        self.peers.arm_again(key);
    }

    /// Keeps a stanza that was just written until it is received. What nobody will say that of is
    /// settled.
    pub(super) fn keep_sent(&mut self, key: Key, conn: Key, mut waiting: Waiting) {
        let now = self.now.mono;
        let answer_wait = self.answer_wait(key);
        let has_place = !self.peers.is_over(waiting.sender, waiting.bytes);
        let Some(link) = self.peers.links.get(key) else {
            debug_assert!(false, "the link was there a moment ago");
            self.acknowledged(key, waiting);
            return;
        };
        if !link.says_received(conn) {
            // Its sender would be held up by a server that may never answer.
            let ticket = std::mem::replace(&mut waiting.routed.ticket, Ticket::none());
            self.out.settle(ticket);
        }
        let settled = self.peers.change(key, |link| {
            link.keep(conn, waiting, has_place, answer_wait, now)
        });
        for waiting in settled.into_iter().flatten() {
            self.acknowledged(key, waiting);
        }
        self.ask_if_due(key);
        self.peers.arm_again(key);
    }

    /// Asks the peer what it has handled, if it is time to.
    pub(super) fn ask_if_due(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        for sent in &mut link.sent {
            if let Receipt::Managed(managed) = &mut sent.receipt
                && managed.enabling.is_none()
                && !managed.is_given_up
                && managed.unacknowledged.is_request_due(now)
                && let Some(output) = self.out.outputs.append(sent.conn)
            {
                Nonza::Request.write(output);
                managed.unacknowledged.request(now);
            }
        }
        self.ping_if_due(key);
    }

    /// Ends the streams of a peer that does not say what it has handled: it is dead, or does not read.
    pub(super) fn end_if_silent(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let mut silent = Vec::new();
        for sent in &mut link.sent {
            if let Receipt::Managed(managed) = &mut sent.receipt
                && !managed.is_given_up
                && managed.silent_at().is_some_and(|at| at <= now)
            {
                // Its end comes back as `link_ended`.
                managed.is_given_up = true;
                silent.push((sent.conn, sent.len()));
            }
        }
        for (conn, unacknowledged) in silent {
            self.give_up(key, conn, unacknowledged);
        }
    }

    /// Ends a stream whose peer does not answer.
    pub(super) fn give_up(&mut self, key: Key, conn: Key, unacknowledged: usize) {
        if let Some(link) = self.peers.links.get(key) {
            ::log::info!(
                from:% = link.local, to:% = link.remote, unacknowledged;
                "server does not answer, its stream is given up"
            );
        }
        let text = "You have not acknowledged what you were sent in time";
        let error = StreamError::new(StreamCondition::ConnectionTimeout, text);
        self.out.ends.push((conn, error));
    }

    fn link_acknowledged(&mut self, key: Key, conn: Key, h: u32) {
        let now = self.now.mono;
        let done = self
            .peers
            .change(key, |link| match &mut link.sent_by_mut(conn)?.receipt {
                Receipt::Managed(managed) => Some(managed.unacknowledged.acknowledge(h, now)),
                Receipt::Pinged(_) => None,
            });
        match done.flatten() {
            None => {}
            Some(Ok(done)) => self.received(key, done),
            Some(Err(too_high)) => self.out.ends.push((conn, too_high.stream_error())),
        }
    }

    /// The peer of a link has received what it was sent.
    pub(super) fn received(&mut self, key: Key, done: impl IntoIterator<Item = Waiting>) {
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

    pub(super) fn acknowledged(&mut self, key: Key, waiting: Waiting) {
        if let Some(link) = self.peers.links.get_mut(key) {
            link.note_received(1);
        }
        self.end_peer_row(key, &waiting);
        self.drop_routed(waiting.routed);
    }

    /// Takes back what the stream of a link leaves open at its end.
    pub(super) fn take_back(&mut self, key: Key, conn: Key) {
        let now = self.now.mono;
        let rest = self.peers.change(key, |link| {
            let sent = link.take_sent(conn)?;
            let rest = match sent.receipt {
                Receipt::Managed(managed) => {
                    Rest::Open(managed.unacknowledged.into_waiting().collect())
                }
                Receipt::Pinged(pinged) => pinged.end(&mut link.habit, now),
            };
            Some((rest, sent.objection))
        });
        match rest.flatten() {
            None => {}
            Some((Rest::Settled(settled), _)) => self.never_answered(key, settled),
            Some((Rest::Open(open), objection)) => self.send_again(key, open, objection),
        }
    }

    fn send_again(&mut self, key: Key, open: Vec<Waiting>, objection: Option<Objection>) {
        let (requests, mut again): (Vec<_>, Vec<_>) = open.into_iter().partition(is_request);
        if let Some(objection) = objection {
            again = self.blame(key, again, requests.is_empty(), &objection);
        }
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
    /// The connections that keep what they have written until it is acknowledged.
    pub fn streams(&self) -> impl Iterator<Item = Key> {
        self.sent.iter().map(|sent| sent.conn)
    }

    /// The stanzas that were sent and are not acknowledged, in their order on each stream.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &Stanza> {
        let waiting = self.sent.iter().flat_map(Sent::waiting);
        waiting.map(|waiting| &waiting.routed.stanza)
    }

    pub(super) fn sent_by(&self, conn: Key) -> Option<&Sent> {
        self.sent.iter().find(|sent| sent.conn == conn)
    }

    pub(super) fn sent_by_mut(&mut self, conn: Key) -> Option<&mut Sent> {
        self.sent.iter_mut().find(|sent| sent.conn == conn)
    }

    fn take_sent(&mut self, conn: Key) -> Option<Sent> {
        let index = self.sent.iter().position(|sent| sent.conn == conn)?;
        Some(self.sent.swap_remove(index))
    }

    /// Whether a stanza for that stream has to wait until others are acknowledged.
    pub(super) fn is_full(&self, conn: Key, bytes: usize) -> bool {
        let is_full = self.sent_by(conn).is_some_and(|sent| match &sent.receipt {
            Receipt::Managed(managed) => managed.unacknowledged.is_full(bytes),
            Receipt::Pinged(pinged) => pinged.is_full(self.habit, bytes),
        });
        is_full || self.waits_singly(conn)
    }

    /// Whether what is written to that stream is sure to be acknowledged, if the peer lives.
    pub(super) fn says_received(&self, conn: Key) -> bool {
        let is_managed = |sent: &Sent| matches!(sent.receipt, Receipt::Managed(_));
        self.habit == Habit::Answers || self.sent_by(conn).is_some_and(is_managed)
    }

    /// Keeps what was just written to a stream, and gives what is settled by that.
    fn keep(
        &mut self,
        conn: Key,
        waiting: Waiting,
        has_place: bool,
        answer_wait: Duration,
        now: Mono,
    ) -> Vec<Waiting> {
        let (bytes, habit) = (waiting.bytes, self.habit);
        let is_answer = pinging::is_answer(&waiting.routed.stanza);
        let is_kept = habit == Habit::Answers || has_place;
        let index = self.sent.iter().position(|sent| sent.conn == conn);
        let index = index.unwrap_or_else(|| {
            let receipt = Receipt::Pinged(Pinged::new(answer_wait));
            self.sent.push(Sent {
                conn,
                receipt,
                objection: None,
            });
            self.sent.len() - 1
        });
        match self.sent.get_mut(index).map(|sent| &mut sent.receipt) {
            Some(Receipt::Managed(managed)) => {
                let kept = managed.unacknowledged.push(waiting, bytes, now);
                kept.err().into_iter().collect()
            }
            // To answer a ping and ask whether that came would go on for ever.
            Some(Receipt::Pinged(pinged)) if is_kept && !is_answer => {
                let kept = pinged.keep(habit, waiting, bytes, now);
                kept.unwrap_or_else(|waiting| vec![waiting])
            }
            _ => vec![waiting],
        }
    }

    /// The stanza that has a row of that number.
    pub(super) fn by_row(&mut self, id: i64) -> Option<&mut Waiting> {
        let queued = self.queue.by_id(id);
        let mut sent = self.sent.iter_mut().flat_map(Sent::waiting_mut);
        let waiting = queued.or_else(|| sent.find(|waiting| waiting.place.id == id))?;
        waiting.row.is_some().then_some(waiting)
    }
}

//! What was sent and not yet acknowledged, in order, and when to ask the peer about it (XEP-0198 §4).

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::limits::{
    PEER_REQUEST_BYTES, PEER_REQUEST_DELAY, PEER_REQUEST_STANZAS, PEER_UNACKNOWLEDGED_BYTES_MAX,
    PEER_UNACKNOWLEDGED_STANZAS_MAX,
};
use crate::ns;
use crate::stanza::{StreamCondition, StreamError};
use crate::xml::Element;

/// The outbound side of a stream with stream management. `T` is what is kept of a stanza: enough to
/// send it again, or to return it.
#[derive(Debug)]
pub struct Unacknowledged<T> {
    bounds: Bounds,
    cadence: Cadence,
    /// Stanzas that were acknowledged, since counting began.
    acknowledged: u64,
    waiting: VecDeque<Waiting<T>>,
    bytes: usize,
    /// Of those that wait, the last so many came after the last request.
    unasked: usize,
    unasked_bytes: usize,
    /// Since when something waits that no request under way is about.
    since: Option<Mono>,
    /// When the request was sent that is not answered.
    asked: Option<Mono>,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    bytes: usize,
}

/// How much may wait for acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Stanzas.
    pub stanzas_max: usize,
    /// Bytes of them. A single one that is larger has place all the same.
    pub bytes_max: usize,
}

/// When `<r/>` is sent: after so much, whichever comes first. Only one is under way at a time, so on a
/// busy stream there is one for each round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Stanzas since the last one.
    pub stanzas: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// The time that the oldest of them waits, or that the last answer left something out.
    pub delay: Duration,
}

impl Bounds {
    /// Of a stream to a peer server.
    pub const PEER: Bounds = Bounds {
        stanzas_max: PEER_UNACKNOWLEDGED_STANZAS_MAX,
        bytes_max: PEER_UNACKNOWLEDGED_BYTES_MAX,
    };
}

impl Cadence {
    /// Of a stream to a peer server.
    pub const PEER: Cadence = Cadence {
        stanzas: PEER_REQUEST_STANZAS,
        bytes: PEER_REQUEST_BYTES,
        delay: PEER_REQUEST_DELAY,
    };
}

/// The peer has acknowledged what it was not sent, or taken back what it had acknowledged: modulo 2^32
/// that is the same (XEP-0198 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooHigh {
    /// What it said.
    pub h: u32,
    /// What it was sent.
    pub sent: u32,
}

impl TooHigh {
    /// How the stream ends.
    pub fn stream_error(self) -> StreamError {
        let TooHigh { h, sent } = self;
        let element = Element::new(ns::STREAM_MANAGEMENT, "handled-count-too-high");
        let element = element.attr("h", h.to_string());
        let text = format!("You have acknowledged stanza {h}, but {sent} is the last one sent");
        StreamError::new(StreamCondition::UndefinedCondition, text)
            .with_application(element.attr("send-count", sent.to_string()))
    }
}

impl<T> Unacknowledged<T> {
    /// Nothing is sent yet: when `<enable/>` or `<enabled/>` has been sent.
    pub fn new(bounds: Bounds, cadence: Cadence) -> Unacknowledged<T> {
        Unacknowledged {
            bounds,
            cadence,
            acknowledged: 0,
            waiting: VecDeque::new(),
            bytes: 0,
            unasked: 0,
            unasked_bytes: 0,
            since: None,
            asked: None,
        }
    }

    /// Whether a stanza of that size has no place.
    pub fn is_full(&self, bytes: usize) -> bool {
        let is_over = self.bytes.saturating_add(bytes) > self.bounds.bytes_max;
        self.waiting.len() >= self.bounds.stanzas_max || (is_over && !self.waiting.is_empty())
    }

    /// Keeps a stanza that is sent next.
    ///
    /// # Errors
    /// Gives it back if it has no place. It must not be sent then: the peer would count it.
    pub fn push(&mut self, item: T, bytes: usize, now: Mono) -> Result<(), T> {
        if self.is_full(bytes) {
            return Err(item);
        }
        self.waiting.push_back(Waiting { item, bytes });
        self.bytes += bytes;
        self.unasked += 1;
        self.unasked_bytes += bytes;
        self.since.get_or_insert(now);
        Ok(())
    }

    /// Takes the `h` of an `<a/>`, and gives what it acknowledges, in the order in which it was sent.
    ///
    /// # Errors
    /// [`TooHigh`]; nothing is changed.
    pub fn acknowledge(
        &mut self,
        h: u32,
        now: Mono,
    ) -> Result<impl Iterator<Item = T> + use<T>, TooHigh> {
        // Cut on purpose: h is modulo 2^32, and far fewer can wait.
        let count = h.wrapping_sub(self.acknowledged as u32) as usize;
        if count > self.waiting.len() {
            let sent = self.sent() as u32;
            return Err(TooHigh { h, sent });
        }
        let rest = self.waiting.split_off(count);
        let done = std::mem::replace(&mut self.waiting, rest);
        self.bytes -= done.iter().map(|waiting| waiting.bytes).sum::<usize>();
        self.acknowledged += count as u64;
        self.unasked = self.unasked.min(self.waiting.len());
        self.unasked_bytes = self.unasked_bytes.min(self.bytes);
        self.asked = None;
        if self.waiting.is_empty() {
            self.since = None;
        } else {
            self.since.get_or_insert(now);
        }
        Ok(done.into_iter().map(|waiting| waiting.item))
    }

    /// Takes out the one that has waited longest, as if it were acknowledged: another one needs its place.
    pub fn release_first(&mut self) -> Option<T> {
        let Waiting { item, bytes } = self.waiting.pop_front()?;
        self.bytes -= bytes;
        self.acknowledged += 1;
        self.unasked = self.unasked.min(self.waiting.len());
        self.unasked_bytes = self.unasked_bytes.min(self.bytes);
        self.since = self.since.filter(|_| !self.waiting.is_empty());
        Some(item)
    }

    /// The stream goes on as another one (XEP-0198 §5). Takes the `h` of `<resume/>` or `<resumed/>` as
    /// [`Unacknowledged::acknowledge`] does; what [`Unacknowledged::waiting`] gives then is to be sent
    /// again, before anything else.
    ///
    /// # Errors
    /// [`TooHigh`]; nothing is changed.
    pub fn resume(
        &mut self,
        h: u32,
        now: Mono,
    ) -> Result<impl Iterator<Item = T> + use<T>, TooHigh> {
        let done = self.acknowledge(h, now)?;
        self.unasked = self.waiting.len();
        self.unasked_bytes = self.bytes;
        self.since = (!self.waiting.is_empty()).then_some(now);
        Ok(done)
    }

    /// What waits, in the order in which it was sent.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.waiting.iter().map(|waiting| &waiting.item)
    }

    /// The same, to be changed.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.waiting.iter_mut().map(|waiting| &mut waiting.item)
    }

    /// The stream is over: what is to be sent again elsewhere or returned, in the order in which it was
    /// sent.
    pub fn into_waiting(self) -> impl Iterator<Item = T> {
        self.waiting.into_iter().map(|waiting| waiting.item)
    }

    /// When `<r/>` is to be sent; none while one is under way, or there is nothing to ask about.
    pub fn request_at(&self) -> Option<Mono> {
        let since = self.since.filter(|_| self.asked.is_none())?;
        let is_much =
            self.unasked >= self.cadence.stanzas || self.unasked_bytes >= self.cadence.bytes;
        let delay = if is_much {
            Duration::ZERO
        } else {
            self.cadence.delay
        };
        Some(since + delay)
    }

    /// Whether `<r/>` is to be sent now.
    pub fn is_request_due(&self, now: Mono) -> bool {
        self.request_at().is_some_and(|at| at <= now)
    }

    /// `<r/>` is sent, when it is due or at any other time.
    pub fn request(&mut self, now: Mono) {
        self.asked.get_or_insert(now);
        self.since = None;
        self.unasked = 0;
        self.unasked_bytes = 0;
    }

    /// Since when the peer owes an answer to `<r/>`. Who owes it for long is gone.
    pub fn asked_at(&self) -> Option<Mono> {
        self.asked
    }

    /// How many stanzas were sent since counting began.
    pub fn sent(&self) -> u64 {
        self.acknowledged + self.waiting.len() as u64
    }

    /// How many of them are acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many stanzas wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether everything is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of what waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// As after so many stanzas that were acknowledged.
    #[cfg(test)]
    pub(super) fn after(mut self, acknowledged: u64) -> Unacknowledged<T> {
        self.acknowledged = acknowledged;
        self
    }
}

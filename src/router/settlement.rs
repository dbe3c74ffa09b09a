//! Settlement: each stanza of a session, of another server or of a component has a ticket, and whoever
//! ends the stanza's way hands the ticket back (`Settlement` in lib.rs). `h` of XEP-0198 is the
//! length of the settled prefix.

use std::collections::VecDeque;

use crate::limits::{
    UNSETTLED_BYTES_MAX, UNSETTLED_REQUESTS_MAX, UNSETTLED_SPAN_MAX, UNSETTLED_STANZAS_MAX,
};
use crate::slots::Key;

/// Which stanza of whom, on which shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The shard that owns the source.
    pub shard: u32,
    /// Who has sent it.
    pub source: Source,
    /// The stanza's number there, from 1.
    pub seq: u64,
}

/// Who sends stanzas to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A session of a client.
    Session(Key),
    /// The stream of another server.
    Peer(Key),
    /// The stream of a component.
    Component(Key),
}

/// The right and duty to settle one stanza, once. A stanza that the server makes itself carries an
/// empty ticket. Debug builds panic when a ticket is dropped unsettled, so that each test proves the
/// duty.
#[must_use = "a ticket is settled, never dropped"]
#[derive(Debug)]
pub struct Ticket(Option<Origin>);

impl Ticket {
    /// The ticket of a stanza that nobody waits for.
    pub const fn none() -> Ticket {
        Ticket(None)
    }

    /// The ticket of a session's stanza.
    pub const fn new(origin: Origin) -> Ticket {
        Ticket(Some(origin))
    }

    /// Gives the ticket up for who must be told.
    pub fn redeem(mut self) -> Option<Origin> {
        self.0.take()
    }

    /// Whether nobody waits for the settlement: the server has made the stanza itself.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// The session that waits for the settlement, on the shard that owns it.
    pub fn session(&self) -> Option<Key> {
        match self.0?.source {
            Source::Session(session) => Some(session),
            Source::Peer(_) | Source::Component(_) => None,
        }
    }

    /// Lets the ticket go at the process's end, when nobody is left to be told.
    pub fn abandon(mut self) {
        self.0 = None;
    }
}

/// Whether a shard has ended: the process is about to.
#[cfg(debug_assertions)]
static IS_ENDING: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Says that the process ends. Stanzas on their way to a shard that is gone are nobody's any more.
pub fn process_ends() {
    #[cfg(debug_assertions)]
    IS_ENDING.store(true, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(debug_assertions)]
impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(origin) = self.0
            && !std::thread::panicking()
            && !IS_ENDING.load(std::sync::atomic::Ordering::Relaxed)
        {
            panic!("the stanza {origin:?} was dropped unsettled");
        }
    }
}

/// The stanzas of one session, or of the stream of another server or a component, whose way has not
/// ended.
#[derive(Debug, Default)]
pub struct Unsettled {
    settled_prefix: u64,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    open: usize,
    open_requests: usize,
}

#[derive(Debug)]
struct Waiting {
    size: u32,
    settled: bool,
    is_request: bool,
}

impl Unsettled {
    /// Numbers the next stanza, `size` bytes long. A request is an IQ that will be answered.
    pub fn issue(&mut self, size: usize, is_request: bool) -> u64 {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.waiting.push_back(Waiting {
            size,
            settled: false,
            is_request,
        });
        self.bytes += size as usize;
        self.open += 1;
        self.open_requests += usize::from(is_request);
        self.settled_prefix + self.waiting.len() as u64
    }

    /// Marks a stanza as settled. False if it was so before or was never issued: a mistake of ours.
    pub fn settle(&mut self, seq: u64) -> bool {
        let Some(index) = seq.checked_sub(self.settled_prefix + 1) else {
            return false;
        };
        let Some(entry) = usize::try_from(index)
            .ok()
            .and_then(|index| self.waiting.get_mut(index))
        else {
            return false;
        };
        if entry.settled {
            return false;
        }
        entry.settled = true;
        self.bytes -= entry.size as usize;
        self.open -= 1;
        self.open_requests -= usize::from(entry.is_request);
        while self.waiting.front().is_some_and(|entry| entry.settled) {
            self.waiting.pop_front();
            self.settled_prefix += 1;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > 32 {
            self.waiting = VecDeque::new();
        }
        true
    }

    /// How many stanzas were numbered.
    pub fn issued(&self) -> u64 {
        self.settled_prefix + self.waiting.len() as u64
    }

    /// The length of the settled prefix: `h` of XEP-0198 §4.
    pub fn settled_prefix(&self) -> u64 {
        self.settled_prefix
    }

    /// Whether the session's socket is to be left unread (`Backpressure` in lib.rs).
    pub fn is_full(&self) -> bool {
        self.open > UNSETTLED_STANZAS_MAX
            || self.open_requests >= UNSETTLED_REQUESTS_MAX
            || self.bytes > UNSETTLED_BYTES_MAX
            || self.waiting.len() > UNSETTLED_SPAN_MAX
    }

    /// How many stanzas are open.
    pub fn open(&self) -> usize {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_grows_only_without_gaps() {
        let mut unsettled = Unsettled::default();
        let seqs: Vec<u64> = (0..4).map(|_| unsettled.issue(10, false)).collect();
        assert_eq!(seqs, [1, 2, 3, 4]);
        assert!(unsettled.settle(2));
        assert_eq!(unsettled.settled_prefix(), 0);
        assert!(unsettled.settle(1));
        assert_eq!(unsettled.settled_prefix(), 2);
        assert!(unsettled.settle(4));
        assert!(unsettled.settle(3));
        assert_eq!(unsettled.settled_prefix(), 4);
        assert_eq!(unsettled.issue(1, false), 5);
    }

    #[test]
    fn a_stanza_settles_once() {
        let mut unsettled = Unsettled::default();
        let seq = unsettled.issue(10, false);
        unsettled.issue(10, false);
        assert!(unsettled.settle(seq));
        assert!(!unsettled.settle(seq));
        assert!(!unsettled.settle(0));
        assert!(!unsettled.settle(9));
    }

    #[test]
    fn more_than_256_stanzas_or_a_mebibyte_hold_the_socket() {
        let mut unsettled = Unsettled::default();
        for _ in 0..256 {
            unsettled.issue(1, false);
        }
        assert!(!unsettled.is_full());
        unsettled.issue(1, false);
        assert!(unsettled.is_full());
        assert!(unsettled.settle(100));
        assert!(!unsettled.is_full());
        unsettled.issue(UNSETTLED_BYTES_MAX, false);
        assert!(unsettled.is_full());
    }

    /// Each may be answered by a hundred KiB.
    #[test]
    fn a_few_requests_without_an_answer_hold_the_socket() {
        let mut unsettled = Unsettled::default();
        let mut requests = Vec::new();
        for _ in 0..UNSETTLED_REQUESTS_MAX {
            assert!(!unsettled.is_full());
            unsettled.issue(1, false);
            requests.push(unsettled.issue(1, true));
        }
        assert!(unsettled.is_full());
        assert!(unsettled.settle(requests[7]));
        assert!(!unsettled.is_full());
        unsettled.issue(1, false);
        assert!(!unsettled.is_full());
        unsettled.issue(1, true);
        assert!(unsettled.is_full());
    }

    #[test]
    fn one_stanza_that_waits_does_not_let_later_ones_pile_up() {
        let mut unsettled = Unsettled::default();
        let first = unsettled.issue(1, false);
        let mut later = 0;
        while !unsettled.is_full() {
            let seq = unsettled.issue(1, false);
            assert!(unsettled.settle(seq));
            later += 1;
        }
        assert_eq!(later, UNSETTLED_SPAN_MAX);
        assert!(unsettled.settle(first));
        assert!(!unsettled.is_full());
        assert_eq!(unsettled.settled_prefix(), later as u64 + 1);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "dropped unsettled")]
    fn a_dropped_ticket_is_noticed() {
        let mut slots = crate::slots::Slots::default();
        let session = slots.insert(());
        drop(Ticket::new(Origin {
            shard: 0,
            source: Source::Session(session),
            seq: 1,
        }));
    }
}

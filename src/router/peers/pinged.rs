//! Receipt by pings (XEP-0199 §4.3): a server without stream management is pinged behind what it was
//! sent, and has that when it answers, since it processes in order (RFC 6120 §10.1). Knows no streams.
//!
//! A request must be answered (RFC 6120 §8.2.3), and not all answers come: servers are broken, or cannot
//! reach this one. So a server that was never heard to answer is not given up for it. What it is sent is
//! kept while it is tried; it is not held up by what has no place; and after some tries what is written
//! to it counts as received, as if there were no pings. Who has answered and stops to is dead.
//!
//! Each pair of domains pings for itself, also where several go by one stream: no server need process
//! them in the order in which they come.

use std::time::Duration;

use crate::clock::Mono;
use crate::limits::{
    PEER_PING_FAIR, PEER_PING_PROBE_EVERY, PEER_PINGS_MAX, PEER_PINGS_UNANSWERED_MAX,
};
use crate::router::management::{Bounds, Cadence, Unacknowledged};

/// What is known of a server's answers to pings, from one stream to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// It has answered none since it was last tried, and has let so many go by.
    Unknown { unanswered: u32 },
    /// It answers.
    Answers,
    /// It answers none.
    Silent,
}

impl Default for Habit {
    fn default() -> Habit {
        Habit::Unknown { unanswered: 0 }
    }
}

/// What was sent on one stream, until it is received.
#[derive(Debug)]
pub(super) struct Pinged<T> {
    unacknowledged: Unacknowledged<T>,
    /// Those under way, and after some tries those that were given up.
    pings: Vec<Ping>,
    /// How long an answer may take.
    wait: Duration,
    /// When a server that answers no pings is to be tried again.
    probe_at: Option<Mono>,
    probed: Option<Mono>,
}

#[derive(Debug)]
struct Ping {
    id: u64,
    /// How many stanzas were sent before it.
    behind: u64,
    sent: Mono,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<T> {
    Nothing,
    /// Send a ping, and tell [`Pinged::ping`].
    Ping,
    /// The server answers no pings: this counts as received.
    Settle(Vec<T>),
    /// The server is dead: end its stream.
    GiveUp,
}

/// What becomes of what was not received when the stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest<T> {
    /// It is sent again, or goes back.
    Open(Vec<T>),
    /// The server answers no pings: it counts as received.
    Settled(Vec<T>),
}

impl<T> Pinged<T> {
    pub fn new(wait: Duration) -> Pinged<T> {
        Pinged {
            unacknowledged: Unacknowledged::new(Bounds::PEER, Cadence::PEER),
            pings: Vec::new(),
            wait,
            probe_at: None,
            probed: None,
        }
    }

    /// Whether a stanza has to wait until others are received.
    pub fn is_full(&self, habit: Habit, bytes: usize) -> bool {
        habit == Habit::Answers && self.unacknowledged.is_full(bytes)
    }

    /// Keeps what was just written. Gives what counts as received to make place for it.
    ///
    /// # Errors
    /// Gives it back if nobody will say that it was received, or it has no place.
    pub fn keep(&mut self, habit: Habit, item: T, bytes: usize, now: Mono) -> Result<Vec<T>, T> {
        if habit == Habit::Silent {
            let next = self.probed.map(|last| last + PEER_PING_PROBE_EVERY);
            self.probe_at
                .get_or_insert(next.map_or(now, |next| next.max(now)));
            return Err(item);
        }
        let mut released = Vec::new();
        while habit != Habit::Answers
            && self.unacknowledged.is_full(bytes)
            && let Some(first) = self.unacknowledged.release_first()
        {
            released.push(first);
        }
        self.unacknowledged.push(item, bytes, now)?;
        Ok(released)
    }

    /// When [`Pinged::step`] has something to do.
    pub fn next_due(&self, habit: Habit) -> Option<Mono> {
        if habit == Habit::Silent {
            return self.probe_at;
        }
        let (Some(first), Some(last)) = (self.pings.first(), self.pings.last()) else {
            return self.unacknowledged.request_at();
        };
        // An answer may get lost with the stream on which it comes: it is asked for twice in the time.
        let again = last.sent + self.wait / 2;
        Some(match habit {
            Habit::Answers => again.min(first.sent + self.wait),
            Habit::Unknown { .. } | Habit::Silent => again,
        })
    }

    /// Does what is due.
    pub fn step(&mut self, habit: &mut Habit, now: Mono) -> Step<T> {
        if self.next_due(*habit).is_none_or(|due| due > now) {
            return Step::Nothing;
        }
        let Some(first) = self.pings.first() else {
            return Step::Ping;
        };
        match habit {
            Habit::Answers if first.sent + self.wait <= now => {
                // Perhaps its answers alone do not arrive. Then it is not given up again and again, and
                // what it is sent not sent again each time: it has to answer first.
                *habit = Habit::Unknown { unanswered: 1 };
                self.pings.clear();
                Step::GiveUp
            }
            Habit::Answers | Habit::Silent => Step::Ping,
            Habit::Unknown { .. } => match goes_by(habit) {
                true => Step::Settle(self.release_all()),
                false => Step::Ping,
            },
        }
    }

    /// A ping has been sent.
    pub fn ping(&mut self, id: u64, now: Mono) {
        self.probe_at = None;
        self.probed = Some(now);
        self.unacknowledged.request(now);
        if self.pings.len() >= PEER_PINGS_MAX {
            self.pings.remove(0);
        }
        self.pings.push(Ping {
            id,
            behind: self.unacknowledged.sent(),
            sent: now,
        });
    }

    /// Takes the answer to a ping, and gives what is received by that, in the order in which it was sent.
    /// None if it was not sent here, or has been answered.
    pub fn answered(&mut self, habit: &mut Habit, id: u64, now: Mono) -> Option<Vec<T>> {
        let ping = self.pings.iter().find(|ping| ping.id == id)?;
        // What made place for others meanwhile is gone already.
        let received = ping.behind.max(self.unacknowledged.acknowledged());
        self.pings.clear();
        self.probe_at = None;
        *habit = Habit::Answers;
        // Cut on purpose: it is compared modulo 2^32.
        let done = self.unacknowledged.acknowledge(received as u32, now);
        debug_assert!(done.is_ok(), "no more is received than was sent");
        Some(done.into_iter().flatten().collect())
    }

    /// The stream has ended.
    pub fn end(mut self, habit: &mut Habit, now: Mono) -> Rest<T> {
        let fair = PEER_PING_FAIR.min(self.wait / 2);
        let is_ignored = |ping: &Ping| ping.sent + fair <= now;
        let is_unknown = matches!(habit, Habit::Unknown { .. });
        if is_unknown && self.pings.last().is_some_and(is_ignored) && goes_by(habit) {
            return Rest::Settled(self.release_all());
        }
        Rest::Open(self.unacknowledged.into_waiting().collect())
    }

    fn release_all(&mut self) -> Vec<T> {
        std::iter::from_fn(|| self.unacknowledged.release_first()).collect()
    }

    /// What is kept, in the order in which it was sent.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.unacknowledged.waiting()
    }

    /// The same, to be changed.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.unacknowledged.waiting_mut()
    }

    pub fn len(&self) -> usize {
        self.unacknowledged.len()
    }

    pub fn bytes(&self) -> usize {
        self.unacknowledged.bytes()
    }
}

/// A server that was not heard to answer has let one more ping go by. True if that was the last try.
fn goes_by(habit: &mut Habit) -> bool {
    if let Habit::Unknown { unanswered } = habit {
        *unanswered = unanswered.saturating_add(1);
        if *unanswered < PEER_PINGS_UNANSWERED_MAX {
            return false;
        }
        *habit = Habit::Silent;
    }
    true
}

#[cfg(test)]
mod tests;

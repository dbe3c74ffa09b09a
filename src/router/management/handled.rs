//! What we have handled of what the peer has sent, and when to say so (XEP-0198 §4).

use crate::clock::Mono;
use crate::limits::ACK_HOLD;

/// The inbound side of a stream with stream management.
///
/// Stanzas are numbered from 1 by whoever counts their settlement, also those that came before stream
/// management was enabled: `settled`, wherever it is asked for, is how long the settled prefix of all of
/// them is.
#[derive(Clone, Debug)]
pub struct Handled {
    /// Stanzas that came before.
    before: u64,
    /// The number of the last one that came.
    received: u64,
    /// What the last `<a/>` said, in the same numbers.
    said: u64,
    owed: Owed,
}

/// What the peer has asked for and not got.
#[derive(Clone, Copy, Debug)]
enum Owed {
    Nothing,
    /// An answer to a request that came then.
    Answer {
        asked: Mono,
        up_to: u64,
    },
    /// The answer said less than that, which is not handled yet.
    Rest {
        up_to: u64,
    },
}

impl Handled {
    /// Counting begins after so many stanzas: when `<enable/>` or `<enabled/>` has come.
    pub fn after(received: u64) -> Handled {
        Handled {
            before: received,
            received,
            said: received,
            owed: Owed::Nothing,
        }
    }

    /// A stanza has come, with this number.
    pub fn receive(&mut self, number: u64) {
        self.received = number;
    }

    /// `h`: how many stanzas are handled, modulo 2^32.
    pub fn h(&self, settled: u64) -> u32 {
        // Cut on purpose: XEP-0198 §4 has it start over at 2^32.
        settled.saturating_sub(self.before) as u32
    }

    /// `<r/>` has come. A second one before the answer is answered with it.
    pub fn request(&mut self, now: Mono) {
        let asked = match self.owed {
            Owed::Answer { asked, .. } => asked,
            Owed::Nothing | Owed::Rest { .. } => now,
        };
        self.owed = Owed::Answer {
            asked,
            up_to: self.received,
        };
    }

    /// When `<a/>` is to be sent; none if the peer waits for nothing.
    ///
    /// A request is answered as soon as all is handled that came before it, or after [`ACK_HOLD`]
    /// (§4: only a time-out may withhold it). If that says less, each step that follows is said.
    pub fn ack_at(&self, settled: u64, now: Mono) -> Option<Mono> {
        match self.owed {
            Owed::Nothing => None,
            Owed::Answer { up_to, .. } if settled >= up_to => Some(now),
            Owed::Answer { asked, .. } => Some(asked + ACK_HOLD),
            Owed::Rest { .. } => (settled > self.said).then_some(now),
        }
    }

    /// Whether `<a/>` is to be sent now.
    pub fn is_due(&self, settled: u64, now: Mono) -> bool {
        self.ack_at(settled, now).is_some_and(|at| at <= now)
    }

    /// What `<a/>`, `<resume/>` or `<resumed/>` says now, taken as said.
    pub fn say(&mut self, settled: u64) -> u32 {
        self.said = settled;
        self.owed = match self.owed {
            Owed::Answer { up_to, .. } | Owed::Rest { up_to } if up_to > settled => {
                Owed::Rest { up_to }
            }
            _ => Owed::Nothing,
        };
        self.h(settled)
    }

    /// What to say before the stream is closed, if it is news (§4: or the peer sends it again).
    pub fn farewell(&mut self, settled: u64) -> Option<u32> {
        (settled > self.said).then(|| self.say(settled))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Mono = Mono::from_millis(1_000);

    fn later() -> Mono {
        NOW + ACK_HOLD
    }

    #[test]
    fn stanzas_before_are_not_counted() {
        let mut handled = Handled::after(3);
        handled.receive(4);
        // The first three are not settled yet.
        assert_eq!(handled.h(1), 0);
        assert_eq!(handled.h(3), 0);
        assert_eq!(handled.h(4), 1);
    }

    /// XEP-0198 §4: from 2^32 - 1 back to zero.
    #[test]
    fn h_starts_over() {
        let handled = Handled::after(10);
        let wrap = 10 + (1 << 32);
        assert_eq!(handled.h(wrap - 1), u32::MAX);
        assert_eq!(handled.h(wrap), 0);
        assert_eq!(handled.h(wrap + 1), 1);
    }

    #[test]
    fn nothing_is_said_that_nobody_asked_for() {
        let mut handled = Handled::after(0);
        handled.receive(1);
        assert_eq!(handled.ack_at(1, NOW), None);
    }

    #[test]
    fn a_request_is_answered_at_once_if_all_is_handled() {
        let mut handled = Handled::after(0);
        handled.receive(1);
        handled.request(NOW);
        assert_eq!(handled.ack_at(1, NOW), Some(NOW));
        assert_eq!(handled.say(1), 1);
        assert_eq!(handled.ack_at(1, later()), None);
        // Again without news: it is answered all the same.
        handled.request(NOW);
        assert!(handled.is_due(1, NOW));
    }

    #[test]
    fn an_answer_waits_for_a_commit_and_no_longer() {
        let mut handled = Handled::after(0);
        handled.receive(1);
        handled.receive(2);
        handled.request(NOW);
        assert_eq!(handled.ack_at(0, NOW), Some(later()));
        assert!(!handled.is_due(1, NOW));
        // What comes after the request does not hold its answer up.
        handled.receive(3);
        assert!(handled.is_due(2, NOW));
        assert!(handled.is_due(1, later()));
        // A second request does not put it off.
        handled.request(NOW + Duration::from_millis(1));
        assert_eq!(handled.ack_at(1, NOW), Some(later()));
    }

    #[test]
    fn what_an_answer_left_out_follows_step_by_step() {
        let mut handled = Handled::after(0);
        for number in 1..=4 {
            handled.receive(number);
        }
        handled.request(NOW);
        assert_eq!(handled.say(1), 1);
        assert!(!handled.is_due(1, later()));
        assert!(handled.is_due(3, NOW));
        assert_eq!(handled.say(3), 3);
        assert!(!handled.is_due(3, later()));
        assert!(handled.is_due(4, NOW));
        assert_eq!(handled.say(4), 4);
        handled.receive(5);
        assert_eq!(handled.ack_at(5, later()), None);
    }

    #[test]
    fn a_farewell_has_news() {
        let mut handled = Handled::after(0);
        handled.receive(1);
        assert_eq!(handled.farewell(0), None);
        assert_eq!(handled.farewell(1), Some(1));
        assert_eq!(handled.farewell(1), None);
    }
}

//! Due times of a shard's connections. A due time that moved later is found out when the earlier one
//! comes, so that activity costs nothing here.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::Mono;
use crate::slots::Key;

/// Keys by the time at which to look at them.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Mono, Key)>>,
}

impl Timers {
    /// Looks at `key` at `due`.
    pub fn add(&mut self, due: Mono, key: Key) {
        self.heap.push(Reverse((due, key)));
    }

    /// The next key whose time has come, and that time.
    pub fn pop_due(&mut self, now: Mono) -> Option<(Mono, Key)> {
        let Reverse((due, _)) = self.heap.peek()?;
        if *due > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// When the next time comes.
    pub fn next(&self) -> Option<Mono> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    #[test]
    fn keys_come_in_the_order_of_their_times_and_never_early() {
        let mut slots = Slots::default();
        let keys: Vec<Key> = (0..3).map(|n| slots.insert(n)).collect();
        let mut timers = Timers::default();
        for (due, key) in [(30, keys[0]), (10, keys[1]), (20, keys[2])] {
            timers.add(Mono::from_millis(due), key);
        }
        assert_eq!(timers.pop_due(Mono::from_millis(9)), None);
        for (due, key) in [(10, keys[1]), (20, keys[2])] {
            let due = Mono::from_millis(due);
            assert_eq!(timers.pop_due(Mono::from_millis(25)), Some((due, key)));
        }
        assert_eq!(timers.pop_due(Mono::from_millis(25)), None);
        assert_eq!(timers.next(), Some(Mono::from_millis(30)));
    }
}

//! Connections whose parsers are given back when they have been silent for a while.

use std::collections::VecDeque;

use crate::clock::Mono;
use crate::limits::PARSER_REST_AFTER;
use crate::slots::Key;

/// Connections that have sent something, by the time at which they are looked at again. Each stands
/// here once, and a look costs the same whether it has sent one stanza since or a thousand.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    queue: VecDeque<(Mono, Key)>,
}

impl Watched {
    /// Looks at a connection after the time of silence.
    pub(crate) fn add(&mut self, key: Key, now: Mono) {
        self.queue.push_back((now + PARSER_REST_AFTER, key));
    }

    /// The next connection that is to be looked at.
    pub(crate) fn pop_due(&mut self, now: Mono) -> Option<Key> {
        let (due, _) = self.queue.front()?;
        if *due > now {
            return None;
        }
        self.queue.pop_front().map(|(_, key)| key)
    }

    /// When the next look is due.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.queue.front().map(|(due, _)| *due)
    }
}

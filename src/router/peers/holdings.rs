//! What waits for other servers, for those who count it themselves: the simulator holds the bounds, and the
//! counters that keep them, against it.

use super::{Link, Peers};
use crate::stanza::Stanza;

impl Link {
    /// The stanzas that wait for a stream, in their order.
    pub fn queued(&self) -> impl Iterator<Item = &Stanza> {
        self.queue.iter().map(|waiting| &waiting.routed.stanza)
    }
}

impl Peers {
    /// How many stanzas all links hold, and how many bytes of them, as the bounds see it.
    pub fn held(&self) -> (usize, usize) {
        (self.held.stanzas, self.held.bytes)
    }

    /// How many stanzas that other servers have sent are not settled.
    pub fn unsettled(&self) -> usize {
        let incoming = self.incoming.iter();
        incoming.map(|(_, it)| it.unsettled.open()).sum()
    }
}

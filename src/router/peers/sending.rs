//! The way of a stanza over a link: written to its stream, or kept until there is one.

use std::time::Duration;

use super::link::{self, Place, Stored, Waiting};
use super::sharing::{Sender, TooMuch};
use super::{Link, Peers, Way, pinging, unreachable_now};
use crate::limits::OUTPUT_HOLD_BYTES;
use crate::router::delivery::Routed;
use crate::router::settlement::Ticket;
use crate::router::{Router, RowContinuation};
use crate::slots::Key;
use crate::stanza::StanzaError;
use crate::storage::peer_queue::PeerMessage;
use crate::storage::{PeerDone, Row, StoreError};

impl Router {
    /// Takes a stanza for another server of this shard.
    pub(crate) fn send_by_link(&mut self, routed: Routed) {
        let stanza = &routed.stanza;
        let (Some(from), Some(to)) = (&stanza.from, &stanza.to) else {
            debug_assert!(false, "a routed stanza has addresses");
            self.out.settle(routed.ticket);
            return;
        };
        let domains = (from.to_domain(), to.to_domain());
        if self.is_ours(&domains.1) {
            // It was on its way to this shard when a reload made it ours.
            self.route(routed);
            return;
        }
        let (sender, bytes) = (self.sender_of(stanza), stanza.size());
        let known = self.peers.by_domains.get(&domains).copied();
        if known.is_none()
            && let Err(too_much) = self.peers.may_wait(None, sender, bytes)
        {
            self.reject(routed, too_much.to_error());
            return;
        }
        let Some(key) = self.peers.link(domains, sender) else {
            self.reject(routed, TooMuch::Links.to_error());
            return;
        };
        self.count_link(key, sender);
        let now = self.now.mono;
        let Some(link) = self.peers.links.get(key) else {
            return;
        };
        match &link.way {
            Way::Ready(conn)
                if link.queue.is_empty() && self.has_room(key, *conn, sender, bytes) =>
            {
                let conn = *conn;
                let waiting = self.waiting_of(key, sender, routed);
                if let Err(waiting) = self.write_to_peer(key, conn, waiting) {
                    self.wait_for_peer(key, waiting);
                }
            }
            Way::Resting(until, failure)
                if *until > now && (failure.is_final || !link::is_patient(&routed)) =>
            {
                let error = failure.to_error();
                self.reject(routed, error);
            }
            way => {
                let is_idle = matches!(way, Way::Idle);
                if let Err(too_much) = self.peers.may_wait(Some(key), sender, bytes) {
                    self.reject(routed, too_much.to_error());
                    return;
                }
                let waiting = self.waiting_of(key, sender, routed);
                self.wait_for_peer(key, waiting);
                if is_idle {
                    self.make_link(key);
                }
            }
        }
    }

    /// Counts a link to whom it counts now that this one sends by it.
    fn count_link(&mut self, key: Key, sender: Sender) {
        let is_another = self.peers.used_by(key, sender);
        let link = self.peers.links.get(key);
        if is_another && link.is_some_and(|link| matches!(link.way, Way::Making)) {
            // Should its turn not have come, it comes with those of the new one.
            self.out.dials.push(key);
        }
    }

    /// A stanza with its place behind all that came before, and the time for which it may wait.
    fn waiting_of(&mut self, key: Key, sender: Sender, routed: Routed) -> Waiting {
        let now = self.now;
        let link = self.peers.links.get(key);
        let local = link.and_then(|link| self.settings.served(link.local.as_str()));
        let message_wait = local.map_or(0, |domain| domain.s2s.message_wait_seconds);
        let wait = link::wait_of(&routed, Duration::from_secs(message_wait));
        let last = &mut self.peers.last_row;
        let micros = now.wall.micros().try_into().unwrap_or(i64::MAX);
        *last = last.saturating_add(1).max(micros);
        let place = Place {
            id: *last,
            came: now.wall,
        };
        let waiting = Waiting::new(routed, sender, place, now.mono + wait);
        // Until `end_peer_row`.
        self.peers.shares.take(sender, waiting.bytes);
        waiting
    }

    /// Whether the stream of a link takes so many bytes more: the socket, what may be unacknowledged on
    /// it, and what all links may hold and this sender on them.
    fn has_room(&self, key: Key, conn: Key, sender: Sender, bytes: usize) -> bool {
        let has_place = |link: &Link| {
            let is_over = link.says_received(conn) && self.peers.is_over(sender, bytes);
            !link.is_full(conn, bytes) && !is_over
        };
        self.out.outputs.len(conn) <= OUTPUT_HOLD_BYTES
            && self.peers.links.get(key).is_none_or(has_place)
    }

    /// Writes a stanza to the stream of a link, where it is kept until it is received
    /// (`Settlement` in lib.rs).
    ///
    /// # Errors
    /// Gives it back if the stream is over, the news of which is on its way.
    fn write_to_peer(&mut self, key: Key, conn: Key, waiting: Waiting) -> Result<(), Waiting> {
        let stanza = &waiting.routed.stanza;
        let outputs = &mut self.out.outputs;
        let output = match pinging::is_aside(stanza) {
            true => outputs.append_aside(conn),
            false => outputs.append(conn),
        };
        let Some(output) = output else {
            return Err(waiting);
        };
        stanza.write(output);
        self.keep_sent(key, conn, waiting);
        Ok(())
    }

    fn wait_for_peer(&mut self, key: Key, waiting: Waiting) {
        let until = waiting.until();
        let id = waiting.place.id;
        let is_patient = waiting.is_patient();
        self.peers.change(key, |link| link.queue.push(waiting));
        self.peers.arm(key, until);
        if is_patient {
            self.store_waiting(key, id);
        }
    }

    /// Has a message that waits outlive a crash.
    pub(super) fn store_waiting(&mut self, key: Key, id: i64) {
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let Some(waiting) = link.queue.by_id(id) else {
            return;
        };
        waiting.row = Some(Stored {
            is_committed: false,
        });
        let message = PeerMessage {
            id,
            local: link.local.clone(),
            remote: link.remote.clone(),
            came: waiting.place.came,
            stanza: waiting.routed.stanza.clone(),
        };
        let done = PeerDone {
            local: message.local.clone(),
            remote: message.remote.clone(),
            id,
        };
        let then: RowContinuation = Box::new(move |router, result| {
            router.peer_message_stored(key, done, result.is_ok());
            if let Err(error) = result {
                // It waits in memory all the same, and its sender with it.
                ::log::log!(error.level(), error:%; "message for another server not stored");
            }
        });
        self.row_then(Row::PeerQueued(Box::new(message)), then);
    }

    /// The row of a message that waits is committed: from now on it vouches for the message.
    fn peer_message_stored(&mut self, key: Key, done: PeerDone, is_stored: bool) {
        let link = self.peers.links.get_mut(key);
        match link.and_then(|link| link.by_row(done.id)) {
            Some(waiting) if is_stored => {
                waiting.row = Some(Stored { is_committed: true });
                let ticket = std::mem::replace(&mut waiting.routed.ticket, Ticket::none());
                self.out.settle(ticket);
            }
            Some(waiting) => waiting.row = None,
            // It has left the link meanwhile.
            None if is_stored => self.end_peer_message(done),
            None => {}
        }
    }

    pub(super) fn drain_link(&mut self, key: Key) {
        loop {
            let Some(link) = self.peers.links.get(key) else {
                return;
            };
            let (Way::Ready(conn), Some(bytes)) = (&link.way, link.queue.first_bytes()) else {
                return;
            };
            let conn = *conn;
            // What waits is counted already among what all links hold.
            if link.is_full(conn, bytes) || self.out.outputs.len(conn) > OUTPUT_HOLD_BYTES {
                return;
            }
            let first = self.peers.change(key, |link| link.queue.pop()).flatten();
            let Some(waiting) = first else {
                return;
            };
            if let Err(waiting) = self.write_to_peer(key, conn, waiting) {
                self.peers
                    .change(key, |link| link.queue.push_front(waiting));
                return;
            }
        }
    }

    /// A stanza has left its link: its sender has room for another one, and its row goes too. One whose
    /// commit is awaited goes after it.
    pub(super) fn end_peer_row(&mut self, key: Key, waiting: &Waiting) {
        self.peers.shares.give_back(waiting);
        let link = self.peers.links.get(key);
        if let Some(done) = link.and_then(|link| waiting.row_of(link)) {
            self.end_peer_message(done);
        }
    }

    /// Forgets the row of a message whose way has ended: it would go that way once more after a restart.
    pub(crate) fn end_peer_message(&mut self, done: PeerDone) {
        let row = Row::PeerDone(Box::new(done.clone()));
        let then: RowContinuation = Box::new(move |router, result| match result {
            // The next start has it sent again.
            Ok(()) | Err(StoreError::Stopped) => {}
            Err(error) => {
                ::log::log!(error.level(), to:% = done.remote, error:%;
                    "message for another server not deleted, it is tried again"
                );
                router.postponed.end_message_later(router.now.mono, done);
            }
        });
        self.row_then(row, then);
    }
}

impl Peers {
    /// Whether all links, or those of a sender, hold as much of what is sent as they may.
    pub(super) fn is_over(&self, sender: Sender, bytes: usize) -> bool {
        self.is_full(bytes) || !self.shares.may_send(sender, bytes)
    }
}

/// What the sender is told of a stanza that was on its way when the stream broke, and that must not be
/// sent twice.
pub(super) fn broken() -> StanzaError {
    unreachable_now().text("The connection to that server broke before it said that it has this")
}

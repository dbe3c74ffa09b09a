//! Messages that waited for other servers when this one ended, and wait again
//! (`Settlement` in lib.rs).
//!
//! They come before anything else that is sent on their links, since they are read before clients are let
//! in. Their time runs from when they first came, by the clock on the wall.

use std::time::Duration;

use super::link::{self, Place, Stored, Waiting};
use super::{Link, Way};
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::settlement::Ticket;
use crate::stanza::{Condition, StanzaError};
use crate::storage::PeerDone;
use crate::storage::peer_queue::PeerMessage;

impl Router {
    /// Has the messages wait again that waited when the server ended, in the order in which they came.
    pub fn restore_peer_messages(&mut self, messages: Vec<PeerMessage>) {
        for message in messages {
            self.restore_peer_message(message);
        }
    }

    fn restore_peer_message(&mut self, message: PeerMessage) {
        self.peers.last_row = self.peers.last_row.max(message.id);
        let left = match self.time_left(&message) {
            Ok(left) => left,
            Err(error) => {
                let routed = self.end_restored(message);
                self.reject(routed, error);
                return;
            }
        };
        if self.settings.served(message.remote.as_str()).is_some() {
            // It is one of ours since.
            let (routed, row) = parts(message);
            self.deliver_here(routed, Some(row));
            return;
        }
        let domains = (message.local.clone(), message.remote.clone());
        let sender = self.sender_of(&message.stanza);
        let Some(key) = self.peers.link(domains, sender) else {
            let routed = self.end_restored(message);
            self.reject(routed, super::unreachable_now());
            return;
        };
        let until = self.now.mono + left;
        let is_idle = |link: &Link| matches!(link.way, Way::Idle);
        let is_idle = self.peers.links.get(key).is_some_and(is_idle);
        let place = Place {
            id: message.id,
            came: message.came,
        };
        let routed = Routed::new(message.stanza, Ticket::none());
        let mut waiting = Waiting::new(routed, sender, place, until);
        waiting.row = Some(Stored { is_committed: true });
        // What is stored is never turned away, and counts to its sender as if it came now.
        self.peers.shares.take(sender, waiting.bytes);
        self.peers.used_by(key, sender);
        self.peers.change(key, |link| link.queue.push(waiting));
        self.peers.arm(key, until);
        if is_idle {
            self.make_link(key);
        } else {
            self.drain_link(key);
        }
    }

    /// For how long a message may still wait.
    ///
    /// # Errors
    /// What its sender is told, if it may not.
    fn time_left(&self, message: &PeerMessage) -> Result<Duration, StanzaError> {
        // The sender of a domain that is not served any more cannot be told: nobody hears this.
        let not_found =
            |text: &str| StanzaError::new(Condition::RemoteServerNotFound).text(text.to_owned());
        let local = self
            .settings
            .served(message.local.as_str())
            .ok_or_else(|| not_found("This server does not serve your domain any more"))?;
        if !local.s2s.enabled {
            return Err(not_found(super::NOT_ENABLED));
        }
        let whole = Duration::from_secs(local.s2s.message_wait_seconds);
        let left = whole.saturating_sub(self.now.wall.since(message.came));
        match left.is_zero() {
            true => Err(link::waited_too_long()),
            false => Ok(left),
        }
    }

    /// Forgets the row of a message that does not wait again.
    fn end_restored(&mut self, message: PeerMessage) -> Routed {
        let (routed, row) = parts(message);
        self.end_peer_message(row);
        routed
    }
}

/// The message, and the row that stands for it.
fn parts(message: PeerMessage) -> (Routed, PeerDone) {
    let PeerMessage {
        id,
        local,
        remote,
        came: _,
        stanza,
    } = message;
    let row = PeerDone { local, remote, id };
    (Routed::new(stanza, Ticket::none()), row)
}

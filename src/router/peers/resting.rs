//! Links that rest, and what ends that before their time.

use super::Way;
use crate::jid::Domain;
use crate::router::Router;
use crate::slots::Key;

impl Router {
    /// A server has proven itself on a stream of its own, so it is there: a link to it that rests since it
    /// was not reached is tried as soon as there is something to send. What it is answered would not wait.
    pub fn peer_reached_us(&mut self, local: Domain, remote: Domain) {
        let Some(&key) = self.peers.by_domains.get(&(local, remote)) else {
            return;
        };
        let Some(link) = self.peers.links.get(key) else {
            return;
        };
        if matches!(&link.way, Way::Resting(_, failure) if !failure.is_final) {
            self.end_rest(key);
        }
    }

    /// A reload may have changed whom policy refuses, where the DNS is asked, whose certificates are
    /// trusted and what we show ourselves: who was not reached may be reached now. What waits is tried
    /// at once, and what comes next at once as well.
    pub fn end_rests(&mut self) {
        let links = self.peers.links.iter();
        let resting: Vec<Key> = links
            .filter(|(_, link)| matches!(link.way, Way::Resting(..)))
            .map(|(key, _)| key)
            .collect();
        for key in resting {
            self.end_rest(key);
        }
    }

    fn end_rest(&mut self, key: Key) {
        // With nothing to send it is forgotten when its rest would have been over.
        self.peers.enter(key, Way::Idle);
        let link = self.peers.links.get(key);
        if link.is_some_and(|link| !link.queue.is_empty()) {
            self.make_link(key);
        }
    }
}

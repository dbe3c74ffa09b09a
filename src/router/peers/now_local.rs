//! What waits for a domain that is this server's own since a reload or a start: it is handled here
//! (RFC 6120 §10.5), and nobody is dialled for it.

use super::link::Waiting;
use super::{Link, Way};
use crate::jid::Domain;
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::slots::Key;
use crate::storage::PeerDone;

impl Router {
    /// A reload may have made remote domains ours: what waits for these goes its way here. Where a stream
    /// is there it ends before that does, with what is unacknowledged on it, so that the order stays.
    pub fn deliver_what_is_ours(&mut self) {
        let links = self.peers.links.iter();
        let ours: Vec<Key> = links
            .filter(|(_, link)| !matches!(link.way, Way::Ready(_)) && self.is_ours(&link.remote))
            .map(|(key, _)| key)
            .collect();
        for key in ours {
            self.deliver_queue(key);
        }
    }

    /// Whether a domain is served here, also by a component.
    pub(super) fn is_ours(&self, remote: &Domain) -> bool {
        self.settings.served(remote.as_str()).is_some()
    }

    /// Delivers here what waits on a link whose remote domain is ours. False if it is not.
    pub(super) fn deliver_if_ours(&mut self, key: Key) -> bool {
        let link = self.peers.links.get(key);
        let is_ours = link.is_some_and(|link| self.is_ours(&link.remote));
        if is_ours {
            self.deliver_queue(key);
        }
        is_ours
    }

    fn deliver_queue(&mut self, key: Key) {
        let Some(link) = self.peers.links.get(key) else {
            return;
        };
        if !link.queue.is_empty() {
            ::log::info!(
                from:% = link.local, to:% = link.remote, waiting = link.queue.len();
                "the server that was not reached is this one now"
            );
        }
        let waiting = self.peers.change(key, |link| link.queue.take_if(|_| true));
        for waiting in waiting.into_iter().flatten() {
            self.peers.shares.give_back(&waiting);
            let row = self
                .peers
                .links
                .get(key)
                .and_then(|link| waiting.row_of(link));
            self.deliver_here(waiting.routed, row);
        }
    }

    /// Routes what another server was to have. Its row goes some time later: what it is for here has to be
    /// committed first, or an end in between would lose it. After such an end it comes twice.
    pub(super) fn deliver_here(&mut self, routed: Routed, row: Option<PeerDone>) {
        if let Some(done) = row {
            self.postponed.end_message_later(self.now.mono, done);
        }
        self.route(routed);
    }
}

impl Waiting {
    /// The row that stands for it, if that is committed; one whose commit is awaited goes after it.
    pub(super) fn row_of(&self, link: &Link) -> Option<PeerDone> {
        self.row.filter(|row| row.is_committed).map(|_| PeerDone {
            local: link.local.clone(),
            remote: link.remote.clone(),
            id: self.place.id,
        })
    }
}

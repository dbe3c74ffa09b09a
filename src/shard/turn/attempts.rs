//! What came of attempts at streams with other servers, kept for `stanzad explain s2s`.

use std::net::SocketAddr;

use super::Shard;
use crate::clock::Wall;
use crate::router::peers::history::Attempt;
use crate::shard::Post;
use crate::slots::Key;
use crate::stream::peer_facts::{PeerDns, PeerQuestion};
use crate::stream::policy::s2s::Direction;
use crate::stream::s2s::Attempted;

impl Shard {
    /// Notes on the shard of the other server what came of an attempt at a stream with it.
    pub(super) fn attempted(&mut self, attempted: Attempted) {
        let Attempted {
            mut attempt,
            chain,
            dns,
        } = attempted;
        // A domain that a reload has taken away judges nobody any more.
        let local = self.generation.settings.served(attempt.local.as_str());
        if let (Some(chain), Some(local)) = (chain.filter(|chain| !chain.is_empty()), local) {
            let question = PeerQuestion {
                chain: &chain,
                direction: match attempt.is_dialled {
                    true => Direction::Dialled,
                    false => Direction::Accepted,
                },
                local,
                remote: &attempt.remote,
                dns: match local.s2s.dane {
                    true => &dns,
                    false => &PeerDns::Nothing,
                },
                now: self.router.now.wall,
            };
            attempt.certificate = Some(self.generation.certificates.describe(&question));
        }
        self.note_attempt(attempt);
    }

    /// The same for one whose certificate is known, or that came to no stream.
    pub(super) fn note_attempt(&mut self, mut attempt: Attempt) {
        attempt.at = self.router.now.wall;
        let owner = self.router.placement.shard_of(attempt.remote.as_str());
        if owner == self.router.shard {
            self.router.peers.history.note(attempt);
        } else if let Some(posts) = self.posts.get_mut(owner as usize) {
            posts.push(Post::Attempted(Box::new(attempt)));
        }
    }

    /// Notes an attempt that came to no stream.
    pub(super) fn note_unreached(
        &mut self,
        link: Key,
        address: Option<SocketAddr>,
        is_direct: bool,
        outcome: &str,
    ) {
        if let Some(link) = self.router.peers.get(link) {
            self.note_attempt(Attempt {
                at: Wall::default(),
                is_dialled: true,
                local: link.local.clone(),
                remote: link.remote.clone(),
                address,
                is_direct,
                tls: None,
                certificate: None,
                verdict: None,
                is_success: false,
                outcome: outcome.to_owned(),
            });
        }
    }
}

//! Dialback keys, about which the server of their domain is asked by a stream of its link
//! (XEP-0220 §2.1.2).

use std::collections::HashMap;

use super::{Outside, Shard};
use crate::limits::{ASKS_MAX, LINK_ASKS_MAX};
use crate::shard::Post;
use crate::slots::Key;
use crate::stream::Event;
use crate::stream::dialback::{Checked, Pair, Unreached};
use crate::stream::s2s::{Ask, Asker};

/// Those of one shard that wait until the server of their link can be asked. Strangers make them grow, so
/// there are bounds for each link and for all.
#[derive(Default)]
pub(super) struct Asks {
    by_link: HashMap<Key, Vec<Ask>>,
    count: usize,
}

impl Asks {
    /// Keeps a question, or gives it back if too many wait.
    pub fn keep(&mut self, link: Key, ask: Ask) -> Result<(), Ask> {
        let waiting = self.by_link.get(&link).map_or(0, Vec::len);
        if self.count >= ASKS_MAX || waiting >= LINK_ASKS_MAX {
            return Err(ask);
        }
        self.by_link.entry(link).or_default().push(ask);
        self.count += 1;
        Ok(())
    }

    /// Whether there is one for the server of a link.
    pub fn has(&self, link: Key) -> bool {
        self.by_link.contains_key(&link)
    }

    /// The questions to the server of a link, in their order.
    pub fn take(&mut self, link: Key) -> Vec<Ask> {
        let asks = self.by_link.remove(&link).unwrap_or_default();
        self.count -= asks.len();
        asks
    }
}

impl Shard {
    /// Has a dialback key verified by the server of its domain, whose link is on that domain's shard.
    pub(super) fn verify(&mut self, ask: Ask, outside: &mut dyn Outside) {
        let owner = self
            .router
            .placement
            .shard_of(ask.asker.pair.remote.as_str());
        if owner == self.router.shard {
            self.verify_here(ask, outside);
        } else if let Some(posts) = self.posts.get_mut(owner as usize) {
            posts.push(Post::Verify(Box::new(ask)));
        }
    }

    /// Asks the server of a link of this shard about a dialback key, by a stream that is there, or is
    /// made for it.
    pub(super) fn verify_here(&mut self, ask: Ask, outside: &mut dyn Outside) {
        let Pair { local, remote } = ask.asker.pair.clone();
        match self.router.link_for_ask(local, remote) {
            Some((_, Some(conn))) => self.event(conn, Event::Ask(Box::new(ask)), outside),
            Some((link, None)) => {
                if let Some(conn) = self.dials.open(link) {
                    self.event(conn, Event::Ask(Box::new(ask)), outside);
                } else if let Err(ask) = self.dials.asks.keep(link, ask) {
                    let unreached = Checked::Unreached(Unreached::Timeout);
                    self.tell(ask.asker, unreached, outside);
                }
            }
            None => {
                let unreached = Checked::Unreached(Unreached::Timeout);
                self.tell(ask.asker, unreached, outside);
            }
        }
    }

    /// Tells the stream on which a key was offered what came of verifying it.
    pub(super) fn tell(&mut self, asker: Asker, checked: Checked, outside: &mut dyn Outside) {
        if asker.shard == self.router.shard {
            self.event(asker.conn, Event::Verified(asker.pair, checked), outside);
            self.list(asker.conn);
        } else if let Some(posts) = self.posts.get_mut(asker.shard as usize) {
            posts.push(Post::Verified(asker, checked));
        }
    }

    /// The server of a link can be asked about dialback keys by this connection.
    pub(super) fn ask_waiting(&mut self, link: Key, conn: Key, outside: &mut dyn Outside) {
        self.dials.opened(link, conn);
        for ask in self.dials.asks.take(link) {
            self.event(conn, Event::Ask(Box::new(ask)), outside);
        }
    }

    /// The server of a link cannot be asked.
    pub(super) fn ask_nobody(&mut self, link: Key, why: Unreached, outside: &mut dyn Outside) {
        for ask in self.dials.asks.take(link) {
            self.tell(ask.asker, Checked::Unreached(why), outside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Domain;
    use crate::slots::Slots;

    #[test]
    fn questions_are_bounded_for_each_link_and_for_all() {
        let mut slots = Slots::default();
        let mut asks = Asks::default();
        let conn = slots.insert(());
        let ask = |id: usize| Ask {
            asker: Asker {
                shard: 0,
                conn,
                pair: Pair {
                    local: Domain::parse("example.org").unwrap(),
                    remote: Domain::parse("example.net").unwrap(),
                },
            },
            id: id.to_string(),
            key: String::new(),
        };
        let links: Vec<Key> = (0..=ASKS_MAX / LINK_ASKS_MAX)
            .map(|_| slots.insert(()))
            .collect();
        let (last, full) = links.split_last().unwrap();
        for link in full {
            for id in 0..LINK_ASKS_MAX {
                asks.keep(*link, ask(id)).unwrap();
            }
            assert_eq!(asks.keep(*link, ask(0)), Err(ask(0)));
        }
        assert!(asks.keep(*last, ask(0)).is_err(), "too many in all");
        let taken = asks.take(full[0]);
        assert!(
            taken
                .iter()
                .map(|ask| ask.id.parse::<usize>().unwrap())
                .eq(0..LINK_ASKS_MAX)
        );
        assert!(asks.take(full[0]).is_empty());
        asks.keep(*last, ask(0)).unwrap();
    }
}

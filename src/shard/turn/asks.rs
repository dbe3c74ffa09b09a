//! Dialback keys that wait until the server of a link can be asked about them.

use std::collections::HashMap;

use crate::limits::{ASKS_MAX, LINK_ASKS_MAX};
use crate::slots::Key;
use crate::stream::s2s::Ask;

/// Those of one shard. Strangers make them grow, so there are bounds for each link and for all.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Domain;
    use crate::slots::Slots;
    use crate::stream::dialback::Pair;
    use crate::stream::s2s::Asker;

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

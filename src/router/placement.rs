//! Which shard owns what: a keyed hash of the name, the same on every shard (DESIGN §3).

use std::hash::{BuildHasher, RandomState};

/// The placement of one run of the process. The key is drawn at start, so that nobody outside can
/// choose names that all fall on one shard.
#[derive(Clone, Debug)]
pub struct Placement {
    key: RandomState,
    shards: u32,
}

impl Placement {
    /// A placement over `shards` shards (at least one) under a fresh key.
    pub fn new(shards: u32) -> Placement {
        Placement {
            key: RandomState::new(),
            shards: shards.max(1),
        }
    }

    /// How many shards there are.
    pub fn shards(&self) -> u32 {
        self.shards
    }

    /// The shard that owns the account of a bare JID.
    pub fn shard_of(&self, bare_jid: &str) -> u32 {
        // The high half times the count, shifted: an even spread without a division.
        let high = self.key.hash_one(bare_jid) >> 32;
        ((high * u64::from(self.shards)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_over_all_shards_and_stay_where_they_are() {
        let placement = Placement::new(4);
        let other = placement.clone();
        let mut counts = [0; 4];
        for n in 0..4_000 {
            let name = format!("user{n}@example.org");
            let shard = placement.shard_of(&name);
            assert_eq!(shard, other.shard_of(&name));
            counts[shard as usize] += 1;
        }
        assert!(counts.iter().all(|&count| count > 800), "{counts:?}");
    }
}

//! Which shard owns what: a keyed hash of the name, the same on every shard
//! (`Who owns what` in lib.rs).

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

/// The placement of one run of the process. The key is drawn at start, so that nobody outside can
/// choose names that all fall on one shard.
#[derive(Clone, Debug)]
pub struct Placement {
    key: PlacementKey,
    shards: u32,
}

#[derive(Clone, Debug)]
enum PlacementKey {
    Drawn(RandomState),
    Given(u64),
}

impl Placement {
    /// A placement over `shards` shards (at least one) under a fresh key.
    pub fn new(shards: u32) -> Placement {
        Placement {
            key: PlacementKey::Drawn(RandomState::new()),
            shards: shards.max(1),
        }
    }

    /// A placement under a key that is known, so that a simulated run can be repeated.
    pub fn with_key(shards: u32, key: u64) -> Placement {
        Placement {
            key: PlacementKey::Given(key),
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
        let high = self.key.hash(bare_jid) >> 32;
        ((high * u64::from(self.shards)) >> 32) as u32
    }
}

impl Placement {
    /// A number that stands for a name, on all shards the same, which nobody outside can foresee.
    pub fn number_of(&self, name: &str) -> u64 {
        self.key.hash(name)
    }

    /// A number that nobody outside can foresee, the same for the same `of`.
    pub fn chance(&self, of: u64) -> u64 {
        match &self.key {
            PlacementKey::Drawn(key) => key.hash_one(of),
            PlacementKey::Given(key) => {
                let mut hasher = DefaultHasher::new();
                (key, of).hash(&mut hasher);
                hasher.finish()
            }
        }
    }
}

impl PlacementKey {
    fn hash(&self, name: &str) -> u64 {
        match self {
            PlacementKey::Drawn(key) => key.hash_one(name),
            PlacementKey::Given(key) => {
                let mut hasher = DefaultHasher::new();
                (key, name).hash(&mut hasher);
                hasher.finish()
            }
        }
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

    #[test]
    fn a_known_key_places_alike_in_each_run() {
        let shards = |key| -> Vec<u32> {
            let placement = Placement::with_key(16, key);
            (0..64)
                .map(|n| placement.shard_of(&format!("user{n}@example.org")))
                .collect()
        };
        assert_eq!(shards(1), shards(1));
        assert_ne!(shards(1), shards(2));
    }
}

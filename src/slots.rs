//! A slab whose keys carry a generation, so that a key kept too long finds nothing, never a stranger.

use slab::Slab;

/// Names one value of one [`Slots`] for as long as it lives. Valid on one shard only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The position in the slab, as an event queue's token.
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The key as one number, for those who only hand it back.
    pub fn to_bits(self) -> u64 {
        u64::from(self.index) << 32 | u64::from(self.generation)
    }

    /// The key that [`Key::to_bits`] wrote.
    pub fn from_bits(bits: u64) -> Key {
        Key {
            index: (bits >> 32) as u32,
            generation: bits as u32,
        }
    }
}

/// Values under stable keys.
#[derive(Debug)]
pub struct Slots<T> {
    slab: Slab<(u32, T)>,
    next: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots {
            slab: Slab::new(),
            next: 0,
        }
    }
}

impl<T> Slots<T> {
    /// Stores a value and names it.
    ///
    /// # Panics
    /// With 2^32 values at once, which the limit on open files prevents.
    pub fn insert(&mut self, value: T) -> Key {
        self.next = self.next.wrapping_add(1);
        let index = self.slab.insert((self.next, value));
        Key {
            index: u32::try_from(index).expect("fewer than 2^32 values live at once"),
            generation: self.next,
        }
    }

    /// The value, if it still lives.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slab.get(key.index()) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value, if it still lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slab.get_mut(key.index()) {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes the value out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        self.slab.try_remove(key.index()).map(|(_, value)| value)
    }

    /// The key of what lives at `index` now.
    pub fn at(&self, index: usize) -> Option<Key> {
        let (generation, _) = self.slab.get(index)?;
        Some(Key {
            index: u32::try_from(index).ok()?,
            generation: *generation,
        })
    }

    /// All values with their keys, in no promised order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slab.iter().map(|(index, (generation, value))| {
            let key = Key {
                // Every index was checked by `insert`.
                index: index as u32,
                generation: *generation,
            };
            (key, value)
        })
    }

    /// How many values live.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether none lives.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_value_does_not_find_its_successor() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(first.index(), second.index(), "the slot is used again");
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.at(second.index()), Some(second));
    }
}

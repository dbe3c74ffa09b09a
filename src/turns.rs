//! Turns at something scarce, shared fairly: who waits for much of it keeps nobody waiting who wants one.
//!
//! Those that wait are let in by rounds, one item of each at a time. As long as more than a quarter of
//! the places is free, that is all: who is alone gets three quarters of them. Of the last quarter, nobody
//! who holds as many places as are free gets one more, so that who comes next finds one. And who holds
//! none gets the next one that is given back, before all others.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A number of places, and what waits for one: items `T`, each for somebody. What waits is bounded by
/// whoever lets it wait.
#[derive(Debug)]
pub struct Turns<W, T> {
    places: usize,
    taken: usize,
    /// How many places everybody holds who holds any.
    held: HashMap<W, usize>,
    /// Never empty for anybody.
    waiting: HashMap<W, VecDeque<T>>,
    /// Who waits, each once, the next first.
    round: VecDeque<W>,
}

impl<W: Clone + Eq + Hash, T> Turns<W, T> {
    /// So many places, all of them free.
    pub fn new(places: usize) -> Turns<W, T> {
        Turns {
            places,
            taken: 0,
            held: HashMap::new(),
            waiting: HashMap::new(),
            round: VecDeque::new(),
        }
    }

    /// Has an item wait for a place, behind those of the same.
    pub fn wait(&mut self, who: W, item: T) {
        let items = self.waiting.entry(who.clone()).or_default();
        if items.is_empty() {
            self.round.push_back(who);
        }
        items.push_back(item);
    }

    /// Lets the next item in, which holds a place until [`Turns::leave`].
    pub fn let_in(&mut self) -> Option<(W, T)> {
        let at = self.first_allowed()?;
        let who = self.round.remove(at)?;
        let items = self.waiting.get_mut(&who)?;
        let item = items.pop_front()?;
        if items.is_empty() {
            self.waiting.remove(&who);
        } else {
            self.round.push_back(who.clone());
        }
        *self.held.entry(who.clone()).or_default() += 1;
        self.taken += 1;
        Some((who, item))
    }

    /// Whether [`Turns::let_in`] would let somebody in.
    pub fn has_turn(&self) -> bool {
        self.first_allowed().is_some()
    }

    /// Gives a place back.
    pub fn leave(&mut self, who: &W) {
        let Some(held) = self.held.get_mut(who) else {
            debug_assert!(false, "who holds no place leaves none");
            return;
        };
        *held -= 1;
        if *held == 0 {
            self.held.remove(who);
        }
        self.taken -= 1;
    }

    /// Where the first stands who may have one more. Those before hold as many as are free or more, so
    /// there are no more of them than places.
    fn first_allowed(&self) -> Option<usize> {
        let free = self.places - self.taken;
        if free == 0 {
            return None;
        }
        let is_ample = free > self.places.div_ceil(4);
        let held = |who: &W| self.held.get(who).copied().unwrap_or(0);
        let mut round = self.round.iter();
        round.position(|who| is_ample || held(who) < free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_let_in(turns: &mut Turns<&'static str, u32>) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| turns.let_in()).collect()
    }

    #[test]
    fn who_is_alone_gets_three_quarters_of_the_places() {
        for (places, most) in [(2, 1), (3, 2), (4, 3), (8, 6), (128, 96), (256, 192)] {
            let mut turns = Turns::new(places);
            for item in 0..1000 {
                turns.wait("a", item);
            }
            let expected: Vec<_> = (0..most).map(|item| ("a", item)).collect();
            assert_eq!(all_let_in(&mut turns), expected);
            assert!(!turns.has_turn());
            turns.leave(&"a");
            assert_eq!(all_let_in(&mut turns), [("a", most)]);
        }
    }

    #[test]
    fn one_place_can_be_had() {
        let mut turns = Turns::new(1);
        turns.wait("a", 1);
        turns.wait("b", 2);
        assert_eq!(all_let_in(&mut turns), [("a", 1)]);
        turns.leave(&"a");
        assert_eq!(all_let_in(&mut turns), [("b", 2)]);
        turns.leave(&"b");
        assert!(!turns.has_turn() && turns.held.is_empty() && turns.waiting.is_empty());
    }

    #[test]
    fn those_that_wait_are_let_in_by_rounds_and_each_in_the_order_of_its_items() {
        let mut turns = Turns::new(100);
        for item in 0..3 {
            turns.wait("a", item);
        }
        turns.wait("b", 7);
        turns.wait("c", 8);
        turns.wait("b", 9);
        let order = [("a", 0), ("b", 7), ("c", 8), ("a", 1), ("b", 9), ("a", 2)];
        assert_eq!(all_let_in(&mut turns), order);
    }

    /// Whatever comes and goes: who waits and holds nothing has a place as soon as one is given back,
    /// if not before, and no more than the last quarter stays empty while somebody waits.
    #[test]
    fn whoever_wants_a_place_gets_one_in_time() {
        for seed in 1..=500_u64 {
            let mut state = seed;
            let mut chance = move |of: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % of as u64) as usize
            };
            let places = 1 + chance(40);
            let mut turns = Turns::new(places);
            let mut inside: Vec<usize> = Vec::new();
            for _ in 0..300 {
                let who = chance(6);
                if chance(3) > 0 {
                    for item in 0..1 + chance(50) {
                        turns.wait(who, item);
                    }
                } else if !inside.is_empty() {
                    let left = inside.swap_remove(chance(inside.len()));
                    turns.leave(&left);
                }
                while let Some((who, _)) = turns.let_in() {
                    inside.push(who);
                }
                assert!(inside.len() <= places);
                let waits: Vec<&usize> = turns.waiting.keys().collect();
                let holds_none = |who: &&&usize| !inside.contains(**who);
                // One waits only where all places are taken.
                assert!(
                    waits.iter().find(holds_none).is_none() || inside.len() == places,
                    "seed {seed}"
                );
                // A quarter at most stays empty while somebody waits.
                let free = places - inside.len();
                assert!(
                    waits.is_empty() || free <= places.div_ceil(4),
                    "seed {seed}"
                );
            }
        }
    }

    /// One had all that may be had when the other came.
    #[test]
    fn two_who_always_want_more_come_to_hold_as_many() {
        for places in 1..=64 {
            let mut turns = Turns::new(places);
            let mut inside = std::collections::VecDeque::new();
            for who in ["a", "b"] {
                for item in 0..100 * places {
                    turns.wait(who, item);
                }
                inside.extend(std::iter::from_fn(|| turns.let_in()));
            }
            for _ in 0..4 * places {
                let (left, _) = inside.pop_front().unwrap();
                turns.leave(&left);
                inside.extend(std::iter::from_fn(|| turns.let_in()));
            }
            let held = ["a", "b"].map(|who| inside.iter().filter(|(it, _)| *it == who).count());
            assert!(held[0].abs_diff(held[1]) <= 2, "{held:?} of {places}");
        }
    }

    /// Whatever others hold and wait for, who holds nothing is let in at once as long as a place is
    /// free, and one is free unless there are as many holders as half of the places.
    #[test]
    fn a_flood_keeps_nobody_waiting() {
        for floods in 1..20 {
            let mut turns = Turns::new(64);
            for flood in 0..floods {
                for item in 0..1000 {
                    turns.wait(flood, item);
                }
            }
            while turns.let_in().is_some() {}
            for comer in 0..3 {
                turns.wait(1000 + comer, 0);
                assert_eq!(turns.let_in(), Some((1000 + comer, 0)), "{floods} floods");
            }
        }
    }
}

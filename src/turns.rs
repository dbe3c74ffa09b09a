//! Turns at something scarce, shared fairly: who waits for much of it keeps nobody waiting who wants one.
//!
//! Those that wait are let in by rounds, one item of each at a time. Nobody holds more places than are
//! free, so that who comes next finds one: who is alone gets half of them.

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
        let held = |who: &W| self.held.get(who).copied().unwrap_or(0);
        self.round.iter().position(|who| held(who) < free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_let_in(turns: &mut Turns<&'static str, u32>) -> Vec<(&'static str, u32)> {
        std::iter::from_fn(|| turns.let_in()).collect()
    }

    #[test]
    fn who_is_alone_gets_half_of_the_places() {
        let mut turns = Turns::new(8);
        for item in 0..100 {
            turns.wait("a", item);
        }
        assert_eq!(
            all_let_in(&mut turns),
            [("a", 0), ("a", 1), ("a", 2), ("a", 3)]
        );
        assert!(!turns.has_turn());
        turns.leave(&"a");
        assert_eq!(all_let_in(&mut turns), [("a", 4)]);
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

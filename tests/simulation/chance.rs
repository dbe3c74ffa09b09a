//! Chance that can be repeated: a small generator with a seed (SplitMix64).

use std::ops::RangeInclusive;

/// A source of numbers that look random and are the same for the same seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed ^ 0x5DEE_CE66_D1CE_4E5B)
    }

    /// A generator of its own, so that what one part draws does not shift what others get.
    pub fn split(&mut self) -> Chance {
        Chance(self.next())
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number of the range, whose ends it may be.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.next() % (high - low + 1)
    }

    /// A position in something that long, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        (self.next() % len as u64) as usize
    }

    /// True once in `times`, on average.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    pub fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = (self.next() >> 32) as u8;
        }
    }

    /// A delay in milliseconds: mostly short, sometimes long.
    pub fn delay(&mut self) -> u64 {
        match self.within(0..=9) {
            0..=5 => self.within(0..=3),
            6..=8 => self.within(1..=20),
            _ => self.within(20..=150),
        }
    }
}

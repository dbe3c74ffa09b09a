//! A token bucket: so much may pass at once, and so much a time from then on.
//!
//! It is kept as the moment when it will be full again: one number, no look at it while nothing
//! happens, and no clock of its own. What is missing counts in time, not in tokens, so that a bucket
//! goes on under another rate.

use std::time::Duration;

use crate::clock::Mono;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// How much may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    units: u64,
    /// Nanoseconds.
    period: u64,
    /// Nanoseconds.
    burst: u64,
}

/// What is left of a [`Rate`]. Full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Nanoseconds since the start.
    full_at: u64,
}

impl Rate {
    /// `units` in each `period`, and at once what gathers in `burst`. None for 0 units: no limit.
    pub fn new(units: u64, period: Duration, burst: Duration) -> Option<Rate> {
        (units > 0).then(|| Rate {
            units,
            period: nanos(period),
            burst: nanos(burst),
        })
    }

    /// In how much time `count` gather; rounded up, so that rounding admits nothing.
    fn time(self, count: u64) -> u64 {
        count.saturating_mul(self.period).div_ceil(self.units)
    }
}

impl Bucket {
    /// Takes what has passed already, whether it was there or not, and yields from when on more may
    /// pass: `now` or earlier, if at once.
    pub fn take(&mut self, count: u64, rate: Rate, now: Mono) -> Mono {
        let now = moment(now);
        self.full_at = self.full_at.max(now).saturating_add(rate.time(count));
        whole_millis(self.full_at.saturating_sub(rate.burst))
    }

    /// Takes one that may pass when it is there, and yields when: at `by` at the latest. None: it
    /// would not be there by then, and nothing is taken. Who asks first is served first.
    pub fn reserve(&mut self, rate: Rate, now: Mono, by: Mono) -> Option<Mono> {
        let full_at = self
            .full_at
            .max(moment(now))
            .saturating_add(rate.time(1).min(rate.burst));
        let at = whole_millis(full_at.saturating_sub(rate.burst)).max(now);
        if at > by {
            return None;
        }
        self.full_at = full_at;
        Some(at)
    }

    /// Whether nothing is missing.
    pub fn is_full(&self, now: Mono) -> bool {
        self.full_at <= moment(now)
    }
}

impl PartialOrd for Bucket {
    fn partial_cmp(&self, other: &Bucket) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The emptier one is the greater.
impl Ord for Bucket {
    fn cmp(&self, other: &Bucket) -> std::cmp::Ordering {
        self.full_at.cmp(&other.full_at)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn moment(at: Mono) -> u64 {
    at.millis().saturating_mul(NANOS_PER_MILLI)
}

/// The first moment of the clock that is not before.
fn whole_millis(nanos: u64) -> Mono {
    Mono::from_millis(nanos.div_ceil(NANOS_PER_MILLI))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Mono = Mono::from_millis(1_000_000);

    fn rate(units: u64, burst_seconds: u64) -> Rate {
        Rate::new(units, SECOND, Duration::from_secs(burst_seconds)).unwrap()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let (rate, mut bucket) = (rate(10, 5), Bucket::default());
        assert!(bucket.take(50, rate, START) <= START, "the burst");
        assert_eq!(
            bucket.take(1, rate, START),
            START + Duration::from_millis(100)
        );
        let later = START + Duration::from_secs(60);
        assert!(bucket.is_full(later));
        assert!(bucket.take(50, rate, later) <= later);
        assert!(
            bucket.take(1, rate, later) > later,
            "more than full it is never"
        );
    }

    #[test]
    fn what_is_reserved_comes_in_the_order_of_asking_and_not_after_its_time() {
        let (rate, mut bucket) = (rate(1, 2), Bucket::default());
        let by = START + 3 * SECOND;
        let mut at = || bucket.reserve(rate, START, by);
        assert_eq!(at(), Some(START));
        assert_eq!(at(), Some(START));
        for seconds in 1..=3 {
            assert_eq!(at(), Some(START + seconds * SECOND));
        }
        assert_eq!(at(), None);
        let later = START + SECOND;
        assert_eq!(
            bucket.reserve(rate, later, later + 3 * SECOND),
            Some(START + 4 * SECOND),
            "what was refused took nothing"
        );
    }

    /// One that gathers more slowly than the burst lasts would never be there.
    #[test]
    fn a_burst_has_room_for_one() {
        let slow = Rate::new(1, 60 * SECOND, SECOND).unwrap();
        assert_eq!(Bucket::default().reserve(slow, START, START), Some(START));
    }

    #[test]
    fn no_units_are_no_limit() {
        assert_eq!(Rate::new(0, SECOND, SECOND), None);
    }

    proptest! {
        /// A user that waits as it is told gets no more than burst and rate give, in any window; and
        /// never waits longer than what it took needs.
        #[test]
        fn no_window_has_more_than_burst_and_rate(
            units in 1u64..2_000_000,
            burst_seconds in 1u64..20,
            steps in proptest::collection::vec((0u64..3_000, 1u64..100_000), 1..60),
        ) {
            let rate = rate(units, burst_seconds);
            let mut bucket = Bucket::default();
            let mut now = START;
            let mut taken: Vec<(Mono, u64)> = Vec::new();
            for (wait, count) in steps {
                now = now + Duration::from_millis(wait);
                let open = bucket.take(count, rate, now);
                taken.push((now, count));
                let most = Duration::from_millis(count * 1_000 / units + 2);
                prop_assert!(open <= now + most, "{open:?} is more than {count} need");
                now = now.max(open);
            }
            for from in 0..taken.len() {
                let mut sum = 0;
                for to in from..taken.len() {
                    // The last may be overdrawn: it is taken when it is there already.
                    let elapsed = u64::try_from((taken[to].0 - taken[from].0).as_millis()).unwrap();
                    prop_assert!(sum <= units * burst_seconds + units * elapsed / 1_000 + 1);
                    sum += taken[to].1;
                }
            }
        }

        /// Shards read their clocks apart, and a connection moves between them.
        #[test]
        fn a_clock_that_jumps_breaks_nothing(
            units in 1u64..2_000_000,
            steps in proptest::collection::vec((any::<u64>(), 1u64..100_000), 1..60),
        ) {
            let rate = rate(units, 10);
            let mut bucket = Bucket::default();
            let mut latest = 0;
            for (at, count) in steps {
                let at = at >> 24;
                latest = latest.max(at);
                bucket.take(count, rate, Mono::from_millis(at));
                bucket.reserve(rate, Mono::from_millis(at), Mono::from_millis(at + 1_000));
            }
            // 60 times as much as may be taken, at the lowest rate.
            let end = Mono::from_millis(latest + 60 * 100_001 * 1_000);
            prop_assert!(bucket.is_full(end));
            prop_assert!(bucket.take(1, rate, end) <= end);
        }

        #[test]
        fn reservations_never_exceed_the_rate(
            units in 1u64..300,
            waits in proptest::collection::vec(0u64..200, 1..300),
        ) {
            let rate = Rate::new(units, 60 * SECOND, 60 * SECOND).unwrap();
            let mut bucket = Bucket::default();
            let mut now = START;
            let mut times: Vec<Mono> = Vec::new();
            for wait in waits {
                now = now + Duration::from_millis(wait);
                times.extend(bucket.reserve(rate, now, now + 30 * SECOND));
            }
            prop_assert!(times.is_sorted());
            for (from, first) in times.iter().enumerate() {
                for (to, last) in times.iter().enumerate().skip(from) {
                    let elapsed = u64::try_from((*last - *first).as_millis()).unwrap();
                    let most = units + units * elapsed / 60_000 + 1;
                    prop_assert!((to - from) as u64 <= most);
                }
            }
        }
    }
}

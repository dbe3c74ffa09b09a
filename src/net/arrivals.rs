//! How often an address comes: its new connections and TLS handshakes of the last minute
//! (RFC 6120 §13.12), and which refusals of it are told in the log.
//!
//! Apart from the counts of open connections, which must never be forgotten: these may be, the least
//! used first, when there are too many addresses.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::bucket::{Bucket, Rate};
use super::throttle::Key;
use crate::clock::Mono;

/// Locks of the table.
const STRIPES: usize = 64;

/// Addresses a stripe, 131,072 in all, some 10 MiB. An attacker with more than that makes those be
/// forgotten that came least.
const ADDRESSES_PER_STRIPE_MAX: usize = 2048;

/// The time for which limits are given, in which a bucket fills, and between two lines of the log
/// about one address.
const WINDOW: Duration = Duration::from_secs(60);

/// The table.
#[derive(Debug)]
pub(super) struct Arrivals {
    stripes: Vec<Mutex<HashMap<Key, Arrival>>>,
    /// Keyed by chance, so that nobody can aim at a stripe.
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Arrival {
    connections: Bucket,
    handshakes: Bucket,
    /// Refusals that the log does not tell yet.
    refused: u32,
    told: Option<Mono>,
}

/// A refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Refused {
    /// The option that refuses.
    pub limit: &'static str,
    /// Refusals of the address that the log has not told, with this one. None while it is too soon to
    /// tell of the address again: a flood must not flood the log.
    pub untold: Option<u32>,
}

impl Refused {
    /// Tells of connections that were refused, if it is time to.
    pub fn log_connection(self, address: IpAddr) {
        let Refused { limit, untold } = self;
        if let Some(count) = untold {
            log::warn!(address:%, count, limit; "connections refused, too many from one address");
        }
    }

    /// Tells of TLS handshakes that were refused, if it is time to.
    pub fn log_handshake(self, address: IpAddr) {
        let Refused { limit, untold } = self;
        if let Some(count) = untold {
            log::warn!(address:%, count, limit; "TLS handshakes refused, too many with one address");
        }
    }
}

impl Arrivals {
    pub(super) fn new() -> Arrivals {
        Arrivals {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Whether a new connection may come now, as one of `max` a minute.
    pub(super) fn connect(&self, key: Key, max: u32, now: Mono) -> Result<(), Refused> {
        let Some(rate) = rate(max) else {
            return Ok(());
        };
        self.with(key, now, |arrival| {
            match arrival.connections.reserve(rate, now, now) {
                Some(_) => Ok(()),
                None => Err(arrival.refuse("limits.new_connections_per_address_max", now)),
            }
        })
    }

    /// When a TLS handshake may begin, as one of `max` a minute: at `by` at the latest.
    pub(super) fn handshake(
        &self,
        key: Key,
        max: u32,
        now: Mono,
        by: Mono,
    ) -> Result<Mono, Refused> {
        let Some(rate) = rate(max) else {
            return Ok(now);
        };
        self.with(key, now, |arrival| {
            let at = arrival.handshakes.reserve(rate, now, by);
            at.ok_or_else(|| arrival.refuse("limits.handshakes_per_address_max", now))
        })
    }

    /// Counts a refusal that another limit is the reason for.
    pub(super) fn refuse(&self, key: Key, limit: &'static str, now: Mono) -> Refused {
        self.with(key, now, |arrival| arrival.refuse(limit, now))
    }

    fn with<T>(&self, key: Key, now: Mono, work: impl FnOnce(&mut Arrival) -> T) -> T {
        let mut stripe = self.stripe(&key);
        if stripe.len() >= ADDRESSES_PER_STRIPE_MAX && !stripe.contains_key(&key) {
            forget(&mut stripe, now);
        }
        work(stripe.entry(key).or_default())
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Arrival>> {
        let at = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        // The count of a thread that panicked is still a count.
        self.stripes[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    fn refuse(&mut self, limit: &'static str, now: Mono) -> Refused {
        self.refused = self.refused.saturating_add(1);
        let is_time = self.told.is_none_or(|told| now.since(told) >= WINDOW);
        let untold = is_time.then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.refused)
        });
        Refused { limit, untold }
    }

    fn is_past(&self, now: Mono) -> bool {
        self.connections.is_full(now)
            && self.handshakes.is_full(now)
            && self.told.is_none_or(|told| now.since(told) >= WINDOW)
    }
}

fn rate(max: u32) -> Option<Rate> {
    Rate::new(u64::from(max), WINDOW, WINDOW)
}

/// Makes room for many: what is past goes, and if that is less than a quarter, those that came least.
/// Going through a whole stripe for each new address would be a gift to who has many.
fn forget(stripe: &mut HashMap<Key, Arrival>, now: Mono) {
    stripe.retain(|_, arrival| !arrival.is_past(now));
    let keep = ADDRESSES_PER_STRIPE_MAX / 4 * 3;
    let Some(excess) = stripe.len().checked_sub(keep).filter(|excess| *excess > 0) else {
        return;
    };
    let worth = |arrival: &Arrival| arrival.connections.max(arrival.handshakes);
    let mut all: Vec<Bucket> = stripe.values().map(worth).collect();
    let (_, &mut limit, _) = all.select_nth_unstable(excess - 1);
    let mut left = excess;
    stripe.retain(|_, arrival| {
        let goes = left > 0 && worth(arrival) <= limit;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono::from_millis(1_000_000);
    const ONE: Key = Key::V4(1);
    const TWO: Key = Key::V4(2);

    fn after(seconds: u64) -> Mono {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn an_address_may_come_as_often_as_it_may_in_a_minute_and_then_at_that_rate() {
        let table = Arrivals::new();
        for _ in 0..6 {
            assert_eq!(table.connect(ONE, 6, START), Ok(()));
        }
        assert!(table.connect(ONE, 6, START).is_err());
        assert!(table.connect(ONE, 6, after(9)).is_err());
        assert_eq!(table.connect(ONE, 6, after(10)), Ok(()));
        assert!(table.connect(ONE, 6, after(10)).is_err());
        assert_eq!(table.connect(TWO, 6, START), Ok(()), "others may");
        assert_eq!(table.connect(ONE, 0, after(10)), Ok(()), "0 is no limit");
    }

    #[test]
    fn handshakes_wait_for_their_turn_and_those_that_would_wait_too_long_are_refused() {
        let table = Arrivals::new();
        let mut turns = Vec::new();
        let refused = loop {
            match table.handshake(ONE, 6, START, after(30)) {
                Ok(at) => turns.push((at - START).as_secs()),
                Err(refused) => break refused,
            }
        };
        assert_eq!(turns, [0, 0, 0, 0, 0, 0, 10, 20, 30]);
        assert_eq!(refused.limit, "limits.handshakes_per_address_max");
        assert_eq!(
            table.handshake(ONE, 6, after(10), after(40)),
            Ok(after(40)),
            "a refusal takes nobody's turn"
        );
        assert_eq!(table.handshake(ONE, 0, START, START), Ok(START));
    }

    #[test]
    fn of_many_refusals_one_a_minute_is_told_with_their_number() {
        let table = Arrivals::new();
        let told = |at| table.refuse(ONE, "limits.some", at).untold;
        assert_eq!(told(START), Some(1));
        for second in 1..60 {
            assert_eq!(told(after(second)), None);
        }
        assert_eq!(told(after(60)), Some(60));
        assert_eq!(told(after(61)), None);
        assert_eq!(table.refuse(TWO, "limits.some", START).untold, Some(1));
    }

    #[test]
    fn the_table_stays_bounded_and_remembers_who_came_most() {
        let table = Arrivals::new();
        for _ in 0..6 {
            assert_eq!(table.connect(ONE, 6, START), Ok(()));
        }
        for n in 10..300_000 {
            assert_eq!(table.connect(Key::V4(n), 6, START), Ok(()));
        }
        let addresses = || -> usize { table.stripes.iter().map(|s| s.lock().unwrap().len()).sum() };
        assert!(addresses() <= STRIPES * ADDRESSES_PER_STRIPE_MAX);
        assert!(table.connect(ONE, 6, START).is_err());
        // A minute later all that is past.
        for n in 300_000..600_000 {
            assert_eq!(table.connect(Key::V4(n), 6, after(120)), Ok(()));
        }
        assert!(addresses() <= STRIPES * ADDRESSES_PER_STRIPE_MAX);
        let remembers = |key: Key| table.stripe(&key).contains_key(&key);
        assert!(!remembers(ONE));
    }
}

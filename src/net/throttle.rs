//! Limits per address and account: connections, and failed logins, which fade with time. How often an
//! address comes is counted in `arrivals`.
//!
//! Connections that have proven nothing yet are *newcomers*. Of the places that are free
//! ([`OpenFiles::free`](super::open_files::OpenFiles::free)) an address may fill a part with them
//! ([`NEWCOMERS_SHARE`]): one alone gets an eighth of all, and the fewer are left the less each may have
//! more, so that who comes from elsewhere finds one. Those that an address has already stay until their
//! time is over, and who has proven itself is neither counted nor ever dropped for it.
//!
//! The only mutable state that shards share (`Threads` in lib.rs). It is touched at accept, close,
//! handshake and login, never per stanza; stripes keep the shards out of each other's way. Time is
//! passed in.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::arrivals::{Arrivals, Refused};
use crate::clock::Mono;
use crate::limits::NEWCOMERS_SHARE;

/// Locks of the table: enough that 256 shards seldom meet at one.
const STRIPES: usize = 64;

/// Entries with failed logins a stripe, 131,072 in all, some 10 MiB. An attacker with more
/// addresses than that makes the oldest failures be forgotten. Entries that count connections come
/// on top: each of those costs its owner a socket here.
const ENTRIES_PER_STRIPE_MAX: usize = 2048;

/// The time in which as many failures fade as are allowed at most.
const WINDOW: Duration = Duration::from_secs(60);

/// A failure in thousandths, the unit of the fading count.
const FAILURE: u64 = 1000;

/// The first delay above half of the limit; it doubles with each further failure.
const DELAY_FIRST: Duration = Duration::from_millis(500);

/// The longest delay. Longer ones would only keep connections waiting.
const DELAY_MAX: Duration = Duration::from_secs(8);

/// What an operator may set (`limits.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThrottleLimits {
    /// Connections from one address at a time; 0 lets nobody in.
    pub connections_per_address_max: u32,
    /// New connections a minute from one address; 0 is no limit.
    pub new_connections_per_address_max: u32,
    /// TLS handshakes a minute with one address; 0 is no limit.
    pub handshakes_per_address_max: u32,
    /// Failed logins a minute from one address; 0 lets nobody in.
    pub login_failures_per_address_max: u32,
    /// Failed logins a minute for one account, and failed handshakes of a component from one address;
    /// 0 lets nobody in.
    pub login_failures_per_account_max: u32,
}

/// What to do about a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// Go on, but answer only after this time.
    SlowDown(Duration),
    /// Refuse without looking at the password. Say "temporary-auth-failure".
    Refuse,
}

/// The table. One for the process.
#[derive(Debug)]
pub struct Throttle {
    stripes: Vec<Mutex<HashMap<Key, Entry>>>,
    arrivals: Arrivals,
    limits: RwLock<ThrottleLimits>,
    /// Keyed by chance, so that nobody can aim at a stripe or at another account's entry.
    hasher: RandomState,
}

/// Who is counted. An IPv6 /64 is one customer's, who has all its addresses; an account is kept as a
/// keyed hash, since names come from strangers and may have 3 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    V4(u32),
    V6Net(u64),
    Account(u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    connections: u32,
    /// Those among them that have proven nothing yet.
    newcomers: u32,
    /// In thousandths, as of `at`.
    failures: u64,
    at: Mono,
}

impl Throttle {
    /// An empty table.
    pub fn new(limits: ThrottleLimits) -> Throttle {
        Throttle {
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            arrivals: Arrivals::new(),
            limits: RwLock::new(limits),
            hasher: RandomState::new(),
        }
    }

    /// Puts new limits in force, for what comes from now on.
    pub fn set_limits(&self, limits: ThrottleLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Counts a connection as a newcomer's, which [`Throttle::disconnect`] takes back. `free`: how many
    /// connections more the process has room for.
    ///
    /// # Errors
    /// The address has as many as it may, or comes too often: it is not counted.
    pub fn connect(&self, address: IpAddr, now: Mono, free: u64) -> Result<(), Refused> {
        let limits = self.limits();
        let key = Key::of(address);
        self.open(key, limits.connections_per_address_max, free, now)
            .map_err(|limit| self.arrivals.refuse(key, limit, now))?;
        let max = limits.new_connections_per_address_max;
        self.arrivals
            .connect(key, max, now)
            .inspect_err(|_| self.disconnect(address, true))
    }

    /// A connection has proven who it is: it is no newcomer any more.
    pub fn proven(&self, address: IpAddr) {
        let key = Key::of(address);
        if let Some(entry) = self.stripe(&key).get_mut(&key) {
            entry.newcomers = entry.newcomers.saturating_sub(1);
        }
    }

    /// When a TLS handshake with the address may begin: at `by` at the latest.
    ///
    /// # Errors
    /// Its turn would come too late, and it has none.
    pub fn handshake(&self, address: IpAddr, now: Mono, by: Mono) -> Result<Mono, Refused> {
        let max = self.limits().handshakes_per_address_max;
        self.arrivals.handshake(Key::of(address), max, now, by)
    }

    /// Counts a connection if the address may have one more; else yields the limit that is reached.
    fn open(&self, key: Key, max: u32, free: u64, now: Mono) -> Result<(), &'static str> {
        let mut stripe = self.stripe(&key);
        let entry = stripe.entry(key).or_insert(Entry {
            at: now,
            ..Entry::default()
        });
        let may_come = if entry.connections >= max {
            Err("limits.connections_per_address_max")
        } else if u64::from(entry.newcomers) > free / NEWCOMERS_SHARE {
            Err("open files")
        } else {
            Ok(())
        };
        if may_come.is_ok() {
            entry.connections += 1;
            entry.newcomers += 1;
        } else if entry.is_idle() {
            stripe.remove(&key);
        }
        may_come
    }

    /// Takes back one that was counted by [`Throttle::connect`], a newcomer still or not.
    pub fn disconnect(&self, address: IpAddr, is_newcomer: bool) {
        let key = Key::of(address);
        let mut stripe = self.stripe(&key);
        if let Some(entry) = stripe.get_mut(&key) {
            entry.connections = entry.connections.saturating_sub(1);
            if is_newcomer {
                entry.newcomers = entry.newcomers.saturating_sub(1);
            }
            if entry.is_idle() {
                stripe.remove(&key);
            }
        }
    }

    /// Whether a login may be tried, before anything is computed for it. `account` is the bare JID
    /// that it names, whether that exists or not.
    ///
    /// An address above its limit is refused. An account above its limit is refused to addresses
    /// that have failed themselves within the window, and slow for others: else anybody could lock
    /// its owner out.
    pub fn may_log_in(&self, address: IpAddr, account: &str, now: Mono) -> Verdict {
        let limits = self.limits();
        let address_max = limits.login_failures_per_address_max;
        let account_max = limits.login_failures_per_account_max;
        let of_address = self.failures(&Key::of(address), address_max, now);
        let of_account = self.failures(&self.account(account), account_max, now);
        let by_address = verdict(of_address, address_max);
        let by_account = match verdict(of_account, account_max) {
            Verdict::Refuse if !self.has_failed(&Key::of(address), now) => {
                Verdict::SlowDown(DELAY_MAX)
            }
            other => other,
        };
        by_address.max(by_account)
    }

    /// Counts a failed login against both.
    pub fn login_failed(&self, address: IpAddr, account: &str, now: Mono) {
        let limits = self.limits();
        self.fail(Key::of(address), limits.login_failures_per_address_max, now);
        self.fail(
            self.account(account),
            limits.login_failures_per_account_max,
            now,
        );
    }

    /// Whether a component may try to prove itself from an address. Counted for the two together: all
    /// components of a machine come from one address, and one with a wrong secret, which tries again
    /// for ever, keeps none of the others out, nor any client there.
    pub fn may_shake_hands(&self, address: IpAddr, component: &str, now: Mono) -> Verdict {
        let max = self.limits().login_failures_per_account_max;
        let key = self.component(address, component);
        verdict(self.failures(&key, max, now), max)
    }

    /// Counts a failed handshake of a component.
    pub fn handshake_failed(&self, address: IpAddr, component: &str, now: Mono) {
        let max = self.limits().login_failures_per_account_max;
        self.fail(self.component(address, component), max, now);
    }

    fn component(&self, address: IpAddr, component: &str) -> Key {
        Key::Account(self.hasher.hash_one((Key::of(address), component)))
    }

    fn limits(&self) -> ThrottleLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, account: &str) -> Key {
        Key::Account(self.hasher.hash_one(account))
    }

    fn stripe(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Entry>> {
        let at = usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or(0);
        // The count of a thread that panicked is still a count.
        self.stripes[at]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self, key: &Key, max: u32, now: Mono) -> u64 {
        self.stripe(key)
            .get(key)
            .map_or(0, |entry| entry.faded(max, now))
    }

    /// Whether there was a failure within the window, faded or not: with a high limit for addresses
    /// a failure fades within moments, and who guesses at one account would always look clean.
    fn has_failed(&self, key: &Key, now: Mono) -> bool {
        self.stripe(key)
            .get(key)
            .is_some_and(|entry| entry.failures > 0 && now.since(entry.at) < WINDOW)
    }

    fn fail(&self, key: Key, max: u32, now: Mono) {
        let mut stripe = self.stripe(&key);
        if stripe.len() >= ENTRIES_PER_STRIPE_MAX && !stripe.contains_key(&key) {
            forget(&mut stripe, max, now);
        }
        let entry = stripe.entry(key).or_default();
        // One above the limit, so that the refusal lasts until one has faded; not more, or a flood
        // would keep its address out for hours after.
        let most = u64::from(max).saturating_add(1).saturating_mul(FAILURE);
        entry.failures = entry.faded(max, now).saturating_add(FAILURE).min(most);
        entry.at = now;
    }
}

impl Entry {
    /// What is left of the failures at `now`: `max` of them fade in a window.
    fn faded(&self, max: u32, now: Mono) -> u64 {
        let elapsed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
        let gone = elapsed
            .saturating_mul(u64::from(max))
            .saturating_mul(FAILURE)
            / window;
        self.failures.saturating_sub(gone)
    }

    fn is_idle(&self) -> bool {
        self.connections == 0 && self.failures == 0
    }
}

impl Key {
    fn of(address: IpAddr) -> Key {
        match address.to_canonical() {
            IpAddr::V4(v4) => Key::V4(v4.to_bits()),
            IpAddr::V6(v6) => Key::V6Net(network(v6)),
        }
    }
}

impl Verdict {
    fn max(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Refuse, _) | (_, Verdict::Refuse) => Verdict::Refuse,
            (Verdict::SlowDown(a), Verdict::SlowDown(b)) => Verdict::SlowDown(a.max(b)),
            (Verdict::SlowDown(a), Verdict::Allowed) | (Verdict::Allowed, Verdict::SlowDown(a)) => {
                Verdict::SlowDown(a)
            }
            (Verdict::Allowed, Verdict::Allowed) => Verdict::Allowed,
        }
    }
}

/// The upper 64 bits.
fn network(v6: Ipv6Addr) -> u64 {
    u64::try_from(v6.to_bits() >> 64).unwrap_or(0)
}

/// Free below half of the limit, then slower with each failure, then refused.
fn verdict(failures: u64, max: u32) -> Verdict {
    let max = u64::from(max);
    let failures = failures / FAILURE;
    let free = max / 2;
    if failures >= max {
        Verdict::Refuse
    } else if failures == 0 || failures < free {
        Verdict::Allowed
    } else {
        let doublings = u32::try_from((failures - free).min(16)).unwrap_or(16);
        Verdict::SlowDown((DELAY_FIRST * 2u32.pow(doublings)).min(DELAY_MAX))
    }
}

/// Makes room for many: what has faded goes, or else the quarter with the fewest failures. Going
/// through a whole stripe for each new entry would be a gift to who has many addresses.
fn forget(stripe: &mut HashMap<Key, Entry>, max: u32, now: Mono) {
    let before = stripe.len();
    stripe.retain(|_, entry| entry.connections > 0 || entry.faded(max, now) > 0);
    if stripe.len() < before {
        return;
    }
    let mut worth: Vec<u64> = stripe.values().map(|entry| entry.faded(max, now)).collect();
    let at = worth.len() / 4;
    if let Some((_, &mut limit, _)) = (at < worth.len()).then(|| worth.select_nth_unstable(at)) {
        let mut left = at.max(1);
        stripe.retain(|_, entry| {
            let goes = left > 0 && entry.connections == 0 && entry.faded(max, now) <= limit;
            left -= usize::from(goes);
            !goes
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::limits::OPEN_FILES_KEPT;
    use crate::net::open_files::{OpenFiles, Taken};

    /// Limits that nobody reaches.
    const PLENTY: ThrottleLimits = ThrottleLimits {
        connections_per_address_max: 1000,
        new_connections_per_address_max: 0,
        ..LIMITS
    };

    /// Places for further connections, where these do not matter.
    const MANY: u64 = u64::MAX;

    const LIMITS: ThrottleLimits = ThrottleLimits {
        connections_per_address_max: 2,
        new_connections_per_address_max: 0,
        handshakes_per_address_max: 0,
        login_failures_per_address_max: 10,
        login_failures_per_account_max: 4,
    };
    const START: Mono = Mono::from_millis(1_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_as_many_connections_as_allowed_and_gets_back_what_it_closes() {
        let table = Throttle::new(LIMITS);
        let one = ip("192.0.2.1");
        assert!(table.connect(one, START, MANY).is_ok());
        assert!(table.connect(one, START, MANY).is_ok());
        assert!(table.connect(one, START, MANY).is_err());
        assert!(table.connect(ip("192.0.2.2"), START, MANY).is_ok());
        table.disconnect(one, true);
        assert!(table.connect(one, START, MANY).is_ok());
    }

    #[test]
    fn an_address_that_comes_too_often_is_refused_though_it_closes_what_it_opens() {
        let table = Throttle::new(ThrottleLimits {
            new_connections_per_address_max: 3,
            ..LIMITS
        });
        let one = ip("2001:db8:0:1::1");
        for _ in 0..3 {
            assert!(table.connect(one, START, MANY).is_ok());
            table.disconnect(one, true);
        }
        let refused = table.connect(one, START, MANY).unwrap_err();
        assert_eq!(refused.limit, "limits.new_connections_per_address_max");
        let neighbor = ip("2001:db8:0:1::2");
        assert!(
            table.connect(neighbor, START, MANY).is_err(),
            "a /64 is one customer"
        );
        let later = START + Duration::from_secs(60);
        for _ in 0..2 {
            assert!(
                table.connect(one, later, MANY).is_ok(),
                "refusals were not counted as open"
            );
        }
        let refused = table.connect(one, later, MANY).unwrap_err();
        assert_eq!(refused.limit, "limits.connections_per_address_max");
        assert_eq!(
            refused.untold,
            Some(2),
            "the one of the neighbor, and this one"
        );
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_one_and_a_slash_64_is_one_customer() {
        let table = Throttle::new(LIMITS);
        assert!(table.connect(ip("192.0.2.1"), START, MANY).is_ok());
        assert!(table.connect(ip("::ffff:192.0.2.1"), START, MANY).is_ok());
        assert!(table.connect(ip("192.0.2.1"), START, MANY).is_err());
        assert!(table.connect(ip("2001:db8:0:1::1"), START, MANY).is_ok());
        assert!(
            table
                .connect(ip("2001:db8:0:1:ffff::2"), START, MANY)
                .is_ok()
        );
        assert!(table.connect(ip("2001:db8:0:1:5::3"), START, MANY).is_err());
        assert!(table.connect(ip("2001:db8:0:2::1"), START, MANY).is_ok());
    }

    #[test]
    fn failures_slow_an_address_down_then_refuse_it_then_fade() {
        let table = Throttle::new(LIMITS);
        let address = ip("192.0.2.1");
        let mut delays = Vec::new();
        for n in 0..10 {
            match table.may_log_in(address, "nobody@example.org", START) {
                Verdict::Allowed => assert!(n < 5),
                Verdict::SlowDown(delay) => delays.push(delay.as_millis()),
                Verdict::Refuse => panic!("refused after {n}"),
            }
            // Each time another account, so that only the address counts.
            table.login_failed(address, &format!("user{n}@example.org"), START);
        }
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000]);
        let verdict = |at: u64| {
            table.may_log_in(
                address,
                "nobody@example.org",
                START + Duration::from_secs(at),
            )
        };
        assert_eq!(verdict(0), Verdict::Refuse);
        assert_eq!(verdict(6), Verdict::SlowDown(Duration::from_secs(8)));
        assert_eq!(verdict(60), Verdict::Allowed);
        assert_eq!(
            table.may_log_in(ip("192.0.2.2"), "nobody@example.org", START),
            Verdict::Allowed
        );
    }

    #[test]
    fn a_flood_keeps_an_address_out_no_longer_than_its_last_failure_needs_to_fade() {
        let table = Throttle::new(LIMITS);
        let address = ip("192.0.2.1");
        for n in 0..1000 {
            table.login_failed(address, &format!("user{n}@example.org"), START);
        }
        let soon = START + Duration::from_secs(1);
        assert_eq!(
            table.may_log_in(address, "x@example.org", soon),
            Verdict::Refuse
        );
        let later = START + Duration::from_secs(12);
        assert_ne!(
            table.may_log_in(address, "x@example.org", later),
            Verdict::Refuse
        );
    }

    #[test]
    fn an_attacked_account_is_refused_to_who_failed_and_only_slow_for_its_owner() {
        let table = Throttle::new(LIMITS);
        for n in 0..20 {
            let attacker = ip(&format!("198.51.100.{n}"));
            table.login_failed(attacker, "juliet@example.org", START);
        }
        let attacker = table.may_log_in(ip("198.51.100.1"), "juliet@example.org", START);
        assert_eq!(attacker, Verdict::Refuse);
        let owner = table.may_log_in(ip("192.0.2.1"), "juliet@example.org", START);
        assert_eq!(owner, Verdict::SlowDown(DELAY_MAX));
        let other = table.may_log_in(ip("192.0.2.1"), "romeo@example.org", START);
        assert_eq!(other, Verdict::Allowed);
    }

    #[test]
    fn a_limit_of_one_refuses_after_one_failure() {
        assert_eq!(verdict(0, 1), Verdict::Allowed);
        assert_eq!(verdict(FAILURE, 1), Verdict::Refuse);
    }

    #[test]
    fn new_limits_count_at_once() {
        let table = Throttle::new(LIMITS);
        let address = ip("192.0.2.1");
        table.login_failed(address, "a@example.org", START);
        assert_eq!(
            table.may_log_in(address, "b@example.org", START),
            Verdict::Allowed
        );
        table.set_limits(ThrottleLimits {
            login_failures_per_address_max: 1,
            ..LIMITS
        });
        assert_eq!(
            table.may_log_in(address, "b@example.org", START),
            Verdict::Refuse
        );
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_who_failed_most() {
        let table = Throttle::new(LIMITS);
        let worst = ip("203.0.113.1");
        for _ in 0..12 {
            table.login_failed(worst, "x@example.org", START);
        }
        for n in 0..300_000u32 {
            table.fail(Key::V4(n), 10, START);
        }
        let entries: usize = table.stripes.iter().map(|s| s.lock().unwrap().len()).sum();
        assert!(entries <= STRIPES * ENTRIES_PER_STRIPE_MAX, "{entries}");
        assert_eq!(
            table.may_log_in(worst, "y@example.org", START),
            Verdict::Refuse
        );
    }

    #[test]
    fn an_address_without_connections_and_failures_leaves_nothing() {
        let table = Throttle::new(ThrottleLimits {
            connections_per_address_max: 0,
            ..LIMITS
        });
        assert!(table.connect(ip("192.0.2.1"), START, MANY).is_err());
        table.set_limits(LIMITS);
        assert!(table.connect(ip("192.0.2.1"), START, MANY).is_ok());
        table.disconnect(ip("192.0.2.1"), true);
        table.disconnect(ip("192.0.2.1"), true);
        assert!(table.stripes.iter().all(|s| s.lock().unwrap().is_empty()));
    }

    /// RFC 6120 §13.12: one that has proven itself is not counted against its address.
    #[test]
    fn an_address_may_have_newcomers_for_a_part_of_the_places_that_are_free() {
        let table = Throttle::new(PLENTY);
        let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let two = 2 * NEWCOMERS_SHARE - 1;
        assert!(table.connect(one, START, two).is_ok());
        assert!(table.connect(one, START, two).is_ok());
        let refused = table.connect(one, START, two).unwrap_err();
        assert_eq!((refused.limit, refused.untold), ("open files", Some(1)));
        assert!(table.connect(one, START, two + 1).is_ok());
        assert!(table.connect(other, START, 0).is_ok(), "the last place");
        table.proven(one);
        table.proven(one);
        assert!(table.connect(one, START, two).is_ok());
        table.disconnect(one, false);
        assert!(table.connect(one, START, two).is_err(), "a session went");
        table.disconnect(one, true);
        assert!(table.connect(one, START, two).is_ok(), "a newcomer went");
    }

    /// Addresses with connections, proven or not, that come, prove themselves and go, beside what the
    /// process has room for.
    struct Crowd {
        table: Throttle,
        files: Arc<OpenFiles>,
        members: Vec<(IpAddr, bool, Taken)>,
    }

    impl Crowd {
        fn new(max: u64) -> Crowd {
            let files = Arc::new(OpenFiles::default());
            files.admit(0, Some(OPEN_FILES_KEPT + max));
            Crowd {
                table: Throttle::new(PLENTY),
                files,
                members: Vec::new(),
            }
        }

        /// As the listener does it.
        fn comes(&mut self, address: IpAddr) -> bool {
            let Some(taken) = self.files.take() else {
                return false;
            };
            let free = self.files.free();
            let may_come = self.table.connect(address, START, free).is_ok();
            if may_come {
                self.members.push((address, true, taken));
            }
            may_come
        }

        fn newcomers(&self, address: IpAddr) -> u64 {
            let of = self.members.iter();
            of.filter(|(of, is_newcomer, _)| *of == address && *is_newcomer)
                .count() as u64
        }
    }

    proptest! {
        /// Who has many gets no more than its part, whoever comes, proves itself and goes meanwhile; who has
        /// none gets the last place.
        #[test]
        fn a_flood_gets_its_part_and_who_has_none_gets_in(
            max in 2u64..80,
            floods in 1u8..20,
            steps in proptest::collection::vec((0u8..20, 0u8..8), 0..400),
        ) {
            let mut crowd = Crowd::new(max);
            let flood = |who: u8| IpAddr::from([192, 0, 2, who % floods]);
            for (who, what) in steps {
                match what {
                    0 if !crowd.members.is_empty() => {
                        let at = usize::from(who) % crowd.members.len();
                        let (address, is_newcomer, _) = crowd.members.swap_remove(at);
                        crowd.table.disconnect(address, is_newcomer);
                    }
                    1 => {
                        if let Some(member) = crowd.members.iter_mut().find(|(_, new, _)| *new) {
                            member.1 = false;
                            crowd.table.proven(member.0);
                        }
                    }
                    _ => {
                        let before = crowd.newcomers(flood(who));
                        let free = crowd.files.free();
                        let got_in = crowd.comes(flood(who));
                        let part = free.saturating_sub(1) / NEWCOMERS_SHARE;
                        prop_assert_eq!(got_in, free > 0 && before <= part);
                        prop_assert!(before > 0 || free == 0 || got_in);
                        let has = crowd.newcomers(flood(who));
                        prop_assert!(has <= max.div_ceil(NEWCOMERS_SHARE + 1));
                    }
                }
            }
        }

        /// In whatever order they come: each flood leaves the others seven eighths of what there was.
        #[test]
        fn floods_leave_places_for_who_comes_from_elsewhere(
            max in 20u64..400,
            order in proptest::collection::vec(0u8..8, 1..40),
        ) {
            let mut crowd = Crowd::new(max);
            let address = |who: u8| IpAddr::from([192, 0, 2, who]);
            for round in 0..max + 40 {
                let who = order[round as usize % order.len()];
                crowd.comes(address(who));
            }
            let floods: std::collections::BTreeSet<&u8> = order.iter().collect();
            let left = floods.iter().fold(max, |left, _| {
                left.saturating_sub(1) * NEWCOMERS_SHARE / (NEWCOMERS_SHARE + 1)
            });
            prop_assert!(crowd.files.free() >= left, "{} {left}", crowd.files.free());
            prop_assert_eq!(crowd.comes(ip("198.51.100.7")), true);
        }

        #[test]
        fn connections_never_exceed_the_limit(steps in proptest::collection::vec((0u8..3, any::<bool>()), 0..200)) {
            let table = Throttle::new(LIMITS);
            let mut open = [0u32; 3];
            for (who, opens) in steps {
                let address = IpAddr::from([192, 0, 2, who]);
                let count = &mut open[usize::from(who)];
                if opens {
                    let free = table.connect(address, START, MANY).is_ok();
                    prop_assert_eq!(free, *count < 2);
                    *count += u32::from(free);
                } else if *count > 0 {
                    table.disconnect(address, true);
                    *count -= 1;
                }
            }
        }
    }
}

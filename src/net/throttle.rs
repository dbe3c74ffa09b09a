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
mod tests;

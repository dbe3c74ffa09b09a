//! What a stream may send in a time: of a client (`limits.bytes_per_second_max`,
//! `limits.stanzas_per_second_max`), or of another server (`limits.server_bytes_per_second_max`,
//! `limits.server_stanzas_per_second_max`), which speaks for many.
//!
//! A stream that sends more is not read until it may again: TCP slows the peer down, and nothing is
//! lost. It is charged once a turn for what it has sent by then, be it more than was left: a turn is
//! short, and what was overdrawn is waited for.

use std::time::Duration;

use crate::clock::Mono;
use crate::config::Limits;
use crate::limits::{STREAM_BURST, UNAUTHENTICATED_BURST, UNAUTHENTICATED_BYTES_PER_SECOND};
use crate::net::bucket::{Bucket, Rate};

const SECOND: Duration = Duration::from_secs(1);

/// What is left of it for one stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    bytes: Bucket,
    stanzas: Bucket,
}

/// What a stream has sent in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Bytes as received, those that TLS adds included.
    pub bytes: u64,
    /// Stanzas; nonzas count by their bytes alone.
    pub stanzas: u64,
}

/// A stream has sent more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdrawn {
    /// When it may be read again.
    pub until: Mono,
    /// What limits it.
    pub limit: &'static str,
}

impl Used {
    /// Adds what another, or another turn, has sent.
    pub fn add(&mut self, other: Used) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.stanzas = self.stanzas.saturating_add(other.stanzas);
    }
}

impl Budget {
    /// Charges a client that has logged in.
    pub fn charge(&mut self, used: Used, limits: &Limits, now: Mono) -> Option<Overdrawn> {
        let bytes = (limits.bytes_per_second_max, "limits.bytes_per_second_max");
        let stanzas = (
            limits.stanzas_per_second_max,
            "limits.stanzas_per_second_max",
        );
        self.charge_at(used, bytes, stanzas, now)
    }

    /// Charges another server that has proven a domain.
    pub fn charge_server(&mut self, used: Used, limits: &Limits, now: Mono) -> Option<Overdrawn> {
        let bytes = (
            limits.server_bytes_per_second_max,
            "limits.server_bytes_per_second_max",
        );
        let stanzas = (
            limits.server_stanzas_per_second_max,
            "limits.server_stanzas_per_second_max",
        );
        self.charge_at(used, bytes, stanzas, now)
    }

    fn charge_at(
        &mut self,
        used: Used,
        (bytes_max, bytes_option): (u32, &'static str),
        (stanzas_max, stanzas_option): (u32, &'static str),
        now: Mono,
    ) -> Option<Overdrawn> {
        let bytes = (&mut self.bytes, used.bytes, bytes_max, bytes_option);
        let stanzas = (&mut self.stanzas, used.stanzas, stanzas_max, stanzas_option);
        let overdrawn = [bytes, stanzas].map(|(bucket, count, per_second, limit)| {
            let rate = Rate::new(u64::from(per_second), SECOND, STREAM_BURST)?;
            let until = bucket.take(count, rate, now);
            (until > now).then_some(Overdrawn { until, limit })
        });
        overdrawn.into_iter().flatten().max_by_key(|one| one.until)
    }

    /// Charges a client that has not logged in.
    pub fn charge_unauthenticated(&mut self, used: Used, now: Mono) -> Option<Overdrawn> {
        let rate = Rate::new(
            UNAUTHENTICATED_BYTES_PER_SECOND,
            SECOND,
            UNAUTHENTICATED_BURST,
        )?;
        let until = self.bytes.take(used.bytes, rate, now);
        (until > now).then_some(Overdrawn {
            until,
            limit: "bytes before the login",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono::from_millis(1_000_000);

    fn limits(bytes: u32, stanzas: u32) -> Limits {
        Limits {
            bytes_per_second_max: bytes,
            stanzas_per_second_max: stanzas,
            ..Limits::default()
        }
    }

    fn used(bytes: u64, stanzas: u64) -> Used {
        Used { bytes, stanzas }
    }

    /// Half an hour of what busy clients send, all in a moment.
    #[test]
    fn a_client_that_asks_for_everything_at_its_login_is_not_slowed() {
        let mut budget = Budget::default();
        // Roster, archive pages, vCards of 1,500 contacts, 300 rooms; a picture.
        let all = used(1_900 * 300 + 256 * 1_024, 1_901);
        assert_eq!(budget.charge(all, &Limits::default(), START), None);
    }

    #[test]
    fn the_limit_that_lasts_longer_counts() {
        let mut budget = Budget::default();
        let limits = limits(1_000, 10);
        assert_eq!(budget.charge(used(10_000, 100), &limits, START), None);
        let overdrawn = budget.charge(used(1_000, 20), &limits, START).unwrap();
        assert_eq!(overdrawn.limit, "limits.stanzas_per_second_max");
        assert_eq!(overdrawn.until, START + 2 * SECOND);
        let overdrawn = budget.charge(used(5_000, 0), &limits, START).unwrap();
        assert_eq!(overdrawn.limit, "limits.bytes_per_second_max");
        assert_eq!(overdrawn.until, START + 6 * SECOND);
    }

    #[test]
    fn without_a_limit_nothing_is_slowed() {
        let mut budget = Budget::default();
        let much = used(1 << 40, 1 << 40);
        assert_eq!(budget.charge(much, &limits(0, 0), START), None);
    }

    /// RFC 6120 §6.4.5: five retries with the largest elements have room.
    #[test]
    fn before_the_login_there_is_room_for_every_honest_one() {
        let mut budget = Budget::default();
        assert_eq!(budget.charge_unauthenticated(used(60_000, 6), START), None);
        let overdrawn = budget.charge_unauthenticated(used(60_000, 0), START);
        assert!(overdrawn.is_some());
    }
}

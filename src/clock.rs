//! Time as values: read once a turn by who owns a thread, passed to everything else.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds on a clock that never goes back, counted from the start of the process.
/// Timers and limits use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(u64);

/// Microseconds since the Unix epoch. Stamps use it; it may jump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(u64);

/// Both clocks, read at the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers and limits.
    pub mono: Mono,
    /// For stamps.
    pub wall: Wall,
}

/// Where `Now` comes from in the running server. One is made at start and copied to each thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Mono {
    /// The moment `millis` milliseconds after the start.
    pub const fn from_millis(millis: u64) -> Mono {
        Mono(millis)
    }

    /// Milliseconds since the start.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, later: Duration) -> Mono {
        let millis = u64::try_from(later.as_millis()).unwrap_or(u64::MAX);
        Mono(self.0.saturating_add(millis))
    }
}

impl Sub for Mono {
    type Output = Duration;

    fn sub(self, earlier: Mono) -> Duration {
        self.since(earlier)
    }
}

impl Wall {
    /// The moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Wall {
        Wall(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// The time since an earlier moment; none if the clock has gone back.
    pub fn since(self, earlier: Wall) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment as XEP-0082 §3.2 writes it, in UTC, to the millisecond.
    pub fn date_time(self) -> String {
        let millis = i64::try_from(self.0 / 1000).unwrap_or(i64::MAX);
        // Past the year 9999 there are no such dates.
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        format!("{moment:.3}")
    }
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Reads both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros();
        let mono = self.start.elapsed().as_millis();
        Now {
            mono: Mono(u64::try_from(mono).unwrap_or(u64::MAX)),
            wall: Wall(u64::try_from(wall).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_moment_is_zero_ago() {
        let (early, late) = (Mono::from_millis(5), Mono::from_millis(9));
        assert_eq!(late - early, Duration::from_millis(4));
        assert_eq!(early - late, Duration::ZERO);
    }

    /// XEP-0082 §3.2.
    #[test]
    fn a_moment_is_written_in_utc() {
        assert_eq!(Wall::default().date_time(), "1970-01-01T00:00:00.000Z");
        let moment = Wall::from_micros(1_795_557_600_045_999);
        assert_eq!(moment.date_time(), "2026-11-24T22:00:00.045Z");
        let end = Wall::from_micros(u64::MAX).date_time();
        assert!(end.starts_with("9999-12-30"), "{end}");
    }
}

//! Percentiles of durations in constant memory, exact to 1.6 %.

use std::time::Duration;

/// Each power of two of nanoseconds is cut into this many (as a power of two) equal buckets.
const PRECISION_BITS: u32 = 6;
const BUCKETS: usize = 64 << PRECISION_BITS;

/// Counts of durations by size.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: vec![0; BUCKETS].into(),
            total: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// The duration that `share` (0 to 1) of all are not above; zero if none was counted.
    pub fn percentile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper(index));
            }
        }
        Duration::ZERO
    }
}

/// Values below 2^PRECISION_BITS have a bucket each; above, the leading bits choose it.
fn bucket(nanos: u64) -> usize {
    let magnitude = nanos.max(1).ilog2().saturating_sub(PRECISION_BITS);
    ((magnitude as usize) << PRECISION_BITS) + (nanos >> magnitude) as usize
}

/// The largest value that falls into a bucket.
fn upper(index: usize) -> u64 {
    let magnitude = (index >> PRECISION_BITS).saturating_sub(1) as u32;
    let leading = (index - ((magnitude as usize) << PRECISION_BITS)) as u64;
    ((leading + 1) << magnitude) - 1
}

/// Claims about the histogram, run by `load check`.
pub fn check() {
    for nanos in (0..2000).chain((11..50).map(|bits| (1 << bits) + 12_345)) {
        let top = upper(bucket(nanos));
        assert!(
            top >= nanos && top - nanos <= nanos / 32,
            "{nanos} counted as {top}"
        );
    }
    let mut histogram = Histogram::default();
    (1..=1000).for_each(|millis| histogram.record(Duration::from_millis(millis)));
    let median = histogram.percentile(0.5).as_millis();
    assert!(
        (495..=516).contains(&median),
        "the median of 1..1000 is {median}"
    );
}

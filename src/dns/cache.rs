//! What was looked up, for as long as it holds: bounded in entries, in bytes, and in time.
//!
//! The library's own cache is passed over: it is bounded by messages alone, of up to 64 KiB each,
//! and keeps no absence while it validates, which is what most lookups end with.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::answer::{Failure, Record, Records, Rtype};
use crate::limits;

/// Results by name (in lower case, without a dot at the end) and type.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<(String, Rtype), Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    result: Result<Records, Failure>,
    until: Instant,
    bytes: usize,
}

/// Bytes that an entry is taken to cost beside its name and its records.
const ENTRY_BYTES: usize = 128;

impl Cache {
    /// What is known, if it still holds.
    pub fn find(
        &self,
        name: &str,
        rtype: Rtype,
        now: Instant,
    ) -> Option<&Result<Records, Failure>> {
        // The map wants an owned name even for a look. It is short, and a packet is saved.
        let entry = self.entries.get(&(name.to_owned(), rtype))?;
        (now < entry.until).then_some(&entry.result)
    }

    /// Keeps a result for `age` at most. Absence is kept for a short time only, other failures not
    /// at all: whoever asks again later wants to know whether they are over.
    pub fn keep(
        &mut self,
        name: &str,
        rtype: Rtype,
        result: &Result<Records, Failure>,
        age: Duration,
        now: Instant,
    ) {
        let age_max = match result {
            Ok(_) => limits::DNS_RECORDS_AGE_MAX,
            Err(failure) if failure.is_absence() => limits::DNS_ABSENCE_AGE_MAX,
            Err(_) => return,
        };
        let age = age.min(age_max);
        if age.is_zero() {
            return;
        }
        let bytes = ENTRY_BYTES + name.len() + result.as_ref().map_or(0, weight);
        let entry = Entry {
            result: result.clone(),
            until: now + age,
            bytes,
        };
        self.bytes += bytes;
        if let Some(old) = self.entries.insert((name.to_owned(), rtype), entry) {
            self.bytes -= old.bytes;
        }
        if self.is_over() {
            self.shrink(now);
        }
    }

    fn is_over(&self) -> bool {
        self.entries.len() > limits::DNS_CACHE_ENTRIES_MAX
            || self.bytes > limits::DNS_CACHE_BYTES_MAX
    }

    /// Drops what is over; if that is not enough, the half that would be over first. So the time
    /// that it takes is spread over as many results.
    fn shrink(&mut self, now: Instant) {
        self.entries.retain(|_, entry| now < entry.until);
        self.count();
        while self.is_over() {
            let mut ends: Vec<Instant> = self.entries.values().map(|entry| entry.until).collect();
            ends.sort_unstable();
            let middle = ends[ends.len() / 2];
            self.entries.retain(|_, entry| middle < entry.until);
            self.count();
        }
    }

    fn count(&mut self) {
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }
}

fn weight(records: &Records) -> usize {
    let heap = |record: &Record| match record {
        Record::Address(_) => 0,
        Record::Srv(srv) => srv.target.len(),
        Record::Tlsa(tlsa) => tlsa.data.len(),
    };
    let heap: usize = records.records.iter().map(heap).sum();
    records.records.len() * size_of::<Record>() + heap
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::answer::TlsaRecord;

    fn address(last: u8) -> Result<Records, Failure> {
        Ok(Records {
            records: vec![Record::Address([192, 0, 2, last].into())],
            is_secure: false,
        })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_result_is_found_by_name_and_type_until_its_time_is_over() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.keep("a.example", Rtype::A, &address(1), 5 * SECOND, now);
        cache.keep(
            "a.example",
            Rtype::Aaaa,
            &Err(Failure::NoRecords),
            5 * SECOND,
            now,
        );
        let later = now + 4 * SECOND;
        assert_eq!(cache.find("a.example", Rtype::A, later), Some(&address(1)));
        let absence = Err(Failure::NoRecords);
        assert_eq!(cache.find("a.example", Rtype::Aaaa, later), Some(&absence));
        assert_eq!(cache.find("a.example", Rtype::Srv, later), None);
        assert_eq!(cache.find("b.example", Rtype::A, later), None);
        assert_eq!(cache.find("a.example", Rtype::A, now + 5 * SECOND), None);
    }

    #[test]
    fn what_failed_and_what_has_no_time_to_live_is_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let failures = [
            Failure::TimedOut,
            Failure::Bogus,
            Failure::Refused("SERVFAIL"),
            Failure::Broken("reset".to_owned()),
        ];
        for failure in failures {
            cache.keep("a.example", Rtype::A, &Err(failure), SECOND, now);
            assert_eq!(cache.find("a.example", Rtype::A, now), None);
        }
        cache.keep("a.example", Rtype::A, &address(1), Duration::ZERO, now);
        assert_eq!(cache.find("a.example", Rtype::A, now), None);
    }

    #[test]
    fn no_time_to_live_is_longer_than_the_bound() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let week = Duration::from_secs(7 * 86_400);
        cache.keep("a.example", Rtype::A, &address(1), week, now);
        cache.keep("b.example", Rtype::A, &Err(Failure::NxDomain), week, now);
        let (records, absence) = (limits::DNS_RECORDS_AGE_MAX, limits::DNS_ABSENCE_AGE_MAX);
        assert!(
            cache
                .find("b.example", Rtype::A, now + absence - SECOND)
                .is_some()
        );
        assert_eq!(cache.find("b.example", Rtype::A, now + absence), None);
        assert!(
            cache
                .find("a.example", Rtype::A, now + records - SECOND)
                .is_some()
        );
        assert_eq!(cache.find("a.example", Rtype::A, now + records), None);
    }

    #[test]
    fn the_number_of_entries_is_bounded_and_those_that_last_longest_stay() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let count = limits::DNS_CACHE_ENTRIES_MAX + 1;
        for number in 0..count {
            let age = Duration::from_millis(1_000 + number as u64);
            cache.keep(
                &format!("{number}.example"),
                Rtype::A,
                &address(1),
                age,
                now,
            );
        }
        assert!(cache.entries.len() <= limits::DNS_CACHE_ENTRIES_MAX);
        assert!(cache.entries.len() >= limits::DNS_CACHE_ENTRIES_MAX / 2 - 1);
        let last = format!("{}.example", count - 1);
        assert!(cache.find(&last, Rtype::A, now).is_some());
        assert_eq!(cache.find("0.example", Rtype::A, now), None);
    }

    #[test]
    fn bytes_are_bounded_and_counted_off_again() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let record = Record::Tlsa(TlsaRecord {
            usage: 3,
            selector: 0,
            matching: 0,
            data: vec![0; limits::DNS_TLSA_BYTES_MAX],
        });
        let large = Ok(Records {
            records: vec![record; limits::DNS_RECORDS_MAX],
            is_secure: true,
        });
        for number in 0..2 * limits::DNS_CACHE_BYTES_MAX / limits::DNS_TLSA_BYTES_MAX {
            let age = Duration::from_millis(1_000 + number as u64);
            cache.keep(&format!("{number}.example"), Rtype::Tlsa, &large, age, now);
            assert!(cache.bytes <= limits::DNS_CACHE_BYTES_MAX);
        }
        let bytes = cache.bytes;
        let name = cache.entries.keys().next().unwrap().0.clone();
        cache.keep(&name, Rtype::Tlsa, &large, SECOND, now);
        assert_eq!(cache.bytes, bytes, "the old entry is counted off");
        cache.shrink(now + limits::DNS_RECORDS_AGE_MAX);
        assert_eq!((cache.bytes, cache.entries.len()), (0, 0));
    }
}

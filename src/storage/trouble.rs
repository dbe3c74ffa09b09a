//! What the operator is told of a disk that fails: once when it begins, and when it is over.
//!
//! Who asked is told each time; the log is not, since a full disk fails thousands of stanzas in the
//! same way. Some work succeeds on a disk that fails all else, such as a small commit on a full one, so
//! trouble is over only when work succeeds a while after the last failure.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::StoreError;

/// Without failures for this long, and with a success after it, the trouble is over.
const QUIET: Duration = Duration::from_secs(5);

/// What fails, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Commits,
    Reads,
    Checkpoints,
}

impl Work {
    fn has_failed(self) -> &'static str {
        match self {
            Work::Commits => "nothing can be stored, what asks for it gets an error",
            Work::Reads => "cannot read the database, who asked gets an error",
            Work::Checkpoints => "cannot move the write-ahead log into the database, it grows",
        }
    }

    fn works_again(self) -> &'static str {
        match self {
            Work::Commits => "storing works again",
            Work::Reads => "reading works again",
            Work::Checkpoints => "the write-ahead log is moved again",
        }
    }
}

/// Failures of one kind of work since the last time that all was well.
#[derive(Debug)]
pub(super) struct Trouble {
    work: Work,
    database: PathBuf,
    /// The different errors that were told, the first one first.
    told: Vec<StoreError>,
    failures: u64,
    last: Option<Instant>,
}

impl Trouble {
    pub(super) fn new(work: Work, database: &Path) -> Trouble {
        Trouble {
            work,
            database: database.to_owned(),
            told: Vec::new(),
            failures: 0,
            last: None,
        }
    }

    /// The file.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Whether work has failed and that is not over yet.
    pub(super) fn lasts(&self) -> bool {
        self.last.is_some()
    }

    /// How many errors were told and are not over.
    #[cfg(test)]
    pub(super) fn told(&self) -> usize {
        self.told.len()
    }

    /// Takes note of a failure, and tells it if it is news.
    pub(super) fn failed(&mut self, now: Instant, error: &StoreError) {
        self.last = Some(now);
        self.failures += 1;
        if self.told.contains(error) {
            return;
        }
        log::error!(
            database:% = self.database.display(), error:%, remedy:% = error.remedy();
            "{}", self.work.has_failed()
        );
        self.told.push(error.clone());
    }

    /// Takes note of a success, which may be the end of trouble.
    pub(super) fn worked(&mut self, now: Instant) {
        let Some(last) = self.last else {
            return;
        };
        if now.saturating_duration_since(last) < QUIET {
            return;
        }
        let failures = self.failures;
        log::info!(database:% = self.database.display(), failures; "{}", self.work.works_again());
        *self = Trouble::new(self.work, &self.database);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble() -> Trouble {
        Trouble::new(Work::Commits, Path::new("/data/db"))
    }

    #[test]
    fn each_error_is_told_once_for_as_long_as_trouble_lasts() {
        let (mut trouble, now) = (trouble(), Instant::now());
        for seconds in 0..20 {
            let now = now + Duration::from_secs(seconds);
            trouble.failed(now, &StoreError::Full);
            trouble.worked(now + QUIET / 2);
        }
        assert_eq!((trouble.told(), trouble.failures), (1, 20));
        trouble.failed(now, &StoreError::Busy);
        trouble.failed(now, &StoreError::Full);
        assert_eq!(trouble.told(), 2);
    }

    #[test]
    fn trouble_is_over_with_a_success_some_time_after_the_last_failure() {
        let (mut trouble, now) = (trouble(), Instant::now());
        trouble.worked(now);
        trouble.failed(now, &StoreError::Full);
        trouble.worked(now + QUIET / 2);
        assert!(trouble.lasts());
        trouble.worked(now + QUIET);
        assert!(!trouble.lasts());
        trouble.failed(now + 2 * QUIET, &StoreError::Full);
        assert_eq!((trouble.told(), trouble.failures), (1, 1), "it is news");
    }
}

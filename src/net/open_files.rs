//! The limit on open files, and how many connections it admits: each takes a descriptor.
//!
//! Connections are counted and refused before the descriptors run out, so that the store, the log, a
//! reload and the commands find one when they need it. Without the count `accept` would take the
//! last of them, and each that a client gives back.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::OPEN_FILES_KEPT;

/// Stands for no limit.
const UNLIMITED: u64 = u64::MAX;

/// The connections of the process, and how many there may be. One for the process.
#[derive(Debug)]
pub struct OpenFiles {
    /// Descriptors that the process has open without any connection.
    own: AtomicU64,
    /// Connections that are admitted, or [`UNLIMITED`].
    max: AtomicU64,
    taken: AtomicU64,
}

/// The right of one connection to its descriptor. To be dropped after the socket.
#[derive(Debug)]
pub struct Taken(Arc<OpenFiles>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for OpenFiles {
    /// Admits as many connections as come, until it is told what the process may have.
    fn default() -> OpenFiles {
        OpenFiles {
            own: AtomicU64::new(0),
            max: AtomicU64::new(UNLIMITED),
            taken: AtomicU64::new(0),
        }
    }
}

impl OpenFiles {
    /// Admits what is left to a process that has `own` descriptors open for itself and may have `limit`;
    /// none is "no limit".
    pub fn admit(&self, own: u64, limit: Option<u64>) {
        self.own.store(own, Ordering::Release);
        self.set_limit(limit);
    }

    /// Puts another limit in force. Connections above it stay until they end.
    pub fn set_limit(&self, limit: Option<u64>) {
        let own = self.own.load(Ordering::Acquire);
        let max = connections_max(limit, own).unwrap_or(UNLIMITED);
        self.max.store(max, Ordering::Release);
    }

    /// How many connections are admitted at a time; none is "no limit".
    pub fn connections_max(&self) -> Option<u64> {
        Some(self.max.load(Ordering::Acquire)).filter(|max| *max != UNLIMITED)
    }

    /// Descriptors that are no client's to have: those that the process has open for itself, and
    /// those kept for what it may have to open.
    pub fn kept(&self) -> u64 {
        self.own
            .load(Ordering::Acquire)
            .saturating_add(OPEN_FILES_KEPT)
    }

    /// Counts a connection. None, and not counted: there are as many as are admitted.
    #[must_use]
    pub fn take(self: &Arc<OpenFiles>) -> Option<Taken> {
        let max = self.max.load(Ordering::Acquire);
        let next = |taken: u64| (taken < max).then(|| taken + 1);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()
            .map(|_| Taken(Arc::clone(self)))
    }

    /// How many connections more are admitted.
    pub fn free(&self) -> u64 {
        let max = self.max.load(Ordering::Acquire);
        max.saturating_sub(self.taken.load(Ordering::Acquire))
    }

    /// Whether an eighth of the connections that are admitted could come at once.
    pub fn has_room(&self) -> bool {
        let max = self.max.load(Ordering::Acquire);
        self.taken.load(Ordering::Acquire) < max - max / 8
    }
}

/// How many connections a limit on open files admits to a process that has `own` descriptors open
/// without them; none is "no limit".
fn connections_max(limit: Option<u64>, own: u64) -> Option<u64> {
    Some(limit?.saturating_sub(own.saturating_add(OPEN_FILES_KEPT)))
}

/// The limit on open files of this process; none is "no limit".
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the limit on open files as far as it goes without privileges. The soft limit is low for
/// programs that use `select`, which stanzad does not.
///
/// # Errors
/// The operating system refuses; the limit is as before.
pub fn raise_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// How many descriptors this process has open.
///
/// # Errors
/// There is no `/proc`, or no descriptor left to look at it.
pub fn in_use() -> io::Result<u64> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc/self/fd")? {
        entry?;
        count += 1;
    }
    // The directory itself was one of them.
    Ok(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open_files(own: u64, limit: Option<u64>) -> Arc<OpenFiles> {
        let open_files = OpenFiles::default();
        open_files.admit(own, limit);
        Arc::new(open_files)
    }

    #[test]
    fn the_limit_on_open_files_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        raise_limit().unwrap();
        assert_eq!(limit(), hard);
    }

    #[test]
    fn a_descriptor_more_is_counted() {
        // Other tests of this process open and close theirs meanwhile, but not as many.
        let before = in_use().unwrap();
        let files: Vec<_> = (0..200).map(|_| tempfile::tempfile().unwrap()).collect();
        let during = in_use().unwrap();
        assert!(during >= before + 100, "{before} {during}");
        drop(files);
        assert!(in_use().unwrap() <= during - 100);
    }

    #[test]
    fn own_and_kept_descriptors_are_no_clients() {
        let admitted = |limit| connections_max(Some(limit), 40);
        assert_eq!(admitted(1024), Some(1024 - 40 - OPEN_FILES_KEPT));
        assert_eq!(admitted(40 + OPEN_FILES_KEPT + 1), Some(1));
        assert_eq!(admitted(40 + OPEN_FILES_KEPT), Some(0));
        assert_eq!(admitted(39), Some(0));
        assert_eq!(admitted(0), Some(0));
        assert_eq!(connections_max(None, 40), None);
        assert_eq!(connections_max(Some(1 << 20), u64::MAX), Some(0));
        assert_eq!(open_files(40, None).kept(), 40 + OPEN_FILES_KEPT);
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_has_ended() {
        let open_files = open_files(3, Some(3 + OPEN_FILES_KEPT + 2));
        let (first, second) = (open_files.take(), open_files.take());
        assert!(first.is_some() && second.is_some());
        assert!(open_files.take().is_none());
        assert!(open_files.take().is_none(), "a refused one is not counted");
        assert_eq!(open_files.free(), 0);
        drop(first);
        assert_eq!(open_files.free(), 1);
        let third = open_files.take();
        assert!(third.is_some());
        assert!(open_files.take().is_none());
    }

    #[test]
    fn a_lower_limit_ends_no_connection_and_a_higher_one_admits_more() {
        let limit = |connections| Some(OPEN_FILES_KEPT + connections);
        let open_files = open_files(0, limit(8));
        let mut taken: Vec<_> = (0..8).filter_map(|_| open_files.take()).collect();
        open_files.set_limit(limit(4));
        assert_eq!(open_files.connections_max(), Some(4));
        taken.truncate(5);
        assert!(
            open_files.take().is_none(),
            "five are there, four are admitted"
        );
        taken.truncate(3);
        taken.extend(open_files.take());
        assert_eq!(taken.len(), 4);
        open_files.set_limit(None);
        assert_eq!(open_files.connections_max(), None);
        assert!(open_files.take().is_some());
    }

    #[test]
    fn there_is_room_when_an_eighth_is_free() {
        let open_files = open_files(0, Some(OPEN_FILES_KEPT + 16));
        let mut taken: Vec<_> = (0..16).filter_map(|_| open_files.take()).collect();
        assert!(!open_files.has_room());
        taken.truncate(14);
        assert!(!open_files.has_room());
        taken.truncate(13);
        assert!(open_files.has_room());
        open_files.set_limit(Some(0));
        assert!(!open_files.has_room());
        open_files.set_limit(None);
        assert!(open_files.has_room());
    }

    proptest! {
        #[test]
        fn there_are_never_more_connections_than_admitted(
            limit in 0u64..100,
            steps in proptest::collection::vec(any::<bool>(), 0..200),
        ) {
            let open_files = open_files(10, Some(limit));
            let max = limit.saturating_sub(10 + OPEN_FILES_KEPT);
            let mut taken = Vec::new();
            for comes in steps {
                if comes {
                    let place = open_files.take();
                    prop_assert_eq!(place.is_some(), (taken.len() as u64) < max);
                    taken.extend(place);
                } else {
                    taken.pop();
                }
            }
        }
    }
}

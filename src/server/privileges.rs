//! What the process may do and leave behind: the mode of new files, root, open files.

use std::io;
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::process::Signal;

use super::StartError;
use crate::limits::{CONNECTIONS_FEW, OPEN_FILES_OWN, OPEN_FILES_PER_SHARD};
use crate::net::open_files::{self, OpenFiles};

/// Makes every file that the process creates from now on its user's alone (mode 0600, directories
/// 0700): databases, journals, sockets, logs. To be called before any thread starts.
pub fn restrict_new_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Has a write beyond a limit on the size of files fail as one on a full disk does (`EFBIG`). Without a
/// handler the signal that comes with it would end the process.
///
/// # Errors
/// The system's.
pub fn survive_large_files() -> io::Result<()> {
    // Nobody looks at the flag: the write that failed tells.
    signal_hook::flag::register(Signal::XFSZ.as_raw(), Arc::default()).map(drop)
}

/// Whether the process runs as root. stanzad needs nothing that only root may do: its ports are
/// above 1023, and keys can be given to its group.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Raises the limit on open files as far as it goes, or logs why it does not go.
pub fn raise_open_files() {
    if let Err(error) = open_files::raise_limit() {
        log::warn!(error:%; "the limit on open files stays as it is");
    }
}

/// Tells how many connections the limit on open files admits to this process, which has opened all that
/// it needs and no connection yet.
///
/// # Errors
/// It admits none.
pub fn admit_connections(open_files: &OpenFiles, shards: u32) -> Result<(), StartError> {
    let own = open_files::in_use().unwrap_or_else(|error| {
        log::warn!(error:%; "open files not counted, their number is estimated");
        OPEN_FILES_OWN + OPEN_FILES_PER_SHARD * u64::from(shards)
    });
    let limit = open_files::limit();
    open_files.admit(own, limit);
    let kept = open_files.kept();
    if let (Some(limit), Some(0)) = (limit, open_files.connections_max()) {
        return Err(StartError::new(format!(
            "only {limit} open files are allowed, of which the server needs {kept} for itself, so \
             that nobody could connect; raise LimitNOFILE= of the service, or the limit that \
             `ulimit -Hn` shows"
        )));
    }
    tell_connections(open_files, limit);
    Ok(())
}

/// Takes up a limit on open files that was changed while the server runs, for instance by prlimit(1).
pub fn admit_connections_again(open_files: &OpenFiles) {
    raise_open_files();
    let before = open_files.connections_max();
    let limit = open_files::limit();
    open_files.set_limit(limit);
    if open_files.connections_max() != before {
        tell_connections(open_files, limit);
    }
}

fn tell_connections(open_files: &OpenFiles, limit: Option<u64>) {
    let (kept, connections_max) = (open_files.kept(), open_files.connections_max());
    log::info!(open_files = limit, kept, connections_max; "connections are admitted");
    if connections_max.is_some_and(|max| max < CONNECTIONS_FEW) {
        log::warn!(
            open_files = limit, connections_max;
            "few connections are admitted, as each takes an open file; raise LimitNOFILE= of the \
             service, or the limit that `ulimit -Hn` shows"
        );
    }
}

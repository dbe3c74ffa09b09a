//! What the process may do and leave behind: the mode of new files, root, open files.

use std::fmt;
use std::io;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Open files that a shard count of one and a few hundred clients need. With fewer allowed the
/// server starts, but says so.
pub const OPEN_FILES_MIN: u64 = 1024;

/// How many files, sockets among them, the process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit that the process was started with; none is "no limit".
    pub before: Option<u64>,
    /// The limit now.
    pub now: Option<u64>,
}

impl OpenFiles {
    /// Whether the limit is so low that an operator should look at it.
    pub fn is_low(&self) -> bool {
        self.now.is_some_and(|now| now < OPEN_FILES_MIN)
    }
}

impl fmt::Display for OpenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now {
            Some(now) => write!(f, "{now}"),
            None => f.write_str("unlimited"),
        }
    }
}

/// Makes every file that the process creates from now on its user's alone (mode 0600, directories
/// 0700): databases, journals, sockets, logs. To be called before any thread starts.
pub fn restrict_new_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Whether the process runs as root. stanzad needs nothing that only root may do: its ports are
/// above 1023, and keys can be given to its group.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Raises the limit on open files as far as it goes without privileges: each client takes one. The
/// soft limit is low for programs that use `select`, which stanzad does not.
///
/// # Errors
/// The operating system refuses; the limit is as before.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(OpenFiles {
        before: limit.current,
        now: getrlimit(Resource::Nofile).current,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let raised = raise_open_files().unwrap();
        assert_eq!(raised.now, hard);
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }

    #[test]
    fn a_limit_below_what_a_small_server_needs_is_called_low() {
        let limit = |now| OpenFiles { before: now, now };
        assert!(limit(Some(256)).is_low());
        assert!(!limit(Some(1024)).is_low());
        assert!(!limit(None).is_low());
        assert_eq!(limit(None).to_string(), "unlimited");
    }
}

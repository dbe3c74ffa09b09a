//! A server on a disk whose faults the test chooses (`shim.c`).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::io::Errno;

use crate::common::server::{Server, command};
use crate::common::site::Site;

/// The environment variable that names the file with the faults.
const FAULTS: &str = "DISK_FAULTS";

/// The call that fails.
#[derive(Clone, Copy)]
pub enum Call {
    Read,
    Write,
    Sync,
}

/// The faults of the disk under one server.
pub struct Faults(PathBuf);

impl Faults {
    /// From now on these calls fail, on files whose names match the patterns, and no others.
    pub fn are(&self, faults: &[(Call, &str, Errno)]) {
        let line = |(call, pattern, error): &(Call, &str, Errno)| {
            let call = match call {
                Call::Read => "read",
                Call::Write => "write",
                Call::Sync => "sync",
            };
            format!("{call} {pattern} {}\n", error.raw_os_error())
        };
        let text: String = faults.iter().map(line).collect();
        // Whole at once.
        let new = self.0.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.0).unwrap();
    }

    /// The disk is fine again.
    pub fn are_over(&self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// Starts a server whose disk is fine until its faults are told.
pub fn start(site: Site) -> (Server, Faults) {
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o"]);
    cc.arg(site.path("shim.so"));
    cc.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/disk/shim.c"));
    let status = cc.status().expect("cc is what SQLite is built with");
    assert!(status.success(), "{status}");
    let (command, faults) = (with_faults(&site), Faults(site.path("faults")));
    (Server::start_by(site, command), faults)
}

/// The command that runs a server on the disk of a site where one was started before.
pub fn with_faults(site: &Site) -> Command {
    let mut command = command(site);
    command
        .env("LD_PRELOAD", site.path("shim.so"))
        .env(FAULTS, site.path("faults"));
    command
}

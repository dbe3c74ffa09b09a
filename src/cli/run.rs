//! `stanzad run`: from the conf file to a server in the foreground.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Failure, load, remark};
use crate::config::Settings;
use crate::server::{self, Started, privileges};

/// Serves until the server is told to stop.
pub fn run(config: &Path, as_root: bool) -> Result<(), Failure> {
    let settings = load(config)?;
    check_user(&settings, as_root)?;
    // A service manager learns from sd_notify, and people from the log, that it is ready.
    serve(settings, config.to_path_buf(), |_| ())
}

/// Runs the server in this process, whose umask is set first.
pub fn serve(
    settings: Settings,
    config: PathBuf,
    ready: impl FnOnce(&Started),
) -> Result<(), Failure> {
    privileges::restrict_new_files();
    server::run(settings, Some(config), ready).map_err(Failure::no)
}

fn check_user(settings: &Settings, as_root: bool) -> Result<(), Failure> {
    if !privileges::is_root() {
        return Ok(());
    }
    let data = &settings.server.data;
    if let Ok(metadata) = fs::metadata(data)
        && metadata.uid() != 0
    {
        let uid = metadata.uid();
        return Err(Failure::no(format_args!(
            "{}: the data belong to user {uid}, who could not use what root writes there; run \
             stanzad as that user: `sudo -u '#{uid}' stanzad run`",
            data.display()
        )));
    }
    if !as_root {
        remark(
            "warning: stanzad runs as root, but needs nothing that only root may do; use a user of \
             its own, or --as-root if this is meant",
        );
    }
    Ok(())
}

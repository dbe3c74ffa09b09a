//! Where log lines go.

use std::path::PathBuf;

use ::log::LevelFilter;

/// What is logged, where to and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The least important level that is written.
    pub level: LevelFilter,
    /// Where lines go.
    pub to: LogTo,
    /// What a line looks like.
    pub format: LogFormat,
}

/// Where log lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard error with the priority prefixes that systemd reads (sd-daemon(3)).
    Journald,
    /// The syslog socket.
    Syslog,
    /// A file, 0600, opened again at a reload.
    File(PathBuf),
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-24T21:51:09.123Z info event key=value`
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            level: LevelFilter::Info,
            to: LogTo::default(),
            format: LogFormat::default(),
        }
    }
}

//! The places that log lines are written to, owned by the writer thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use ::log::Level;
use syslog::{Facility, Formatter3164, LoggerBackend};

use super::{LogError, LogTo};

/// One place for lines.
pub(super) trait Sink: Send {
    /// Takes a line without its end. May keep it until `flush`.
    fn line(&mut self, level: Level, line: &str);

    /// Writes what was taken. On an error it is lost: kept, it would grow without bound.
    fn flush(&mut self) -> io::Result<()>;
}

/// Opens a sink.
///
/// # Errors
/// `Open`.
pub(super) fn open(to: &LogTo) -> Result<Box<dyn Sink>, LogError> {
    let failed = |error| LogError::Open(to.clone(), error);
    Ok(match to {
        LogTo::Stderr | LogTo::Journald => Box::new(Bytes {
            out: io::stderr(),
            prefixed: is_stamped(to),
            gathered: Vec::new(),
        }),
        LogTo::File(path) => {
            let mut options = OpenOptions::new();
            let opened = options.append(true).create(true).mode(0o600).open(path);
            Box::new(Bytes::<File> {
                out: opened.map_err(failed)?,
                prefixed: false,
                gathered: Vec::new(),
            })
        }
        LogTo::Syslog => Box::new(Syslog {
            logger: Some(connect().map_err(failed)?),
            failed: None,
        }),
    })
}

/// Whether what reads the sink adds time and level of its own to each line.
pub(super) fn is_stamped(to: &LogTo) -> bool {
    match to {
        LogTo::Journald | LogTo::Syslog => true,
        LogTo::File(_) => false,
        LogTo::Stderr => std::env::var("JOURNAL_STREAM")
            .is_ok_and(|stream| Some(stream) == device_and_inode(&io::stderr())),
    }
}

/// `DEVICE:INODE` as systemd writes it into `JOURNAL_STREAM` (systemd.exec(5)): the variable is
/// inherited by children whose standard error goes elsewhere.
fn device_and_inode(file: &impl std::os::fd::AsFd) -> Option<String> {
    let stat = rustix::fs::fstat(file).ok()?;
    Some(format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A file or standard error.
struct Bytes<W> {
    out: W,
    /// Whether `<N>` goes before each line.
    prefixed: bool,
    gathered: Vec<u8>,
}

impl<W: Write + Send> Sink for Bytes<W> {
    fn line(&mut self, level: Level, line: &str) {
        if self.prefixed {
            let priority = priority(level);
            self.gathered.extend([b'<', b'0' + priority, b'>']);
        }
        self.gathered.extend(line.as_bytes());
        self.gathered.push(b'\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.gathered);
        self.gathered.clear();
        // A burst is over; its memory is given back.
        self.gathered.shrink_to(64 * 1024);
        written
    }
}

/// The priority of syslog(3), which sd-daemon(3) shares.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

type SyslogLogger = syslog::Logger<LoggerBackend, Formatter3164>;

fn connect() -> io::Result<SyslogLogger> {
    let formatter = Formatter3164 {
        facility: Facility::LOG_DAEMON,
        hostname: None,
        process: "stanzad".to_owned(),
        pid: std::process::id(),
    };
    syslog::unix(formatter).map_err(io::Error::other)
}

/// The local syslog socket, connected anew when the service behind it was restarted.
struct Syslog {
    logger: Option<SyslogLogger>,
    failed: Option<io::Error>,
}

impl Syslog {
    fn send(&mut self, level: Level, line: &str) -> io::Result<()> {
        let logger = match &mut self.logger {
            Some(logger) => logger,
            None => self.logger.insert(connect()?),
        };
        let sent = match level {
            Level::Error => logger.err(line),
            Level::Warn => logger.warning(line),
            Level::Info => logger.info(line),
            Level::Debug | Level::Trace => logger.debug(line),
        };
        sent.map_err(io::Error::other)
    }
}

impl Sink for Syslog {
    fn line(&mut self, level: Level, line: &str) {
        if self.send(level, line).is_err() {
            self.logger = None;
            if let Err(error) = self.send(level, line) {
                self.failed = Some(error);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_priority_before_each_line() {
        let mut sink = Bytes {
            out: Vec::new(),
            prefixed: true,
            gathered: Vec::new(),
        };
        sink.line(Level::Error, "store failed");
        sink.line(Level::Info, "started");
        sink.flush().unwrap();
        assert_eq!(sink.out, b"<3>store failed\n<6>started\n");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let other = tempfile::tempfile().unwrap();
        let name = device_and_inode(&file).unwrap();
        assert_eq!(Some(&name), device_and_inode(&file).as_ref());
        assert_ne!(Some(name), device_and_inode(&other));
    }
}

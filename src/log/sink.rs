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

    /// Writes what was taken, and yields how many lines are lost because that failed: kept, they would
    /// grow without bound.
    fn flush(&mut self) -> u64;
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
            is_torn: false,
        }),
        LogTo::File(path) => {
            let mut options = OpenOptions::new();
            let opened = options.append(true).create(true).mode(0o600).open(path);
            Box::new(Bytes::<File> {
                out: opened.map_err(failed)?,
                prefixed: false,
                gathered: Vec::new(),
                is_torn: false,
            })
        }
        LogTo::Syslog => Box::new(Syslog {
            logger: Some(connect().map_err(failed)?),
            lost: 0,
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
    /// Whether the last line was written in part: a disk takes what it has room for.
    is_torn: bool,
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

    fn flush(&mut self) -> u64 {
        if self.gathered.is_empty() {
            return 0;
        }
        if self.is_torn {
            // What is there of a torn line stays a line of its own.
            self.gathered.insert(0, b'\n');
        }
        let written = write(&mut self.out, &self.gathered);
        let rest = self.gathered[written..].iter();
        let mut lost = rest.filter(|byte| **byte == b'\n').count();
        match written.checked_sub(1) {
            Some(last) => self.is_torn = self.gathered[last] != b'\n',
            None => lost -= usize::from(self.is_torn),
        }
        self.gathered.clear();
        // A burst is over; its memory is given back.
        self.gathered.shrink_to(64 * 1024);
        lost as u64
    }
}

/// Writes as many bytes as are taken.
fn write(out: &mut impl Write, bytes: &[u8]) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => break,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    written
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
    lost: u64,
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
            if self.send(level, line).is_err() {
                self.lost += 1;
            }
        }
    }

    fn flush(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
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
            is_torn: false,
        };
        sink.line(Level::Error, "store failed");
        sink.line(Level::Info, "started");
        assert_eq!(sink.flush(), 0);
        assert_eq!(sink.out, b"<3>store failed\n<6>started\n");
    }

    /// Takes so many bytes, then nothing.
    struct Disk {
        room: usize,
        written: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.written.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_a_full_disk_does_not_take_are_counted_and_tear_no_other() {
        let mut sink = Bytes {
            out: Disk {
                room: 8,
                written: Vec::new(),
            },
            prefixed: false,
            gathered: Vec::new(),
            is_torn: false,
        };
        let mut lose = |lines: &[&str], room| {
            for line in lines {
                sink.line(Level::Info, line);
            }
            let lost = sink.flush();
            sink.out.room += room;
            lost
        };
        assert_eq!(lose(&["first", "second", "third"], 0), 2);
        assert_eq!(lose(&["fourth"], 1), 1);
        // There is room for the end of the torn line only.
        assert_eq!(lose(&["fifth"], 100), 1);
        assert_eq!(lose(&["sixth"], 0), 0);
        assert_eq!(lose(&[], 0), 0);
        assert_eq!(sink.out.written, b"first\nse\nsixth\n");
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

//! Where log lines go: a sink behind a bounded queue, so that no reactor thread ever waits for a
//! disk, a pipe or a socket.
//!
//! The thread that logs formats its line and hands it over; one writer thread owns the sink. When
//! the queue is full a line is dropped and counted, and the count is told as a line of its own once
//! there is room again. Write `::log` macros with fields, the event first:
//! `warn!(stream = id, peer:% = address; "login failed")`. A field is quoted and escaped as one
//! value; what a peer sent belongs there and not into the event's text.

mod foreign;
mod line;
pub mod panic;
mod sink;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use ::log::{Level, LevelFilter, Log, Metadata, Record};
use crossbeam_channel::{Receiver, Sender, bounded};

pub use self::foreign::for_people;
use crate::limits::LOG_LINES_MAX;
use line::Style;
use sink::Sink;

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
    /// Standard error; if that is the journal's (systemd.exec(5), `JOURNAL_STREAM`), as `Journald`.
    #[default]
    Stderr,
    /// Standard error with the priority prefixes that systemd reads (sd-daemon(3)).
    Journald,
    /// The syslog socket, facility `daemon`.
    Syslog,
    /// A file, created with mode 0600, opened again at a reload.
    File(PathBuf),
}

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-24T21:51:09.123Z info event key=value`; journal and syslog stamp lines themselves,
    /// and get the part from the event on.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `event`, and the fields.
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

/// Why there is no log.
#[derive(Debug)]
pub enum LogError {
    /// The file or the socket cannot be opened.
    Open(LogTo, io::Error),
    /// The writer thread cannot be started.
    Thread(io::Error),
    /// Another logger was installed in this process before.
    Taken,
    /// The writer hangs in its present sink, and does not take another.
    Stuck,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open(LogTo::File(path), error) => write!(
                f,
                "log file {}: {error}; create its directory for the user that runs stanzad, or set \
                 another log.to",
                path.display()
            ),
            LogError::Open(LogTo::Syslog, error) => write!(
                f,
                "syslog: {error}; start a syslog service, or set log.to = \"stderr\""
            ),
            LogError::Open(LogTo::Stderr | LogTo::Journald, error) => {
                write!(f, "standard error: {error}; set another log.to")
            }
            LogError::Thread(error) => write!(f, "no thread for the log: {error}"),
            LogError::Taken => f.write_str("this process has another logger already"),
            LogError::Stuck => f.write_str(
                "the log's present target does not take lines; what reads it must go on or end",
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// How long a caller that may wait (never a reactor thread) does so for the writer.
const PATIENCE: Duration = Duration::from_secs(2);

enum Post {
    Line(Level, String),
    Sink(Box<dyn Sink>),
    Flush(Sender<()>),
}

/// The running log. Cheap to clone; usable from any thread.
#[derive(Clone)]
pub struct Logging {
    posts: Sender<Post>,
    /// Lines dropped since the last time that was told.
    dropped: Arc<AtomicU64>,
    style: Arc<AtomicU8>,
}

/// Opens the sink, starts the writer and installs the process's logger.
///
/// # Errors
/// Any but `Stuck`.
pub fn start(options: &LogOptions) -> Result<Logging, LogError> {
    let logging = Logging::new(sink::open(&options.to)?)?;
    let logger = Box::new(logging.clone());
    ::log::set_boxed_logger(logger).map_err(|_| LogError::Taken)?;
    logging.restyle(options);
    Ok(logging)
}

impl Logging {
    fn new(sink: Box<dyn Sink>) -> Result<Logging, LogError> {
        let (posts, inbox) = bounded(LOG_LINES_MAX);
        let logging = Logging {
            posts,
            dropped: Arc::default(),
            style: Arc::default(),
        };
        let writer = Writer {
            inbox,
            sink,
            dropped: Arc::clone(&logging.dropped),
            style: Arc::clone(&logging.style),
        };
        let thread = thread::Builder::new().name("log".to_owned());
        thread
            .spawn(move || writer.run())
            .map_err(LogError::Thread)?;
        Ok(logging)
    }

    /// Takes over changed options, and opens the sink again even if nothing changed: that is how a
    /// rotated file is let go. May wait; not for reactor threads.
    ///
    /// # Errors
    /// `Open` or `Stuck`; the log goes on as it was.
    pub fn apply(&self, options: &LogOptions) -> Result<(), LogError> {
        let sink = Post::Sink(sink::open(&options.to)?);
        let sent = self.posts.send_timeout(sink, PATIENCE);
        sent.map_err(|_| LogError::Stuck)?;
        self.restyle(options);
        Ok(())
    }

    fn restyle(&self, options: &LogOptions) {
        let style = Style::of(options.format, sink::is_stamped(&options.to));
        self.style.store(style as u8, Ordering::Relaxed);
        ::log::set_max_level(options.level);
    }

    fn style(&self) -> Style {
        Style::from_u8(self.style.load(Ordering::Relaxed))
    }
}

impl Log for Logging {
    /// Of other crates only what someone should look at.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let ours = target == "stanzad" || target.starts_with("stanzad::");
        ours || metadata.level() <= Level::Warn
    }

    /// Never waits: with the queue full the line is dropped and counted.
    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line::format(record, self.style(), SystemTime::now());
        let post = Post::Line(record.level(), line);
        if self.posts.try_send(post).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was logged before is written, but not longer than a few seconds: for
    /// the end of the process, and for a panic hook.
    fn flush(&self) {
        let (done, written) = bounded(1);
        let sent = self.posts.send_timeout(Post::Flush(done), PATIENCE);
        if sent.is_ok() {
            // A writer that hangs is no reason not to end.
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// The writer thread. Ends when the last [`Logging`] is gone.
struct Writer {
    inbox: Receiver<Post>,
    sink: Box<dyn Sink>,
    dropped: Arc<AtomicU64>,
    style: Arc<AtomicU8>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(post) = self.inbox.recv() {
            let mut flushed = Vec::new();
            // What waits is written in one go, yet never so much that a flush starves.
            let waiting: Vec<Post> = self.inbox.try_iter().take(LOG_LINES_MAX).collect();
            for post in std::iter::once(post).chain(waiting) {
                match post {
                    Post::Line(level, line) => {
                        self.sink.line(level, &line);
                    }
                    Post::Sink(sink) => {
                        self.write();
                        self.sink = sink;
                    }
                    Post::Flush(done) => flushed.push(done),
                }
            }
            self.write();
            self.tell_dropped();
            for done in flushed {
                // Who asked may have given up waiting.
                let _ = done.send(());
            }
        }
    }

    /// Writes what the sink has gathered, and counts what is lost.
    fn write(&mut self) {
        let lost = self.sink.flush();
        if lost > 0 {
            self.dropped.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn tell_dropped(&mut self) {
        let count = self.dropped.swap(0, Ordering::Relaxed);
        if count == 0 {
            return;
        }
        let style = Style::from_u8(self.style.load(Ordering::Relaxed));
        let line = line::format(
            &Record::builder()
                .level(Level::Warn)
                .key_values(&[("count", count)])
                .args(format_args!("log lines lost"))
                .build(),
            style,
            SystemTime::now(),
        );
        self.sink.line(Level::Warn, &line);
        if self.sink.flush() > 0 {
            // Told with the next ones, when the sink takes lines again.
            self.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    type Written = Arc<Mutex<Vec<String>>>;

    /// Gathers lines; each flush waits for a permit and fails while told to.
    struct Slow {
        permits: Receiver<io::Result<()>>,
        gathered: Vec<String>,
        written: Written,
    }

    impl Sink for Slow {
        fn line(&mut self, _: Level, line: &str) {
            self.gathered.push(line.to_owned());
        }

        fn flush(&mut self) -> u64 {
            let lines = std::mem::take(&mut self.gathered);
            // With the permits' sender gone the sink is quick.
            if self.permits.recv().unwrap_or(Ok(())).is_err() {
                return lines.len() as u64;
            }
            self.written.lock().unwrap().extend(lines);
            0
        }
    }

    fn slow() -> (Logging, Sender<io::Result<()>>, Written) {
        let (permit, permits) = bounded(LOG_LINES_MAX);
        let written = Written::default();
        let sink = Slow {
            permits,
            gathered: Vec::new(),
            written: Arc::clone(&written),
        };
        (Logging::new(Box::new(sink)).unwrap(), permit, written)
    }

    fn say(logging: &Logging, text: &str) {
        let args = format_args!("{text}");
        let record = Record::builder()
            .level(Level::Info)
            .target("stanzad::test")
            .args(args)
            .build();
        logging.log(&record);
    }

    #[test]
    fn a_full_queue_drops_lines_without_waiting_and_tells_how_many() {
        let (logging, permit, written) = slow();
        // The writer takes at most a queue of lines and one more before it hangs in the sink.
        for number in 0..3 * LOG_LINES_MAX {
            say(&logging, &format!("line {number}"));
        }
        assert!(logging.dropped.load(Ordering::Relaxed) > 0);
        drop(permit);
        logging.flush();
        let lines = written.lock().unwrap();
        let told = lines.iter().filter_map(|line| {
            let (_, count) = line.split_once("log lines lost count=")?;
            count.parse::<usize>().ok()
        });
        let told: usize = told.sum();
        let kept = lines.iter().filter(|l| l.contains(" line ")).count();
        assert_eq!(kept + told, 3 * LOG_LINES_MAX);
    }

    #[test]
    fn lines_that_a_sink_refused_are_told_when_it_works_again() {
        let (logging, permit, written) = slow();
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        // The telling of the loss is refused too.
        permit.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        say(&logging, "lost");
        drop(permit);
        logging.flush();
        say(&logging, "kept");
        logging.flush();
        let lines = written.lock().unwrap().join("\n");
        assert!(!lines.contains("info lost"), "{lines}");
        assert!(lines.contains("info kept"), "{lines}");
        assert!(lines.contains("log lines lost count=1"), "{lines}");
    }

    #[test]
    fn other_crates_are_heard_from_warnings_on() {
        let (logging, permit, _) = slow();
        drop(permit);
        let enabled = |target: &str, level| {
            let metadata = Metadata::builder().target(target).level(level).build();
            logging.enabled(&metadata)
        };
        assert!(enabled("stanzad::stream", Level::Debug));
        assert!(enabled("mio", Level::Warn));
        assert!(!enabled("mio", Level::Info));
        assert!(!enabled("stanzadx", Level::Info));
    }

    #[test]
    fn a_file_is_private_and_opened_again_by_apply() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let options = LogOptions {
            to: LogTo::File(path.clone()),
            ..LogOptions::default()
        };
        let logging = Logging::new(sink::open(&options.to).unwrap()).unwrap();
        say(&logging, "before");
        logging.flush();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let rotated = dir.path().join("log.1");
        std::fs::rename(&path, &rotated).unwrap();
        logging.apply(&options).unwrap();
        say(&logging, "after");
        logging.flush();
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&rotated).ends_with("info before\n"));
        assert!(read(&path).ends_with("info after\n"));
        assert!(!read(&path).contains("before"));
    }

    #[test]
    fn a_sink_that_cannot_be_opened_leaves_the_log_as_it_was() {
        let (logging, permit, written) = slow();
        drop(permit);
        let options = LogOptions {
            to: LogTo::File(PathBuf::from("/nonexistent/stanzad/log")),
            ..LogOptions::default()
        };
        let error = logging.apply(&options).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/stanzad/log"), "{error}");
        say(&logging, "still here");
        logging.flush();
        assert_eq!(written.lock().unwrap().len(), 1);
    }
}

//! What is said before a panic ends the process: which stream was being handled, on whose account, and
//! where the code was. Release builds abort on a panic (`After a panic` in lib.rs), so nothing runs
//! after this.
//!
//! What crashed the server is not settled, and its sender may well send it again. So a note of whose it
//! was is left for the next start, which shuts out who has done it twice.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

thread_local! {
    static STREAM: Cell<u64> = const { Cell::new(0) };
    static SENDER: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Notes which stream this thread handles now; 0 for none. `sender` is the bare JID that has been
/// authenticated on it; empty for none.
pub fn handling(stream: u64, sender: &str) {
    STREAM.set(stream);
    handling_stanza(sender);
}

/// Notes that this thread handles a stanza of this bare JID, whatever stream it came by.
pub fn handling_stanza(sender: &str) {
    SENDER.with_borrow_mut(|noted| {
        noted.clear();
        noted.push_str(sender);
    });
}

/// Writes panics to the log, with stream and backtrace, and a line with the sender's bare JID to the
/// file `notes` (see [`crate::server`]). Standard error gets its message as before.
pub fn install(notes: PathBuf) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info, &notes);
        before(info);
    }));
}

fn report(info: &PanicHookInfo<'_>, notes: &Path) {
    let message = match info.payload().downcast_ref::<&str>() {
        Some(message) => message,
        None => info
            .payload()
            .downcast_ref::<String>()
            .map_or("no message", String::as_str),
    };
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let stream = STREAM.get();
    // The panic may have come while the name was being noted.
    let sender = SENDER.with(|noted| noted.try_borrow().map(|name| name.clone()));
    let sender = sender.unwrap_or_default();
    // First, since the rest may fail in its turn.
    if !sender.is_empty()
        && let Err(error) = leave_note(notes, &sender)
    {
        ::log::error!(file:% = notes.display(), error:%; "not noted whose stanza it was");
    }
    let backtrace = Backtrace::force_capture();
    ::log::error!(stream, sender, place, message; "panic");
    // A line a frame: one field could not hold them.
    for line in backtrace.to_string().lines() {
        ::log::error!(frame = line.trim(); "panic backtrace");
    }
    ::log::logger().flush();
}

/// Appends the time, in seconds since 1970, and the name.
fn leave_note(notes: &Path, sender: &str) -> io::Result<()> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.map_or(0, |since| since.as_secs());
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(notes)?;
    file.write_all(format!("{seconds} {sender}\n").as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs in a process of its own, since a panic hook is the whole process's.
    #[test]
    #[ignore = "the test below runs it, with a file in its environment"]
    fn crashes() {
        install(PathBuf::from(std::env::var("STANZAD_TEST_NOTES").unwrap()));
        handling(7, "romeo@example.org");
        let by_stream = std::thread::spawn(|| {
            handling(8, "juliet@example.org");
            panic!("on a stream");
        });
        assert!(by_stream.join().is_err());
        let by_stanza = std::thread::spawn(|| {
            handling(8, "juliet@example.org");
            handling_stanza("tybalt@example.org");
            panic!("on a stanza");
        });
        assert!(by_stanza.join().is_err());
        assert!(std::thread::spawn(|| panic!("on nobody's")).join().is_err());
    }

    #[test]
    fn a_panic_leaves_a_note_of_whose_stanza_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let notes = folder.path().join("stanzad.panics");
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::panic::tests::crashes", "--ignored"])
            .env("STANZAD_TEST_NOTES", &notes)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(notes).unwrap();
        let names: Vec<_> = text
            .lines()
            .map(|line| line.split_once(' ').unwrap().1)
            .collect();
        assert_eq!(names, ["juliet@example.org", "tybalt@example.org"]);
    }
}

//! Whose stanzas have crashed the server (`After a panic` in lib.rs). What crashed it was not
//! settled, so its sender sends it again; after the second crash within ten minutes the account is
//! disabled, loudly, and the server serves everybody else.
//!
//! The notes are in `stanzad.panics` in the data directory, lines of `SECONDS BARE-JID`, which the hook
//! in [`crate::log::panic`] writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::clock::Wall;
use crate::config::Settings;
use crate::jid::BareJid;
use crate::storage::{StoreError, WriterCore, accounts};

/// Seconds within which a second crash is no accident.
const WINDOW_SECONDS: u64 = 600;
/// Bytes of notes that are read; a process leaves one of at most some 2 KiB.
const NOTES_BYTES_MAX: u64 = 1 << 20;

/// The file with the notes.
pub(super) fn notes(data: &Path) -> PathBuf {
    data.join("stanzad.panics")
}

/// Disables the accounts whose stanzas have crashed the server twice, and forgets what is old. What
/// goes wrong is told in the log: it must not keep the server from starting.
pub(super) fn shut_out(store: &mut WriterCore, settings: &Settings, now: Wall) {
    let path = notes(&settings.server.data);
    let text = match read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return,
        Err(error) => {
            log::error!(file:% = path.display(), error:%; "cannot read whose stanzas crashed the server");
            return;
        }
    };
    let (culprits, rest) = judge(&text, now.micros() / 1_000_000);
    for culprit in culprits {
        shut_out_one(store, settings, &culprit);
    }
    let result = match rest.is_empty() {
        true => fs::remove_file(&path),
        false => fs::write(&path, rest),
    };
    if let Err(error) = result {
        log::error!(file:% = path.display(), error:%; "cannot forget old crashes");
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(facts) if facts.len() > NOTES_BYTES_MAX => {
            Err(io::Error::other("it is too large; remove it"))
        }
        Ok(_) => fs::read(path).map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who has crashed the server twice within the window, and the notes that still count: those of others
/// that are not older than it. A line that is torn counts for nothing.
fn judge(text: &str, now: u64) -> (BTreeSet<String>, String) {
    let mut times: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((time, name)) = line.split_once(' ')
            && let Ok(time) = time.parse()
        {
            times.entry(name).or_default().push(time);
        }
    }
    let (mut culprits, mut rest) = (BTreeSet::new(), String::new());
    for (name, times) in &mut times {
        times.sort_unstable();
        let is_near = |pair: &[u64]| matches!(pair, [one, next] if next - one <= WINDOW_SECONDS);
        if times.windows(2).any(is_near) {
            culprits.insert((*name).to_owned());
            continue;
        }
        let last = times.last().copied().unwrap_or_default();
        if now.saturating_sub(last) <= WINDOW_SECONDS {
            rest += &format!("{last} {name}\n");
        }
    }
    (culprits, rest)
}

fn shut_out_one(store: &mut WriterCore, settings: &Settings, culprit: &str) {
    let jid = BareJid::parse(culprit).ok();
    let jid = jid.filter(|jid| settings.domains.contains_key(jid.domain()));
    let Some(jid) = jid else {
        log::error!(
            sender = culprit;
            "stanzas of this sender have crashed the server twice within ten minutes; report it, and \
             keep its domain out by s2s.deny until it is mended"
        );
        return;
    };
    let account = jid.clone();
    match store.change(move |db| accounts::set_enabled(db, &account, false)) {
        Ok(_) => log::error!(
            jid:%;
            "account disabled: its stanzas have crashed the server twice within ten minutes; report \
             it with the lines before, and let it in again with `stanzad account enable {jid}`"
        ),
        Err(StoreError::NotFound) => log::error!(
            jid:%;
            "stanzas of this sender, which has no account, have crashed the server twice within ten \
             minutes; report it with the lines before"
        ),
        Err(error) => log::error!(jid:%, error:%; "account not disabled that crashes the server"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_crashes_within_ten_minutes_are_too_many() {
        let culprits = |text: &str, now| judge(text, now).0.into_iter().collect::<Vec<_>>();
        assert_eq!(
            culprits("1000 juliet@a.example\n1600 juliet@a.example\n", 1601),
            ["juliet@a.example"]
        );
        assert!(culprits("1000 juliet@a.example\n1601 juliet@a.example\n", 1602).is_empty());
        // The clock may have been set back between them.
        assert_eq!(
            culprits("1600 j@a.example\n1000 j@a.example\n", 1),
            ["j@a.example"]
        );
        assert!(culprits("1000 juliet@a.example\n1001 romeo@a.example\n", 1002).is_empty());
        assert!(culprits("1000 juliet@a.example\n1001 juliet@a.exa", 1002).is_empty());
        assert!(
            culprits(
                "\n \nsoon j@a.example\n-1 j@a.example\n99999999999999999999999 j@a.example",
                0
            )
            .is_empty()
        );
    }

    #[test]
    fn what_is_old_or_dealt_with_is_forgotten() {
        let text =
            "1000 old@a.example\n1000 bad@a.example\n1500 bad@a.example\n1500 new@a.example\n";
        assert_eq!(judge(text, 2000).1, "1500 new@a.example\n");
        assert_eq!(judge(text, 3000).1, "");
    }
}

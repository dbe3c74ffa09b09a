//! The database is damaged: the process ends at the first meeting, and no start goes past it until the
//! operator has restored a backup.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{CONF, JULIET, contacts, is_stored, set_contact};
use crate::common::client::{Client, Heard};
use crate::common::roster::DATABASE;
use crate::common::server::{PATIENCE, Server, command, site};
use crate::common::site::{Site, ended};

/// What the log tells of a check.
const CHECKED: &str = "which is checked now";
const SOUND: &str = "the database is sound";

/// The note that has the next start check the database.
pub const NOTE: &str = "data/stanzad.sqlite.suspect";

/// Overwrites the first page of a table of the database at `path`. `intact` is a copy of it, so that the
/// page is found without opening the file.
pub fn damage(path: &Path, intact: &Path, table: &str) {
    let store = Connection::open(intact).unwrap();
    let sql = "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = ?1";
    let (page, bytes): (u32, u32) = store
        .query_row(sql, [table], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    overwrite(path, u64::from(page - 1) * u64::from(bytes), bytes as usize);
}

fn overwrite(path: &Path, offset: u64, bytes: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&vec![0xff; bytes], offset).unwrap();
}

/// A copy of the database of a site whose server does not run or has written nothing.
pub fn backup(site: &Site) -> std::path::PathBuf {
    let copy = site.path("backup");
    fs::copy(site.path("data").join(DATABASE), &copy).unwrap();
    copy
}

/// The connection ends as it does when the process is gone, without an answer to what was asked.
pub fn gets_no_answer(client: &mut Client) {
    loop {
        match client.try_hear() {
            Ok(Heard::Element(element)) => assert_eq!(element.name, "presence"),
            Ok(Heard::End) | Err(_) => return,
            Ok(other) => panic!("{other:?}"),
        }
    }
}

/// Waits until the process has ended.
pub fn has_ended(server: &Server) {
    let pid = Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        sender.send(waitid(WaitId::Pid(pid), options).is_ok())
    });
    assert_eq!(receiver.recv_timeout(PATIENCE), Ok(true), "it does not end");
}

/// The process ends by itself, with words; these are given back.
pub fn ends_with_words(server: &mut Server) -> String {
    has_ended(server);
    assert_eq!(server.wait().code(), Some(1), "{}", server.stderr());
    let (stderr, log) = (server.stderr(), server.log());
    let words = stderr
        .lines()
        .find(|line| line.starts_with("stanzad ends: "));
    let words = words.unwrap_or_else(|| panic!("no words: {stderr}"));
    assert!(words.contains("/data/stanzad.sqlite: "), "{words}");
    assert!(words.contains("start again"), "{words}");
    assert_eq!(
        log.matches(words).count(),
        1,
        "the log tells it too, once\n{log}"
    );
    assert!(server.site.path(NOTE).exists());
    words.to_owned()
}

/// Starts it again; it checks the database, finds it sound and forgets its doubts.
pub fn starts_with_a_check(server: &mut Server) {
    // A service manager ends a start that takes long, unless it is told.
    const TAKES_LONG: &str = "EXTEND_TIMEOUT_USEC=3600000000";
    assert!(!server.log().contains(CHECKED) && !server.has_notified(TAKES_LONG));
    server.start_again();
    assert!(server.has_notified(TAKES_LONG));
    assert!(server.logs(CHECKED).contains(" warn "));
    server.logs(SOUND);
    assert!(!server.site.path(NOTE).exists());
}

#[test]
fn damage_ends_the_process_and_is_refused_until_a_backup_is_restored() {
    let site = site(CONF);
    let backup = backup(&site);
    let mut server = Server::start_in(site);
    let mut juliet = Client::available(&server, "juliet@example.org/balcony");
    let database = server.site.path("data").join(DATABASE);
    damage(&database, &backup, "account");
    juliet.send(
        "<iq type='set' id='set'><query xmlns='jabber:iq:roster'>\
         <item jid='romeo@example.org'/></query></iq>",
    );
    gets_no_answer(&mut juliet);
    let words = ends_with_words(&mut server);
    assert!(words.contains("is damaged: "), "{words}");

    // Nobody asks for what is damaged, and yet the start finds it, as often as it is tried.
    let damaged = fs::read(&database).unwrap();
    for _ in 0..2 {
        let refused = ended(&mut command(&server.site), b"");
        assert_eq!(refused.status, 1, "{}", refused.stderr);
        for words in ["the database is damaged (", "restore a backup"] {
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
        assert!(fs::read(&database).unwrap() == damaged, "it is left alone");
    }
    let refused = server.site.fails(1, &["account", "list"], b"");
    assert!(refused.contains("restore a backup"), "{refused}");

    fs::copy(&backup, &database).unwrap();
    for ending in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{ending}", database.display())).unwrap();
    }
    fs::remove_file(server.site.path("log")).unwrap();
    starts_with_a_check(&mut server);
    let mut juliet = Client::available(&server, "juliet@example.org/balcony");
    assert!(is_stored(&set_contact(&mut juliet, "romeo@example.org")));
    server.kill();
    server.start_again();
    let mut juliet = Client::login(&server, JULIET);
    assert_eq!(contacts(&mut juliet), ["romeo@example.org"]);
}

#[test]
fn damage_in_the_first_page_is_told_at_the_start() {
    let site = site(CONF);
    let database = site.path("data").join(DATABASE);
    for (offset, bytes, words) in [
        (100, 3_996, "the database is damaged ("),
        (0, 16, "this is no database of stanzad"),
    ] {
        overwrite(&database, offset, bytes);
        let refused = ended(&mut command(&site), b"");
        assert_eq!(refused.status, 1, "{}", refused.stderr);
        for words in [words, "restore a backup"] {
            assert!(refused.stderr.contains(words), "{}", refused.stderr);
        }
    }
}

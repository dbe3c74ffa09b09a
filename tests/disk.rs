//! The disk fails (issue 5, `stanzad.8`, DIAGNOSTICS): it is full, takes nothing any more, or cannot be
//! read. Who asks gets an error, what needs no disk goes on, the log tells it once, and it ends by
//! itself. After a failed sync or on damage the process ends instead.

mod common;
#[path = "disk/damage.rs"]
mod damage;
#[path = "disk/faults.rs"]
mod faults;
#[path = "disk/opening.rs"]
mod opening;
#[path = "disk/shim.rs"]
mod shim;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use stanzad::xml::Element;

use common::client::{Client, error_of, text};
use common::roster::DATABASE;
use common::server::{PASSWORD, PATIENCE, Server, command, site};
use common::site::Site;

/// What is promised is synced: the default, which the other tests do without.
const CONF: &str = "[store]\ndurability = \"full\"\n";

const JULIET: &str = "juliet@example.org";
const ROMEO: &str = "romeo@example.org";
const NURSE: &str = "nurse@example.org";

/// What the log tells, once each.
const FAILS: &str = "nothing can be stored";
const WORKS_AGAIN: &str = "storing works again";

/// A file system in memory under a directory of a site; it ends with this value.
struct Disk(PathBuf);

impl Disk {
    /// None where this process may not mount, which is said; CI does not pass without.
    fn mount(path: &Path, bytes: u64) -> Option<Disk> {
        let mut mount = Command::new("mount");
        mount.args([
            "-t",
            "tmpfs",
            "-o",
            &format!("size={bytes},mode=700"),
            "tmpfs",
        ]);
        let output = mount.arg(path).output().unwrap();
        if output.status.success() {
            return Some(Disk(path.to_owned()));
        }
        let told = format!(
            "NOT TESTED: no tmpfs can be mounted here, so no disk gets full; run this test as root, in \
             a container with CAP_SYS_ADMIN: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(std::env::var_os("CI").is_none(), "{told}");
        eprintln!("{told}");
        None
    }

    /// Mounts it again, with `ro` or `rw`.
    fn remount(&self, how: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        // In large pieces, then byte by byte.
        for size in [1 << 20, 4096, 1] {
            while ballast.write(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while the server has files open there: the rest goes when it ends.
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        if !ended.is_ok_and(|status| status.success()) {
            eprintln!("{}: not unmounted", self.0.display());
        }
    }
}

/// A site whose data are on a disk of that size.
fn site_on(bytes: u64, conf: &str) -> Option<(Site, Disk)> {
    let site = site(conf);
    let data = site.path("data");
    let kept = site.path("kept");
    fs::rename(&data, &kept).unwrap();
    fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
    let disk = Disk::mount(&data, bytes)?;
    for entry in fs::read_dir(&kept).unwrap() {
        let from = entry.unwrap().path();
        let to = data.join(from.file_name().unwrap());
        fs::copy(&from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
    }
    Some((site, disk))
}

/// Sets the limit on the size of files of the running server.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let pid = Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    let limit = Rlimit {
        current: bytes,
        maximum: None,
    };
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
}

/// Asks for a contact; the answer to the request, behind all that comes before.
fn set_contact(client: &mut Client, contact: &str) -> Element {
    client.send(format!(
        "<iq type='set' id='set'><query xmlns='jabber:iq:roster'>\
         <item jid='{contact}' name='{}'/></query></iq>",
        "n".repeat(500)
    ));
    loop {
        let element = client.element();
        if element.attribute("id") == Some("set") {
            return element;
        }
    }
}

fn is_stored(answer: &Element) -> bool {
    answer.attribute("type") == Some("result")
}

fn message(client: &mut Client, to: &str, id: &str) {
    client.send(format!(
        "<message to='{to}' type='chat' id='{id}'><body>{}</body></message>",
        "so long ".repeat(200)
    ));
}

/// Sends a message that is stored: the disk may fail from now on.
fn store_one(server: &Server, client: &mut Client) {
    message(client, NURSE, "before");
    until_stored(server, 1);
}

/// Waits until so many messages are stored.
fn until_stored(server: &Server, messages: i64) {
    let path = server.site.path("data").join(DATABASE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let store = Connection::open_with_flags(path, flags).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let count = || {
        let sql = "SELECT count(*) FROM offline";
        store
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    while count() != messages {
        assert!(Instant::now() < deadline, "{messages} are not stored");
        server.status();
    }
}

/// A snapshot of the database. What is written from now on stays in the write-ahead log, which is not
/// begun anew before this is gone: else a checkpoint would make room there on a full disk.
fn snapshot(server: &Server) -> Connection {
    let path = server.site.path("data").join(DATABASE);
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "BEGIN; SELECT count(*) FROM offline;";
    store.execute_batch(sql).unwrap();
    store
}

/// The ids of the messages that wait for an account.
fn waiting(server: &Server, jid: &str) -> Vec<String> {
    let mut client = Client::login(server, &format!("{jid}/late"));
    client.send("<presence/>");
    let heard = client.until_settled();
    let messages = heard.iter().filter(|element| element.name == "message");
    let ids = messages.map(|message| message.attribute("id").unwrap().to_owned());
    let ids = ids.collect();
    client.send("</stream:stream>");
    client.closes();
    ids
}

fn contacts(client: &mut Client) -> Vec<String> {
    client.send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
    let roster = client.stanza("iq");
    let items = roster.elements().flat_map(Element::elements);
    let jids = items.map(|item| item.attribute("jid").unwrap().to_owned());
    jids.collect()
}

/// How many lines of the log have this text.
fn lines(server: &Server, text: &str) -> usize {
    let generation = server.reload().generation;
    server.logs(&format!("reloaded generation={generation}"));
    let log = server.log();
    log.lines().filter(|line| line.contains(text)).count()
}

/// While nothing can be stored: who asks for it is told, all else works.
fn serves_without_storing(server: &Server, juliet: &mut Client, romeo: &mut Client) {
    for number in 0..20 {
        message(juliet, NURSE, &format!("refused-{number}"));
        juliet.refused("message", "resource-constraint");
    }
    let refused = set_contact(juliet, "benvolio@example.org");
    assert_eq!(
        error_of(&refused),
        "resource-constraint",
        "{}",
        text(&refused)
    );
    let command = server.run(&["account", "add", "rosaline@example.org"], PASSWORD);
    assert_eq!(command.status, 1, "{}", command.stderr);
    let said = &command.stderr;
    assert!(
        said.contains("rosaline@example.org was not changed"),
        "{said}"
    );
    assert!(said.contains("nothing has to be started again"), "{said}");
    assert!(!said.contains("\n\n"), "{said}");
    // Live messages, presence, logins.
    message(juliet, &romeo.jid.clone(), "live");
    assert_eq!(romeo.stanza("message").attribute("id"), Some("live"));
    let mut late = Client::login(server, "tybalt@example.org/late");
    late.send(format!("<presence to='{}'/>", juliet.jid));
    assert_eq!(
        juliet.stanza("presence").attribute("from"),
        Some(&*late.jid)
    );
}

fn tells_once(server: &Server) {
    assert_eq!(lines(server, FAILS), 1);
    let told = server.logs(FAILS);
    assert!(told.contains(" error "), "{told}");
    assert!(told.contains("stanzad.sqlite"), "{told}");
    assert!(told.contains("remedy=\""), "{told}");
}

/// From the moment when there is room: contacts are stored, and after a while the log tells so.
fn recovers(server: &Server, juliet: &mut Client) {
    assert!(is_stored(&set_contact(juliet, "balthasar@example.org")));
    message(juliet, NURSE, "after");
    let deadline = Instant::now() + PATIENCE;
    while !server.log().contains(WORKS_AGAIN) {
        assert!(Instant::now() < deadline, "its end is not told");
        assert!(is_stored(&set_contact(juliet, "balthasar@example.org")));
    }
    assert_eq!(lines(server, WORKS_AGAIN), 1);
    assert!(
        lines(server, "Z error ") <= 2,
        "stanzas are not told one by one"
    );
    assert_eq!(waiting(server, NURSE), ["before", "after"]);
    let added = server.run(&["account", "add", "rosaline@example.org"], PASSWORD);
    assert_eq!(added.status, 0, "{}", added.stderr);
}

/// What was stored and what was not, as it is after a crash.
fn keeps_what_was_promised(mut server: Server, promised: &[String]) {
    server.kill();
    server.start_again();
    let mut juliet = Client::login(&server, JULIET);
    let mut expected = promised.to_vec();
    expected.push("balthasar@example.org".to_owned());
    expected.sort();
    let mut found = contacts(&mut juliet);
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_full_disk_refuses_what_has_to_be_stored_and_nothing_else() {
    // The write-ahead log takes 64 MiB while writes follow each other closely, as in `recovers`.
    let Some((site, disk)) = site_on(160 << 20, CONF) else {
        return;
    };
    let command = command(&site);
    let server = Server::start_by(site, command);
    let mut juliet = Client::available(&server, "juliet@example.org/balcony");
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    store_one(&server, &mut juliet);
    let snapshot = snapshot(&server);
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    let mut promised = vec!["first@example.org".to_owned()];
    disk.fill();
    // The log of the database has some room of its own.
    loop {
        let contact = format!("contact{}@example.org", promised.len());
        if !is_stored(&set_contact(&mut juliet, &contact)) {
            break;
        }
        promised.push(contact);
        assert!(promised.len() < 5_000, "the disk is never full");
    }
    serves_without_storing(&server, &mut juliet, &mut romeo);
    tells_once(&server);
    drop(snapshot);
    disk.make_room();
    recovers(&server, &mut juliet);
    keeps_what_was_promised(server, &promised);
}

#[test]
fn writes_that_are_forbidden_are_refused_until_they_are_allowed() {
    let site = site(CONF);
    let command = command(&site);
    let server = Server::start_by(site, command);
    let mut juliet = Client::available(&server, "juliet@example.org/balcony");
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    store_one(&server, &mut juliet);
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    // The server's log may grow no more either.
    let before = server.log();
    limit_files(&server, Some(0));
    serves_without_storing(&server, &mut juliet, &mut romeo);
    limit_files(&server, None);
    assert!(server.log().starts_with(&before), "the log is torn");
    recovers(&server, &mut juliet);
    server.logs("log lines lost count=");
    keeps_what_was_promised(server, &["first@example.org".to_owned()]);
}

//! Calls of the running server on its database fail, with the errors of a bad disk (`shim.rs`).

use std::fs;
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::Signal;
use stanzad::xml::Element;

use super::damage::{
    NOTE, backup, damage, ends_with_words, gets_no_answer, has_ended, starts_with_a_check,
};
use super::shim::{self, Call};
use super::{
    CONF, JULIET, ROMEO, contacts, is_stored, keeps_what_was_promised, lines, message, recovers,
    serves_without_storing, set_contact, store_one, tells_once, until_stored,
};
use crate::common::client::{Client, error_of, failure_of, text};
use crate::common::roster::DATABASE;
use crate::common::server::{PASSWORD, PATIENCE, Server, site};
use crate::common::site::ended;

/// The files, as patterns.
const ALL: &str = "stanzad.sqlite*";
const DATA: &str = "stanzad.sqlite";
const LOG: &str = "stanzad.sqlite-wal";

/// What the log tells while the log of the database cannot be moved.
const LOG_GROWS: &str = "cannot move the write-ahead log";

/// What the log tells of reads, once each.
const READS_FAIL: &str = "cannot read the database";
const READS_AGAIN: &str = "reading works again";

/// What it tells of offline messages.
const NOT_READ: &str = "offline messages not read, trying again";

const BALCONY: &str = "juliet@example.org/balcony";

/// What has to be stored is refused while writes fail, and `words` of the system are in the log.
fn refuses_to_store(pattern: &str, errno: Errno, words: &str) {
    let (server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    store_one(&server, &mut juliet);
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    disk.are(&[(Call::Write, pattern, errno)]);
    serves_without_storing(&server, &mut juliet, &mut romeo);
    tells_once(&server);
    let told = server.logs(super::FAILS);
    assert!(told.contains(words), "{told}");
    disk.are_over();
    recovers(&server, &mut juliet);
    keeps_what_was_promised(server, &["first@example.org".to_owned()]);
}

#[test]
fn writes_with_io_errors_are_refused_until_they_succeed() {
    refuses_to_store(LOG, Errno::IO, "Input/output error");
}

#[test]
fn a_file_system_that_turned_read_only_refuses_until_it_can_be_written() {
    refuses_to_store(ALL, Errno::ROFS, "Read-only file system");
}

/// What the writer has not synced is promised to nobody.
#[test]
fn a_failed_sync_of_the_log_ends_the_process_before_the_answer() {
    let (mut server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    disk.are(&[(Call::Sync, LOG, Errno::IO)]);
    juliet.send(
        "<iq type='set' id='set'><query xmlns='jabber:iq:roster'>\
         <item jid='second@example.org'/></query></iq>",
    );
    gets_no_answer(&mut juliet);
    let words = ends_with_words(&mut server);
    assert!(words.contains("cannot be trusted"), "{words}");
    // Nor does a start build on what may not be on the disk.
    let refused = ended(&mut shim::with_faults(&server.site), b"");
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    let words = "stanzad.sqlite-wal: cannot write again what it holds: Input/output error";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    disk.are_over();
    goes_on_after_a_check(server, "second@example.org");
}

/// The checkpointer syncs the database. What it moves there was promised before, and is in the log.
#[test]
fn a_failed_sync_of_the_database_ends_the_process_and_loses_nothing() {
    let (mut server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    disk.are(&[(Call::Sync, DATA, Errno::IO)]);
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    gets_no_answer(&mut juliet);
    let words = ends_with_words(&mut server);
    assert!(words.contains("cannot be trusted"), "{words}");
    disk.are_over();
    goes_on_after_a_check(server, "first@example.org");
}

/// The first contact was promised. `other` may be there: it is in the log of the database whole, or not.
fn goes_on_after_a_check(mut server: Server, other: &str) {
    starts_with_a_check(&mut server);
    let mut juliet = Client::available(&server, BALCONY);
    let mut found = contacts(&mut juliet);
    assert!(found.contains(&"first@example.org".to_owned()), "{found:?}");
    found.retain(|jid| jid != "first@example.org" && jid != other);
    assert!(found.is_empty(), "{found:?}");
    assert!(is_stored(&set_contact(&mut juliet, "third@example.org")));
    server.kill();
    server.start_again();
    let mut juliet = Client::login(&server, JULIET);
    let found = contacts(&mut juliet);
    for promised in ["first@example.org", "third@example.org"] {
        assert!(found.contains(&promised.to_owned()), "{found:?}");
    }
}

/// An orderly stop moves the log into the database, and keeps the log where it cannot.
#[test]
fn a_sync_that_fails_at_the_stop_keeps_the_log_for_the_next_start() {
    let (mut server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    disk.are(&[(Call::Sync, DATA, Errno::IO)]);
    // The stop comes long before the next checkpoint is due; otherwise that one meets the fault.
    assert!(is_stored(&set_contact(&mut juliet, "first@example.org")));
    juliet.send("</stream:stream>");
    juliet.closes();
    server.signal(Signal::TERM);
    has_ended(&server);
    server.wait();
    assert!(server.site.path(NOTE).exists());
    let log = server.site.path("data").join(LOG);
    assert!(fs::metadata(&log).unwrap().len() > 0);
    disk.are_over();
    goes_on_after_a_check(server, "first@example.org");
}

#[test]
fn a_database_that_cannot_be_written_is_no_trouble_for_clients() {
    let (server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    disk.are(&[(Call::Write, DATA, Errno::IO)]);
    let mut promised = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while promised.is_empty() || !server.log().contains(LOG_GROWS) {
        assert!(Instant::now() < deadline, "it is not told");
        let contact = format!("contact{}@example.org", promised.len());
        assert!(is_stored(&set_contact(&mut juliet, &contact)));
        promised.push(contact);
    }
    let told = server.logs(LOG_GROWS);
    for words in [" error ", "Input/output error", "remedy=\""] {
        assert!(told.contains(words), "{told}");
    }
    disk.are_over();
    server.logs("the write-ahead log is moved again");
    assert_eq!(lines(&server, LOG_GROWS), 1);
    assert!(is_stored(&set_contact(
        &mut juliet,
        "balthasar@example.org"
    )));
    keeps_what_was_promised(server, &promised);
}

/// Asks for something that is read from the store each time; the answer.
fn ask(client: &mut Client, payload: &str) -> Element {
    client.send(format!("<iq type='get' id='ask'>{payload}</iq>"));
    loop {
        let element = client.element();
        if element.attribute("id") == Some("ask") {
            return element;
        }
    }
}

const CARD: &str = "<vCard xmlns='vcard-temp'/>";
const NOTES: &str = "<query xmlns='jabber:iq:private'><notes xmlns='urn:example:notes'/></query>";

/// Stores notes, so that readers have to look for them again.
fn keep_notes(client: &mut Client) {
    client.send(
        "<iq type='set' id='kept'><query xmlns='jabber:iq:private'>\
         <notes xmlns='urn:example:notes'>buy poison</notes></query></iq>",
    );
    let answer = client.stanza("iq");
    assert_eq!(
        answer.attribute("type"),
        Some("result"),
        "{}",
        text(&answer)
    );
}

fn is_kept(answer: &Element) -> bool {
    text(answer).contains("buy poison")
}

/// Who asks for what cannot be read is told, and nobody else is harmed.
fn only_who_asks_is_told(server: &Server, juliet: &mut Client, romeo: &mut Client, asked: &[&str]) {
    // Enough that each reader meets it.
    for _ in 0..10 {
        for payload in asked {
            let refused = ask(juliet, payload);
            assert_eq!(error_of(&refused), "resource-constraint");
        }
    }
    message(juliet, &romeo.jid.clone(), "live");
    assert_eq!(romeo.stanza("message").attribute("id"), Some("live"));
    assert_eq!(lines(server, READS_FAIL), 1);
    let told = server.logs(READS_FAIL);
    for words in [" error ", "Input/output error", "remedy=\""] {
        assert!(told.contains(words), "{told}");
    }
}

/// Once it is over, reads succeed, and after a while the log tells so.
fn reads_again(server: &Server, juliet: &mut Client) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask(juliet, NOTES);
        assert!(is_kept(&answer), "{}", text(&answer));
        if server.log().contains(READS_AGAIN) {
            break;
        }
        assert!(Instant::now() < deadline, "its end is not told");
    }
    assert_eq!(lines(server, READS_AGAIN), 1);
}

/// SQLite takes `EIO` for damage. That is told apart, also later, when there is damage.
#[test]
fn reads_that_fail_are_no_damage_and_damage_is_found_after_them() {
    let site = site(CONF);
    let backup = backup(&site);
    let (mut server, disk) = shim::start(site);
    let mut juliet = Client::available(&server, BALCONY);
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    keep_notes(&mut juliet);
    disk.are(&[(Call::Read, ALL, Errno::IO)]);
    only_who_asks_is_told(&server, &mut juliet, &mut romeo, &[NOTES, CARD]);
    let mut tybalt = Client::secured(&server);
    let outcome = tybalt.scram("SCRAM-SHA-256", "tybalt", PASSWORD);
    assert_eq!(failure_of(outcome), "temporary-auth-failure");
    disk.are_over();
    tybalt.scram("SCRAM-SHA-256", "tybalt", PASSWORD).unwrap();
    reads_again(&server, &mut juliet);

    keep_notes(&mut juliet);
    let database = server.site.path("data").join(DATABASE);
    damage(&database, &backup, "vcard");
    juliet.send(format!("<iq type='get' id='ask'>{CARD}</iq>"));
    gets_no_answer(&mut juliet);
    let words = ends_with_words(&mut server);
    assert!(words.contains("is damaged: "), "{words}");
}

/// The same for the thread that writes, which reads what it changes.
#[test]
fn changes_that_cannot_read_are_refused_and_damage_is_found_after_them() {
    let site = site(CONF);
    let backup = backup(&site);
    let (mut server, disk) = shim::start(site);
    let mut juliet = Client::available(&server, BALCONY);
    disk.are(&[(Call::Read, ALL, Errno::IO)]);
    const SET: &str = "<iq type='set' id='ask'><vCard xmlns='vcard-temp'><FN>J</FN></vCard></iq>";
    for _ in 0..3 {
        juliet.send(SET);
        juliet.refused("iq", "resource-constraint");
    }
    assert_eq!(lines(&server, super::FAILS), 1);
    let told = server.logs(super::FAILS);
    assert!(told.contains("Input/output error"), "{told}");
    disk.are_over();
    keep_notes(&mut juliet);
    let database = server.site.path("data").join(DATABASE);
    damage(&database, &backup, "vcard");
    juliet.send(SET);
    gets_no_answer(&mut juliet);
    let words = ends_with_words(&mut server);
    assert!(words.contains("is damaged: "), "{words}");
}

/// Who is there when the disk fails gets what waits when it works again, in the same session.
#[test]
fn offline_messages_that_cannot_be_read_come_when_they_can() {
    let (server, disk) = shim::start(site(CONF));
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    let mut juliet = Client::login(&server, BALCONY);
    for id in ["0", "1", "2"] {
        message(&mut romeo, JULIET, id);
    }
    until_stored(&server, 3);
    disk.are(&[(Call::Read, ALL, Errno::IO)]);
    juliet.send("<presence/>");
    server.logs(NOT_READ);
    juliet.stanza("presence");
    disk.are_over();
    for id in ["0", "1", "2"] {
        let message = juliet.stanza("message");
        assert_eq!(message.attribute("id"), Some(id));
        assert!(message.find("urn:xmpp:delay", "delay").is_some());
    }
    juliet.settle();
    until_stored(&server, 0);
    assert_eq!(lines(&server, NOT_READ), 1);
    message(&mut romeo, JULIET, "live");
    assert_eq!(juliet.stanza("message").attribute("id"), Some("live"));
}

#[test]
fn a_log_of_the_database_that_cannot_be_read_fails_who_asks_for_what_is_in_it() {
    let (mut server, disk) = shim::start(site(CONF));
    let mut juliet = Client::available(&server, BALCONY);
    let mut romeo = Client::available(&server, &format!("{ROMEO}/orchard"));
    // So that what is written stays in the log.
    let full = (Call::Write, DATA, Errno::IO);
    disk.are(&[full]);
    keep_notes(&mut juliet);
    disk.are(&[full, (Call::Read, LOG, Errno::IO)]);
    only_who_asks_is_told(&server, &mut juliet, &mut romeo, &[NOTES]);
    // The log has nothing of her.
    drop(Client::login(&server, "nurse@example.org/kitchen"));
    disk.are_over();
    reads_again(&server, &mut juliet);
    server.kill();
    server.start_again();
    let mut juliet = Client::login(&server, JULIET);
    assert!(is_kept(&ask(&mut juliet, NOTES)));
}

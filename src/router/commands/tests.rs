use std::sync::{Arc, Mutex};

use super::*;
use crate::router::account::Proof;
use crate::router::effects::Refusal;
use crate::router::feature::value;
use crate::router::loading::loaded;
use crate::router::testing::{Site, record, stanza};
use crate::slots::Slots;
use crate::stanza::{Kind, StreamCondition, Type};

type Outcome = Arc<Mutex<Option<Result<u64, StoreError>>>>;

fn command(site: &mut Site, ends: bool) -> Outcome {
    let outcome = Outcome::default();
    let told = Arc::clone(&outcome);
    let command = AccountCommand {
        apply: Box::new(|_| Ok(())),
        ends_sessions: ends.then(|| StreamError::new(StreamCondition::Reset, "changed")),
    };
    let jid = BareJid::parse("juliet@example.org").unwrap();
    let reply = Box::new(move |result| *told.lock().unwrap() = Some(result));
    site.router.command(&jid, command, reply);
    outcome
}

fn outcome(outcome: &Outcome) -> Option<Result<u64, StoreError>> {
    outcome.lock().unwrap().take()
}

fn changed() -> AccountRecord {
    AccountRecord {
        generation: 2,
        ..record(true)
    }
}

#[test]
fn sessions_end_and_the_operator_is_told_only_after_the_commit() {
    let mut site = Site::new(&[]);
    let seat = site.bind("juliet@example.org", "balcony", None);
    let done = command(&mut site, true);
    assert!(site.router.out.ends.is_empty());
    assert_eq!(outcome(&done), None);
    site.answer_change(Ok(value(Some(changed()))));
    assert_eq!(outcome(&done), Some(Ok(1)));
    assert_eq!(site.router.out.ends[0].0, seat.conn);
    assert!(site.router.sessions.is_empty());
}

#[test]
fn a_command_that_fails_changes_nothing() {
    let mut site = Site::new(&[]);
    site.bind("juliet@example.org", "balcony", None);
    let done = command(&mut site, true);
    site.answer_change(Err(StoreError::Exists));
    assert_eq!(outcome(&done), Some(Err(StoreError::Exists)));
    assert!(site.router.out.ends.is_empty());
    let key = site.router.accounts.find("juliet@example.org").unwrap();
    assert!(!site.router.accounts.get(key).unwrap().is_busy());
}

#[test]
fn commands_wait_for_the_load_and_run_one_after_the_other() {
    let mut site = Site::new(&[]);
    let (first, second) = (command(&mut site, false), command(&mut site, false));
    assert!(site.router.out.batch.changes.is_empty(), "it is loading");
    site.answer_read(Ok(loaded(None)));
    assert_eq!(site.router.out.batch.changes.len(), 1);
    site.answer_change(Ok(value(Some(changed()))));
    assert_eq!((outcome(&first), outcome(&second)), (Some(Ok(0)), None));
    site.answer_change(Ok(value(None::<AccountRecord>)));
    assert_eq!(outcome(&second), Some(Ok(0)));
}

#[test]
fn a_store_that_cannot_load_the_account_fails_commands_and_logins() {
    let mut site = Site::new(&[]);
    let done = command(&mut site, false);
    let conn = Slots::default().insert(());
    let jid = BareJid::parse("juliet@example.org").unwrap();
    site.router.admit(conn, &jid, Proof::Credentials(1));
    site.answer_read(Err(StoreError::Stopped));
    assert!(matches!(outcome(&done), Some(Err(_))));
    assert_eq!(
        site.router.out.admitted,
        [(conn, Err(Refusal::Unavailable))]
    );
    assert!(site.router.accounts.is_empty());
}

/// `Who owns what` in lib.rs: a login in flight is judged by what the command has made of the
/// account.
#[test]
fn a_login_that_waits_for_a_command_is_judged_after_it() {
    for (made, proof, verdict) in [
        (
            Some(changed()),
            Proof::Credentials(1),
            Err(Refusal::Changed),
        ),
        (Some(changed()), Proof::Credentials(2), Ok(())),
        (
            Some(record(false)),
            Proof::Credentials(1),
            Err(Refusal::Disabled),
        ),
        (Some(changed()), Proof::Certificate, Ok(())),
        (None, Proof::Certificate, Err(Refusal::Changed)),
    ] {
        let mut site = Site::new(&[]);
        site.bind("juliet@example.org", "balcony", None);
        command(&mut site, true);
        let conn = Slots::default().insert(());
        let jid = BareJid::parse("juliet@example.org").unwrap();
        site.router.admit(conn, &jid, proof);
        assert!(site.router.out.admitted.is_empty());
        site.answer_change(Ok(value(made)));
        if made.is_none() {
            site.run_store();
        }
        assert_eq!(site.router.out.admitted, [(conn, verdict)], "{proof:?}");
    }
}

#[test]
fn stanzas_for_a_deleted_account_come_back() {
    let mut site = Site::new(&[]);
    let romeo = site.bind("romeo@example.org", "orchard", None);
    site.bind("juliet@example.org", "balcony", Some(0));
    command(&mut site, true);
    site.send(
        romeo,
        stanza(Kind::Message, Type::Chat, Some("juliet@example.org")),
    );
    assert_eq!(site.take(romeo), "", "it waits");
    site.answer_change(Ok(value(None::<AccountRecord>)));
    assert!(site.take(romeo).contains("<service-unavailable "));
}

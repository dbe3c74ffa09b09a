//! What a login reads, and how little of it others can change.

use std::collections::BTreeMap;

use super::*;
use crate::clock::Wall;
use crate::sasl::{Hash, Verifier};
use crate::storage::WriterCore;

const NAMES: u32 = 2_000;
const OLD: u32 = 4096;
const NEW: u32 = 10_000;

fn core() -> WriterCore {
    WriterCore::memory(&[7; 32]).unwrap()
}

fn jid(local: &str) -> BareJid {
    BareJid::parse(&format!("{local}@example.org")).unwrap()
}

fn account(number: u32) -> BareJid {
    jid(&format!("account{number}"))
}

fn with(iterations: u32) -> Credentials {
    Credentials {
        scram: vec![Verifier {
            hash: Hash::Sha256,
            salt: vec![1; 16],
            iterations,
            stored_key: vec![2; 32],
            server_key: vec![3; 32],
        }],
        bcrypt: None,
    }
}

fn create(core: &WriterCore, jid: &BareJid, iterations: u32) {
    accounts::create(core.db(), jid, &with(iterations), Wall::from_micros(1)).unwrap();
}

/// A domain with so many accounts, of which each tenth has the old count.
fn populated(accounts: u32) -> WriterCore {
    let core = core();
    for number in 0..accounts {
        create(
            &core,
            &account(number),
            if number % 10 == 0 { OLD } else { NEW },
        );
    }
    core
}

/// The count that each of many unknown names shows.
fn shown(core: &WriterCore) -> BTreeMap<u32, u32> {
    let shown = |number: u32| {
        let login = login(core.db(), &jid(&format!("nobody{number}"))).unwrap();
        assert_eq!(login.account, None);
        (number, login.resembles.unwrap().scram[0].iterations)
    };
    (0..NAMES).map(shown).collect()
}

fn changed(before: &BTreeMap<u32, u32>, after: &BTreeMap<u32, u32>) -> Vec<(u32, u32)> {
    let both = before.values().zip(after.values());
    both.filter(|(before, after)| before != after)
        .map(|(before, after)| (*before, *after))
        .collect()
}

fn old(shown: &BTreeMap<u32, u32>) -> f64 {
    let old = shown.values().filter(|count| **count == OLD).count();
    old as f64 / f64::from(NAMES)
}

/// The places of the domain's accounts are 0, 1, 2 and so on.
fn assert_places_are_whole(core: &WriterCore) {
    let sql = "SELECT domain, count(*), min(place), max(place) FROM account GROUP BY domain";
    let mut statement = core.db().connection().prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (count, min, max): (i64, i64, i64) = (
            row.get(1).unwrap(),
            row.get(2).unwrap(),
            row.get(3).unwrap(),
        );
        assert_eq!((min, max), (0, count - 1));
    }
}

#[test]
fn an_account_is_read_with_its_own_credentials() {
    let core = populated(3);
    let found = login(core.db(), &account(0)).unwrap().account.unwrap();
    assert_eq!(found.1, with(OLD));
    assert_eq!(
        Some(found),
        accounts::credentials(core.db(), &account(0)).unwrap()
    );
}

/// A damaged row is its account's misfortune and that of unknown names, which must not differ.
#[test]
fn an_account_does_not_suffer_from_the_one_that_its_name_resembles() {
    let core = populated(4);
    let set = |iterations: i64, spared: &BareJid| {
        let sql = "UPDATE credential SET iterations = ?1
                   WHERE account <> (SELECT id FROM account WHERE jid = ?2)";
        let values = (iterations, spared.as_str());
        core.db().connection().execute(sql, values).unwrap();
    };
    for number in 0..4 {
        set(-1, &account(number));
        for other in 0..4 {
            let read = login(core.db(), &account(other));
            assert_eq!(read.is_ok(), other == number);
        }
        set(4096, &account(number));
    }
}

#[test]
fn a_domain_without_accounts_has_nobody_to_resemble() {
    let core = core();
    assert_eq!(login(core.db(), &jid("nobody")).unwrap(), Login::default());
    // Those of another domain do not count.
    create(&core, &BareJid::parse("juliet@example.net").unwrap(), OLD);
    assert_eq!(login(core.db(), &jid("nobody")).unwrap(), Login::default());
    create(&core, &jid("juliet"), OLD);
    let shown = login(core.db(), &jid("nobody")).unwrap().resembles;
    assert_eq!(shown, Some(with(OLD).form()));
}

/// Issue 3: nothing about a login tells whether the account exists.
#[test]
fn unknown_names_show_each_form_as_often_as_the_accounts_have_it() {
    let core = populated(100);
    let share = old(&shown(&core));
    assert!((0.08..0.12).contains(&share), "{share}");
    assert_eq!(shown(&core), shown(&core), "the same answer each time");
}

/// An upgrade concerns the names that resemble the account, and them as it does the account.
#[test]
fn an_upgrade_changes_names_as_it_changes_the_account() {
    let core = populated(20);
    let before = shown(&core);
    accounts::set_credentials(core.db(), &account(10), &with(NEW)).unwrap();
    let after = shown(&core);
    let changes = changed(&before, &after);
    let share = changes.len() as f64 / f64::from(NAMES);
    assert!((0.03..0.07).contains(&share), "one in twenty: {share}");
    assert!(changes.iter().all(|change| *change == (OLD, NEW)));
    // Another password in the same form changes nothing.
    accounts::set_credentials(core.db(), &account(0), &with(OLD)).unwrap();
    accounts::set_enabled(core.db(), &account(1), false).unwrap();
    assert_eq!(shown(&core), after);
}

#[test]
fn making_and_deleting_accounts_changes_few_names_and_no_account() {
    let core = populated(50);
    let known = |core: &WriterCore| -> Vec<_> {
        let accounts = (0..50).filter(|number| *number != 7);
        accounts
            .map(|number| login(core.db(), &account(number)).unwrap().account)
            .collect()
    };
    let (before, accounts_before) = (shown(&core), known(&core));
    create(&core, &jid("new"), NEW);
    let changes = changed(&before, &shown(&core));
    // A tenth of the names had the old count, and a fiftieth of them come to the new account.
    assert!(changes.len() <= 12, "{}", changes.len());
    assert!(changes.iter().all(|change| *change == (OLD, NEW)));
    accounts::delete(core.db(), &jid("new")).unwrap();
    assert_eq!(shown(&core), before, "what came with it goes with it");
    accounts::delete(core.db(), &account(7)).unwrap();
    assert!(changed(&before, &shown(&core)).len() <= 24);
    assert_eq!(known(&core), accounts_before);
}

#[test]
fn accounts_keep_their_places_without_gaps() {
    let core = populated(12);
    create(&core, &BareJid::parse("juliet@example.net").unwrap(), OLD);
    for number in [0, 11, 5, 10, 9] {
        accounts::delete(core.db(), &account(number)).unwrap();
        assert_places_are_whole(&core);
    }
    create(&core, &account(5), NEW);
    assert_places_are_whole(&core);
    for number in [1, 2, 3, 4, 5, 6, 7, 8] {
        accounts::delete(core.db(), &account(number)).unwrap();
        assert_places_are_whole(&core);
    }
    assert_eq!(login(core.db(), &jid("nobody")).unwrap(), Login::default());
}

/// Nothing is scanned, however many accounts there are.
#[test]
fn a_login_searches_by_index_alone() {
    let core = core();
    let by_name = "SEARCH account USING INDEX sqlite_autoindex_account_1 (jid=?)";
    let by_place = "SEARCH account USING COVERING INDEX account_place (domain=?";
    let statements = [
        (OWN_AND_PLACES, vec![by_name, by_place]),
        (AT_PLACE, vec![by_place]),
    ];
    for (sql, expected) in statements {
        let sql = format!("EXPLAIN QUERY PLAN {sql}");
        let mut statement = core.db().connection().prepare(&sql).unwrap();
        let steps = statement.query_map([1, 1], |row| row.get::<_, String>(3));
        let steps = steps.unwrap().map(Result::unwrap);
        // Beside accounts there is the one row that stands for a name without one.
        let steps: Vec<String> = steps.filter(|step| step.contains("account")).collect();
        assert_eq!(steps.len(), expected.len(), "{steps:?}");
        for (step, expected) in steps.iter().zip(expected) {
            assert!(step.starts_with(expected), "{steps:?}");
        }
    }
}

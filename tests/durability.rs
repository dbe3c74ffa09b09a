//! What the server has told survives `kill -9` (`Commit first` in lib.rs): the real program under
//! load is killed at a random moment and started again on the same data, over and over.
//!
//! Compared are IQ results of roster, private XML and vCard sets; roster pushes and versions;
//! subscription stanzas, and that both sides agree; messages for who is offline; and exit statuses
//! of `stanzad account`. A stream has no acknowledgements of messages as long as there is no
//! XEP-0198: one counts as told when something has been acknowledged that its recipient's account,
//! or the sender's own if that is the recipient, has committed later.
//!
//! `STANZAD_KILLS=1000` kills more often than the fifty times of the default; `STANZAD_SEED=7`
//! draws the same choices again as the run that has printed that seed, as far as threads let it.

#[path = "durability/actor.rs"]
mod actor;
#[path = "simulation/chance.rs"]
#[allow(dead_code)]
mod chance;
mod common;
#[path = "durability/ledger.rs"]
mod ledger;
#[path = "durability/look.rs"]
mod look;
#[path = "durability/operator.rs"]
mod operator;
#[path = "durability/stage.rs"]
mod stage;

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use crate::chance::Chance;
use crate::common::roster::DATABASE;
use crate::common::site::Site;
use crate::stage::{Kill, Stage};

/// Kills if nobody asks for more.
const KILLS: u64 = 50;
/// Things that clients are told before a kill, at most.
const TOLD_MAX: u64 = 600;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// `Commit first` in lib.rs.
#[test]
fn what_was_told_is_there_after_each_kill() {
    let kills = number("STANZAD_KILLS").unwrap_or(KILLS);
    let seed = number("STANZAD_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("it is after 1970").as_nanos() as u64
    });
    println!("replay: STANZAD_SEED={seed} STANZAD_KILLS={kills} cargo test --test durability");
    let mut chance = Chance::new(seed);
    let mut stage = Stage::new();
    for kill in 1..=kills {
        // Early kills find what is slow to begin, late ones what piles up.
        let most = chance.within(1..=TOLD_MAX);
        let count = chance.within(1..=most);
        let problems = stage.cycle(chance.next(), Kill::After(count), |_| ());
        assert!(
            problems.is_empty(),
            "after kill {kill}, with {count} things told:\n{}",
            problems.join("\n")
        );
    }
    let tally = stage.tally;
    println!("{kills} kills: {tally:?}");
    // Else it proves little. A few kills may all come early.
    let is_worth_it = tally.told > 20 * kills && tally.messages_proven > kills;
    assert!(is_worth_it || kills < KILLS, "{tally:?}");
}

/// A loss: how it comes about, and what is said of it. Those that go on to be found come last.
const LOSSES: [(&str, &str); 10] = [
    (
        "DELETE FROM roster_item WHERE contact LIKE '%@example.com'",
        "of version",
    ),
    (
        "UPDATE roster_item SET name = 'another' WHERE contact LIKE '%@example.com'",
        "was told and is now Some(\"another\")",
    ),
    (
        "UPDATE roster SET version = version - 1",
        "was told and now it is",
    ),
    ("DELETE FROM private_data", "Private"),
    ("DELETE FROM vcard", "Card"),
    ("DELETE FROM offline", "is lost"),
    // Both sides of each subscription, and one.
    (
        "UPDATE roster_item SET state = 32 WHERE state & 7",
        "of version",
    ),
    (
        "UPDATE roster_item SET state = state & ~3 WHERE state & 3
            AND account = (SELECT min(account) FROM roster_item WHERE state & 3)",
        "who has",
    ),
    ("DELETE FROM account WHERE jid LIKE 'guest%'", "passw0rd"),
    (
        "INSERT INTO handoff (sender, recipient, kind, stanza)
            VALUES ('juliet@example.org', 'romeo@example.org', 'subscribe', x'3c')",
        "a hand-off is left",
    ),
];

/// Bursts of each client before it is killed in silence, so that all is answered that was asked
/// for.
const BURSTS: u64 = 30;

fn lose(site: &Site, sql: &str) {
    let store = Connection::open(site.path("data").join(DATABASE)).unwrap();
    store.pragma_update(None, "foreign_keys", true).unwrap();
    let changed = store.execute(sql, []).unwrap();
    assert!(changed > 0, "nothing to lose: {sql}");
}

/// The comparison is worth something: what is lost between the kill and the start is found, and
/// nothing else is.
#[test]
fn a_loss_is_found() {
    let mut stage = Stage::new();
    let problems = stage.cycle(0, Kill::Quiet(BURSTS), |_| ());
    assert!(problems.is_empty(), "{problems:?}");
    for (seed, (sql, said)) in (1..).zip(LOSSES) {
        let problems = stage.cycle(seed, Kill::Quiet(BURSTS), |site| lose(site, sql));
        let found = problems.iter().any(|problem| problem.contains(said));
        assert!(found, "{sql}: {problems:?}");
    }
}

/// As if the disk had kept nothing of what was committed last.
#[test]
fn a_store_that_goes_back_is_found() {
    let mut stage = Stage::new();
    let problems = stage.cycle(1, Kill::Quiet(BURSTS), |site| {
        let store = Connection::open(site.path("data").join(DATABASE)).unwrap();
        let copy = site.path("copy");
        let copy = copy.to_str().unwrap();
        store.execute("VACUUM INTO ?1", [copy]).unwrap();
    });
    assert!(problems.is_empty(), "{problems:?}");
    let problems = stage.cycle(2, Kill::Quiet(BURSTS), |site| {
        let database = site.path("data").join(DATABASE);
        for ending in ["-wal", "-shm"] {
            fs::remove_file(site.path(&format!("data/{DATABASE}{ending}"))).unwrap();
        }
        // Its mode stays.
        fs::write(database, fs::read(site.path("copy")).unwrap()).unwrap();
    });
    for said in [
        "was told and now it is",
        "of version",
        "Private",
        "Card",
        "is lost",
    ] {
        let found = problems.iter().any(|problem| problem.contains(said));
        assert!(found, "{said}: {problems:?}");
    }
}

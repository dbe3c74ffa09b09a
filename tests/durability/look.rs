//! What the store of a server has, looked at from outside while nobody changes it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OpenFlags};
use stanzad::storage::roster::State;

use crate::common::roster::DATABASE;
use crate::common::site::Site;
use crate::operator::GUESTS;

pub struct Look {
    pub accounts: BTreeSet<String>,
    /// The states of each account with its contacts.
    states: BTreeMap<(String, String), State>,
    pub problems: Vec<String>,
}

impl Look {
    pub fn at(site: &Site) -> Look {
        let store = open(site);
        let mut look = Look {
            accounts: texts(&store, "SELECT jid FROM account").collect(),
            states: states(&store),
            problems: Vec::new(),
        };
        for problem in texts(&store, "PRAGMA integrity_check").filter(|text| text != "ok") {
            look.problems.push(format!("the database: {problem}"));
        }
        let handoffs = texts(
            &store,
            "SELECT kind || ' of ' || sender || ' to ' || recipient FROM handoff",
        );
        for handoff in handoffs {
            look.problems.push(format!("a hand-off is left: {handoff}"));
        }
        look.agree();
        look
    }

    pub fn state(&self, account: &str, contact: &str) -> State {
        let key = (account.to_owned(), contact.to_owned());
        self.states.get(&key).copied().unwrap_or(State::NONE)
    }

    /// Who waits for an answer of an account.
    pub fn asked_by(&self, account: &str) -> BTreeSet<String> {
        let states = self.states.iter();
        let waiting =
            states.filter(|((of, _), state)| of == account && state.has(State::PENDING_IN));
        waiting.map(|((_, contact), _)| contact.clone()).collect()
    }

    /// RFC 6121 §A.1: what an account has with a contact, the contact has with the account, from
    /// the other side.
    fn agree(&mut self) {
        for ((account, contact), state) in &self.states {
            if contact.ends_with("@example.com") {
                continue;
            }
            let other = self.state(contact, account);
            // Who asks a guest that does not exist is not told, and asks on when there is one
            // again.
            let may_ask_in_vain = |contact: &str| GUESTS.contains(&contact);
            let agrees = [
                (State::TO, State::FROM, false),
                (State::FROM, State::TO, false),
                (
                    State::PENDING_OUT,
                    State::PENDING_IN,
                    may_ask_in_vain(contact) && state.has(State::PENDING_OUT),
                ),
                (
                    State::PENDING_IN,
                    State::PENDING_OUT,
                    may_ask_in_vain(account) && other.has(State::PENDING_OUT),
                ),
            ];
            for (mine, theirs, is_excused) in agrees {
                if state.has(mine) != other.has(theirs) && !is_excused {
                    self.problems.push(format!(
                        "{account} has {state:?} with {contact}, who has {other:?}"
                    ));
                }
            }
        }
    }
}

/// Messages that wait for an account.
pub fn messages(site: &Site, account: &str) -> u64 {
    let sql = "SELECT count(*) FROM offline JOIN account ON id = account WHERE jid = ?1";
    let count = open(site).query_row(sql, [account], |row| row.get::<_, i64>(0));
    count.expect("a count").unsigned_abs()
}

fn open(site: &Site) -> Connection {
    let path = site.path("data").join(DATABASE);
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

fn texts(store: &Connection, sql: &str) -> impl Iterator<Item = String> + use<> {
    let mut statement = store.prepare(sql).expect("good SQL");
    let rows = statement.query_map([], |row| row.get::<_, String>(0));
    let texts: Result<Vec<String>, _> = rows.expect("rows").collect();
    texts.expect("texts").into_iter()
}

fn states(store: &Connection) -> BTreeMap<(String, String), State> {
    let sql = "SELECT jid, contact, state FROM roster_item JOIN account ON id = account";
    let mut statement = store.prepare(sql).expect("good SQL");
    let rows = statement.query_map([], |row| {
        let key = (row.get(0)?, row.get(1)?);
        Ok((key, State::from_bits(row.get(2)?)))
    });
    let states: Result<_, _> = rows.expect("rows").collect();
    states.expect("states")
}

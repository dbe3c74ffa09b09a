//! An operator who makes, changes and deletes accounts by the command while all else goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chance::Chance;
use crate::common::site::{Ended, ended};
use crate::ledger::Thing;

/// The accounts that come and go.
pub const GUESTS: [&str; 3] = [
    "guest0@example.org",
    "guest1@example.org",
    "guest2@example.net",
];

/// Commands of one cycle: each is a process, which the others have to share the cores with.
const COMMANDS_MAX: u64 = 6;

/// What the operator was told by exit statuses: the password of each guest, none of one that does
/// not exist.
#[derive(Debug, Default)]
pub struct Operator {
    pub passwords: BTreeMap<&'static str, Thing>,
    pub problems: Vec<String>,
    passwords_made: u64,
    pub commands: u64,
}

impl Operator {
    /// Gives commands, until it has had enough, or the server is killed.
    pub fn work(&mut self, conf: &Path, mut chance: Chance, is_killed: &AtomicBool) {
        for _ in 0..chance.within(0..=COMMANDS_MAX) {
            if is_killed.load(Ordering::SeqCst) {
                return;
            }
            let guest = chance.pick(&GUESTS);
            let known = self.passwords.entry(guest).or_default();
            let verb = match known.latest() {
                None => "add",
                Some(_) if chance.one_in(2) => "delete",
                Some(_) => "passwd",
            };
            self.passwords_made += 1;
            let password = format!("passw0rd {}", self.passwords_made);
            known.ask(Some(password.clone()).filter(|_| verb != "delete"));
            let ended = account(conf, verb, guest, &password);
            if ended.status == 0 {
                known.acknowledge();
                self.commands += 1;
            } else if is_killed.load(Ordering::SeqCst) {
                return;
            } else {
                let said = ended.stderr;
                self.problems.push(format!("{verb} {guest}: {said}"));
            }
        }
    }
}

fn account(conf: &Path, verb: &str, jid: &str, password: &str) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
    command.args(["account", verb, jid, "--config"]).arg(conf);
    ended(&mut command, format!("{password}\n").as_bytes())
}

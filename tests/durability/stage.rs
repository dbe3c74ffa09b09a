//! One server, killed and started again on the same data, and everybody who was told something by
//! it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use stanzad::storage::roster::State;

use crate::actor::{ABSENT, Actor, CLIENTS, bare};
use crate::chance::Chance;
use crate::common::client::{Client, failure_of};
use crate::common::server::{PATIENCE, Server, site};
use crate::common::site::Site;
use crate::look::{Look, messages};
use crate::operator::{GUESTS, Operator};

/// All that is kept is kept as operators have it by default.
const CONF: &str = "[store]\ndurability = \"full\"\n[log]\nlevel = \"info\"\n";

/// When the process is killed.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    /// When clients were told so many things, in the midst of all else.
    After(u64),
    /// When each client has done so many bursts and has been answered.
    Quiet(u64),
}

pub struct Stage {
    server: Server,
    actors: Vec<Actor>,
    absent: Actor,
    operator: Operator,
    /// Messages that have to come, be it now or before.
    promised: BTreeSet<String>,
    /// Bytes of the log that were looked at.
    logged: usize,
    pub tally: Tally,
}

/// What a run was about, to see that it is worth its time.
#[derive(Debug, Default)]
pub struct Tally {
    pub told: u64,
    pub messages_proven: u64,
    pub commands: u64,
    pub changes_open: u64,
    pub requests_seen: u64,
}

impl Stage {
    /// Starts a server, and everybody logs in.
    pub fn new() -> Stage {
        let site = site(CONF);
        let mut stage = Stage {
            server: Server::start_in(site),
            actors: CLIENTS.iter().copied().map(Actor::new).collect(),
            absent: Actor::new(ABSENT),
            operator: Operator::default(),
            promised: BTreeSet::new(),
            logged: 0,
            tally: Tally::default(),
        };
        let problems = stage.compare();
        assert!(problems.is_empty(), "{problems:?}");
        stage
    }

    /// Works, kills the process, has `tamper` do something to the data, starts again, and yields
    /// what is not as it was told to be.
    pub fn cycle(&mut self, seed: u64, kill: Kill, tamper: impl FnOnce(&Site)) -> Vec<String> {
        self.work(seed, kill);
        self.server.wait();
        tamper(&self.server.site);
        self.server.start_again();
        self.compare()
    }

    fn work(&mut self, seed: u64, kill: Kill) {
        let mut chance = Chance::new(seed);
        let is_killed = AtomicBool::new(false);
        let conf = self.server.site.path("stanzad.toml");
        let (server, operator, actors) = (&self.server, &mut self.operator, &mut self.actors);
        thread::scope(|scope| {
            let (told, tells) = channel();
            let operator_chance = chance.split();
            let operator = scope.spawn(|| operator.work(&conf, operator_chance, &is_killed));
            let bursts = match kill {
                Kill::After(_) => u64::MAX,
                Kill::Quiet(bursts) => bursts,
            };
            for actor in actors {
                let (chance, told) = (chance.split(), told.clone());
                scope.spawn(move || actor.work(chance, bursts, &told));
            }
            drop(told);
            match kill {
                Kill::After(count) => (0..count).for_each(|_| {
                    tells
                        .recv_timeout(PATIENCE)
                        .expect("somebody is told something");
                }),
                Kill::Quiet(_) => {
                    tells.iter().for_each(drop);
                    operator.join().expect("the operator is done");
                }
            }
            is_killed.store(true, Ordering::SeqCst);
            server.signal(Signal::KILL);
        });
    }

    /// Compares all that anybody was told with what is there.
    fn compare(&mut self) -> Vec<String> {
        let look = Look::at(&self.server.site);
        let mut problems = look.problems.clone();
        self.compare_requests(&look, &mut problems);
        for actor in &mut self.actors {
            let proven = &actor.ledger.messages[..actor.ledger.proven];
            self.tally.messages_proven += proven.len() as u64;
            self.promised.extend(proven.iter().cloned());
            let open = actor.ledger.things.values().filter(|thing| thing.is_open());
            self.tally.changes_open += open.count() as u64;
            actor.ledger.begin();
        }
        let server = &self.server;
        thread::scope(|scope| {
            for actor in &mut self.actors {
                scope.spawn(|| actor.enter(server));
            }
        });
        // Nobody has changed anything yet.
        for actor in &mut self.actors {
            actor.appear();
            if actor.is_hidden() {
                continue;
            }
            for contact in look.asked_by(actor.bare()) {
                if !actor.ledger.asked_by.contains(&contact) {
                    let jid = actor.jid;
                    problems.push(format!("{jid} is not shown the request of {contact}"));
                }
            }
        }
        self.compare_guests(&look, &mut problems);
        self.compare_messages(&mut problems);
        for actor in self.actors.iter_mut().chain([&mut self.absent]) {
            let jid = actor.jid;
            let found = actor.ledger.problems.drain(..);
            problems.extend(found.map(|problem| format!("{jid}: {problem}")));
            self.tally.told += std::mem::take(&mut actor.told);
        }
        problems.append(&mut self.operator.problems);
        self.tally.commands += std::mem::take(&mut self.operator.commands);
        self.compare_log(&mut problems);
        problems
    }

    /// A request that was shown waits until one of the two does something about it.
    fn compare_requests(&mut self, look: &Look, problems: &mut Vec<String>) {
        let done = |by: &str, about: &str, types: &[&str]| {
            let clients = self.actors.iter().filter(|actor| actor.bare() == by);
            clients.into_iter().any(|actor| {
                let signalled = &actor.ledger.signalled;
                types
                    .iter()
                    .any(|type_| signalled.contains(&(about.to_owned(), *type_)))
            })
        };
        let mut seen = 0;
        for actor in &self.actors {
            let account = actor.bare();
            for contact in &actor.ledger.asked_by {
                if GUESTS.contains(&contact.as_str())
                    || done(account, contact, &["subscribed", "unsubscribed", "remove"])
                    || done(contact, account, &["unsubscribe", "remove"])
                {
                    continue;
                }
                seen += 1;
                if !look.state(account, contact).has(State::PENDING_IN) {
                    problems.push(format!("the request of {contact} to {account} is gone"));
                }
            }
        }
        self.tally.requests_seen += seen;
    }

    /// Each guest exists, with the password that the operator was told of, or not. Those who do ask
    /// for presence, and grant theirs.
    fn compare_guests(&mut self, look: &Look, problems: &mut Vec<String>) {
        for (number, guest) in GUESTS.into_iter().enumerate() {
            let known = self.operator.passwords.entry(guest).or_default();
            let candidates = known.candidates();
            let server = &self.server;
            let client = candidates.iter().flatten().find_map(|password| {
                let client = log_in(server, guest, password)?;
                Some((password.clone(), client))
            });
            let exists = look.accounts.contains(guest);
            let found = client.as_ref().map(|(password, _)| password.clone());
            if exists != found.is_some() {
                problems.push(format!(
                    "{guest} exists: {exists}; its password is none of {candidates:?}"
                ));
            }
            if let Err(problem) = known.compare(found) {
                problems.push(format!("{guest}: {problem}"));
            }
            let Some((_, mut client)) = client else {
                continue;
            };
            for (type_, offset) in [("subscribed", 0), ("subscribed", 2), ("subscribe", 3)] {
                let to = bare(CLIENTS[(number + offset) % CLIENTS.len()]);
                client.send(format!("<presence type='{type_}' to='{to}'/>"));
            }
            client.until_settled();
        }
    }

    /// What was promised to be stored is delivered to those who were not there.
    fn compare_messages(&mut self, problems: &mut Vec<String>) {
        self.absent.enter(&self.server);
        let hidden = self.actors.iter_mut().find(|actor| actor.is_hidden());
        let hidden = hidden.expect("one of them is hidden");
        for actor in [&mut self.absent, &mut *hidden] {
            actor.appear();
            let deadline = Instant::now() + PATIENCE;
            while messages(&self.server.site, actor.bare()) > 0 {
                assert!(Instant::now() < deadline, "messages wait for {}", actor.jid);
                actor.settle();
            }
            // They are deleted when they were sent.
            actor.settle();
        }
        hidden.hide();
        for id in &self.promised {
            if !self.absent.received.contains(id) && !hidden.received.contains(id) {
                problems.push(format!("message {id} is lost"));
            }
        }
        let first = self.actors.iter().filter(|actor| actor.is_first());
        self.absent.approve(first.map(Actor::bare));
        self.absent.leave();
        self.promised.clear();
        self.absent.received.clear();
    }

    /// A start after a kill is nothing to complain of.
    fn compare_log(&mut self, problems: &mut Vec<String>) {
        let log = self.server.log();
        for line in log.get(self.logged..).unwrap_or_default().lines() {
            let level = line.split(' ').nth(1);
            if matches!(level, Some("warn" | "error")) {
                problems.push(format!("logged: {line}"));
            }
        }
        self.logged = log.len();
        let said = self.server.stderr();
        if !said.is_empty() {
            problems.push(format!("said: {said}"));
        }
    }
}

/// Logs a guest in, if this is its password.
fn log_in(server: &Server, jid: &str, password: &str) -> Option<Client> {
    let (user, domain) = jid.split_once('@').expect("the JID of an account");
    let mut client = Client::connect(server);
    client.secure(domain);
    match client.scram("SCRAM-SHA-256", user, password) {
        Ok(()) => {
            client.open(domain);
            client.bind(None);
            Some(client)
        }
        failed => {
            assert_eq!(failure_of(failed), "not-authorized");
            None
        }
    }
}

//! Brings the sessions of circles online, one after the other in each, and checks that all see each
//! other: who comes is announced to those who are there and to itself, and hears of each of them by
//! their server's answers to probes (RFC 6121 §4.2.2, §4.3.2).

use std::collections::HashSet;
use std::time::Instant;

use crate::fleet::{Course, Fleet, Workload};
use crate::people::{Circles, People};
use crate::scanner;
use crate::session::Failure;

/// How two sides become visible to each other. What comes twice or unasked is trouble.
#[derive(Debug)]
pub struct Encounter {
    pub account: usize,
    /// Contacts that it has yet to see, and itself, as a server tells all of an account's sessions.
    sees: HashSet<usize>,
    /// Contacts that have yet to see it.
    seen_by: HashSet<usize>,
}

impl Encounter {
    /// An account that comes to others.
    pub fn new(account: usize, others: &[usize]) -> Encounter {
        let seen_by: HashSet<usize> = others.iter().copied().collect();
        let mut sees = seen_by.clone();
        sees.insert(account);
        Encounter {
            account,
            sees,
            seen_by,
        }
    }

    /// Notes that `receiver` has got available presence from `sender`; false if that was not
    /// awaited.
    pub fn note(&mut self, sender: usize, receiver: usize) -> bool {
        if receiver == self.account {
            self.sees.remove(&sender)
        } else {
            sender == self.account && self.seen_by.remove(&receiver)
        }
    }

    /// Whether all have seen each other.
    pub fn is_over(&self) -> bool {
        self.sees.is_empty() && self.seen_by.is_empty()
    }

    /// What is awaited, for messages about failures.
    pub fn waits_for(&self, people: &People) -> String {
        format!(
            "{} has yet to see {} and to be seen by {} contacts",
            people.jid(self.account),
            self.sees.len(),
            self.seen_by.len()
        )
    }
}

struct Gathering<'a> {
    people: &'a People,
    circles: Circles,
    presence: &'a str,
    /// By circle: those who have not come yet, the next one last.
    absent: Vec<Vec<usize>>,
    /// By circle: those who are there.
    there: Vec<Vec<usize>>,
    /// By circle: the one who is coming.
    coming: Vec<Option<Encounter>>,
    /// Sender and receiver of presence that came once more than awaited.
    again: HashSet<(usize, usize)>,
    last: Instant,
    trouble: Option<String>,
}

/// Sends initial presence for the sessions of all `people`, which have asked for their rosters.
///
/// # Errors
/// If a session fails, or presence is not delivered once each way between two contacts.
pub fn gather(
    fleet: &mut Fleet,
    people: &People,
    circles: Circles,
    presence: &str,
) -> Result<(), String> {
    let has_session = |account: &usize| people.session(*account).is_some();
    let absent = |circle| circles.accounts(circle).filter(has_session).rev().collect();
    let mut work = Gathering {
        people,
        circles,
        presence,
        absent: (0..circles.count()).map(absent).collect(),
        there: vec![Vec::new(); circles.count()],
        coming: (0..circles.count()).map(|_| None).collect(),
        again: HashSet::new(),
        last: Instant::now(),
        trouble: None,
    };
    (0..circles.count()).for_each(|circle| work.come(fleet, circle));
    fleet.drive(&mut work, |work, _| work.coming.iter().all(Option::is_none))
}

impl Gathering<'_> {
    /// Lets the next of a circle come.
    fn come(&mut self, fleet: &mut Fleet, circle: usize) {
        let Some(account) = self.absent[circle].pop() else {
            return;
        };
        let id = self.people.session(account);
        let id = id.expect("those without session were left out");
        // A session that is gone has made trouble, which ends the run after this turn.
        if fleet.send(id, &[self.presence.as_bytes()]) {
            self.coming[circle] = Some(Encounter::new(account, &self.there[circle]));
            self.there[circle].push(account);
        }
    }

    /// Whether presence that was not awaited is a probe's answer beside a broadcast. Who comes is
    /// announced, and asks, also where nobody is there yet; another one may come before a busy server
    /// has done so, and is then seen both ways. That happens to a pair once.
    fn has_crossed(&mut self, sender: usize, receiver: usize) -> bool {
        let there = &self.there[self.circles.of(receiver)];
        there.contains(&sender)
            && there.contains(&receiver)
            && self.again.insert((sender, receiver))
    }
}

impl Workload for Gathering<'_> {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, fleet: &mut Fleet, id: usize, stanza: &[u8], now: Instant) {
        if scanner::name(stanza) != b"presence" || scanner::attribute(stanza, b"type").is_some() {
            return;
        }
        let receiver = fleet.sessions[id].account;
        let sender = scanner::attribute(stanza, b"from");
        let sender = sender.and_then(|from| self.people.account(from));
        let circle = self.circles.of(receiver);
        let encounter = &mut self.coming[circle];
        let is_awaited = |encounter: &mut Encounter| {
            sender.is_some_and(|sender| encounter.note(sender, receiver))
        };
        if !encounter.as_mut().is_some_and(is_awaited) {
            if sender.is_some_and(|sender| self.has_crossed(sender, receiver)) {
                return;
            }
            let stanza = String::from_utf8_lossy(stanza);
            let receiver = self.people.jid(receiver);
            self.trouble
                .get_or_insert(format!("{receiver} got double or unasked: {stanza}"));
            return;
        }
        self.last = now;
        if encounter.as_ref().is_some_and(Encounter::is_over) {
            *encounter = None;
            self.come(fleet, circle);
        }
    }

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Course for Gathering<'_> {
    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        let first = self.coming.iter().flatten().next();
        first.map_or_else(String::new, |first| first.waits_for(self.people))
    }
}

/// Claims about encounters, run by `load check`.
pub fn check() {
    let mut encounter = Encounter::new(7, &[4, 5]);
    assert!(encounter.note(7, 4));
    assert!(!encounter.note(7, 4), "seen twice");
    assert!(!encounter.note(5, 4), "neither of them comes");
    assert!(encounter.note(5, 7) && encounter.note(4, 7) && encounter.note(7, 5));
    assert!(!encounter.is_over(), "it has not seen itself");
    assert!(encounter.note(7, 7));
    assert!(encounter.is_over());
}

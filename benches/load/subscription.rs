//! Pairs of accounts that subscribe to each other as real clients do, or part again.
//!
//! To subscribe (RFC 6121 §3.1): the first adds the second to its roster and asks; the second adds
//! the first, approves, and asks in turn; the first approves. Both wait until their rosters say
//! `both` and the other's presence has come. To part: both cancel (§3.2) and remove the other (§2.5);
//! a message each way tells that what the server made of it has arrived, as stanzas between two
//! stay in order.

use std::collections::HashMap;
use std::time::Instant;

use crate::fleet::{Course, Fleet, Workload};
use crate::histogram::Histogram;
use crate::people::People;
use crate::session::Failure;
use crate::{roster, scanner};

/// What pairs do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Subscribe,
    Part,
}

// What one side of a pair awaits, as bits.
/// The answer to its roster set.
const ANSWER: u16 = 1;
/// The other's request, to be approved.
const SUBSCRIBE: u16 = 1 << 1;
/// The other's approval.
const SUBSCRIBED: u16 = 1 << 2;
/// The push that says `both`.
const BOTH: u16 = 1 << 3;
/// The other's presence.
const AVAILABLE: u16 = 1 << 4;
/// The other's farewell.
const FAREWELL: u16 = 1 << 5;

impl Deed {
    fn awaits(self) -> u16 {
        match self {
            Deed::Subscribe => ANSWER | SUBSCRIBE | SUBSCRIBED | BOTH | AVAILABLE,
            Deed::Part => ANSWER | FAREWELL,
        }
    }

    /// What the id of a roster set begins with; the other's account follows.
    fn id(self) -> &'static str {
        match self {
            Deed::Subscribe => "add",
            Deed::Part => "part",
        }
    }
}

/// A pair under way: what the lower account, which begins, and the other await.
struct Pair {
    began: Instant,
    awaits: [u16; 2],
}

/// The pairs of a run, a few under way at a time.
pub struct Subscriptions<'a> {
    people: &'a People,
    deed: Deed,
    /// Those to come, the next one last.
    waiting: Vec<(usize, usize)>,
    under_way: HashMap<(usize, usize), Pair>,
    time: Histogram,
    last: Instant,
    trouble: Option<String>,
}

/// Lets all `pairs` (the lower account first) do a deed, `concurrency` at a time; adds the time of
/// each to `time`. The sessions of their accounts are online and interested in roster pushes.
///
/// # Errors
/// If a session fails, a server refuses, or something does not come.
pub fn run(
    fleet: &mut Fleet,
    people: &People,
    pairs: &[(usize, usize)],
    (deed, concurrency): (Deed, usize),
    time: &mut Histogram,
) -> Result<(), String> {
    let mut work = Subscriptions {
        people,
        deed,
        waiting: pairs.iter().rev().copied().collect(),
        under_way: HashMap::new(),
        time: std::mem::take(time),
        last: Instant::now(),
        trouble: None,
    };
    (0..concurrency).for_each(|_| work.begin(fleet));
    let outcome = fleet.drive(&mut work, |work, _| work.under_way.is_empty());
    *time = work.time;
    outcome
}

impl Subscriptions<'_> {
    /// Begins with the next pair, if there is one.
    fn begin(&mut self, fleet: &mut Fleet) {
        let Some((first, second)) = self.waiting.pop() else {
            return;
        };
        let pair = Pair {
            began: Instant::now(),
            awaits: [self.deed.awaits(); 2],
        };
        self.under_way.insert((first, second), pair);
        match self.deed {
            Deed::Subscribe => {
                let ask = roster::presence("subscribe", self.people.jid(second));
                self.send(fleet, first, &[&self.add(second), &ask]);
            }
            Deed::Part => {
                for (account, other) in [(first, second), (second, first)] {
                    let id = format!("{}{other}", self.deed.id());
                    // Prosody 0.12 keeps a request that has not been answered, and shows no further
                    // one, when both remove the other at the same time.
                    let deny = roster::presence("unsubscribed", self.people.jid(other));
                    let remove = roster::remove(&id, self.people.jid(other));
                    let farewell = self.farewell(fleet, other);
                    self.send(fleet, account, &[&deny, &remove, &farewell]);
                }
            }
        }
    }

    fn add(&self, other: usize) -> String {
        let id = format!("{}{other}", self.deed.id());
        roster::add(&id, self.people.jid(other))
    }

    /// A message to the other's session, which a server keeps for nobody (RFC 6121 §5.2.2).
    fn farewell(&self, fleet: &Fleet, other: usize) -> String {
        let session = self.people.session(other);
        let session = session.and_then(|id| fleet.sessions.get(id));
        // A session that is gone has made trouble; what is sent to it no longer matters.
        let to = session.map_or(self.people.jid(other), |session| &session.jid);
        format!("<message to='{to}' type='headline'><body>Farewell!</body></message>")
    }

    /// Sends for an account. If its session is gone that has made trouble.
    fn send(&self, fleet: &mut Fleet, account: usize, stanzas: &[&str]) {
        let parts: Vec<&[u8]> = stanzas.iter().map(|stanza| stanza.as_bytes()).collect();
        if let Some(id) = self.people.session(account) {
            fleet.send(id, &parts);
        }
    }

    /// Notes what `account` has got from or about `other`.
    fn note(
        &mut self,
        fleet: &mut Fleet,
        (account, other): (usize, usize),
        what: u16,
        now: Instant,
    ) {
        let key = (account.min(other), account.max(other));
        // What comes before a pair begins was left by a run that broke off.
        let Some(pair) = self.under_way.get_mut(&key) else {
            return;
        };
        let awaits = &mut pair.awaits[usize::from(account > other)];
        if *awaits & what == 0 {
            if what & (SUBSCRIBE | SUBSCRIBED) != 0 {
                self.trouble.get_or_insert(format!(
                    "{} got a subscription stanza of {} twice",
                    self.people.jid(account),
                    self.people.jid(other)
                ));
            }
            return;
        }
        *awaits &= !what;
        self.last = now;
        let (is_over, began) = (pair.awaits == [0; 2], pair.began);
        if what == SUBSCRIBE {
            let approve = roster::presence("subscribed", self.people.jid(other));
            if account < other {
                self.send(fleet, account, &[&approve]);
            } else {
                let ask = roster::presence("subscribe", self.people.jid(other));
                self.send(fleet, account, &[&self.add(other), &approve, &ask]);
            }
        }
        if is_over {
            self.under_way.remove(&key);
            self.time.record(now - began);
            self.begin(fleet);
        }
    }

    /// Handles presence; yields what it is to a pair.
    fn presence(&mut self, stanza: &[u8]) -> Option<u16> {
        if self.deed == Deed::Part {
            return None;
        }
        match scanner::attribute(stanza, b"type") {
            None => Some(AVAILABLE),
            Some(b"subscribe") => Some(SUBSCRIBE),
            Some(b"subscribed") => Some(SUBSCRIBED),
            Some(b"unavailable") => None,
            Some(_) => {
                let stanza = String::from_utf8_lossy(stanza);
                self.trouble
                    .get_or_insert(format!("a server sent {stanza}"));
                None
            }
        }
    }

    /// Handles the answer to a roster set; yields the contact.
    fn answer(&mut self, stanza: &[u8]) -> Option<usize> {
        let id = scanner::attribute(stanza, b"id")?;
        let contact = id.strip_prefix(self.deed.id().as_bytes())?;
        // Who parts need not be in the other's roster (RFC 6121 §2.5.3).
        let is_fine = scanner::attribute(stanza, b"type") == Some(b"result")
            || self.deed == Deed::Part && scanner::contains(stanza, b"<item-not-found");
        if !is_fine {
            let stanza = String::from_utf8_lossy(stanza);
            self.trouble
                .get_or_insert(format!("a roster set got {stanza}"));
        }
        std::str::from_utf8(contact).ok()?.parse().ok()
    }
}

impl Workload for Subscriptions<'_> {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, fleet: &mut Fleet, id: usize, stanza: &[u8], now: Instant) {
        let account = fleet.sessions[id].account;
        let sender = || self.people.account(scanner::attribute(stanza, b"from")?);
        match scanner::name(stanza) {
            b"iq" if roster::is_push(stanza) => {
                let items = roster::items(stanza).filter(|(_, state)| *state == b"both");
                let contacts: Vec<_> = items
                    .filter_map(|(jid, _)| self.people.account(jid))
                    .collect();
                for contact in contacts {
                    self.note(fleet, (account, contact), BOTH, now);
                }
            }
            b"iq" => {
                if let Some(contact) = self.answer(stanza) {
                    self.note(fleet, (account, contact), ANSWER, now);
                }
            }
            b"presence" => {
                if let Some(other) = sender()
                    && let Some(what) = self.presence(stanza)
                {
                    self.note(fleet, (account, other), what, now);
                }
            }
            b"message" if scanner::contains(stanza, b"<body>Farewell!</body>") => {
                if let Some(other) = sender() {
                    self.note(fleet, (account, other), FAREWELL, now);
                }
            }
            _ => {}
        }
    }

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Course for Subscriptions<'_> {
    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        let first = self.under_way.iter().next();
        first.map_or_else(String::new, |((first, second), pair)| {
            format!(
                "{} pairs have not done ({:?}), like {} and {}, which await {:#b} and {:#b}",
                self.under_way.len(),
                self.deed,
                self.people.jid(*first),
                self.people.jid(*second),
                pair.awaits[0],
                pair.awaits[1]
            )
        })
    }
}

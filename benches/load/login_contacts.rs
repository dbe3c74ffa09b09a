//! Logins of accounts with contacts, of whom some are online: connect, TLS, SASL, bind, roster,
//! presence; see and be seen; end of stream; over and over.
//!
//! Of each circle the first few accounts stay online, and one of the others at a time comes and
//! goes. Each login is checked: the roster has the whole circle; every contact who is online sees
//! it come and go; and it sees each of them; all once.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::fleet::{Course, Fleet, Workload};
use crate::gathering::{self, Encounter};
use crate::histogram::Histogram;
use crate::people::{Circles, People};
use crate::report::Report;
use crate::session::Failure;
use crate::{Meter, Timing};
use crate::{answers, scanner};

/// After the last login the server may still clean up; that is part of a login's cost.
const SETTLE: Duration = Duration::from_secs(1);

/// The shape of a run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub contacts: usize,
    /// Contacts of each who are online.
    pub online: usize,
    /// Logins at a time, each in another circle.
    pub concurrency: usize,
}

/// A login: who comes is seen, sees, leaves, and is seen to leave.
struct Visit {
    session: usize,
    encounter: Encounter,
    has_arrived: bool,
    is_closing: bool,
    is_closed: bool,
    /// Contacts who have yet to see it go.
    parting: HashSet<usize>,
}

struct Visits<'a> {
    people: &'a People,
    circles: Circles,
    online: usize,
    /// By circle.
    visits: Vec<Option<Visit>>,
    /// By circle: the place in it of who comes next.
    next: Vec<usize>,
    /// Circles without a visit, the one that has been so for longest first.
    free: VecDeque<usize>,
    refill: bool,
    done: u64,
    time: Histogram,
    last: Instant,
    trouble: Option<String>,
}

/// Logs in `concurrency` sessions at a time for the warm-up and the measured time.
///
/// # Errors
/// If a login fails, the rosters are not set up, or presence is not delivered as it should be.
pub fn run(
    fleet: &mut Fleet,
    shape: Shape,
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let circles = Circles::new(shape.contacts, fleet.logins.accounts.len())?;
    if !(1..=circles.count()).contains(&shape.concurrency) || shape.online > shape.contacts {
        return Err(format!(
            "of {} circles there can be 1 to {0} logins at a time, and of {} contacts as many \
             online",
            circles.count(),
            shape.contacts
        ));
    }
    let staying = |circle| circles.accounts(circle).take(shape.online);
    let staying: Vec<_> = (0..circles.count()).flat_map(staying).collect();
    let ids = fleet.muster_accounts(&staying)?;
    let people = People::new(fleet, &ids);
    people.check_rosters(fleet, circles, &ids)?;
    gathering::gather(fleet, &people, circles, &answers::initial_presence())?;
    fleet.logins.presence = Some(answers::initial_presence());

    let mut work = Visits::new(&people, circles, shape.online);
    // Each account's first login derives its keys here, and perhaps loads it there: not measured.
    let visitors = circles.count() * (circles.members() - shape.online);
    work.go(fleet, shape, |work, _| work.done >= visitors as u64)?;
    let warm = Instant::now() + timing.warm_up;
    work.go(fleet, shape, |_, now| now >= warm)?;
    work.done = 0;
    work.time = Histogram::default();
    let (before, began) = (meter.read()?, Instant::now());
    work.go(fleet, shape, |_, now| now >= began + timing.measured)?;
    let took = began.elapsed();
    fleet.rest(SETTLE)?;
    let used = meter.read()?.since(&before);

    report.tls(fleet.tls_facts());
    report.fact("accounts", visitors.to_string());
    report.fact(
        "checked",
        format!(
            "{} logins, {} deliveries",
            work.done,
            work.done * 3 * shape.online as u64
        ),
    );
    report.figure(
        "logins a second",
        work.done as f64 / took.as_secs_f64(),
        "/s",
    );
    report.cpu("login", work.done, took, used);
    report.percentiles("time to see contacts", &work.time);
    Ok(())
}

impl<'a> Visits<'a> {
    fn new(people: &'a People, circles: Circles, online: usize) -> Visits<'a> {
        Visits {
            people,
            circles,
            online,
            visits: (0..circles.count()).map(|_| None).collect(),
            next: vec![online; circles.count()],
            free: (0..circles.count()).collect(),
            refill: true,
            done: 0,
            time: Histogram::default(),
            last: Instant::now(),
            trouble: None,
        }
    }

    /// Logs in until `enough`, then lets those that have begun finish.
    fn go(
        &mut self,
        fleet: &mut Fleet,
        shape: Shape,
        enough: impl Fn(&Visits, Instant) -> bool,
    ) -> Result<(), String> {
        self.refill = true;
        (0..shape.concurrency).for_each(|_| self.come(fleet));
        fleet.drive(self, enough)?;
        self.refill = false;
        fleet.drive(self, |work, _| work.visits.iter().all(Option::is_none))
    }

    /// Opens the next session in the circle that has been without a visit for longest.
    fn come(&mut self, fleet: &mut Fleet) {
        let Some(circle) = self.free.pop_front() else {
            return;
        };
        let accounts = self.circles.accounts(circle);
        let account = accounts.start + self.next[circle];
        self.next[circle] += 1;
        if self.next[circle] == self.circles.members() {
            self.next[circle] = self.online;
        }
        let online: Vec<_> = accounts.take(self.online).collect();
        match fleet.open(account, "load") {
            Ok(session) => {
                self.visits[circle] = Some(Visit {
                    session,
                    encounter: Encounter::new(account, &online),
                    has_arrived: false,
                    is_closing: false,
                    is_closed: false,
                    parting: online.into_iter().collect(),
                });
            }
            Err(error) => {
                self.trouble.get_or_insert(error.to_string());
            }
        }
    }

    /// Takes the visit of a circle on: it leaves when all have met, and is over when all saw it go.
    fn advance(&mut self, fleet: &mut Fleet, circle: usize) {
        let Some(visit) = &mut self.visits[circle] else {
            return;
        };
        self.last = Instant::now();
        if visit.has_arrived && !visit.is_closing && visit.encounter.is_over() {
            // A session that is gone has made trouble, which ends the run after this turn.
            let Some(session) = fleet.sessions.get(visit.session) else {
                return;
            };
            self.time.record(session.opened.elapsed());
            visit.is_closing = true;
            fleet.close(visit.session);
        }
        if visit.is_closed && visit.parting.is_empty() {
            self.visits[circle] = None;
            self.free.push_back(circle);
            self.done += 1;
            if self.refill {
                self.come(fleet);
            }
        }
    }

    /// Whether an account comes and goes.
    fn is_visitor(&self, account: usize) -> bool {
        let visit = &self.visits[self.circles.of(account)];
        visit
            .as_ref()
            .is_some_and(|visit| visit.encounter.account == account)
    }

    /// Notes presence; false if it is not what was awaited.
    fn note(&mut self, sender: usize, receiver: usize, kind: Option<&[u8]>) -> bool {
        let Some(visit) = &mut self.visits[self.circles.of(receiver)] else {
            return false;
        };
        match kind {
            None => visit.encounter.note(sender, receiver),
            Some(b"unavailable") => {
                visit.is_closing
                    && sender == visit.encounter.account
                    && visit.parting.remove(&receiver)
            }
            Some(_) => false,
        }
    }
}

impl Workload for Visits<'_> {
    fn arrived(&mut self, fleet: &mut Fleet, id: usize) {
        let session = &mut fleet.sessions[id];
        let (account, roster) = (session.account, std::mem::take(&mut session.roster));
        if let Err(what) = self.people.check_roster(self.circles, account, &roster) {
            self.trouble.get_or_insert(what);
            return;
        }
        let circle = self.circles.of(account);
        if let Some(visit) = &mut self.visits[circle] {
            visit.has_arrived = true;
        }
        self.advance(fleet, circle);
    }

    fn stanza(&mut self, fleet: &mut Fleet, id: usize, stanza: &[u8], _: Instant) {
        if scanner::name(stanza) != b"presence" {
            return;
        }
        let receiver = fleet.sessions[id].account;
        let sender = scanner::attribute(stanza, b"from");
        let sender = sender.and_then(|from| self.people.account(from));
        let kind = scanner::attribute(stanza, b"type");
        if kind == Some(b"unavailable") && self.is_visitor(receiver) {
            // What a probe of somebody who is not online may get (RFC 6121 §4.3.2). If it came from
            // somebody who is, the presence that is awaited would be missed.
            return;
        }
        if sender.is_some_and(|sender| self.note(sender, receiver, kind)) {
            self.advance(fleet, self.circles.of(receiver));
        } else {
            let stanza = String::from_utf8_lossy(stanza);
            let receiver = self.people.jid(receiver);
            self.trouble
                .get_or_insert(format!("{receiver} got double or unasked: {stanza}"));
        }
    }

    fn closed(&mut self, fleet: &mut Fleet, account: usize) {
        let circle = self.circles.of(account);
        if let Some(visit) = &mut self.visits[circle] {
            visit.is_closed = true;
        }
        self.advance(fleet, circle);
    }

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Course for Visits<'_> {
    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        let first = self.visits.iter().flatten().next();
        first.map_or_else(String::new, |visit| {
            let waits = visit.encounter.waits_for(self.people);
            format!("{waits}, to be seen leaving by {}", visit.parting.len())
        })
    }
}

//! Changes of presence in a closed loop: in each circle of contacts somebody goes away, comes back,
//! goes away; the next change is sent when every contact has seen the last.
//!
//! With one change on its way in each circle no session gets two at a time, so that each delivery
//! is a TLS record and a call of its own, as in a server whose users do not act in step. Each
//! delivery is checked: it is from the full JID that changed, has the content that was sent, and
//! comes once and in order. The echo to the session itself (RFC 6121 §4.4.2) is awaited and checked
//! too, but not counted as a delivery.

use std::time::{Duration, Instant};

use crate::fleet::{Course, Fleet, Workload};
use crate::histogram::Histogram;
use crate::people::{Circles, People};
use crate::report::Report;
use crate::session::Failure;
use crate::{Meter, Timing};
use crate::{answers, gathering, scanner, sequence};

/// What comes twice may come late; so long it is listened for after the last change.
const SETTLE: Duration = Duration::from_millis(500);

/// The shape of a presence run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub sessions: usize,
    pub contacts: usize,
    /// Changes on their way at a time in each circle.
    pub window: usize,
}

/// A session's newest change.
struct Change {
    number: u64,
    sent: Instant,
    /// Sessions that have yet to see it: the contacts', and the one that sent it.
    missing: usize,
}

#[derive(Debug, Default)]
struct Counts {
    changes: u64,
    deliveries: u64,
    echoes: u64,
    wrong: u64,
}

struct Changes<'a> {
    people: &'a People,
    circles: Circles,
    window: usize,
    /// By account.
    newest: Vec<Change>,
    /// By account and by the receiver's place in the circle: the last change that one has seen.
    seen: Vec<u64>,
    tail: Vec<u8>,
    refill: bool,
    counts: Counts,
    latency: Histogram,
    last: Instant,
    trouble: Option<String>,
}

/// Changes presence for the warm-up and the measured time, and waits for the last delivery.
///
/// # Errors
/// If the rosters are not set up, a session fails, or a delivery is lost or wrong.
pub fn run(
    fleet: &mut Fleet,
    shape: Shape,
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let circles = Circles::new(shape.contacts, shape.sessions)?;
    if !(1..=circles.members()).contains(&shape.window) {
        return Err(format!("a window is 1 to {} changes", circles.members()));
    }
    let ids = fleet.muster(shape.sessions)?;
    report.tls(fleet.tls_facts());
    let people = People::new(fleet, &ids);
    people.check_rosters(fleet, circles, &ids)?;
    gathering::gather(fleet, &people, circles, &answers::initial_presence())?;

    let mut work = Changes::new(&people, circles, shape.window);
    for circle in 0..circles.count() {
        let first = circles.accounts(circle).start;
        (0..shape.window).for_each(|member| work.change(fleet, first + member));
    }
    let warm = Instant::now() + timing.warm_up;
    fleet.drive(&mut work, |_, now| now >= warm)?;
    work.counts = Counts {
        changes: work.outstanding().0,
        ..Counts::default()
    };
    work.latency = Histogram::default();
    let (before, began) = (meter.read()?, Instant::now());
    fleet.drive(&mut work, |_, now| now >= began + timing.measured)?;
    let (used, took) = (meter.read()?.since(&before), began.elapsed());
    let (changes, delivered) = (work.counts.changes, work.counts.deliveries);
    let latency = std::mem::take(&mut work.latency);

    work.refill = false;
    let rest = fleet.drive(&mut work, |work, now| {
        work.outstanding().1 == 0 && now >= work.last + SETTLE
    });
    let lost = work.outstanding().1;
    report.fact(
        "checked",
        format!(
            "{} changes, {} deliveries, {lost} lost, {} wrong; {} echoes",
            work.counts.changes, work.counts.deliveries, work.counts.wrong, work.counts.echoes
        ),
    );
    let per_second = |count: u64| count as f64 / took.as_secs_f64();
    report.figure("deliveries a second", per_second(delivered), "/s");
    report.figure("changes a second", per_second(changes), "/s");
    report.cpu("delivery", delivered, took, used);
    report.percentiles("latency", &latency);
    rest?;
    if delivered == 0 {
        return Err("no change was delivered".into());
    }
    Ok(())
}

impl<'a> Changes<'a> {
    fn new(people: &'a People, circles: Circles, window: usize) -> Changes<'a> {
        let accounts = circles.count() * circles.members();
        let change = || Change {
            number: sequence::first(),
            sent: Instant::now(),
            missing: 0,
        };
        Changes {
            people,
            circles,
            window,
            newest: (0..accounts).map(|_| change()).collect(),
            seen: vec![sequence::first(); accounts * circles.members()],
            tail: format!(
                "</status><priority>5</priority>{}</presence>",
                answers::caps()
            )
            .into(),
            refill: true,
            counts: Counts::default(),
            latency: Histogram::default(),
            last: Instant::now(),
            trouble: None,
        }
    }

    /// Changes that not all have seen, and deliveries and echoes that are still to come.
    fn outstanding(&self) -> (u64, u64) {
        let missing = self.newest.iter().map(|change| change.missing as u64);
        let changes = missing.clone().filter(|missing| *missing > 0);
        (changes.count() as u64, missing.sum())
    }

    /// Sends an account's next change.
    fn change(&mut self, fleet: &mut Fleet, account: usize) {
        let change = &mut self.newest[account];
        let number = sequence::written(change.number + 1);
        let parts = [HEAD, show(change.number + 1), STATUS, &number, &self.tail];
        let id = self.people.session(account);
        // A session that is gone has made trouble, which ends the run after this turn.
        if !id.is_some_and(|id| fleet.send(id, &parts)) {
            return;
        }
        change.number += 1;
        change.sent = Instant::now();
        change.missing = self.circles.members();
        self.counts.changes += 1;
    }

    /// The account that changes after another: of each circle's members every window-th.
    fn next(&self, account: usize) -> usize {
        let circle = self.circles.accounts(self.circles.of(account));
        let next = account + self.window;
        if circle.contains(&next) {
            next
        } else {
            circle.start + (account - circle.start) % self.window
        }
    }

    /// Notes a delivery; false if it is not what was awaited.
    fn note(&mut self, sender: usize, receiver: usize, presence: &[u8], now: Instant) -> bool {
        let change = &mut self.newest[sender];
        let circle = self.circles.accounts(self.circles.of(receiver));
        let seen = sender * self.circles.members() + receiver - circle.start;
        if !circle.contains(&sender)
            || self.seen[seen] + 1 != change.number
            || !is_change(presence, change.number)
        {
            return false;
        }
        self.seen[seen] = change.number;
        change.missing -= 1;
        self.last = now;
        if sender == receiver {
            self.counts.echoes += 1;
        } else {
            self.latency.record(now - change.sent);
            self.counts.deliveries += 1;
        }
        true
    }
}

impl Workload for Changes<'_> {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, fleet: &mut Fleet, id: usize, stanza: &[u8], now: Instant) {
        if scanner::name(stanza) != b"presence" {
            return;
        }
        let receiver = fleet.sessions[id].account;
        let from = scanner::attribute(stanza, b"from").unwrap_or_default();
        let sender = self.people.account(from);
        let is_session = |account: &usize| {
            let session = self.people.session(*account);
            session.is_some_and(|id| {
                let session = fleet.sessions.get(id);
                session.is_some_and(|session| session.jid.as_bytes() == from)
            })
        };
        let sender = sender.filter(is_session);
        match sender {
            Some(sender) if self.note(sender, receiver, stanza, now) => {
                if self.refill && self.newest[sender].missing == 0 {
                    self.change(fleet, self.next(sender));
                }
            }
            _ => {
                self.counts.wrong += 1;
                let stanza = String::from_utf8_lossy(stanza);
                let receiver = self.people.jid(receiver);
                self.trouble
                    .get_or_insert(format!("{receiver} got wrong, double or late: {stanza}"));
            }
        }
    }

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Course for Changes<'_> {
    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        let (changes, deliveries) = self.outstanding();
        format!("{deliveries} deliveries or echoes of {changes} changes are outstanding")
    }
}

const HEAD: &[u8] = b"<presence>";
const STATUS: &[u8] = b"<status>";
const SHOWS: [&[u8]; 2] = [b"<show>away</show>", b"<show>dnd</show>"];

/// How a session shows itself after a change: one differs from the next in more than a number.
fn show(number: u64) -> &'static [u8] {
    SHOWS[usize::from(number.is_multiple_of(2))]
}

/// Whether presence has the content of a change. ejabberd 23 changes the order of children.
fn is_change(presence: &[u8], number: u64) -> bool {
    let status = [STATUS, &sequence::written(number), b"</status>"].concat();
    scanner::contains(presence, show(number)) && scanner::contains(presence, &status)
}

/// Claims about changes, run by `load check`.
pub fn check() {
    let change = |number| {
        let written = sequence::written(number);
        [
            HEAD,
            STATUS,
            &written,
            b"</status>",
            show(number),
            b"</presence>",
        ]
        .concat()
    };
    assert!(is_change(&change(7), 7));
    assert!(!is_change(&change(7), 8));
    assert!(!is_change(&change(9), 7));
    assert!(!is_change(b"<presence type='unavailable'/>", 7));

    let people = People::named((0..3).map(|i| format!("user{i}@example.org")).collect());
    let circles = Circles::new(2, 3).expect("three accounts are one circle");
    let mut work = Changes::new(&people, circles, 2);
    assert_eq!([0, 1, 2].map(|account| work.next(account)), [2, 1, 0]);
    let number = work.newest[0].number + 1;
    work.newest[0].number = number;
    work.newest[0].missing = 3;
    let now = Instant::now();
    assert!(!work.note(0, 1, &change(number - 1), now), "an old change");
    assert!(work.note(0, 1, &change(number), now));
    assert!(!work.note(0, 1, &change(number), now), "the same twice");
    assert!(!work.note(1, 2, &change(number), now), "from another");
    assert!(work.note(0, 0, &change(number), now), "the echo");
    assert_eq!(work.outstanding(), (1, 1));
    assert!(work.note(0, 2, &change(number), now));
    assert_eq!(work.outstanding(), (0, 0));
    assert_eq!((work.counts.deliveries, work.counts.echoes), (2, 1));
}

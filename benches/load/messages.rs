//! Messages between pairs of sessions: a closed loop (a window of outstanding messages for each
//! pair) or an open one (a fixed rate, whatever the server makes of it).
//!
//! Latency counts from when a message was due: with a closed loop that is when it is queued, with a
//! fixed rate what the rate says. A server or generator that stalls is so charged for all that had to
//! wait meanwhile, not for the one message that met the stall.
//!
//! The first of a pair sends, the second receives. Each message received is checked: it is the next
//! of its pair, from the sender's full JID, of the same type and with the same body. What comes
//! twice, out of order, changed, or not at all is counted, and makes the run fail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Workload};
use crate::histogram::Histogram;
use crate::report::Report;
use crate::scanner;
use crate::sequence;
use crate::session::Failure;
use crate::{Meter, Timing};

/// With messages outstanding and none received for so long, they count as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pacer does not wake the fleet more often; a higher rate comes in small bursts.
const PACE_MIN: Duration = Duration::from_micros(100);

/// What drives the senders.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    /// So many messages of each pair are on their way at any time.
    Window(usize),
    /// So many messages a second over all pairs, in turn.
    Rate(f64),
}

/// The shape of a message run.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub pairs: usize,
    pub drive: Drive,
    /// Bytes of a message as sent.
    pub size: usize,
    /// Address the receivers by bare JID.
    pub to_bare: bool,
}

struct Pair {
    sender: usize,
    /// A message up to its id, and from there on.
    head: Vec<u8>,
    tail: Vec<u8>,
    sender_jid: Vec<u8>,
    next: u64,
    expected: u64,
    /// When each outstanding message was due, oldest first.
    sent: VecDeque<Instant>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    received: u64,
    lost: u64,
    wrong: u64,
}

struct Messages {
    pairs: Vec<Pair>,
    /// By session id: the pair it receives for.
    receives_for: Vec<Option<usize>>,
    body: Vec<u8>,
    refill: bool,
    counts: Counts,
    latency: Histogram,
    last: Instant,
    trouble: Option<String>,
}

/// Runs messages for the warm-up and the measured time, and waits for the last.
///
/// # Errors
/// If a session fails, or a message is lost or wrong.
pub fn run(
    fleet: &mut Fleet,
    shape: Shape,
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let ids = fleet.muster(shape.pairs * 2)?;
    report.tls(fleet.tls_facts());
    let mut work = Messages::new(fleet, &ids, shape);
    let pacer = match shape.drive {
        Drive::Rate(rate) => Some(Pacer::start(fleet, rate)?),
        Drive::Window(_) => None,
    };
    let mut schedule = Schedule::new(shape.drive);
    if let Drive::Window(window) = shape.drive {
        for _ in 0..window {
            let now = Instant::now();
            (0..shape.pairs).for_each(|pair| work.send(fleet, pair, now));
        }
    }
    work.go(fleet, &mut schedule, timing.warm_up)?;
    work.counts = Counts {
        sent: work.outstanding(),
        ..Counts::default()
    };
    work.latency = Histogram::default();
    schedule.late = Histogram::default();
    let (before, threads, began) = (meter.read()?, meter.threads()?, Instant::now());
    work.go(fleet, &mut schedule, timing.measured)?;
    let (used, took) = (meter.read()?.since(&before), began.elapsed());
    let after = meter.threads()?;
    let received = work.counts.received;

    drop(pacer);
    work.finish(fleet)?;
    report.fact(
        "checked",
        format!(
            "{} sent, {} received, {} lost, {} wrong",
            work.counts.sent, work.counts.received, work.counts.lost, work.counts.wrong
        ),
    );
    report.figure(
        "messages a second",
        received as f64 / took.as_secs_f64(),
        "/s",
    );
    report.cpu("message", received, took, used);
    report.compare_with_own(used);
    let worked = after.iter().zip(&threads).map(|(now, then)| *now - *then);
    report.threads(&worked.collect::<Vec<_>>());
    report.percentiles("latency", &work.latency);
    if let Drive::Rate(_) = shape.drive {
        report.figure(
            "sent late p99",
            schedule.late.percentile(0.99).as_secs_f64() * 1e6,
            "us",
        );
    }
    match work.counts {
        Counts {
            lost: 0, wrong: 0, ..
        } if received > 0 => Ok(()),
        ref counts => Err(format!("not every message arrived as sent: {counts:?}")),
    }
}

impl Messages {
    fn new(fleet: &Fleet, ids: &[usize], shape: Shape) -> Messages {
        let mut receives_for = vec![None; ids.iter().max().map_or(0, |id| id + 1)];
        let longest = ids
            .iter()
            .map(|id| fleet.sessions[*id].jid.len())
            .max()
            .unwrap_or(0);
        let body = body(shape.size.saturating_sub(OVERHEAD + longest));
        let pairs = ids.chunks_exact(2).enumerate().map(|(index, pair)| {
            receives_for[pair[1]] = Some(index);
            Pair::new(fleet, pair[0], pair[1], &body, shape.to_bare)
        });
        Messages {
            pairs: pairs.collect(),
            receives_for,
            body: format!("<body>{body}</body>").into_bytes(),
            refill: matches!(shape.drive, Drive::Window(_)),
            counts: Counts::default(),
            latency: Histogram::default(),
            last: Instant::now(),
            trouble: None,
        }
    }

    /// Runs for a time.
    fn go(
        &mut self,
        fleet: &mut Fleet,
        schedule: &mut Schedule,
        time: Duration,
    ) -> Result<(), String> {
        let end = Instant::now() + time;
        self.last = Instant::now();
        loop {
            let now = Instant::now();
            // What was due is sent even if the time is over: it belongs to it.
            while let Some(due) = schedule.due().filter(|due| *due <= now.min(end)) {
                let pair = (schedule.done % self.pairs.len() as u64) as usize;
                self.send(fleet, pair, due);
                schedule.advance(now);
            }
            if now >= end {
                return Ok(());
            }
            let timeout = Duration::from_millis(100).min(end - now);
            fleet.turn(self, Some(timeout)).map_err(|e| e.to_string())?;
            self.check()?;
            if self.outstanding() > 0 && self.last.elapsed() > PATIENCE {
                return Err(format!(
                    "no message for 10 s, {} are outstanding",
                    self.outstanding()
                ));
            }
        }
    }

    /// Waits for what is still on its way. How long that takes counts too: those that are late are
    /// the last to come.
    fn finish(&mut self, fleet: &mut Fleet) -> Result<(), String> {
        self.refill = false;
        self.last = Instant::now();
        while self.outstanding() > 0 && self.last.elapsed() < PATIENCE {
            fleet
                .turn(self, Some(Duration::from_millis(100)))
                .map_err(|e| e.to_string())?;
            self.check()?;
        }
        self.counts.lost += self.outstanding();
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        self.trouble.take().map_or(Ok(()), Err)
    }

    fn outstanding(&self) -> u64 {
        self.pairs.iter().map(|pair| pair.sent.len() as u64).sum()
    }

    fn send(&mut self, fleet: &mut Fleet, pair: usize, due: Instant) {
        let pair = &mut self.pairs[pair];
        // A session that is gone has made trouble, which ends the run after this turn.
        let parts = [&pair.head[..], &sequence::written(pair.next), &pair.tail];
        if !fleet.send(pair.sender, &parts) {
            return;
        }
        pair.next += 1;
        pair.sent.push_back(due);
        self.counts.sent += 1;
    }

    /// Checks a message that a pair's receiver got; true if it is the one that was awaited.
    fn receive(&mut self, pair: usize, message: &[u8], now: Instant) -> bool {
        let pair = &mut self.pairs[pair];
        let found = scanner::attribute(message, b"id").and_then(sequence::read);
        if found.is_some_and(|found| !sequence::is_of_this_run(found)) {
            return false;
        }
        let is_right = scanner::attribute(message, b"from") == Some(&pair.sender_jid)
            && scanner::attribute(message, b"type") == Some(b"chat")
            && scanner::contains(message, &self.body);
        let Some(found) =
            found.filter(|found| is_right && (pair.expected..pair.next).contains(found))
        else {
            self.counts.wrong += 1;
            let message = String::from_utf8_lossy(message);
            self.trouble
                .get_or_insert(format!("wrong, double or late: {message}"));
            return false;
        };
        let skipped = found - pair.expected;
        self.counts.lost += skipped;
        pair.sent.drain(..skipped as usize);
        if let Some(sent) = pair.sent.pop_front() {
            self.latency.record(now - sent);
        }
        pair.expected = found + 1;
        self.counts.received += 1;
        self.last = now;
        true
    }
}

impl Workload for Messages {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, fleet: &mut Fleet, session: usize, stanza: &[u8], now: Instant) {
        // Presence and what else a server sends of its own accord is not counted.
        if !stanza.starts_with(b"<message") {
            return;
        }
        match self.receives_for.get(session) {
            Some(&Some(pair)) => {
                if self.receive(pair, stanza, now) && self.refill {
                    self.send(fleet, pair, Instant::now());
                }
            }
            _ => {
                let stanza = String::from_utf8_lossy(stanza);
                self.trouble
                    .get_or_insert(format!("a sender received {stanza}"));
            }
        }
    }

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Pair {
    fn new(fleet: &Fleet, sender: usize, receiver: usize, body: &str, to_bare: bool) -> Pair {
        let to = &fleet.sessions[receiver].jid;
        let to = if to_bare {
            to.split('/').next().unwrap_or(to)
        } else {
            to
        };
        let first = sequence::first();
        Pair {
            sender,
            head: format!("<message to='{to}' id='").into_bytes(),
            tail: format!("' type='chat'><body>{body}</body>{CHILDREN}</message>").into_bytes(),
            sender_jid: fleet.sessions[sender].jid.clone().into_bytes(),
            next: first,
            expected: first,
            sent: VecDeque::new(),
        }
    }
}

/// What clients of today send beside the body (XEP-0184, XEP-0333, XEP-0334).
const CHILDREN: &str = "<request xmlns='urn:xmpp:receipts'/><markable xmlns='urn:xmpp:chat-markers:0'/>\
    <store xmlns='urn:xmpp:hints'/>";

/// Bytes of a message without body text and recipient.
const OVERHEAD: usize = "<message to='' id='' type='chat'><body></body></message>".len()
    + sequence::BYTES
    + CHILDREN.len();

/// A body of so many bytes of plain words.
fn body(bytes: usize) -> String {
    "Wherefore art thou here, and how fares it with thee? "
        .chars()
        .cycle()
        .take(bytes)
        .collect()
}

/// When messages of an open loop are due.
struct Schedule {
    start: Instant,
    interval: Option<Duration>,
    done: u64,
    /// By how much sending was late: the generator's fault, not the server's.
    late: Histogram,
}

impl Schedule {
    fn new(drive: Drive) -> Schedule {
        let interval = match drive {
            Drive::Rate(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
            Drive::Window(_) => None,
        };
        Schedule {
            start: Instant::now(),
            interval,
            done: 0,
            late: Histogram::default(),
        }
    }

    fn due(&self) -> Option<Instant> {
        Some(self.start + self.interval?.mul_f64(self.done as f64))
    }

    fn advance(&mut self, now: Instant) {
        if let Some(due) = self.due() {
            self.late.record(now - due);
        }
        self.done += 1;
    }
}

/// Wakes the fleet when a message is due: a poll sleeps whole milliseconds, a thread can do better.
struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    fn start(fleet: &Fleet, rate: f64) -> Result<Pacer, String> {
        let waker = fleet.waker().map_err(|e| e.to_string())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let interval = Duration::from_secs_f64(1.0 / rate).max(PACE_MIN);
        let thread = thread::spawn(move || {
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                due = (due + interval).max(Instant::now());
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if waker.wake().is_err() {
                    // The fleet's poll still wakes ten times a second; lateness shows in the report.
                    return;
                }
            }
        });
        Ok(Pacer {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the pacer does nothing that panics");
        }
    }
}

/// Claims about messages, run by `load check`.
pub fn check() {
    assert_eq!(body(120).len(), 120);
}

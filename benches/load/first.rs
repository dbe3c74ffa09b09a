//! The first message of each pair, one pair after the other. With the receivers in domains of their own on
//! another server it finds no stream there: the servers resolve, connect, secure and prove themselves
//! first. The server must have been started just before.

use std::time::Instant;

use crate::Meter;
use crate::fleet::{Course, Fleet, Workload};
use crate::histogram::Histogram;
use crate::report::Report;
use crate::scanner;
use crate::sequence;
use crate::session::Failure;

struct First {
    /// The receiver of the message on its way, and its number.
    awaited: Option<(usize, u64)>,
    sent: Instant,
    latency: Histogram,
    last: Instant,
    trouble: Option<String>,
}

/// Sends so many messages, each when the one before has arrived.
///
/// # Errors
/// If a session fails, or a message does not arrive or is another one.
pub fn run(
    fleet: &mut Fleet,
    links: usize,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let ids = fleet.muster(links * 2)?;
    report.tls(fleet.tls_facts());
    let now = Instant::now();
    let mut work = First {
        awaited: None,
        sent: now,
        latency: Histogram::default(),
        last: now,
        trouble: None,
    };
    let (before, began) = (meter.read()?, Instant::now());
    for (number, pair) in (sequence::first()..).zip(ids.chunks_exact(2)) {
        work.send(fleet, (pair[0], pair[1]), number);
        fleet.drive(&mut work, |work, _| work.awaited.is_none())?;
    }
    let (used, took) = (meter.read()?.since(&before), began.elapsed());
    report.cpu("link", links as u64, took, used);
    report.percentiles("first message", &work.latency);
    Ok(())
}

impl First {
    fn send(&mut self, fleet: &mut Fleet, (sender, receiver): (usize, usize), number: u64) {
        let to = &fleet.sessions[receiver].jid;
        let head = format!("<message to='{to}' type='chat' id='").into_bytes();
        let parts = [
            &head[..],
            &sequence::written(number),
            b"'><body>Ay me!</body></message>",
        ];
        self.awaited = Some((receiver, number));
        self.sent = Instant::now();
        self.last = self.sent;
        // A session that is gone has made trouble, which ends the run after this turn.
        fleet.send(sender, &parts);
    }
}

impl Workload for First {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, _: &mut Fleet, session: usize, stanza: &[u8], now: Instant) {
        if !stanza.starts_with(b"<message") {
            return;
        }
        let number = scanner::attribute(stanza, b"id").and_then(sequence::read);
        let is_chat = scanner::attribute(stanza, b"type") == Some(b"chat");
        if is_chat && self.awaited == number.map(|number| (session, number)) {
            self.latency.record(now - self.sent);
            self.awaited = None;
            self.last = now;
        } else {
            let stanza = String::from_utf8_lossy(stanza);
            self.trouble
                .get_or_insert(format!("a session received {stanza}"));
        }
    }

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.trouble.get_or_insert(failure.to_string());
    }
}

impl Course for First {
    fn trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        "the first message of a pair".into()
    }
}

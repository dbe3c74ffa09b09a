//! Logins: connect, TLS, SASL, bind, presence, end of stream, over and over.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Workload};
use crate::histogram::Histogram;
use crate::report::Report;
use crate::session::Failure;
use crate::{Meter, Timing};

/// After the last login the server may still clean up; that is part of a login's cost.
const SETTLE: Duration = Duration::from_secs(1);
/// Without any login being completed for so long, the run fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The logins of a run. Each account logs in with one session at a time.
#[derive(Default)]
struct LoginLoop {
    free: Vec<usize>,
    open: usize,
    done: u64,
    time: Histogram,
    last: Option<Instant>,
    tls: Option<[String; 4]>,
    failure: Option<Failure>,
}

/// Logs in `concurrency` sessions at a time for the warm-up and the measured time.
///
/// # Errors
/// If a login fails.
pub fn run(
    fleet: &mut Fleet,
    concurrency: usize,
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let accounts = fleet.logins.accounts.len();
    if accounts < concurrency {
        return Err(format!(
            "{concurrency} logins at a time need as many accounts, not {accounts}"
        ));
    }
    let mut work = LoginLoop {
        free: (0..accounts).rev().collect(),
        ..LoginLoop::default()
    };
    // Each account's first login derives its keys here, and perhaps loads it there: not measured.
    work.go(fleet, concurrency, |work, _| work.done >= accounts as u64)?;
    let warm = Instant::now() + timing.warm_up;
    work.go(fleet, concurrency, |_, now| now >= warm)?;

    work.done = 0;
    work.time = Histogram::default();
    let (before, began) = (meter.read()?, Instant::now());
    work.go(fleet, concurrency, |_, now| now >= began + timing.measured)?;
    let took = began.elapsed();
    std::thread::sleep(SETTLE);
    let used = meter.read()?.since(&before);

    report.tls(work.tls.take());
    report.fact("accounts", accounts.to_string());
    report.figure(
        "logins a second",
        work.done as f64 / took.as_secs_f64(),
        "/s",
    );
    report.cpu("login", work.done, took, used);
    report.percentiles("time to online", &work.time);
    Ok(())
}

impl LoginLoop {
    /// Opens sessions until `enough`, then lets those that are open finish.
    fn go(
        &mut self,
        fleet: &mut Fleet,
        concurrency: usize,
        enough: impl Fn(&LoginLoop, Instant) -> bool,
    ) -> Result<(), String> {
        self.last = Some(Instant::now());
        loop {
            let finishing = enough(self, Instant::now());
            if finishing && self.open == 0 {
                return Ok(());
            }
            while !finishing && self.open < concurrency {
                // The account that was used longest ago is next.
                let account = self
                    .free
                    .pop()
                    .expect("there are no more sessions than accounts");
                fleet.open(account, "load").map_err(|e| e.to_string())?;
                self.open += 1;
            }
            fleet
                .turn(self, Some(Duration::from_millis(50)))
                .map_err(|e| e.to_string())?;
            if let Some(failure) = self.failure.take() {
                return Err(failure.to_string());
            }
            if self.last.is_some_and(|last| last.elapsed() > PATIENCE) {
                return Err("no login was completed for 30 s".into());
            }
        }
    }
}

impl Workload for LoginLoop {
    fn arrived(&mut self, fleet: &mut Fleet, id: usize) {
        let session = &fleet.sessions[id];
        self.time.record(session.opened.elapsed());
        if self.tls.is_none() {
            self.tls = session.connection.tls_facts();
        }
        // Presence was queued before, so the server has handled it when it ends the stream.
        fleet.close(id);
    }

    fn stanza(&mut self, _: &mut Fleet, _: usize, _: &[u8], _: Instant) {}

    fn closed(&mut self, _: &mut Fleet, account: usize) {
        self.free.insert(0, account);
        self.open -= 1;
        self.done += 1;
        self.last = Some(Instant::now());
    }

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

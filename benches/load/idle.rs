//! Idle sessions: what each adds to the server's memory.

use std::time::{Duration, Instant};

use crate::Meter;
use crate::fleet::{Fleet, Workload};
use crate::report::Report;
use crate::session::Failure;

/// Sessions that come and go first, so that code and tables a server loads once are not counted.
const FIRST: usize = 20;

/// Logs in `count` sessions and compares the server's memory before and after, each after `settle`.
///
/// # Errors
/// If a session fails, or the server's process is not known.
pub fn run(
    fleet: &mut Fleet,
    count: usize,
    settle: Duration,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    if meter.server.is_none() {
        return Err("idle measures the server's memory: --pid must name its process".into());
    }
    let mut work = Idle::default();
    let first = fleet.muster(FIRST.min(count))?;
    work.rest(fleet, Duration::from_millis(500))?;
    first.into_iter().for_each(|id| fleet.close(id));
    work.rest(fleet, settle)?;
    let base = meter.read()?.server.unwrap_or_default();

    let began = Instant::now();
    let arriving = meter.read()?;
    fleet.muster(count)?;
    report.tls(fleet.tls_facts());
    report.figure(
        "logged in within",
        began.elapsed().as_secs_f64() * 1e3,
        "ms",
    );
    report.cpu(
        "arrival",
        count as u64,
        began.elapsed(),
        meter.read()?.since(&arriving),
    );
    work.rest(fleet, settle)?;
    let full = meter.read()?.server.unwrap_or_default();

    let per = |full: u64, base: u64| (full as f64 - base as f64) / count as f64 / 1024.0;
    report.figure(
        "server memory per session",
        per(full.pss, base.pss),
        "KiB PSS",
    );
    report.figure("the same in RSS", per(full.rss, base.rss), "KiB");
    report.figure(
        "server memory before",
        base.pss as f64 / 1048576.0,
        "MiB PSS",
    );
    report.figure(
        "server memory after",
        full.pss as f64 / 1048576.0,
        "MiB PSS",
    );
    let before = meter.read()?;
    work.rest(fleet, settle)?;
    let used = meter.read()?.since(&before).server.unwrap_or_default();
    let share = used.cpu().as_secs_f64() / settle.as_secs_f64().max(0.001);
    report.figure("server CPU while idle", share * 100.0, "% of a core");
    report.fact("processes", full.processes.to_string());
    Ok(())
}

#[derive(Default)]
struct Idle {
    failure: Option<Failure>,
}

impl Idle {
    /// Lets time pass, reading what comes.
    fn rest(&mut self, fleet: &mut Fleet, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            fleet.turn(self, Some(left)).map_err(|e| e.to_string())?;
            if let Some(failure) = self.failure.take() {
                return Err(failure.to_string());
            }
        }
    }
}

impl Workload for Idle {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, _: &mut Fleet, _: usize, _: &[u8], _: Instant) {}

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

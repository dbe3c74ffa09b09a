//! Idle sessions: what each adds to the server's memory, without contacts or with a roster of them.
//!
//! With contacts, each session asks for its roster, which is checked, and goes online in its
//! circle, so that the server holds what it holds for clients in daily use.

use std::time::{Duration, Instant};

use crate::Meter;
use crate::fleet::Fleet;
use crate::people::{Circles, People};
use crate::report::Report;
use crate::{answers, gathering};

/// Sessions that come and go first, so that code and tables a server loads once are not counted.
const FIRST: usize = 20;

/// Logs in `count` sessions, with so many contacts each, and compares the server's memory before
/// and after, each after `settle`.
///
/// # Errors
/// If a session fails, the server's process is not known, or the rosters are not set up.
pub fn run(
    fleet: &mut Fleet,
    (count, contacts): (usize, usize),
    settle: Duration,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    if meter.server.is_none() {
        return Err("idle measures the server's memory: --pid must name its process".into());
    }
    let first = fleet.muster(FIRST.min(count))?;
    fleet.rest(Duration::from_millis(500))?;
    first.into_iter().for_each(|id| fleet.close(id));
    fleet.rest(settle)?;
    let base = meter.read()?.server.unwrap_or_default();

    let began = Instant::now();
    let arriving = meter.read()?;
    let ids = fleet.muster(count)?;
    if contacts > 0 {
        let circles = Circles::new(contacts, count)?;
        let people = People::new(fleet, &ids);
        people.check_rosters(fleet, circles, &ids)?;
        gathering::gather(fleet, &people, circles, &answers::initial_presence())?;
    }
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
    fleet.rest(settle)?;
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
    fleet.rest(settle)?;
    let used = meter.read()?.since(&before).server.unwrap_or_default();
    let share = used.cpu().as_secs_f64() / settle.as_secs_f64().max(0.001);
    report.figure("server CPU while idle", share * 100.0, "% of a core");
    report.fact("processes", full.processes.to_string());
    Ok(())
}

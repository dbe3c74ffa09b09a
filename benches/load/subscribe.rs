//! Mutual subscriptions: the row that measures them, and the set-up of the circles of contacts that
//! other rows need. Both go over the wire, as clients do it, the same way with every server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::fleet::Fleet;
use crate::histogram::Histogram;
use crate::people::{Circles, People};
use crate::report::Report;
use crate::subscription::{self, Deed};
use crate::{Meter, Timing, Used, roster};

/// What a server still does after the last stanza of a round is part of the round's cost.
const SETTLE: Duration = Duration::from_millis(200);
/// Pairs of each circle under way at a time while circles are set up.
const SET_UP_WINDOW: usize = 4;

/// Lets `pairs` of fresh accounts subscribe to each other, part, and subscribe again, for the
/// warm-up and the measured time, which counts the subscribing only.
///
/// # Errors
/// If a session fails, or a step of a subscription does not come about.
pub fn run(
    fleet: &mut Fleet,
    (pairs, concurrency): (usize, usize),
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let ids = fleet.muster(pairs * 2)?;
    report.tls(fleet.tls_facts());
    let people = People::new(fleet, &ids);
    let pairs: Vec<_> = (0..pairs).map(|pair| (2 * pair, 2 * pair + 1)).collect();
    let known = contacts_of(fleet, &people, &ids)?;
    if known.keys().any(|(one, other)| one / 2 != other / 2) {
        return Err("the accounts have contacts; this run needs others, without".into());
    }
    // Yields how long the pairs took; what the server still does after that is waited for.
    let round = |fleet: &mut Fleet, deed, time: &mut Histogram| {
        let began = Instant::now();
        subscription::run(fleet, &people, &pairs, (deed, concurrency), time)?;
        let took = began.elapsed();
        fleet.rest(SETTLE).map(|()| took)
    };
    round(fleet, Deed::Part, &mut Histogram::default())?;
    let warm = Instant::now() + timing.warm_up;
    while Instant::now() < warm {
        round(fleet, Deed::Subscribe, &mut Histogram::default())?;
        round(fleet, Deed::Part, &mut Histogram::default())?;
    }

    let (mut rounds, mut took, mut time) = (0, Duration::ZERO, Histogram::default());
    let mut used: Option<Used> = None;
    while took < timing.measured {
        let before = meter.read()?;
        took += round(fleet, Deed::Subscribe, &mut time)?;
        let more = meter.read()?.since(&before);
        used = Some(used.map_or(more, |used| used.plus(&more)));
        rounds += 1;
        round(fleet, Deed::Part, &mut Histogram::default())?;
    }
    let done = rounds * pairs.len() as u64;
    report.fact("checked", format!("{done} pairs in {rounds} rounds"));
    report.figure("pairs a second", done as f64 / took.as_secs_f64(), "/s");
    let used = used.expect("there is one round at least");
    report.cpu("pair", done, took, used);
    report.percentiles("time of a pair", &time);
    Ok(())
}

/// Makes all accounts of each circle mutual contacts, as far as they are not yet. What a run that
/// broke off has left is removed first.
///
/// # Errors
/// If a session fails, a step does not come about, or an account has others than its circle.
pub fn set_up(
    fleet: &mut Fleet,
    circles: Circles,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    let ids = fleet.muster(circles.count() * circles.members())?;
    report.tls(fleet.tls_facts());
    let people = People::new(fleet, &ids);
    let known = contacts_of(fleet, &people, &ids)?;
    if let Some((one, other)) = known
        .keys()
        .find(|(one, other)| circles.of(*one) != circles.of(*other))
    {
        let (one, other) = (people.jid(*one), people.jid(*other));
        return Err(format!("{one} has contact {other}, outside of its circle"));
    }
    let is_mutual = |&(one, other): &(usize, usize)| {
        known.get(&(one, other)) == Some(&true) && known.get(&(other, one)) == Some(&true)
    };
    let is_known = |&(one, other): &(usize, usize)| {
        known.contains_key(&(one, other)) || known.contains_key(&(other, one))
    };
    let missing: Vec<_> = circles.pairs().filter(|pair| !is_mutual(pair)).collect();
    let broken: Vec<_> = missing.iter().copied().filter(is_known).collect();

    let concurrency = SET_UP_WINDOW * circles.count();
    let mut time = Histogram::default();
    let part = (Deed::Part, concurrency);
    subscription::run(fleet, &people, &broken, part, &mut time)?;
    time = Histogram::default();
    let (before, began) = (meter.read()?, Instant::now());
    let subscribe = (Deed::Subscribe, concurrency);
    subscription::run(fleet, &people, &missing, subscribe, &mut time)?;
    let took = began.elapsed();
    report.fact(
        "set up",
        format!("{} pairs, {} of them mended", missing.len(), broken.len()),
    );
    report.figure("set up in", took.as_secs_f64(), "s");
    if !missing.is_empty() {
        report.cpu(
            "pair",
            missing.len() as u64,
            took,
            meter.read()?.since(&before),
        );
        report.percentiles("time of a pair", &time);
    }
    Ok(())
}

/// Who has whom in the roster, and whether that side of it says `both`; the rosters are let go.
fn contacts_of(
    fleet: &mut Fleet,
    people: &People,
    ids: &[usize],
) -> Result<HashMap<(usize, usize), bool>, String> {
    let mut contacts = HashMap::new();
    for &id in ids {
        let session = &mut fleet.sessions[id];
        let result = std::mem::take(&mut session.roster);
        for (jid, state) in roster::items(&result) {
            let contact = people.account(jid).ok_or_else(|| {
                let jid = String::from_utf8_lossy(jid);
                format!("{} has contact {jid}", people.jid(session.account))
            })?;
            contacts.insert((session.account, contact), state == b"both");
        }
    }
    Ok(contacts)
}

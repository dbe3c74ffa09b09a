//! What each attack does to the honest sessions' round trips: their p99 under it against its quiet
//! value, the median of five. The aim of issue 5 is at most three times.
//!
//! Real attackers are other machines. These share the processors with the server and the honest
//! clients, so their threads have the lowest scheduling priority: they take the time that is left.
//! That could spare the server an attack. So each attack runs once at the normal priority before, and
//! both rates are printed: an attack that comes to less than four fifths of that one is told to be
//! held back, and its ratio flatters the server. The server's share of the processors tells how near
//! the attack brings it to its limits; the rest is the attackers' and the honest clients'.
//! `STANZAD=/path/to/stanzad` measures another build of the server by the same bench.

use std::thread::{available_parallelism, scope, sleep};
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};

use crate::common::server::Server;
use crate::honest::Crowd;
use crate::memory::ticks;
use crate::wire::Origin;
use crate::{Attack, Ground, attack_time, attacks, settled, start};

/// The lowest priority of a thread (setpriority(2)).
const LOWEST: i32 = 19;
/// An attack that comes to less than this part of its rate at the normal priority is held back.
const HELD_BACK: f64 = 0.8;
/// Measurements of an attack, of which the median counts.
const RUNS: usize = 5;

/// USER_HZ of the processors that the server is built for (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// One measurement.
struct Run {
    quiet: Duration,
    under: Duration,
    /// Blows a second.
    rate: f64,
    /// Of all processors.
    server_share: f64,
}

impl Run {
    fn ratio(&self) -> f64 {
        self.under.as_secs_f64() / self.quiet.as_secs_f64()
    }
}

fn p99(mut trips: Vec<Duration>) -> Duration {
    trips.sort_unstable();
    trips[trips.len() * 99 / 100]
}

/// Runs an attack with the priority on a thread of its own, from which those that it starts have it.
fn strike(attack: &Attack, ground: &Ground, origin: Origin, priority: i32) -> u64 {
    let until = Instant::now() + attack_time();
    let run = attack.run;
    scope(|scope| {
        let attacker = scope.spawn(move || {
            // Linux changes the calling thread alone.
            setpriority_process(None, priority).expect("a thread may lower its priority");
            run(ground, origin, until)
        });
        attacker.join().unwrap()
    })
}

fn measure(
    (server, ground, crowd): (&Server, &Ground, &Crowd),
    attack: &Attack,
    origin: Origin,
    priority: i32,
) -> Run {
    crowd.trips();
    sleep(attack_time());
    let quiet = p99(crowd.trips());
    let (begin, before) = (Instant::now(), ticks(server));
    let blows = strike(attack, ground, origin, priority);
    let (used, took) = (ticks(server) - before, begin.elapsed().as_secs_f64());
    let under = p99(crowd.trips());
    settled(server);
    let processors = available_parallelism().unwrap().get() as f64;
    Run {
        quiet,
        under,
        rate: blows as f64 / took,
        server_share: used as f64 / TICKS_PER_SECOND / took / processors,
    }
}

/// Prints what each attack does to the round trips.
#[test]
#[ignore = "a bench: run by hand in release mode"]
fn round_trips_under_attack() {
    let (server, ground) = start();
    let crowd = Crowd::gather(&server);
    println!(
        "attack | quiet p99 | p99 under attack | ratio (median of {RUNS}) | blows a second, at normal \
         priority | server's share of the processors"
    );
    let wanted = std::env::var("STANZAD_ATTACK").unwrap_or_default();
    let mut attacks = attacks(&ground);
    attacks.retain(|attack| attack.name.contains(&wanted));
    assert!(!attacks.is_empty(), "no attack has {wanted} in its name");
    let parties = (&server, &ground, &crowd);
    for attack in &attacks {
        for origin in [Origin::One, Origin::Spread] {
            let own = getpriority_process(None).unwrap();
            let normal = measure(parties, attack, origin, own).rate;
            let once = |_| measure(parties, attack, origin, LOWEST);
            let mut runs: Vec<Run> = (0..RUNS).map(once).collect();
            runs.sort_by(|a, b| a.ratio().total_cmp(&b.ratio()));
            let run = &runs[RUNS / 2];
            let note = match run.rate < HELD_BACK * normal {
                true => ", HELD BACK by its priority",
                false => "",
            };
            println!(
                "{}, {origin:?} | {:.1?} | {:.1?} | {:.1} | {:.0}, {normal:.0}{note} | {:.0} %",
                attack.name,
                run.quiet,
                run.under,
                run.ratio(),
                run.rate,
                100.0 * run.server_share
            );
        }
    }
    crowd.leave();
}

//! Hostile clients beside honest ones (issue 5): the server's memory stays within what its limits add
//! up to, and two hundred honest sessions lose nothing.
//!
//! Each attack runs from one address, which an honest session shares, and from 200. By hand:
//! `STANZAD_ATTACK_SECONDS=60 cargo test --test hostile` attacks for longer, and
//! `cargo test --release --test hostile -- --ignored --nocapture` prints what each attack does to the
//! honest sessions' round trips, with `STANZAD_ATTACK=ClientHello` only of those so named (`bench`).

#[path = "hostile/bench.rs"]
mod bench;
mod common;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/floods.rs"]
mod floods;
#[path = "hostile/honest.rs"]
mod honest;
#[path = "hostile/logins.rs"]
mod logins;
#[path = "hostile/markup.rs"]
mod markup;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/wire.rs"]
mod wire;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use common::client::Client;
use common::memory::{forget_peak, peak_bytes};
use common::server::{PASSWORD, PATIENCE, Server, add_offline, site};
use honest::Crowd;
use memory::Held;
use wire::{Origin, Tls};

/// How long each attack takes, unless the environment says otherwise.
const ATTACK_SECONDS: u64 = 3;
/// Silent connections where the limits on open files admit them.
const SILENT: usize = 10_000;
/// Descriptors that this process keeps for its files and for honest sessions.
const OWN_FILES: usize = 64 + honest::SESSIONS;
/// Accounts of attackers, which know their passwords. Each may have ten resources.
const ATTACKERS: usize = 4;

/// The limits of failed logins are the defaults here: the attacks are to meet them.
const CONF: &str = "[limits]\n\
    login_failures_per_address_max = 20\n\
    login_failures_per_account_max = 10\n\
    [log]\nlevel = \"info\"\n";

/// What attackers know.
pub struct Ground {
    c2s: SocketAddr,
    c2s_tls: SocketAddr,
    /// Full JIDs of the honest sessions.
    honest: Vec<String>,
    /// Silent connections to open.
    connections: usize,
    /// Connections that the server admits.
    places: usize,
}

impl Ground {
    /// The bare JID of an attacker.
    fn account(number: usize) -> String {
        format!("attacker{}@example.org", number % ATTACKERS)
    }

    fn attacker(&self, origin: Origin, number: usize) -> io::Result<Tls> {
        self.attacker_named(origin, number, &format!("a{}", number / ATTACKERS % 5))
    }

    fn attacker_named(&self, origin: Origin, number: usize, resource: &str) -> io::Result<Tls> {
        let user = format!("attacker{}", number % ATTACKERS);
        let from = origin.address(number);
        wire::login(from, self.c2s_tls, &user, PASSWORD, resource)
    }
}

struct Attack {
    name: &'static str,
    held: Held,
    run: fn(&Ground, Origin, Instant) -> u64,
}

/// All attacks. The wrong logins come last: addresses are shut out by them. Whoever connects again
/// and again may hold all places: the server hears of an end after what came before it.
fn attacks(ground: &Ground) -> Vec<Attack> {
    let (silent, all) = (ground.connections, ground.places);
    let attack = |name, connections, sessions, run| Attack {
        name,
        held: Held {
            connections,
            sessions,
        },
        run,
    };
    let flooders = floods::FLOODERS;
    vec![
        attack("silent connections", silent, 0, connections::silent),
        attack("slow headers", 512, 0, connections::slow),
        attack("slow stanzas", 0, flooders, floods::slow),
        attack("after ClientHello", all, 0, connections::after_hello),
        attack("within ClientHello", all, 0, connections::within_hello),
        attack("markup before login", all, 0, markup::before_login),
        attack("markup in sessions", all, 1, markup::after_login),
        attack("large stanzas", 0, flooders, floods::large),
        attack("presence", 0, flooders, floods::presence),
        attack("roster sets", 0, flooders, floods::roster),
        attack("who never reads", 0, flooders, floods::unread),
        attack("wrong PLAIN", all, 0, logins::by_plain),
        attack("wrong SCRAM", all, 0, logins::by_scram),
    ]
}

fn attack_time() -> Duration {
    let seconds = std::env::var("STANZAD_ATTACK_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse().expect("STANZAD_ATTACK_SECONDS is a number"));
    Duration::from_secs(seconds.unwrap_or(ATTACK_SECONDS))
}

fn start() -> (Server, Ground) {
    let site = site(CONF);
    let mut accounts = honest::accounts();
    accounts.extend((0..ATTACKERS).map(Ground::account));
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    add_offline(&site, &accounts);
    let server = Server::start_in(site);
    let admitted = server.status().connections_max;
    let admitted = admitted.expect("there is a limit on open files");
    let own = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let free = admitted.min(own) as usize - OWN_FILES;
    let ground = Ground {
        c2s: server.c2s,
        c2s_tls: server.c2s_tls,
        honest: honest::jids(),
        connections: SILENT.min(free),
        places: usize::try_from(admitted).unwrap(),
    };
    (server, ground)
}

/// Waits until only the honest connections are left.
fn settled(server: &Server) {
    let deadline = Instant::now() + 3 * PATIENCE;
    while server.status().connections > honest::SESSIONS as u64 {
        assert!(Instant::now() < deadline, "connections are not given back");
    }
}

/// Ticks of CPU that the server takes for a fixed amount of chat.
fn cost_of_chat(server: &Server, pair: &mut (Client, Client)) -> u64 {
    let before = memory::ticks(server);
    for _ in 0..1_000 {
        for (from, to) in [(0, 1), (1, 0)] {
            let (one, other) = &mut *pair;
            let both = [one, other];
            let jid = both[to].jid.clone();
            both[from].send(format!("<message to='{jid}'><body>hi</body></message>"));
            both[to].stanza("message");
            both[to].forget();
        }
    }
    memory::ticks(server) - before
}

/// Issue 5, malice.
#[test]
fn honest_sessions_lose_nothing_and_memory_stays_within_the_limits() {
    let (server, ground) = start();
    let mut pair = (
        Client::login(&server, "juliet@example.org/balcony"),
        Client::login(&server, "romeo@example.org/orchard"),
    );
    let quiet_cost = cost_of_chat(&server, &mut pair);
    drop(pair);
    let crowd = Crowd::gather(&server);
    while crowd.trips().is_empty() {
        server.status();
    }
    let (quiet, time) = (peak_bytes(&server), attack_time());
    println!(
        "{} silent connections, {quiet} bytes before",
        ground.connections
    );
    let mut allowed = 0;
    for attack in attacks(&ground) {
        for origin in [Origin::One, Origin::Spread] {
            forget_peak(&server);
            let blows = (attack.run)(&ground, origin, Instant::now() + time);
            let peak = peak_bytes(&server);
            // What an attack has made the heap grow by may be there still during the next.
            allowed = allowed.max(memory::bound(attack.held));
            let slowest = crowd.trips().into_iter().max().unwrap_or_default();
            println!(
                "{:20} {origin:?}: {blows} blows, peak {peak}, slowest {slowest:?}",
                attack.name
            );
            assert!(blows > 0, "{}: nothing was done", attack.name);
            let bound = quiet + allowed;
            assert!(peak <= bound, "{}: {peak} of {bound} bytes", attack.name);
            settled(&server);
        }
    }
    assert_eq!(server.status().sessions, honest::SESSIONS as u64);
    assert!(crowd.leave() > 0);
    let mut pair = (
        Client::login(&server, "juliet@example.org/balcony"),
        Client::login(&server, "romeo@example.org/orchard"),
    );
    let cost = cost_of_chat(&server, &mut pair);
    // A thread that spins would take a core for as long as the chat lasts.
    assert!(
        cost <= 2 * quiet_cost + 20,
        "{cost} ticks, {quiet_cost} before"
    );
}

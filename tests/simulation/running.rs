//! A run: the shards in their world, from a seed, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use stanzad::clock::{Mono, Now, Wall};
use stanzad::config::{DomainSettings, Settings};
use stanzad::features::FEATURES;
use stanzad::jid::Domain;
use stanzad::limits::IDLE_ACCOUNT_AGE;
use stanzad::net::throttle::{Throttle, ThrottleLimits};
use stanzad::router::pipeline::Pipeline;
use stanzad::router::placement::Placement;
use stanzad::sasl::Hash;
use stanzad::shard::turn::{Due, Ready, Shard};
use stanzad::shard::{Generation, Post};
use stanzad::storage::WriterCore;

use crate::accounts::Accounts;
use crate::chance::Chance;
use crate::crossings::Crossings;
use crate::faults::{Fault, Planted};
use crate::holdings::Holdings;
use crate::ledger::Ledger;
use crate::links::{Links, MadeUpCertificates};
use crate::number;
use crate::presence::Presences;
use crate::rosters::Rosters;
use crate::scram::ITERATIONS;
use crate::servers::{DOMAINS, Server};
use crate::sockets::View;
use crate::subscriptions::{Grants, Signals};
use crate::wishes::Wishes;
use crate::world::{Character, Event, Phase, Scheduled, Sender, World};
/// Microseconds since 1970 at the start of every run.
const EPOCH_MICROS: u64 = 1_700_000_000_000_000;
/// Lines of the story that a failure prints, if nobody asks for more.
const STORY_LINES: usize = 120;
/// Turns within a millisecond; so many without an end use up a core for nothing.
const SPINS_MAX: u64 = 2_000;

/// The world and the shards in it.
pub struct Simulation {
    pub world: World,
    pub shards: Vec<Shard>,
    /// Of each server.
    settings: Vec<Arc<Settings>>,
}

fn settings(character: &Character, domains: &[&str]) -> Settings {
    let mut settings = Settings {
        generation: 1,
        ..Settings::default()
    };
    settings.limits.resources_per_account_max = 4;
    if character.has_tight_limits {
        settings.limits.roster_items_max = 4;
        settings.limits.pending_requests_max = 2;
    }
    // Above what accounts are made with, a PLAIN login upgrades them, which takes its time.
    let more = match character.has_upgrades {
        true => 4096,
        false => ITERATIONS,
    };
    settings.s2s.idle_seconds = character.idle_seconds;
    for (name, iterations) in DOMAINS.into_iter().zip([ITERATIONS, more]) {
        if !domains.contains(&name) {
            continue;
        }
        let name = Domain::parse(name).unwrap();
        let mut domain = DomainSettings::new(name.clone());
        domain.auth.hashes = vec![Hash::Sha256, Hash::Sha1];
        domain.auth.iterations = iterations;
        domain.c2s.idle_seconds = if character.has_pings { 20 } else { 300 };
        domain.c2s.ping_timeout_seconds = 10;
        domain.s2s.secure_auth = character.has_certificates;
        domain.s2s.idle_seconds = character.idle_seconds;
        settings.domains.insert(name, Arc::new(domain));
    }
    settings
}

fn throttle() -> Arc<Throttle> {
    Arc::new(Throttle::new(ThrottleLimits {
        connections_per_address_max: 1000,
        login_failures_per_address_max: 20,
        login_failures_per_account_max: 1000,
        ..ThrottleLimits::default()
    }))
}

impl Simulation {
    pub fn new(seed: u64, fault: Option<Fault>) -> Simulation {
        let mut chance = Chance::new(seed);
        let needs = fault.map(Fault::needs).unwrap_or_default();
        let character = Character {
            shards: chance.within(2..=4) as u32,
            slots: chance.within(8..=16) as usize,
            has_trouble: chance.one_in(4),
            has_crash: chance.one_in(3) | needs.crash,
            has_flood: chance.one_in(4),
            has_bursts: chance.one_in(3),
            has_false_news: chance.one_in(3),
            has_pings: chance.one_in(2),
            has_admin: !chance.one_in(4),
            has_crowd: chance.one_in(2),
            has_upgrades: chance.one_in(8),
            has_tight_limits: chance.one_in(5),
            talks_in: chance.within(2..=6),
            busy_millis: chance.within(10_000..=24_000),
            is_federated: chance.one_in(3) | needs.two_servers,
            has_breaks: chance.one_in(2) & !needs.no_breaks | needs.breaks,
            has_certificates: chance.one_in(2),
            idle_seconds: chance.pick(&[2, 5, 300]),
        };
        let served: &[&[&str]] = match character.is_federated {
            true => &[&DOMAINS[..1], &DOMAINS[1..]],
            false => &[&DOMAINS],
        };
        let mut servers = Vec::new();
        for _ in served {
            let mut secret = [0; 32];
            chance.fill(&mut secret);
            servers.push(Server {
                base: servers.len() as u32 * character.shards,
                shards: character.shards,
                placement: Placement::with_key(character.shards, chance.next()),
                throttle: throttle(),
                store: WriterCore::memory(&secret).unwrap(),
                batches: Vec::new(),
                is_commit_due: false,
                is_gate_shut: false,
                is_away_until: 0,
                asked: Vec::new(),
            });
        }
        let shards = servers.len() * character.shards as usize;
        let mut world = World {
            now: 0,
            turns: 0,
            spin_turn: 0,
            phase: Phase::Busy,
            clients: Vec::new(),
            live: Vec::new(),
            accounts: Accounts::new(),
            ledger: Ledger::default(),
            rosters: Rosters::default(),
            wishes: Wishes::default(),
            signals: Signals::default(),
            grants: Grants::default(),
            presences: Presences::default(),
            servers,
            ends: Vec::new(),
            live_ends: Vec::new(),
            links: Links::new(chance.split()),
            crossings: Crossings::default(),
            holdings: Holdings::default(),
            impostors: Vec::new(),
            planted: Planted::new(fault),
            undone: Arc::default(),
            violations: Vec::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            trouble_at: None,
            crashes: 0,
            crashed_at: None,
            counts: BTreeMap::new(),
            story: VecDeque::new(),
            story_lines: number("STANZAD_STORY").map_or(STORY_LINES, |lines| lines as usize),
            events: BinaryHeap::new(),
            scheduled: 0,
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            ready: vec![Vec::new(); shards],
            turn_at: vec![None; shards],
            last_at: BTreeMap::new(),
            registered: HashMap::new(),
            by_address: HashMap::new(),
            chance,
            character,
        };
        world.create_accounts();
        world.create_contacts();
        world.create_offline_messages();
        let settings = |domains: &&[&str]| Arc::new(settings(&world.character, domains));
        let settings = served.iter().map(settings).collect();
        let mut simulation = Simulation {
            world,
            shards: Vec::new(),
            settings,
        };
        for server in 0..served.len() {
            let shards = simulation.start_shards(server);
            simulation.shards.extend(shards);
        }
        let world = &mut simulation.world;
        for slot in 0..world.character.slots {
            let at = world.chance.within(0..=2_000);
            world.at(at, Event::Connect(slot));
        }
        if world.character.has_admin {
            world.after(1_000, Event::Admin);
        }
        for server in 0..served.len() {
            world.after(500, Event::Gate(server));
        }
        if world.character.has_crash {
            let at = world.chance.within(4_000..=world.character.busy_millis);
            let server = world.chance.index(served.len());
            world.at(at, Event::Crash(server));
            if world.is_federated() && (needs.crash || world.chance.one_in(2)) {
                // Something waits for the other server then.
                world.at(at - 1_500, Event::Part(4_000));
            }
        }
        world.begin_links();
        simulation
    }

    fn start_shards(&mut self, index: usize) -> Vec<Shard> {
        let world = &self.world;
        let server = &world.servers[index];
        let secret = stanzad::storage::accounts::secret(server.store.db()).unwrap();
        let generation = Arc::new(Generation {
            settings: Arc::clone(&self.settings[index]),
            certificates: Arc::new(MadeUpCertificates {
                lenience: world.planted.lenience(),
            }),
            dialler: world.links.dialler(index, world.character.has_certificates),
        });
        let pipeline = Arc::new(Pipeline::new(FEATURES));
        (0..server.shards)
            .map(|shard| {
                Shard::new(
                    shard,
                    server.placement.clone(),
                    Arc::clone(&generation),
                    Arc::clone(&pipeline),
                    Arc::clone(&server.throttle),
                    secret,
                )
            })
            .collect()
    }

    /// Lets everything happen that is due until then, or until something is wrong.
    pub fn run_until(&mut self, end: u64) {
        while self.world.violations.is_empty() {
            let Some(Reverse(Scheduled(at, ..))) = self.world.events.peek() else {
                break;
            };
            if *at > end {
                break;
            }
            let Some(Reverse(Scheduled(at, _, event))) = self.world.events.pop() else {
                break;
            };
            if at > self.world.now {
                self.world.now = at;
                self.world.spin_turn = self.world.turns;
            }
            self.happen(event);
        }
        self.world.now = self.world.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Turn(shard) => {
                if world.turn_at[shard as usize] == Some(world.now) {
                    world.turn_at[shard as usize] = None;
                    self.turn(shard);
                }
            }
            Event::Mail(shard, posts) => {
                let mail = &mut world.mail[shard as usize];
                mail.extend(posts);
                crate::invariants::check_mail(mail, &mut world.violations);
                let pause = world.chance.within(0..=2);
                world.turn_within(shard, pause);
            }
            Event::Arrive(client, bytes) => world.arrive(client, &bytes),
            Event::Hang(client, is_reset) => world.hang(client, is_reset),
            Event::Drain(client) => world.drain(client),
            Event::Act(client) => world.act(client),
            Event::Pour(client) => world.pour(client),
            Event::Mutter(client) => world.ask_and_wait(client),
            Event::Wake(client) => world.wake(client),
            Event::Expect(client, number) => world.expect_answer(client, number),
            Event::Connect(slot) => world.connect(slot),
            Event::Restate(client) => world.restate(client),
            Event::Repair(slot, account) => world.connect_to_repair(slot, account),
            Event::Admin => world.administer(),
            Event::Read(shard, id, read) => world.run_read(shard, id, read),
            Event::Work(shard, conn, job) => {
                let value = job();
                let worker = world.chance.within(0..=1);
                world.deliver(
                    Sender::Worker(worker),
                    shard,
                    vec![Post::Worked(conn, value)],
                );
            }
            Event::Commit(server) => world.commit(server),
            Event::Gate(server) => {
                let was_shut = world.servers[server].is_gate_shut;
                let is_shut = match was_shut {
                    true => !world.reopens_gate(),
                    false => world.phase == Phase::Busy,
                };
                world.servers[server].is_gate_shut = is_shut;
                let pause = match is_shut {
                    true => world.chance.within(1..=60),
                    false => world.chance.within(50..=3_000),
                };
                world.after(pause, Event::Gate(server));
            }
            Event::Crash(server) => self.crash(server),
            Event::Pump(end) => world.pump(end),
            Event::Carry(end, bytes) => world.carry(end, &bytes),
            Event::PeerHang(end, is_reset) => {
                world.acknowledges_all(end, &mut self.shards);
                world.peer_hangs(end, is_reset);
            }
            Event::Reach(end) => world.reach(end),
            Event::Disturb => world.disturb(),
            Event::Part(pause) => world.part_servers(pause),
            Event::Impostor(impostor) => world.impostor_acts(impostor),
        }
    }

    fn turn(&mut self, index: u32) {
        let world = &mut self.world;
        let shard = index as usize;
        world.turns += 1;
        let waiting = world.mail[shard].len();
        // Sometimes a turn takes only some of what has come.
        let taken = match world.chance.one_in(8) {
            true => world.chance.within(0..=waiting as u64) as usize,
            false => waiting,
        };
        let mut posts: Vec<Post> = world.mail[shard].drain(..taken).collect();
        world.arrives(&mut posts);
        let mut ready = std::mem::take(&mut world.ready[shard]);
        if world.character.has_false_news && world.chance.one_in(16) {
            // A poll may tell of what is not there (documentation of mio's `Poll`).
            ready.push(Ready {
                index: world.chance.index(16),
                is_closed: world.chance.one_in(4),
            });
        }
        let now = Now {
            mono: Mono::from_millis(world.now),
            wall: Wall::from_micros(EPOCH_MICROS + world.now * 1000),
        };
        if world.character.has_crowd {
            let accounts = &mut self.shards[shard].router.accounts;
            accounts.forget_idle(now.mono + IDLE_ACCOUNT_AGE);
        }
        let server = world.server_of_shard(index);
        let mut view = View {
            world,
            shard: index,
            server,
        };
        let due = self.shards[shard].turn(now, &mut posts, &ready, &mut view);
        let world = &mut self.world;
        if taken < waiting {
            world.turn_within(index, 0);
        }
        if world.turns - world.spin_turn > SPINS_MAX {
            world.violated(format!("shard {index} spins: {due:?}"));
        }
        match due {
            Due::Now => world.turn_within(index, 0),
            Due::At(at) => {
                let pause = at.millis().saturating_sub(world.now) + 1;
                world.turn_within(index, pause);
            }
            Due::Never => {}
        }
        world.took_replies();
        world.look_at_wires();
        world.look_at_ends();
        world.note_log();
        crate::invariants::check(&self.shards[shard], index, &mut self.world);
    }

    /// Nothing is on its way any more: everything must have come to its end.
    pub fn check_quiet(&mut self) {
        if self.world.violations.is_empty() {
            crate::invariants::check_quiet(&self.shards, &mut self.world);
            self.world.reckon();
            self.world.check_agreement();
            self.world.check_rosters_at_rest();
            self.world.check_wishes();
            self.world.check_presence_at_rest(&self.shards);
            self.world.check_links_at_rest();
            self.world.check_crossings();
        }
    }

    /// The operator stops the server.
    pub fn stop(&mut self) {
        for shard in 0..self.shards.len() as u32 {
            self.world.deliver(Sender::Control, shard, vec![Post::Stop]);
        }
    }

    /// The process of a server is killed: all that is not committed is gone, and so is every connection.
    fn crash(&mut self, index: usize) {
        let server = &self.world.servers[index];
        let own = server.base..server.base + server.shards;
        let range = own.start as usize..own.end as usize;
        let after: Vec<Shard> = self.shards.drain(range.end..).collect();
        abandon(self.shards.split_off(range.start));
        let world = &mut self.world;
        world.stops_pretending();
        world.count("crashes");
        world.crashes += 1;
        world.crashed_at = Some(world.now);
        let events = std::mem::take(&mut world.events).into_vec();
        for Reverse(scheduled) in events {
            let is_its = match &scheduled.2 {
                Event::Mail(shard, _)
                | Event::Turn(shard)
                | Event::Read(shard, ..)
                | Event::Work(shard, ..) => own.contains(shard),
                Event::Arrive(client, _) | Event::Hang(client, _) => {
                    world.server_of_account(world.clients[*client].account) == index
                }
                Event::Commit(server) | Event::Crash(server) => *server == index,
                // The bytes that were on their way to a client may still be read.
                _ => false,
            };
            match is_its {
                true => abandon(scheduled.2),
                false => world.events.push(Reverse(scheduled)),
            }
        }
        for shard in range {
            abandon(std::mem::take(&mut world.mail[shard]));
            world.turn_at[shard] = None;
            world.ready[shard].clear();
        }
        world
            .registered
            .retain(|(shard, _), _| !own.contains(shard));
        world.last_at.retain(|(_, shard), _| !own.contains(shard));
        let server = &mut world.servers[index];
        std::mem::take(&mut server.batches)
            .into_iter()
            .for_each(drop);
        server.store.crash().unwrap();
        server.is_commit_due = false;
        server.is_gate_shut = false;
        server.throttle = throttle();
        for client in world.live.clone() {
            if world.server_of_account(world.clients[client].account) == index {
                world.live.retain(|live| *live != client);
                world.server_died(client);
            }
        }
        world.links_after_crash(index);
        world.accounts_after_crash(index);
        let requests_max = self.settings[index].limits.pending_requests_max as usize;
        world.recover(index, requests_max);
        let shards = self.start_shards(index);
        self.shards.extend(shards);
        self.shards.extend(after);
        self.world.restore_peer_messages(index);
        self.world
            .note(|| format!("server {index} was killed and starts again"));
    }
}

/// Drops what was not settled. Tickets would complain, but not while a thread unwinds.
pub fn abandon<T>(what: T) {
    let unwinding = catch_unwind(AssertUnwindSafe(move || {
        let _held = what;
        resume_unwind(Box::new(()));
    }));
    assert!(unwinding.is_err());
}

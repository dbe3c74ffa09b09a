//! A run: the shards in their world, from a seed, event by event.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use stanzad::clock::{Mono, Now, Wall};
use stanzad::config::{DomainSettings, Settings};
use stanzad::features::FEATURES;
use stanzad::jid::Domain;
use stanzad::limits::IDLE_ACCOUNT_AGE;
use stanzad::net::throttle::{Throttle, ThrottleLimits};
use stanzad::net::transport::Transport;
use stanzad::router::pipeline::Pipeline;
use stanzad::router::placement::Placement;
use stanzad::sasl::Hash;
use stanzad::shard::turn::{Due, Ready, Shard};
use stanzad::shard::{Dialler, Generation, Post};
use stanzad::storage::WriterCore;
use stanzad::stream::Certificates;

use crate::accounts::Accounts;
use crate::chance::Chance;
use crate::faults::{Fault, Planted};
use crate::ledger::Ledger;
use crate::number;
use crate::presence::Presences;
use crate::rosters::Rosters;
use crate::scram::ITERATIONS;
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
    settings: Arc<Settings>,
}

/// Certificates enough for the made-up TLS.
struct AnyCertificate;

impl Certificates for AnyCertificate {
    fn has_certificate(&self, _domain: &str) -> bool {
        true
    }

    fn client_identities(&self, _domain: &str, _chain: &[Vec<u8>]) -> Vec<String> {
        Vec::new()
    }
}

/// There are no other servers yet.
struct NoNetwork;

impl Dialler for NoNetwork {
    fn dial(
        &self,
        _address: SocketAddr,
        _local: &str,
        _remote: &str,
        _is_direct: bool,
    ) -> io::Result<(Box<dyn Transport>, u64)> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }
}

fn settings(character: &Character) -> Settings {
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
    for (name, iterations) in [("example.org", ITERATIONS), ("example.net", more)] {
        let name = Domain::parse(name).unwrap();
        let mut domain = DomainSettings::new(name.clone());
        domain.auth.hashes = vec![Hash::Sha256, Hash::Sha1];
        domain.auth.iterations = iterations;
        domain.c2s.idle_seconds = if character.has_pings { 20 } else { 300 };
        domain.c2s.ping_timeout_seconds = 10;
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
        let character = Character {
            shards: chance.within(2..=4) as u32,
            slots: chance.within(8..=16) as usize,
            has_trouble: chance.one_in(4),
            has_crash: chance.one_in(3) | (fault == Some(Fault::CrashLosesHandoff)),
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
        };
        let shards = character.shards as usize;
        let mut secret = [0; 32];
        chance.fill(&mut secret);
        let store = WriterCore::memory(&secret).unwrap();
        let placement = Placement::with_key(character.shards, chance.next());
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
            throttle: throttle(),
            placement,
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
            store,
            batches: Vec::new(),
            is_commit_due: false,
            is_gate_shut: false,
            chance,
            character,
        };
        world.create_accounts();
        world.create_contacts();
        world.create_offline_messages();
        let settings = settings(&world.character);
        let mut simulation = Simulation {
            world,
            shards: Vec::new(),
            settings: Arc::new(settings),
        };
        simulation.start_shards(&secret);
        let world = &mut simulation.world;
        for slot in 0..world.character.slots {
            let at = world.chance.within(0..=2_000);
            world.at(at, Event::Connect(slot));
        }
        if world.character.has_admin {
            world.after(1_000, Event::Admin);
        }
        world.after(500, Event::Gate);
        if world.character.has_crash {
            let at = world.chance.within(4_000..=world.character.busy_millis);
            world.at(at, Event::Crash);
        }
        simulation
    }

    fn start_shards(&mut self, secret: &[u8; 32]) {
        let generation = Arc::new(Generation {
            settings: Arc::clone(&self.settings),
            certificates: Arc::new(AnyCertificate),
            dialler: Arc::new(NoNetwork),
        });
        let pipeline = Arc::new(Pipeline::new(FEATURES));
        self.shards = (0..self.world.character.shards)
            .map(|index| {
                Shard::new(
                    index,
                    self.world.placement.clone(),
                    Arc::clone(&generation),
                    Arc::clone(&pipeline),
                    Arc::clone(&self.world.throttle),
                    *secret,
                )
            })
            .collect();
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
            Event::Mutter(client) => world.ask_and_wait(client),
            Event::Wake(client) => world.wake(client),
            Event::Expect(client, number) => world.expect_answer(client, number),
            Event::Connect(slot) => world.connect(slot),
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
            Event::Commit => world.commit(),
            Event::Gate => {
                let was_shut = world.is_gate_shut;
                world.is_gate_shut = match was_shut {
                    true => !world.reopens_gate(),
                    false => world.phase == Phase::Busy,
                };
                let pause = match world.is_gate_shut {
                    true => world.chance.within(1..=60),
                    false => world.chance.within(50..=3_000),
                };
                world.after(pause, Event::Gate);
            }
            Event::Crash => self.crash(),
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
        let mut view = View {
            world,
            shard: index,
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
        crate::invariants::check(&self.shards[shard], &mut self.world);
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
        }
    }

    /// The operator stops the server.
    pub fn stop(&mut self) {
        for shard in 0..self.world.character.shards {
            self.world.deliver(Sender::Control, shard, vec![Post::Stop]);
        }
    }

    /// The process is killed: all that is not committed is gone, and so is every connection.
    fn crash(&mut self) {
        abandon(std::mem::take(&mut self.shards));
        let world = &mut self.world;
        world.stops_pretending();
        world.count("crashes");
        world.crashes += 1;
        world.crashed_at = Some(world.now);
        let events = std::mem::take(&mut world.events).into_vec();
        for Reverse(scheduled) in events {
            match scheduled.2 {
                Event::Connect(_)
                | Event::Admin
                | Event::Gate
                | Event::Act(_)
                | Event::Mutter(_)
                | Event::Wake(_)
                | Event::Expect(..) => world.events.push(Reverse(scheduled)),
                // The bytes that were on their way to a client may still be read.
                Event::Drain(_) => world.events.push(Reverse(scheduled)),
                other => abandon(other),
            }
        }
        for mail in &mut world.mail {
            abandon(std::mem::take(mail));
        }
        std::mem::take(&mut world.batches)
            .into_iter()
            .for_each(drop);
        world.store.crash().unwrap();
        world.is_commit_due = false;
        world.is_gate_shut = false;
        world.turn_at.fill(None);
        world.ready.iter_mut().for_each(Vec::clear);
        world.registered.clear();
        world.last_at.clear();
        world.throttle = throttle();
        for client in std::mem::take(&mut world.live) {
            world.server_died(client);
        }
        world.accounts_after_crash();
        world.recover(self.settings.limits.pending_requests_max as usize);
        let secret = stanzad::storage::accounts::secret(world.store.db()).unwrap();
        self.start_shards(&secret);
        self.world
            .note(|| "the server was killed and starts again".to_owned());
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

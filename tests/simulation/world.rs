//! Everything around the shards: time, network, store, workers and the mailboxes between threads,
//! all of it in one queue of events whose times are drawn from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

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
use stanzad::shard::turn::{Due, Outside, Ready, Shard};
use stanzad::shard::{Accepted, Generation, Post};
use stanzad::slots::Key;
use stanzad::storage::{Batch, Lane, ReadFn, Value, WriterCore};
use stanzad::stream::{Certificates, Origin};

use crate::accounts::Accounts;
use crate::chance::Chance;
use crate::client::{Client, Reading};
use crate::faults::{Fault, Planted};
use crate::ledger::Ledger;
use crate::network::{SimulatedTransport, Wire};
use crate::number;
use crate::presence::Presences;
use crate::rosters::Rosters;
use crate::scram::ITERATIONS;
use crate::subscriptions::{Grants, Signals};
use crate::wishes::Wishes;

/// Microseconds since 1970 at the start of every run.
const EPOCH_MICROS: u64 = 1_700_000_000_000_000;
/// Lines of the story that a failure prints, if nobody asks for more.
const STORY_LINES: usize = 120;
/// Turns within a millisecond; so many without an end use up a core for nothing.
const SPINS_MAX: u64 = 2_000;

/// Who sends posts to shards, beside the shards themselves. Batches of one sender to one shard
/// arrive in order; those of different senders do not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Shard(u32),
    Listener,
    Control,
    Writer,
    Reader(u64),
    Worker(u64),
}

/// What happens at some time.
pub enum Event {
    Mail(u32, Vec<Post>),
    Turn(u32),
    /// Bytes of a client arrive.
    Arrive(usize, Vec<u8>),
    /// A client's FIN arrives, or its RST.
    Hang(usize, bool),
    /// A client reads.
    Drain(usize),
    /// A client does something of its own accord.
    Act(usize),
    /// A client that does not read says something all the same, and then nothing more.
    Mutter(usize),
    /// It reads again.
    Wake(usize),
    /// A client that waits in silence for the answer to that request must have got it.
    Expect(usize, u64),
    Connect(usize),
    Admin,
    Read(u32, u64, ReadFn),
    Work(u32, Key, Box<dyn FnOnce() -> Value + Send>),
    Commit,
    Gate,
    Crash,
}

struct Scheduled(u64, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What part of a run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everybody does what comes to mind.
    Busy,
    /// What was begun comes to its end; nobody begins anything.
    Settling,
    /// Whoever is left says one last thing.
    Probing,
    /// The server stops.
    Stopping,
}

/// How a run is, drawn once from its seed.
#[derive(Clone, Debug)]
pub struct Character {
    pub shards: u32,
    pub slots: usize,
    /// Commits and reads fail now and then.
    pub has_trouble: bool,
    pub has_crash: bool,
    /// Some send much to who does not read.
    pub has_flood: bool,
    /// Some send more at once than may be on its way.
    pub has_bursts: bool,
    /// Shards are told of sockets that have nothing new. Not always: it wakes what must wake itself.
    pub has_false_news: bool,
    /// Silent clients are pinged soon, which wakes them, too.
    pub has_pings: bool,
    pub has_admin: bool,
    /// Accounts that nobody needs are forgotten soon, as on a crowded shard.
    pub has_crowd: bool,
    /// One domain wants passwords hashed more often than they are.
    pub has_upgrades: bool,
    /// Few contacts fit into a roster, and few requests wait.
    pub has_tight_limits: bool,
    /// One in so many things that clients do is about their contacts.
    pub talks_in: u64,
    pub busy_millis: u64,
}

/// All but the shards.
pub struct World {
    pub now: u64,
    /// Turns so far, of all shards.
    pub turns: u64,
    /// The first turn of this millisecond.
    spin_turn: u64,
    pub chance: Chance,
    pub character: Character,
    pub phase: Phase,
    pub clients: Vec<Client>,
    /// The clients whose connection may still say something.
    pub live: Vec<usize>,
    pub accounts: Accounts,
    pub ledger: Ledger,
    pub rosters: Rosters,
    pub wishes: Wishes,
    pub signals: Signals,
    pub grants: Grants,
    pub presences: Presences,
    pub throttle: Arc<Throttle>,
    pub placement: Placement,
    pub planted: Planted,
    /// What changes have yielded that a planted fault has undone.
    pub undone: Arc<Mutex<Vec<Value>>>,
    pub violations: Vec<String>,
    pub trace: u64,
    /// When reads or commits last failed.
    pub trouble_at: Option<u64>,
    pub crashes: u32,
    /// When the server was last killed.
    pub crashed_at: Option<u64>,
    /// What happened how often, to see that a run is worth its time.
    pub counts: BTreeMap<&'static str, u64>,
    story: VecDeque<String>,
    story_lines: usize,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    mail: Vec<VecDeque<Post>>,
    ready: Vec<Vec<Ready>>,
    turn_at: Vec<Option<u64>>,
    last_at: BTreeMap<(Sender, u32), u64>,
    registered: HashMap<(u32, usize), usize>,
    by_address: HashMap<SocketAddr, usize>,
    pub store: WriterCore,
    /// What the shards have written, by shard.
    pub batches: Vec<(usize, Batch)>,
    pub is_commit_due: bool,
    is_gate_shut: bool,
}

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
        // Destructors do not run in a killed process; those of tickets would complain.
        for shard in self.shards.drain(..) {
            std::mem::forget(shard);
        }
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
                other => std::mem::forget(other),
            }
        }
        for mail in &mut world.mail {
            mail.drain(..).for_each(std::mem::forget);
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

impl World {
    /// A number greater than all before, to tell what was first.
    pub fn moment(&mut self) -> u64 {
        self.scheduled += 1;
        self.scheduled
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        let at = at.max(self.now);
        self.events
            .push(Reverse(Scheduled(at, self.scheduled, event)));
    }

    pub fn after(&mut self, pause: u64, event: Event) {
        self.at(self.now + pause, event);
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_more(what, 1);
    }

    pub fn count_more(&mut self, what: &'static str, by: u64) {
        *self.counts.entry(what).or_default() += by;
    }

    pub fn count_of(&self, what: &'static str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Goes into the trace, and into the story if the run fails.
    pub fn note(&mut self, text: impl FnOnce() -> String) {
        let line = format!("{:>6} ms  {}", self.now, text());
        self.hash(line.as_bytes());
        if self.story.len() >= self.story_lines {
            self.story.pop_front();
        }
        self.story.push_back(line);
    }

    /// Goes into the trace. By words, since a run hashes all that is read.
    pub fn hash(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_le_bytes(*word));
        for value in words.chain(rest.iter().map(|byte| u64::from(*byte))) {
            self.trace = (self.trace ^ value).wrapping_mul(0x0000_0100_0000_01b3);
            self.trace ^= self.trace >> 29;
        }
    }

    /// What happened last.
    pub fn story(&self) -> String {
        self.story
            .iter()
            .fold(String::new(), |text, line| text + line + "\n")
    }

    /// Something happened that must not.
    pub fn violated(&mut self, what: String) {
        let line = format!("at {} ms: {what}", self.now);
        self.violations.push(line);
    }

    /// Posts go to a shard, behind all that this sender has sent it before.
    pub fn deliver(&mut self, sender: Sender, shard: u32, posts: Vec<Post>) {
        let at = self.now + self.chance.delay();
        let last = self.last_at.entry((sender, shard)).or_default();
        *last = at.max(*last);
        let at = *last;
        self.at(at, Event::Mail(shard, posts));
    }

    fn turn_within(&mut self, shard: u32, pause: u64) {
        let at = self.now + pause;
        let due = &mut self.turn_at[shard as usize];
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.at(at, Event::Turn(shard));
        }
    }

    /// An edge of a connection, for the shard that watches it.
    fn edge(&mut self, client: usize, is_closed: bool) {
        let Some((shard, index)) = self.clients[client].registered else {
            return;
        };
        // As epoll has it, one event tells of all that is new.
        let ready = &mut self.ready[shard as usize];
        match ready.iter_mut().find(|ready| ready.index == index) {
            Some(ready) => ready.is_closed |= is_closed,
            None => ready.push(Ready { index, is_closed }),
        }
        let pause = self.chance.within(0..=2);
        self.turn_within(shard, pause);
    }

    fn arrive(&mut self, client: usize, bytes: &[u8]) {
        let wire = self.clients[client].wire.clone();
        wire.ends().arrived.extend(bytes);
        self.edge(client, false);
    }

    fn hang(&mut self, client: usize, is_reset: bool) {
        {
            let wire = self.clients[client].wire.clone();
            let mut ends = wire.ends();
            ends.is_finished = true;
            ends.is_reset = is_reset;
        }
        self.edge(client, true);
    }

    /// A client reads some of what the server has sent.
    fn drain(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.is_drain_due = false;
        let is_thirsty = std::mem::take(&mut client.is_thirsty);
        let most = match client.reading {
            _ if is_thirsty => usize::MAX,
            Reading::Eager if self.chance.one_in(2) => usize::MAX,
            Reading::Eager => 4_096,
            Reading::Slow => 300,
            Reading::Never => return,
        };
        let wire = client.wire.clone();
        let (bytes, has_room, is_over) = {
            let mut ends = wire.ends();
            let most = ends.sent.len().min(most) as u64;
            let count = match most {
                0 => 0,
                most if !is_thirsty && self.chance.one_in(3) => self.chance.within(1..=most),
                most => most,
            };
            let bytes: Vec<u8> = ends.sent.drain(..count as usize).collect();
            let has_room = ends.takes_room();
            (bytes, has_room, ends.is_over())
        };
        if has_room {
            self.edge(index, false);
        }
        if !bytes.is_empty() {
            self.hash(&bytes);
            self.received(index, &bytes);
        }
        if is_over {
            self.saw_end(index);
        } else {
            self.look_at_wire(index);
        }
    }

    fn look_at_wires(&mut self) {
        for index in self.live.clone() {
            self.look_at_wire(index);
        }
    }

    /// Has a client read if there is something for it, and notes what the server has done to it.
    pub fn look_at_wire(&mut self, index: usize) {
        let client = &self.clients[index];
        let (has_news, is_success, misuse) = {
            let ends = client.wire.ends();
            (ends.has_news(), ends.is_success_written, ends.misuse)
        };
        if let Some(misuse) = misuse {
            self.violated(format!("client {index}: {misuse}"));
        }
        if is_success && self.clients[index].admitted_turn.is_none() {
            let account = self.clients[index].account;
            self.clients[index].admitted_turn = Some(self.turns);
            self.clients[index].life = self.accounts.all[account].id;
            self.check_admission(index);
        }
        let client = &mut self.clients[index];
        if has_news && !client.is_drain_due && client.reading != Reading::Never {
            client.is_drain_due = true;
            let pause = match client.reading {
                Reading::Slow => self.chance.within(5..=80),
                _ => self.chance.within(0..=6),
            };
            self.after(pause, Event::Drain(index));
        }
    }

    /// A new connection is dealt to a shard.
    pub fn accept(&mut self, client: usize, wire: &Wire) {
        let slot = self.clients[client].slot as u8;
        let address = SocketAddr::from((
            Ipv4Addr::new(10, 0, 0, slot + 1),
            1024 + u16::try_from(client).unwrap(),
        ));
        self.by_address.insert(address, client);
        self.clients[client].address = address;
        let now = Mono::from_millis(self.now);
        assert!(self.throttle.connect(address.ip(), now).is_ok());
        let accepted = Accepted {
            transport: Box::new(SimulatedTransport::new(wire.clone(), address)),
            origin: Origin {
                stream: client as u64,
                address,
                accepted: now,
            },
        };
        let shard = self.chance.index(self.character.shards as usize) as u32;
        self.deliver(
            Sender::Listener,
            shard,
            vec![Post::Accepted(Box::new(accepted))],
        );
    }
}

/// The world as one shard's turn sees it.
struct View<'a> {
    world: &'a mut World,
    shard: u32,
}

impl Outside for View<'_> {
    fn register(&mut self, key: Key, transport: &dyn Transport) -> io::Result<()> {
        let client = self.world.by_address[&transport.peer()];
        let place = (self.shard, key.index());
        self.world.registered.insert(place, client);
        self.world.clients[client].registered = Some(place);
        self.world.clients[client].released = None;
        // What the socket holds is told once; what TLS holds is not.
        let (has_bytes, is_finished) = {
            let ends = self.world.clients[client].wire.ends();
            (!ends.arrived.is_empty(), ends.is_finished)
        };
        if has_bytes || is_finished {
            self.world.edge(client, is_finished);
        }
        Ok(())
    }

    fn deregister(&mut self, transport: &dyn Transport) {
        let client = self.world.by_address[&transport.peer()];
        if let Some(place) = self.world.clients[client].registered.take() {
            self.world.registered.remove(&place);
            self.world.clients[client].released = Some(self.world.now);
        }
    }

    fn post(&mut self, shard: u32, posts: Vec<Post>) {
        if posts.iter().any(|post| matches!(post, Post::Moved(_))) {
            self.world.count("moves");
        }
        let posts = self.world.carried(posts);
        self.world.deliver(Sender::Shard(self.shard), shard, posts);
    }

    fn write(&mut self, batch: Batch) {
        let world = &mut *self.world;
        let batch = world.written(batch);
        world.batches.push((self.shard as usize, batch));
        if !world.is_commit_due {
            world.is_commit_due = true;
            let pause = match world.chance.one_in(12) {
                true => world.chance.within(100..=800),
                false => world.chance.within(1..=25),
            };
            world.after(pause, Event::Commit);
        }
    }

    fn read(&mut self, id: u64, _lane: Lane, read: ReadFn) {
        let pause = self.world.chance.delay();
        self.world.after(pause, Event::Read(self.shard, id, read));
    }

    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool {
        let world = &mut *self.world;
        if world.chance.one_in(50) {
            if let Some(client) = world.registered.get(&(self.shard, conn.index())) {
                world.clients[*client].had_trouble = true;
            }
            return false;
        }
        let pause = world.chance.within(1..=120);
        world.after(pause, Event::Work(self.shard, conn, job));
        true
    }

    fn random(&mut self, buffer: &mut [u8]) {
        self.world.chance.fill(buffer);
    }

    fn is_gate_shut(&self) -> bool {
        self.world.is_gate_shut
    }
}

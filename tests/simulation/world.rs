//! Everything around the shards, and the queue of events that happen to it, at times that are drawn
//! from the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use stanzad::shard::Post;
use stanzad::shard::turn::Ready;
use stanzad::slots::Key;
use stanzad::storage::{ReadFn, Value};

use crate::accounts::Accounts;
use crate::chance::Chance;
use crate::client::Client;
use crate::crossings::Crossings;
use crate::faults::Planted;
use crate::holdings::Holdings;
use crate::impostor::Impostor;
use crate::ledger::Ledger;
use crate::links::{End, Links};
use crate::presence::Presences;
use crate::rosters::Rosters;
use crate::servers::Server;
use crate::sockets::Socket;
use crate::subscriptions::{Grants, Signals};
use crate::wishes::Wishes;

/// Who sends posts to shards, beside the shards themselves. Batches of one sender to one shard
/// arrive in order; those of different senders do not. Shards are numbered among all servers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender {
    Shard(u32),
    Listener,
    Control,
    Writer,
    Reader(u64),
    Worker(u64),
    Resolver,
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
    /// A client says more to the account that it has said much to.
    Pour(usize),
    /// A client that does not read says something all the same, and then nothing more.
    Mutter(usize),
    /// It reads again.
    Wake(usize),
    /// A client that waits in silence for the answer to that request must have got it.
    Expect(usize, u64),
    Connect(usize),
    /// A client of an account comes to a slot of its own, to repair what was lost.
    Repair(usize, usize),
    /// It says what it wants of its contacts.
    Restate(usize),
    Admin,
    Read(u32, u64, ReadFn),
    Work(u32, Key, Box<dyn FnOnce() -> Value + Send>),
    Commit(usize),
    Gate(usize),
    Crash(usize),
    /// What one end of a connection between servers has sent is taken by the network.
    Pump(usize),
    /// Bytes arrive at an end.
    Carry(usize, Vec<u8>),
    /// The other end's FIN arrives, or its RST.
    PeerHang(usize, bool),
    /// A connection arrives at the server that it was opened to.
    Reach(usize),
    /// Something happens to the network between servers.
    Disturb,
    /// They do not reach each other for so long.
    Part(u64),
    /// Somebody who claims to be a server he is not does what he does next.
    Impostor(usize),
}

/// An event, and when it happens: the time, and a number among those of the same time.
pub struct Scheduled(pub u64, pub u64, pub Event);

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
    /// Everybody logs in anew, and says once more what he wants of his contacts at the other server.
    Repairing,
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
    /// Each domain has a server of its own, and they talk over links.
    pub is_federated: bool,
    /// These links break.
    pub has_breaks: bool,
    /// Servers show certificates; else they prove themselves by dialback.
    pub has_certificates: bool,
    /// After so many seconds a link is closed that nobody needs.
    pub idle_seconds: u64,
}

/// All but the shards.
pub struct World {
    pub now: u64,
    /// Turns so far, of all shards.
    pub turns: u64,
    /// The first turn of this millisecond.
    pub spin_turn: u64,
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
    pub servers: Vec<Server>,
    /// The ends of all connections between servers.
    pub ends: Vec<End>,
    /// Those that may still have something to say.
    pub live_ends: Vec<usize>,
    pub links: Links,
    pub crossings: Crossings,
    pub holdings: Holdings,
    pub impostors: Vec<Impostor>,
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
    pub story: VecDeque<String>,
    pub story_lines: usize,
    pub events: BinaryHeap<Reverse<Scheduled>>,
    pub scheduled: u64,
    pub mail: Vec<VecDeque<Post>>,
    pub ready: Vec<Vec<Ready>>,
    pub turn_at: Vec<Option<u64>>,
    pub last_at: BTreeMap<(Sender, u32), u64>,
    pub registered: HashMap<(u32, usize), Socket>,
    pub by_address: HashMap<SocketAddr, Socket>,
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
        self.note_log();
        let line = format!("{:>6} ms  {}", self.now, text());
        self.hash(line.as_bytes());
        self.tell(line);
    }

    /// What the servers have logged goes into the story alone.
    pub fn note_log(&mut self) {
        for line in crate::telling::lines() {
            let line = format!("{:>6} ms      {line}", self.now);
            self.tell(line);
        }
    }

    fn tell(&mut self, line: String) {
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

    pub fn turn_within(&mut self, shard: u32, pause: u64) {
        let at = self.now + pause;
        let due = &mut self.turn_at[shard as usize];
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            self.at(at, Event::Turn(shard));
        }
    }
}

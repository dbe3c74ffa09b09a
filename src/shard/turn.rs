//! One turn of a shard (`Order of a turn` in lib.rs), without sockets, TLS or threads: they are
//! behind [`Transport`] and [`Outside`], so that a simulator can stand in for them.

mod acting;
mod asks;
mod attempts;
mod dialling;
mod mailbox;
mod pausing;
mod reading;
mod rejudging;
pub mod survey;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

pub use self::dialling::question;
use crate::clock::{Mono, Now};
use crate::dns;
use crate::limits::{GATE_PAUSE, PARSER_REST_AFTER};
use crate::net::throttle::Throttle;
use crate::net::transport::{Buffers, Transport};
use crate::router::Router;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::shard::connection::Connection;
use crate::shard::resting::Watched;
use crate::shard::timer::Timers;
use crate::shard::{Generation, Post};
use crate::slots::{Key, Slots};
use crate::storage::{Batch, Lane, ReadFn, Value};
use crate::stream::{Action, Event};

/// What a shard wants of the world at the turn's end, and the chance it draws.
pub trait Outside {
    /// Watches a connection's socket.
    ///
    /// # Errors
    /// The poll's; the connection is dropped.
    fn register(&mut self, key: Key, transport: &dyn Transport) -> std::io::Result<()>;
    /// Watches it no more.
    fn deregister(&mut self, transport: &dyn Transport);
    /// Sends a batch to another shard.
    fn post(&mut self, shard: u32, posts: Vec<Post>);
    /// Hands the turn's writes to the store.
    fn write(&mut self, batch: Batch);
    /// Asks the store for a read.
    fn read(&mut self, id: u64, lane: Lane, read: ReadFn);
    /// Has a worker compute something for a connection. False if too much waits already.
    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool;
    /// Asks where another server is; [`Shard::turn`] gets the answer by a post with the same id.
    ///
    /// # Errors
    /// If too many are asked for already.
    fn resolve(&mut self, id: Key, question: dns::Question) -> Result<(), dns::Refused>;
    /// Fills a buffer with random bytes.
    fn random(&mut self, buffer: &mut [u8]);
    /// Whether some receiver is above its mark, so that no socket may be read.
    fn is_gate_shut(&self) -> bool;
}

/// When the next turn is due if nothing happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once: there is work left.
    Now,
    /// At that time.
    At(Mono),
    /// Only when something happens.
    Never,
}

/// News of a connection's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The connection's position in the slab, as it was registered; another may have it by now.
    pub index: usize,
    /// Whether the peer has closed its direction, or the socket has an error.
    pub is_closed: bool,
}

/// One shard: its connections and its router.
pub struct Shard {
    /// Accounts and sessions.
    pub router: Router,
    connections: Slots<Connection>,
    timers: Timers,
    watched: Watched,
    generation: Arc<Generation>,
    pipeline: Arc<Pipeline>,
    throttle: Arc<Throttle>,
    secret: [u8; 32],
    buffers: Buffers,
    /// Connections that had more to read than their share of a turn, floods that have news, and those
    /// that wait for nothing any more, in the order in which they came.
    again: VecDeque<Key>,
    /// Connections without a session that are to be read, in the order in which they came.
    newcomers: VecDeque<Key>,
    gated: Vec<Key>,
    dials: dialling::Diallings,
    /// Streams with other servers that a reload has judged anew, and whether they lead elsewhere now.
    rejudged: VecDeque<(Key, bool)>,
    posts: Vec<Vec<Post>>,
    actions: Vec<Action>,
    scratch: Vec<u8>,
    is_stopping: bool,
}

impl Shard {
    /// A shard without connections. `secret` is the server's, for what strangers must not foresee.
    pub fn new(
        index: u32,
        placement: Placement,
        generation: Arc<Generation>,
        pipeline: Arc<Pipeline>,
        throttle: Arc<Throttle>,
        secret: [u8; 32],
    ) -> Shard {
        let shards = placement.shards() as usize;
        Shard {
            router: Router::new(
                index,
                placement,
                Arc::clone(&generation.settings),
                Arc::clone(&pipeline),
            ),
            connections: Slots::default(),
            timers: Timers::default(),
            watched: Watched::default(),
            generation,
            pipeline,
            throttle,
            secret,
            buffers: Buffers::new(),
            again: VecDeque::new(),
            newcomers: VecDeque::new(),
            gated: Vec::new(),
            dials: dialling::Diallings::default(),
            rejudged: VecDeque::new(),
            posts: (0..shards).map(|_| Vec::new()).collect(),
            actions: Vec::new(),
            scratch: Vec::new(),
            is_stopping: false,
        }
    }

    /// One turn, as `Order of a turn` in lib.rs has it. `posts` came from the mailbox; `ready`
    /// tells of sockets that have news, some of which may be old.
    pub fn turn(
        &mut self,
        now: Now,
        posts: &mut Vec<Post>,
        ready: &[Ready],
        outside: &mut dyn Outside,
    ) -> Due {
        self.router.begin_turn(now);
        // 2. The mailbox.
        for post in posts.drain(..) {
            self.take(post, outside);
        }
        self.rejudge(outside);
        // 3. Sockets.
        if !self.gated.is_empty() && !outside.is_gate_shut() {
            let gated = std::mem::take(&mut self.gated);
            self.again.extend(gated);
        }
        self.read_sockets(ready, outside);
        // 4. Timers.
        while let Some((due, key)) = self.timers.pop_due(now.mono) {
            self.timer(due, key, outside);
        }
        self.rest_silent();
        // 5. Local work, until there is none; of broadcasts, a turn's share.
        if !outside.is_gate_shut() {
            self.router.fan_out();
        }
        self.work(outside);
        // 6. The store.
        self.hand_to_store(outside);
        // 7. Sockets again, each once.
        self.write_all(outside);
        // Connections that were dropped while writing leave work for the account.
        self.work(outside);
        self.hand_to_store(outside);
        // 8. Posts.
        self.send_posts(outside);
        self.due(now.mono, outside.is_gate_shut())
    }

    /// Whether everything that a stop waits for is done.
    pub fn is_stopped(&self) -> bool {
        self.is_stopping
            && self.connections.is_empty()
            && self.router.waiting() == 0
            && self.router.last_seen_due().is_none()
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    fn due(&self, now: Mono, is_gate_shut: bool) -> Due {
        let has_work = !self.again.is_empty()
            || !self.newcomers.is_empty()
            || !self.rejudged.is_empty()
            || !self.router.out.outputs.is_clean()
            || !self.router.out.work.is_empty()
            || (self.router.has_fanout() && !is_gate_shut);
        if has_work {
            return Due::Now;
        }
        let is_waiting = !self.gated.is_empty() || self.router.has_fanout();
        let gate = is_waiting.then(|| now + GATE_PAUSE);
        let dues = [
            self.timers.next(),
            self.watched.next(),
            gate,
            self.router.postponed.next(),
            self.router.last_seen_due(),
            self.router.links_due(),
            self.router.components_due(),
        ];
        match dues.into_iter().flatten().min() {
            Some(due) => Due::At(due),
            None => Due::Never,
        }
    }

    // --- 4. timers ---

    fn timer(&mut self, armed: Mono, key: Key, outside: &mut dyn Outside) {
        let now = self.router.now.mono;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.armed != Some(armed) {
            // An earlier time was armed after this one; else each of them would arm one more.
            return;
        }
        connection.armed = None;
        if self.router.awaits_receipt(key) {
            // It is not idle.
            connection.stream.note_written(now);
        }
        let deadline = connection.stream.deadline(&self.generation.settings);
        self.resume(key);
        match deadline {
            Some(due) if due <= now => {
                self.event(key, Event::Deadline, outside);
                self.list(key);
            }
            _ => self.rearm(key),
        }
    }

    /// Gives back the parsers of those that have been silent for a while.
    fn rest_silent(&mut self) {
        let now = self.router.now.mono;
        while let Some(key) = self.watched.pop_due(now) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            if now.since(connection.stream.touched()) < PARSER_REST_AFTER {
                self.watched.add(key, now);
            } else {
                connection.is_watched = false;
                connection.input.rest();
            }
        }
    }

    /// Makes sure that a timer looks at the connection no later than at its deadline, or when its pause
    /// is over.
    fn rearm(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let deadline = connection.stream.deadline(&self.generation.settings);
        let Some(due) = deadline.into_iter().chain(connection.paused_until).min() else {
            return;
        };
        if connection.armed.is_none_or(|armed| due < armed) {
            connection.armed = Some(due);
            self.timers.add(due, key);
        }
    }

    // --- 5. work ---

    fn work(&mut self, outside: &mut dyn Outside) {
        loop {
            self.router.work();
            let out = &mut self.router.out;
            let is_done = out.ends.is_empty()
                && out.admitted.is_empty()
                && out.resumed.is_empty()
                && out.dials.is_empty()
                && !self.dials.has_turn();
            if is_done {
                return;
            }
            self.dial_links(outside);
            for key in std::mem::take(&mut self.router.out.resumed) {
                self.list(key);
            }
            for (key, verdict) in std::mem::take(&mut self.router.out.admitted) {
                self.event(key, Event::Admitted(verdict), outside);
                self.list(key);
            }
            for (key, error) in std::mem::take(&mut self.router.out.ends) {
                self.event(key, Event::End(error), outside);
            }
        }
    }

    // --- 6. the store ---

    fn hand_to_store(&mut self, outside: &mut dyn Outside) {
        for (id, lane, read) in self.router.out.reads.drain(..) {
            outside.read(id, lane, read);
        }
        let batch = &self.router.out.batch;
        let is_empty = batch.rows.is_empty() && batch.changes.is_empty();
        if let Some(due) = self.router.last_seen_due()
            && (!is_empty || self.is_stopping || due <= self.router.now.mono)
        {
            self.router.store_last_seen();
        } else if is_empty {
            return;
        }
        let batch = &mut self.router.out.batch;
        let next = Batch {
            last_row: batch.last_row,
            ..Batch::default()
        };
        outside.write(std::mem::replace(batch, next));
    }

    // --- 8. posts ---

    fn send_posts(&mut self, outside: &mut dyn Outside) {
        for index in 0..self.posts.len() {
            let routed = self.router.out.take_posts(index);
            let posts = &mut self.posts[index];
            posts.extend(routed.into_iter().map(Post::Router));
            if !posts.is_empty() {
                // The index counts shards, of which there are at most 256.
                outside.post(index as u32, std::mem::take(posts));
            }
        }
    }
}

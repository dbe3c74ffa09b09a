//! One turn of a shard (DESIGN §4), without sockets, TLS or threads: they are behind
//! [`Transport`](crate::net::transport::Transport) and [`Outside`], so that a simulator can stand in
//! for them.

mod mailbox;
mod pausing;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::{Mono, Now};
use crate::limits::{
    GATE_PAUSE, OUTPUT_HOLD_BYTES, PARSER_REST_AFTER, TURN_BYTES_MAX, TURN_NEWCOMERS_MAX,
    TURN_STANZAS_MAX,
};
use crate::net::throttle::Throttle;
use crate::net::transport::{Buffers, Read, Transport};
use crate::router::Router;
use crate::router::feature::SessionEvent;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::shard::budget::{Budget, Used};
use crate::shard::connection::{Connection, Ending, Moving};
use crate::shard::resting::Watched;
use crate::shard::timer::Timers;
use crate::shard::{Generation, Post};
use crate::slots::{Key, Slots};
use crate::storage::{Batch, Lane, ReadFn, Value, logins};
use crate::stream::{Action, BindRequest, Context, Event};
use crate::{router, storage};

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
    again: Vec<Key>,
    /// Connections without a session that are to be read, in the order in which they came.
    newcomers: VecDeque<Key>,
    gated: Vec<Key>,
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
            again: Vec::new(),
            newcomers: VecDeque::new(),
            gated: Vec::new(),
            posts: (0..shards).map(|_| Vec::new()).collect(),
            actions: Vec::new(),
            scratch: Vec::new(),
            is_stopping: false,
        }
    }

    /// One turn, in the order of DESIGN §4. `posts` came from the mailbox; `ready` tells of sockets
    /// that have news, some of which may be old.
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
        // 3. Sockets.
        if !self.gated.is_empty() && !outside.is_gate_shut() {
            let gated = std::mem::take(&mut self.gated);
            self.again.extend(gated);
        }
        let again = std::mem::take(&mut self.again);
        for news in ready {
            if let Some(key) = self.connections.at(news.index) {
                self.noticed(key, news.is_closed);
                // Who stands on a list is read when that list's turn comes: once, and under a shut
                // gate not put on it again with each edge.
                if self.connections.get(key).is_some_and(|c| !c.is_listed) {
                    self.read_in_turn(key, outside);
                }
            }
        }
        for key in again {
            self.read_in_turn(key, outside);
        }
        for _ in 0..self.newcomers.len().min(TURN_NEWCOMERS_MAX) {
            if let Some(key) = self.newcomers.pop_front()
                && let Some(connection) = self.connections.get_mut(key)
            {
                connection.is_listed = false;
                self.read(key, outside);
            }
        }
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
        ];
        match dues.into_iter().flatten().min() {
            Some(due) => Due::At(due),
            None => Due::Never,
        }
    }

    // --- 3. reading ---

    /// Remembers to go on reading in the next turn.
    fn list(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_listed
        {
            connection.is_listed = true;
            self.again.push(key);
        }
    }

    /// Reads a session's connection at once. One without a session joins the queue of newcomers: what
    /// it sends may be a handshake, which costs as much as a hundred messages, and as many may come in
    /// one turn as the listener has accepted.
    fn read_in_turn(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.is_listed = connection.stream.session().is_none();
        if connection.is_listed {
            self.newcomers.push_back(key);
        } else {
            self.read(key, outside);
        }
    }

    /// The socket may have bytes, or take some again.
    fn noticed(&mut self, key: Key, is_closed: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.transport.readable(is_closed);
        if connection.is_blocked {
            connection.is_blocked = false;
            // Asking for the buffer puts the connection on the list of those to be written.
            self.router.out.outputs.append(key);
        }
    }

    fn read(&mut self, key: Key, outside: &mut dyn Outside) {
        if !self.is_paused(key) {
            let mut used = Used::default();
            self.read_turn(key, &mut used, outside);
            self.charge(key, used);
        }
    }

    /// Reads what one turn has room for.
    fn read_turn(&mut self, key: Key, used: &mut Used, outside: &mut dyn Outside) {
        let (mut events, mut bytes) = (0, 0);
        loop {
            if events >= TURN_STANZAS_MAX || bytes >= TURN_BYTES_MAX {
                self.list(key);
                return;
            }
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            if !connection.stream.takes_input() || matches!(connection.ending, Ending::StartTls(_))
            {
                return;
            }
            let holds = connection
                .stream
                .session()
                .is_some_and(|session| self.router.holds_reading(session));
            if holds || self.router.out.outputs.len(key) > OUTPUT_HOLD_BYTES {
                return;
            }
            if outside.is_gate_shut() {
                connection.is_listed = true;
                self.gated.push(key);
                return;
            }
            if let Some(event) = connection.input.next_event() {
                events += 1;
                used.stanzas += u64::from(event.is_stanza());
                self.event(key, event, outside);
                continue;
            }
            let result = connection.transport.read(&mut self.buffers);
            let received = match result {
                Ok(Read::Data(count)) => count.max(self.buffers.received),
                _ => self.buffers.received,
            };
            bytes += received;
            used.bytes += received as u64;
            match result {
                Ok(Read::Data(count)) => {
                    let is_sooner = connection.stream.touch(self.router.now.mono);
                    connection.input.feed(&self.buffers.plain[..count]);
                    if !connection.is_watched {
                        connection.is_watched = true;
                        self.watched.add(key, self.router.now.mono);
                    }
                    if is_sooner {
                        self.rearm(key);
                    }
                }
                Ok(Read::Nothing) => {}
                Ok(Read::Blocked) => return,
                Ok(Read::Established(facts)) => {
                    self.event(key, Event::Established(facts), outside);
                }
                Ok(Read::End) => {
                    // RFC 6120 §4.4: who ends its stream and its direction at once is answered too.
                    if connection.stream.is_ending() {
                        connection.ending = Ending::Drop;
                        self.router.out.outputs.append(key);
                    } else {
                        self.write(key, outside);
                        self.remove(key, outside);
                    }
                    return;
                }
                Err(error) => {
                    log::debug!(stream = connection.stream.origin.stream, error:%; "connection failed");
                    // An alert may tell the peer what was wrong with its handshake.
                    if let Err(error) = connection.transport.flush() {
                        log::trace!(error:%; "alert not sent");
                    }
                    self.remove(key, outside);
                    return;
                }
            }
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

    // --- events and actions ---

    /// Gives an event to a stream machine and carries out what it asks for.
    fn event(&mut self, key: Key, event: Event, outside: &mut dyn Outside) {
        let mut actions = std::mem::take(&mut self.actions);
        let Some(connection) = self.connections.get_mut(key) else {
            self.actions = actions;
            return;
        };
        crate::log::panic::handling(connection.stream.origin.stream);
        let mut random = |buffer: &mut [u8]| outside.random(buffer);
        let mut context = Context {
            now: self.router.now,
            settings: &self.generation.settings,
            pipeline: &self.pipeline,
            certificates: self.generation.certificates.as_ref(),
            throttle: &self.throttle,
            secret: &self.secret,
            random: &mut random,
            placement: &self.router.placement,
            shard: self.router.shard,
            unread: connection.input.unread(),
            out: &mut self.scratch,
            actions: &mut actions,
        };
        connection.stream.on(event, &mut context);
        self.flush_scratch(key);
        for action in actions.drain(..) {
            self.act(key, action, outside);
        }
        self.actions = actions;
        self.rearm(key);
    }

    fn flush_scratch(&mut self, key: Key) {
        if self.scratch.is_empty() {
            return;
        }
        if let Some(output) = self.router.out.outputs.append(key) {
            output.extend_from_slice(&self.scratch);
        }
        self.scratch.clear();
    }

    fn act(&mut self, key: Key, action: Action, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            self.act_without_connection(key, action);
            return;
        };
        match action {
            Action::StartTls(domain) => {
                connection.ending = Ending::StartTls(domain);
                self.router.out.outputs.append(key);
            }
            Action::Pause(until) => self.pause(key, until),
            Action::Restart => connection.input.restart(),
            Action::AcceptStanzas(bytes) => connection.input.accept(bytes),
            Action::LoadCredentials(jid) => {
                let read: ReadFn =
                    Box::new(move |db| Ok(router::feature::value(logins::login(db, &jid)?)));
                let waiter = router::Waiter::Connection(key);
                self.router.read(storage::Lane::Quick, read, waiter);
            }
            Action::Work(job) => {
                if !outside.work(key, job) {
                    self.event(key, Event::Worked(None), outside);
                }
            }
            Action::Admit(jid, proof) => {
                let owner = self.router.placement.shard_of(jid.as_str());
                if owner == self.router.shard {
                    self.router.admit(key, &jid, proof);
                } else {
                    self.move_to(owner, key, jid, proof, outside);
                }
            }
            Action::Bind(request) => {
                let BindRequest {
                    jid,
                    resource,
                    proof,
                    origin,
                } = *request;
                // What it has sent to log in is no part of what it may send from now on.
                connection.budget = Budget::default();
                let result = self.router.bind(key, &jid, &resource, proof, origin);
                self.event(key, Event::Bound(result), outside);
            }
            Action::Route(stanza, size) => {
                let Some(session) = connection.stream.session() else {
                    return;
                };
                if let Err(error) = self.router.outbound(session, *stanza, size) {
                    self.event(key, Event::End(error), outside);
                }
            }
            Action::Shutdown => {
                if connection.ending == Ending::No {
                    connection.ending = Ending::Shutdown;
                }
                self.router.out.outputs.append(key);
                // Reading goes on, for the peer's end.
                self.list(key);
            }
            Action::Drop => {
                connection.ending = Ending::Drop;
                self.router.out.outputs.append(key);
            }
            other => self.act_without_connection(key, other),
        }
    }

    /// What is to be done also when the connection has gone.
    fn act_without_connection(&mut self, key: Key, action: Action) {
        match action {
            Action::Closed(session) => {
                self.router.session_event(SessionEvent::Closed, session);
            }
            Action::Unbind(session) => self.router.session_closed(session),
            Action::Leave(jid) => self.router.admission_ended(key, &jid),
            Action::Upgrade {
                jid,
                generation,
                credentials,
            } => self
                .router
                .upgrade_credentials(jid, generation, credentials),
            _ => {}
        }
    }

    /// Takes the connection to the shard that owns the account it has proven (DESIGN §3).
    fn move_to(
        &mut self,
        owner: u32,
        key: Key,
        jid: crate::jid::BareJid,
        proof: router::account::Proof,
        outside: &mut dyn Outside,
    ) {
        let Some(connection) = self.connections.remove(key) else {
            return;
        };
        let output = self.router.out.outputs.close(key);
        outside.deregister(connection.transport.as_ref());
        if let Some(posts) = self.posts.get_mut(owner as usize) {
            posts.push(Post::Moved(Box::new(Moving {
                connection,
                output,
                jid,
                proof,
            })));
        }
    }

    /// Forgets a connection, whose session ends with it.
    fn remove(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        self.router.out.outputs.close(key);
        outside.deregister(connection.transport.as_ref());
        self.throttle.disconnect(connection.stream.origin.ip());
        let mut actions = Vec::new();
        connection.stream.hung_up(&mut actions);
        for action in actions {
            self.act_without_connection(key, action);
        }
    }

    // --- 5. work ---

    fn work(&mut self, outside: &mut dyn Outside) {
        loop {
            self.router.work();
            let out = &mut self.router.out;
            if out.ends.is_empty() && out.admitted.is_empty() && out.resumed.is_empty() {
                return;
            }
            for key in std::mem::take(&mut out.resumed) {
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

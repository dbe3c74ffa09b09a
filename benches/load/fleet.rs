//! All clients of one run, on one thread and one poll.

use std::io;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;

use crate::connection::{Connection, Progress, SCRATCH_BYTES};
use crate::scanner::Event;
use crate::session::{Failure, Logins, Session, Step};

/// Logins that go on at once while a fleet is built. More would only queue up in the server.
const ARRIVALS_MAX: usize = 32;
/// Without any session coming online for so long, building a fleet fails.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(30);

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const WAKE: Token = Token(usize::MAX);

/// What a run does with its sessions. Each call may send and close through the fleet.
pub trait Workload {
    /// A session has come online.
    fn arrived(&mut self, fleet: &mut Fleet, id: usize);

    /// A session has received a stanza. `now` is when its bytes were read.
    fn stanza(&mut self, fleet: &mut Fleet, id: usize, stanza: &[u8], now: Instant);

    /// A session of `account` that had been asked to close is gone.
    fn closed(&mut self, fleet: &mut Fleet, account: usize);

    /// A session is gone though nobody asked it to.
    fn failed(&mut self, fleet: &mut Fleet, id: usize, failure: Failure);
}

/// A workload that can be driven to its end: it tells when it goes wrong or no further.
pub trait Course: Workload {
    /// What has gone wrong, once.
    fn trouble(&mut self) -> Option<String>;

    /// When it last went forward.
    fn last(&self) -> Instant;

    /// What it waits for, for the message when that does not come.
    fn waits_for(&self) -> String;
}

/// With something awaited and nothing coming for so long, a course has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sessions, by ids that are used again after a session is gone.
pub struct Fleet {
    pub logins: Logins,
    pub sessions: Slab<Session>,
    poll: Poll,
    events: Events,
    scratch: Box<[u8]>,
    /// Sessions with bytes to be written at the end of the turn; may name one twice.
    dirty: Vec<usize>,
}

impl Fleet {
    /// A fleet without sessions.
    pub fn new(logins: Logins) -> io::Result<Fleet> {
        Ok(Fleet {
            logins,
            sessions: Slab::new(),
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            scratch: vec![0; SCRATCH_BYTES].into(),
            dirty: Vec::new(),
        })
    }

    /// Ends the sleep of a turn from another thread.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKE)
    }

    /// Opens a session for an account; yields its id.
    pub fn open(&mut self, account: usize, resource: &str) -> io::Result<usize> {
        let connection = Connection::open(self.logins.accounts[account].address)?;
        let entry = self.sessions.vacant_entry();
        let id = entry.key();
        let session = entry.insert(Session::new(connection, account, resource, &self.logins));
        let socket = &mut session.connection.socket;
        self.poll.registry().register(socket, Token(id), BOTH)?;
        Ok(id)
    }

    /// Queues bytes of a session; they are written at the end of the turn. False if it is gone.
    pub fn send(&mut self, id: usize, parts: &[&[u8]]) -> bool {
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        parts.iter().for_each(|part| session.connection.queue(part));
        self.dirty.push(id);
        true
    }

    /// Ends the stream of a session; the workload hears of it when the server has answered.
    pub fn close(&mut self, id: usize) {
        self.sessions[id].close_stream();
        self.dirty.push(id);
    }

    /// One turn: sleep until something is ready, handle it, write.
    pub fn turn(&mut self, work: &mut impl Workload, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        // What was queued between turns goes out before the sleep.
        self.write(work);
        match self.poll.poll(&mut events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            let Token(id) = event.token();
            if event.token() == WAKE || !self.sessions.contains(id) {
                continue;
            }
            let ended = event.is_read_closed() || event.is_error();
            if event.is_writable() {
                self.dirty.push(id);
            }
            let readable = event.is_readable() || ended;
            if let Err(what) = self.ready(work, id, readable, ended) {
                self.fail(work, id, what);
            }
        }
        self.events = events;
        self.write(work);
        Ok(())
    }

    /// Handles readiness; `ended` if the peer will send no more.
    fn ready(
        &mut self,
        work: &mut impl Workload,
        id: usize,
        readable: bool,
        ended: bool,
    ) -> Result<(), String> {
        let session = &mut self.sessions[id];
        session.begin(&self.logins)?;
        if !readable {
            return Ok(());
        }
        let progress = session.read(&self.logins, &mut self.scratch, ended)?;
        if progress == Progress::Established {
            self.dirty.push(id);
        }
        let over = self.handle(work, id)?;
        if over || progress == Progress::End {
            if !self.sessions[id].is_closing() {
                return Err("the server closed the connection".into());
            }
            if let Some(session) = self.remove(id) {
                work.closed(self, session.account);
            }
        }
        Ok(())
    }

    /// Handles what a session has received; true if its stream is over.
    fn handle(&mut self, work: &mut impl Workload, id: usize) -> Result<bool, String> {
        let now = Instant::now();
        let mut scanner = std::mem::take(&mut self.sessions[id].scanner);
        while let Some(event) = scanner.next() {
            let step = self.sessions[id].on(&event, &mut scanner, &mut self.logins)?;
            match (step, event) {
                (Step::Stanza | Step::Push, Event::Element(range)) => {
                    if step == Step::Push {
                        self.dirty.push(id);
                    }
                    work.stanza(self, id, scanner.bytes(range), now);
                }
                (Step::Arrived, _) => {
                    self.dirty.push(id);
                    work.arrived(self, id);
                }
                (_, Event::Close) => return Ok(true),
                _ => self.dirty.push(id),
            }
        }
        scanner.compact();
        self.sessions[id].scanner = scanner;
        Ok(false)
    }

    fn write(&mut self, work: &mut impl Workload) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for id in dirty.drain(..) {
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            let flushed = session.connection.flush();
            if let Err(error) = flushed.and_then(|()| watch(self.poll.registry(), id, session)) {
                self.fail(work, id, error.to_string());
            }
        }
        // Failures may have queued more; that goes out next turn.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn fail(&mut self, work: &mut impl Workload, id: usize, what: String) {
        if let Some(session) = self.remove(id) {
            let failure = Failure {
                what: format!("{}: {what}", session.doing()),
                jid: session.jid,
            };
            work.failed(self, id, failure);
        }
    }

    fn remove(&mut self, id: usize) -> Option<Session> {
        let mut session = self.sessions.try_remove(id)?;
        // The socket is closed in any case; a goodbye that finds it broken changes nothing.
        let _ = session.connection.close();
        Some(session)
    }

    /// Takes turns until `is_over`.
    ///
    /// # Errors
    /// If the course meets trouble, or does not go forward for 10 seconds.
    pub fn drive<C: Course>(
        &mut self,
        course: &mut C,
        is_over: impl Fn(&C, Instant) -> bool,
    ) -> Result<(), String> {
        let began = Instant::now();
        while !is_over(course, Instant::now()) {
            self.turn(course, Some(Duration::from_millis(50)))
                .map_err(|e| e.to_string())?;
            if let Some(trouble) = course.trouble() {
                return Err(trouble);
            }
            if course.last().max(began).elapsed() > PATIENCE {
                return Err(format!("nothing came for 10 s: {}", course.waits_for()));
            }
        }
        Ok(())
    }

    /// Lets time pass, reading and answering what comes.
    ///
    /// # Errors
    /// If a session fails.
    pub fn rest(&mut self, time: Duration) -> Result<(), String> {
        let mut rest = Rest { failure: None };
        let end = Instant::now() + time;
        self.drive(&mut rest, |_, now| now >= end)
    }

    /// Ends the streams of all sessions and waits until the server has ended them too, so that no
    /// contact of theirs is taken to be online in the next run.
    ///
    /// # Errors
    /// If the server leaves some open for 10 seconds.
    pub fn dismiss(&mut self) -> Result<(), String> {
        let online = self
            .sessions
            .iter()
            .filter(|(_, session)| session.is_online());
        let online: Vec<_> = online.map(|(id, _)| id).collect();
        let mut dismissal = Dismissal {
            open: online.len(),
            last: Instant::now(),
        };
        online.into_iter().for_each(|id| self.close(id));
        self.drive(&mut dismissal, |dismissal, _| dismissal.open == 0)
    }

    /// Opens `count` sessions, session i for account i modulo the accounts, and waits until all are
    /// online; yields their ids in that order.
    ///
    /// # Errors
    /// If one fails, or none arrives for 30 seconds.
    pub fn muster(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let accounts = self.logins.accounts.len();
        let session = |index| (index % accounts, index / accounts);
        self.muster_as((0..count).map(session))
    }

    /// The same for a session of each of these accounts.
    ///
    /// # Errors
    /// As above.
    pub fn muster_accounts(&mut self, accounts: &[usize]) -> Result<Vec<usize>, String> {
        self.muster_as(accounts.iter().map(|&account| (account, 0)))
    }

    /// Opens a session for each account and number of its resource.
    fn muster_as(
        &mut self,
        wanted: impl ExactSizeIterator<Item = (usize, usize)>,
    ) -> Result<Vec<usize>, String> {
        let count = wanted.len();
        let mut wanted = wanted;
        let mut arrivals = Arrivals {
            pending: 0,
            last: Instant::now(),
            failure: None,
        };
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count || arrivals.pending > 0 {
            while arrivals.pending < ARRIVALS_MAX {
                let Some((account, resource)) = wanted.next() else {
                    break;
                };
                let id = self.open(account, &format!("load{resource}"));
                ids.push(id.map_err(|e| format!("session {}: {e}", ids.len()))?);
                arrivals.pending += 1;
            }
            self.turn(&mut arrivals, Some(Duration::from_secs(1)))
                .map_err(|e| e.to_string())?;
            if let Some(failure) = arrivals.failure {
                return Err(failure.to_string());
            }
            if arrivals.last.elapsed() > ARRIVAL_PATIENCE {
                let waiting = self
                    .sessions
                    .iter()
                    .find(|(_, session)| !session.is_online());
                let doing = waiting.map_or("gone", |(_, session)| session.doing());
                let pending = arrivals.pending;
                return Err(format!("no login for 30 s; {pending} wait, one {doing}"));
            }
        }
        Ok(ids)
    }

    /// TLS version, cipher suite and group of some session.
    pub fn tls_facts(&self) -> Option<[String; 4]> {
        self.sessions
            .iter()
            .find_map(|(_, session)| session.connection.tls_facts())
    }
}

/// Asks for writability only while it is needed. With both asked for all the time, whatever arrives
/// while a session is being handled would end the next sleep once more, for nothing.
fn watch(registry: &Registry, id: usize, session: &mut Session) -> io::Result<()> {
    let wanted = session.wants_write();
    if wanted != session.watches_writes {
        let interest = if wanted { BOTH } else { Interest::READABLE };
        registry.reregister(&mut session.connection.socket, Token(id), interest)?;
        session.watches_writes = wanted;
    }
    Ok(())
}

/// The workload of [`Fleet::muster`].
struct Arrivals {
    pending: usize,
    last: Instant,
    failure: Option<Failure>,
}

impl Workload for Arrivals {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {
        self.pending -= 1;
        self.last = Instant::now();
    }

    fn stanza(&mut self, _: &mut Fleet, _: usize, _: &[u8], _: Instant) {}

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

/// The course of [`Fleet::rest`].
struct Rest {
    failure: Option<Failure>,
}

impl Workload for Rest {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, _: &mut Fleet, _: usize, _: &[u8], _: Instant) {}

    fn closed(&mut self, _: &mut Fleet, _: usize) {}

    fn failed(&mut self, _: &mut Fleet, _: usize, failure: Failure) {
        self.failure.get_or_insert(failure);
    }
}

impl Course for Rest {
    fn trouble(&mut self) -> Option<String> {
        self.failure.take().map(|failure| failure.to_string())
    }

    fn last(&self) -> Instant {
        Instant::now()
    }

    fn waits_for(&self) -> String {
        "only time".into()
    }
}

/// The course of [`Fleet::dismiss`].
struct Dismissal {
    open: usize,
    last: Instant,
}

impl Workload for Dismissal {
    fn arrived(&mut self, _: &mut Fleet, _: usize) {}

    fn stanza(&mut self, _: &mut Fleet, _: usize, _: &[u8], _: Instant) {}

    fn closed(&mut self, _: &mut Fleet, _: usize) {
        self.open -= 1;
        self.last = Instant::now();
    }

    fn failed(&mut self, fleet: &mut Fleet, _: usize, _: Failure) {
        // However it ended, it is gone; one that was not online was not counted.
        self.open = self.open.min(fleet.sessions.len());
        self.last = Instant::now();
    }
}

impl Course for Dismissal {
    fn trouble(&mut self) -> Option<String> {
        None
    }

    fn last(&self) -> Instant {
        self.last
    }

    fn waits_for(&self) -> String {
        format!("{} streams have not ended", self.open)
    }
}

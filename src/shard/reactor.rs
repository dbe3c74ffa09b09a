//! The thread of a shard: a mio poll, the mailbox, and the turn between them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::clock::{Clock, Mono};
use crate::dns::{Dns, Question, Refused};
use crate::limits::{STOP_WAIT, TURN_POSTS_MAX};
use crate::net::random::RandomPool;
use crate::net::transport::Transport;
use crate::post::{Address, Gates, Mailbox};
use crate::router::settlement;
use crate::shard::Post;
use crate::shard::turn::{Due, Outside, Ready, Shard};
use crate::slots::Key;
use crate::storage::{Batch, Lane, ReadFn, Store, Value};
use crate::workers::Workers;

/// The poll's token of the mailbox; connections have their slab positions.
const MAILBOX: Token = Token(usize::MAX);
/// Socket events taken in one turn.
const EVENTS_MAX: usize = 1024;

/// The poll of a shard that has not started. It exists before the thread, so that others can have the
/// waker.
pub struct Sleeper {
    poll: Poll,
    registry: Registry,
    waker: Arc<Waker>,
}

/// What all shards of the process share.
#[derive(Clone)]
pub struct Surroundings {
    /// The mailboxes of all shards, in order.
    pub shards: Vec<Address<Post>>,
    /// The store.
    pub store: Store,
    /// The threads that hash passwords.
    pub workers: Workers,
    /// The resolver.
    pub dns: Dns,
    /// Whether some receiver is above its mark.
    pub gates: Gates,
    /// The process's clock.
    pub clock: Clock,
    /// How many shards have come to rest since they were told to stop.
    pub at_rest: Arc<AtomicUsize>,
}

impl Sleeper {
    /// A poll with its waker.
    ///
    /// # Errors
    /// The operating system's, such as no descriptors left.
    pub fn new() -> io::Result<Sleeper> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), MAILBOX)?);
        // A descriptor, so not left to the thread: all of its own are counted before there are clients.
        let registry = poll.registry().try_clone()?;
        Ok(Sleeper {
            poll,
            registry,
            waker,
        })
    }

    /// What wakes the shard.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Runs the shard on this thread until it has stopped.
    ///
    /// # Errors
    /// The poll's; nothing can be served after that.
    pub fn run(
        self,
        mut shard: Shard,
        mut mailbox: Mailbox<Post>,
        surroundings: Surroundings,
    ) -> io::Result<()> {
        let Sleeper {
            mut poll, registry, ..
        } = self;
        let clock = surroundings.clock;
        let mut world = World {
            registry,
            index: shard.router.shard as usize,
            surroundings,
            random: RandomPool::default(),
        };
        let mut events = Events::with_capacity(EVENTS_MAX);
        let (mut posts, mut ready) = (Vec::new(), Vec::new());
        let mut due = Due::Never;
        let mut stop_by: Option<Mono> = None;
        let mut has_rested = false;
        loop {
            let timeout = timeout(due, stop_by, clock.now().mono);
            if let Err(error) = poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let now = clock.now();
            ready.clear();
            let sockets = events.iter().filter(|event| event.token() != MAILBOX);
            ready.extend(sockets.map(|event| Ready {
                index: event.token().0,
                is_closed: event.is_read_closed() || event.is_error(),
            }));
            // Before the mailbox is looked at: what others posted before they came to rest is in it.
            let are_all_at_rest = world.are_all_at_rest();
            let has_more = mailbox.drain(TURN_POSTS_MAX, &mut posts);
            if posts.iter().any(|post| matches!(post, Post::Stop)) {
                stop_by = Some(now.mono + STOP_WAIT);
            }
            due = shard.turn(now, &mut posts, &ready, &mut world);
            if has_more {
                due = Due::Now;
            }
            let is_late = stop_by.is_some_and(|stop_by| stop_by <= now.mono);
            if (shard.is_stopped() || is_late) && !has_rested {
                has_rested = true;
                world.comes_to_rest();
            }
            if is_late || (shard.is_stopped() && !has_more && are_all_at_rest) {
                if is_late && shard.connections() > 0 {
                    log::warn!(
                        shard = shard.router.shard, connections = shard.connections();
                        "stopped with open connections"
                    );
                }
                settlement::process_ends();
                return Ok(());
            }
        }
    }
}

fn timeout(due: Due, stop_by: Option<Mono>, now: Mono) -> Option<Duration> {
    let due = match due {
        Due::Now => return Some(Duration::ZERO),
        Due::At(due) => Some(due),
        Due::Never => None,
    };
    let first = match (due, stop_by) {
        (Some(due), Some(stop_by)) => Some(due.min(stop_by)),
        (due, stop_by) => due.or(stop_by),
    };
    // One more, since the clock counts whole milliseconds and must have passed the due one.
    first.map(|first| first.since(now) + Duration::from_millis(1))
}

/// The real world, as a shard's turn sees it.
struct World {
    registry: Registry,
    index: usize,
    surroundings: Surroundings,
    random: RandomPool,
}

impl World {
    /// Tells the other shards, once, that this one has no connections left and waits for nothing. A
    /// shard without connections must not end before them: stanzas that clients have sent to its
    /// accounts are on their way, and are to be stored.
    fn comes_to_rest(&self) {
        let Surroundings {
            at_rest, shards, ..
        } = &self.surroundings;
        let count = at_rest.fetch_add(1, Ordering::AcqRel) + 1;
        if count == shards.len() {
            for shard in shards {
                shard.send(vec![Post::AllAtRest]);
            }
        }
    }

    fn are_all_at_rest(&self) -> bool {
        let Surroundings {
            at_rest, shards, ..
        } = &self.surroundings;
        at_rest.load(Ordering::Acquire) >= shards.len()
    }
}

impl Outside for World {
    fn register(&mut self, key: Key, transport: &dyn Transport) -> io::Result<()> {
        let Some(fd) = transport.raw_fd() else {
            return Ok(());
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry
            .register(&mut SourceFd(&fd), Token(key.index()), interest)
    }

    fn deregister(&mut self, transport: &dyn Transport) {
        if let Some(fd) = transport.raw_fd()
            && let Err(error) = self.registry.deregister(&mut SourceFd(&fd))
        {
            log::debug!(error:%; "socket not deregistered");
        }
    }

    fn post(&mut self, shard: u32, posts: Vec<Post>) {
        if let Some(address) = self.surroundings.shards.get(shard as usize) {
            address.send(posts);
        }
    }

    fn write(&mut self, batch: Batch) {
        self.surroundings.store.write(self.index, batch);
    }

    fn read(&mut self, id: u64, lane: Lane, read: ReadFn) {
        self.surroundings.store.read(self.index, id, lane, read);
    }

    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool {
        self.surroundings
            .workers
            .submit(self.index, conn.to_bits(), 0, job)
            .is_ok()
    }

    fn resolve(&mut self, id: Key, question: Question) -> Result<(), Refused> {
        self.surroundings
            .dns
            .ask(self.index, id.to_bits(), question)
    }

    fn random(&mut self, buffer: &mut [u8]) {
        self.random.fill(buffer);
    }

    fn is_gate_shut(&self) -> bool {
        self.surroundings.gates.any_shut()
    }
}

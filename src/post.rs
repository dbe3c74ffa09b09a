//! Posts between threads: batches over a crossbeam channel with one wake, and the load that shuts
//! a receiver's gate (`Threads` in lib.rs, `Backpressure` in lib.rs).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};

/// Bytes and posts that wait for one receiver. Senders add, the receiver subtracts. Above a mark the
/// gate shuts, and every shard stops reading sockets until the load is below half of the mark.
#[derive(Debug)]
pub struct Load {
    bytes: AtomicUsize,
    posts: AtomicUsize,
    shut: AtomicBool,
    bytes_max: usize,
    posts_max: usize,
    gates: Gates,
}

/// How many gates are shut, over all receivers of the process. Shared by all of them.
#[derive(Clone, Debug, Default)]
pub struct Gates(Arc<AtomicUsize>);

impl Gates {
    /// Whether any receiver is above its mark.
    pub fn any_shut(&self) -> bool {
        self.shut() > 0
    }

    /// How many receivers are above their marks.
    pub fn shut(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Load {
    /// An empty load with its marks.
    pub fn new(bytes_max: usize, posts_max: usize, gates: Gates) -> Load {
        Load {
            bytes: AtomicUsize::new(0),
            posts: AtomicUsize::new(0),
            shut: AtomicBool::new(false),
            bytes_max,
            posts_max,
            gates,
        }
    }

    /// Counts what was sent, and shuts the gate above the mark.
    pub fn add(&self, bytes: usize, posts: usize) {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let posts = self.posts.fetch_add(posts, Ordering::Relaxed) + posts;
        if (bytes > self.bytes_max || posts > self.posts_max)
            && !self.shut.swap(true, Ordering::Relaxed)
        {
            self.gates.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes off what was received, and opens the gate below half of the mark.
    pub fn sub(&self, bytes: usize, posts: usize) {
        let bytes = self.bytes.fetch_sub(bytes, Ordering::Relaxed) - bytes;
        let posts = self.posts.fetch_sub(posts, Ordering::Relaxed) - posts;
        if bytes <= self.bytes_max / 2
            && posts <= self.posts_max / 2
            && self.shut.load(Ordering::Relaxed)
            && self.shut.swap(false, Ordering::Relaxed)
        {
            self.gates.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Bytes that wait now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Posts that wait now.
    pub fn posts(&self) -> usize {
        self.posts.load(Ordering::Relaxed)
    }
}

/// What a post costs while it waits.
pub trait Weigh {
    /// Bytes, roughly: payloads count, small fixed parts need not.
    fn weight(&self) -> usize;
}

struct Shared {
    pending: AtomicBool,
    load: Load,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// The sending side of a mailbox. Cheap to clone; usable from any thread.
pub struct Address<T> {
    tx: Sender<Vec<T>>,
    shared: Arc<Shared>,
}

/// The receiving side, owned by one thread.
pub struct Mailbox<T> {
    rx: Receiver<Vec<T>>,
    shared: Arc<Shared>,
    rest: std::vec::IntoIter<T>,
}

/// A mailbox and its address. `wake` makes the receiver's thread look into it; it is called at most
/// once between two drains.
pub fn mailbox<T: Weigh>(
    load: Load,
    wake: impl Fn() + Send + Sync + 'static,
) -> (Address<T>, Mailbox<T>) {
    let (tx, rx) = unbounded();
    let shared = Arc::new(Shared {
        pending: AtomicBool::new(false),
        load,
        wake: Box::new(wake),
    });
    let address = Address {
        tx,
        shared: Arc::clone(&shared),
    };
    let rest = Vec::new().into_iter();
    (address, Mailbox { rx, shared, rest })
}

impl<T> Clone for Address<T> {
    fn clone(&self) -> Self {
        Address {
            tx: self.tx.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Weigh> Address<T> {
    /// Sends a batch and wakes the receiver once. Posts to a receiver that has ended are dropped:
    /// that happens only while the process stops.
    pub fn send(&self, batch: Vec<T>) {
        if batch.is_empty() {
            return;
        }
        let bytes = batch.iter().map(Weigh::weight).sum();
        self.shared.load.add(bytes, batch.len());
        if self.tx.send(batch).is_err() {
            return;
        }
        if !self.shared.pending.swap(true, Ordering::AcqRel) {
            (self.shared.wake)();
        }
    }

    /// The load of the receiver.
    pub fn load(&self) -> &Load {
        &self.shared.load
    }
}

impl<T: Weigh> Mailbox<T> {
    /// Moves at most `max` posts into `into` and tells whether more are waiting.
    pub fn drain(&mut self, max: usize, into: &mut Vec<T>) -> bool {
        // Before the channel is read, not after: a batch that arrives in between wakes again.
        self.shared.pending.swap(false, Ordering::AcqRel);
        let before = into.len();
        while into.len() - before < max {
            if let Some(post) = self.rest.next() {
                into.push(post);
            } else if let Ok(batch) = self.rx.try_recv() {
                self.rest = batch.into_iter();
            } else {
                break;
            }
        }
        let taken = &into[before..];
        if !taken.is_empty() {
            let bytes = taken.iter().map(Weigh::weight).sum();
            self.shared.load.sub(bytes, taken.len());
        }
        self.rest.len() > 0 || !self.rx.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for u32 {
        fn weight(&self) -> usize {
            10
        }
    }

    #[test]
    fn a_batch_wakes_once_until_drained() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let load = Load::new(1000, 100, Gates::default());
        let (address, mut mailbox) = mailbox::<u32>(load, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        address.send(vec![1, 2]);
        address.send(vec![3]);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        let mut got = Vec::new();
        assert!(mailbox.drain(2, &mut got));
        assert!(!mailbox.drain(2, &mut got));
        assert_eq!(got, [1, 2, 3]);
        address.send(vec![4]);
        assert_eq!(wakes.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_gate_shuts_above_its_mark_and_opens_below_half() {
        let gates = Gates::default();
        let (address, mut mailbox) = mailbox::<u32>(Load::new(1000, 4, gates.clone()), || {});
        address.send(vec![0; 5]);
        assert!(gates.any_shut());
        let mut got = Vec::new();
        mailbox.drain(2, &mut got);
        assert!(gates.any_shut(), "three of four are above half");
        mailbox.drain(1, &mut got);
        assert!(!gates.any_shut());
        assert_eq!(address.load().posts(), 2);
        assert_eq!(address.load().bytes(), 20);
    }
}

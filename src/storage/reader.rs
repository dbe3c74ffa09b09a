//! The threads that read, and the two lanes in which reads wait for them.
//!
//! The queue is a mutex and not a channel because a reader takes the next read by lane and owner,
//! not by age. The lock is held to put a read in or take one out, never while one runs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::error::{OpenError, StoreError};
use super::trouble::Trouble;
use super::{
    Answer, Answers, CLOSURE_BYTES, Db, Fatal, Lane, ReadFn, Value, schema, suspicion, system_error,
};
use crate::limits;
use crate::post::Load;

/// A read that waits.
pub(super) struct Job {
    shard: usize,
    id: u64,
    lane: Lane,
    read: ReadFn,
}

impl Job {
    pub(super) fn new(shard: usize, id: u64, lane: Lane, read: ReadFn) -> Job {
        Job {
            shard,
            id,
            lane,
            read,
        }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    /// Its answer, when it is not to run.
    pub(super) fn refused(self) -> Answer {
        Answer::Read {
            id: self.id,
            result: Err(StoreError::Stopped),
        }
    }

    fn weight(&self) -> usize {
        CLOSURE_BYTES + size_of_val(&*self.read)
    }
}

/// The order of reads. Knows nothing of threads.
struct Lanes<T> {
    quick: VecDeque<T>,
    /// The bulk reads of each owner that has some waiting.
    bulk: HashMap<u64, VecDeque<T>>,
    /// The owners in `bulk` of whom none is running, in the order of their turns.
    turns: VecDeque<u64>,
    running: HashSet<u64>,
    running_max: usize,
}

impl<T> Lanes<T> {
    fn new(running_max: usize) -> Lanes<T> {
        Lanes {
            quick: VecDeque::new(),
            bulk: HashMap::new(),
            turns: VecDeque::new(),
            running: HashSet::new(),
            running_max,
        }
    }

    fn push(&mut self, lane: Lane, job: T) {
        match lane {
            Lane::Quick => self.quick.push_back(job),
            Lane::Bulk { owner } => {
                let waiting = self.bulk.entry(owner).or_default();
                waiting.push_back(job);
                if waiting.len() == 1 && !self.running.contains(&owner) {
                    self.turns.push_back(owner);
                }
            }
        }
    }

    /// The read that is to run now. A bulk read runs until [`Lanes::finished`].
    fn pop(&mut self) -> Option<T> {
        if let Some(job) = self.quick.pop_front() {
            return Some(job);
        }
        if self.running.len() >= self.running_max {
            return None;
        }
        let owner = self.turns.pop_front()?;
        let waiting = self.bulk.get_mut(&owner)?;
        let job = waiting.pop_front()?;
        if waiting.is_empty() {
            self.bulk.remove(&owner);
        }
        self.running.insert(owner);
        Some(job)
    }

    fn finished(&mut self, lane: Lane) {
        if let Lane::Bulk { owner } = lane {
            self.running.remove(&owner);
            if self.bulk.contains_key(&owner) {
                self.turns.push_back(owner);
            }
        }
    }

    fn drain(&mut self) -> Vec<T> {
        self.turns.clear();
        let bulk = std::mem::take(&mut self.bulk).into_values().flatten();
        self.quick.drain(..).chain(bulk).collect()
    }
}

struct State {
    lanes: Lanes<Job>,
    is_closed: bool,
}

/// Reads that wait for a reader.
pub(super) struct ReadQueue {
    state: Mutex<State>,
    changed: Condvar,
    load: Load,
}

impl ReadQueue {
    /// A queue for that many readers. One of several takes quick reads only, so that a login never
    /// waits for somebody's search.
    pub(super) fn new(readers: usize, load: Load) -> ReadQueue {
        let bulk_max = readers.saturating_sub(1).max(1);
        ReadQueue {
            state: Mutex::new(State {
                lanes: Lanes::new(bulk_max),
                is_closed: false,
            }),
            changed: Condvar::new(),
            load,
        }
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// Puts a read in its lane, or gives it back when the queue is closed.
    pub(super) fn push(&self, job: Job) -> Result<(), Job> {
        let mut state = self.state();
        if state.is_closed {
            return Err(job);
        }
        self.load.add(job.weight(), 1);
        state.lanes.push(job.lane, job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Ends the readers after what they are at, and yields the reads that have not begun.
    pub(super) fn close(&self) -> Vec<Job> {
        let mut state = self.state();
        state.is_closed = true;
        let waiting = state.lanes.drain();
        drop(state);
        self.changed.notify_all();
        for job in &waiting {
            self.load.sub(job.weight(), 1);
        }
        waiting
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(job) = state.lanes.pop() {
                self.load.sub(job.weight(), 1);
                return Some(job);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finished(&self, lane: Lane) {
        self.state().lanes.finished(lane);
        // No one to wake: this reader looks for the next read itself, and a read that this one
        // made possible is one more than it can take only if another reader is busy.
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steps of SQLite's virtual machine between two looks at the budget.
const STEPS_PER_LOOK: u32 = 1_000;

/// A read-only connection whose reads end after a number of steps.
pub(super) struct Reader {
    path: PathBuf,
    db: Db,
    /// Looks that are left for the current read.
    looks: Arc<AtomicU32>,
    /// Whether a read has failed on this connection.
    has_failed: bool,
    answers: Arc<dyn Answers>,
    fatal: Fatal,
    /// Shared by all readers.
    trouble: Arc<Mutex<Trouble>>,
}

impl Reader {
    pub(super) fn open(
        path: &Path,
        answers: &Arc<dyn Answers>,
        fatal: &Fatal,
        trouble: &Arc<Mutex<Trouble>>,
    ) -> Result<Reader, OpenError> {
        let looks = Arc::new(AtomicU32::new(0));
        Ok(Reader {
            path: path.to_owned(),
            db: connect(path, &looks)?,
            looks,
            has_failed: false,
            answers: Arc::clone(answers),
            fatal: Arc::clone(fatal),
            trouble: Arc::clone(trouble),
        })
    }

    /// Reads until the queue is closed.
    pub(super) fn run(mut self, queue: &ReadQueue) {
        while let Some(job) = queue.next() {
            let Job {
                shard,
                id,
                lane,
                read,
            } = job;
            if self.has_failed {
                self.forget_system_error();
            }
            let result = self.read(lane, read);
            self.tell(result.as_ref().err());
            self.has_failed |= result.is_err();
            // Before the owner's next read may begin, so that its answers keep their order.
            self.answers
                .answer(shard, vec![Answer::Read { id, result }]);
            queue.finished(lane);
        }
    }

    fn tell(&self, error: Option<&StoreError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if error.is_fatal() => {
                suspicion::raise(&self.path, error);
                (self.fatal)(&error.last_words(&self.path));
            }
            Some(error) if error.is_of_disk() => trouble.failed(Instant::now(), error),
            _ if trouble.lasts() => trouble.worked(Instant::now()),
            _ => {}
        }
    }

    fn read(&self, lane: Lane, read: ReadFn) -> Result<Value, StoreError> {
        let steps = match lane {
            Lane::Quick => limits::QUICK_READ_STEPS_MAX,
            Lane::Bulk { .. } => limits::BULK_READ_STEPS_MAX,
        };
        self.looks.store(steps / STEPS_PER_LOOK, Ordering::Relaxed);
        let result = snapshot(&self.db, read);
        // Without a limit, or a read that used its budget up could not be ended.
        self.looks.store(u32::MAX, Ordering::Relaxed);
        let ended = if self.db.connection().is_autocommit() {
            Ok(())
        } else {
            self.db.execute("ROLLBACK")
        };
        let result = result.and_then(|value| ended.map(|()| value));
        result.map_err(|error| system_error::clarify(self.db.connection(), error))
    }

    /// See [`system_error::clarify`].
    fn forget_system_error(&mut self) {
        if system_error::is_told(self.db.connection()) {
            match connect(&self.path, &self.looks) {
                Ok(db) => self.db = db,
                Err(error) => {
                    log::debug!(error:%; "database not opened again");
                    return;
                }
            }
        }
        self.has_failed = false;
    }
}

/// A connection whose statements end when no looks are left.
fn connect(path: &Path, looks: &Arc<AtomicU32>) -> Result<Db, OpenError> {
    let mut connection = schema::open_again(path, true)?;
    let left = Arc::clone(looks);
    let is_over = move || {
        let looks = left.load(Ordering::Relaxed);
        left.store(looks.saturating_sub(1), Ordering::Relaxed);
        looks == 0
    };
    let interval = i32::try_from(STEPS_PER_LOOK).expect("it is a small number");
    connection
        .progress_handler(interval, Some(is_over))
        .map_err(OpenError::database("cannot limit reads", path))?;
    Ok(Db::new(connection))
}

/// Runs a read in a transaction, so that all its statements see the same state. Left open.
fn snapshot(db: &Db, read: ReadFn) -> Result<Value, StoreError> {
    db.execute("BEGIN")?;
    read(db)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Lane = Lane::Bulk { owner: 1 };
    const B: Lane = Lane::Bulk { owner: 2 };

    #[test]
    fn quick_reads_go_first() {
        let mut lanes = Lanes::new(1);
        lanes.push(A, "bulk");
        lanes.push(Lane::Quick, "first");
        lanes.push(Lane::Quick, "second");
        assert_eq!(lanes.pop(), Some("first"));
        assert_eq!(lanes.pop(), Some("second"));
        assert_eq!(lanes.pop(), Some("bulk"));
        assert_eq!(lanes.pop(), None);
    }

    #[test]
    fn an_owner_with_many_reads_does_not_keep_another_waiting() {
        let mut lanes = Lanes::new(1);
        for job in ["a1", "a2", "a3"] {
            lanes.push(A, job);
        }
        lanes.push(B, "b1");
        assert_eq!(lanes.pop(), Some("a1"));
        lanes.finished(A);
        assert_eq!(lanes.pop(), Some("b1"));
        lanes.finished(B);
        assert_eq!(lanes.pop(), Some("a2"));
    }

    #[test]
    fn one_bulk_read_of_an_owner_runs_at_a_time() {
        let mut lanes = Lanes::new(8);
        lanes.push(A, "a1");
        lanes.push(A, "a2");
        assert_eq!(lanes.pop(), Some("a1"));
        assert_eq!(lanes.pop(), None);
        lanes.finished(A);
        assert_eq!(lanes.pop(), Some("a2"));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Push(Lane),
        Pop,
        /// Ends one of the running bulk reads, if there is one.
        Finish(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            1 => Just(Event::Push(Lane::Quick)),
            3 => (0_u64..4).prop_map(|owner| Event::Push(Lane::Bulk { owner })),
            3 => Just(Event::Pop),
            3 => any::<usize>().prop_map(Event::Finish),
        ]
    }

    proptest! {
        #[test]
        fn every_read_runs_once_in_its_owners_order_within_the_bounds(
            events in proptest::collection::vec(event(), 0..200),
            running_max in 1_usize..4,
        ) {
            let mut lanes = Lanes::new(running_max);
            let mut waiting: Vec<(Lane, usize)> = Vec::new();
            let mut running: Vec<Lane> = Vec::new();
            let drain = std::iter::repeat_n([Event::Pop, Event::Finish(0)], 400).flatten();
            for (number, event) in events.into_iter().chain(drain).enumerate() {
                match event {
                    Event::Push(lane) => {
                        lanes.push(lane, (lane, number));
                        waiting.push((lane, number));
                    }
                    Event::Pop => {
                        let may_run = |lane: &Lane| match lane {
                            Lane::Quick => true,
                            Lane::Bulk { .. } => running.len() < running_max && !running.contains(lane),
                        };
                        let Some((lane, number)) = lanes.pop() else {
                            prop_assert!(!waiting.iter().any(|(lane, _)| may_run(lane)));
                            continue;
                        };
                        prop_assert!(may_run(&lane));
                        let has_quick = waiting.iter().any(|(lane, _)| *lane == Lane::Quick);
                        prop_assert_eq!(lane == Lane::Quick, has_quick);
                        let first = waiting.iter().position(|(other, _)| *other == lane);
                        prop_assert_eq!(first.map(|at| waiting.remove(at).1), Some(number));
                        if lane != Lane::Quick {
                            running.push(lane);
                        }
                    }
                    Event::Finish(which) if !running.is_empty() => {
                        lanes.finished(running.remove(which % running.len()));
                    }
                    Event::Finish(_) => {}
                }
            }
            prop_assert!(waiting.is_empty());
        }
    }
}

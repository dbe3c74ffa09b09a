//! The threads for work that would hold up a shard: password hashing by bcrypt and PBKDF2.
//!
//! They run at a lower priority, so that a wave of logins takes what the shards leave. Unlike other
//! receivers they have a queue that can be full: one job costs as much as a thousand stanzas, and if
//! only the gate bounded them, a wave of logins would stop the reading of every socket for minutes.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError};

use crate::limits;
use crate::post::{Gates, Load};

/// What a job yields; who submitted it knows its type.
pub type Value = Box<dyn Any + Send>;
/// Costly work without side effects. It cannot fail but by what it yields: a panic ends the process.
pub type Work = Box<dyn FnOnce() -> Value + Send>;

/// Where results go: a shard's mailbox. Called on the workers' threads; must not wait.
pub trait Done: Send + Sync {
    /// The job `id` of that shard has yielded `value`.
    fn done(&self, shard: usize, id: u64, value: Value);
}

/// The job was not taken, and [`Done::done`] will not be called for it: the client is to be told
/// `temporary-auth-failure` (RFC 6120 §6.5.11), or the wish to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// As many jobs wait as the bound allows.
    Full,
    /// The workers have been stopped.
    Stopped,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "too many passwords wait to be checked",
            Refused::Stopped => "the server is stopping",
        })
    }
}

impl std::error::Error for Refused {}

/// The running workers: a handle for any thread, cheap to clone.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: Sender<Job>,
    load: Load,
    done: Arc<dyn Done>,
    is_stopping: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

enum Job {
    Work {
        shard: usize,
        id: u64,
        bytes: usize,
        work: Work,
    },
    /// Ends the thread that receives it.
    End,
}

/// Added to the process's nice value, of 19 at most.
const NICE: i32 = 10;

impl Workers {
    /// Starts that many threads (at least one) with a gate of their own.
    ///
    /// # Errors
    /// Those of creating a thread.
    pub fn start(threads: usize, done: Arc<dyn Done>) -> io::Result<Workers> {
        Workers::start_with(threads, done, Gates::default())
    }

    /// Starts that many threads (at least one). One for two cores is enough: what they do is rare,
    /// and each occupies a core while it works.
    ///
    /// # Errors
    /// Those of creating a thread.
    pub fn start_with(threads: usize, done: Arc<dyn Done>, gates: Gates) -> io::Result<Workers> {
        let threads = threads.max(1);
        let (jobs, received) =
            crossbeam_channel::bounded(threads.saturating_mul(limits::WORKER_JOBS_MAX));
        let workers = Workers {
            shared: Arc::new(Shared {
                jobs,
                load: Load::new(limits::WAITING_BYTES_MAX, limits::WAITING_POSTS_MAX, gates),
                done,
                is_stopping: AtomicBool::new(false),
                threads: Mutex::new(Vec::new()),
            }),
        };
        for number in 0..threads {
            let (shared, received) = (Arc::clone(&workers.shared), received.clone());
            let thread = thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || shared.run(&received))
                .inspect_err(|_| workers.end())?;
            workers.threads().push(thread);
        }
        Ok(workers)
    }

    /// Hands a job over. `cost_bytes` is the memory that it holds while it waits.
    ///
    /// # Errors
    /// [`Refused`], at once; the job is dropped.
    pub fn submit(
        &self,
        shard: usize,
        id: u64,
        cost_bytes: usize,
        work: Work,
    ) -> Result<(), Refused> {
        let shared = &self.shared;
        if shared.is_stopping.load(Ordering::Relaxed) {
            return Err(Refused::Stopped);
        }
        // Counted before it is sent: the receiver may be quick to take it off again.
        shared.load.add(cost_bytes, 1);
        let job = Job::Work {
            shard,
            id,
            bytes: cost_bytes,
            work,
        };
        let refused = match shared.jobs.try_send(job) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(_)) => Refused::Full,
            Err(TrySendError::Disconnected(_)) => Refused::Stopped,
        };
        shared.load.sub(cost_bytes, 1);
        Err(refused)
    }

    /// What waits for the workers.
    pub fn load(&self) -> &Load {
        &self.shared.load
    }

    /// Ends the threads, each after the job that it is at, and returns then. Jobs that wait are
    /// dropped without an answer: whose logins they are is disconnected by now.
    pub fn stop(self) {
        self.end();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            let name = thread.thread().name().unwrap_or("worker").to_owned();
            if thread.join().is_err() {
                log::error!("worker-panicked thread={name}");
            }
        }
    }

    fn end(&self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        // Threads that are at a job see the flag after it; those that wait need a word. A full
        // queue has none that waits.
        for _ in 0..self.threads().len() {
            match self.shared.jobs.try_send(Job::End) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.shared
            .threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn run(&self, received: &Receiver<Job>) {
        lower_priority();
        for job in received {
            let Job::Work {
                shard,
                id,
                bytes,
                work,
            } = job
            else {
                return;
            };
            self.load.sub(bytes, 1);
            if self.is_stopping.load(Ordering::Relaxed) {
                return;
            }
            self.done.done(shard, id, work());
        }
    }
}

/// Makes the calling thread give way to others.
#[cfg(target_os = "linux")]
fn lower_priority() {
    // On Linux a nice value belongs to a thread, and the call without an id means the calling one
    // (setpriority(2), "C library/kernel differences"; sched(7), "The nice value").
    if let Err(error) = rustix::process::nice(NICE) {
        log::warn!("cannot lower the priority of a worker error={error}");
    }
}

/// Elsewhere a nice value belongs to the whole process.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{RecvError, unbounded};

    use super::*;

    struct Collect(Sender<(usize, u64, Value)>);

    impl Done for Collect {
        fn done(&self, shard: usize, id: u64, value: Value) {
            self.0.send((shard, id, value)).unwrap();
        }
    }

    fn start(threads: usize, gates: Gates) -> (Workers, Receiver<(usize, u64, Value)>) {
        let (tx, rx) = unbounded();
        let workers = Workers::start_with(threads, Arc::new(Collect(tx)), gates).unwrap();
        (workers, rx)
    }

    /// A job that tells that it has begun and then waits for the sender to be dropped.
    fn occupy(workers: &Workers) -> Sender<()> {
        let (hold, held) = unbounded::<()>();
        let (begun, has_begun) = unbounded();
        let work = move || {
            begun.send(()).unwrap();
            assert_eq!(held.recv(), Err(RecvError));
            Box::new(()) as Value
        };
        workers.submit(0, 0, 0, Box::new(work)).unwrap();
        has_begun.recv().unwrap();
        hold
    }

    #[test]
    fn a_result_comes_back_to_the_shard_that_asked() {
        let (workers, results) = start(2, Gates::default());
        workers
            .submit(3, 17, 0, Box::new(|| Box::new(6 * 7)))
            .unwrap();
        let (shard, id, value) = results.recv().unwrap();
        assert_eq!((shard, id, *value.downcast::<i32>().unwrap()), (3, 17, 42));
        workers.stop();
    }

    #[test]
    fn more_jobs_than_the_bound_are_refused_and_not_counted() {
        let (workers, results) = start(1, Gates::default());
        let hold = occupy(&workers);
        for id in 0..limits::WORKER_JOBS_MAX {
            workers
                .submit(0, id as u64, 10, Box::new(|| Box::new(())))
                .unwrap();
        }
        let one_more = workers.submit(0, 999, 10, Box::new(|| Box::new(())));
        assert_eq!(one_more, Err(Refused::Full));
        assert_eq!(workers.load().posts(), limits::WORKER_JOBS_MAX);
        assert_eq!(workers.load().bytes(), limits::WORKER_JOBS_MAX * 10);
        drop(hold);
        for _ in 0..=limits::WORKER_JOBS_MAX {
            results.recv().unwrap();
        }
        assert_eq!(workers.load().posts(), 0);
        assert_eq!(workers.load().bytes(), 0);
        workers.stop();
        assert!(results.try_recv().is_err(), "the refused job has not run");
    }

    #[test]
    fn heavy_jobs_shut_the_gate_while_they_wait() {
        let gates = Gates::default();
        let (workers, results) = start(1, gates.clone());
        let hold = occupy(&workers);
        let bytes = limits::WAITING_BYTES_MAX + 1;
        workers
            .submit(0, 1, bytes, Box::new(|| Box::new(())))
            .unwrap();
        assert!(gates.any_shut());
        drop(hold);
        results.recv().unwrap();
        results.recv().unwrap();
        assert!(!gates.any_shut());
        workers.stop();
    }

    #[test]
    fn stopping_ends_waiting_and_busy_threads_and_drops_the_rest() {
        let (workers, results) = start(2, Gates::default());
        let holds = (occupy(&workers), occupy(&workers));
        workers.submit(0, 5, 0, Box::new(|| Box::new(()))).unwrap();
        workers.end();
        assert_eq!(
            workers.submit(0, 6, 0, Box::new(|| Box::new(()))),
            Err(Refused::Stopped)
        );
        drop(holds);
        workers.stop();
        let ids: Vec<u64> = results.try_iter().map(|(_, id, _)| id).collect();
        assert_eq!(ids, [0, 0]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn workers_give_way_to_other_threads() {
        let own = rustix::process::getpriority_process(None).unwrap();
        let (workers, results) = start(1, Gates::default());
        let work = || Box::new(rustix::process::getpriority_process(None).unwrap()) as Value;
        workers.submit(0, 0, 0, Box::new(work)).unwrap();
        let (_, _, value) = results.recv().unwrap();
        assert_eq!(*value.downcast::<i32>().unwrap(), (own + NICE).min(19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), own);
        workers.stop();
    }
}

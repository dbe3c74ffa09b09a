//! The thread that writes: how much goes into one transaction, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::{Answer, Answers, Batch, Fatal, WriterCore};
use crate::limits;
use crate::post::Load;

/// A batch on its way to the writer.
pub(super) struct Queued {
    pub(super) shard: usize,
    pub(super) batch: Batch,
    /// Its weight, counted once.
    pub(super) bytes: usize,
}

/// Jobs after which a group is full enough that waiting for more saves nothing (measured).
const JOBS_ENOUGH: usize = 64;
/// Jobs in one transaction: it bounds how long the first of them waits.
const JOBS_MAX: usize = 2_000;
/// Jobs in the last group from which on a longer wait pays.
const JOBS_MANY: usize = 16;
/// After this much time without a job the next one is taken to be alone.
const IDLE: Duration = Duration::from_millis(2);

/// How long the writer waits for company for its first job.
///
/// A commit costs 50 to 140 µs of CPU however little is in it, so at 5,000 rows a second a commit
/// for each burns a quarter of a core, and waiting 1 ms cuts that to a third; at 20,000, 2 ms give
/// groups of 50 at a p50 of 1.6 ms (`Measured` in lib.rs). But a job that comes after a pause is
/// alone with high odds, and waiting would only delay a person's change: it is committed at once.
/// So the wait begins with the second of jobs that follow each other closely.
fn wait(since_last_commit: Duration, last_jobs: usize, jobs: usize) -> Duration {
    if jobs >= JOBS_ENOUGH || since_last_commit >= IDLE {
        Duration::ZERO
    } else if last_jobs >= JOBS_MANY {
        Duration::from_millis(2)
    } else {
        Duration::from_millis(1)
    }
}

/// The writer's thread.
pub(super) struct Writer {
    pub(super) core: WriterCore,
    pub(super) load: Arc<Load>,
    pub(super) answers: Arc<dyn Answers>,
    pub(super) fatal: Fatal,
    /// Wakes the checkpointer.
    pub(super) written: Sender<()>,
    /// Set by the checkpointer, which never reaches the end of the log while this thread keeps
    /// writing. A checkpoint between two transactions does, and only then does the next one begin
    /// the log anew: else it would grow for as long as the load lasts.
    pub(super) is_log_long: Arc<AtomicBool>,
}

#[derive(Default)]
struct Group {
    batches: Vec<(usize, Batch)>,
    jobs: usize,
    bytes: usize,
}

impl Writer {
    /// Writes until all senders are gone and all that they sent is committed.
    pub(super) fn run(mut self, received: &Receiver<Queued>) -> WriterCore {
        let mut last_commit = Instant::now();
        let mut last_jobs = 0;
        while let Some(first) = self.next(received) {
            let since = last_commit.elapsed();
            let mut group = Group::default();
            self.take(&mut group, first);
            self.take_waiting(&mut group, received);
            let wait = wait(since, last_jobs, group.jobs);
            if !wait.is_zero() {
                // Asleep, and not in `recv`: senders need not wake it once for each batch.
                thread::sleep(wait);
                self.take_waiting(&mut group, received);
            }
            last_jobs = group.jobs;
            self.commit(group.batches);
            last_commit = Instant::now();
        }
        self.core
    }

    /// The next batch. Orphaned bodies are swept while there is none: nobody waits for that.
    fn next(&mut self, received: &Receiver<Queued>) -> Option<Queued> {
        while self.core.has_orphans() {
            match received.try_recv() {
                Ok(queued) => return Some(queued),
                Err(TryRecvError::Empty) => self.commit(Vec::new()),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        received.recv().ok()
    }

    fn take(&self, group: &mut Group, queued: Queued) {
        let jobs = queued.batch.posts();
        self.load.sub(queued.bytes, jobs);
        group.jobs += jobs;
        group.bytes += queued.bytes;
        group.batches.push((queued.shard, queued.batch));
    }

    fn take_waiting(&self, group: &mut Group, received: &Receiver<Queued>) {
        while group.jobs < JOBS_MAX && group.bytes < limits::WAITING_BYTES_MAX {
            let Ok(queued) = received.try_recv() else {
                return;
            };
            self.take(group, queued);
        }
    }

    fn commit(&mut self, batches: Vec<(usize, Batch)>) {
        let was_broken = self.core.broken().is_some();
        let answers = self.core.commit(batches);
        if self.is_log_long.swap(false, Ordering::Relaxed) {
            self.core.checkpoint();
        }
        // Before the answers: if this returns at all, then in a test.
        if let (false, Some(error)) = (was_broken, self.core.broken()) {
            (self.fatal)(&error.last_words(self.core.shown_path()));
        }
        for (shard, answers) in by_shard(answers) {
            self.answers.answer(shard, answers);
        }
        match self.written.try_send(()) {
            // Full: the checkpointer knows already. Gone: it has told the operator why.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }
}

/// One list for each shard, so that each is woken once; the order within a shard stays.
fn by_shard(answers: Vec<(usize, Answer)>) -> Vec<(usize, Vec<Answer>)> {
    let mut lists: Vec<(usize, Vec<Answer>)> = Vec::new();
    for (shard, answer) in answers {
        // At most 256 shards, and mostly few: a scan is quicker than a map.
        match lists.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, list)) => list.push(answer),
            None => lists.push((shard, vec![answer])),
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_after_a_pause_waits_for_nobody() {
        assert_eq!(wait(IDLE, 1, 1), Duration::ZERO);
        assert_eq!(wait(Duration::from_secs(60), 2_000, 1), Duration::ZERO);
    }

    #[test]
    fn jobs_that_follow_each_other_wait_for_company_unless_they_have_it() {
        let soon = Duration::from_micros(100);
        assert_eq!(wait(soon, 1, 1), Duration::from_millis(1));
        assert_eq!(wait(soon, JOBS_MANY, 1), Duration::from_millis(2));
        assert_eq!(wait(soon, JOBS_MANY, JOBS_ENOUGH), Duration::ZERO);
    }

    #[test]
    fn each_shard_gets_one_list_in_order() {
        let answer = |last_row| Answer::Committed {
            last_row,
            rows: Ok(()),
            changes: Vec::new(),
        };
        let lists = by_shard(vec![(1, answer(1)), (0, answer(1)), (1, answer(2))]);
        let rows = lists.iter().map(|(shard, list)| {
            let rows = list.iter().map(|answer| match answer {
                Answer::Committed { last_row, .. } => *last_row,
                Answer::Read { .. } => 0,
            });
            (*shard, rows.collect::<Vec<_>>())
        });
        assert_eq!(rows.collect::<Vec<_>>(), [(1, vec![1, 2]), (0, vec![1])]);
    }
}

//! The store of a run: it commits, reads, has trouble, and is opened again after a crash.

use stanzad::router::subscription::redeliver;
use stanzad::shard::Post;
use stanzad::storage::{Answer, Batch, ReadFn, StoreError, WriterCore};

use crate::world::{Phase, Sender, World};

impl World {
    /// What a start does before anybody is let in, and what must be there after a crash.
    pub fn recover(&mut self, pending_requests_max: usize) {
        self.check_rosters_stored();
        self.check_wishes();
        self.note_stored_messages();
        if !self.forgets_handoffs() {
            let completed = redeliver(&mut self.store, pending_requests_max).unwrap();
            self.count_more("hand-offs completed at start", completed);
        }
        self.observe_grants(None);
    }

    pub fn store(&self) -> &WriterCore {
        &self.store
    }

    pub fn store_mut(&mut self) -> &mut WriterCore {
        &mut self.store
    }

    /// A reader does what it was asked.
    pub fn run_read(&mut self, shard: u32, id: u64, read: ReadFn) {
        let result = if self.has_trouble_now(40) {
            Err(StoreError::Refused("the simulated disk did not answer"))
        } else {
            self.store.read(read)
        };
        let reader = self.chance.within(0..=1);
        let answer = Post::Store(Answer::Read { id, result });
        self.deliver(Sender::Reader(reader), shard, vec![answer]);
    }

    /// The writer commits what has queued up.
    pub fn commit(&mut self) {
        self.is_commit_due = false;
        let batches = std::mem::take(&mut self.batches);
        let changing = batches
            .iter()
            .filter(|(_, batch)| !batch.changes.is_empty())
            .map(|(shard, _)| *shard as u32)
            .collect::<Vec<_>>();
        let mut answers = if self.has_trouble_now(20) {
            batches.into_iter().map(refused).collect()
        } else {
            self.store.commit(batches)
        };
        self.pretended(&mut answers);
        self.observe_grants(Some(&changing));
        for (shard, answer) in answers {
            self.deliver(Sender::Writer, shard as u32, vec![Post::Store(answer)]);
        }
    }

    fn has_trouble_now(&mut self, times: u64) -> bool {
        let has_trouble =
            self.character.has_trouble && self.phase == Phase::Busy && self.chance.one_in(times);
        if has_trouble {
            self.trouble_at = Some(self.now);
            self.count("store troubles");
            self.note(|| "the store has trouble".to_owned());
        }
        has_trouble
    }
}

/// What the writer answers when the disk is full.
fn refused((shard, batch): (usize, Batch)) -> (usize, Answer) {
    let changes = batch.changes.into_iter();
    let answer = Answer::Committed {
        last_row: batch.last_row,
        rows: match batch.rows.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Full),
        },
        changes: changes.map(|(id, _)| (id, Err(StoreError::Full))).collect(),
    };
    (shard, answer)
}

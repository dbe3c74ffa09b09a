//! The store of a server: it commits, reads, has trouble, and is opened again after a crash.

use stanzad::router::subscription::redeliver;
use stanzad::shard::Post;
use stanzad::storage::peer_queue::PeerMessage;
use stanzad::storage::{Answer, Batch, ReadFn, StoreError};

use crate::world::{Phase, Sender, World};

impl World {
    /// What a start of a server does before anybody is let in, and what must be there after a crash.
    pub fn recover(&mut self, server: usize, pending_requests_max: usize) {
        self.check_rosters_stored();
        self.check_wishes();
        self.note_stored_messages();
        if !self.forgets_handoffs(server) {
            let store = &mut self.servers[server].store;
            let completed = redeliver(store, pending_requests_max).unwrap();
            self.count_more("hand-offs completed at start", completed);
        }
        self.observe_grants(None);
    }

    /// What a start does with the messages that wait for other servers.
    pub fn restore_peer_messages(&mut self, index: usize) {
        let server = &self.servers[index];
        let (base, placement) = (server.base, server.placement.clone());
        let mut of_shards: Vec<Vec<PeerMessage>> = vec![Vec::new(); server.shards as usize];
        for message in server.waiting_messages() {
            let shard = placement.shard_of(message.remote.as_str());
            of_shards[shard as usize].push(message);
            self.count("messages for the other server restored");
        }
        for (shard, messages) in (base..).zip(of_shards) {
            // Before anybody can say anything.
            let post = self.restored(messages);
            self.mail[shard as usize].extend(post);
            self.turn_within(shard, 0);
        }
    }

    /// A reader does what it was asked.
    pub fn run_read(&mut self, shard: u32, id: u64, read: ReadFn) {
        let result = if self.has_trouble_now(40) {
            Err(StoreError::Refused("the simulated disk did not answer"))
        } else {
            let server = self.server_of_shard(shard);
            self.servers[server].store.read(read)
        };
        let reader = self.chance.within(0..=1);
        let answer = Post::Store(Answer::Read { id, result });
        self.deliver(Sender::Reader(reader), shard, vec![answer]);
    }

    /// The writer of a server commits what has queued up.
    pub fn commit(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let base = server.base;
        server.is_commit_due = false;
        let batches = std::mem::take(&mut server.batches);
        let changing = batches
            .iter()
            .filter(|(_, batch)| !batch.changes.is_empty())
            .map(|(shard, _)| base + *shard as u32)
            .collect::<Vec<_>>();
        let has_trouble = self.has_trouble_now(20);
        self.note_committed(index, !has_trouble);
        let mut answers = if has_trouble {
            batches.into_iter().map(refused).collect()
        } else {
            self.servers[index].store.commit(batches)
        };
        self.pretended(&mut answers);
        self.observe_grants(Some(&changing));
        for (shard, answer) in answers {
            let shard = base + shard as u32;
            self.deliver(Sender::Writer, shard, vec![Post::Store(answer)]);
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

//! The servers of a run: one for both domains, or one for each.

use std::sync::Arc;

use stanzad::jid::{BareJid, Jid};
use stanzad::net::throttle::Throttle;
use stanzad::router::placement::Placement;
use stanzad::storage::peer_queue::{PeerMessage, Place, page};
use stanzad::storage::{Batch, Row, WriterCore};

use crate::world::World;

/// The domains of a run.
pub const DOMAINS: [&str; 2] = ["example.org", "example.net"];
/// More accounts than one store ever has: ids of two stores are told apart by it.
const LIVES: i64 = 1 << 32;

/// What is around the shards of one server.
pub struct Server {
    /// The number of its first shard among those of all servers.
    pub base: u32,
    pub shards: u32,
    pub placement: Placement,
    pub throttle: Arc<Throttle>,
    pub store: WriterCore,
    /// What its shards have written, by shard.
    pub batches: Vec<(usize, Batch)>,
    pub is_commit_due: bool,
    pub is_gate_shut: bool,
    /// Until when nobody reaches it, after it was killed.
    pub is_away_until: u64,
    /// Rows of messages for the other server that are to be committed, and the numbers of the messages.
    pub asked: Vec<(i64, u64)>,
}

impl Server {
    /// The messages that wait for other servers, as they are stored.
    pub fn waiting_messages(&self) -> Vec<PeerMessage> {
        let (mut messages, mut after) = (Vec::new(), Some(Place::default()));
        while let Some(place) = after {
            let page = page(self.store.db(), &place).unwrap();
            messages.extend(page.messages);
            after = page.next;
        }
        messages
    }
}

impl World {
    pub fn is_federated(&self) -> bool {
        self.servers.len() > 1
    }

    /// The server of an address.
    pub fn server_of(&self, jid: &str) -> usize {
        let is_second = |jid: Jid| jid.domain() == DOMAINS[1];
        usize::from(self.is_federated() && Jid::parse(jid).is_ok_and(is_second))
    }

    /// The server of an account.
    pub fn server_of_account(&self, account: usize) -> usize {
        self.server_of(self.accounts.all[account].jid.as_str())
    }

    /// The server of a shard.
    pub fn server_of_shard(&self, shard: u32) -> usize {
        let mut servers = self.servers.iter();
        let found = servers.position(|server| shard < server.base + server.shards);
        found.unwrap()
    }

    /// The shard of a name, among those of all servers.
    pub fn shard_of(&self, jid: &str) -> u32 {
        let server = &self.servers[self.server_of(jid)];
        server.base + server.placement.shard_of(jid)
    }

    /// Whether two accounts have different servers.
    pub fn is_between_servers(&self, one: usize, other: usize) -> bool {
        self.server_of_account(one) != self.server_of_account(other)
    }

    /// The store that knows an account.
    pub fn store(&self, account: &BareJid) -> &WriterCore {
        &self.servers[self.server_of(account.as_str())].store
    }

    pub fn store_mut(&mut self, account: &BareJid) -> &mut WriterCore {
        let server = self.server_of(account.as_str());
        &mut self.servers[server].store
    }

    /// The id of an account of a server, as the run knows it.
    pub fn life(&self, server: usize, id: i64) -> i64 {
        id + server as i64 * LIVES
    }
}

impl World {
    /// What a shard asks to be written of messages for the other server.
    pub fn note_asked(&mut self, server: usize, batch: &Batch) {
        let asked = &mut self.servers[server].asked;
        for row in &batch.rows {
            match row {
                Row::PeerQueued(message) => {
                    let id = message.stanza.id.as_deref().unwrap_or_default();
                    let number = id.strip_prefix('m').and_then(|number| number.parse().ok());
                    asked.extend(number.map(|number| (message.id, number)));
                }
                // It has arrived, or is on its way back to its sender.
                Row::PeerDone(done) => asked.retain(|(id, _)| *id != done.id),
                _ => {}
            }
        }
    }

    /// All that was asked for is committed, or nothing is.
    pub fn note_committed(&mut self, server: usize, is_done: bool) {
        for (_, number) in std::mem::take(&mut self.servers[server].asked) {
            if let Some(message) = self.ledger.messages.get_mut(&number) {
                message.was_kept |= is_done;
            }
        }
    }
}

/// The id of an account in its store.
pub fn stored_id(life: i64) -> i64 {
    life % LIVES
}

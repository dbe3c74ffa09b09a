//! The router of one shard: accounts, sessions and the way of each stanza (DESIGN §7).
//!
//! `outbound` takes what a session sends, `inbound` what an account is sent; between them lies the
//! work queue of this shard or a post to another. Nothing here touches a socket, a clock or the
//! store: what is wanted of them is left in [`Effects`], and [`Router::answered`] goes on when the
//! store has answered.

pub mod account;
pub mod admission;
pub mod commands;
pub mod delivery;
pub mod effects;
pub mod feature;
pub mod iq;
pub mod pipeline;
pub mod placement;
pub mod session;
pub mod settlement;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use crate::clock::Now;
use crate::config::{DomainSettings, Settings};
use crate::router::account::{Accounts, Standing};
use crate::router::effects::{Effects, RouterPost};
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::router::session::Session;
use crate::slots::{Key, Slots};
use crate::storage::{ChangeFn, Lane, ReadFn, Row, StoreError, Value};

/// The state of one shard above its connections.
pub struct Router {
    /// Which shard this is.
    pub shard: u32,
    /// Which shard owns what.
    pub placement: Placement,
    /// The configuration in force.
    pub settings: Arc<Settings>,
    /// The features in force.
    pub pipeline: Arc<Pipeline>,
    /// Accounts in memory.
    pub accounts: Accounts,
    /// Connected resources.
    pub sessions: Slots<Session>,
    /// What this turn's handlers have asked for.
    pub out: Effects,
    /// When the turn began.
    pub now: Now,
    waiters: Slots<Waiter>,
}

/// Who goes on when the store has answered.
pub enum Waiter {
    /// The router itself.
    Router(Continuation),
    /// A connection, whose stream machine takes the value.
    Connection(Key),
}

/// The second half of a change or a read.
pub type Continuation = Box<dyn FnOnce(&mut Router, Result<Value, StoreError>) + Send>;

impl Router {
    /// A router without accounts.
    pub fn new(
        shard: u32,
        placement: Placement,
        settings: Arc<Settings>,
        pipeline: Arc<Pipeline>,
    ) -> Router {
        let out = Effects::new(shard, placement.shards());
        Router {
            shard,
            placement,
            settings,
            pipeline,
            accounts: Accounts::default(),
            sessions: Slots::default(),
            out,
            now: Now::default(),
            waiters: Slots::default(),
        }
    }

    /// The local domain of that name (RFC 6120 §10.4), in prepared form.
    pub fn domain(&self, name: &str) -> Option<&Arc<DomainSettings>> {
        self.settings.domains.get(name)
    }

    /// Takes a post of another shard's router.
    pub fn post(&mut self, post: RouterPost) {
        match post {
            RouterPost::Route(routed) => self.inbound(*routed),
            RouterPost::Settled(settled) => self.settled(&settled),
        }
    }

    /// Handles all local work, also what comes up meanwhile. It ends: only a stanza that is no error
    /// makes another, which is an error or a reply.
    pub fn work(&mut self) {
        while let Some(routed) = self.out.work.pop_front() {
            self.inbound(routed);
        }
        let settled = self.out.take_own_settled();
        self.settled(&settled);
        self.accounts.forget_idle(self.now.mono);
    }

    fn settled(&mut self, settled: &[(Key, u64)]) {
        for &(key, seq) in settled {
            // The session may have ended meanwhile.
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let was_full = session.unsettled.is_full();
            let is_first = session.unsettled.settle(seq);
            debug_assert!(is_first, "stanza {seq} of {} settled twice", session.jid);
            if was_full && !session.unsettled.is_full() {
                self.out.resumed.push(session.conn);
            }
        }
    }

    /// Asks for a read; `waiter` goes on with its answer.
    pub fn read(&mut self, lane: Lane, read: ReadFn, waiter: Waiter) {
        let id = self.waiters.insert(waiter).to_bits();
        self.out.reads.push((id, lane, read));
    }

    /// Asks for a change; `waiter` goes on after its commit.
    pub fn change(&mut self, change: ChangeFn, waiter: Waiter) {
        let id = self.waiters.insert(waiter).to_bits();
        self.out.batch.changes.push((id, change));
    }

    /// Appends a row to the turn's batch.
    pub fn row(&mut self, row: Row) {
        self.out.batch.last_row += 1;
        self.out.batch.rows.push(row);
    }

    /// Takes the store's answer to a read or a change. A connection that waits for it is given back
    /// with the answer, for its stream machine.
    pub fn answered(
        &mut self,
        id: u64,
        result: Result<Value, StoreError>,
    ) -> Option<(Key, Result<Value, StoreError>)> {
        match self.waiters.remove(Key::from_bits(id))? {
            Waiter::Router(continuation) => {
                continuation(self, result);
                None
            }
            Waiter::Connection(key) => Some((key, result)),
        }
    }

    /// How many reads and changes are unanswered.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// The account of a bare JID, asked for in the store if it is not in memory.
    pub(crate) fn account_for(&mut self, bare_jid: &str) -> Option<Key> {
        if let Some(key) = self.accounts.find(bare_jid) {
            if let Some(account) = self.accounts.get_mut(key) {
                account.used = self.now.mono;
            }
            return Some(key);
        }
        let jid = crate::jid::BareJid::parse(bare_jid).ok()?;
        let key = self
            .accounts
            .insert(jid.clone(), Standing::Loading, self.now.mono);
        let read: ReadFn =
            Box::new(move |db| Ok(feature::value(crate::storage::accounts::find(db, &jid)?)));
        let then: Continuation = Box::new(move |router, result| router.loaded(key, result));
        self.read(Lane::Quick, read, Waiter::Router(then));
        Some(key)
    }

    fn loaded(&mut self, key: Key, result: Result<Value, StoreError>) {
        let Some(account) = self.accounts.get_mut(key) else {
            return;
        };
        let record = result.and_then(storage_value::<Option<_>>);
        match record {
            Ok(Some(record)) => account.standing = Standing::Known(record),
            Ok(None) => account.standing = Standing::Unknown,
            Err(error) => {
                ::log::error!(jid:% = account.jid, error:%; "account not loaded");
                self.load_failed(key);
                return;
            }
        }
        self.no_longer_busy(key);
    }

    /// Everything that waited for an account gets its turn: commands first, since a change of the
    /// account decides about logins and stanzas, then logins, then stanzas, in order.
    pub(crate) fn no_longer_busy(&mut self, key: Key) {
        loop {
            let Some(account) = self.accounts.get_mut(key) else {
                return;
            };
            if account.is_busy() {
                return;
            }
            if let Some(command) = account.commands.pop_front() {
                self.run_command(key, command);
                continue;
            }
            let admissions = std::mem::take(&mut account.admissions);
            let waiting = account.inbox.take();
            if admissions.is_empty() && waiting.is_empty() {
                break;
            }
            for (conn, proof) in admissions {
                self.decide_admission(key, conn, proof);
            }
            for routed in waiting {
                self.inbound(routed);
            }
        }
        self.accounts.mark_idle(key, self.now.mono);
    }
}

/// What the store gave, as the type that was asked for.
pub(crate) fn storage_value<T: 'static>(value: Value) -> Result<T, StoreError> {
    match value.downcast::<T>() {
        Ok(value) => Ok(*value),
        Err(_) => {
            debug_assert!(false, "the store gave another type than was asked for");
            Err(StoreError::Refused(
                "the store gave a value of another type",
            ))
        }
    }
}

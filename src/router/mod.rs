//! The router of one shard: accounts, sessions and the way of each stanza.
//!
//! `outbound` takes what a session sends, `inbound` what an account is sent; between them lies the
//! work queue of this shard or a post to another. Nothing here touches a socket, a clock or the
//! store: what is wanted of them is left in [`Effects`], and [`Router::answered`] goes on when the
//! store has answered.

pub mod account;
pub mod admission;
pub mod ask;
pub mod capabilities;
pub mod commands;
pub mod components;
pub mod delivery;
pub mod effects;
pub mod feature;
pub mod iq;
mod last_seen;
mod loading;
pub mod management;
pub mod offline;
pub mod peers;
pub mod pipeline;
pub mod placement;
pub mod presence;
pub mod roster;
pub mod session;
pub mod settlement;
pub mod subscription;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::{Mono, Now};
use crate::config::{DomainSettings, Settings};
use crate::jid::{BareJid, Jid};
use crate::router::account::Accounts;
use crate::router::capabilities::KnownCapabilities;
use crate::router::components::Components;
use crate::router::delivery::Routed;
use crate::router::effects::{Effects, RouterPost};
use crate::router::last_seen::LastSeen;
use crate::router::peers::Peers;
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::router::presence::Fanouts;
use crate::router::session::Session;
use crate::router::settlement::Source;
use crate::router::subscription::Postponed;
use crate::slots::{Key, Slots};
use crate::stanza::{Condition, Stanza, StanzaError};
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
    /// Other servers.
    pub peers: Peers,
    /// Components that are connected.
    pub components: Components,
    /// What clients can do.
    pub capabilities: KnownCapabilities,
    /// What this turn's handlers have asked for.
    pub out: Effects,
    /// When the turn began.
    pub now: Now,
    /// What a [`ThenFn`](feature::ThenFn) wants written to sessions right after its reply.
    pub(crate) after_reply: Vec<(Key, Stanza)>,
    fanouts: Fanouts,
    waiters: Slots<Waiter>,
    /// By the number of the row, in order.
    row_waiters: VecDeque<(u64, RowContinuation)>,
    /// Hand-offs that are to be tried again.
    pub(crate) postponed: Postponed,
    last_seen: LastSeen,
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

/// The second half of a change of an account, which is still *changing* when it runs.
pub type AccountContinuation = Box<dyn FnOnce(&mut Router, Key, Result<Value, StoreError>) + Send>;

/// What follows the commit of a row.
pub type RowContinuation = Box<dyn FnOnce(&mut Router, Result<(), StoreError>) + Send>;

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
            peers: Peers::default(),
            components: Components::default(),
            capabilities: KnownCapabilities::default(),
            out,
            now: Now::default(),
            after_reply: Vec::new(),
            fanouts: Fanouts::default(),
            waiters: Slots::default(),
            row_waiters: VecDeque::new(),
            postponed: Postponed::default(),
            last_seen: LastSeen::default(),
        }
    }

    /// The local domain of that name (RFC 6120 §10.4), in prepared form.
    pub fn domain(&self, name: &str) -> Option<&Arc<DomainSettings>> {
        self.settings.domains.get(name)
    }

    /// Takes a post of another shard's router.
    pub fn post(&mut self, post: RouterPost) {
        match post {
            RouterPost::Route(routed) => self.handle(*routed, Router::inbound),
            RouterPost::ToPeer(routed) => self.handle(*routed, Router::send_by_link),
            RouterPost::PingAnswered(domains, number) => self.ping_answered(&domains, number),
            RouterPost::ToComponent(routed) => self.handle(*routed, Router::send_to_component),
            RouterPost::Settled(settled) => self.settled(&settled),
        }
    }

    /// Should the server crash meanwhile, it is known by whose stanza.
    fn handle(&mut self, routed: Routed, how: fn(&mut Router, Routed)) {
        let sender = routed.stanza.from.as_ref();
        crate::log::panic::handling_stanza(sender.map_or("", Jid::bare_str));
        how(self, routed);
    }

    /// Handles all local work, also what comes up meanwhile. It ends: only a stanza that is no error
    /// makes another, which is an error or a reply.
    pub fn work(&mut self) {
        self.do_postponed();
        self.do_links();
        self.do_components();
        loop {
            // Each may make work for the others.
            if let Some(routed) = self.out.work.pop_front() {
                self.handle(routed, Router::inbound);
            } else if let Some(routed) = self.out.peer_work.pop_front() {
                self.handle(routed, Router::send_by_link);
            } else if let Some(routed) = self.out.component_work.pop_front() {
                self.handle(routed, Router::send_to_component);
            } else {
                break;
            }
        }
        crate::log::panic::handling_stanza("");
        let settled = self.out.take_own_settled();
        self.settled(&settled);
        self.accounts.forget_idle(self.now.mono);
    }

    fn settled(&mut self, settled: &[(Source, u64)]) {
        for &(source, seq) in settled {
            let found = match source {
                Source::Session(key) => self
                    .sessions
                    .get_mut(key)
                    .map(|session| (&mut session.unsettled, session.conn)),
                Source::Peer(key) => self.peers.source_mut(key),
                Source::Component(key) => self.components.source_mut(key),
            };
            // Its stream may have ended meanwhile.
            let Some((unsettled, conn)) = found else {
                continue;
            };
            let was_full = unsettled.is_full();
            let is_first = unsettled.settle(seq);
            debug_assert!(is_first, "stanza {seq} of {source:?} settled twice");
            if was_full && !unsettled.is_full() {
                self.out.resumed.push(conn);
            }
            if let Source::Peer(key) = source {
                self.answer_peer(key);
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

    /// Remembers that a session of an account ended now, and stores it by and by.
    fn seen(&mut self, account: BareJid) {
        let Now { mono, wall } = self.now;
        self.last_seen.note(account, wall, mono);
    }

    /// When what `Router::seen` has kept back is to be stored.
    pub fn last_seen_due(&self) -> Option<Mono> {
        self.last_seen.due()
    }

    /// Appends what `Router::seen` has kept back to the turn's batch.
    pub fn store_last_seen(&mut self) {
        for row in self.last_seen.take() {
            self.row(row);
        }
    }

    /// Appends a row to the turn's batch; `then` goes on after its commit, or with the reason why it
    /// is not stored.
    pub fn row_then(&mut self, row: Row, then: RowContinuation) {
        self.row(row);
        let number = self.out.batch.last_row;
        self.row_waiters.push_back((number, then));
    }

    /// Takes the store's answer to all rows up to a number.
    pub fn rows_answered(&mut self, last_row: u64, result: &Result<(), StoreError>) {
        while let Some((number, _)) = self.row_waiters.front() {
            if *number > last_row {
                return;
            }
            if let Some((_, then)) = self.row_waiters.pop_front() {
                then(self, result.clone());
            }
        }
    }

    /// Changes what is stored of an account of this shard: it is *changing* until `then` has returned
    /// (`Commit first` in lib.rs). The account must not be busy; [`Waiting`](account::Waiting) in
    /// its inbox is for what comes meanwhile.
    pub(crate) fn change_account(&mut self, key: Key, change: ChangeFn, then: AccountContinuation) {
        if let Some(account) = self.accounts.get_mut(key) {
            debug_assert!(!account.is_busy(), "{} is busy", account.jid);
            account.is_changing = true;
        }
        let then: Continuation = Box::new(move |router, result| {
            then(router, key, result);
            if let Some(account) = router.accounts.get_mut(key) {
                account.is_changing = false;
            }
            router.no_longer_busy(key);
        });
        self.change(change, Waiter::Router(then));
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

    /// How many reads, changes and awaited rows are unanswered.
    pub fn waiting(&self) -> usize {
        self.waiters.len() + self.row_waiters.len()
    }
}

impl From<StoreError> for StanzaError {
    /// A disk that fails lacks room or works again some time: who asked may ask again (RFC 6120
    /// §8.3.3.18). The cause is for the operator alone.
    fn from(error: StoreError) -> StanzaError {
        if error.is_of_disk() {
            StanzaError::new(Condition::ResourceConstraint)
                .text("Nothing can be stored or looked up just now")
        } else {
            StanzaError::new(Condition::InternalServerError)
        }
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

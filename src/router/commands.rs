//! What an operator does to accounts while the server runs: each is a change of the store, and what
//! follows from it happens after the commit.

use crate::jid::BareJid;
use crate::router::account::Standing;
use crate::router::loading::Tier;
use crate::router::{Continuation, Router, Waiter, feature, storage_value};
use crate::sasl::Credentials;
use crate::slots::Key;
use crate::stanza::StreamError;
use crate::storage::accounts::{self, AccountRecord};
use crate::storage::{ChangeFn, Db, StoreError, Value};

/// What is done to one account.
pub struct AccountCommand {
    /// Does it, on the store's writer, within a savepoint.
    pub apply: Box<dyn FnOnce(&Db) -> Result<(), StoreError> + Send>,
    /// What the account's live sessions are told, if it ends them.
    pub ends_sessions: Option<StreamError>,
}

/// Takes the outcome of a command, after its commit: how many sessions it ended.
pub type CommandReply = Box<dyn FnOnce(Result<u64, StoreError>) + Send>;

/// A command and who waits for its outcome.
pub struct QueuedCommand {
    command: AccountCommand,
    reply: CommandReply,
}

impl QueuedCommand {
    /// Tells the operator that it was not carried out.
    pub(crate) fn fail(self, error: StoreError) {
        (self.reply)(Err(error));
    }
}

impl Router {
    /// Carries out a command about an account of this shard, as soon as the account is not changing.
    pub fn command(&mut self, jid: &BareJid, command: AccountCommand, reply: CommandReply) {
        let queued = QueuedCommand { command, reply };
        let Some(key) = self.account_for(jid.as_str(), Tier::Delivery) else {
            queued.fail(StoreError::NotFound);
            return;
        };
        match self.accounts.get_mut(key) {
            Some(account) if account.is_busy() => account.commands.push_back(queued),
            _ => self.run_command(key, queued),
        }
    }

    pub(crate) fn run_command(&mut self, key: Key, queued: QueuedCommand) {
        // An anonymous session is no account of the store's.
        let account = self
            .accounts
            .get_mut(key)
            .filter(|account| !matches!(account.standing, Standing::Anonymous));
        let Some(account) = account else {
            queued.fail(StoreError::NotFound);
            return;
        };
        account.is_changing = true;
        let jid = account.jid.clone();
        let QueuedCommand { command, reply } = queued;
        let AccountCommand {
            apply,
            ends_sessions,
        } = command;
        let change: ChangeFn = Box::new(move |db| {
            apply(db)?;
            Ok(feature::value(accounts::find(db, &jid)?))
        });
        let then: Continuation = Box::new(move |router, result| {
            router.command_committed(key, result, ends_sessions, reply);
        });
        self.change(change, Waiter::Router(then));
    }

    fn command_committed(
        &mut self,
        key: Key,
        result: Result<Value, StoreError>,
        ends_sessions: Option<StreamError>,
        reply: CommandReply,
    ) {
        let record = match result.and_then(storage_value::<Option<AccountRecord>>) {
            Ok(record) => record,
            Err(error) => {
                reply(Err(error));
                self.no_longer_changing(key);
                return;
            }
        };
        let mut held = None;
        if let Some(account) = self.accounts.get_mut(key) {
            if account.standing.id() != record.map(|record| record.id) {
                // What was stored has gone with the account.
                held = Some(std::mem::take(&mut account.offline).into_held());
            }
            account.standing = match record {
                Some(record) => Standing::Known(record),
                None => Standing::Unknown,
            };
        }
        let end = |router: &mut Router| {
            reply(Ok(match ends_sessions {
                Some(error) => router.end_sessions(key, &error),
                None => 0,
            }));
            for held in held.into_iter().flatten() {
                router.write_held(key, held);
            }
        };
        match record {
            Some(_) => {
                end(self);
                self.no_longer_changing(key);
            }
            // It is deleted.
            None => self.part(key, end),
        }
    }

    /// Ends a change of an account.
    pub(crate) fn no_longer_changing(&mut self, key: Key) {
        if let Some(account) = self.accounts.get_mut(key) {
            (account.is_changing, account.is_parting) = (false, false);
        }
        self.no_longer_busy(key);
    }

    /// Stores better verifiers of the same password, made at a login (`Verdicts` in lib.rs). The
    /// credential generation stays, so that no other login is disturbed.
    pub fn upgrade_credentials(&mut self, jid: BareJid, generation: u64, credentials: Credentials) {
        let of = jid.clone();
        let change: ChangeFn = Box::new(move |db| {
            Ok(feature::value(accounts::upgrade_credentials(
                db,
                &jid,
                generation,
                &credentials,
            )?))
        });
        let then: Continuation =
            Box::new(
                move |_, result| match result.and_then(storage_value::<bool>) {
                    Ok(true) => ::log::info!(jid:% = of; "credentials upgraded"),
                    Ok(false) => {
                        ::log::debug!(jid:% = of; "credentials changed before their upgrade");
                    }
                    Err(error) => {
                        ::log::log!(error.level(), jid:% = of, error:%; "credentials not upgraded");
                    }
                },
            );
        self.change(change, Waiter::Router(then));
    }
}

#[cfg(test)]
mod tests;

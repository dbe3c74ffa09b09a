//! IQ requests that the server answers: for its domains, and on behalf of accounts
//! (RFC 6120 §8.2.3, RFC 6121 §8.5.2.1.3).

use std::sync::Arc;

use crate::jid::{FullJid, Jid};
use crate::limits::{LATER_FOR_OTHERS_MAX, LATER_MAX};
use crate::router::delivery::Routed;
use crate::router::feature::{Answer, IqContext, Target, ThenFn};
use crate::router::settlement::Ticket;
use crate::router::{AccountContinuation, Continuation, Router, Waiter};
use crate::slots::Key;
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::{Lane, StoreError, Value};
use crate::xml::Payload;

/// What is kept of a request while its answer waits for the store.
struct Pending {
    request: Stanza,
    ticket: Ticket,
    asker: Asker,
    account: Key,
    then: ThenFn,
}

/// Who has asked for something.
#[derive(Clone, Copy)]
enum Asker {
    /// Whoever has that address.
    Address,
    /// A session of the account itself.
    Session(Key),
    /// A session of the account itself that has ended since. A successor on its resource has not asked,
    /// and may use the same ids.
    Gone,
}

impl Router {
    /// Takes a stanza for a local domain itself (RFC 6120 §10.5.2).
    pub(crate) fn handle_for_domain(&mut self, routed: Routed) {
        match routed.stanza.kind {
            Kind::Iq => self.answer(None, routed),
            Kind::Presence => self.out.settle(routed.ticket),
            Kind::Message => {
                self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            }
        }
    }

    /// Takes an IQ for an account's bare JID.
    pub(crate) fn handle_for_account(&mut self, account: Key, routed: Routed) {
        self.answer(Some(account), routed);
    }

    fn answer(&mut self, account_key: Option<Key>, routed: Routed) {
        if !matches!(routed.stanza.type_, Type::Get | Type::Set) {
            // A domain may have asked; for an account nobody waits (RFC 6121 §8.5.2.1.3).
            if account_key.is_none() {
                self.take_answer(&routed.stanza);
            }
            self.out.settle(routed.ticket);
            return;
        }
        let answer = match self.dispatch(account_key, &routed) {
            Some(answer) => answer,
            None => Answer::Error(StanzaError::new(Condition::ServiceUnavailable)),
        };
        let answer = match account_key {
            Some(account) => self.evened(account, &routed, answer),
            None => answer,
        };
        self.give(account_key, routed, answer);
    }

    /// Refuses a request for an account, in the time that all refusals of strangers take.
    pub(crate) fn refuse(&mut self, account: Key, routed: Routed, error: StanzaError) {
        let answer = self.evened(account, &routed, Answer::Error(error));
        self.give(Some(account), routed, answer);
    }

    fn give(&mut self, account_key: Option<Key>, routed: Routed, answer: Answer) {
        let asker = self.asker(account_key, &routed);
        match (answer, account_key) {
            (Answer::Now(payload), _) => {
                self.respond(asker, routed.stanza.reply(Type::Result, payload));
                self.out.settle(routed.ticket);
            }
            (Answer::Error(error), _) => {
                if let Some(reply) = routed.stanza.error(&error) {
                    self.respond(asker, reply);
                }
                self.drop_routed(routed);
            }
            (Answer::Later(read, then), Some(account)) => self.later(account, routed, read, then),
            (Answer::Snapshot(read, then), Some(account)) => {
                self.snapshot(account, routed, read, then);
            }
            (Answer::Change(change, then), Some(account)) => {
                self.change_for(account, routed, change, then);
            }
            (Answer::Later(..) | Answer::Snapshot(..) | Answer::Change(..), None) => {
                debug_assert!(false, "a domain has no stored state");
                self.reject(routed, StanzaError::new(Condition::InternalServerError));
            }
        }
    }

    /// What strangers are told of an account comes after one read of the store, whether the account
    /// was in memory, had to be loaded, or does not exist (RFC 6120 §13.11).
    fn evened(&self, account: Key, routed: &Routed, answer: Answer) -> Answer {
        let asker = routed
            .stanza
            .from
            .as_ref()
            .map_or("", |from| from.bare_str());
        let is_stranger = self
            .accounts
            .get(account)
            .is_some_and(|account| !account.shows_presence_to(asker));
        if !is_stranger || routed.has_waited {
            return answer;
        }
        let nothing: crate::storage::ReadFn = Box::new(|_| Ok(Box::new(())));
        match answer {
            Answer::Now(payload) => Answer::Later(nothing, Box::new(|_, _, _| Ok(payload))),
            Answer::Error(error) => Answer::Later(nothing, Box::new(|_, _, _| Err(error))),
            Answer::Later(..) | Answer::Snapshot(..) | Answer::Change(..) => answer,
        }
    }

    fn dispatch(&self, account_key: Option<Key>, routed: &Routed) -> Option<Answer> {
        let stanza = &routed.stanza;
        let (Some(asker), Some(to)) = (&stanza.from, &stanza.to) else {
            return None;
        };
        let child = stanza.payload.children().first()?;
        let (ns, name) = (stanza.payload.ns(child), stanza.payload.name(child));
        let account = account_key.and_then(|key| self.accounts.get(key));
        let handler = match account {
            None => self
                .pipeline
                .iq_handler(Target::Domain, stanza.type_, ns, name),
            Some(account) => {
                let is_own = account.is_served() && asker.bare_str() == account.jid.as_str();
                let is_contact = account.shows_presence_to(asker.bare_str());
                [
                    (Target::OwnAccount, is_own),
                    (Target::Contact, is_contact),
                    (Target::Account, true),
                ]
                .into_iter()
                .filter(|(_, is_entitled)| *is_entitled)
                .find_map(|(target, _)| self.pipeline.iq_handler(target, stanza.type_, ns, name))
            }
        }?;
        let session = match self.asker(account_key, routed) {
            Asker::Session(session) => self.sessions.get(session),
            Asker::Address | Asker::Gone => None,
        };
        let available: Vec<&FullJid> = account
            .iter()
            .flat_map(|account| &account.sessions)
            .filter_map(|key| self.sessions.get(*key))
            .filter(|session| session.presence.is_some())
            .map(|session| &session.jid)
            .collect();
        let domain = Arc::clone(self.domain(to.domain())?);
        Some(handler(&IqContext {
            now: self.now,
            domain: &domain,
            settings: &self.settings,
            asker,
            account,
            session,
            available: &available,
            stanza,
            child,
            pipeline: &self.pipeline,
        }))
    }

    fn later(
        &mut self,
        account_key: Key,
        routed: Routed,
        read: crate::storage::ReadFn,
        then: ThenFn,
    ) {
        let Some(account) = self.accounts.get_mut(account_key) else {
            self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            return;
        };
        let asker = routed
            .stanza
            .from
            .as_ref()
            .map_or("", |from| from.bare_str());
        let is_own = asker == account.jid.as_str();
        let (later, max) = if is_own {
            (account.later, LATER_MAX)
        } else {
            (account.later_for_others, LATER_FOR_OTHERS_MAX)
        };
        if later >= max {
            let error = StanzaError::new(Condition::ResourceConstraint)
                .text("Too many requests wait for an answer");
            self.reject(routed, error);
            return;
        }
        *account.later_mut(is_own) += 1;
        let pending = self.suspend_for(account_key, routed, then);
        let then: Continuation = Box::new(move |router, result| {
            if let Some(account) = router.accounts.get_mut(account_key) {
                *account.later_mut(is_own) -= 1;
            }
            router.finish(pending, result);
            router.accounts.mark_idle(account_key, router.now.mono);
        });
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    fn snapshot(
        &mut self,
        account_key: Key,
        routed: Routed,
        read: crate::storage::ReadFn,
        then: ThenFn,
    ) {
        let pending = self.suspend_for(account_key, routed, then);
        if let Some(account) = self.accounts.get_mut(account_key) {
            account.is_changing = true;
        }
        let then: Continuation = Box::new(move |router, result| {
            router.finish(pending, result);
            if let Some(account) = router.accounts.get_mut(account_key) {
                account.is_changing = false;
            }
            router.no_longer_busy(account_key);
        });
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    fn change_for(
        &mut self,
        account_key: Key,
        routed: Routed,
        change: crate::storage::ChangeFn,
        then: ThenFn,
    ) {
        let pending = self.suspend_for(account_key, routed, then);
        let then: AccountContinuation =
            Box::new(move |router, _, result| router.finish(pending, result));
        self.change_account(account_key, change, then);
    }

    /// Suspends the stream of the account's own session that asked (RFC 6120 §10.1): a change that it
    /// sends next is not seen by a read, and replies come in the order of the requests.
    fn suspend_for(&mut self, account: Key, routed: Routed, then: ThenFn) -> Pending {
        let asker = self.asker(Some(account), &routed);
        if let Asker::Session(session) = asker {
            self.hold(session);
        }
        Pending {
            request: routed.stanza,
            ticket: routed.ticket,
            asker,
            account,
            then,
        }
    }

    fn asker(&self, account: Option<Key>, routed: &Routed) -> Asker {
        let account = account.and_then(|account| self.accounts.get(account));
        let from = routed.stanza.from.as_ref().map(Jid::bare_str);
        if account.is_none_or(|account| Some(account.jid.as_str()) != from) {
            return Asker::Address;
        }
        let session = routed.ticket.session();
        match session.filter(|session| self.sessions.get(*session).is_some()) {
            Some(session) => Asker::Session(session),
            None => Asker::Gone,
        }
    }

    /// Sends a reply. To a session of the account itself it is written at once: by way of the inbox it
    /// would wait behind the next change, whose result and pushes would come before it.
    fn respond(&mut self, asker: Asker, reply: Stanza) {
        match asker {
            Asker::Address => self.reply(reply),
            // It may have ended while its answer was made.
            Asker::Session(session) => self.write(session, &reply),
            Asker::Gone => {}
        }
    }

    fn finish(&mut self, pending: Pending, result: Result<Value, StoreError>) {
        let Pending {
            request,
            ticket,
            asker,
            account,
            then,
        } = pending;
        if let Err(error) = &result {
            let jid = self
                .accounts
                .get(account)
                .map(|account| account.jid.as_str());
            ::log::log!(error.level(), jid = jid.unwrap_or(""), error:%; "request failed in the store");
        }
        let reply = match then(self, account, result) {
            Ok(payload) => Some(request.reply(Type::Result, payload)),
            Err(error) => request.error(&error),
        };
        if let Some(reply) = reply {
            self.respond(asker, reply);
        }
        for (session, stanza) in std::mem::take(&mut self.after_reply) {
            self.write(session, &stanza);
        }
        self.out.settle(ticket);
        if let Asker::Session(session) = asker {
            self.release(session);
        }
    }
}

/// A reply without children: the request is done.
pub fn done() -> Answer {
    Answer::Now(Payload::empty())
}

#[cfg(test)]
mod tests;

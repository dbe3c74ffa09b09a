//! Subscriptions between accounts (RFC 6121 §3, Appendix A), and the hand-off that makes two commits of
//! one change (`Two commits` in lib.rs).
//!
//! The sender's change and a row of `handoff` are one transaction; the recipient's change and the end of
//! the row are another. A stanza is settled for its client by the first: from then on the row vouches
//! for it, over any crash. A hand-off takes effect only while it still says what its sender's roster
//! says ([`table::still_holds`]), so that two accounts agree once nothing is on its way between them.
//!
//! Between servers no row vouches for a stanza: what gets lost on the way is made up for by the probe
//! and the repeated request of the next login (§3.1.2, §4.3.1).

mod exchange;
mod parting;
mod postponed;
pub mod table;
#[cfg(test)]
mod tests;

pub(crate) use exchange::removal_handoffs;
pub use exchange::{delete_account, redeliver};
pub(crate) use postponed::Postponed;

use self::exchange::{Received, Reception};
use self::table::{Outbound, Signal};
use crate::jid::{BareJid, Jid};
use crate::limits::SUBSCRIPTION_BYTES_MAX;
use crate::router::account::Standing;
use crate::router::delivery::Routed;
use crate::router::settlement::Ticket;
use crate::router::{
    AccountContinuation, Continuation, Router, RowContinuation, Waiter, feature, storage_value,
};
use crate::slots::Key;
use crate::stanza::{Condition, Stanza, StanzaError, Type};
use crate::storage::roster::{Item, State};
use crate::storage::{ChangeFn, Lane, ReadFn, Row, StoreError, Value, handoff, roster};

/// What the sender's change has done.
struct Sent {
    /// The item that clients are to be told of.
    item: Option<Item>,
    /// The row that stands for the stanza from now on.
    handoff: Option<i64>,
}

/// A contact's state with an account, before and after a change.
#[derive(Clone, Copy)]
struct Shift {
    before: State,
    after: State,
}

impl Shift {
    fn gains(self, bit: State) -> bool {
        self.after.has(bit) && !self.before.has(bit)
    }

    fn loses(self, bit: State) -> bool {
        self.before.has(bit) && !self.after.has(bit)
    }
}

impl Router {
    /// Takes a subscription stanza that a session sends. The session is not held yet.
    pub(crate) fn outbound_subscription(&mut self, session: Key, mut routed: Routed) {
        let Some(signal) = Signal::of(routed.stanza.type_) else {
            debug_assert!(false, "no subscription stanza");
            self.drop_routed(routed);
            return;
        };
        // By name: the session may have ended while the stanza waited.
        let from = routed.stanza.from.as_ref().map(Jid::bare_str);
        let key = from.and_then(|from| self.accounts.find(from));
        let Some((key, account)) = key.and_then(|key| Some((key, self.accounts.get_mut(key)?)))
        else {
            self.drop_routed(routed);
            return;
        };
        if account.is_busy() {
            account.inbox.push_outbound(session, routed);
            self.hold(session);
            return;
        }
        if !matches!(account.standing, Standing::Known(_)) {
            // It was deleted meanwhile.
            self.drop_routed(routed);
            return;
        }
        let own = account.jid.clone();
        // §3.1.2, rule 1: the request is for the bare JID. Without `to` it is for the account itself
        // (RFC 6120 §10.3).
        let contact = match &routed.stanza.to {
            Some(to) => to.bare(),
            None => own.clone(),
        };
        if contact == own {
            // An account always has its own presence (§4.2.2): there is nothing to ask or to grant.
            self.drop_routed(routed);
            return;
        }
        routed.stanza.to = Some(contact.to_jid());
        let before = match &account.roster {
            Some(roster) => roster.state(contact.as_str()),
            None => State::NONE,
        };
        let then = table::outbound(before, signal);
        if let Err(error) = self.allows(key, before, &then, &routed.stanza) {
            self.reject(routed, error);
            return;
        }
        if then.state == before && !then.is_routed {
            self.drop_routed(routed);
            return;
        }
        let shift = Shift {
            before,
            after: then.state,
        };
        self.change_outbound(key, session, contact, shift, then.is_routed, routed);
    }

    /// Whether an account may send this.
    fn allows(
        &self,
        account: Key,
        before: State,
        then: &Outbound,
        stanza: &Stanza,
    ) -> Result<(), StanzaError> {
        // §3.1.3, security warning: the whole of a request is stored for its recipient.
        if stanza.size() > SUBSCRIPTION_BYTES_MAX {
            let text = "A subscription request is not for sending data; leave something out";
            return Err(StanzaError::new(Condition::PolicyViolation).text(text));
        }
        if then.state.is_listed() && !before.is_listed() && self.is_roster_full(account) {
            return Err(super::roster::full());
        }
        Ok(())
    }

    fn change_outbound(
        &mut self,
        key: Key,
        session: Key,
        contact: BareJid,
        shift: Shift,
        is_routed: bool,
        routed: Routed,
    ) {
        // A local domain is nobody's account.
        let is_local = contact.local().is_some() && self.domain(contact.domain()).is_some();
        let handed_off = (is_routed && is_local).then(|| from_account(&routed.stanza));
        let own = routed.stanza.from.as_ref().map(Jid::bare);
        let of = contact.clone();
        let change: ChangeFn = Box::new(move |db| {
            let own = own.ok_or(StoreError::Refused("a stanza without a sender"))?;
            let item = if shift.before == shift.after {
                None
            } else {
                roster::set_state(db, &own, &of, shift.after, None)?
            };
            let handoff = match handed_off {
                Some(stanza) => Some(handoff::insert(db, &stanza)?),
                None => None,
            };
            Ok(feature::value(Sent { item, handoff }))
        });
        let then: AccountContinuation = Box::new(move |router, key, result| {
            match result.and_then(storage_value::<Sent>) {
                Ok(sent) if is_routed => router.sent(key, &contact, shift, sent, Some(routed)),
                Ok(sent) => {
                    router.sent(key, &contact, shift, sent, None);
                    router.drop_routed(routed);
                }
                Err(error) => {
                    ::log::log!(error.level(), contact:%, error:%; "subscription not changed");
                    router.reject(routed, error.into());
                }
            }
            router.release(session);
        });
        self.hold(session);
        self.change_account(key, change, then);
    }

    /// After the commit at the sender.
    fn sent(
        &mut self,
        key: Key,
        contact: &BareJid,
        shift: Shift,
        sent: Sent,
        routed: Option<Routed>,
    ) {
        self.remember(key, contact, shift.after);
        if shift.loses(State::FROM) {
            // §3.2.2: while the contact is still subscribed.
            self.send_unavailable_to(key, contact);
        }
        let routed = routed.map(|mut routed| {
            routed.stanza = from_account(&routed.stanza);
            routed
        });
        match (routed, sent.handoff) {
            (Some(routed), Some(id)) => self.hand_off(routed, id),
            // To another server. The roster keeps what was changed also if the stanza comes back: an
            // end of a subscription holds wherever the contact is, and a request stays pending until
            // it is withdrawn, since the contact may be reached later (§3.1.2, last paragraph).
            (Some(routed), None) => self.route(routed),
            (None, _) => {}
        }
        // §3.1.2, §3.1.5, §3.2.2, §3.3.2: the stanza first, then the push.
        if let Some(item) = &sent.item {
            self.push_roster(key, item);
        }
        if shift.gains(State::FROM) {
            // §3.1.5.
            self.send_presence_to(key, contact);
        }
    }

    /// Sends a stanza for which a row stands: its sender waits no more.
    fn hand_off(&mut self, mut routed: Routed, id: i64) {
        let ticket = std::mem::replace(&mut routed.ticket, Ticket::none());
        routed.handoff = Some(id);
        // Not by `route`: a reload may have taken the recipient's domain away since the row was written,
        // and it is for the recipient's roster all the same.
        let to = routed.stanza.to.as_ref().map_or("", Jid::bare_str);
        let shard = self.placement.shard_of(to);
        self.out.route(shard, routed);
        self.out.settle(ticket);
    }

    /// Takes a subscription stanza for an account, whose roster is loaded.
    pub(crate) fn inbound_subscription(&mut self, key: Key, mut routed: Routed) {
        // Another server may have left resources in it.
        routed.stanza = between_accounts(&routed.stanza);
        let signal = Signal::of(routed.stanza.type_);
        let contact = routed.stanza.from.as_ref().map(Jid::bare);
        let account = self.accounts.get(key);
        let (Some(signal), Some(contact), Some(account)) = (signal, contact, account) else {
            self.drop_routed(routed);
            return;
        };
        // Nobody can ask for the presence of an account that does not exist, nor of one that is not
        // stored (XEP-0175 §3); and none for its own. All that is heard of it is silence (§8.5.1).
        let is_stored = matches!(account.standing, Standing::Known(_));
        if !is_stored || account.jid == contact {
            self.subscription_ignored(key, routed);
            return;
        }
        if self.postponed.holds(&routed) {
            // What this sender has said before still waits.
            self.postpone(routed);
            return;
        }
        let before = match &account.roster {
            Some(roster) => roster.state(contact.as_str()),
            None => State::NONE,
        };
        // What local accounts do comes with a hand-off. Without one comes the answer to a probe
        // (§4.3.2), which may be late: it may end a subscription, but no request that was made since.
        let is_local = self.domain(contact.domain()).is_some();
        if is_local && routed.handoff.is_none() && !before.has(State::TO) {
            self.drop_routed(routed);
            return;
        }
        let then = table::inbound(before, signal);
        let is_handed_off = routed.handoff.is_some();
        if then.state == before && exchange::reply(&then, is_handed_off).is_none() {
            self.subscription_ignored(key, routed);
            return;
        }
        if exchange::is_new_request(before, &then) && self.has_too_many_requests(key) {
            // §3.1.3, security warning. Its sender hears what it hears of a contact that does not
            // answer, and may ask again later.
            ::log::warn!(jid:% = account.jid; "subscription request dropped: too many wait");
            self.subscription_ignored(key, routed);
            return;
        }
        let reception = Reception {
            account: account.jid.clone(),
            contact: contact.clone(),
            signal,
            before,
            then,
            stanza: routed.stanza.clone(),
            is_local,
            handoff: routed.handoff,
        };
        let change: ChangeFn =
            Box::new(move |db| Ok(feature::value(exchange::receive(db, &reception)?)));
        let shift = Shift {
            before,
            after: then.state,
        };
        let is_delivered = then.is_delivered;
        let then: AccountContinuation = Box::new(move |router, key, result| {
            router.receive(key, &contact, shift, is_delivered, routed, result);
        });
        self.change_account(key, change, then);
    }

    /// Ends the way of a subscription stanza that has no effect. Its recipient is changing until the
    /// row is gone, or nothing is committed for a request of another server, as long as it would be if
    /// there were an account: what a stranger asks next waits alike, whether there is one or not
    /// (RFC 6120 §13.11).
    pub(crate) fn subscription_ignored(&mut self, key: Key, routed: Routed) {
        // An anonymous account is gone with its session, whatever waits for it.
        let may_change = self.accounts.get(key).is_some_and(|account| {
            !account.is_busy() && !matches!(account.standing, Standing::Anonymous)
        });
        // Of another server there is no row.
        let is_request = routed.stanza.type_ == Type::Subscribe;
        if !may_change || (routed.handoff.is_none() && !is_request) {
            self.drop_routed(routed);
            return;
        }
        let row = routed.handoff;
        let change: ChangeFn = Box::new(move |db| {
            if let Some(id) = row {
                handoff::delete(db, id)?;
            }
            Ok(feature::value(()))
        });
        let then: AccountContinuation = Box::new(move |router, _, result| {
            if let Some(id) = row {
                router.handoff_ended(id, result.map(drop));
            }
            router.out.settle(routed.ticket);
        });
        self.change_account(key, change, then);
    }

    /// After the commit at the recipient.
    fn receive(
        &mut self,
        key: Key,
        contact: &BareJid,
        shift: Shift,
        is_delivered: bool,
        routed: Routed,
        result: Result<Value, StoreError>,
    ) {
        let received = match result.and_then(storage_value::<Option<Received>>) {
            Ok(received) => received,
            Err(error) => {
                self.not_received(routed, error);
                return;
            }
        };
        if let Some(Received { item, reply }) = received {
            self.remember(key, contact, shift.after);
            if is_delivered {
                self.show(key, &routed.stanza);
            }
            // §3.1.6, §3.2.3, §3.3.3: the stanza first, then the push.
            if let Some(item) = &item {
                self.push_roster(key, item);
            }
            if shift.loses(State::FROM) {
                // §3.3.3, rule 3.
                self.send_unavailable_to(key, contact);
            }
            let is_approved = reply
                .as_ref()
                .is_some_and(|(reply, _)| reply.type_ == Type::Subscribed);
            match reply {
                Some((reply, Some(id))) => self.hand_off(Routed::new(reply, Ticket::none()), id),
                Some((reply, None)) => self.reply(reply),
                None => {}
            }
            if is_approved {
                // §3.1.5, for an approval that was given before. Who was subscribed all along by what we
                // know did not think so, and its resources may have heard nothing.
                self.send_presence_to(key, contact);
            }
            if shift.gains(State::TO) && routed.has_waited {
                // The contact's presence came before: to those that were available then.
                self.probe_for_all(key, contact);
            }
        }
        // Its row is gone with the change.
        self.out.settle(routed.ticket);
    }

    fn not_received(&mut self, routed: Routed, error: StoreError) {
        match routed.handoff {
            // The next start completes it.
            Some(_) if error == StoreError::Stopped => self.out.settle(routed.ticket),
            Some(id) => {
                ::log::log!(error.level(), id, error:%; "hand-off not completed, it is tried again");
                self.postpone(routed);
            }
            None => {
                ::log::log!(error.level(), error:%; "subscription not changed");
                self.reject(routed, error.into());
            }
        }
    }

    /// Has a hand-off tried again some time later, since the store could not do its part.
    pub(crate) fn postpone(&mut self, mut routed: Routed) {
        routed.has_waited = true;
        self.postponed.push(self.now.mono, routed);
    }

    /// A request goes to available resources, all else to interested ones (§3.1, implementation note;
    /// §3.1.6, §3.2.3, §3.3.3).
    fn show(&mut self, key: Key, stanza: &Stanza) {
        let is_request = Signal::of(stanza.type_) == Some(Signal::Subscribe);
        let meant = self.sessions_where(key, |session| match is_request {
            true => session.presence.is_some(),
            false => session.is_interested,
        });
        for session in meant {
            self.write(session, stanza);
        }
    }

    fn remember(&mut self, key: Key, contact: &BareJid, state: State) {
        let account = self.accounts.get_mut(key);
        if let Some(roster) = account.and_then(|account| account.roster.as_mut()) {
            roster.set(contact, state);
        }
    }

    fn is_roster_full(&self, key: Key) -> bool {
        let items_max = self.settings.limits.roster_items_max as usize;
        let account = self.accounts.get(key);
        let roster = account.and_then(|account| account.roster.as_ref());
        roster.is_some_and(|roster| roster.is_full(items_max))
    }

    fn has_too_many_requests(&self, key: Key) -> bool {
        let account = self.accounts.get(key);
        let waiting = account
            .and_then(|account| account.roster.as_ref())
            .map_or(0, |roster| {
                let states = roster.iter().map(|(_, state)| state);
                states.filter(|state| state.has(State::PENDING_IN)).count()
            });
        waiting >= self.settings.limits.pending_requests_max as usize
    }

    /// Shows a session that has become available the requests that wait for an answer (§3.1.3, rule 4),
    /// as they are stored. It is held until then, so that no client makes more than one read wait.
    pub(crate) fn deliver_requests(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get(session_key) else {
            return;
        };
        let key = session.account;
        let Some(account) = self.accounts.get(key) else {
            return;
        };
        let Some(roster) = &account.roster else {
            return;
        };
        let waiting: Vec<String> = roster
            .iter()
            .filter(|(_, state)| state.has(State::PENDING_IN))
            .map(|(jid, _)| jid.to_owned())
            .collect();
        if waiting.is_empty() {
            return;
        }
        let (jid, max) = (account.jid.clone(), waiting.len());
        let read: ReadFn = Box::new(move |db| Ok(feature::value(roster::requests(db, &jid, max)?)));
        let then: Continuation = Box::new(move |router, result| {
            match result.and_then(storage_value::<Vec<(BareJid, Vec<u8>)>>) {
                Ok(requests) => router.show_requests(session_key, &waiting, requests),
                Err(error) => ::log::log!(error.level(), error:%; "subscription requests not read"),
            }
            router.release(session_key);
        });
        self.hold(session_key);
        self.read(Lane::Quick, read, Waiter::Router(then));
    }

    /// Those of `requests` that waited when they were asked for and still do: one that has come since
    /// was shown as it came.
    fn show_requests(
        &mut self,
        session: Key,
        waiting: &[String],
        requests: Vec<(BareJid, Vec<u8>)>,
    ) {
        for (contact, bytes) in requests {
            let account = self.sessions.get(session).map(|session| session.account);
            let account = account.and_then(|key| self.accounts.get(key));
            let Some(account) = account else {
                return;
            };
            let roster = account.roster.as_ref();
            let state = roster.map_or(State::NONE, |roster| roster.state(contact.as_str()));
            // The roster gives them in order.
            let waited = waiting.binary_search_by(|jid| jid.as_str().cmp(contact.as_str()));
            if waited.is_err() || !state.has(State::PENDING_IN) {
                continue;
            }
            match Stanza::from_stored(bytes) {
                Some(stanza) => self.write(session, &stanza),
                None => ::log::error!(
                    jid:% = account.jid, contact:%; "stored subscription request is damaged"
                ),
            }
        }
    }

    /// Forgets the row that stands for a stanza whose way has ended.
    pub(crate) fn end_handoff(&mut self, handoff: Option<i64>) {
        let Some(id) = handoff else {
            return;
        };
        let then: RowContinuation =
            Box::new(move |router, result| router.handoff_ended(id, result));
        self.row_then(Row::HandedOff { id }, then);
    }

    fn handoff_ended(&mut self, id: i64, result: Result<(), StoreError>) {
        match result {
            // The next start ends it.
            Ok(()) | Err(StoreError::Stopped) => {}
            Err(error) => {
                ::log::log!(error.level(), id, error:%; "hand-off not ended, it is tried again");
                self.postponed.end_later(self.now.mono, id);
            }
        }
    }
}

/// Subscriptions are between bare JIDs (§3.1.2, §3.1.3).
fn between_accounts(stanza: &Stanza) -> Stanza {
    Stanza {
        to: stanza.to.as_ref().map(|to| to.bare().to_jid()),
        ..from_account(stanza)
    }
}

/// §3, implementation note: what concerns subscriptions is sent in the account's name.
fn from_account(stanza: &Stanza) -> Stanza {
    Stanza {
        from: stanza.from.as_ref().map(|from| from.bare().to_jid()),
        ..stanza.clone()
    }
}

//! Where a stanza goes: from a session outwards (RFC 6120 §8.1, §10), and within the recipient's
//! account (RFC 6121 §8.5).

use crate::limits::OUTPUT_BYTES_MAX;
use crate::ns;
use crate::router::account::Standing;
use crate::router::feature::{HookContext, SessionEvent, Stage, Target, Verdict};
use crate::router::loading::Tier;
use crate::router::settlement::{Origin, Source, Ticket};
use crate::router::subscription::table::Signal;
use crate::router::{Router, RowContinuation};
use crate::slots::Key;
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{Kind, Stanza, Type};
use crate::stanza::{StreamCondition, StreamError};
use crate::storage::Row;

/// A stanza on its way, with the duty to settle it.
#[derive(Debug)]
pub struct Routed {
    /// It has `from` and `to`.
    pub stanza: Stanza,
    /// Who waits for its settlement.
    pub ticket: Ticket,
    /// The row in which it survives a crash until its recipient's change is committed
    /// (`Two commits` in lib.rs); subscription stanzas between local accounts have one.
    pub handoff: Option<i64>,
    /// Whether it has waited for its recipient's account to be loaded, or for the store to take it.
    pub has_waited: bool,
}

impl Routed {
    /// A stanza that nothing in the store stands for.
    pub fn new(stanza: Stanza, ticket: Ticket) -> Routed {
        Routed {
            stanza,
            ticket,
            handoff: None,
            has_waited: false,
        }
    }
}

impl Router {
    /// Takes a stanza that a session sends. `size` is its length as received.
    ///
    /// # Errors
    /// `invalid-from` if it names another sender (RFC 6120 §8.1.2.1, §4.9.3.9).
    pub fn outbound(
        &mut self,
        session_key: Key,
        mut stanza: Stanza,
        size: usize,
    ) -> Result<(), StreamError> {
        let Some(session) = self.sessions.get_mut(session_key) else {
            // The session was ended in this very turn; its stream error is on its way.
            return Ok(());
        };
        if let Some(from) = &stanza.from {
            let is_own = from.as_str() == session.jid.as_str()
                || (from.resource().is_none() && from.as_str() == session.jid.bare_str());
            if !is_own {
                return Err(StreamError::new(
                    StreamCondition::InvalidFrom,
                    "The 'from' of a stanza is your own address",
                ));
            }
        }
        let account = session.account;
        let is_request = stanza.kind == Kind::Iq && matches!(stanza.type_, Type::Get | Type::Set);
        let seq = session.unsettled.issue(size, is_request);
        // RFC 6120 §8.1.2.1. Subscriptions are between bare JIDs: they get theirs when they are on their
        // way, so that what refuses them before answers this very session.
        stanza.from = Some(session.jid.to_jid());
        let ticket = Ticket::new(Origin {
            shard: self.shard,
            source: Source::Session(session_key),
            seq,
        });
        let mut routed = Routed::new(stanza, ticket);
        for stage in [Stage::OutboundCheck, Stage::OutboundAmend] {
            match self.run_hooks(stage, account, Some(session_key), routed) {
                Some(rest) => routed = rest,
                None => return Ok(()),
            }
        }
        self.copy(
            Stage::OutboundCopy,
            account,
            Some(session_key),
            &routed.stanza,
        );
        self.send(session_key, routed);
        Ok(())
    }

    fn send(&mut self, session: Key, mut routed: Routed) {
        if routed.stanza.kind == Kind::Presence {
            let stanza = &routed.stanza;
            let tells_all = stanza.to.is_none() && stanza.type_ == Type::Available;
            self.outbound_presence(session, routed);
            if tells_all {
                self.session_event(SessionEvent::Presence, session);
            }
            return;
        }
        let Some(sender) = self.sessions.get(session) else {
            self.drop_routed(routed);
            return;
        };
        let (own, account) = (sender.jid.bare(), sender.account);
        // RFC 6120 §10.3: without `to` the server acts for the account itself.
        let to = routed.stanza.to.get_or_insert_with(|| own.to_jid());
        if to.bare_str() == own.as_str() {
            self.send_to_own(session, account, routed);
        } else {
            self.route(routed);
        }
    }

    /// Sends a stanza to the sender's own account: at once and not by way of the queue, since presence
    /// and subscriptions that the client sends next are processed at once as well, and must not
    /// overtake this (RFC 6120 §10.1). If it has to wait, so do they.
    fn send_to_own(&mut self, session: Key, account: Key, routed: Routed) {
        match self.accounts.get_mut(account) {
            Some(account) if account.is_busy() && !account.is_parting => {
                account.inbox.push_outbound(session, routed);
                self.hold(session);
            }
            _ => self.inbound(routed),
        }
    }

    /// Sends a stanza towards its `to` (RFC 6120 §10.4, §10.5).
    pub(crate) fn route(&mut self, routed: Routed) {
        let Some(to) = &routed.stanza.to else {
            debug_assert!(false, "a routed stanza has an address");
            self.out.settle(routed.ticket);
            return;
        };
        if self.domain(to.domain()).is_none() {
            if self.settings.components.contains_key(to.domain()) {
                self.route_to_component(routed);
            } else {
                self.route_to_peer(routed);
            }
        } else if to.local().is_none() {
            self.handle_for_domain(routed);
        } else {
            let shard = self.placement.shard_of(to.bare_str());
            self.out.route(shard, routed);
        }
    }

    /// Ends a stanza's way with an error to its sender.
    pub(crate) fn reject(&mut self, routed: Routed, error: StanzaError) {
        let Routed {
            stanza,
            ticket,
            handoff,
            has_waited: _,
        } = routed;
        if let Some(reply) = stanza.error(&error) {
            match self.own_sender(&stanza) {
                // At once, as what is asked of one's own account is answered at once.
                Some(session) => self.write(session, &reply),
                None => self.reply(reply),
            }
        }
        self.end_handoff(handoff);
        self.out.settle(ticket);
    }

    /// The session that has sent a stanza to its own account.
    fn own_sender(&self, stanza: &Stanza) -> Option<Key> {
        let (from, to) = (stanza.from.as_ref()?, stanza.to.as_ref()?);
        (from.bare_str() == to.bare_str()).then(|| self.session_at(from))?
    }

    /// Ends a stanza's way, with nobody told.
    pub(crate) fn drop_routed(&mut self, routed: Routed) {
        self.end_handoff(routed.handoff);
        self.out.settle(routed.ticket);
    }

    /// Sends a stanza that the server makes itself.
    pub(crate) fn reply(&mut self, stanza: Stanza) {
        self.route(Routed::new(stanza, Ticket::none()));
    }

    /// Takes a stanza for an account of this shard.
    pub fn inbound(&mut self, routed: Routed) {
        if self.is_for_nobody(&routed) {
            self.drop_routed(routed);
            return;
        }
        let to = routed.stanza.to.as_ref();
        let tier = self.tier_for(&routed);
        let Some(key) = to.and_then(|to| self.account_for(to.bare_str(), tier)) else {
            self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            return;
        };
        let Some(account) = self.accounts.get_mut(key) else {
            self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            return;
        };
        let mut routed = routed;
        // What is sent to a name whose account was deleted does not wait until all of its contacts know:
        // two accounts that are deleted at once would wait for each other.
        if account.is_busy() && !account.is_parting {
            routed.has_waited |= account.is_loading;
            if let Err(routed) = account.inbox.push(routed) {
                if self.postpone_closing(key) {
                    self.inbound(routed);
                    return;
                }
                self.no_room_in_inbox(key, routed);
            }
            return;
        }
        if tier == Tier::Contact && account.roster.is_none() {
            self.load_for(key, routed);
            return;
        }
        self.inbound_loaded(key, routed);
    }

    /// Too much waits for an account already. An answer leaves an error in its place, which is small: what
    /// has asked for it must hear of it, and nobody answers an answer (RFC 6120 §8.2.3).
    fn no_room_in_inbox(&mut self, key: Key, mut routed: Routed) {
        let error = StanzaError::new(Condition::ResourceConstraint)
            .text("Too many stanzas wait for this account; try again soon");
        let account = self.accounts.get_mut(key);
        let short = routed.stanza.instead_of_answer(&error);
        let (Some(short), Some(account)) = (short, account) else {
            self.reject(routed, error);
            return;
        };
        routed.stanza = short;
        if let Err(routed) = account.inbox.push(routed) {
            // More of them wait than there can be requests.
            self.drop_routed(routed);
        }
    }

    /// Takes a stanza for an account of which all is known that it needs.
    pub(crate) fn inbound_loaded(&mut self, key: Key, routed: Routed) {
        let Some(account) = self.accounts.get(key) else {
            self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            return;
        };
        if !account.is_served() {
            match account.standing {
                // It is disabled. A contact's change left out now would never be made up for.
                Standing::Known(_) if is_subscription(&routed.stanza) => {
                    self.inbound_subscription(key, routed);
                }
                _ => self.no_such_user(key, routed),
            }
            return;
        }
        self.hand_in(key, routed);
    }

    /// Delivers a stanza to an account that need not be waited for.
    pub(crate) fn hand_in(&mut self, key: Key, mut routed: Routed) {
        for stage in [Stage::InboundCheck, Stage::InboundAmend] {
            match self.run_hooks(stage, key, None, routed) {
                Some(rest) => routed = rest,
                None => return,
            }
        }
        self.deliver(key, routed);
    }

    /// Whether a stanza is presence for an account that no session could hear: then nothing needs to
    /// be loaded. Presence is not stored (RFC 6121 §8.5.2.2.2), and a resource that becomes available
    /// later asks for it. Not so if the account is busy, perhaps with the subscription by which the
    /// presence comes (§3.1.5): a resource that becomes available before that is done does not ask, since
    /// it does not know of the subscription.
    fn is_for_nobody(&self, routed: &Routed) -> bool {
        let stanza = &routed.stanza;
        let (is_told, is_probe) = match stanza.kind {
            Kind::Presence => (
                matches!(
                    stanza.type_,
                    Type::Available | Type::Unavailable | Type::Error
                ),
                self.is_own_probe(routed),
            ),
            Kind::Message | Kind::Iq => (false, false),
        };
        (is_told || is_probe)
            && stanza.to.as_ref().is_some_and(|to| {
                let account = self.accounts.find(to.bare_str());
                let account = account.and_then(|key| self.accounts.get(key));
                account.is_none_or(|account| {
                    account.sessions.is_empty() && (is_probe || !account.is_busy())
                })
            })
    }

    /// RFC 6121 §8.5.1. What comes back is what comes back from an account that is not online, so
    /// that nobody can find out who has one; but for messages that are stored for those who have
    /// (XEP-0160 §2), since people must hear of an address that they got wrong.
    fn no_such_user(&mut self, account: Key, routed: Routed) {
        let to = routed.stanza.to.as_ref();
        let is_bare = to.is_some_and(|to| to.resource().is_none());
        match (routed.stanza.kind, routed.stanza.type_) {
            // What whoever asks gets of an account is looked up for a name without one as well.
            (Kind::Iq, Type::Get | Type::Set) if is_bare => {
                self.handle_for_account(account, routed)
            }
            (Kind::Iq, Type::Get | Type::Set) => {
                self.refuse(
                    account,
                    routed,
                    StanzaError::new(Condition::ServiceUnavailable),
                );
            }
            (Kind::Presence, Type::Probe) => self.inbound_probe(account, routed),
            (Kind::Presence, _) => self.subscription_ignored(account, routed),
            (Kind::Message, Type::Headline) => self.drop_routed(routed),
            (Kind::Message | Kind::Iq, _) => {
                self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            }
        }
    }

    fn deliver(&mut self, account: Key, routed: Routed) {
        let resource = routed.stanza.to.as_ref().and_then(|to| to.resource());
        let session = resource.map(|resource| self.session_of(account, resource));
        match (routed.stanza.kind, routed.stanza.type_, session) {
            // Probes and subscriptions are the server's, whatever the address says (RFC 6121 §8.5.3).
            (Kind::Presence, Type::Probe, _) => self.inbound_probe(account, routed),
            // RFC 6121 §8.5.3.2.2.
            (
                Kind::Presence,
                Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed,
                Some(None),
            ) => self.drop_routed(routed),
            (
                Kind::Presence,
                Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed,
                _,
            ) => self.inbound_subscription(account, routed),
            (_, _, None) => self.deliver_to_bare(account, routed),
            (_, _, Some(Some(session))) => self.deliver_to_session(account, session, routed),
            (_, _, Some(None)) => self.deliver_to_absent(account, routed),
        }
    }

    /// RFC 6121 §8.5.3.1: to a connected resource, whatever its presence.
    fn deliver_to_session(&mut self, account: Key, session: Key, routed: Routed) {
        let stanza = &routed.stanza;
        let is_request = stanza.kind == Kind::Iq && matches!(stanza.type_, Type::Get | Type::Set);
        let is_known = |from| self.shares_presence(session, from);
        let is_refused = is_false_push(stanza) || !stanza.from.as_ref().is_some_and(is_known);
        if is_request && is_refused {
            // Its answer would tell a stranger that the resource is there.
            let error = StanzaError::new(Condition::ServiceUnavailable);
            self.refuse(account, routed, error);
            return;
        }
        if stanza.kind == Kind::Presence {
            self.heard_presence(session, stanza);
            self.write(session, stanza);
        } else if let Err(error) = self.write_in_order(account, &[session], stanza) {
            self.reject(routed, error);
            return;
        }
        self.copy(Stage::InboundCopy, account, Some(session), &routed.stanza);
        self.out.settle(routed.ticket);
    }

    /// RFC 6121 §8.5.2: to the bare JID.
    fn deliver_to_bare(&mut self, account: Key, routed: Routed) {
        match (routed.stanza.kind, routed.stanza.type_) {
            (Kind::Message, Type::Groupchat) => {
                self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            }
            (Kind::Message, Type::Error) => self.out.settle(routed.ticket),
            (Kind::Message, Type::Headline) => {
                match self.deliver_to_takers(account, &routed.stanza) {
                    Ok(_) => self.out.settle(routed.ticket),
                    Err(error) => self.reject(routed, error),
                }
            }
            (Kind::Message, _) => self.deliver_message(account, routed),
            // An error answers what was sent in the account's name, such as a subscription request
            // (RFC 6121 §3.1.2).
            (Kind::Presence, Type::Available | Type::Unavailable | Type::Error) => {
                for session in self.sessions_where(account, |_| true) {
                    self.heard_presence(session, &routed.stanza);
                }
                for session in self.sessions_where(account, |session| session.presence.is_some()) {
                    self.write(session, &routed.stanza);
                }
                self.out.settle(routed.ticket);
            }
            (Kind::Presence, _) => self.drop_routed(routed),
            (Kind::Iq, _) => self.handle_for_account(account, routed),
        }
    }

    /// RFC 6121 §8.5.2.1.1, §8.5.2.2.1, for messages of type normal and chat.
    fn deliver_message(&mut self, account: Key, routed: Routed) {
        let is_flushing = self
            .accounts
            .get(account)
            .is_some_and(|account| account.offline.is_flushing());
        let mut routed = routed;
        if is_flushing {
            // Stored messages are being delivered: what can be stored waits behind them
            // (`Features` in lib.rs).
            match self.run_hooks(Stage::Undelivered, account, None, routed) {
                Some(rest) => routed = rest,
                None => return,
            }
        }
        match self.deliver_to_takers(account, &routed.stanza) {
            Ok(false) => {}
            Ok(true) => return self.out.settle(routed.ticket),
            Err(error) => return self.reject(routed, error),
        }
        if !is_flushing {
            match self.run_hooks(Stage::Undelivered, account, None, routed) {
                Some(rest) => routed = rest,
                None => return,
            }
        }
        self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
    }

    /// RFC 6121 §8.5.3.2: to a resource that is not connected. A chat goes on as one to the account
    /// does. The error to a groupchat message tells a room that its occupant is gone.
    fn deliver_to_absent(&mut self, account: Key, routed: Routed) {
        match (routed.stanza.kind, routed.stanza.type_) {
            (Kind::Message, Type::Chat) => self.deliver_to_bare(account, routed),
            (Kind::Message, Type::Normal | Type::Groupchat) => {
                self.reject(routed, StanzaError::new(Condition::ServiceUnavailable));
            }
            (Kind::Iq, Type::Get | Type::Set) => {
                self.refuse(
                    account,
                    routed,
                    StanzaError::new(Condition::ServiceUnavailable),
                );
            }
            _ => self.out.settle(routed.ticket),
        }
    }

    /// Delivers a message to every available resource that takes messages
    /// (RFC 6121 §8.5.2.1.1, its second choice). False if there is none.
    fn deliver_to_takers(&mut self, account: Key, stanza: &Stanza) -> Result<bool, StanzaError> {
        let takers = self.sessions_where(account, |session| session.takes_messages());
        self.write_in_order(account, &takers, stanza)?;
        Ok(!takers.is_empty())
    }

    pub(crate) fn sessions_where(
        &self,
        account: Key,
        is_meant: impl Fn(&crate::router::session::Session) -> bool,
    ) -> Vec<Key> {
        let Some(account) = self.accounts.get(account) else {
            return Vec::new();
        };
        let sessions = account.sessions.iter().copied();
        sessions
            .filter(|key| self.sessions.get(*key).is_some_and(&is_meant))
            .collect()
    }

    /// Writes a stanza to a session's connection. One that does not read is closed
    /// (RFC 6120 §4.9.3.17).
    pub(crate) fn write(&mut self, session_key: Key, stanza: &Stanza) {
        let Some(session) = self.sessions.get(session_key) else {
            return;
        };
        let conn = session.conn;
        let amended = if self.pipeline.hooks(Stage::SessionSend).is_empty() {
            None
        } else {
            let Some(account) = self.accounts.get(session.account) else {
                return;
            };
            let context = HookContext {
                now: self.now,
                settings: &self.settings,
                account,
                session: Some(session),
            };
            let mut amended = stanza.clone();
            for hook in self.pipeline.hooks(Stage::SessionSend) {
                match hook(&context, &mut amended) {
                    Verdict::Continue => {}
                    Verdict::Handled | Verdict::Reject(_) | Verdict::Store(_) => return,
                }
            }
            Some(amended)
        };
        let Some(output) = self.out.outputs.append(conn) else {
            return;
        };
        amended.as_ref().unwrap_or(stanza).write(output);
        if output.len() > OUTPUT_BYTES_MAX {
            self.end_session(
                session_key,
                StreamError::new(
                    StreamCondition::ResourceConstraint,
                    "You do not read what others send you",
                ),
            );
        }
    }

    /// Runs the hooks of a stage. None if one of them ended the stanza's way.
    pub(crate) fn run_hooks(
        &mut self,
        stage: Stage,
        account: Key,
        session: Option<Key>,
        mut routed: Routed,
    ) -> Option<Routed> {
        // By number: the count behind the pipeline is shared by all shards.
        for index in 0.. {
            let Some(&hook) = self.pipeline.hooks(stage).get(index) else {
                break;
            };
            let key = account;
            let Some(account) = self.accounts.get(key) else {
                self.drop_routed(routed);
                return None;
            };
            let context = HookContext {
                now: self.now,
                settings: &self.settings,
                account,
                session: session.and_then(|session| self.sessions.get(session)),
            };
            match hook(&context, &mut routed.stanza) {
                Verdict::Continue => {}
                Verdict::Handled => {
                    self.drop_routed(routed);
                    return None;
                }
                Verdict::Reject(error) => {
                    let is_request = routed.stanza.kind == Kind::Iq;
                    if is_request && stage >= Stage::InboundCheck {
                        self.refuse(key, routed, error);
                    } else {
                        self.reject(routed, error);
                    }
                    return None;
                }
                Verdict::Store(row) => {
                    self.store(key, row, routed);
                    return None;
                }
            }
        }
        Some(routed)
    }

    /// Ends a stanza's way in the store (`Settlement` in lib.rs): it is settled when its row is
    /// committed.
    fn store(&mut self, account: Key, row: Row, routed: Routed) {
        if let Row::Offline(message) = row {
            self.store_offline(account, message, routed);
            return;
        }
        let then: RowContinuation = Box::new(move |router, result| match result {
            Ok(()) => router.drop_routed(routed),
            Err(error) => {
                ::log::log!(error.level(), error:%; "stanza not stored");
                router.reject(routed, error.into());
            }
        });
        self.row_then(row, then);
    }

    /// How much of its recipient's account a stanza needs.
    fn tier_for(&self, routed: &Routed) -> Tier {
        let stanza = &routed.stanza;
        let Some(to) = &stanza.to else {
            return Tier::Delivery;
        };
        match (stanza.kind, stanza.type_) {
            (Kind::Message, _)
            | (Kind::Presence, Type::Available | Type::Unavailable | Type::Error) => Tier::Delivery,
            // What a stranger asks for is a new contact; what a local contact does has an answer
            // (§3.2.3, §3.3.3), and a row to be deleted with it.
            (Kind::Presence, Type::Subscribe) => Tier::Session,
            (Kind::Presence, _) if routed.handoff.is_some() => Tier::Session,
            (Kind::Presence, _) => Tier::Contact,
            // Whoever has a session has a roster, so one to a full JID needs none.
            (Kind::Iq, _) if to.is_full() => Tier::Delivery,
            (Kind::Iq, _) => {
                let from = stanza.from.as_ref();
                let is_own = from.is_some_and(|from| from.bare_str() == to.bare_str());
                match !is_own && self.has_handler(Target::Contact, stanza) {
                    true => Tier::Contact,
                    false => Tier::Delivery,
                }
            }
        }
    }

    fn has_handler(&self, target: Target, iq: &Stanza) -> bool {
        let payload = &iq.payload;
        payload.children().first().is_some_and(|child| {
            let (ns, name) = (payload.ns(child), payload.name(child));
            self.pipeline
                .iq_handler(target, iq.type_, ns, name)
                .is_some()
        })
    }

    /// Runs the hooks of a copying stage, which leave the stanza as it is.
    fn copy(&mut self, stage: Stage, account: Key, session: Option<Key>, stanza: &Stanza) {
        if self.pipeline.hooks(stage).is_empty() {
            return;
        }
        let Some(account) = self.accounts.get(account) else {
            return;
        };
        let context = HookContext {
            now: self.now,
            settings: &self.settings,
            account,
            session: session.and_then(|session| self.sessions.get(session)),
        };
        let mut copy = stanza.clone();
        for hook in self.pipeline.hooks(stage) {
            hook(&context, &mut copy);
        }
    }
}

/// Whether a request looks like a roster push and is not the server's own (RFC 6121 §2.1.6): clients are
/// to ignore it, and some did not.
fn is_false_push(stanza: &Stanza) -> bool {
    stanza.type_ == Type::Set && stanza.payload.find(ns::ROSTER, "query").is_some()
}

/// Whether it is one of the four types of RFC 6121 §3.
pub(crate) fn is_subscription(stanza: &Stanza) -> bool {
    stanza.kind == Kind::Presence && Signal::of(stanza.type_).is_some()
}

#[cfg(test)]
mod tests;

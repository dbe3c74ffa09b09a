//! Presence: what a session tells of itself, and to whom (RFC 6121 §4).
//!
//! The account's own resources are told at once. Contacts are told in steps of a bounded size
//! (`fanout`), during which the session that speaks is held. Contacts' presence is not kept: a
//! resource that becomes available asks for it by probes (`probe`).
//!
//! Left out: `redirect` and `gone` in answers to probes (§4.3.2): an account has no forwarding
//! address here.

mod fanout;
mod probe;
#[cfg(test)]
mod tests;

pub(crate) use fanout::{Fanouts, Parting};

use crate::clock::Wall;
use crate::jid::{BareJid, Jid};
use crate::limits::DIRECTED_MAX;
use crate::ns;
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::feature::SessionEvent;
use crate::router::presence::fanout::Broadcast;
use crate::router::session::{Availability, Session};
use crate::router::settlement::Ticket;
use crate::slots::Key;
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{Kind, Stanza, Type, delay};
use crate::storage::roster::State;
use crate::xml::Payload;

impl Router {
    /// Takes presence that a session sends.
    pub(crate) fn outbound_presence(&mut self, session: Key, routed: Routed) {
        let has_to = routed.stanza.to.is_some();
        match routed.stanza.type_ {
            Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed => {
                self.outbound_subscription(session, routed);
            }
            Type::Probe => self.outbound_probe(session, routed),
            Type::Available | Type::Unavailable if has_to => self.directed(session, routed),
            Type::Available => self.own_available(session, routed),
            Type::Unavailable => {
                self.own_unavailable(session, &routed.stanza);
                self.drop_routed(routed);
            }
            _ if has_to => self.route(routed),
            // An error that tells nobody of anything.
            _ => self.drop_routed(routed),
        }
    }

    /// Runs what the features do when something happens to a session.
    pub(crate) fn session_event(&mut self, event: SessionEvent, session: Key) {
        let pipeline = std::sync::Arc::clone(&self.pipeline);
        for run in pipeline.session_hooks(event) {
            run(self, session);
        }
    }

    /// RFC 6121 §4.2, §4.4: presence without `to` and type tells that the session is available, and
    /// how.
    fn own_available(&mut self, session_key: Key, mut routed: Routed) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            self.drop_routed(routed);
            return;
        };
        let priority = match priority_of(&routed.stanza) {
            Ok(priority) => priority,
            Err(error) => {
                routed.stanza.to = Some(session.jid.bare().to_jid());
                self.reject(routed, error);
                return;
            }
        };
        let account = session.account;
        let took_messages = session.takes_messages();
        let before = session.presence.take();
        let is_initial = before.is_none();
        session.presence = Some(Availability {
            priority,
            since: before.map_or(self.now.wall, |presence| presence.since),
            stanza: stamped(&routed.stanza, self.now.wall),
        });
        let takes_messages = priority >= 0;
        // The echo tells the client that it is available, so it comes before what others say.
        self.tell_own(account, &routed.stanza);
        if is_initial {
            self.tell_of_others(session_key);
        }
        if self.sessions.get(session_key).is_none() {
            // It does not read; what has ended it has told its contacts so.
            self.drop_routed(routed);
            return;
        }
        let mut broadcast = Broadcast::new(session_key, routed.stanza.clone());
        broadcast.has_probes = is_initial;
        self.broadcast(account, broadcast);
        self.drop_routed(routed);
        if is_initial {
            self.session_event(SessionEvent::Available, session_key);
        }
        if takes_messages && !took_messages {
            self.session_event(SessionEvent::TakesMessages, session_key);
        }
    }

    /// RFC 6121 §4.5: unavailable presence without `to` ends the presence session, not the session.
    fn own_unavailable(&mut self, session_key: Key, stanza: &Stanza) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let account = session.account;
        let was_available = session.presence.is_some();
        let directed = std::mem::take(&mut session.directed);
        if was_available {
            // §4.5.2: the one that speaks is told, too.
            self.tell_own(account, stanza);
        }
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.presence = None;
            self.broadcast_gone(
                session_key,
                account,
                stanza.clone(),
                was_available,
                directed,
            );
        }
    }

    /// RFC 6121 §4.5.2: a session has ended, however it did, and is no longer there. Everybody who
    /// takes it to be available is told.
    pub(crate) fn presence_ended(&mut self, key: Key, session: Session) {
        let was_available = session.presence.is_some();
        let mut stanza = Stanza::new(Kind::Presence, Type::Unavailable, Payload::empty());
        stanza.from = Some(session.jid.to_jid());
        if was_available {
            self.tell_own(session.account, &stanza);
        }
        let directed = session.directed;
        self.broadcast_gone(key, session.account, stanza, was_available, directed);
    }

    fn broadcast_gone(
        &mut self,
        session: Key,
        account: Key,
        stanza: Stanza,
        was_available: bool,
        directed: Vec<Jid>,
    ) {
        let is_own = |to: &Jid| {
            let from = stanza.from.as_ref();
            from.is_some_and(|from| from.bare_str() == to.bare_str())
        };
        let (own, directed): (Vec<Jid>, Vec<Jid>) = directed.into_iter().partition(is_own);
        if !was_available {
            // At once, as `directed` sends it: who comes next may broadcast under the same name.
            for to in own {
                let copy = Stanza {
                    to: Some(to),
                    ..stanza.clone()
                };
                self.hand_in(account, Routed::new(copy, Ticket::none()));
            }
        }
        if !was_available && directed.is_empty() {
            return;
        }
        let mut broadcast = Broadcast::new(session, stanza);
        broadcast.has_contacts = was_available;
        broadcast.directed = directed.into_iter();
        self.broadcast(account, broadcast);
    }

    /// Tells the account's own available resources (RFC 6121 §4.2.2, §4.4.2, §4.5.2).
    fn tell_own(&mut self, account: Key, stanza: &Stanza) {
        let mut stanza = stanza.clone();
        stanza.to = stanza.from.as_ref().map(|from| from.bare().to_jid());
        for session in self.sessions_where(account, |session| session.presence.is_some()) {
            self.write(session, &stanza);
        }
    }

    /// Tells a resource that has become available of the account's other ones: what probes would
    /// tell it if the account had to ask itself.
    fn tell_of_others(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get(session_key) else {
            return;
        };
        let to = session.jid.to_jid();
        for other in self.sessions_where(session.account, |other| other.presence.is_some()) {
            if other != session_key
                && let Some(mut stanza) = self.presence_of(other)
            {
                stanza.to = Some(to.clone());
                self.write(session_key, &stanza);
            }
        }
    }

    /// The last presence of an available resource, without `to`.
    fn presence_of(&self, session: Key) -> Option<Stanza> {
        let presence = self.sessions.get(session)?.presence.as_ref()?;
        Some(presence.stanza.clone())
    }

    /// Sends the presence of each available resource to a contact that may see it from now on
    /// (RFC 6121 §3.1.5).
    pub fn send_presence_to(&mut self, account: Key, contact: &BareJid) {
        for session in self.sessions_where(account, |session| session.presence.is_some()) {
            if let Some(mut stanza) = self.presence_of(session) {
                stanza.to = Some(contact.to_jid());
                self.reply(stanza);
            }
        }
    }

    /// Sends unavailable presence of each available resource to a contact that may not see it any
    /// more (RFC 6121 §3.2.2, §3.3.3), and of each that has sent it presence directly: it gets none
    /// of that either (§4.6.1).
    pub fn send_unavailable_to(&mut self, account: Key, contact: &BareJid) {
        let is_seen = |session: &Session| {
            let is_directed = |jid: &Jid| jid.bare_str() == contact.as_str();
            session.presence.is_some() || session.directed.iter().any(is_directed)
        };
        for key in self.sessions_where(account, is_seen) {
            let Some(session) = self.sessions.get_mut(key) else {
                continue;
            };
            let bare = contact.as_str();
            session.directed.retain(|jid| jid.bare_str() != bare);
            let mut stanza = Stanza::new(Kind::Presence, Type::Unavailable, Payload::empty());
            stanza.from = Some(session.jid.to_jid());
            stanza.to = Some(contact.to_jid());
            self.reply(stanza);
        }
        // Those that have gone, of which the contact has not been told yet.
        for stanza in self.partings_before(account, contact) {
            self.send_copy(&stanza, contact.to_jid());
        }
    }

    // --- directed presence ---

    /// RFC 6121 §4.6.3: presence to one entity. Who is not told by broadcasts is remembered, to be
    /// told when the resource goes.
    fn directed(&mut self, session_key: Key, routed: Routed) {
        let (Some(session), Some(to)) = (self.sessions.get(session_key), &routed.stanza.to) else {
            self.drop_routed(routed);
            return;
        };
        let account = session.account;
        let is_own = session.jid.bare_str() == to.bare_str();
        // Case 1; in cases 2 and 3 a broadcast does not reach it.
        let is_broadcast_to = session.presence.is_some() && self.is_broadcast_to(account, to);
        let to = to.clone();
        let Some(session) = self.sessions.get_mut(session_key) else {
            self.drop_routed(routed);
            return;
        };
        if routed.stanza.type_ == Type::Unavailable {
            session.directed.retain(|jid| *jid != to);
        } else if !is_broadcast_to && !session.directed.contains(&to) {
            if session.directed.len() >= DIRECTED_MAX {
                let error = StanzaError::new(Condition::ResourceConstraint)
                    .text("You have sent presence to too many; leave some of them first");
                self.reject(routed, error);
                return;
            }
            session.directed.push(to);
        }
        if is_own {
            // At once and not by way of the inbox: the account's own resources are told of broadcasts at
            // once, and none must overtake this.
            self.hand_in(account, routed);
        } else {
            self.route(routed);
        }
    }

    /// Whether an entity gets what the account's available resources broadcast: a contact with a
    /// subscription does, and the account itself (RFC 6121 §4.2.2).
    fn is_broadcast_to(&self, account: Key, entity: &Jid) -> bool {
        let own = self.accounts.get(account).map(|account| &account.jid);
        own.is_some_and(|own| own.as_str() == entity.bare_str())
            || self.state_of(account, entity).has(State::FROM)
    }

    /// RFC 6121 §4.6.1: who is gone, or answers that it is not there, need not be told that a session
    /// goes.
    pub(crate) fn heard_presence(&mut self, session: Key, stanza: &Stanza) {
        let is_gone = match stanza.type_ {
            Type::Unavailable => true,
            Type::Error => !is_too_much(stanza),
            _ => false,
        };
        if is_gone
            && let Some(session) = self.sessions.get_mut(session)
            && let Some(from) = &stanza.from
        {
            session.directed.retain(|jid| jid != from);
        }
    }

    /// Whether an entity may know that a session is there (RFC 6121 §8.5.3.1): it is of the same
    /// account, sees its presence, or was sent presence directly. Of a room, all occupants count.
    pub(crate) fn shares_presence(&self, session: Key, entity: &Jid) -> bool {
        let Some(session) = self.sessions.get(session) else {
            return false;
        };
        let account = self.accounts.get(session.account);
        account.is_some_and(|account| account.shows_presence_to(entity.bare_str()))
            || has_directed(session, entity)
    }

    /// The state of an entity in the roster of an account; [`State::NONE`] where it is not loaded.
    fn state_of(&self, account: Key, entity: &Jid) -> State {
        let account = self.accounts.get(account);
        account
            .and_then(|account| account.roster.as_ref())
            .map_or(State::NONE, |roster| roster.state(entity.bare_str()))
    }
}

/// XEP-0203 §2: the last presence says when it was sent to those who get it later.
fn stamped(stanza: &Stanza, now: Wall) -> Stanza {
    let mut stamped = stanza.clone();
    if let Some(from) = &stanza.from
        && stanza.payload.find(ns::DELAY, "delay").is_none()
    {
        stamped.payload = stanza.payload.with(&delay(from, now));
    }
    stamped
}

/// Whether an error says that a stanza was too much for who is there all the same: it may answer
/// another stanza than the one that showed the session, such as a subscription request.
fn is_too_much(stanza: &Stanza) -> bool {
    let error = stanza.payload.find_element(ns::CLIENT, "error");
    error.is_some_and(|error| {
        let limits = [
            Condition::InternalServerError,
            Condition::PolicyViolation,
            // Its server cannot be reached now; when it is again, it still takes the session to be there.
            Condition::RemoteServerTimeout,
            Condition::ResourceConstraint,
        ];
        let mut names = limits.iter().map(Condition::as_str);
        names.any(|name| error.find(ns::STANZA_ERROR, name).is_some())
    })
}

/// Whether a session has sent presence directly to an entity, or to another resource of it.
fn has_directed(session: &Session, entity: &Jid) -> bool {
    let mut directed = session.directed.iter();
    directed.any(|jid| jid.bare_str() == entity.bare_str())
}

/// RFC 6121 §4.7.2.3: one integer from -128 to 127, 0 if there is none.
///
/// # Errors
/// `bad-request` for anything else: a value that this server took for another one would have to be
/// changed for all who see the presence.
pub(crate) fn priority_of(stanza: &Stanza) -> Result<i8, StanzaError> {
    let payload = &stanza.payload;
    let mut priorities = payload
        .children()
        .iter()
        .filter(|child| payload.name(child) == "priority" && payload.ns(child).is_empty());
    let Some(first) = priorities.next() else {
        return Ok(0);
    };
    let text = payload.element(first).text();
    let text = text.trim();
    match text.parse() {
        Ok(priority) if priorities.next().is_none() => Ok(priority),
        Err(_) if text.is_empty() && priorities.next().is_none() => Ok(0),
        _ => Err(StanzaError::new(Condition::BadRequest)
            .text("The priority of a presence is one integer from -128 to 127")),
    }
}

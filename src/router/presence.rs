//! Presence: what a session tells of itself, and to whom (RFC 6121 §4).

use crate::jid::FullJid;
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::feature::SessionEvent;
use crate::router::session::Availability;
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type};
use crate::xml::Payload;

impl Router {
    /// Takes presence that a session sends.
    pub(crate) fn outbound_presence(&mut self, session: Key, routed: Routed) {
        let is_subscription = matches!(
            routed.stanza.type_,
            Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed
        );
        match &routed.stanza.to {
            None if !is_subscription => {
                self.own_presence(session, &routed.stanza);
                self.out.settle(routed.ticket);
            }
            _ if is_subscription => self.outbound_subscription(session, routed),
            _ => self.route(routed),
        }
    }

    /// Answers a presence probe (RFC 6121 §4.3.2).
    pub(crate) fn inbound_probe(&mut self, _account: Key, routed: Routed) {
        self.drop_routed(routed);
    }

    /// Runs what the features do when something happens to a session.
    pub(crate) fn session_event(&mut self, event: SessionEvent, session: Key) {
        let pipeline = std::sync::Arc::clone(&self.pipeline);
        for run in pipeline.session_hooks(event) {
            run(self, session);
        }
    }

    /// RFC 6121 §4.2, §4.4, §4.5: presence without `to` tells of the session itself.
    fn own_presence(&mut self, session_key: Key, stanza: &Stanza) {
        let priority = priority_of(stanza);
        let now = self.now.wall;
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let is_initial = session.presence.is_none();
        let took_messages = session.takes_messages();
        match stanza.type_ {
            Type::Available => {
                let before = session.presence.take();
                session.presence = Some(Availability {
                    priority,
                    since: before.map_or(now, |presence| presence.since),
                    stanza: stanza.clone(),
                });
            }
            Type::Unavailable => session.presence = None,
            _ => return,
        }
        let takes_messages = session.takes_messages();
        // RFC 6121 §4.2.2, §4.5.2: the account's own available resources are told, the sender too.
        let account = session.account;
        let own = session.jid.bare().to_jid();
        let mut stanza = stanza.clone();
        stanza.to = Some(own);
        for session in self.sessions_where(account, |session| session.presence.is_some()) {
            self.write(session, &stanza);
        }
        if is_initial && stanza.type_ == Type::Available {
            self.session_event(SessionEvent::Available, session_key);
        }
        if takes_messages && !took_messages {
            self.session_event(SessionEvent::TakesMessages, session_key);
        }
    }

    /// RFC 6121 §4.5.2: the account's available resources are told when one of them goes without a
    /// word.
    pub(crate) fn tell_gone(&mut self, account: Key, jid: &FullJid) {
        let mut stanza = Stanza::new(Kind::Presence, Type::Unavailable, Payload::empty());
        stanza.from = Some(jid.to_jid());
        stanza.to = Some(jid.bare().to_jid());
        for session in self.sessions_where(account, |session| session.presence.is_some()) {
            self.write(session, &stanza);
        }
    }
}

/// RFC 6121 §4.7.2.3: an integer from -128 to 127, 0 if it is missing or none.
pub(crate) fn priority_of(stanza: &Stanza) -> i8 {
    let payload = &stanza.payload;
    payload
        .find("", "priority")
        .and_then(|child| payload.element(child).text().trim().parse().ok())
        .unwrap_or(0)
}

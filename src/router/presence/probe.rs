//! Presence probes (RFC 6121 §4.3): what a session asks of others, and what an account answers.

use crate::jid::Jid;
use crate::router::account::{Account, Standing};
use crate::router::delivery::Routed;
use crate::router::presence::has_directed;
use crate::router::{Continuation, Router, Waiter, feature};
use crate::slots::Key;
use crate::stanza::{Kind, Stanza, Type, delay};
use crate::storage::roster::State;
use crate::storage::{Lane, ReadFn};
use crate::xml::Payload;

impl Router {
    /// Takes a probe that a client sends, which it need not do (RFC 6121 §4.3): it goes its way, from
    /// its full JID, and brings no error.
    pub(super) fn outbound_probe(&mut self, session: Key, mut routed: Routed) {
        let Some(session) = self.sessions.get(session) else {
            self.drop_routed(routed);
            return;
        };
        let own = session.jid.bare().to_jid();
        let to = routed.stanza.to.get_or_insert(own);
        // The answer would be `unsubscribed`, which denies a request that waits (Appendix A.2.3), and
        // tells by that whether the account is there.
        let state = match self.accounts.get(session.account) {
            Some(Account {
                roster: Some(roster),
                ..
            }) => roster.state(to.bare_str()),
            _ => State::NONE,
        };
        if state.has(State::PENDING_OUT) && !state.has(State::TO) {
            self.drop_routed(routed);
        } else {
            self.route(routed);
        }
    }

    /// Whether a stanza is a probe that this server sends for one of its own sessions. The account
    /// that it is for need not be loaded: if it is not in memory it has no available resource, and
    /// what one server stores does not disagree with itself (RFC 6121 §4.3.1).
    pub(crate) fn is_own_probe(&self, routed: &Routed) -> bool {
        let from = routed.stanza.from.as_ref();
        routed.stanza.type_ == Type::Probe
            && routed.ticket.is_none()
            && from.is_some_and(|from| from.is_full() && self.domain(from.domain()).is_some())
    }

    /// Answers a presence probe (RFC 6121 §4.3.2, §4.6.6). A name that does not exist comes here too,
    /// with an empty roster, and is answered like an account that does not know the prober.
    pub(crate) fn inbound_probe(&mut self, account: Key, routed: Routed) {
        let probe = &routed.stanza;
        let (Some(from), Some(to)) = (&probe.from, &probe.to) else {
            self.drop_routed(routed);
            return;
        };
        let is_entitled =
            from.bare_str() == to.bare_str() || self.state_of(account, from).has(State::FROM);
        let answers = match (to.resource(), is_entitled) {
            (None, true) => self.presence_for(account, probe, from, to),
            (Some(resource), true) => {
                let session = self.session_of(account, resource);
                let last = session.and_then(|session| self.presence_of(session));
                vec![match last {
                    Some(last) => mere(to, from, Type::Available, last.id.as_deref()),
                    None => mere(to, from, Type::Unavailable, probe.id.as_deref()),
                }]
            }
            (resource, false) => {
                let answers = self.answers_to_stranger(account, probe, from, resource);
                self.answer_stranger(answers, routed);
                return;
            }
        };
        self.answer_probe(answers, routed);
    }

    fn answer_probe(&mut self, answers: Vec<Stanza>, routed: Routed) {
        let (from, to) = (&routed.stanza.from, &routed.stanza.to);
        let is_own = from.as_ref().map(Jid::bare_str) == to.as_ref().map(Jid::bare_str);
        // To a resource of the account itself at once: it is told of broadcasts at once, and none must
        // overtake this.
        let own = from.as_ref().filter(|_| is_own);
        let own = own.and_then(|from| self.session_at(from));
        for answer in answers {
            match own {
                Some(session) => self.write(session, &answer),
                None => self.reply(answer),
            }
        }
        self.drop_routed(routed);
    }

    /// What strangers are told comes after one read of the store, whether the account was in memory,
    /// had to be loaded, or does not exist (RFC 6120 §13.11). What waits is bounded by the prober's
    /// unsettled stanzas; the server's own probes tell nobody a time.
    fn answer_stranger(&mut self, answers: Vec<Stanza>, routed: Routed) {
        if routed.has_waited || routed.ticket.is_none() {
            self.answer_probe(answers, routed);
            return;
        }
        let nothing: ReadFn = Box::new(|_| Ok(feature::value(())));
        // The answer does not depend on the read, so neither on its failure.
        let then: Continuation = Box::new(move |router, _| router.answer_probe(answers, routed));
        self.read(Lane::Quick, nothing, Waiter::Router(then));
    }

    /// Rules 3 and 4, for who may see the account's presence.
    fn presence_for(&self, account: Key, probe: &Stanza, from: &Jid, to: &Jid) -> Vec<Stanza> {
        let available = self.sessions_where(account, |session| session.presence.is_some());
        let mut answers: Vec<Stanza> = available
            .iter()
            .filter_map(|session| self.presence_of(*session))
            .collect();
        for answer in &mut answers {
            answer.to = Some(from.clone());
        }
        if answers.is_empty() {
            let mut answer = mere(to, from, Type::Unavailable, probe.id.as_deref());
            if let Some(Standing::Known(record)) = self.accounts.get(account).map(|a| &a.standing)
                && let Some(last_seen) = record.last_seen
            {
                answer.payload = Payload::from_elements(&[delay(to, last_seen)]);
            }
            answers.push(answer);
        }
        answers
    }

    /// Rule 1, but §4.6.6 for whom a resource has told itself that it is available.
    fn answers_to_stranger(
        &self,
        account: Key,
        probe: &Stanza,
        from: &Jid,
        resource: Option<&str>,
    ) -> Vec<Stanza> {
        let seen = self.sessions_where(account, |session| {
            resource.is_none_or(|resource| resource == session.jid.resource())
                && has_directed(session, from)
        });
        // Another server probes in the name of an account that takes itself to be subscribed (§4.3.1):
        // that must learn better, also where it has been sent presence beside it.
        let is_mistaken = from.resource().is_none() && resource.is_none();
        let mut answers = Vec::new();
        if let Some(to) = probe.to.as_ref().filter(|_| seen.is_empty() || is_mistaken) {
            let (to, from) = (to.bare().to_jid(), from.bare().to_jid());
            answers.push(mere(&to, &from, Type::Unsubscribed, probe.id.as_deref()));
        }
        let seen = seen
            .iter()
            .filter_map(|session| self.sessions.get(*session));
        answers
            .extend(seen.map(|session| mere(&session.jid.to_jid(), from, Type::Available, None)));
        answers
    }
}

/// Presence without children.
fn mere(from: &Jid, to: &Jid, type_: Type, id: Option<&str>) -> Stanza {
    let mut stanza = Stanza::new(Kind::Presence, type_, Payload::empty());
    stanza.from = Some(from.clone());
    stanza.to = Some(to.clone());
    stanza.id = id.map(Box::from);
    stanza
}

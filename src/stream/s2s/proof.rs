//! Who the peer of a stream between servers is: what policy makes of the facts, what it was proven by,
//! and for how long that holds.

use std::time::Duration;

use ::log::info;

use super::{Exchange, Role, ServerStream, State, ours};
use crate::clock::{Mono, Now};
use crate::config::DomainSettings;
use crate::jid::Domain;
use crate::limits::LOOKED_UP_MAX;
use crate::net::certificate::{Pin, PresentedChain};
use crate::stanza::{Condition, StreamCondition, StreamError};
use crate::stream::dialback::{self, Ledger, Pair, Ruling, Trouble};
use crate::stream::peer_facts::{PeerDns, PeerFacts, PeerQuestion};
use crate::stream::policy::s2s::{
    Dialback, Direction, Facts, Means, Outcome, S2sPolicy, Tls, Verdict, judge, shut_out,
};
use crate::stream::{Action, Context};

/// When a certificate ends that a proof rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expiry {
    /// When that is looked at: the clock may have been set since.
    pub due: Mono,
    /// Seconds of the Unix epoch.
    ends: i64,
}

/// What policy says of a peer, and what that rests on.
pub(super) struct Judged {
    pub verdict: Verdict,
    /// When the certificate ends that it rests on, in seconds of the Unix epoch.
    ends: Option<i64>,
    /// Of the certificate that was shown.
    key: Option<Pin>,
}

impl ServerStream {
    /// What policy says of a peer on this stream, with what is known of it.
    pub(super) fn judge(
        &self,
        local: &DomainSettings,
        remote: &Domain,
        dialback: Dialback,
        cx: &Context<'_>,
    ) -> Judged {
        let direction = match &self.role {
            // A peer may claim more domains than the one it was dialled for (XEP-0288 §2.2).
            Role::Dialled(dialled) if dialled.remote == *remote => Direction::Dialled,
            _ => Direction::Accepted,
        };
        let (facts, shown) = self.facts(local, remote, direction, dialback, cx);
        let verdict = judge(&S2sPolicy::of(&local.s2s, remote), remote, &facts);
        let ends = match verdict.outcome {
            Outcome::Accept(means) => shown.and_then(|facts| facts.ends.by(means)),
            Outcome::NeedDialback | Outcome::Refuse => None,
        };
        Judged {
            verdict,
            ends,
            key: shown.and_then(|facts| facts.key),
        }
    }

    /// What is known of a peer on this stream, as one who stands in that direction; and of its
    /// certificates, if it has shown some.
    pub(super) fn facts(
        &self,
        local: &DomainSettings,
        remote: &Domain,
        direction: Direction,
        dialback: Dialback,
        cx: &Context<'_>,
    ) -> (Facts, Option<PeerFacts>) {
        let dns = match local.s2s.dane {
            true => self.dns_about(remote).unwrap_or(&PeerDns::Unknown),
            false => &PeerDns::Nothing,
        };
        let ask = |chain: &PresentedChain| {
            cx.certificates.peer(&PeerQuestion {
                chain,
                direction,
                local,
                remote,
                dns,
                now: cx.now.wall,
            })
        };
        let chain = self.tls.as_ref().map(|tls| &*tls.chain);
        let shown: Option<PeerFacts> = chain.filter(|chain| !chain.is_empty()).map(ask);
        let facts = Facts {
            direction,
            tls: match (&self.tls, shown) {
                (None, _) => Tls::None,
                (Some(_), None) => Tls::Bare,
                (Some(_), Some(facts)) => Tls::Certificate(facts.shown),
            },
            dane: shown.map_or_else(|| dns.without_certificate(), |facts| facts.dane),
            dialback,
        };
        (facts, shown)
    }

    /// What the DNS says of a peer that we dialled, or that claims a domain; none: it was not asked.
    pub(super) fn dns_about(&self, remote: &Domain) -> Option<&PeerDns> {
        match &self.role {
            Role::Dialled(dialled) if dialled.remote == *remote => Some(&dialled.dns),
            _ => self.dns_of(remote),
        }
    }

    fn dns_of(&self, remote: &Domain) -> Option<&PeerDns> {
        let found = self.looked_up.iter().find(|(domain, _)| domain == remote);
        found.map(|(_, dns)| dns)
    }

    /// Whether the DNS has to be asked before policy can rule about a peer that claims a domain.
    pub(super) fn needs_lookup(&self, local: &DomainSettings, remote: &Domain) -> bool {
        let policy = S2sPolicy::of(&local.s2s, remote);
        let is_claimed = !matches!(&self.role, Role::Dialled(dialled) if dialled.remote == *remote);
        let decides = policy.dane && !policy.pinned && shut_out(&policy, remote).is_none();
        decides && is_claimed && self.dns_of(remote).is_none()
    }

    /// The DNS has been asked: what waited for that goes on.
    pub(super) fn looked_up(
        &mut self,
        state: State,
        remote: Domain,
        dns: PeerDns,
        cx: &mut Context<'_>,
    ) -> Result<State, StreamError> {
        self.looked_up.retain(|(domain, _)| *domain != remote);
        self.looked_up.push((remote.clone(), dns));
        let state = match state {
            State::LookingUp { has_features } => self.offer_features(has_features, cx)?,
            State::Open => {
                let unruled = std::mem::take(&mut self.unruled);
                let (due, others) = unruled.into_iter().partition(|pair| pair.remote == remote);
                self.unruled = others;
                let due: Vec<Pair> = due;
                self.act(due.into_iter().map(dialback::Action::Rule).collect(), cx)?
            }
            state => state,
        };
        // Of other domains than that of the header the last ones are kept, for as long as their keys
        // are verified.
        let is_own = |(domain, _): &(Domain, PeerDns)| match &self.role {
            Role::Accepted(Some((_, Some(own)))) => domain == own,
            Role::Accepted(_) | Role::Dialled(_) => false,
        };
        if self.looked_up.len() > LOOKED_UP_MAX
            && let Some(oldest) = self.looked_up.iter().position(|entry| !is_own(entry))
        {
            self.looked_up.remove(oldest);
        }
        Ok(state)
    }

    /// Decides about a key that the peer has offered. None: when the DNS has been asked.
    pub(super) fn rule(&mut self, pair: &Pair, cx: &mut Context<'_>) -> Option<Ruling> {
        let local = cx.settings.served(pair.local.as_str());
        let Some(local) = local.filter(|local| local.s2s.enabled).cloned() else {
            let text = "This server does not serve that domain to other servers";
            let trouble = Trouble::new(Condition::ItemNotFound, text);
            return Some(Ruling::Refuse(trouble));
        };
        if cx.settings.served(pair.remote.as_str()).is_some() {
            return Some(Ruling::Refuse(Trouble::new(
                Condition::Forbidden,
                ours().text,
            )));
        }
        if self.needs_lookup(&local, &pair.remote) {
            if !self.unruled.contains(pair) {
                self.unruled.push(pair.clone());
                cx.actions.push(Action::LookUp(pair.remote.clone()));
            }
            return None;
        }
        // Another key may be the first proof meanwhile: this one waits for that (`Ledger::placed`).
        if self.ledger.as_ref().is_some_and(Ledger::verifies_first) {
            return None;
        }
        let judged = self.judge(&local, &pair.remote, Dialback::NotTried, cx);
        Some(match judged.verdict.outcome {
            Outcome::Accept(means) => {
                self.accept(pair, means, &judged, cx);
                Ruling::Accept
            }
            Outcome::NeedDialback => Ruling::Verify,
            Outcome::Refuse => {
                self.tell_refusal(pair, &judged.verdict, cx);
                let text = judged.verdict.reason.sentence(&pair.remote);
                Ruling::Refuse(Trouble::new(Condition::PolicyViolation, text))
            }
        })
    }

    /// The peer may send stanzas of a pair from now on.
    pub(super) fn proven(&mut self, pair: &Pair, exchange: Exchange, cx: &mut Context<'_>) {
        if !self.proofs.iter().any(|proof| proof.pair == *pair)
            && let Some(local) = cx.settings.served(pair.local.as_str()).cloned()
        {
            let judged = self.judge(&local, &pair.remote, Dialback::Verified, cx);
            if judged.verdict.outcome == Outcome::Accept(Means::Dialback) {
                self.accept(pair, Means::Dialback, &judged, cx);
            }
        }
        self.note_proof(pair, exchange);
        let proof = self.proofs().find(|proof| proof.pair == *pair);
        let means = proof.map(|proof| proof.of_peer(Direction::Accepted));
        info!(
            stream = self.origin.stream, address:% = self.origin.ip(), from:% = pair.remote,
            to:% = pair.local, means = means.unwrap_or_default().as_str(), encrypted = self.tls.is_some();
            "server authenticated"
        );
        self.note_attempt(pair, true, "it may send stanzas", cx.actions);
        self.write_proven_pairs(cx);
        if self.source.is_none() {
            self.first_proven = Some(pair.remote.clone());
            let bytes = cx.settings.served(pair.local.as_str());
            let bytes = bytes.map_or(0, |domain| domain.s2s.stanza_bytes_max);
            cx.actions.push(Action::AcceptStanzas(bytes));
        }
    }

    /// Policy has accepted the peer as one of a pair: what that rests on is remembered, and when it ends.
    pub(super) fn accept(
        &mut self,
        pair: &Pair,
        means: Means,
        judged: &Judged,
        cx: &mut Context<'_>,
    ) {
        self.judged_by = cx.settings.generation;
        let is_new = !self.proofs.iter().any(|proof| proof.pair == *pair);
        self.note_ruling(pair, means, &judged.verdict);
        if let Some(key) = judged.key.filter(|_| is_new) {
            cx.actions.push(Action::PeerKey(pair.clone(), key));
        }
        if let Some(ends) = judged.ends {
            let expiry = Expiry::of(ends, cx.now);
            if self.expiry.is_none_or(|first| expiry.ends < first.ends) {
                self.expiry = Some(expiry);
            }
        }
    }

    /// Whether the certificate of the peer has ended (RFC 6120 §13.7.2.3).
    pub(super) fn has_expired(&mut self, now: Now) -> bool {
        let Some(expiry) = &mut self.expiry else {
            return false;
        };
        if expiry.ends < seconds(now) {
            return true;
        }
        if expiry.due <= now.mono {
            *expiry = Expiry::of(expiry.ends, now);
        }
        false
    }

    pub(super) fn tell_refusal(&mut self, pair: &Pair, verdict: &Verdict, cx: &mut Context<'_>) {
        let reason = verdict.reason.sentence(&pair.remote);
        info!(
            stream = self.origin.stream, address:% = self.origin.ip(), peer:% = pair.remote,
            local:% = pair.local, reason = reason.as_str(),
            see = format!("stanzad explain s2s {}", pair.remote).as_str();
            "server refused"
        );
        self.verdict = Some(reason);
        if !self.is_dialled() {
            self.note_attempt(pair, false, "we refused it", cx.actions);
        }
    }
}

impl Expiry {
    /// A certificate is valid through the second in which it ends (RFC 5280 §4.1.2.5).
    fn of(ends: i64, now: Now) -> Expiry {
        let left = ends.saturating_add(1).saturating_sub(seconds(now));
        Expiry {
            due: now.mono + Duration::from_secs(u64::try_from(left).unwrap_or(0)),
            ends,
        }
    }
}

fn seconds(now: Now) -> i64 {
    i64::try_from(now.wall.micros() / 1_000_000).unwrap_or(i64::MAX)
}

/// RFC 6120 §13.7.2.3.
pub(super) fn expired() -> StreamError {
    StreamError::new(
        StreamCondition::Reset,
        "Your certificate has expired; come again with the next one",
    )
}

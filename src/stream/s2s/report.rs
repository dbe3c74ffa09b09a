//! What a server stream tells of itself to operators: `stanzad s2s list`, `stanzad explain s2s`.

use std::sync::Arc;

use super::{Role, ServerStream, State};
use crate::clock::Wall;
use crate::jid::Domain;
use crate::limits::DIALBACK_PAIRS_MAX;
use crate::net::certificate::PresentedChain;
use crate::router::peers::history::Attempt;
use crate::slots::Key;
use crate::stream::Action;
use crate::stream::dialback::Pair;
use crate::stream::peer_facts::PeerDns;
use crate::stream::policy::s2s::{Direction, Means, Verdict};

/// By which exchange a pair of domains was proven: by the peer on an accepted stream, by us on a
/// dialled one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// SASL EXTERNAL (XEP-0178).
    External,
    /// A dialback key (XEP-0220).
    Dialback,
}

impl Exchange {
    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Exchange::External => "EXTERNAL",
            Exchange::Dialback => "dialback",
        }
    }
}

/// A pair of domains that stanzas flow between, and why they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The domains.
    pub pair: Pair,
    /// What policy has accepted the peer by.
    pub means: Means,
    /// The exchange that has proven them; none as long as it runs.
    pub exchange: Option<Exchange>,
}

impl Proof {
    /// What has proven the peer, for people.
    pub fn of_peer(&self, direction: Direction) -> String {
        match (direction, self.exchange, self.means) {
            // To call back is to dial to where the DNS says, and that is done.
            (Direction::Dialled, _, Means::Dialback) => "DNS alone".to_owned(),
            (Direction::Dialled, _, means) => means.name().to_owned(),
            (_, Some(Exchange::External), Means::Certificate) => "EXTERNAL".to_owned(),
            (_, Some(Exchange::External), means) => format!("EXTERNAL ({})", means.name()),
            (_, _, Means::Dialback) => "dialback".to_owned(),
            (_, _, means) => format!("{} for dialback", means.name()),
        }
    }
}

impl ServerStream {
    /// Who has opened it.
    pub fn direction(&self) -> Direction {
        match self.role {
            Role::Accepted(_) => Direction::Accepted,
            Role::Dialled(_) => Direction::Dialled,
        }
    }

    /// The link that it was dialled for.
    pub fn dialled_link(&self) -> Option<Key> {
        match &self.role {
            Role::Dialled(dialled) => Some(dialled.link),
            Role::Accepted(_) => None,
        }
    }

    /// The domains that it was dialled for, ours first.
    pub fn dialled_domains(&self) -> Option<(&Domain, &Domain)> {
        match &self.role {
            Role::Dialled(dialled) => Some((&dialled.local, &dialled.remote)),
            Role::Accepted(_) => None,
        }
    }

    /// The domains that its headers tell, as far as they are known: ours, and the one that the peer
    /// claims, or that we dialled for.
    pub fn claimed(&self) -> (Option<&str>, Option<&str>) {
        match &self.role {
            Role::Dialled(dialled) => (Some(dialled.local.as_str()), Some(dialled.remote.as_str())),
            Role::Accepted(Some((local, remote))) => {
                (Some(local.as_str()), remote.as_ref().map(|it| it.as_str()))
            }
            Role::Accepted(None) => (None, None),
        }
    }

    /// Whether TLS was there before the stream (XEP-0368).
    pub fn began_with_tls(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_direct)
    }

    /// Whether both sides send stanzas on it (XEP-0288).
    pub fn goes_both_ways(&self) -> bool {
        self.is_bidirectional
    }

    /// The pairs that are proven.
    pub fn proofs(&self) -> impl Iterator<Item = &Proof> {
        self.proofs.iter().filter(|proof| proof.exchange.is_some())
    }

    /// What it is busy with, for people.
    pub fn phase(&self) -> &'static str {
        match self.state {
            State::Open if self.is_authenticated() => "ready",
            State::Open => "authenticating",
            ref state => state.name(),
        }
    }

    /// Policy has accepted the peer as one of a pair.
    pub(super) fn note_ruling(&mut self, pair: &Pair, means: Means, verdict: &Verdict) {
        self.verdict = Some(verdict.reason.sentence(&pair.remote));
        self.set_means(pair, means);
    }

    fn set_means(&mut self, pair: &Pair, means: Means) {
        let known = self.proofs.iter_mut().find(|proof| proof.pair == *pair);
        if let Some(proof) = known {
            proof.means = means;
        } else if self.proofs.len() < DIALBACK_PAIRS_MAX {
            self.proofs.push(Proof {
                pair: pair.clone(),
                means,
                exchange: None,
            });
        }
    }

    /// Stanzas of a pair may flow from now on.
    pub(super) fn note_proof(&mut self, pair: &Pair, exchange: Exchange) {
        if !self.proofs.iter().any(|proof| proof.pair == *pair) {
            self.set_means(pair, Means::Dialback);
        }
        let proof = self.proofs.iter_mut().find(|proof| proof.pair == *pair);
        if let Some(proof) = proof {
            proof.exchange = Some(exchange);
        }
    }
}

/// An attempt at a stream, for `stanzad explain`, and what is still to be found out for it.
#[derive(Clone, Debug)]
pub struct Attempted {
    /// Without time and certificate.
    pub attempt: Attempt,
    /// The certificates that the peer has shown.
    pub chain: Option<Arc<PresentedChain>>,
    /// What the DNS vouches for, as far as that counts.
    pub dns: PeerDns,
}

impl ServerStream {
    /// Has it noted what came of the attempt of a pair.
    pub(super) fn note_attempt(
        &mut self,
        pair: &Pair,
        is_success: bool,
        outcome: &str,
        actions: &mut Vec<Action>,
    ) {
        self.is_noted = true;
        let dns = self.dns_about(&pair.remote).cloned().unwrap_or_default();
        let tls = self.tls.as_ref();
        actions.push(Action::Attempted(Box::new(Attempted {
            attempt: Attempt {
                at: Wall::default(),
                is_dialled: self.is_dialled(),
                local: pair.local.clone(),
                remote: pair.remote.clone(),
                address: Some(self.origin.address),
                is_direct: self.began_with_tls() || self.is_direct(),
                tls: tls.map(|tls| tls.summary.clone()),
                certificate: None,
                verdict: self.verdict.clone(),
                is_success,
                outcome: outcome.to_owned(),
            },
            chain: tls.map(|tls| Arc::clone(&tls.chain)),
            dns,
        })));
    }

    /// A peer that ends without having proven what its header claims is noted under that name.
    pub(super) fn note_end(&mut self, actions: &mut Vec<Action>) {
        let Role::Accepted(Some((local, Some(remote)))) = &self.role else {
            return;
        };
        if self.is_noted {
            return;
        }
        let pair = Pair {
            local: local.clone(),
            remote: remote.clone(),
        };
        let outcome = self.outcome.take();
        let outcome = outcome.unwrap_or_else(|| "it closed the stream without a proof".to_owned());
        self.note_attempt(&pair, false, &outcome, actions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Domain;

    #[test]
    fn what_has_proven_a_peer_is_told_by_direction_and_exchange() {
        let proof = |exchange, means| Proof {
            pair: Pair {
                local: Domain::parse("example.org").unwrap(),
                remote: Domain::parse("example.net").unwrap(),
            },
            means,
            exchange: Some(exchange),
        };
        use Direction::{Accepted, Dialled};
        use Exchange::{Dialback, External};
        for (direction, exchange, means, told) in [
            (Accepted, External, Means::Certificate, "EXTERNAL"),
            (Accepted, External, Means::Pin, "EXTERNAL (pin)"),
            (Accepted, Dialback, Means::Dialback, "dialback"),
            (
                Accepted,
                Dialback,
                Means::Certificate,
                "certificate for dialback",
            ),
            (Accepted, Dialback, Means::Dane, "DANE for dialback"),
            (Dialled, External, Means::Certificate, "certificate"),
            (Dialled, Dialback, Means::Dane, "DANE"),
            (Dialled, Dialback, Means::Dialback, "DNS alone"),
        ] {
            assert_eq!(proof(exchange, means).of_peer(direction), told);
        }
    }
}

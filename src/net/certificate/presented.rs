//! The certificates that a peer has presented, as they came, and what verifying them has come to.
//!
//! Whether a chain leads to an authority does not depend on the domain that is claimed, only whether it
//! is for that domain does. A peer may claim many on one stream, each at the price of some bytes, and
//! signatures can be made costly: they are verified once, and held against each name.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::error::ErrorStack;

use super::authorities::Authorities;
use super::chain::{Fault, Outcome};
use super::peer::{Judgement, PeerRole, Reference, ShownChain};
use crate::limits::{CHAIN_OUTCOME_SECONDS_MAX, CHAIN_OUTCOMES_MAX};

/// A chain that a peer has presented; nothing about it is checked.
#[derive(Debug, Default)]
pub struct PresentedChain {
    der: Vec<Vec<u8>>,
    /// The last ones. Locked by one thread at a time: that of the shard where its stream is.
    outcomes: Mutex<Vec<Known>>,
}

/// What verifying came to.
#[derive(Debug)]
struct Known {
    /// [`Authorities::id`].
    authorities: u64,
    /// As OpenSSL numbers them.
    purpose: c_int,
    /// As of which second of the Unix epoch.
    at: i64,
    outcome: Outcome,
}

impl From<Vec<Vec<u8>>> for PresentedChain {
    /// Of certificates in DER, leaf first.
    fn from(der: Vec<Vec<u8>>) -> PresentedChain {
        PresentedChain {
            der,
            outcomes: Mutex::default(),
        }
    }
}

impl PresentedChain {
    /// DER, leaf first.
    pub fn der(&self) -> &[Vec<u8>] {
        &self.der
    }

    /// Whether there is no certificate.
    pub fn is_empty(&self) -> bool {
        self.der.is_empty()
    }

    /// Reads it.
    ///
    /// # Errors
    /// As [`ShownChain::parse`].
    pub fn parse(&self) -> Result<ShownChain, Fault> {
        ShownChain::parse(&self.der)
    }

    /// As [`ShownChain::judge`] of what was read of it, without verifying signatures anew that these
    /// authorities were asked about less than `CHAIN_OUTCOME_SECONDS_MAX` ago.
    ///
    /// # Errors
    /// If OpenSSL has no memory.
    pub fn judge(
        &self,
        shown: &ShownChain,
        authorities: &Authorities,
        role: PeerRole,
        reference: Reference<'_>,
        now: i64,
    ) -> Result<Judgement, ErrorStack> {
        let purpose = shown.purpose(role).as_raw();
        let outcome = match self.known(authorities, purpose, now) {
            Some(outcome) => outcome,
            None => {
                let outcome = shown.verify(authorities, role, now)?.outcome();
                self.keep(Known {
                    authorities: authorities.id(),
                    purpose,
                    at: now,
                    outcome: outcome.clone(),
                });
                outcome
            }
        };
        Ok(shown.judgement(outcome, reference, now))
    }

    fn known(&self, authorities: &Authorities, purpose: c_int, now: i64) -> Option<Outcome> {
        let outcomes = self.outcomes();
        let found = outcomes.iter().find(|known| {
            let age = now.saturating_sub(known.at);
            known.authorities == authorities.id()
                && known.purpose == purpose
                && (0..CHAIN_OUTCOME_SECONDS_MAX).contains(&age)
        });
        found.map(|known| known.outcome.clone())
    }

    fn keep(&self, new: Known) {
        let mut outcomes = self.outcomes();
        let is_same =
            |known: &Known| (known.authorities, known.purpose) == (new.authorities, new.purpose);
        outcomes.retain(|known| !is_same(known));
        if outcomes.len() >= CHAIN_OUTCOMES_MAX {
            outcomes.remove(0);
        }
        outcomes.push(new);
    }

    /// No panic leaves them half changed.
    fn outcomes(&self) -> MutexGuard<'_, Vec<Known>> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Issued;
    use super::*;

    fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn authorities(of: &Issued) -> Authorities {
        Authorities::of(vec![of.certificate.clone()]).unwrap()
    }

    fn presented(issued: &Issued) -> (PresentedChain, ShownChain) {
        let presented = PresentedChain::from(vec![issued.certificate.to_der().unwrap()]);
        let shown = presented.parse().unwrap();
        (presented, shown)
    }

    fn reference(domain: &str) -> Reference<'_> {
        Reference {
            domain,
            secure_targets: &[],
        }
    }

    const ROLE: PeerRole = PeerRole::ReceivingEntity;

    #[test]
    fn each_name_is_held_against_what_was_verified_once() {
        let ca = Issued::new().authority().build();
        let trusted = authorities(&ca);
        let (presented, shown) = presented(&Issued::new().dns("a.example").issue(&ca));
        let is_proven = |domain| {
            let judged = presented.judge(&shown, &trusted, ROLE, reference(domain), now());
            judged.unwrap().is_proven()
        };
        assert!(is_proven("a.example"));
        assert!(!is_proven("b.example"));
        assert!(is_proven("a.example"));
        assert_eq!(presented.outcomes().len(), 1);
    }

    /// A chain that has expired meanwhile is known as valid for a short time only, and its end is told
    /// all the same.
    #[test]
    fn an_outcome_holds_for_a_while_and_not_before_its_time() {
        let ca = Issued::new().authority().build();
        let trusted = authorities(&ca);
        let (presented, shown) =
            presented(&Issued::new().dns("a.example").valid(-9000, 10).issue(&ca));
        let start = now();
        let faults_at = |at| {
            let judged = presented.judge(&shown, &trusted, ROLE, reference("a.example"), at);
            let judgement = judged.unwrap();
            assert!(judgement.ends <= start + 11);
            judgement.faults.len()
        };
        assert_eq!(faults_at(start), 0);
        assert_eq!(faults_at(start + CHAIN_OUTCOME_SECONDS_MAX - 1), 0);
        assert_eq!(faults_at(start + CHAIN_OUTCOME_SECONDS_MAX), 1);
        // The clock was set back: what is known is of another time.
        assert_eq!(faults_at(start), 0);
    }

    #[test]
    fn other_authorities_and_another_purpose_are_asked_anew() {
        let (ca, other) = (Issued::new().authority(), Issued::new().authority());
        let (ca, other) = (ca.build(), other.build());
        let (presented, shown) = presented(&Issued::new().dns("a.example").issue(&ca));
        let faults_by = |authorities: &Authorities| {
            let judged = presented.judge(&shown, authorities, ROLE, reference("a.example"), now());
            judged.unwrap().faults.len()
        };
        assert_eq!(faults_by(&authorities(&ca)), 0);
        assert_ne!(faults_by(&authorities(&other)), 0);
        // The same file, read again: what it holds may have changed.
        for _ in 0..2 * CHAIN_OUTCOMES_MAX {
            assert_eq!(faults_by(&authorities(&ca)), 0);
        }
        assert_eq!(presented.outcomes().len(), CHAIN_OUTCOMES_MAX);
    }
}

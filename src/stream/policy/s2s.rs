//! Who a peer server is, and whether we talk to it: one decision for both directions of a stream.
//!
//! The order in which settings and proofs count:
//! 1. `s2s.enabled`, then `s2s.deny`, then `s2s.allow`, if anything is on it;
//! 2. without TLS, `s2s.require_encryption`;
//! 3. what `[s2s.peer."name"]` pins: it decides alone;
//! 4. usable TLSA records (RFC 7673), with `s2s.dane`: they decide alone;
//! 5. a valid certificate that names the peer (RFC 6120 §13.7.2);
//! 6. dialback (XEP-0220), where `s2s.insecure_domains` or `s2s.secure_auth = false` leaves room for it.
//!
//! A domain that entries of both `secure_domains` and `insecure_domains` describe is on the list with
//! the closer entry (`jid::DomainList`). The same entry on both is a mistake that the conf file is
//! refused for; here it would be secure.
//!
//! How we prove ourselves to the peer is another matter, which these settings do not touch.

pub mod bidirectional;
mod reason;
mod remedy;

pub use reason::{Back, Lack, Lenient, Reason, Strict};
pub use remedy::{Remedy, remedy};

use crate::config::{S2s, S2sPeer};
use crate::jid::{Closeness, Domain, DomainList};

/// The settings that decide about a peer: those of the local domain, and what is pinned for the peer.
#[derive(Clone, Copy, Debug)]
pub struct S2sPolicy<'a> {
    /// `s2s.enabled`
    pub enabled: bool,
    /// `s2s.require_encryption`
    pub require_encryption: bool,
    /// `s2s.secure_auth`
    pub secure_auth: bool,
    /// `s2s.secure_domains`
    pub secure_domains: &'a DomainList,
    /// `s2s.insecure_domains`
    pub insecure_domains: &'a DomainList,
    /// `s2s.dane`
    pub dane: bool,
    /// `s2s.allow`; empty lets all in.
    pub allow: &'a DomainList,
    /// `s2s.deny`
    pub deny: &'a DomainList,
    /// Whether `[s2s.peer."name"]` of this peer has a `pin` or a `ca`.
    pub pinned: bool,
}

impl<'a> S2sPolicy<'a> {
    /// What the settings of a domain say about a peer.
    pub fn of(s2s: &'a S2s, peer: &Domain) -> S2sPolicy<'a> {
        S2sPolicy {
            enabled: s2s.enabled,
            require_encryption: s2s.require_encryption,
            secure_auth: s2s.secure_auth,
            secure_domains: &s2s.secure_domains,
            insecure_domains: &s2s.insecure_domains,
            dane: s2s.dane,
            allow: &s2s.allow,
            deny: &s2s.deny,
            pinned: s2s.peers.get(peer).is_some_and(S2sPeer::is_pinned),
        }
    }
}

/// Who opened the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer claims the domain: on a stream that we accepted, or that we dialled for another domain
    /// (XEP-0288 §2.2).
    Accepted,
    /// We dialled for this domain, to where the DNS or `[s2s.peer."name"]` says that it is.
    Dialled,
}

/// What the connection shows of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tls {
    /// There is no TLS.
    None,
    /// There is TLS, and the peer has shown no certificate.
    Bare,
    /// There is TLS, and the peer has shown a certificate.
    Certificate(Shown),
}

/// What is known of the certificate that the peer has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    /// Whether it is to be trusted (RFC 6120 §13.7.2).
    pub chain: Result<(), Fault>,
    /// Whether it names the peer: DNS-ID, SRV-ID or XmppAddr (RFC 6120 §13.7.1.2).
    pub names_peer: bool,
    /// Whether it is what is pinned: its key, or a chain to the CA and the peer's name.
    pub matches_pin: bool,
    /// Whether a usable TLSA record is about it (RFC 6698 §2.1, RFC 7671 §5).
    pub matches_tlsa: bool,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Its time is over, or that of one above it.
    Expired,
    /// Its time has not come, or that of one above it.
    NotYetValid,
    /// Nobody vouches for it but itself.
    SelfSigned,
    /// Its chain leads to no authority that is known here.
    UnknownAuthority,
    /// Anything else: a bad signature, a wrong purpose, a weak key.
    Invalid,
}

/// What the DNS has about the peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dane {
    /// No TLSA records, or insecure ones (RFC 7673 §3.4).
    None,
    /// Secure TLSA records, none of them usable (RFC 6698 §4.1): they change nothing.
    Unusable,
    /// Usable ones.
    Usable,
    /// The answer was bogus or indeterminate, or there was none. Who dials on takes what an attacker
    /// left of it (RFC 7673 §3.4).
    Unknown,
}

/// How far dialback is with the domain that the peer claims. It says nothing about a domain that we
/// dialled for: to call back is to dial to where the DNS says, and that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialback {
    /// The peer has sent no key.
    NotTried,
    /// The authoritative server is being asked about the key.
    Pending,
    /// The authoritative server says that the key is its own.
    Verified,
    /// It says that the key is not its own.
    Failed,
    /// It cannot be asked.
    Impossible,
}

/// What is known of a peer on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Who opened the stream.
    pub direction: Direction,
    /// What the connection shows.
    pub tls: Tls,
    /// What the DNS has about it.
    pub dane: Dane,
    /// How far dialback is.
    pub dialback: Dialback,
}

/// What has proven a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Means {
    /// A pinned key or CA.
    Pin,
    /// TLSA records.
    Dane,
    /// A valid certificate.
    Certificate,
    /// Dialback, or for a dialled stream the DNS alone, which is what dialback rests on.
    Dialback,
}

impl Means {
    /// Its name in the log.
    pub fn name(self) -> &'static str {
        match self {
            Means::Pin => "pin",
            Means::Dane => "DANE",
            Means::Certificate => "certificate",
            Means::Dialback => "dialback",
        }
    }
}

/// What is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The peer is who it claims to be.
    Accept(Means),
    /// Dialback will decide.
    NeedDialback,
    /// The peer is not to be talked with.
    Refuse,
}

/// A decision, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// What is decided.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
}

/// Whether a peer is shut out by its name alone. No stream with it is to be dialled then, and none that
/// it opens needs a look at its certificate.
pub fn shut_out(policy: &S2sPolicy<'_>, peer: &Domain) -> Option<Verdict> {
    Rules::of(policy, peer).shut_out().map(refuse)
}

/// Whether a peer has proven to be who it is, or may still do so.
pub fn judge(policy: &S2sPolicy<'_>, peer: &Domain, facts: &Facts) -> Verdict {
    Rules::of(policy, peer).judge(facts)
}

/// The policy as it is for one peer.
#[derive(Clone, Copy)]
struct Rules {
    enabled: bool,
    require_encryption: bool,
    secure_auth: bool,
    secure: Option<Closeness>,
    insecure: Option<Closeness>,
    dane: bool,
    allowed: bool,
    denied: bool,
    pinned: bool,
}

impl Rules {
    fn of(policy: &S2sPolicy<'_>, peer: &Domain) -> Rules {
        Rules {
            enabled: policy.enabled,
            require_encryption: policy.require_encryption,
            secure_auth: policy.secure_auth,
            secure: policy.secure_domains.closest(peer),
            insecure: policy.insecure_domains.closest(peer),
            dane: policy.dane,
            allowed: policy.allow.is_empty() || policy.allow.contains(peer),
            denied: policy.deny.contains(peer),
            pinned: policy.pinned,
        }
    }

    fn shut_out(self) -> Option<Reason> {
        if !self.enabled {
            Some(Reason::Disabled)
        } else if self.denied {
            Some(Reason::Denied)
        } else if !self.allowed {
            Some(Reason::NotAllowed)
        } else {
            None
        }
    }

    fn judge(self, facts: &Facts) -> Verdict {
        if let Some(reason) = self.shut_out() {
            return refuse(reason);
        }
        if facts.tls == Tls::None && self.require_encryption {
            return refuse(Reason::Unencrypted);
        }
        let shown = facts.tls.shown();
        if self.pinned {
            let matches = shown.is_some_and(|shown| shown.matches_pin);
            return accept_if(matches, Means::Pin, Reason::Pinned(matches));
        }
        match facts.dane {
            Dane::Unknown if self.dane => return refuse(Reason::TlsaUnknown),
            Dane::Usable if self.dane => {
                let matches = shown.is_some_and(|shown| shown.matches_tlsa);
                return accept_if(matches, Means::Dane, Reason::Tlsa(matches));
            }
            _ => {}
        }
        let Some(lack) = facts.tls.lack() else {
            return accept_if(true, Means::Certificate, Reason::Certificate);
        };
        match self.leniency() {
            Err(strict) => refuse(Reason::NeedsCertificate(strict, lack)),
            Ok(lenient) => by_dialback(lenient, lack, facts),
        }
    }

    /// What leaves room for dialback, or what forbids it.
    fn leniency(self) -> Result<Lenient, Strict> {
        if self.insecure > self.secure {
            Ok(Lenient::InsecureDomains)
        } else if self.secure.is_some() {
            Err(Strict::SecureDomains)
        } else if self.secure_auth {
            Err(Strict::SecureAuth)
        } else {
            Ok(Lenient::SecureAuth)
        }
    }
}

impl Tls {
    fn shown(&self) -> Option<&Shown> {
        match self {
            Tls::Certificate(shown) => Some(shown),
            Tls::None | Tls::Bare => None,
        }
    }

    /// What it lacks to be a connection with a valid certificate of the peer.
    fn lack(&self) -> Option<Lack> {
        match self {
            Tls::None => Some(Lack::Tls),
            Tls::Bare => Some(Lack::Certificate),
            Tls::Certificate(shown) => match shown.chain {
                Err(fault) => Some(Lack::Trust(fault)),
                Ok(()) if !shown.names_peer => Some(Lack::Name),
                Ok(()) => None,
            },
        }
    }
}

fn refuse(reason: Reason) -> Verdict {
    Verdict {
        outcome: Outcome::Refuse,
        reason,
    }
}

fn accept_if(proven: bool, means: Means, reason: Reason) -> Verdict {
    let outcome = if proven {
        Outcome::Accept(means)
    } else {
        Outcome::Refuse
    };
    Verdict { outcome, reason }
}

fn by_dialback(lenient: Lenient, lack: Lack, facts: &Facts) -> Verdict {
    let (outcome, back) = match (facts.direction, facts.dialback) {
        (Direction::Dialled, _) => (Outcome::Accept(Means::Dialback), Back::Dialled),
        (Direction::Accepted, state) => {
            let outcome = match state {
                Dialback::NotTried | Dialback::Pending => Outcome::NeedDialback,
                Dialback::Verified => Outcome::Accept(Means::Dialback),
                Dialback::Failed | Dialback::Impossible => Outcome::Refuse,
            };
            (outcome, Back::Called(state))
        }
    };
    Verdict {
        outcome,
        reason: Reason::ByDialback(lenient, lack, back),
    }
}

#[cfg(test)]
mod tests;

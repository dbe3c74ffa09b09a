//! What is known of another server's identity apart from what it says itself: what the DNS vouches for
//! about it, and what its certificates are worth.

use crate::clock::Wall;
use crate::config::DomainSettings;
use crate::dns::{Found, Target, Verdict};
use crate::jid::Domain;
use crate::limits::TLSA_ENDPOINTS_MAX;
use crate::net::certificate::{Pin, PresentedChain, TlsaEvidence, Vouched};
use crate::stream::policy::s2s::{Dane, Direction, Fault, Means, Shown};

/// What the DNS vouches for about where a server is (RFC 7673). Counts with `s2s.dane` only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerDns {
    /// Nothing: there are no SRV records, or nobody proves them.
    #[default]
    Nothing,
    /// It has not been asked, or gives no answer that can be trusted.
    Unknown,
    /// The server may be at any of these. Never empty.
    Places(Vec<Vouched>),
}

impl PeerDns {
    /// What it says of the one target that is dialled.
    pub fn of_target(target: &Target) -> PeerDns {
        PeerDns::Places(vec![Vouched::from(target)])
    }

    /// What it says of a server that has dialled us from wherever it is. Targets that must not be
    /// contacted (RFC 7673 §3.2, §3.4) vouch for nobody.
    pub fn of_domain(found: &Found) -> PeerDns {
        match found.verdict {
            Verdict::Failed(_) => PeerDns::Unknown,
            Verdict::FallBack | Verdict::NotOffered => PeerDns::Nothing,
            Verdict::Targets => {
                let known = found
                    .targets
                    .iter()
                    .filter(|target| target.failure.is_none());
                let mut places: Vec<Vouched> = Vec::new();
                for place in known.map(Vouched::from) {
                    if places.len() < TLSA_ENDPOINTS_MAX && !places.contains(&place) {
                        places.push(place);
                    }
                }
                match places.is_empty() {
                    true => PeerDns::Unknown,
                    false => PeerDns::Places(places),
                }
            }
        }
    }

    /// The places.
    pub fn places(&self) -> &[Vouched] {
        match self {
            PeerDns::Places(places) => places,
            PeerDns::Nothing | PeerDns::Unknown => &[],
        }
    }

    /// Whether TLS must be used (RFC 7673 §4), whatever else the settings say.
    pub fn needs_tls(&self) -> bool {
        let places = self.places();
        !places.is_empty() && places.iter().all(|place| place.tlsa.is_some())
    }

    /// What it says of a peer that has shown no certificate.
    pub fn without_certificate(&self) -> Dane {
        self.dane(TlsaEvidence::without_certificate(self.places()))
    }

    /// The fact that policy counts.
    pub fn dane(&self, evidence: TlsaEvidence) -> Dane {
        match (self, evidence) {
            (PeerDns::Unknown, _) => Dane::Unknown,
            (_, TlsaEvidence::None) => Dane::None,
            (_, TlsaEvidence::Unusable) => Dane::Unusable,
            (_, TlsaEvidence::Usable(_)) => Dane::Usable,
        }
    }
}

/// What is asked about the certificates that another server has shown.
#[derive(Clone, Copy, Debug)]
pub struct PeerQuestion<'a> {
    /// Never empty.
    pub chain: &'a PresentedChain,
    /// Who opened the stream.
    pub direction: Direction,
    /// Ours.
    pub local: &'a DomainSettings,
    /// Theirs.
    pub remote: &'a Domain,
    /// What the DNS vouches for, if that counts.
    pub dns: &'a PeerDns,
    /// When.
    pub now: Wall,
}

/// What certificates are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// For policy.
    pub shown: Shown,
    /// For policy.
    pub dane: Dane,
    /// The key of the leaf.
    pub key: Option<Pin>,
    /// When what proves the peer ends, by what that is, in seconds of the Unix epoch.
    pub ends: Ends,
}

/// When proofs end, in seconds of the Unix epoch; none: there is no such proof, or dates do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// What is pinned.
    pub pin: Option<i64>,
    /// By TLSA records.
    pub dane: Option<i64>,
    /// The chain to an authority.
    pub chain: Option<i64>,
}

impl PeerFacts {
    /// Certificates that prove nothing.
    pub fn worthless(dns: &PeerDns) -> PeerFacts {
        PeerFacts {
            shown: Shown {
                chain: Err(Fault::UnknownAuthority),
                names_peer: false,
                matches_pin: false,
                matches_tlsa: false,
            },
            dane: dns.without_certificate(),
            key: None,
            ends: Ends::default(),
        }
    }
}

impl Ends {
    /// When the proof ends by which the peer was accepted.
    pub fn by(self, means: Means) -> Option<i64> {
        match means {
            Means::Pin => self.pin,
            Means::Dane => self.dane,
            Means::Certificate => self.chain,
            Means::Dialback => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Failure, Kind, Tlsa, TlsaRecord};

    fn target(host: &str, tlsa: Tlsa, failure: Option<Failure>) -> Target {
        Target {
            kind: Kind::StartTls,
            host: host.to_owned(),
            port: 5269,
            priority: 0,
            weight: 0,
            addresses: Vec::new(),
            is_srv_secure: true,
            is_address_secure: true,
            tlsa,
            failure,
        }
    }

    fn found(verdict: Verdict, targets: Vec<Target>) -> Found {
        Found {
            domain: "example.net".to_owned(),
            verdict,
            targets,
            lookups: Vec::new(),
        }
    }

    fn records() -> Tlsa {
        Tlsa::Secure(vec![TlsaRecord {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![7; 32],
        }])
    }

    /// RFC 7673 §3.1, §3.4.
    #[test]
    fn what_cannot_be_had_is_unknown_and_what_is_not_there_is_nothing() {
        let of = |verdict, targets| PeerDns::of_domain(&found(verdict, targets));
        assert_eq!(
            of(Verdict::Failed(Failure::Bogus), vec![]),
            PeerDns::Unknown
        );
        assert_eq!(of(Verdict::NotOffered, vec![]), PeerDns::Nothing);
        let own = target("example.net", Tlsa::None, None);
        assert_eq!(of(Verdict::FallBack, vec![own]), PeerDns::Nothing);
        let bogus = target("a.example.net", Tlsa::None, Some(Failure::Bogus));
        assert_eq!(of(Verdict::Targets, vec![bogus.clone()]), PeerDns::Unknown);
        let fine = target("b.example.net", records(), None);
        let places = of(Verdict::Targets, vec![bogus, fine]);
        assert_eq!(places.places().len(), 1);
        assert_eq!(places.without_certificate(), Dane::Usable);
        assert_eq!(PeerDns::Unknown.without_certificate(), Dane::Unknown);
    }

    /// RFC 7673 §4: also where the records cannot be used.
    #[test]
    fn secure_records_ask_for_tls() {
        let needs_tls = |tlsa| PeerDns::of_target(&target("a.example", tlsa, None)).needs_tls();
        assert!(needs_tls(records()));
        assert!(needs_tls(Tlsa::Secure(Vec::new())));
        assert!(!needs_tls(Tlsa::None));
        assert!(!PeerDns::Nothing.needs_tls());
    }
}

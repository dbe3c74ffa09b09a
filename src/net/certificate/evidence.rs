//! All that another server's certificates are evidence of, by each way in which they may prove it: the
//! authorities that we trust, what is pinned for it, and its TLSA records.

use super::authorities::Authorities;
use super::chain::{Fault, FaultKind};
use super::dane::{DaneVerdict, has_usable};
use super::peer::{Judgement, PeerRole, Pin, Reference, ShownChain};
use super::presented::PresentedChain;
use crate::dns::{Target, Tlsa, TlsaRecord};
use crate::limits::TLSA_ENDPOINTS_MAX;

/// What the DNS says of one place where a peer may be, as far as DNSSEC proves it (RFC 7673 §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouched {
    /// The target of the SRV record, if that is proven.
    pub host: Option<String>,
    /// Its TLSA records; none if it has none that count.
    pub tlsa: Option<Vec<TlsaRecord>>,
}

impl From<&Target> for Vouched {
    fn from(target: &Target) -> Vouched {
        Vouched {
            host: target.is_srv_secure.then(|| target.host.clone()),
            tlsa: match &target.tlsa {
                Tlsa::None => None,
                Tlsa::Secure(records) => Some(records.clone()),
            },
        }
    }
}

/// Whom the certificates are to prove, and by what they may.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    /// Which side of the stream it is.
    pub role: PeerRole,
    /// Its domain, in lower-case A-labels.
    pub domain: &'a str,
    /// Where it may be: one place if we have dialled that. Those beyond `TLSA_ENDPOINTS_MAX` do not count.
    pub places: &'a [Vouched],
    /// Keys that are pinned for it.
    pub pins: &'a [Pin],
    /// Authorities that are pinned for it.
    pub pinned: Option<&'a Authorities>,
}

/// What certificates are evidence of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What the authorities that we trust make of them, or why they cannot be looked at.
    pub chain: Result<Judgement, Fault>,
    /// Whether they are what is pinned.
    pub pin: Option<Proof>,
    /// What the TLSA records make of them.
    pub tlsa: TlsaEvidence,
    /// The key of the leaf, by which a change is noticed (RFC 7590 §3.6).
    pub key: Option<Pin>,
}

/// Something has proven the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Up to which second of the Unix epoch; none if dates do not count.
    pub ends: Option<i64>,
}

/// What the TLSA records of all places make of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsaEvidence {
    /// There are none, for one place at least where the peer may be.
    None,
    /// There are some, none of which can be used, for one place at least.
    Unusable,
    /// They decide.
    Usable(Option<Proof>),
}

impl Evidence {
    /// What `chain` is evidence of as of `now`, in seconds of the Unix epoch. `authorities` are those that
    /// we trust. Costs up to a few milliseconds of CPU where there are TLSA records, and some hundred
    /// microseconds elsewhere, at the first time.
    pub fn of(
        chain: &PresentedChain,
        authorities: &Authorities,
        sought: &Sought<'_>,
        now: i64,
    ) -> Evidence {
        match chain.parse() {
            Ok(shown) => Evidence::of_shown(chain, &shown, authorities, sought, now),
            Err(fault) => Evidence {
                chain: Err(fault),
                pin: None,
                tlsa: TlsaEvidence::without_certificate(sought.places),
                key: None,
            },
        }
    }

    fn of_shown(
        chain: &PresentedChain,
        shown: &ShownChain,
        authorities: &Authorities,
        sought: &Sought<'_>,
        now: i64,
    ) -> Evidence {
        let hosts = sought
            .places
            .iter()
            .filter_map(|place| place.host.as_deref());
        let hosts: Vec<&str> = hosts.collect();
        let reference = Reference {
            domain: sought.domain,
            secure_targets: &hosts,
        };
        let judged = chain.judge(shown, authorities, sought.role, reference, now);
        let by_authority = |pinned: &Authorities| {
            let judged = Evidence::by_authority(chain, shown, pinned, sought, now);
            let judgement = judged.ok()?;
            judgement.is_proven().then_some(Proof {
                ends: Some(judgement.ends),
            })
        };
        let by_key = shown.is_pinned(sought.pins).then_some(Proof { ends: None });
        Evidence {
            chain: judged.map_err(|_| no_memory(shown)),
            pin: by_key.or_else(|| sought.pinned.and_then(by_authority)),
            tlsa: TlsaEvidence::of(shown, authorities, sought, now),
            key: shown.pin(),
        }
    }

    /// What authorities that are pinned for the peer make of its certificates. Their word is about the
    /// peer's own name: the DNS does not count beside them.
    ///
    /// # Errors
    /// Why the certificates cannot be looked at.
    pub fn by_authority(
        chain: &PresentedChain,
        shown: &ShownChain,
        pinned: &Authorities,
        sought: &Sought<'_>,
        now: i64,
    ) -> Result<Judgement, Fault> {
        let reference = Reference {
            domain: sought.domain,
            secure_targets: &[],
        };
        let judged = chain.judge(shown, pinned, sought.role, reference, now);
        judged.map_err(|_| no_memory(shown))
    }
}

fn no_memory(shown: &ShownChain) -> Fault {
    Fault::of(&shown.leaf, 0, FaultKind::Other("there is no memory"))
}

impl TlsaEvidence {
    /// Nothing was shown that the records could be about.
    pub fn without_certificate(places: &[Vouched]) -> TlsaEvidence {
        let of_place = |place: &Vouched| match &place.tlsa {
            None => TlsaEvidence::None,
            Some(records) if !has_usable(records) => TlsaEvidence::Unusable,
            Some(_) => TlsaEvidence::Usable(None),
        };
        TlsaEvidence::together(places.iter().map(of_place))
    }

    fn of(
        shown: &ShownChain,
        authorities: &Authorities,
        sought: &Sought<'_>,
        now: i64,
    ) -> TlsaEvidence {
        let looked_at = sought.places.iter().take(TLSA_ENDPOINTS_MAX);
        let of_place = |place: &Vouched| {
            let Some(records) = &place.tlsa else {
                return TlsaEvidence::None;
            };
            let host: Vec<&str> = place.host.iter().map(String::as_str).collect();
            let reference = Reference {
                domain: sought.domain,
                secure_targets: &host,
            };
            let role = sought.role;
            match DaneVerdict::of(records, shown, authorities, role, reference, now) {
                Ok(DaneVerdict::NoneUsable) => TlsaEvidence::Unusable,
                Ok(DaneVerdict::Matched { ends, .. }) => TlsaEvidence::Usable(Some(Proof { ends })),
                Ok(DaneVerdict::Failed(_)) | Err(_) => TlsaEvidence::Usable(None),
            }
        };
        TlsaEvidence::together(looked_at.map(of_place))
    }

    /// The peer may be at any of them: what one of them proves is proven, and a place whose records do
    /// not decide leaves it to the chain (RFC 7673 §9.1).
    fn together(places: impl Iterator<Item = TlsaEvidence>) -> TlsaEvidence {
        let mut all: Option<TlsaEvidence> = None;
        for place in places {
            all = Some(match (all, place) {
                (_, proven @ TlsaEvidence::Usable(Some(_)))
                | (Some(proven @ TlsaEvidence::Usable(Some(_))), _) => proven,
                (_, TlsaEvidence::None) | (Some(TlsaEvidence::None), _) => TlsaEvidence::None,
                (_, TlsaEvidence::Unusable) | (Some(TlsaEvidence::Unusable), _) => {
                    TlsaEvidence::Unusable
                }
                (_, unproven) => unproven,
            });
        }
        all.unwrap_or(TlsaEvidence::None)
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use openssl::sha::sha256;

    use super::super::peer::key_info;
    use super::super::testing::Issued;
    use super::*;

    fn now() -> i64 {
        jiff::Timestamp::now().as_second()
    }

    fn authorities(of: &[&Issued]) -> Authorities {
        Authorities::of(of.iter().map(|one| one.certificate.clone()).collect()).unwrap()
    }

    fn sought<'a>(places: &'a [Vouched], pins: &'a [Pin]) -> Sought<'a> {
        Sought {
            role: PeerRole::InitiatingEntity,
            domain: "example.net",
            places,
            pins,
            pinned: None,
        }
    }

    fn der(issued: &Issued) -> PresentedChain {
        PresentedChain::from(vec![issued.certificate.to_der().unwrap()])
    }

    /// "3 1 1" of a certificate's key.
    fn record(issued: &Issued) -> TlsaRecord {
        TlsaRecord {
            usage: 3,
            selector: 1,
            matching: 1,
            data: sha256(&key_info(&issued.certificate).unwrap()).to_vec(),
        }
    }

    fn place(host: Option<&str>, tlsa: Option<Vec<TlsaRecord>>) -> Vouched {
        Vouched {
            host: host.map(str::to_owned),
            tlsa,
        }
    }

    #[test]
    fn a_pinned_key_proves_without_dates_and_a_pinned_authority_with_them() {
        let ca = Issued::new().authority().build();
        let other = Issued::new().authority().build();
        let shown = Issued::new().dns("example.net").issue(&ca);
        let stranger = Issued::new().dns("example.com").issue(&ca);
        let (nobody, pinned) = (authorities(&[&other]), authorities(&[&ca]));
        let key = Evidence::of(&der(&shown), &nobody, &sought(&[], &[]), now()).key;
        let pins = [key.unwrap()];
        let by_key = Evidence::of(&der(&shown), &nobody, &sought(&[], &pins), now());
        assert_eq!(by_key.pin, Some(Proof { ends: None }));
        let judgement = by_key.chain.unwrap();
        assert!(!judgement.faults.is_empty());
        let by_authority = Sought {
            pinned: Some(&pinned),
            ..sought(&[], &[])
        };
        let proof = Evidence::of(&der(&shown), &nobody, &by_authority, now()).pin;
        assert!(proof.is_some_and(|proof| proof.ends > Some(now())));
        // The authority's word is about names, too.
        let other_name = Evidence::of(&der(&stranger), &nobody, &by_authority, now());
        assert_eq!(other_name.pin, None);
        let other_key = Evidence::of(&der(&stranger), &nobody, &sought(&[], &pins), now());
        assert_eq!(other_key.pin, None);
    }

    /// RFC 7673 §9.1, seen from who accepts: the peer may be at any of its places.
    #[test]
    fn the_records_of_any_place_prove_and_those_of_all_refuse() {
        let (shown, other) = (Issued::new().build(), Issued::new().build());
        let of = |places: &[Vouched]| {
            let nobody = authorities(&[&other]);
            Evidence::of(&der(&shown), &nobody, &sought(places, &[]), now()).tlsa
        };
        let own = place(Some("a.example.net"), Some(vec![record(&shown)]));
        let wrong = place(Some("b.example.net"), Some(vec![record(&other)]));
        let bare = place(Some("c.example.net"), None);
        let proven = TlsaEvidence::Usable(Some(Proof { ends: None }));
        assert_eq!(of(&[]), TlsaEvidence::None);
        assert_eq!(of(from_ref(&own)), proven);
        assert_eq!(of(&[wrong.clone(), own.clone()]), proven);
        assert_eq!(of(&[own, bare.clone()]), proven);
        assert_eq!(of(from_ref(&wrong)), TlsaEvidence::Usable(None));
        assert_eq!(of(&[wrong.clone(), bare]), TlsaEvidence::None);
        let useless = place(
            None,
            Some(vec![TlsaRecord {
                usage: 9,
                ..record(&shown)
            }]),
        );
        assert_eq!(of(from_ref(&useless)), TlsaEvidence::Unusable);
        assert_eq!(
            of(&[wrong.clone(), useless.clone()]),
            TlsaEvidence::Unusable
        );
        let without = TlsaEvidence::without_certificate;
        assert_eq!(without(from_ref(&wrong)), TlsaEvidence::Usable(None));
        assert_eq!(without(&[wrong, useless]), TlsaEvidence::Unusable);
    }

    /// RFC 7673 §4.1.
    #[test]
    fn a_target_that_is_vouched_for_may_be_the_name_in_the_certificate() {
        let ca = Issued::new().authority().build();
        let shown = Issued::new().dns("xmpp.hoster.example").issue(&ca);
        let trusted = authorities(&[&ca]);
        let proven = |places: &[Vouched]| {
            let found = Evidence::of(&der(&shown), &trusted, &sought(places, &[]), now());
            found.chain.unwrap().is_proven()
        };
        assert!(!proven(&[place(None, None)]));
        assert!(proven(&[
            place(Some("a.example"), None),
            place(Some("xmpp.hoster.example"), None)
        ]));
    }
}

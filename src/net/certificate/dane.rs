//! What a domain's TLSA records make of a peer's certificates (RFC 6698 §2.1, RFC 7671, RFC 7673).
//!
//! The caller answers for the records: DNSSEC vouches for them and for the SRV record that led to
//! them (RFC 7673 §3). Records that cannot be used are passed over; if none can, there is no DANE for
//! the peer and its chain is judged without (RFC 7673 §4.1).

use std::fmt;

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Public};
use openssl::sha::{sha256, sha512};
use openssl::x509::{X509, X509Ref};

use super::authorities::Authorities;
use super::chain::Verified;
use super::peer::{Judgement, PeerRole, Reference, ShownChain, key_info};
use crate::limits;

const PKIX_TA: u8 = 0;
const PKIX_EE: u8 = 1;
const DANE_TA: u8 = 2;
const DANE_EE: u8 = 3;

const CERT: u8 = 0;
const SPKI: u8 = 1;

const FULL: u8 = 0;
const SHA2_256: u8 = 1;
const SHA2_512: u8 = 2;

/// A TLSA record (RFC 6698 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsaRecord {
    /// Certificate usage: PKIX-TA(0), PKIX-EE(1), DANE-TA(2), DANE-EE(3).
    pub usage: u8,
    /// Selector: Cert(0), SPKI(1).
    pub selector: u8,
    /// Matching type: Full(0), SHA2-256(1), SHA2-512(2).
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// What the records make of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaneVerdict {
    /// There is no record that can be used: the peer has no DANE.
    NoneUsable,
    /// The record proves the peer.
    Matched {
        /// It.
        record: TlsaRecord,
        /// When the first certificate of the chain ends, in seconds of the Unix epoch; none if
        /// dates do not count, as by DANE-EE (RFC 7671 §5.1).
        ends: Option<i64>,
    },
    /// No record proves the peer: it is not who it says. Never empty; in the order of the records.
    Failed(Vec<(TlsaRecord, DaneFailure)>),
}

/// Why a record that can be used does not prove the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaneFailure {
    /// It is for no certificate that the peer showed.
    NoMatch,
    /// It is for one of them, but the chain has faults or is for others, as is told.
    Unproven(Judgement),
}

impl DaneVerdict {
    /// Judges a chain by records that DNSSEC vouches for, as of `now` in seconds of the Unix epoch.
    /// Records beyond `TLSA_RECORDS_MAX` are not looked at. `authorities` are for PKIX-TA and
    /// PKIX-EE.
    ///
    /// # Errors
    /// If OpenSSL has no memory.
    pub fn of(
        records: &[TlsaRecord],
        shown: &ShownChain,
        authorities: &Authorities,
        role: PeerRole,
        reference: Reference<'_>,
        now: i64,
    ) -> Result<DaneVerdict, ErrorStack> {
        let case = Case {
            shown,
            authorities,
            role,
            reference,
            now,
        };
        let mut failures = Vec::new();
        for record in in_use(records) {
            match case.judge(record)? {
                Ok(ends) => {
                    let record = record.clone();
                    return Ok(DaneVerdict::Matched { record, ends });
                }
                Err(failure) => failures.push((record.clone(), failure)),
            }
        }
        if failures.is_empty() {
            Ok(DaneVerdict::NoneUsable)
        } else {
            Ok(DaneVerdict::Failed(failures))
        }
    }
}

/// What is judged, and by what.
struct Case<'a> {
    shown: &'a ShownChain,
    authorities: &'a Authorities,
    role: PeerRole,
    reference: Reference<'a>,
    now: i64,
}

impl Case<'_> {
    fn judge(&self, record: &TlsaRecord) -> Result<Result<Option<i64>, DaneFailure>, ErrorStack> {
        match record.usage {
            DANE_EE if record.is_for(&self.shown.leaf) => Ok(Ok(None)),
            PKIX_EE if record.is_for(&self.shown.leaf) => {
                let verified = self.by(self.authorities)?;
                Ok(self.proven(verified))
            }
            // RFC 7671 §5.4: an issuer anywhere in the chain that the authorities vouch for.
            PKIX_TA => {
                let verified = self.by(self.authorities)?;
                if verified.path.iter().skip(1).any(|c| record.is_for(c)) {
                    Ok(self.proven(verified))
                } else {
                    Ok(Err(DaneFailure::NoMatch))
                }
            }
            DANE_TA => {
                let anchors = self.anchors(record);
                if anchors.is_empty() {
                    return Ok(Err(DaneFailure::NoMatch));
                }
                let verified = self.by(&Authorities::of(anchors)?)?;
                Ok(self.proven(verified))
            }
            _ => Ok(Err(DaneFailure::NoMatch)),
        }
    }

    fn by(&self, authorities: &Authorities) -> Result<Verified, ErrorStack> {
        self.shown.verify(authorities, self.role, self.now)
    }

    /// Usages but DANE-EE need a chain without faults and a name that matches (RFC 7673 §9.2).
    fn proven(&self, verified: Verified) -> Result<Option<i64>, DaneFailure> {
        let judgement = self.shown.judgement(verified, self.reference, self.now);
        if judgement.is_proven() {
            Ok(Some(judgement.ends))
        } else {
            Err(DaneFailure::Unproven(judgement))
        }
    }

    /// What a DANE-TA record has us trust: issuers that the peer showed, and the one in the record
    /// if it is there in full (RFC 7671 §5.2.2). The leaf is not one: it issues nothing.
    fn anchors(&self, record: &TlsaRecord) -> Vec<X509> {
        let leaf = digest(&self.shown.leaf);
        let is_leaf = |certificate: &X509| digest(certificate) == leaf;
        let others = self.shown.others.iter();
        let mut anchors: Vec<X509> = others
            .filter(|certificate| record.is_for(certificate))
            .map(ToOwned::to_owned)
            .collect();
        if let Some(certificate) = record.certificate() {
            anchors.push(certificate);
        }
        if anchors.is_empty()
            && let Some(key) = record.key()
        {
            // RFC 7671 §5.2.3: nobody showed the anchor, but its key is known. What it signed is as
            // good as the anchor, be it the leaf.
            let shown = self.shown.others.iter().chain([&*self.shown.leaf]);
            let signed = shown.filter(|certificate| is_signed_by(certificate, &key));
            return signed.map(ToOwned::to_owned).collect();
        }
        anchors.retain(|certificate| !is_leaf(certificate));
        anchors
    }
}

impl TlsaRecord {
    /// RFC 7671 §9: unknown numbers, and data that cannot be what they say, are of no use.
    fn is_usable(&self) -> bool {
        let has_form = match self.matching {
            FULL if self.selector == CERT => X509::from_der(&self.data).is_ok(),
            FULL => PKey::public_key_from_der(&self.data).is_ok(),
            SHA2_256 => self.data.len() == 32,
            SHA2_512 => self.data.len() == 64,
            _ => false,
        };
        // What OpenSSL says of data it cannot read is not for who next looks at its errors.
        drop(ErrorStack::get());
        has_form && self.usage <= DANE_EE && self.selector <= SPKI
    }

    fn is_for(&self, certificate: &X509Ref) -> bool {
        let selected = match self.selector {
            CERT => certificate.to_der().ok(),
            SPKI => key_info(certificate),
            _ => None,
        };
        selected.is_some_and(|der| match self.matching {
            FULL => der == self.data,
            SHA2_256 => sha256(&der)[..] == self.data[..],
            SHA2_512 => sha512(&der)[..] == self.data[..],
            _ => false,
        })
    }

    /// The certificate that is its data.
    fn certificate(&self) -> Option<X509> {
        let is_certificate = self.selector == CERT && self.matching == FULL;
        is_certificate.then(|| X509::from_der(&self.data).ok())?
    }

    /// The key that is its data.
    fn key(&self) -> Option<PKey<Public>> {
        let is_key = self.selector == SPKI && self.matching == FULL;
        is_key.then(|| PKey::public_key_from_der(&self.data).ok())?
    }
}

/// The records that count: usable, and of two digests for one usage and selector only the stronger
/// one, whatever it matches (RFC 7671 §9).
fn in_use(records: &[TlsaRecord]) -> Vec<&TlsaRecord> {
    let looked_at = records.iter().take(limits::TLSA_RECORDS_MAX);
    let usable: Vec<_> = looked_at.filter(|record| record.is_usable()).collect();
    let has_stronger = |record: &TlsaRecord| {
        record.matching == SHA2_256
            && usable.iter().any(|other| {
                other.matching == SHA2_512
                    && (other.usage, other.selector) == (record.usage, record.selector)
            })
    };
    let counting = usable.iter().filter(|record| !has_stronger(record));
    counting.copied().collect()
}

fn digest(certificate: &X509Ref) -> Option<[u8; 32]> {
    certificate.to_der().ok().map(|der| sha256(&der))
}

fn is_signed_by(certificate: &X509Ref, key: &PKey<Public>) -> bool {
    let is_signed = certificate.verify(key).unwrap_or(false);
    // That it is not leaves an error in OpenSSL's queue, which the next TLS stream would be blamed for.
    drop(ErrorStack::get());
    is_signed
}

impl fmt::Display for TlsaRecord {
    /// As in a zone file, the data cut: "3 1 1 01d09d19c2139a46...".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        let told = self.data.iter().take(8);
        told.into_iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if self.data.len() > 8 { "..." } else { "" })
    }
}

impl fmt::Display for DaneVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaneVerdict::NoneUsable => f.write_str("no TLSA record can be used"),
            DaneVerdict::Matched { record, .. } => write!(f, "TLSA record {record} matches"),
            DaneVerdict::Failed(failures) => {
                f.write_str("no TLSA record matches")?;
                failures
                    .iter()
                    .try_for_each(|(record, failure)| write!(f, "; {record}: {failure}"))
            }
        }
    }
}

impl fmt::Display for DaneFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DaneFailure::Unproven(judgement) = self else {
            return f.write_str("is for no certificate that was shown");
        };
        match (judgement.faults.first(), &judgement.matched) {
            (Some(fault), _) => write!(f, "is for the chain, but {fault}"),
            (None, _) => f.write_str("is for the chain, but that is for another name"),
        }
    }
}

#[cfg(test)]
mod tests;

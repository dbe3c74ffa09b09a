//! What a domain's TLSA records make of a peer's certificates (RFC 6698 §2.1, RFC 7671, RFC 7673).
//!
//! The caller answers for the records: DNSSEC vouches for them and for the SRV record that led to
//! them (RFC 7673 §3). Records that cannot be used are passed over; if none can, there is no DANE for
//! the peer and its chain is judged without (RFC 7673 §4.1).

use std::fmt;

use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Public};
use openssl::sha::{sha256, sha512};
use openssl::x509::{X509, X509Ref};

use super::authorities::Authorities;
use super::peer::{
    Judgement, PeerRole, Reference, ShownChain, has_costly_key, is_costly, key_info,
};
use crate::dns::TlsaRecord;
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
        let records = in_use(records);
        let anchors: Vec<Vec<X509>> = records.iter().map(|r| anchors(r, shown)).collect();
        let chain_by = |authorities: &Authorities| {
            let verified = shown.verify(authorities, role, now)?;
            let path = verified.path.clone();
            let judgement = shown.judgement(verified.outcome(), reference, now);
            Ok(Chain { path, judgement })
        };
        // Two verifications at most, however many records a hostile domain has.
        let needs_authorities = records.iter().any(|record| record.usage <= PKIX_EE);
        let trusted = needs_authorities.then(|| chain_by(authorities));
        let all_anchors: Vec<X509> = anchors.iter().flatten().cloned().collect();
        let anchored = (!all_anchors.is_empty()).then(|| chain_by(&Authorities::of(all_anchors)?));
        let chains = Chains {
            shown,
            trusted: trusted.transpose()?,
            anchored: anchored.transpose()?,
        };
        let mut failures = Vec::new();
        for (record, anchors) in records.into_iter().zip(&anchors) {
            let record = record.clone();
            match chains.judge(&record, anchors) {
                Ok(ends) => return Ok(DaneVerdict::Matched { record, ends }),
                Err(failure) => failures.push((record, failure)),
            }
        }
        if failures.is_empty() {
            Ok(DaneVerdict::NoneUsable)
        } else {
            Ok(DaneVerdict::Failed(failures))
        }
    }
}

/// A chain as it was built, and what was made of it.
struct Chain {
    path: Vec<X509>,
    judgement: Judgement,
}

/// What records are held against.
struct Chains<'a> {
    shown: &'a ShownChain,
    /// Up to the authorities.
    trusted: Option<Chain>,
    /// Up to the anchors of all records together.
    anchored: Option<Chain>,
}

impl Chains<'_> {
    /// When the proof ends; none if never.
    fn judge(&self, record: &TlsaRecord, anchors: &[X509]) -> Result<Option<i64>, DaneFailure> {
        let is_for_leaf = || record.is_for(&self.shown.leaf);
        // RFC 7671 §5.4: an issuer anywhere in the chain that the authorities vouch for.
        let is_for_issuer = |chain: &&Chain| chain.path.iter().skip(1).any(|c| record.is_for(c));
        let chain = match record.usage {
            DANE_EE if is_for_leaf() => return Ok(None),
            PKIX_EE if is_for_leaf() => self.trusted.as_ref(),
            PKIX_TA => self.trusted.as_ref().filter(is_for_issuer),
            DANE_TA if !anchors.is_empty() => self.anchored.as_ref(),
            _ => None,
        };
        let Chain { path, judgement } = chain.ok_or(DaneFailure::NoMatch)?;
        // Usages but DANE-EE need a chain without faults and a name that matches (RFC 7673 §9.2).
        if !judgement.is_proven() {
            return Err(DaneFailure::Unproven(judgement.clone()));
        }
        // The chain may lead to the anchor of another record: that one is the match.
        let is_anchor = |c: &X509| anchors.iter().any(|anchor| digest(anchor) == digest(c));
        if record.usage == DANE_TA && !path.iter().any(is_anchor) {
            return Err(DaneFailure::NoMatch);
        }
        Ok(Some(judgement.ends))
    }
}

/// What a DANE-TA record has us trust: issuers that the peer showed, and the one in the record if it
/// is there in full (RFC 7671 §5.2.2). The leaf is not one: it issues nothing.
fn anchors(record: &TlsaRecord, shown: &ShownChain) -> Vec<X509> {
    if record.usage != DANE_TA {
        return Vec::new();
    }
    let others = shown.others.iter();
    let mut anchors: Vec<X509> = others
        .filter(|certificate| record.is_for(certificate))
        .map(ToOwned::to_owned)
        .collect();
    anchors.extend(record.certificate());
    if anchors.is_empty()
        && let Some(key) = record.key()
    {
        // RFC 7671 §5.2.3: nobody showed the anchor, but its key is known. What it signed is as good
        // as the anchor, be it the leaf.
        let candidates = shown.others.iter().chain([&*shown.leaf]);
        let signed = candidates.filter(|certificate| is_signed_by(certificate, &key));
        return signed.map(ToOwned::to_owned).collect();
    }
    let leaf = digest(&shown.leaf);
    anchors.retain(|certificate| digest(certificate) != leaf);
    anchors
}

impl TlsaRecord {
    /// RFC 7671 §9: unknown numbers, and data that cannot be what they say, are of no use.
    fn is_usable(&self) -> bool {
        let has_form = match self.matching {
            FULL if self.data.len() > limits::PEER_CERTIFICATES_BYTES_MAX => false,
            FULL if self.selector == CERT => {
                X509::from_der(&self.data).is_ok_and(|certificate| !has_costly_key(&certificate))
            }
            FULL => PKey::public_key_from_der(&self.data).is_ok_and(|key| !is_costly(&key)),
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

/// Whether one of them can be used, so that they decide about the peer (RFC 6698 §4.1).
pub fn has_usable(records: &[TlsaRecord]) -> bool {
    !in_use(records).is_empty()
}

fn digest(certificate: &X509Ref) -> Option<[u8; 32]> {
    certificate.to_der().ok().map(|der| sha256(&der))
}

/// Not by a digest that is too weak: as the certificate becomes the end of a chain, nothing else
/// looks at that.
fn is_signed_by(certificate: &X509Ref, key: &PKey<Public>) -> bool {
    let algorithm = certificate.signature_algorithm().object().nid();
    let digest = algorithm.signature_algorithms().map(|of| of.digest);
    let is_weak = matches!(digest, Some(Nid::MD5 | Nid::SHA1));
    let is_signed = !is_weak && certificate.verify(key).unwrap_or(false);
    // That it is not leaves an error in OpenSSL's queue, which the next TLS stream would be blamed for.
    drop(ErrorStack::get());
    is_signed
}

/// A record as in a zone file, the data cut: "3 1 1 01d09d19c2139a46...".
struct Short<'a>(&'a TlsaRecord);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short(record) = self;
        write!(
            f,
            "{} {} {} ",
            record.usage, record.selector, record.matching
        )?;
        let told = record.data.iter().take(8);
        told.into_iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(if record.data.len() > 8 { "..." } else { "" })
    }
}

impl fmt::Display for DaneVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DaneVerdict::NoneUsable => f.write_str("no TLSA record can be used"),
            DaneVerdict::Matched { record, .. } => {
                write!(f, "TLSA record {} matches", Short(record))
            }
            DaneVerdict::Failed(failures) => {
                f.write_str("no TLSA record matches")?;
                failures
                    .iter()
                    .try_for_each(|(record, failure)| write!(f, "; {}: {failure}", Short(record)))
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

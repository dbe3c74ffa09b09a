//! What another server's certificates prove (RFC 6120 §13.7.2, RFC 9525, XEP-0178 §3).
//!
//! The handshake itself refuses nothing: its verify callback answers "go on", and what the peer
//! showed is judged here afterwards, against the domain that the stream header names. So a peer
//! without a valid certificate can still be told so, or be proven by dialback, and `explain` can
//! tell every fault. Revocation is not looked up (RFC 6120 §13.7.2 rule 5): authorities no longer
//! run the services for it, and certificates that live for days take its place.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKeyRef, Public};
use openssl::sha::sha256;
use openssl::stack::Stack;
use openssl::x509::{X509, X509ExtendedKeyUsage, X509PurposeId, X509Ref};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::authorities::Authorities;
use super::chain::{self, Fault, FaultKind, Outcome, Verified};
use super::names::{Identifier, Names};
use crate::limits;

/// The certificates that a peer showed.
pub struct ShownChain {
    pub(super) leaf: X509,
    /// What came after the leaf, in the order in which it came.
    pub(super) others: Stack<X509>,
    names: Names,
    fingerprint: [u8; 32],
    key_fingerprint: Option<[u8; 32]>,
}

/// Which side of the stream the peer is (RFC 6120 §2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// We accepted its connection. Its certificate may be for clients or for servers: authorities
    /// are dropping clientAuth, and old ones made certificates with it alone.
    InitiatingEntity,
    /// We dialled it. Its certificate must be for servers.
    ReceivingEntity,
}

/// Whom the certificate must be for. Domains are in lower-case A-labels.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The domain of the stream header: `to` of one we dialled, `from` of one we accepted
    /// (RFC 6120 §13.7.2.1).
    pub domain: &'a str,
    /// The targets of the SRV records by which the peer is found, as far as DNSSEC vouches for those
    /// records; they count as DNS-IDs then (RFC 7673 §4.1).
    pub secure_targets: &'a [&'a str],
}

/// What authorities make of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// None: the chain is valid.
    pub faults: Vec<Fault>,
    /// The name that is for whom it must be; none if it is for others.
    pub matched: Option<Identifier>,
    /// The second of the Unix epoch at which the first certificate of the chain ends. A stream that
    /// it proved is closed with `reset` then (RFC 6120 §13.7.2.3).
    pub ends: i64,
}

impl Judgement {
    /// Whether the chain is valid and for whom it must be.
    pub fn is_proven(&self) -> bool {
        self.faults.is_empty() && self.matched.is_some()
    }
}

impl ShownChain {
    /// Reads what a peer showed, in DER and leaf first.
    ///
    /// # Errors
    /// With the fault of the first certificate that cannot be read or whose key costs too much, or
    /// of a chain beyond `PEER_CERTIFICATES_MAX` or `PEER_CERTIFICATES_BYTES_MAX`. It has no subject.
    pub fn parse(chain: &[Vec<u8>]) -> Result<ShownChain, Fault> {
        let fault = |depth, kind| Fault {
            depth,
            subject: String::new(),
            kind,
        };
        let bytes: usize = chain.iter().map(Vec::len).sum();
        if chain.len() > limits::PEER_CERTIFICATES_MAX
            || bytes > limits::PEER_CERTIFICATES_BYTES_MAX
        {
            return Err(fault(0, FaultKind::TooLong));
        }
        let malformed = |depth| move |_: ErrorStack| fault(depth, FaultKind::Malformed);
        let Some((leaf_der, others_der)) = chain.split_first() else {
            return Err(fault(0, FaultKind::Malformed));
        };
        let leaf = X509::from_der(leaf_der).map_err(malformed(0))?;
        let mut others = Stack::new().map_err(malformed(1))?;
        for (depth, der) in (1..).zip(others_der) {
            X509::from_der(der)
                .and_then(|certificate| others.push(certificate))
                .map_err(malformed(depth))?;
        }
        let all = [&*leaf].into_iter().chain(others.iter());
        if let Some(depth) = all.into_iter().position(has_costly_key) {
            return Err(fault(depth, FaultKind::KeyTooLarge));
        }
        Ok(ShownChain {
            names: Names::from_der(leaf_der),
            fingerprint: sha256(leaf_der),
            key_fingerprint: key_info(&leaf).map(|der| sha256(&der)),
            leaf,
            others,
        })
    }

    /// The names of the leaf that XMPP knows.
    pub fn identifiers(&self) -> Vec<Identifier> {
        self.names.identifiers()
    }

    /// Whether the leaf is for a domain, in lower-case A-labels; nothing is verified.
    pub fn is_for(&self, domain: &str) -> bool {
        let named = self.names.dns_id_for(domain);
        named.or_else(|| self.names.xmpp_id_for(domain)).is_some()
    }

    /// For people: "CN=example.org".
    pub fn subject(&self) -> String {
        chain::name_for_people(self.leaf.subject_name())
    }

    /// For people: "CN=R11, O=Let's Encrypt".
    pub fn issuer(&self) -> String {
        chain::name_for_people(self.leaf.issuer_name())
    }

    /// SHA-256 of the leaf, by which a change of certificate is noticed (RFC 7590 §3.6).
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Whether one of the pins is for the leaf's key. Dates, names and issuers do not count then:
    /// the operator vouches for the key.
    pub fn is_pinned(&self, pins: &[Pin]) -> bool {
        self.pin().is_some_and(|pin| pins.contains(&pin))
    }

    /// The pin that would be for the leaf's key, to be shown; none if the key cannot be read.
    pub fn pin(&self) -> Option<Pin> {
        self.key_fingerprint.map(Pin)
    }

    /// What the authorities, the machine's or those pinned for the peer, make of it as of `now`, in
    /// seconds of the Unix epoch. Costs some hundred microseconds of CPU.
    ///
    /// # Errors
    /// If OpenSSL has no memory.
    pub fn judge(
        &self,
        authorities: &Authorities,
        role: PeerRole,
        reference: Reference<'_>,
        now: i64,
    ) -> Result<Judgement, ErrorStack> {
        let verified = self.verify(authorities, role, now)?;
        Ok(self.judgement(verified.outcome(), reference, now))
    }

    pub(super) fn verify(
        &self,
        authorities: &Authorities,
        role: PeerRole,
        now: i64,
    ) -> Result<Verified, ErrorStack> {
        let purpose = self.purpose(role);
        chain::verify(authorities.store(), &self.leaf, &self.others, purpose, now)
    }

    pub(super) fn judgement(
        &self,
        outcome: Outcome,
        reference: Reference<'_>,
        now: i64,
    ) -> Judgement {
        Judgement {
            matched: self.matched(outcome.is_constrained, reference),
            ends: outcome.ends.unwrap_or(now),
            faults: outcome.faults,
        }
    }

    /// A certificate for clients alone is asked for that, and its issuers with it; any other for
    /// servers, on both sides.
    pub(super) fn purpose(&self, role: PeerRole) -> X509PurposeId {
        let is_for_clients_alone = self.leaf.extended_key_usage().is_some_and(|usage| {
            usage.contains(X509ExtendedKeyUsage::SSL_CLIENT)
                && !usage.contains(X509ExtendedKeyUsage::SSL_SERVER)
        });
        match role {
            PeerRole::InitiatingEntity if is_for_clients_alone => X509PurposeId::SSL_CLIENT,
            _ => X509PurposeId::SSL_SERVER,
        }
    }

    /// An authority that may certify only some domains is held to that for DNS-IDs; constraints say
    /// nothing of other kinds of names (RFC 5280 §4.2.1.10), so below it these prove nothing.
    fn matched(&self, is_constrained: bool, reference: Reference<'_>) -> Option<Identifier> {
        let target = || {
            let mut targets = reference.secure_targets.iter();
            targets.find_map(|target| self.names.dns_id_for(target))
        };
        let other = || {
            let found = self.names.xmpp_id_for(reference.domain);
            found.filter(|_| !is_constrained)
        };
        let dns = self.names.dns_id_for(reference.domain);
        dns.or_else(other).or_else(target)
    }
}

impl fmt::Debug for ShownChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownChain")
            .field("subject", &self.subject())
            .finish_non_exhaustive()
    }
}

pub(super) fn has_costly_key(certificate: &X509Ref) -> bool {
    certificate.public_key().is_ok_and(|key| is_costly(&key))
}

/// Whether to verify one signature by the key takes more than some milliseconds.
pub(super) fn is_costly(key: &PKeyRef<Public>) -> bool {
    let is_large = key.bits() > limits::PEER_KEY_BITS_MAX;
    match key.id() {
        Id::RSA | Id::RSA_PSS => {
            let exponent_bits = key.rsa().map_or(0, |rsa| rsa.e().num_bits());
            is_large || exponent_bits > limits::PEER_KEY_EXPONENT_BITS_MAX
        }
        Id::DSA | Id::DH => is_large,
        // Elliptic curves that OpenSSL verifies with are small; ML-DSA has large keys and is quick.
        _ => false,
    }
}

/// The DER of a certificate's `SubjectPublicKeyInfo`, as it stands there.
pub(super) fn key_info(certificate: &X509Ref) -> Option<Vec<u8>> {
    let der = certificate.to_der().ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let info = certificate.tbs_certificate().subject_public_key_info();
    info.to_der().ok()
}

/// A key that a peer must show: SHA-256 of its `SubjectPublicKeyInfo`. Of the key and not of the
/// certificate, so that a renewal that keeps the key goes on working. It is the data of a TLSA record
/// "3 1 1", and what `openssl pkey -pubin -outform DER | sha256sum` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin([u8; 32]);

impl Pin {
    /// The SHA-256.
    pub fn digest(self) -> [u8; 32] {
        self.0
    }
}

impl From<[u8; 32]> for Pin {
    fn from(digest: [u8; 32]) -> Pin {
        Pin(digest)
    }
}

/// A pin that cannot be read; a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinError(String);

impl FromStr for Pin {
    type Err = PinError;

    /// Takes "sha256:" and 64 hexadecimal digits, with or without colons between them, or the same
    /// in base64 as `curl --pinnedpubkey` has it.
    fn from_str(text: &str) -> Result<Pin, PinError> {
        let refused = || {
            PinError(format!(
                "pin \"{}\" is not \"sha256:\" with 64 hexadecimal digits or 44 characters of base64: \
                 the SHA-256 of the public key in DER",
                text.escape_debug()
            ))
        };
        let digest = text.strip_prefix("sha256:").ok_or_else(refused)?;
        let digits: String = digest.chars().filter(|c| *c != ':').collect();
        let bytes = if digits.len() == 64 {
            from_hexadecimal(&digits)
        } else {
            STANDARD.decode(digest).ok()
        };
        let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Pin).ok_or_else(refused)
    }
}

fn from_hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| {
            let number = value(pair.first()?)? * 16 + value(pair.last()?)?;
            u8::try_from(number).ok()
        })
        .collect()
}

impl fmt::Display for Pin {
    /// As it stands in the conf file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PinError {}

#[cfg(test)]
mod tests;

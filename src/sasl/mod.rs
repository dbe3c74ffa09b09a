//! SASL, the server's side (RFC 4422, RFC 6120 §6), as pure functions: messages in, messages out.
//!
//! Nonces, salts and what the connection can bind to are passed in; who may log in where is decided
//! above. Costly hashing stands in [`credentials`] alone, and belongs on a worker; SCRAM with
//! stored keys is cheap and runs on the shard.
//!
//! Left out: SASL2 and its tokens (XEP-0388, XEP-0484), which come with their issue; `tls-unique`
//! (RFC 5929 §3), which TLS 1.3 does not have and RFC 9266 replaces.

pub mod credentials;
pub mod decoy;
pub mod identity;
pub mod scram;
pub mod simple;

use std::fmt;

use openssl::hash::MessageDigest;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};

pub use credentials::{CredentialError, Credentials, HashPolicy, Storage, Verifier};
pub use decoy::{Form, fake_verifier};

/// A hash function of the SCRAM family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// RFC 5802.
    Sha1,
    /// RFC 7677.
    Sha256,
    /// Named in the IANA registry of SASL mechanisms, used in the way of RFC 7677.
    Sha512,
}

impl Hash {
    /// All of them, the strongest first.
    pub const ALL: [Hash; 3] = [Hash::Sha512, Hash::Sha256, Hash::Sha1];

    /// Its IANA name, as in conf file, database and mechanism names: `"SHA-256"`.
    pub fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "SHA-1",
            Hash::Sha256 => "SHA-256",
            Hash::Sha512 => "SHA-512",
        }
    }

    /// The hash of that name; case matters.
    pub fn parse(name: &str) -> Option<Hash> {
        Hash::ALL.into_iter().find(|hash| hash.name() == name)
    }

    /// Octets of its output.
    pub fn size(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha512 => 64,
        }
    }

    /// `H(data)` of RFC 5802 §2.2.
    pub(crate) fn of(self, data: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, data),
            Hash::Sha256 => digest(&SHA256, data),
            Hash::Sha512 => digest(&SHA512, data),
        }
        .as_ref()
        .to_vec()
    }

    /// `HMAC(key, data)` of RFC 5802 §2.2.
    pub(crate) fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Hash::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => HMAC_SHA256,
            Hash::Sha512 => HMAC_SHA512,
        };
        let key = hmac::Key::new(algorithm, key);
        hmac::sign(&key, data).as_ref().to_vec()
    }

    pub(crate) fn digest(self) -> MessageDigest {
        match self {
            Hash::Sha1 => MessageDigest::sha1(),
            Hash::Sha256 => MessageDigest::sha256(),
            Hash::Sha512 => MessageDigest::sha512(),
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A mechanism that this server knows, in the order in which it prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// `SCRAM-SHA-512-PLUS`
    ScramSha512Plus,
    /// `SCRAM-SHA-512`
    ScramSha512,
    /// `SCRAM-SHA-256-PLUS`, RFC 7677.
    ScramSha256Plus,
    /// `SCRAM-SHA-256`, RFC 7677.
    ScramSha256,
    /// `SCRAM-SHA-1-PLUS`, RFC 5802.
    ScramSha1Plus,
    /// `SCRAM-SHA-1`, RFC 5802.
    ScramSha1,
    /// `EXTERNAL`, RFC 4422 Appendix A.
    External,
    /// `PLAIN`, RFC 4616.
    Plain,
    /// `ANONYMOUS`, RFC 4505.
    Anonymous,
}

impl Mechanism {
    /// All of them, the preferred first.
    pub const ALL: [Mechanism; 9] = [
        Mechanism::ScramSha512Plus,
        Mechanism::ScramSha512,
        Mechanism::ScramSha256Plus,
        Mechanism::ScramSha256,
        Mechanism::ScramSha1Plus,
        Mechanism::ScramSha1,
        Mechanism::External,
        Mechanism::Plain,
        Mechanism::Anonymous,
    ];

    /// Its name in the IANA registry and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Mechanism::ScramSha1 => "SCRAM-SHA-1",
            Mechanism::External => "EXTERNAL",
            Mechanism::Plain => "PLAIN",
            Mechanism::Anonymous => "ANONYMOUS",
        }
    }

    /// The mechanism of that name. Names are upper case only (RFC 4422 §3.1).
    pub fn parse(name: &str) -> Option<Mechanism> {
        Mechanism::ALL
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// For SCRAM: its hash, and whether it binds to the channel (`-PLUS`).
    pub fn scram(self) -> Option<(Hash, bool)> {
        match self {
            Mechanism::ScramSha512Plus => Some((Hash::Sha512, true)),
            Mechanism::ScramSha512 => Some((Hash::Sha512, false)),
            Mechanism::ScramSha256Plus => Some((Hash::Sha256, true)),
            Mechanism::ScramSha256 => Some((Hash::Sha256, false)),
            Mechanism::ScramSha1Plus => Some((Hash::Sha1, true)),
            Mechanism::ScramSha1 => Some((Hash::Sha1, false)),
            Mechanism::External | Mechanism::Plain | Mechanism::Anonymous => None,
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The conditions of a `<failure/>` (RFC 6120 §6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SaslFailure {
    /// §6.5.1: answers `<abort/>`.
    Aborted,
    /// §6.5.2: said to who has proven the password only.
    AccountDisabled,
    /// §6.5.3.
    CredentialsExpired,
    /// §6.5.4.
    EncryptionRequired,
    /// §6.5.5: the base64 is wrong.
    IncorrectEncoding,
    /// §6.5.6.
    InvalidAuthzid,
    /// §6.5.7.
    InvalidMechanism,
    /// §6.5.8.
    MalformedRequest,
    /// §6.5.9.
    MechanismTooWeak,
    /// §6.5.10: a wrong password and an unknown user alike.
    NotAuthorized,
    /// §6.5.11.
    TemporaryAuthFailure,
}

impl SaslFailure {
    /// All of them, in the order of the RFC.
    pub const ALL: [SaslFailure; 11] = [
        SaslFailure::Aborted,
        SaslFailure::AccountDisabled,
        SaslFailure::CredentialsExpired,
        SaslFailure::EncryptionRequired,
        SaslFailure::IncorrectEncoding,
        SaslFailure::InvalidAuthzid,
        SaslFailure::InvalidMechanism,
        SaslFailure::MalformedRequest,
        SaslFailure::MechanismTooWeak,
        SaslFailure::NotAuthorized,
        SaslFailure::TemporaryAuthFailure,
    ];

    /// The name of the condition's element.
    pub fn condition(self) -> &'static str {
        match self {
            SaslFailure::Aborted => "aborted",
            SaslFailure::AccountDisabled => "account-disabled",
            SaslFailure::CredentialsExpired => "credentials-expired",
            SaslFailure::EncryptionRequired => "encryption-required",
            SaslFailure::IncorrectEncoding => "incorrect-encoding",
            SaslFailure::InvalidAuthzid => "invalid-authzid",
            SaslFailure::InvalidMechanism => "invalid-mechanism",
            SaslFailure::MalformedRequest => "malformed-request",
            SaslFailure::MechanismTooWeak => "mechanism-too-weak",
            SaslFailure::NotAuthorized => "not-authorized",
            SaslFailure::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }
}

impl fmt::Display for SaslFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition())
    }
}

impl std::error::Error for SaslFailure {}

/// A failure with what the log says of it, which the peer does not learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What goes on the wire.
    pub failure: SaslFailure,
    /// Why, for the operator.
    pub reason: &'static str,
}

impl Refusal {
    pub(crate) fn malformed(reason: &'static str) -> Refusal {
        Refusal {
            failure: SaslFailure::MalformedRequest,
            reason,
        }
    }

    pub(crate) fn not_authorized(reason: &'static str) -> Refusal {
        Refusal {
            failure: SaslFailure::NotAuthorized,
            reason,
        }
    }
}

impl From<Refusal> for SaslFailure {
    fn from(refusal: Refusal) -> SaslFailure {
        refusal.failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mechanism_is_found_by_its_name_and_by_no_other_spelling() {
        for mechanism in Mechanism::ALL {
            assert_eq!(Mechanism::parse(mechanism.name()), Some(mechanism));
            assert_eq!(Mechanism::parse(&mechanism.name().to_lowercase()), None);
        }
        assert_eq!(Mechanism::parse("SCRAM-SHA-224"), None);
        assert_eq!(Mechanism::parse(""), None);
    }

    #[test]
    fn mechanisms_sort_in_order_of_preference() {
        assert!(Mechanism::ALL.is_sorted());
    }

    #[test]
    fn a_scram_name_says_its_hash_and_binding() {
        for mechanism in Mechanism::ALL {
            let Some((hash, plus)) = mechanism.scram() else {
                continue;
            };
            let expected = format!("SCRAM-{hash}{}", if plus { "-PLUS" } else { "" });
            assert_eq!(mechanism.name(), expected);
        }
    }

    #[test]
    fn a_hash_has_the_size_it_says() {
        for hash in Hash::ALL {
            assert_eq!(hash.of(b"abc").len(), hash.size());
            assert_eq!(hash.digest().size(), hash.size());
            assert_eq!(Hash::parse(hash.name()), Some(hash));
        }
    }
}

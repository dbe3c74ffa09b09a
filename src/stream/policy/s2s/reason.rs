//! Why a verdict about a peer server is what it is, and the sentence that names the option that decides.

use super::{Dialback, Fault};
use crate::jid::Domain;

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `s2s.enabled = false`
    Disabled,
    /// `s2s.deny`
    Denied,
    /// `s2s.allow`
    NotAllowed,
    /// `s2s.require_encryption`
    Unencrypted,
    /// `[s2s.peer."name"]`: whether what it pins was shown.
    Pinned(bool),
    /// `s2s.dane`: whether what usable TLSA records name was shown.
    Tlsa(bool),
    /// `s2s.dane`: nobody knows what the TLSA records are.
    TlsaUnknown,
    /// A valid certificate.
    Certificate,
    /// A certificate is needed, by an option, and what is shown is none that counts.
    NeedsCertificate(Strict, Lack),
    /// Dialback decides, by an option, since what is shown is no certificate that counts.
    ByDialback(Lenient, Lack, Back),
}

/// The option that asks for a valid certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strict {
    /// `s2s.secure_auth = true`
    SecureAuth,
    /// `s2s.secure_domains`
    SecureDomains,
}

/// The option that leaves room for dialback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lenient {
    /// `s2s.secure_auth = false`
    SecureAuth,
    /// `s2s.insecure_domains`
    InsecureDomains,
}

/// Why a connection has no valid certificate of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lack {
    /// There is no TLS.
    Tls,
    /// No certificate was shown.
    Certificate,
    /// The certificate is not to be trusted.
    Trust(Fault),
    /// It is for another name.
    Name,
}

/// What dialback has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Back {
    /// The peer claims the domain; how far its proof is.
    Called(Dialback),
    /// We have dialled to where the DNS says that the domain is.
    Dialled,
}

impl Reason {
    /// The sentence that explains it, for logs and `stanzad explain`.
    pub fn sentence(self, peer: &Domain) -> String {
        match self {
            Reason::Disabled => "s2s.enabled = false".to_owned(),
            Reason::Denied => format!("{peer} is on s2s.deny"),
            Reason::NotAllowed => format!("{peer} is not on s2s.allow"),
            Reason::Unencrypted => {
                "s2s.require_encryption = true and the connection is not encrypted".to_owned()
            }
            Reason::Pinned(true) => format!("it has shown what [s2s.peer.\"{peer}\"] pins"),
            Reason::Pinned(false) => format!("it has not shown what [s2s.peer.\"{peer}\"] pins"),
            Reason::Tlsa(true) => {
                "s2s.dane = true and it has shown the certificate of its TLSA records".to_owned()
            }
            Reason::Tlsa(false) => {
                "s2s.dane = true and it has not shown the certificate of its TLSA records".to_owned()
            }
            Reason::TlsaUnknown => {
                "s2s.dane = true and the DNS gives no answer about its TLSA records that can be trusted"
                    .to_owned()
            }
            Reason::Certificate => format!("its certificate is valid and names {peer}"),
            Reason::NeedsCertificate(strict, lack) => {
                let option = match strict {
                    Strict::SecureAuth => "s2s.secure_auth = true".to_owned(),
                    Strict::SecureDomains => format!("{peer} is on s2s.secure_domains"),
                };
                format!("{option} and {}", lack.as_str())
            }
            Reason::ByDialback(lenient, lack, back) => {
                let option = match lenient {
                    Lenient::SecureAuth => "s2s.secure_auth = false".to_owned(),
                    Lenient::InsecureDomains => format!("{peer} is on s2s.insecure_domains"),
                };
                format!("{option}, {}, and {}", lack.as_str(), back.as_str())
            }
        }
    }
}

impl Lack {
    fn as_str(self) -> &'static str {
        match self {
            Lack::Tls => "the connection is not encrypted",
            Lack::Certificate => "it has shown no certificate",
            Lack::Trust(Fault::Expired) => "its certificate has expired",
            Lack::Trust(Fault::NotYetValid) => "its certificate is not valid yet",
            Lack::Trust(Fault::SelfSigned) => "its certificate is self-signed",
            Lack::Trust(Fault::UnknownAuthority) => "its certificate is from an unknown authority",
            Lack::Trust(Fault::Invalid) => "its certificate is not valid",
            Lack::Name => "its certificate is for another name",
        }
    }
}

impl Back {
    fn as_str(self) -> &'static str {
        match self {
            Back::Called(Dialback::NotTried) => "dialback is not tried yet",
            Back::Called(Dialback::Pending) => "dialback is not answered yet",
            Back::Called(Dialback::Verified) => "dialback has verified it",
            Back::Called(Dialback::Failed) => "dialback has failed",
            Back::Called(Dialback::Impossible) => "dialback is not possible",
            Back::Dialled => "it is where the DNS says, as dialback would find it",
        }
    }
}

//! Stands in for `jid` and `sasl` until they land; same names as in the contracts.
use std::borrow::Borrow;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

impl Domain {
    pub fn parse(s: &str) -> Result<Domain, String> {
        if s.is_empty() || s.contains([' ', '@', '/']) {
            return Err("has a character that a domain cannot have".to_owned());
        }
        Ok(Domain(s.to_lowercase()))
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    pub const fn name(self) -> &'static str {
        match self {
            Hash::Sha1 => "SHA-1",
            Hash::Sha256 => "SHA-256",
            Hash::Sha512 => "SHA-512",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    ScramSha512Plus,
    ScramSha512,
    ScramSha256Plus,
    ScramSha256,
    ScramSha1Plus,
    ScramSha1,
    External,
    Plain,
    Anonymous,
}

use Mechanism::*;

impl Mechanism {
    pub const ALL: [Mechanism; 9] = [
        ScramSha512Plus,
        ScramSha512,
        ScramSha256Plus,
        ScramSha256,
        ScramSha1Plus,
        ScramSha1,
        External,
        Plain,
        Anonymous,
    ];
    pub fn name(self) -> &'static str {
        match self {
            ScramSha512Plus => "SCRAM-SHA-512-PLUS",
            ScramSha512 => "SCRAM-SHA-512",
            ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            ScramSha256 => "SCRAM-SHA-256",
            ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            ScramSha1 => "SCRAM-SHA-1",
            External => "EXTERNAL",
            Plain => "PLAIN",
            Anonymous => "ANONYMOUS",
        }
    }
    pub fn parse(name: &str) -> Option<Mechanism> {
        Mechanism::ALL.into_iter().find(|m| m.name() == name)
    }
    pub fn scram(self) -> Option<(Hash, bool)> {
        match self {
            ScramSha512Plus => Some((Hash::Sha512, true)),
            ScramSha512 => Some((Hash::Sha512, false)),
            ScramSha256Plus => Some((Hash::Sha256, true)),
            ScramSha256 => Some((Hash::Sha256, false)),
            ScramSha1Plus => Some((Hash::Sha1, true)),
            ScramSha1 => Some((Hash::Sha1, false)),
            External | Plain | Anonymous => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    Scram,
    Bcrypt,
}

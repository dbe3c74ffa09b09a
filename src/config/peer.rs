//! What an operator knows of one other server: `[s2s.peer."name"]`.

use std::path::PathBuf;

use crate::net::certificate::Pin;

/// What is known of one other server. Its domain's settings hold it under the prepared name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S2sPeer {
    /// Where it is, in place of what the DNS says.
    pub address: Option<Endpoint>,
    /// Whether TLS comes first there (XEP-0368).
    pub is_direct_tls: bool,
    /// Keys, one of which its certificate must have.
    pub pins: Vec<Pin>,
    /// Authorities, one of which must vouch for it, in PEM. What is pinned by either decides alone.
    pub ca: Option<NamedFile>,
}

impl S2sPeer {
    /// Whether a key or an authority is pinned for it.
    pub fn is_pinned(&self) -> bool {
        !self.pins.is_empty() || self.ca.is_some()
    }
}

/// A host with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name in A-labels, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// A file that an option names, to be read when the settings are put in force.
#[derive(Clone, Debug)]
pub struct NamedFile {
    /// Which.
    pub path: PathBuf,
    /// For messages: "stanzad.toml:12:6: tls.ca".
    pub place: String,
}

impl PartialEq for NamedFile {
    /// Where it is named makes no other file of it.
    fn eq(&self, other: &NamedFile) -> bool {
        self.path == other.path
    }
}

impl Eq for NamedFile {}

//! What is known of a component (XEP-0114), and its secret, which is told to nobody.

use std::fmt;
use std::sync::Arc;

use super::DomainSettings;

/// One `[component."name"]`, complete.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentSettings {
    /// What other servers meet in its name: certificate and `[s2s]`, as of a local domain. Nobody logs
    /// in there, so the rest of it says nothing.
    pub domain: Arc<DomainSettings>,
    /// What it proves itself by.
    pub secret: Secret,
    /// Bytes of one stanza of it, as received.
    pub stanza_bytes_max: usize,
}

/// A secret of the conf file. What is meant for people never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret as it is written in the file.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

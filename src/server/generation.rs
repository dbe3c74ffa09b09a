//! The certificates and client authorities of one generation of the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Settings;
use crate::net::certificate::{CaStore, client_identities};
use crate::net::tls::TlsContexts;
use crate::net::tls::TlsSettings;
use crate::stream::Certificates;

/// The certificates of one generation, checked.
pub struct Loaded {
    /// For new connections.
    pub contexts: Arc<TlsContexts>,
    /// For stream machines.
    pub certificates: Arc<dyn Certificates>,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// Loads the certificates and client authorities of a configuration. A domain whose files are not
/// usable keeps what it has in `previous`, where there is one.
///
/// # Errors
/// Every problem, in words.
pub fn load_certificates(
    settings: &Settings,
    previous: Option<&TlsContexts>,
) -> Result<Loaded, Vec<String>> {
    let mut problems = Vec::new();
    let mut authorities = HashMap::new();
    for domain in settings.domains.values() {
        let Some(path) = &domain.auth.client_ca else {
            continue;
        };
        match CaStore::load(path) {
            Ok(store) => {
                authorities.insert(domain.name.as_str().to_owned(), store);
            }
            Err(problem) => problems.push(format!(
                "domain \"{}\": auth.client_ca: {problem}",
                domain.name
            )),
        }
    }
    match TlsContexts::load_after(&TlsSettings::from_config(settings), previous) {
        Ok((contexts, warnings)) if problems.is_empty() => {
            let contexts = Arc::new(contexts);
            Ok(Loaded {
                certificates: Arc::new(Known {
                    contexts: Arc::clone(&contexts),
                    authorities,
                }),
                contexts,
                warnings,
            })
        }
        Ok(_) => Err(problems),
        Err(found) => {
            problems.extend(found.into_iter().map(|problem| problem.text));
            Err(problems)
        }
    }
}

/// What stream machines ask of a generation's certificates.
struct Known {
    contexts: Arc<TlsContexts>,
    authorities: HashMap<String, CaStore>,
}

impl Certificates for Known {
    fn has_certificate(&self, domain: &str) -> bool {
        self.contexts.has_certificate(domain)
    }

    fn client_identities(&self, domain: &str, chain: &[Vec<u8>]) -> Vec<String> {
        let Some(authority) = self.authorities.get(domain) else {
            return Vec::new();
        };
        client_identities(chain, authority).unwrap_or_else(|error| {
            log::info!(domain, reason:% = error; "client certificate refused");
            Vec::new()
        })
    }
}

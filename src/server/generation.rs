//! The certificates and client authorities of one generation of the configuration.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Settings;
use crate::net::certificate::{CaStore, client_identities};
use crate::net::open_files::OpenFiles;
use crate::net::tls::{TlsContexts, TlsSets, TlsSettings};
use crate::net::tls_stream::{Dialled, SocketTransport};
use crate::net::transport::Transport;
use crate::shard::Dialler;
use crate::stream::Certificates;

/// The certificates of one generation, checked.
pub struct Loaded {
    /// For new connections.
    pub contexts: TlsSets,
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
    previous: Option<&TlsSets>,
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
    let mut load = |settings: &TlsSettings, previous: Option<&Arc<TlsContexts>>| {
        match TlsContexts::load_after(settings, previous.map(Arc::as_ref)) {
            Ok(loaded) => Some(loaded),
            Err(found) => {
                let found = found.into_iter().map(|problem| problem.text);
                let news: Vec<String> = found.filter(|text| !problems.contains(text)).collect();
                problems.extend(news);
                None
            }
        }
    };
    let clients = load(
        &TlsSettings::for_clients(settings),
        previous.map(|sets| &sets.clients),
    );
    // The same files: what is to be said of them is said once.
    let servers = load(
        &TlsSettings::for_servers(settings),
        previous.map(|sets| &sets.servers),
    );
    let (Some((clients, warnings)), Some((servers, _))) = (clients, servers) else {
        return Err(problems);
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let contexts = TlsSets {
        clients: Arc::new(clients),
        servers: Arc::new(servers),
    };
    Ok(Loaded {
        certificates: Arc::new(Known {
            contexts: Arc::clone(&contexts.clients),
            authorities,
        }),
        contexts,
        warnings,
    })
}

/// Connects to other servers, with the certificates of one generation.
pub struct Connector {
    contexts: Arc<TlsContexts>,
    open_files: Arc<OpenFiles>,
    streams: Arc<AtomicU64>,
}

impl Connector {
    /// `streams` numbers the connections for the log.
    pub fn new(
        contexts: &TlsSets,
        open_files: Arc<OpenFiles>,
        streams: Arc<AtomicU64>,
    ) -> Connector {
        Connector {
            contexts: Arc::clone(&contexts.servers),
            open_files,
            streams,
        }
    }
}

impl Dialler for Connector {
    fn dial(
        &self,
        address: SocketAddr,
        local: &str,
        remote: &str,
        is_direct: bool,
    ) -> io::Result<(Box<dyn Transport>, u64)> {
        let full =
            || io::Error::other("all connections that the limit on open files admits are taken");
        let taken = self.open_files.take().ok_or_else(full)?;
        let dialled = Dialled {
            contexts: Arc::clone(&self.contexts),
            local: local.to_owned(),
            remote: remote.to_owned(),
        };
        let transport = SocketTransport::dial(address, dialled, is_direct)?.counted(taken);
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        Ok((Box::new(transport), stream))
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

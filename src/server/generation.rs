//! The certificates and client authorities of one generation of the configuration.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Wall;
use crate::config::Settings;
use crate::jid::Domain;
use crate::net::certificate::{
    Authorities, CaStore, FaultKind, PeerRole, Reference, ShownChain, client_identities,
};
use crate::net::open_files::OpenFiles;
use crate::net::tls::{TlsContexts, TlsSets, TlsSettings};
use crate::net::tls_stream::{Dialled, SocketTransport};
use crate::net::transport::Transport;
use crate::router::peers::history::ShownCertificate;
use crate::shard::Dialler;
use crate::stream::Certificates;
use crate::stream::policy::s2s::{self, Direction, Shown};

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
    let roots = Authorities::system().map_err(|problem| vec![problem])?;
    let contexts = TlsSets {
        clients: Arc::new(clients),
        servers: Arc::new(servers),
    };
    Ok(Loaded {
        certificates: Arc::new(Known {
            contexts: Arc::clone(&contexts.clients),
            authorities,
            roots,
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
    /// Whom we trust to vouch for other servers.
    roots: Authorities,
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

    fn describe(
        &self,
        chain: &[Vec<u8>],
        direction: Direction,
        _local: &Domain,
        remote: &Domain,
        now: Wall,
    ) -> ShownCertificate {
        let shown = match ShownChain::parse(chain) {
            Ok(shown) => shown,
            Err(fault) => {
                return ShownCertificate {
                    faults: vec![fault.to_string()],
                    ..ShownCertificate::default()
                };
            }
        };
        let domain = remote.to_ascii();
        let reference = Reference {
            domain: &domain,
            secure_target: None,
        };
        let judged = shown.judge(&self.roots, role_of(direction), reference, seconds(now));
        let (faults, is_for_peer) = match judged {
            Ok(judgement) => (
                judgement.faults.iter().map(ToString::to_string).collect(),
                judgement.matched.is_some(),
            ),
            Err(error) => (vec![error.to_string()], false),
        };
        ShownCertificate {
            subject: shown.subject(),
            issuer: shown.issuer(),
            names: shown
                .identifiers()
                .iter()
                .map(ToString::to_string)
                .collect(),
            faults,
            is_for_peer,
        }
    }

    fn peer(
        &self,
        chain: &[Vec<u8>],
        direction: Direction,
        _local: &Domain,
        remote: &Domain,
        now: Wall,
    ) -> Shown {
        let role = role_of(direction);
        let domain = remote.to_ascii();
        let reference = Reference {
            domain: &domain,
            secure_target: None,
        };
        let now = seconds(now);
        let judged =
            ShownChain::parse(chain).map(|shown| shown.judge(&self.roots, role, reference, now));
        let (fault, names_peer) = match judged {
            Ok(Ok(judgement)) => (
                judgement.faults.first().map(|fault| kind_of(&fault.kind)),
                judgement.matched.is_some(),
            ),
            Ok(Err(_)) => (Some(s2s::Fault::Invalid), false),
            Err(fault) => (Some(kind_of(&fault.kind)), false),
        };
        Shown {
            chain: fault.map_or(Ok(()), Err),
            names_peer,
            matches_pin: false,
            matches_tlsa: false,
        }
    }
}

fn role_of(direction: Direction) -> PeerRole {
    match direction {
        Direction::Accepted => PeerRole::InitiatingEntity,
        Direction::Dialled => PeerRole::ReceivingEntity,
    }
}

/// Seconds of the Unix epoch.
fn seconds(now: Wall) -> i64 {
    i64::try_from(now.micros() / 1_000_000).unwrap_or(i64::MAX)
}

/// A fault as policy tells them apart.
fn kind_of(kind: &FaultKind) -> s2s::Fault {
    match kind {
        FaultKind::Expired(_) => s2s::Fault::Expired,
        FaultKind::NotYetValid(_) => s2s::Fault::NotYetValid,
        FaultKind::SelfSigned => s2s::Fault::SelfSigned,
        FaultKind::UnknownIssuer(_) | FaultKind::UntrustedRoot => s2s::Fault::UnknownAuthority,
        _ => s2s::Fault::Invalid,
    }
}

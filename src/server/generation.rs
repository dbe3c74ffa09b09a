//! The certificates and authorities of one generation of the configuration, and what the shards are
//! given of it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Wall;
use crate::config::{NamedFile, Settings};
use crate::net::certificate::{
    Authorities, CaStore, Evidence, FaultKind, PeerRole, Proof, Sought, TlsaEvidence,
    client_identities,
};
use crate::net::open_files::OpenFiles;
use crate::net::tls::{TlsContexts, TlsSets, TlsSettings};
use crate::net::tls_stream::{Dialled, SocketTransport};
use crate::net::transport::Transport;
use crate::router::peers::history::ShownCertificate;
use crate::shard::{Dialler, Generation};
use crate::stream::Certificates;
use crate::stream::peer_facts::{Ends, PeerFacts, PeerQuestion};
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
    let authorities = client_authorities(settings, &mut problems);
    let trusted = Trusted::load(settings, &mut problems);
    let mut load = |settings: &TlsSettings, previous: Option<&Arc<TlsContexts>>| {
        match TlsContexts::load_after(settings, previous.map(Arc::as_ref)) {
            Ok(loaded) => Some(loaded),
            Err(found) => {
                let found = found.iter().map(ToString::to_string);
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
    let Some(trusted) = trusted.filter(|_| problems.is_empty()) else {
        return Err(problems);
    };
    let contexts = TlsSets {
        clients: Arc::new(clients),
        servers: Arc::new(servers),
    };
    Ok(Loaded {
        certificates: Arc::new(Known {
            contexts: Arc::clone(&contexts.clients),
            authorities,
            trusted,
        }),
        contexts,
        warnings: warnings.iter().map(ToString::to_string).collect(),
    })
}

/// What keeps the authorities from being loaded that a configuration names: every problem, in words.
pub fn unusable_authorities(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    client_authorities(settings, &mut problems);
    Trusted::load(settings, &mut problems);
    problems
}

/// Those that vouch for the clients of each domain that has some (`auth.client_ca`).
fn client_authorities(settings: &Settings, problems: &mut Vec<String>) -> HashMap<String, CaStore> {
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
    authorities
}

/// A generation as the shards are given it. `streams` numbers connections for the log.
pub fn generation(
    settings: &Arc<Settings>,
    loaded: &Loaded,
    open_files: &Arc<OpenFiles>,
    streams: &Arc<AtomicU64>,
) -> Arc<Generation> {
    Arc::new(Generation {
        settings: Arc::clone(settings),
        certificates: Arc::clone(&loaded.certificates),
        dialler: Arc::new(Connector {
            contexts: Arc::clone(&loaded.contexts.servers),
            open_files: Arc::clone(open_files),
            streams: Arc::clone(streams),
        }),
    })
}

/// Connects to other servers, with the certificates of one generation.
struct Connector {
    contexts: Arc<TlsContexts>,
    open_files: Arc<OpenFiles>,
    streams: Arc<AtomicU64>,
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
    trusted: Trusted,
}

/// Whom we trust to vouch for other servers.
struct Trusted {
    /// For any: those of `tls.ca`, else the system's.
    roots: Authorities,
    /// For those that `[s2s.peer."name"]` names them for, by their file.
    pinned: HashMap<PathBuf, Authorities>,
}

impl Trusted {
    /// None, with what is wrong among `problems`, if a file cannot be used.
    fn load(settings: &Settings, problems: &mut Vec<String>) -> Option<Trusted> {
        let read = |file: &NamedFile| Authorities::load(&file.path, &file.place);
        let roots = match &settings.tls.ca {
            Some(file) => read(file),
            None => Authorities::system(),
        };
        let mut pinned = HashMap::new();
        let components = settings.components.values();
        let domains = settings.domains.values();
        let served = domains.chain(components.map(|component| &component.domain));
        let s2s = served.map(|domain| &domain.s2s);
        for s2s in s2s.chain([&settings.s2s]) {
            for file in s2s.peers.values().filter_map(|peer| peer.ca.as_ref()) {
                if pinned.contains_key(&file.path) {
                    continue;
                }
                match read(file) {
                    Ok(authorities) => {
                        pinned.insert(file.path.clone(), authorities);
                    }
                    Err(problem) if !problems.contains(&problem) => problems.push(problem),
                    Err(_) => {}
                }
            }
        }
        let roots = roots.map_err(|problem| problems.push(problem)).ok()?;
        Some(Trusted { roots, pinned })
    }
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

    fn describe(&self, question: &PeerQuestion<'_>) -> ShownCertificate {
        let shown = match question.chain.parse() {
            Ok(shown) => shown,
            Err(fault) => {
                return ShownCertificate {
                    faults: vec![fault.to_string()],
                    ..ShownCertificate::default()
                };
            }
        };
        let (domain, now) = (question.remote.to_ascii(), seconds(question.now));
        let sought = self.sought(question, &domain);
        let evidence = Evidence::of(question.chain, &self.trusted.roots, &sought, now);
        // What is pinned decides alone (`policy::s2s`).
        let chain = match sought.pinned {
            None => evidence.chain,
            Some(pinned) => Evidence::by_authority(question.chain, &shown, pinned, &sought, now),
        };
        let is_pinned = !sought.pins.is_empty() || sought.pinned.is_some();
        let proven_by = match evidence.tlsa {
            _ if shown.is_pinned(sought.pins) => Some("its key is pinned"),
            TlsaEvidence::Usable(Some(_)) if !is_pinned => Some("its TLSA records prove it"),
            _ => None,
        };
        let identifiers = shown.identifiers();
        let (faults, is_for_peer, ends) = match chain {
            Ok(judgement) => (
                judgement.faults.iter().map(ToString::to_string).collect(),
                judgement.matched.is_some(),
                Some(judgement.ends),
            ),
            Err(fault) => (vec![fault.to_string()], false, None),
        };
        ShownCertificate {
            subject: shown.subject(),
            issuer: shown.issuer(),
            names: identifiers.iter().map(ToString::to_string).collect(),
            ends,
            faults,
            is_for_peer,
            is_by_pinned_ca: sought.pinned.is_some(),
            proven_by,
        }
    }

    fn peer(&self, question: &PeerQuestion<'_>) -> PeerFacts {
        let domain = question.remote.to_ascii();
        let sought = self.sought(question, &domain);
        let now = seconds(question.now);
        facts(
            question,
            &Evidence::of(question.chain, &self.trusted.roots, &sought, now),
        )
    }
}

impl Known {
    /// By what a peer may be proven; `domain` is its own, in A-labels.
    fn sought<'a>(&'a self, question: &PeerQuestion<'a>, domain: &'a str) -> Sought<'a> {
        let peer = question.local.s2s.peers.get(question.remote);
        let ca = peer.and_then(|peer| peer.ca.as_ref());
        Sought {
            role: role_of(question.direction),
            domain,
            places: question.dns.places(),
            pins: peer.map_or(&[], |peer| peer.pins.as_slice()),
            pinned: ca.and_then(|file| self.trusted.pinned.get(&file.path)),
        }
    }
}

/// What evidence is worth to policy.
fn facts(question: &PeerQuestion<'_>, evidence: &Evidence) -> PeerFacts {
    let (chain, names_peer, chain_ends) = match &evidence.chain {
        Ok(judgement) => {
            let fault = judgement.faults.first();
            let chain = fault.map_or(Ok(()), |fault| Err(kind_of(&fault.kind)));
            (chain, judgement.matched.is_some(), Some(judgement.ends))
        }
        Err(fault) => (Err(kind_of(&fault.kind)), false, None),
    };
    let tlsa = match evidence.tlsa {
        TlsaEvidence::Usable(proof) => proof,
        TlsaEvidence::None | TlsaEvidence::Unusable => None,
    };
    let ends = |proof: Option<Proof>| proof.and_then(|proof| proof.ends);
    PeerFacts {
        shown: Shown {
            chain,
            names_peer,
            matches_pin: evidence.pin.is_some(),
            matches_tlsa: tlsa.is_some(),
        },
        dane: question.dns.dane(evidence.tlsa),
        key: evidence.key,
        ends: Ends {
            pin: ends(evidence.pin),
            dane: ends(tlsa),
            chain: chain_ends,
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    #[test]
    fn a_problem_with_a_certificate_names_the_domain_and_is_told_once() {
        let text = "[tls]\ncertificates = \"/nowhere\"\n[domain.\"a.example\"]\n";
        let settings = config::parse(text, Path::new("stanzad.toml")).unwrap();
        let problems = load_certificates(&settings, None).err().unwrap();
        let [problem] = &problems[..] else {
            panic!("{problems:?}");
        };
        assert!(problem.starts_with("domain \"a.example\": "), "{problem}");
    }
}

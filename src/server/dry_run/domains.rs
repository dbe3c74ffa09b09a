//! In whose name another server is tried: of domains here that are alike to it, in the name of one.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::Trier;
use crate::config::{DomainSettings, S2s, Settings};
use crate::jid::Domain;
use crate::limits::DRY_RUNS_MAX;
use crate::server::control::{DryRun, Try};
use crate::server::generation::Loaded;

/// Domains that have the same options about a peer, and the same certificate for it.
pub struct Alike<'a> {
    /// Never none: what holds for the first holds for all.
    pub domains: Vec<Arc<DomainSettings>>,
    certificates: Vec<(&'a Path, bool)>,
}

/// The domains in whose name another server is tried: the one that is named, or all that talk with other
/// servers; one that does not, if none does, so that this is told.
///
/// # Errors
/// The one that is named is not served here; in words.
pub fn chosen(settings: &Settings, from: Option<&str>) -> Result<Vec<Arc<DomainSettings>>, String> {
    let domains = settings.domains.values();
    let Some(from) = from else {
        let all = domains.clone().chain(settings.component_domains());
        let talking: Vec<_> = all.filter(|domain| domain.s2s.enabled).cloned().collect();
        let first = domains.clone().next().cloned();
        return match (talking.is_empty(), first) {
            (false, _) => Ok(talking),
            (true, Some(first)) => Ok(vec![first]),
            (true, None) => Err("no domain is served here".to_owned()),
        };
    };
    let named = Domain::parse(from).ok();
    let named = named.and_then(|named| settings.served(named.as_str()));
    named.map(|named| vec![Arc::clone(named)]).ok_or_else(|| {
        let served = domains.map(|domain| domain.name.as_str());
        let served = served.collect::<Vec<_>>().join(", ");
        format!("\"{from}\" is not served here; what is: {served}")
    })
}

/// What to say to who asks about a domain of ours as if it were another server's.
pub fn served_here(domain: &Domain) -> String {
    format!("{domain} is served here: there is no other server to talk with")
}

/// Tries another server once for all domains that are alike, side by side. What would take more than
/// [`DRY_RUNS_MAX`] tries is left out: those domains come second.
pub fn tries(
    domains: &[Arc<DomainSettings>],
    remote: &Domain,
    (settings, loaded): (&Settings, &Loaded),
    secret: Option<&[u8]>,
) -> (Vec<Try>, Vec<String>) {
    let mut groups = alike(domains, remote, loaded);
    let too_many = groups.split_off(groups.len().min(DRY_RUNS_MAX));
    let run = |group: &Alike<'_>| -> Option<DryRun> {
        let trier = Trier {
            settings,
            loaded,
            local: group.domains.first()?,
            secret,
        };
        Some(trier.run(remote))
    };
    let runs: Vec<Option<DryRun>> = thread::scope(|scope| {
        let run = &run;
        let threads = groups.iter().map(|group| {
            let named = thread::Builder::new().name("dry-run".to_owned());
            named.spawn_scoped(scope, move || run(group))
        });
        let threads: Vec<_> = threads.collect();
        let ended = threads.into_iter().map(|thread| thread.ok()?.join().ok()?);
        ended.collect()
    });
    let mut done = Vec::new();
    let mut left_out: Vec<String> = too_many.iter().flat_map(Alike::names).collect();
    for (group, run) in groups.iter().zip(runs) {
        match run {
            Some(dry_run) => done.push(Try {
                locals: group.names().collect(),
                dry_run,
            }),
            // The machine has no thread to spare.
            None => left_out.extend(group.names()),
        }
    }
    left_out.sort();
    (done, left_out)
}

impl Alike<'_> {
    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let names = self.domains.iter();
        names.map(|domain| domain.name.as_str().to_owned())
    }
}

/// Groups of domains: first one for each different set of options, then those that differ by their certificate alone.
pub fn alike<'a>(
    domains: &[Arc<DomainSettings>],
    remote: &Domain,
    loaded: &'a Loaded,
) -> Vec<Alike<'a>> {
    let (mut first, mut second): (Vec<Alike<'a>>, Vec<Alike<'a>>) = Default::default();
    for domain in domains {
        let certificates = certificates(domain, loaded);
        let is_like = |group: &Alike<'_>| {
            let leader = group.domains.first();
            leader.is_some_and(|leader| are_alike(&leader.s2s, &domain.s2s, remote))
        };
        let has_options = first.iter().any(is_like);
        let mut groups = first.iter_mut().chain(&mut second);
        let found = groups.find(|group| is_like(group) && group.certificates == certificates);
        if let Some(group) = found {
            group.domains.push(Arc::clone(domain));
            continue;
        }
        let group = Alike {
            domains: vec![Arc::clone(domain)],
            certificates,
        };
        match has_options {
            true => second.push(group),
            false => first.push(group),
        }
    }
    first.append(&mut second);
    first
}

/// The files of a domain's certificates, and whether each is for the domain.
fn certificates<'a>(domain: &DomainSettings, loaded: &'a Loaded) -> Vec<(&'a Path, bool)> {
    let infos = loaded.contexts.servers.certificates().iter();
    let own = infos.filter(|info| info.domain == domain.name.as_str());
    own.map(|info| (info.file.as_path(), info.covers_domain))
        .collect()
}

/// Whether two domains have the same options about a peer, as far as they decide.
fn are_alike(a: &S2s, b: &S2s, remote: &Domain) -> bool {
    let flags = |s2s: &S2s| {
        (
            s2s.enabled,
            s2s.require_encryption,
            s2s.secure_auth,
            s2s.dane,
        )
    };
    flags(a) == flags(b)
        && a.secure_domains == b.secure_domains
        && a.insecure_domains == b.insecure_domains
        && (&a.allow, &a.deny) == (&b.allow, &b.deny)
        && a.peers.get(remote) == b.peers.get(remote)
}

//! `stanzad check tls`: TLS and certificates of any XMPP server, on its ports for clients and servers.
//!
//! Clients are strangers to this server, and bring their own rules. As a server it is met by the domains
//! here, each with its certificate, whose options and pins decide as they do for a link.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::ports::without_certificates;
use super::shown::{self, Showing};
use super::{Finding, Level};
use crate::cli::explain::named;
use crate::cli::{Failure, load};
use crate::config::{DomainSettings, Settings, Tls};
use crate::dns::{Endpoint, Found, Kind, Question, Service, Target};
use crate::jid::Domain;
use crate::limits::{DIAL_ATTEMPTS_MAX, DRY_RUNS_MAX, PEER_TEXT_CHARS_MAX};
use crate::log::for_people;
use crate::net::certificate::{Authorities, Vouched};
use crate::net::probe::{Probe, Seen, Stop};
use crate::net::tls::TlsContexts;
use crate::server::dry_run::domains::{self, Alike};
use crate::server::dry_run::{Trier, look_up};
use crate::server::generation::{Loaded, load_certificates};
use crate::shard::turn::question;
use crate::stream::policy::s2s::{Outcome, S2sPolicy, shut_out};

const CHECK: &str = "tls";

/// How long one handshake may take.
const WAIT: Duration = Duration::from_secs(5);

/// One port to be looked at.
struct Place {
    service: Service,
    target: Target,
    address: SocketAddr,
}

/// In whose eyes a server is looked at.
struct Viewer<'a> {
    domain: &'a Domain,
    contexts: Arc<TlsContexts>,
    roots: Authorities,
    /// Who dials it from here; none: a stranger does, as a client is one.
    own: Option<Own<'a>>,
}

/// Domains here that are alike to the other server.
struct Own<'a> {
    names: Vec<String>,
    /// In the name of the first.
    trier: Trier<'a>,
    /// Whether there are others, that see it otherwise.
    is_named: bool,
}

/// `given` is a domain, or a domain and a port of whatever kind.
pub fn findings(file: &Path, given: &str) -> Result<Vec<Finding>, Failure> {
    let (host, port) = split(given)?;
    let domain = Domain::parse(host)
        .map_err(|why| Failure::Usage(format!("\"{host}\" names no domain: {why}")))?;
    // Without a conf file it is a stranger that looks.
    let settings = load(file).unwrap_or_default();
    let mut found = Vec::new();
    let loaded = loaded(&settings, &domain, &mut found);
    let talking = loaded.as_ref().map_or(Ok(Vec::new()), |loaded| {
        talking(&settings, loaded, &domain, &mut found)
    });
    let strangers = Viewer::stranger(&settings, &domain).map_err(Failure::No)?;
    let mut servers = talking.map_err(Failure::No)?;
    let is_strange = servers.is_empty();
    if is_strange {
        servers.push(Viewer::stranger(&settings, &domain).map_err(Failure::No)?);
    }
    match port {
        Some(port) => found.extend(at_port(&settings, port, &strangers, &servers)),
        None => {
            found.extend(strangers.at_records(&settings, Service::Client));
            let told = by_each(&servers, |viewer| {
                viewer.at_records(&settings, Service::Server)
            });
            found.extend(told.into_iter().flatten());
        }
    }
    Ok(found)
}

/// The certificates by which other servers are met; none if that is not for us to tell of this one.
fn loaded(settings: &Settings, domain: &Domain, found: &mut Vec<Finding>) -> Option<Loaded> {
    let mut ours = settings.domains.values();
    let talks = ours.any(|it| it.s2s.enabled) || settings.component_domains().next().is_some();
    if !talks || settings.served(domain.as_str()).is_some() {
        return None;
    }
    match load_certificates(settings, None) {
        Ok(loaded) => Some(loaded),
        Err(problems) => {
            let why = problems.join("; ");
            let text = format!("looked at as by a stranger, not as by the domains here: {why}");
            found.push(Finding::new(CHECK, Level::Warning, domain, text));
            None
        }
    }
}

/// Those who would dial the server from here.
///
/// # Errors
/// Authorities that cannot be used, in words.
fn talking<'a>(
    settings: &'a Settings,
    loaded: &'a Loaded,
    domain: &'a Domain,
    found: &mut Vec<Finding>,
) -> Result<Vec<Viewer<'a>>, String> {
    let chosen = domains::chosen(settings, None)?;
    let mut groups = domains::alike(&chosen, domain, loaded);
    let left_out = groups.split_off(groups.len().min(DRY_RUNS_MAX));
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().flat_map(Alike::names).collect();
        let text = format!(
            "not looked at as by {}, which see it otherwise",
            named(&names)
        );
        found.push(Finding::new(CHECK, Level::Warning, domain, text));
    }
    groups.retain(|group| {
        let policy = group
            .domains
            .first()
            .map(|local| S2sPolicy::of(&local.s2s, domain));
        let verdict = policy.and_then(|policy| shut_out(&policy, domain));
        if let Some(verdict) = &verdict {
            let names: Vec<String> = group.names().collect();
            let reason = verdict.reason.sentence(domain);
            let text = format!("{}: not talked with, {reason}", named(&names));
            found.push(Finding::new(CHECK, Level::Note, domain, text));
        }
        verdict.is_none()
    });
    let is_named = groups.len() > 1;
    let viewer = |group: Alike<'a>| {
        let names = group.names().collect();
        let local = group.domains.into_iter().next();
        let local = local.and_then(|local| settings.served(local.name.as_str()))?;
        Some(
            Viewer::own(settings, loaded, local, domain).map(|(contexts, roots)| Viewer {
                domain,
                contexts,
                roots,
                own: Some(Own {
                    names,
                    trier: Trier {
                        settings,
                        loaded,
                        local,
                        secret: None,
                    },
                    is_named,
                }),
            }),
        )
    };
    groups.into_iter().filter_map(viewer).collect()
}

/// `example.org`, `example.org:5223`, `[2001:db8::1]:5223`.
fn split(given: &str) -> Result<(&str, Option<u16>), Failure> {
    let has_port = given.rsplit_once(':').filter(|(host, _)| {
        let is_literal = host.starts_with('[');
        !host.contains(':') || (is_literal && host.ends_with(']'))
    });
    let Some((host, port)) = has_port else {
        return Ok((given, None));
    };
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok((host, Some(port))),
        _ => Err(Failure::Usage(format!("\"{port}\" is no port"))),
    }
}

/// What each sees, side by side: an address that does not answer takes [`WAIT`].
fn by_each<'a, T: Send>(viewers: &[Viewer<'a>], look: impl Fn(&Viewer<'a>) -> T + Sync) -> Vec<T> {
    let look = &look;
    thread::scope(|scope| {
        let threads = viewers
            .iter()
            .map(|viewer| scope.spawn(move || look(viewer)));
        let threads: Vec<_> = threads.collect();
        let ended = threads.into_iter().map(|thread| {
            let panicked = |panic| std::panic::resume_unwind(panic);
            thread.join().unwrap_or_else(panicked)
        });
        ended.collect()
    })
}

/// At one port, which may be of any kind: those that it is not are told only if it is none.
fn at_port<'a>(
    settings: &Settings,
    port: u16,
    clients: &Viewer<'a>,
    servers: &[Viewer<'a>],
) -> Vec<Finding> {
    let domain = clients.domain;
    let question = Question {
        endpoint: Some(Endpoint {
            host: domain.to_ascii(),
            port,
            kind: Kind::StartTls,
        }),
        is_fresh: true,
        ..Question::about(domain.to_ascii())
    };
    let answer = match look_up(settings, question) {
        Ok(answer) => answer,
        Err(why) => return vec![Finding::new(CHECK, Level::Problem, domain, why)],
    };
    if places(Service::Client, &answer).is_empty() {
        let (why, _) = answer.nowhere();
        return vec![Finding::new(CHECK, Level::Problem, domain, why)];
    }
    let looked = |viewer: &Viewer<'a>, service| {
        let kinds = [Kind::StartTls, Kind::DirectTls];
        let places = places(service, &answer).into_iter().take(DIAL_ATTEMPTS_MAX);
        let places = places.flat_map(|place| kinds.map(|kind| place.of_kind(kind)));
        let told = places.map(|place| {
            let seen = viewer.look(&place);
            (
                place.address,
                seen.tls.is_some(),
                viewer.told(&place, &seen),
            )
        });
        told.collect::<Vec<_>>()
    };
    let mut all = looked(clients, Service::Client);
    let of_servers = by_each(servers, |viewer| looked(viewer, Service::Server));
    all.extend(of_servers.into_iter().flatten());
    let with_tls = all.iter().filter(|(_, has_tls, _)| *has_tls);
    let with_tls: HashSet<SocketAddr> = with_tls.map(|(address, ..)| *address).collect();
    let meant = all
        .into_iter()
        .filter(|(address, has_tls, _)| *has_tls || !with_tls.contains(address));
    meant.flat_map(|(.., told)| told).collect()
}

impl<'a> Viewer<'a> {
    /// One who is not told anything, as a client of another vendor, or a server that meets us.
    ///
    /// # Errors
    /// OpenSSL's, or what is wrong with the system's authorities; in words.
    fn stranger(settings: &Settings, domain: &'a Domain) -> Result<Viewer<'a>, String> {
        // Whoever comes to a domain here can do what that one asks for.
        let contexts = match settings.served(domain.as_str()) {
            Some(_) => without_certificates(&settings.tls),
            None => without_certificates(&Tls::default()),
        };
        Ok(Viewer {
            domain,
            contexts: contexts?,
            roots: Authorities::system()?,
            own: None,
        })
    }

    /// By what a domain here meets another server: its rules of TLS, and whom it trusts.
    fn own(
        settings: &Settings,
        loaded: &Loaded,
        local: &DomainSettings,
        domain: &Domain,
    ) -> Result<(Arc<TlsContexts>, Authorities), String> {
        let peer = local.s2s.peers.get(domain);
        let pinned = peer.and_then(|peer| peer.ca.as_ref());
        let roots = match pinned.or(settings.tls.ca.as_ref()) {
            Some(file) => Authorities::load(&file.path, &file.place)?,
            None => Authorities::system()?,
        };
        Ok((Arc::clone(&loaded.contexts.servers), roots))
    }

    /// At all ports that the DNS tells, or the configuration here.
    fn at_records(&self, settings: &Settings, service: Service) -> Vec<Finding> {
        let local = self.own.as_ref().map(|own| own.trier.local);
        let question = Question {
            service,
            is_fresh: true,
            ..question(local, self.domain)
        };
        let answer = match look_up(settings, question) {
            Ok(answer) => answer,
            Err(why) => return vec![Finding::new(CHECK, Level::Problem, self.domain, why)],
        };
        let places = places(service, &answer);
        if places.is_empty() {
            let (why, _) = answer.nowhere();
            let about = format!("{} for {}", self.domain, who(service));
            return vec![Finding::new(CHECK, Level::Problem, about, why)];
        }
        let tried = places.into_iter().take(DIAL_ATTEMPTS_MAX);
        let told = tried.map(|place| self.told(&place, &self.look(&place)));
        told.flatten().collect()
    }

    fn look(&self, place: &Place) -> Seen {
        let local = self.own.as_ref().map(|own| &own.trier.local.name);
        let probe = Probe {
            address: place.address,
            service: place.service,
            is_direct: place.is_direct(),
            domain: self.domain.as_str(),
            ascii: &self.domain.to_ascii(),
            from: local.map(Domain::as_str),
            contexts: &self.contexts,
        };
        probe.look(Instant::now() + WAIT)
    }

    fn told(&self, place: &Place, seen: &Seen) -> Vec<Finding> {
        let kind = match place.is_direct() {
            true => "direct TLS",
            false => "STARTTLS",
        };
        let mut about = format!("{} for {}, {kind}", place.address, who(place.service));
        if let Some(own) = self.own.as_ref().filter(|own| own.is_named) {
            about.push_str(&format!(", by {}", named(&own.names)));
        }
        let found = |level, text: &str| Finding::new(CHECK, level, &about, text);
        let stop = seen.stop.as_ref().map(ToString::to_string);
        let stop = stop.map(|stop| for_people(&stop, PEER_TEXT_CHARS_MAX));
        let is_unencrypted = seen.stop == Some(Stop::NoTls);
        let ruled = self
            .own
            .as_ref()
            .filter(|_| seen.tls.is_some() || is_unencrypted);
        let ruled = ruled.map(|own| own.ruled(self.domain, place, seen));
        let is_accepted = ruled.as_ref().is_some_and(|(is_accepted, _)| *is_accepted);
        let mut all = Vec::new();
        if let Some(tls) = &seen.tls {
            let agreed = format!("{} {} {}", tls.version, tls.cipher, tls.group);
            all.push(found(Level::Good, agreed.trim_end()));
            let host = self
                .own
                .as_ref()
                .and_then(|own| own.vouched(self.domain, place));
            let showing = Showing {
                check: CHECK,
                about: &about,
                lead: "",
                domain: &self.domain.to_ascii(),
                targets: &host.iter().map(String::as_str).collect::<Vec<_>>(),
                roots: &self.roots,
                untrusted: Level::Problem,
                is_accepted,
            };
            all.extend(shown::findings(&showing, &tls.peer_chain));
        }
        if let Some(stop) = stop {
            all.push(match is_strict(place.service, seen) {
                true if self.own.is_none() => found(
                    Level::Note,
                    &format!("of a stranger it wants no more: {stop}"),
                ),
                _ if is_unencrypted && is_accepted => found(Level::Warning, &stop),
                _ => found(Level::Problem, &stop),
            });
        }
        all.extend(ruled.map(|(is_accepted, text)| match is_accepted {
            true => found(Level::Good, &text),
            false => found(Level::Problem, &text),
        }));
        all
    }
}

impl Own<'_> {
    /// Whether the other server is accepted, and why, or why not.
    fn ruled(&self, domain: &Domain, place: &Place, seen: &Seen) -> (bool, String) {
        let verdict = self.trier.rule(domain, &place.target, seen);
        let is_accepted = matches!(verdict.outcome, Outcome::Accept(_));
        let word = match (is_accepted, self.names.len()) {
            (true, 1) => "takes",
            (true, _) => "take",
            (false, 1) => "refuses",
            (false, _) => "refuse",
        };
        let reason = verdict.reason.sentence(domain);
        (
            is_accepted,
            format!("{} {word} it: {reason}", named(&self.names)),
        )
    }

    /// The host by whose name its certificate may go (RFC 7673 §4.1).
    fn vouched(&self, domain: &Domain, place: &Place) -> Option<String> {
        let s2s = &self.trier.local.s2s;
        let is_by_ca = s2s.peers.get(domain).is_some_and(|peer| peer.ca.is_some());
        let host = Vouched::from(&place.target).host;
        host.filter(|_| s2s.dane && !is_by_ca)
    }
}

impl Place {
    fn is_direct(&self) -> bool {
        self.target.kind == Kind::DirectTls
    }

    /// The same for another beginning.
    fn of_kind(&self, kind: Kind) -> Place {
        Place {
            service: self.service,
            target: Target {
                kind,
                ..self.target.clone()
            },
            address: self.address,
        }
    }
}

/// Whether a server has just turned away one who shows no certificate and names no domain, as strict ones
/// do (Prosody 0.12 with `s2s_secure_auth`). It has said then, by TLS, all that is looked for here.
fn is_strict(service: Service, seen: &Seen) -> bool {
    let turns_away = ["not-authorized", "policy-violation", "improper-addressing"];
    service == Service::Server
        && matches!(&seen.stop, Some(Stop::StreamError(condition, _))
            if turns_away.contains(&condition.as_str()))
}

fn places(service: Service, answer: &Found) -> Vec<Place> {
    let targets = answer.targets.iter();
    let all = targets.flat_map(|target| {
        target.addresses.iter().map(move |ip| Place {
            service,
            target: target.clone(),
            address: SocketAddr::new(*ip, target.port),
        })
    });
    all.collect()
}

fn who(service: Service) -> &'static str {
    match service {
        Service::Client => "clients",
        Service::Server => "servers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_follow_the_host() {
        let split = |given| split(given).ok();
        assert_eq!(split("example.org"), Some(("example.org", None)));
        assert_eq!(split("example.org:5223"), Some(("example.org", Some(5223))));
        assert_eq!(split("[::1]:5223"), Some(("[::1]", Some(5223))));
        assert_eq!(split("[::1]"), Some(("[::1]", None)));
        assert_eq!(split("example.org:0"), None);
        assert_eq!(split("example.org:xmpp"), None);
    }
}

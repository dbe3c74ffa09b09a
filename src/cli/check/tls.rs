//! `stanzad check tls`: TLS and certificates of any XMPP server, on its ports for clients and servers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ports::without_certificates;
use super::shown::{self, Showing};
use super::{Finding, Level};
use crate::cli::{Failure, load};
use crate::config::Settings;
use crate::dns::{Endpoint, Found, Kind, Question, Service};
use crate::jid::Domain;
use crate::limits::{DIAL_ATTEMPTS_MAX, PEER_TEXT_CHARS_MAX};
use crate::log::for_people;
use crate::net::certificate::Authorities;
use crate::net::probe::{Probe, Seen, Stop};
use crate::net::tls::TlsContexts;
use crate::server::dry_run::look_up;

const CHECK: &str = "tls";

/// How long one handshake may take.
const WAIT: Duration = Duration::from_secs(5);

/// One port to be looked at.
struct Place {
    service: Service,
    is_direct: bool,
    address: SocketAddr,
}

/// Who is looked at, and by what.
struct Looking {
    domain: Domain,
    contexts: Arc<TlsContexts>,
    roots: Authorities,
}

/// `given` is a domain, or a domain and a port of whatever kind.
pub fn findings(file: &Path, given: &str) -> Result<Vec<Finding>, Failure> {
    let (host, port) = split(given)?;
    let domain = Domain::parse(host)
        .map_err(|why| Failure::Usage(format!("\"{host}\" names no domain: {why}")))?;
    // The conf file only tells the name servers.
    let settings = load(file).unwrap_or_default();
    let looking = Looking {
        domain,
        contexts: without_certificates().map_err(Failure::No)?,
        roots: Authorities::system().map_err(Failure::No)?,
    };
    Ok(match port {
        Some(port) => looking.at_port(&settings, port),
        None => looking.at_records(&settings),
    })
}

/// "example.org", "example.org:5223", "[2001:db8::1]:5223".
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

impl Looking {
    /// At all ports that the DNS tells.
    fn at_records(&self, settings: &Settings) -> Vec<Finding> {
        let mut found = Vec::new();
        for service in [Service::Client, Service::Server] {
            let question = Question {
                service,
                is_fresh: true,
                ..Question::about(self.domain.to_ascii())
            };
            let answer = match look_up(settings, question) {
                Ok(answer) => answer,
                Err(why) => return vec![Finding::new(CHECK, Level::Problem, &self.domain, why)],
            };
            let places = places(service, &answer);
            if places.is_empty() {
                let (why, _) = answer.nowhere();
                let about = format!("{} for {}", self.domain, who(service));
                found.push(Finding::new(CHECK, Level::Problem, about, why));
            }
            for place in places.into_iter().take(DIAL_ATTEMPTS_MAX) {
                found.extend(self.told(&place, &self.look(&place)));
            }
        }
        found
    }

    /// At one port, which may be of any kind: those that it is not are told only if it is none.
    fn at_port(&self, settings: &Settings, port: u16) -> Vec<Finding> {
        let question = Question {
            endpoint: Some(Endpoint {
                host: self.domain.to_ascii(),
                port,
                kind: Kind::StartTls,
            }),
            is_fresh: true,
            ..Question::about(self.domain.to_ascii())
        };
        let answer = match look_up(settings, question) {
            Ok(answer) => answer,
            Err(why) => return vec![Finding::new(CHECK, Level::Problem, &self.domain, why)],
        };
        let addresses = places(Service::Client, &answer);
        if addresses.is_empty() {
            let (why, _) = answer.nowhere();
            return vec![Finding::new(CHECK, Level::Problem, &self.domain, why)];
        }
        let mut found = Vec::new();
        for Place { address, .. } in addresses.into_iter().take(DIAL_ATTEMPTS_MAX) {
            let kinds = [Service::Client, Service::Server];
            let kinds = kinds.map(|service| [false, true].map(|is_direct| (service, is_direct)));
            let looked = kinds.concat().into_iter().map(|(service, is_direct)| {
                let place = Place {
                    service,
                    is_direct,
                    address,
                };
                let seen = self.look(&place);
                (place, seen)
            });
            let looked: Vec<(Place, Seen)> = looked.collect();
            let has_tls = looked.iter().any(|(_, seen)| seen.tls.is_some());
            let meant = looked
                .iter()
                .filter(|(_, seen)| !has_tls || seen.tls.is_some());
            found.extend(meant.flat_map(|(place, seen)| self.told(place, seen)));
        }
        found
    }

    fn look(&self, place: &Place) -> Seen {
        let probe = Probe {
            address: place.address,
            service: place.service,
            is_direct: place.is_direct,
            domain: self.domain.as_str(),
            ascii: &self.domain.to_ascii(),
            from: None,
            contexts: &self.contexts,
        };
        probe.look(Instant::now() + WAIT)
    }

    fn told(&self, place: &Place, seen: &Seen) -> Vec<Finding> {
        let kind = if place.is_direct {
            "direct TLS"
        } else {
            "STARTTLS"
        };
        let about = format!("{} for {}, {kind}", place.address, who(place.service));
        let found = |level, text: &str| Finding::new(CHECK, level, &about, text);
        let stop = seen.stop.as_ref().map(ToString::to_string);
        let stop = stop.map(|stop| for_people(&stop, PEER_TEXT_CHARS_MAX));
        let Some(tls) = &seen.tls else {
            return vec![found(Level::Problem, stop.as_deref().unwrap_or_default())];
        };
        let agreed = format!("{} {} {}", tls.version, tls.cipher, tls.group);
        let mut all = vec![found(Level::Good, agreed.trim_end())];
        let showing = Showing {
            check: CHECK,
            about: &about,
            lead: "",
            domain: &self.domain.to_ascii(),
            roots: &self.roots,
            untrusted: Level::Problem,
        };
        all.extend(shown::findings(&showing, &tls.peer_chain));
        if let Some(stop) = stop {
            all.push(match is_strict(place.service, seen) {
                true => found(
                    Level::Note,
                    &format!("of a stranger it wants no more: {stop}"),
                ),
                false => found(Level::Problem, &stop),
            });
        }
        all
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
            is_direct: target.kind == Kind::DirectTls,
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

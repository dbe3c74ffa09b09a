//! `stanzad check ports`: a real STARTTLS or direct TLS handshake with the running server, for each
//! domain on each of its ports, and a stream for each component.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failure, Finding, Level};
use crate::cli::ctl::Reach;
use crate::config::{DomainSettings, Settings, Tls};
use crate::dns::Service;
use crate::net::certificate::{ShownChain, read_chain};
use crate::net::probe::{Probe, Seen, component};
use crate::net::tls::{TlsContexts, TlsSettings, With};
use crate::server::control::{ListenerInfo, Reply, Request, StatusInfo};

const CHECK: &str = "ports";

/// The option of `[listen]` for components.
const COMPONENT: &str = "component";

/// How long one handshake may take.
const WAIT: Duration = Duration::from_secs(5);

pub fn findings(settings: &Settings, server: &Reach) -> Vec<Finding> {
    let status = match status(server) {
        Ok(status) => status,
        Err(why) => return vec![Finding::new(CHECK, Level::Problem, "server", why)],
    };
    let contexts = match without_certificates(&settings.tls) {
        Ok(contexts) => contexts,
        Err(why) => return vec![Finding::new(CHECK, Level::Problem, "TLS", why)],
    };
    // What is wrong with the files is told by the check of certificates.
    let on_disk = TlsContexts::load(&TlsSettings::for_clients(settings)).ok();
    let on_disk = on_disk.map(|(contexts, _)| contexts);
    let mut found = Vec::new();
    for listener in &status.listeners {
        let Ok(address) = listener.address.parse::<SocketAddr>() else {
            continue;
        };
        if listener.kind == COMPONENT {
            found.extend(at_component_port(settings, &status, address));
        }
        let Some((service, is_direct)) = kind_of(&listener.kind) else {
            continue;
        };
        let components = settings.component_domains();
        let components = components.filter(|_| service == Service::Server);
        for domain in settings.domains.values().chain(components) {
            if service == Service::Server && !domain.s2s.enabled {
                continue;
            }
            let ascii = domain.name.to_ascii();
            let look = |address| {
                let probe = Probe {
                    address,
                    service,
                    is_direct,
                    domain: domain.name.as_str(),
                    ascii: &ascii,
                    from: None,
                    contexts: &contexts,
                };
                probe.look(Instant::now() + WAIT)
            };
            let about = format!("{} {address}", listener.kind);
            let seen = look(reachable(address));
            found.push(judge(&about, domain, on_disk.as_ref(), &seen));
        }
    }
    found
}

/// Each component of the conf file, at the port for them. The handshake is left out, since it would end
/// the stream of the component itself, or count as one that failed.
fn at_component_port(
    settings: &Settings,
    status: &StatusInfo,
    address: SocketAddr,
) -> Vec<Finding> {
    let about = format!("{COMPONENT} {address}");
    let found = |level, text: String| Finding::new(CHECK, level, &about, text);
    let mut all = Vec::new();
    if !address.ip().is_loopback() {
        let text = "nothing encrypts what is said with a component; only a network that is yours \
                    alone may lie between";
        all.push(found(Level::Warning, text.to_owned()));
    }
    for name in settings.components.keys() {
        let name = name.as_str();
        let answer = component(reachable(address), name, Instant::now() + WAIT);
        let mut infos = status.components.iter();
        let connected = infos.find(|info| info.name == name);
        all.push(match (answer, connected) {
            (Err(stop), None) => found(
                Level::Problem,
                format!(
                    "{name}: the running server does not know it, run \"stanzad reload\": {stop}"
                ),
            ),
            (Err(stop), Some(_)) => found(Level::Problem, format!("{name}: {stop}")),
            (Ok(()), connected) => match connected.and_then(|info| info.address.as_ref()) {
                Some(from) => found(Level::Good, format!("{name}: connected from {from}")),
                None => found(
                    Level::Warning,
                    format!("{name}: the component is not connected"),
                ),
            },
        });
    }
    all
}

/// Where the running server listens.
///
/// # Errors
/// It cannot be asked; in words.
pub fn running(server: &Reach) -> Result<Vec<ListenerInfo>, String> {
    status(server).map(|status| status.listeners)
}

fn status(server: &Reach) -> Result<StatusInfo, String> {
    let why = "the running server cannot be asked";
    match server.call(&Request::Status) {
        Ok(Ok(Reply::Status(status))) => Ok(*status),
        Ok(Ok(other)) => Err(format!("{why}: it answered {other:?}")),
        Ok(Err(error)) => Err(format!("{why}: {error}")),
        Err(Failure::No(text) | Failure::Usage(text)) => Err(format!("{why}: {text}")),
        Err(Failure::Said) => Err(why.to_owned()),
    }
}

/// Contexts by these rules that show no certificate.
///
/// # Errors
/// OpenSSL's, in words.
pub fn without_certificates(tls: &Tls) -> Result<Arc<TlsContexts>, String> {
    let settings = TlsSettings {
        certificates: None,
        dhparam: None,
        ..TlsSettings::rules(tls, With::Servers)
    };
    let loaded = TlsContexts::load(&settings);
    loaded
        .map(|(contexts, _)| Arc::new(contexts))
        .map_err(|problems| {
            let texts = problems.into_iter().map(|problem| problem.text);
            texts.collect::<Vec<_>>().join("; ")
        })
}

/// What the option of `[listen]` with this name is for, and whether TLS comes first there.
pub fn kind_of(listener: &str) -> Option<(Service, bool)> {
    match listener {
        "c2s" => Some((Service::Client, false)),
        "c2s_tls" => Some((Service::Client, true)),
        "s2s" => Some((Service::Server, false)),
        "s2s_tls" => Some((Service::Server, true)),
        _ => None,
    }
}

/// An address by which a socket on all addresses is reached from here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// `on_disk`: the certificates that a reload would find, if it found them all usable.
fn judge(
    about: &str,
    domain: &DomainSettings,
    on_disk: Option<&TlsContexts>,
    seen: &Seen,
) -> Finding {
    let name = &domain.name;
    let found = |level, text: String| Finding::new(CHECK, level, about, format!("{name}: {text}"));
    let Some(tls) = &seen.tls else {
        let why = seen.stop.as_ref().map(ToString::to_string);
        return found(Level::Problem, why.unwrap_or_default());
    };
    let agreed = format!("{} {} {}", tls.version, tls.cipher, tls.group);
    let agreed = agreed.trim_end();
    if let Some(stop) = &seen.stop {
        return found(Level::Problem, format!("{agreed}, but then {stop}"));
    }
    let is_for_domain =
        ShownChain::parse(&tls.peer_chain).is_ok_and(|shown| shown.is_for(&domain.name.to_ascii()));
    if !is_for_domain {
        let text = format!("{agreed}, but the certificate is for another name");
        return found(Level::Problem, text);
    }
    let leaf = tls.peer_chain.first();
    match on_disk.is_none_or(|on_disk| has(on_disk, domain, leaf)) {
        true => found(Level::Good, agreed.to_owned()),
        false => found(
            Level::Warning,
            format!(
                "{agreed}, with another certificate than is on the disk: run \"stanzad reload\""
            ),
        ),
    }
}

/// Whether a certificate is among those of a domain.
fn has(contexts: &TlsContexts, domain: &DomainSettings, leaf: Option<&Vec<u8>>) -> bool {
    let mut own = contexts
        .certificates()
        .iter()
        .filter(|info| info.domain == domain.name.as_str());
    own.any(|info| read_chain(&info.file).is_ok_and(|chain| chain.first() == leaf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_on_all_addresses_is_reached_by_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:5222"), "127.0.0.1:5222");
        assert_eq!(reached("[::]:5222"), "[::1]:5222");
        assert_eq!(reached("192.0.2.1:5222"), "192.0.2.1:5222");
    }
}

//! `stanzad check dns`: whether the records that clients and other servers look for lead here.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::ports::{kind_of, running};
use super::{Finding, Level};
use crate::cli::ctl::Reach;
use crate::config::{DomainSettings, Settings};
use crate::dns::{Found, Kind, Question, Service, Target, Verdict};
use crate::server::dry_run::look_up;

const CHECK: &str = "dns";

/// A socket that accepts.
struct Listening {
    service: Service,
    is_direct: bool,
    address: SocketAddr,
}

pub fn findings(settings: &Settings, server: &Reach) -> Vec<Finding> {
    let listening = listening(settings, server);
    let mut found = Vec::new();
    let both: &[Service] = &[Service::Client, Service::Server];
    let domains = settings.domains.values().map(|domain| (domain, both));
    // No client logs in at a component.
    let components = settings.component_domains();
    let components = components.map(|domain| (domain, &both[1..]));
    for (domain, services) in domains.chain(components) {
        for &service in services {
            if service == Service::Server && !domain.s2s.enabled {
                continue;
            }
            let question = Question {
                service,
                is_fresh: true,
                ..Question::about(domain.name.to_ascii())
            };
            match look_up(settings, question) {
                Ok(answer) => found.extend(of_service(domain, service, &answer, &listening)),
                Err(why) => found.push(Finding::new(CHECK, Level::Problem, &domain.name, why)),
            }
        }
    }
    found
}

/// Where the running server listens, or where the configuration says that it will.
fn listening(settings: &Settings, server: &Reach) -> Vec<Listening> {
    let of = |name: &str, address: SocketAddr| {
        let (service, is_direct) = kind_of(name)?;
        Some(Listening {
            service,
            is_direct,
            address,
        })
    };
    if let Ok(listeners) = running(server) {
        let parsed = listeners.iter().filter_map(|listener| {
            let address = listener.address.parse().ok()?;
            of(&listener.kind, address)
        });
        return parsed.collect();
    }
    let listen = &settings.listen;
    let options = [
        ("c2s", &listen.c2s),
        ("c2s_tls", &listen.c2s_tls),
        ("s2s", &listen.s2s),
        ("s2s_tls", &listen.s2s_tls),
    ];
    let all = options
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().filter_map(|address| of(name, *address)));
    all.collect()
}

fn of_service(
    domain: &DomainSettings,
    service: Service,
    answer: &Found,
    listening: &[Listening],
) -> Vec<Finding> {
    let who = match service {
        Service::Client => "clients",
        Service::Server => "other servers",
    };
    let name = domain.name.to_ascii();
    let found =
        |level, text: String| Finding::new(CHECK, level, &domain.name, format!("{who}: {text}"));
    let ([record, record_direct], port) = (service.records(), service.port());
    let mut all = match &answer.verdict {
        Verdict::NotOffered => {
            let text = "the DNS says that there is no server for them (SRV with the target \".\")";
            return vec![found(Level::Problem, text.to_owned())];
        }
        Verdict::Failed(failure) => return vec![found(Level::Problem, failure.to_string())],
        Verdict::FallBack if !answer.has_addresses() => {
            let text = format!(
                "there is neither an SRV record nor an address, so that nobody finds the server; \
                 make a record like \"{record}._tcp.{name}. SRV 0 5 {port} HOST.\""
            );
            return vec![found(Level::Problem, text)];
        }
        Verdict::FallBack => {
            let text = format!("no SRV records, so that {name} itself is tried on port {port}");
            vec![found(Level::Note, text)]
        }
        Verdict::Targets => Vec::new(),
    };
    let has_direct = answer
        .targets
        .iter()
        .any(|target| target.kind == Kind::DirectTls);
    if answer.verdict == Verdict::Targets && !has_direct {
        let text = format!(
            "no record for direct TLS ({record_direct}), which some find quicker and less often blocked"
        );
        all.push(found(Level::Note, text));
    }
    for target in &answer.targets {
        let judged = of_target(target, service, listening);
        all.extend(judged.into_iter().map(|(level, text)| found(level, text)));
    }
    all
}

/// Whether the addresses of a target are ours, and somebody listens there.
fn of_target(target: &Target, service: Service, listening: &[Listening]) -> Vec<(Level, String)> {
    let Target {
        host, port, kind, ..
    } = target;
    if let Some(failure) = &target.failure {
        let text = format!("{host} ({kind}, port {port}) has no address: {failure}");
        return vec![(Level::Problem, text)];
    }
    let is_direct = *kind == Kind::DirectTls;
    let judge = |ip: &IpAddr| {
        let place = format!("{host} is {ip}, port {port}, {kind}");
        let mut fitting = listening.iter().filter(|one| {
            one.service == service && one.is_direct == is_direct && one.address.port() == *port
        });
        match (
            is_of_this_machine(*ip),
            fitting.any(|one| accepts(one.address.ip(), *ip)),
        ) {
            (true, true) => (Level::Good, format!("{place}: this server listens there")),
            (true, false) => (
                Level::Problem,
                format!("{place}: this machine, but the server does not listen there for them"),
            ),
            (false, _) => (
                Level::Warning,
                format!(
                    "{place}: no address of this machine, which is right only if what is there \
                     forwards the port to it"
                ),
            ),
        }
    };
    // An address may come twice.
    let addresses: BTreeSet<&IpAddr> = target.addresses.iter().collect();
    addresses.into_iter().map(judge).collect()
}

/// Whether a socket that is bound to the first address takes connections to the second.
fn accepts(bound: IpAddr, to: IpAddr) -> bool {
    match bound {
        // A socket on [::] takes IPv4 too.
        IpAddr::V6(ip) if ip.is_unspecified() => true,
        IpAddr::V4(ip) if ip.is_unspecified() => to.is_ipv4(),
        bound => bound == to,
    }
}

/// Only an address of the machine's own can be bound to.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        assert!(is_of_this_machine("127.0.0.1".parse().unwrap()));
        // RFC 5737: documentation has it, and no machine.
        assert!(!is_of_this_machine("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_socket_takes_what_it_is_bound_to() {
        let accepts = |bound: &str, to: &str| accepts(bound.parse().unwrap(), to.parse().unwrap());
        assert!(accepts("::", "127.0.0.1") && accepts("::", "::1"));
        assert!(accepts("0.0.0.0", "127.0.0.1") && !accepts("0.0.0.0", "::1"));
        assert!(accepts("127.0.0.1", "127.0.0.1") && !accepts("127.0.0.1", "127.0.0.2"));
    }
}

//! The steps of one question: both services, then the addresses of their targets, then TLSA records
//! (RFC 6120 §3.2, RFC 2782, XEP-0368 §5, RFC 7673 §3). What follows from what is decided by
//! functions without I/O.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::answer::{
    Failure, Found, Kind, Lookup, Question, Record, Rtype, Service, SrvRecord, Target, Tlsa,
    TlsaRecord, Verdict,
};
use super::srv;
use super::upstream::{Upstream, Wish};
use crate::limits;

/// Finds out how the server of a domain is reached. What is not known at the deadline is told as
/// timed out; what is known by then counts.
pub async fn resolve(upstream: Arc<Upstream>, question: Question, deadline: Instant) -> Found {
    let domain = question.domain.to_ascii_lowercase();
    let mut found = Found {
        domain: question.domain.clone(),
        verdict: Verdict::FallBack,
        targets: Vec::new(),
        lookups: Vec::new(),
    };
    let own = match question.endpoint {
        Some(endpoint) => {
            found.verdict = Verdict::Targets;
            Target {
                kind: endpoint.kind,
                port: endpoint.port,
                ..own_target(endpoint.host.to_ascii_lowercase(), question.service)
            }
        }
        None => own_target(domain.clone(), question.service),
    };
    if let Some(ip) = address_literal(&own.host) {
        found.targets.push(Target {
            addresses: vec![ip],
            ..own
        });
        return found;
    }
    let ask = Asking {
        upstream,
        wish: Wish {
            is_fresh: question.is_fresh,
            sender: question.sender,
            deadline,
        },
    };
    if found.verdict == Verdict::Targets {
        found.targets.push(own);
        ask.find_addresses(&mut found).await;
        return found;
    }
    let services = question
        .service
        .records()
        .map(|service| (format!("{service}._tcp.{domain}"), Rtype::Srv));
    found.lookups = ask.all(services.to_vec()).await;
    let plan = plan(&found.lookups[0], &found.lookups[1], ask.upstream.validates);
    (found.verdict, found.targets) = match plan {
        Plan::Targets(targets) => (Verdict::Targets, targets),
        Plan::FallBack => (Verdict::FallBack, vec![own]),
        Plan::NotOffered => (Verdict::NotOffered, Vec::new()),
        Plan::Failed(failure) => (Verdict::Failed(failure), Vec::new()),
    };
    ask.find_addresses(&mut found).await;
    if question.wants_tlsa {
        ask.find_tlsa(&mut found).await;
    }
    found
}

/// A domainpart may be an IPv4 address, or an IPv6 address in brackets (RFC 7622 §3.2).
fn address_literal(domain: &str) -> Option<IpAddr> {
    let inner = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => domain.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// The domain itself as a target (RFC 6120 §3.2.2). Without SRV records RFC 7673 does not apply
/// (§3.1 there), so it has no TLSA records.
fn own_target(host: String, service: Service) -> Target {
    Target {
        kind: Kind::StartTls,
        host,
        port: service.port(),
        priority: 0,
        weight: 0,
        addresses: Vec::new(),
        is_srv_secure: false,
        is_address_secure: false,
        tlsa: Tlsa::None,
        failure: None,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Targets(Vec<Target>),
    FallBack,
    NotOffered,
    Failed(Failure),
}

/// What one service's SRV records say.
enum Says {
    Offered(Vec<Target>),
    NotOffered,
    Absent,
    Unknown(Failure),
}

fn service(kind: Kind, lookup: &Lookup) -> Says {
    let records = match &lookup.result {
        Ok(records) => records,
        Err(failure) if failure.is_absence() => return Says::Absent,
        Err(failure) => return Says::Unknown(failure.clone()),
    };
    let target = |srv: &SrvRecord| Target {
        kind,
        host: srv.target.clone(),
        port: srv.port,
        priority: srv.priority,
        weight: srv.weight,
        is_srv_secure: records.is_secure,
        ..own_target(String::new(), Service::Server)
    };
    let of_service = records.records.iter().filter_map(|record| match record {
        // RFC 2782: the target "." stands alone. Beside others it names no host either, and port 0
        // is none that can be connected to.
        Record::Srv(srv) if !srv.target.is_empty() && srv.port != 0 => Some(target(srv)),
        _ => None,
    });
    let targets: Vec<Target> = of_service.collect();
    if targets.is_empty() {
        Says::NotOffered
    } else {
        Says::Offered(targets)
    }
}

/// What both services together come to.
fn plan(start_tls: &Lookup, direct_tls: &Lookup, validates: bool) -> Plan {
    let services = [
        service(Kind::StartTls, start_tls),
        service(Kind::DirectTls, direct_tls),
    ];
    let (mut targets, mut failure, mut is_refused) = (Vec::new(), None, false);
    for service in services {
        match service {
            Says::Offered(offered) => targets.extend(offered),
            Says::NotOffered => is_refused = true,
            Says::Absent => {}
            Says::Unknown(cause) => failure = failure.or(Some(cause)),
        }
    }
    if !targets.is_empty() {
        targets.sort_by_key(|target| target.priority);
        targets.truncate(limits::DNS_TARGETS_MAX);
        return Plan::Targets(targets);
    }
    match failure {
        // XEP-0368 §5: a domain that has one "." is not connected to by its address records,
        // whatever the other service would say.
        Some(failure) if is_refused => Plan::Failed(failure),
        // RFC 7673 §3.1: with DNSSEC a failure may be the work of who wants to be asked instead.
        Some(failure) if validates || failure == Failure::BadName => Plan::Failed(failure),
        // RFC 6120 §3.2.1, step 9: no response leads to the fall-back as no records do.
        None if is_refused => Plan::NotOffered,
        Some(_) | None => Plan::FallBack,
    }
}

/// The addresses of a host, and whether DNSSEC proves them.
fn addresses(lookups: &[Lookup]) -> Result<(Vec<IpAddr>, bool), Failure> {
    let (mut found, mut is_secure) = (Vec::new(), true);
    let mut failure = Failure::NxDomain;
    for lookup in lookups {
        match &lookup.result {
            Ok(records) => {
                is_secure &= records.is_secure;
                found.extend(records.records.iter().filter_map(|record| match record {
                    Record::Address(ip) => Some(*ip),
                    Record::Srv(_) | Record::Tlsa(_) => None,
                }));
            }
            // RFC 7673 §3.2: the host must not be contacted, also if the other family is fine.
            Err(Failure::Bogus) => return Err(Failure::Bogus),
            // What is no absence tells more, and so does a name that exists.
            Err(cause) if failure.is_absence() && *cause != Failure::NxDomain => {
                failure = cause.clone();
            }
            Err(_) => {}
        }
    }
    if found.is_empty() {
        return Err(failure);
    }
    Ok((srv::alternate(&found), is_secure))
}

/// What the lookup of TLSA records means for its target: the records that count, or why the target
/// must not be contacted (RFC 7673 §3.4).
fn tlsa(lookup: &Lookup) -> Result<Tlsa, Failure> {
    match &lookup.result {
        Ok(records) if records.is_secure => {
            let of_type = records.records.iter().filter_map(|record| match record {
                Record::Tlsa(tlsa) => Some(tlsa.clone()),
                Record::Address(_) | Record::Srv(_) => None,
            });
            Ok(Tlsa::Secure(of_type.collect::<Vec<TlsaRecord>>()))
        }
        Ok(_) => Ok(Tlsa::None),
        Err(failure) if failure.is_absence() => Ok(Tlsa::None),
        Err(failure) => Err(failure.clone()),
    }
}

/// Whom all lookups of a question go to, and what they have in common.
struct Asking {
    upstream: Arc<Upstream>,
    wish: Wish,
}

impl Asking {
    /// Looks all of them up at the same time; the results are in the order of the questions.
    async fn all(&self, wanted: Vec<(String, Rtype)>) -> Vec<Lookup> {
        let lookup = |(name, rtype)| {
            let (upstream, wish) = (Arc::clone(&self.upstream), self.wish);
            async move { upstream.lookup(name, rtype, wish).await }
        };
        together(wanted.into_iter().map(lookup)).await
    }

    async fn find_addresses(&self, found: &mut Found) {
        // Both services often have the same hosts.
        let mut hosts: Vec<String> = Vec::new();
        for target in &found.targets {
            if !hosts.contains(&target.host) {
                hosts.push(target.host.clone());
            }
        }
        let families = [Rtype::Aaaa, Rtype::A];
        let of_host = |host: &String| families.map(|family| (host.clone(), family));
        let lookups = self.all(hosts.iter().flat_map(of_host).collect()).await;
        for target in &mut found.targets {
            let host = hosts.iter().position(|host| *host == target.host);
            let at = families.len() * host.expect("every target's host is among the hosts");
            match addresses(&lookups[at..at + families.len()]) {
                Ok((addresses, is_secure)) => {
                    target.addresses = addresses;
                    target.is_address_secure = is_secure;
                }
                Err(failure) => target.failure = Some(failure),
            }
        }
        found.lookups.extend(lookups);
    }

    /// Asks for those targets only to which DNSSEC proves the way (RFC 7673 §3.1, §3.2).
    async fn find_tlsa(&self, found: &mut Found) {
        // RFC 7673 §3.3: port and host are those of the SRV record. Should the host be an alias,
        // which it must not (RFC 2782), its own name counts all the same.
        let secure = found.targets.iter_mut().filter(|target| target.is_secure());
        let mut targets: Vec<&mut Target> = secure.collect();
        let wanted: Vec<(String, Rtype)> = targets
            .iter()
            .map(|target| {
                (
                    format!("_{}._tcp.{}", target.port, target.host),
                    Rtype::Tlsa,
                )
            })
            .collect();
        let lookups = self.all(wanted).await;
        for (target, lookup) in targets.iter_mut().zip(&lookups) {
            match tlsa(lookup) {
                Ok(tlsa) => target.tlsa = tlsa,
                Err(failure) => {
                    target.addresses.clear();
                    target.failure = Some(failure);
                }
            }
        }
        found.lookups.extend(lookups);
    }
}

/// Runs futures at the same time; what they yield is in their order.
async fn together<T, F>(futures: impl Iterator<Item = F>) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = futures.map(tokio::spawn).collect();
    let mut yielded = Vec::with_capacity(tasks.len());
    for task in tasks {
        yielded.push(
            task.await
                .expect("a panic ends the process, and nobody cancels it"),
        );
    }
    yielded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::answer::Records;

    fn lookup(rtype: Rtype, result: Result<Vec<Record>, Failure>) -> Lookup {
        Lookup {
            name: "any.example".to_owned(),
            rtype,
            result: result.map(|records| Records {
                records,
                is_secure: false,
            }),
        }
    }

    fn srv(priority: u16, port: u16, target: &str) -> Record {
        Record::Srv(SrvRecord {
            priority,
            weight: 0,
            port,
            target: target.to_owned(),
        })
    }

    /// Every state of one service, by a letter: offered, ".", absent, timed out, bogus.
    fn service_in(state: char) -> Lookup {
        let result = match state {
            'o' => Ok(vec![srv(1, 5269, "a.example")]),
            '.' => Ok(vec![srv(0, 0, "")]),
            'a' => Err(Failure::NxDomain),
            't' => Err(Failure::TimedOut),
            'b' => Err(Failure::Bogus),
            other => panic!("no such state: {other}"),
        };
        lookup(Rtype::Srv, result)
    }

    /// RFC 6120 §3.2.1, XEP-0368 §5, RFC 7673 §3.1: written by hand from these.
    #[test]
    fn every_pair_of_states_has_its_plan() {
        let table = [
            // Both services, then the plan without validation and with it: targets, fall-back, not
            // offered, failed.
            ("oo", "TT"),
            ("o.", "TT"),
            ("oa", "TT"),
            ("ot", "TT"),
            ("ob", "TT"),
            (".o", "TT"),
            ("..", "NN"),
            (".a", "NN"),
            (".t", "XX"),
            (".b", "XX"),
            ("ao", "TT"),
            ("a.", "NN"),
            ("aa", "FF"),
            ("at", "FX"),
            ("ab", "FX"),
            ("to", "TT"),
            ("t.", "XX"),
            ("ta", "FX"),
            ("tt", "FX"),
            ("tb", "FX"),
            ("bo", "TT"),
            ("b.", "XX"),
            ("ba", "FX"),
            ("bt", "FX"),
            ("bb", "FX"),
        ];
        for (states, wanted) in table {
            let states: Vec<Lookup> = states.chars().map(service_in).collect();
            let letter = |validates| match plan(&states[0], &states[1], validates) {
                Plan::Targets(_) => 'T',
                Plan::FallBack => 'F',
                Plan::NotOffered => 'N',
                Plan::Failed(_) => 'X',
            };
            let found: String = [false, true].map(letter).iter().collect();
            assert_eq!(found, wanted, "{states:?}");
        }
    }

    #[test]
    fn targets_of_both_services_keep_their_kind_and_are_bounded_by_priority() {
        let many = (0..limits::DNS_RECORDS_MAX as u16).map(|n| srv(100 + n, 5269, "a.example"));
        let first = lookup(Rtype::Srv, Ok(many.collect()));
        let second = lookup(
            Rtype::Srv,
            Ok(vec![
                srv(101, 5270, "b.example"),
                srv(1, 0, "zero.example"),
                srv(1, 1, ""),
            ]),
        );
        let Plan::Targets(targets) = plan(&first, &second, false) else {
            panic!("there are targets");
        };
        assert_eq!(targets.len(), limits::DNS_TARGETS_MAX);
        let direct: Vec<&str> = targets
            .iter()
            .filter(|target| target.kind == Kind::DirectTls)
            .map(|target| target.host.as_str())
            .collect();
        assert_eq!(direct, ["b.example"]);
        assert!(targets.iter().all(|target| target.priority < 116 - 1));
    }

    fn ip(text: &str) -> Record {
        Record::Address(text.parse().unwrap())
    }

    fn both(six: Result<Vec<Record>, Failure>, four: Result<Vec<Record>, Failure>) -> [Lookup; 2] {
        [lookup(Rtype::Aaaa, six), lookup(Rtype::A, four)]
    }

    #[test]
    fn one_family_that_cannot_be_had_leaves_the_other() {
        let four = || Ok(vec![ip("192.0.2.1")]);
        for failure in [
            Failure::NoRecords,
            Failure::TimedOut,
            Failure::Refused("SERVFAIL"),
        ] {
            let found = addresses(&both(Err(failure), four())).unwrap().0;
            assert_eq!(found, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        }
    }

    /// RFC 7673 §3.2.
    #[test]
    fn one_family_that_is_bogus_forbids_the_host() {
        let lookups = both(Err(Failure::Bogus), Ok(vec![ip("192.0.2.1")]));
        assert_eq!(addresses(&lookups), Err(Failure::Bogus));
    }

    #[test]
    fn the_failure_that_tells_most_is_the_hosts() {
        let cases = [
            (Failure::NxDomain, Failure::NxDomain, Failure::NxDomain),
            (Failure::NoRecords, Failure::NoRecords, Failure::NoRecords),
            (Failure::NoRecords, Failure::TimedOut, Failure::TimedOut),
            (Failure::TimedOut, Failure::NoRecords, Failure::TimedOut),
        ];
        for (six, four, wanted) in cases {
            assert_eq!(addresses(&both(Err(six), Err(four))), Err(wanted));
        }
    }

    /// RFC 7673 §3.4.
    #[test]
    fn tlsa_records_count_if_proven_and_a_failure_forbids_the_target() {
        let record = TlsaRecord {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![1; 32],
        };
        let mut found = lookup(Rtype::Tlsa, Ok(vec![Record::Tlsa(record.clone())]));
        assert_eq!(tlsa(&found), Ok(Tlsa::None));
        found.result.as_mut().unwrap().is_secure = true;
        assert_eq!(tlsa(&found), Ok(Tlsa::Secure(vec![record])));
        let absent = lookup(Rtype::Tlsa, Err(Failure::NoRecords));
        assert_eq!(tlsa(&absent), Ok(Tlsa::None));
        for failure in [
            Failure::Bogus,
            Failure::TimedOut,
            Failure::Refused("SERVFAIL"),
        ] {
            let failed = lookup(Rtype::Tlsa, Err(failure.clone()));
            assert_eq!(tlsa(&failed), Err(failure));
        }
    }

    #[test]
    fn addresses_are_told_from_names() {
        let is_address = |text| address_literal(text).is_some();
        assert!(is_address("192.0.2.1") && is_address("[2001:db8::1]"));
        assert!(!is_address("2001:db8::1") && !is_address("[192.0.2.1]"));
        assert!(!is_address("example.org") && !is_address("[]") && !is_address(""));
    }
}

//! The name servers: one lookup, from the cache, the hosts file or by a query.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use trust_dns_resolver::config::{NameServerConfig, ResolverOpts};
use trust_dns_resolver::net::dnssec::DnssecDnsHandle;
use trust_dns_resolver::net::runtime::TokioRuntimeProvider;
use trust_dns_resolver::net::xfer::{DnsHandle, FirstAnswer, RetryDnsHandle};
use trust_dns_resolver::net::{DnsError, NetError};
use trust_dns_resolver::proto::dnssec::TrustAnchors;
use trust_dns_resolver::proto::op::{DnsRequestOptions, DnsResponse, Query};
use trust_dns_resolver::proto::rr::Name;
use trust_dns_resolver::proto::rr::domain::usage;
use trust_dns_resolver::system_conf::read_system_conf;
use trust_dns_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig};

use super::answer::{Failure, Lookup, Record, Records, Rtype};
use super::cache::Cache;
use super::places::Places;
use super::reply::{self, Reply};
use super::{DnsError as Error, DnsSettings};
use crate::limits;

/// The name servers of one configuration, and what was learnt from them.
pub struct Upstream {
    client: Client,
    /// Whether answers are validated.
    pub validates: bool,
    /// How long a whole question may take.
    pub question_timeout: Duration,
    hosts: Hosts,
    /// One for each lookup that is under way.
    places: Places,
    cache: Mutex<Cache>,
}

/// What all lookups of a question have in common.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whether the cache is passed over.
    pub is_fresh: bool,
    /// For whose sake it is asked ([`super::Question::sender`]).
    pub sender: u64,
    /// When the answer is waited for no longer.
    pub deadline: Instant,
}

type Pool = RetryDnsHandle<NameServerPool<TokioRuntimeProvider>>;

enum Client {
    Plain(Pool),
    Validating(DnssecDnsHandle<Pool>),
}

impl Upstream {
    /// Reads what the settings name. Nothing is sent yet.
    pub fn new(settings: &DnsSettings) -> Result<Upstream, Error> {
        let (servers, hosts) = if settings.servers.is_empty() {
            // The system's configuration is taken as a whole.
            (system_servers(), Hosts::from_system().unwrap_or_default())
        } else {
            let servers = settings.servers.iter().copied().map(server);
            (servers.collect(), Hosts::default())
        };
        let mut options = ResolverOpts::default();
        options.timeout = settings.try_timeout;
        options.validate = settings.validates;
        // A server that is asked for more answers "busy" to itself.
        options.max_active_requests = 2 * limits::DNS_LOOKUPS_MAX;
        let tls = TlsConfig::new().map_err(|error| Error::Library(error.to_string()))?;
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(servers, context, TokioRuntimeProvider::default());
        // The library counts what comes after the first try.
        let pool = RetryDnsHandle::new(pool, settings.tries.saturating_sub(1));
        let client = if settings.validates {
            let anchors = Arc::new(trust_anchors(settings)?);
            Client::Validating(DnssecDnsHandle::with_trust_anchor(pool, anchors))
        } else {
            Client::Plain(pool)
        };
        Ok(Upstream {
            client,
            validates: settings.validates,
            question_timeout: settings.question_timeout,
            hosts,
            places: Places::new(limits::DNS_LOOKUPS_MAX),
            cache: Mutex::new(Cache::default()),
        })
    }

    /// Looks up one name (in ASCII and lower case, without a dot at the end) and type.
    pub async fn lookup(&self, name: String, rtype: Rtype, wish: Wish) -> Lookup {
        let result = self.result(&name, rtype, wish).await;
        Lookup {
            name,
            rtype,
            result,
        }
    }

    async fn result(&self, name: &str, rtype: Rtype, wish: Wish) -> Result<Records, Failure> {
        let parsed = Name::from_ascii(format!("{name}.")).map_err(|_| Failure::BadName)?;
        if let Some(result) = self.without_query(&parsed, rtype) {
            return result;
        }
        if !wish.is_fresh {
            let cache = self.cache();
            if let Some(result) = cache.find(name, rtype, Instant::now().into_std()) {
                return result.clone();
            }
        }
        let Ok((result, ttl)) =
            timeout_at(wish.deadline, self.query(parsed, rtype, wish.sender)).await
        else {
            return Err(Failure::TimedOut);
        };
        let now = Instant::now().into_std();
        self.cache().keep(name, rtype, &result, ttl, now);
        result
    }

    /// Names that no name server is asked for.
    fn without_query(&self, name: &Name, rtype: Rtype) -> Option<Result<Records, Failure>> {
        let query = Query::query(name.clone(), reply::record_type(rtype));
        if let Some(lookup) = self.hosts.lookup_static_host(&query) {
            let message = lookup.message().clone();
            // It has no proofs, so it is read as if there were no validation.
            let response = DnsResponse::from_message(message).ok()?;
            if let Reply::Final(result, _) = reply::read(name, rtype, Ok(response), false) {
                return Some(result);
            }
        }
        if usage::LOCALHOST.zone_of(name) {
            let ip = match rtype {
                Rtype::A => IpAddr::V4(Ipv4Addr::LOCALHOST),
                Rtype::Aaaa => IpAddr::V6(Ipv6Addr::LOCALHOST),
                Rtype::Srv | Rtype::Tlsa => return Some(Err(Failure::NoRecords)),
            };
            return Some(Ok(Records {
                records: vec![Record::Address(ip)],
                is_secure: false,
            }));
        }
        let is_nowhere = usage::INVALID.zone_of(name) || usage::ONION.zone_of(name);
        is_nowhere.then_some(Err(Failure::NxDomain))
    }

    /// Asks, and follows aliases that the answer does not follow itself.
    async fn query(
        &self,
        mut name: Name,
        rtype: Rtype,
        sender: u64,
    ) -> (Result<Records, Failure>, Duration) {
        let _place = self.places.get(sender).await;
        let (mut is_way_secure, mut ttl_max) = (true, Duration::MAX);
        for _ in 0..limits::DNS_ALIASES_MAX {
            let result = self.ask(&name, rtype).await;
            match reply::read(&name, rtype, result, self.validates) {
                Reply::Final(mut result, ttl) => {
                    if let Ok(records) = &mut result {
                        records.is_secure &= is_way_secure;
                    }
                    return (result, ttl.min(ttl_max));
                }
                Reply::Alias {
                    name: next,
                    is_secure,
                    ttl,
                } => {
                    name = next;
                    is_way_secure &= is_secure;
                    ttl_max = ttl_max.min(ttl);
                }
            }
        }
        let failure = Failure::Broken("too many aliases".to_owned());
        (Err(failure), Duration::ZERO)
    }

    async fn ask(&self, name: &Name, rtype: Rtype) -> Result<DnsResponse, NetError> {
        let query = Query::query(name.clone(), reply::record_type(rtype));
        let mut options = DnsRequestOptions::default();
        options.edns_set_dnssec_ok = self.validates;
        options.max_request_depth = limits::DNS_VALIDATION_DEPTH_MAX;
        let response = match &self.client {
            Client::Plain(client) => client.lookup(query, options).first_answer().await,
            Client::Validating(client) => client.lookup(query, options).first_answer().await,
        }?;
        Ok(DnsError::from_response(response)?)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// Those of /etc/resolv.conf. Without any it is the one of this machine (resolv.conf(5)).
fn system_servers() -> Vec<NameServerConfig> {
    match read_system_conf() {
        Ok((config, _)) => config.into_parts().2,
        Err(error) => {
            log::warn!(error:%; "no name server in /etc/resolv.conf, using 127.0.0.1");
            vec![NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into())]
        }
    }
}

/// Those of the file in place of the library's own, which are the root zone's.
fn trust_anchors(settings: &DnsSettings) -> Result<TrustAnchors, Error> {
    let Some(path) = &settings.trust_anchor else {
        return Ok(TrustAnchors::default());
    };
    let error = |cause: String| Error::TrustAnchor {
        path: path.clone(),
        cause,
    };
    let text =
        std::fs::read_to_string(path).map_err(|cause: io::Error| error(cause.to_string()))?;
    // A file without keys would make everything bogus. The library counts those of the root zone
    // only.
    let has_key = text
        .lines()
        .any(|line| !line.split(';').next().unwrap_or("").trim().is_empty());
    if !has_key {
        return Err(error("it has no DNSKEY record".to_owned()));
    }
    let text: String = text.lines().map(with_time_to_live).collect();
    text.parse().map_err(|cause| error(format!("{cause}")))
}

/// A line of a zone file as the library takes it: it wants a time to live and a class, which dig and
/// keymgr leave out and which mean nothing for an anchor.
fn with_time_to_live(line: &str) -> String {
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim_start();
    let record = rest.strip_prefix("IN").map_or(rest, str::trim_start);
    match record.starts_with("DNSKEY") {
        true => format!("{name} 3600 IN {record}\n"),
        false => format!("{line}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        let settings = DnsSettings {
            servers: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1))],
            ..DnsSettings::default()
        };
        Upstream::new(&settings).unwrap()
    }

    #[test]
    fn an_anchor_may_be_written_as_dig_and_keymgr_write_it() {
        for line in [
            ". DNSKEY 257 3 13 AwEA",
            ".\tIN\tDNSKEY 257 3 13 AwEA",
            ".  IN  DNSKEY 257 3 13 AwEA",
        ] {
            let whole = ". 3600 IN DNSKEY 257 3 13 AwEA\n";
            assert_eq!(with_time_to_live(line), whole);
        }
        for line in [". 60 IN DNSKEY 257 3 13 AwEA", "; a note", ""] {
            assert_eq!(with_time_to_live(line), format!("{line}\n"));
        }
    }

    fn without_query(upstream: &Upstream, name: &str, rtype: Rtype) -> Option<Vec<String>> {
        let name = Name::from_ascii(name).unwrap();
        let records = upstream.without_query(&name, rtype)?.unwrap();
        assert!(!records.is_secure);
        Some(records.records.iter().map(Record::to_string).collect())
    }

    #[test]
    fn a_host_of_the_hosts_file_is_not_asked_for() {
        let mut upstream = upstream();
        let file = "192.0.2.1 one.example xmpp.Example # words\n2001:db8::1 xmpp.example\n";
        upstream.hosts.read_hosts_conf(file.as_bytes()).unwrap();
        let found = |name, rtype| without_query(&upstream, name, rtype);
        let wanted = |text: &str| Some(vec![text.to_owned()]);
        assert_eq!(found("XMPP.example.", Rtype::A), wanted("192.0.2.1"));
        assert_eq!(found("xmpp.example.", Rtype::Aaaa), wanted("2001:db8::1"));
        assert_eq!(found("one.example.", Rtype::Aaaa), None);
        assert_eq!(found("xmpp.example.", Rtype::Srv), None);
        assert_eq!(found("other.example.", Rtype::A), None);
    }

    #[test]
    fn given_servers_keep_their_ports() {
        let address: SocketAddr = "[2001:db8::53]:5353".parse().unwrap();
        let config = server(address);
        assert_eq!(config.ip, address.ip());
        assert_eq!(config.connections.len(), 2);
        assert!(
            config
                .connections
                .iter()
                .all(|connection| connection.port == 5353)
        );
    }
}

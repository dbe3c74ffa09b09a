//! From a response of the library to records: aliases followed, types and bounds checked.
//!
//! The library's resolver is not asked for this: it takes the target of an SRV record for the next
//! name of a chain of aliases, so that it finds no SRV records behind a CNAME.

use std::net::IpAddr;
use std::time::Duration;

use trust_dns_resolver::net::{DnsError, NetError};
use trust_dns_resolver::proto::dnssec::Proof;
use trust_dns_resolver::proto::op::{DnsResponse, ResponseCode};
use trust_dns_resolver::proto::rr::{Name, RData, Record as LibraryRecord, RecordType, rdata};

use super::answer::{Failure, Record, Records, Rtype, SrvRecord, TlsaRecord};
use crate::limits;

/// What a response comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// It answers. The time is how long it holds; none for what must not be kept.
    Final(Result<Records, Failure>, Duration),
    /// It ends with an alias for another name, which has to be asked for.
    Alias {
        /// That name.
        name: Name,
        /// Whether DNSSEC proves the aliases.
        is_secure: bool,
        /// How long they hold.
        ttl: Duration,
    },
}

impl Reply {
    fn failure(failure: Failure) -> Reply {
        Reply::Final(Err(failure), Duration::ZERO)
    }
}

/// The library's name of a type.
pub fn record_type(rtype: Rtype) -> RecordType {
    match rtype {
        Rtype::A => RecordType::A,
        Rtype::Aaaa => RecordType::AAAA,
        Rtype::Srv => RecordType::SRV,
        Rtype::Tlsa => RecordType::TLSA,
    }
}

/// Reads what came of a query. `validates`: it went through the library's DNSSEC validation.
pub fn read(
    asked: &Name,
    rtype: Rtype,
    result: Result<DnsResponse, NetError>,
    validates: bool,
) -> Reply {
    match result {
        Ok(response) => from_response(asked, rtype, &response, validates),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
            absence(none.response_code, none.negative_ttl)
        }
        // What would prove that there is nothing is itself proven not to be signed.
        Err(NetError::Dns(DnsError::Nsec {
            proof: Proof::Insecure,
            response,
            ..
        })) => absence(response.response_code, response.negative_ttl()),
        Err(NetError::Dns(DnsError::Nsec { .. } | DnsError::DnssecBogus)) => {
            Reply::failure(Failure::Bogus)
        }
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            Reply::failure(Failure::Refused(code.to_str()))
        }
        Err(NetError::Timeout) => Reply::failure(Failure::TimedOut),
        Err(error) => Reply::failure(Failure::Broken(error.to_string())),
    }
}

/// RFC 2308 §5: without an SOA record it must not be kept.
fn absence(code: ResponseCode, ttl: Option<u32>) -> Reply {
    let failure = match code {
        ResponseCode::NXDomain => Failure::NxDomain,
        _ => Failure::NoRecords,
    };
    Reply::Final(Err(failure), seconds(ttl.unwrap_or(0)))
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(u64::from(ttl))
}

fn from_response(asked: &Name, rtype: Rtype, response: &DnsResponse, validates: bool) -> Reply {
    let mut chain = Chain {
        name: asked.clone(),
        is_secure: validates,
        is_bogus: false,
        ttl: u32::MAX,
    };
    for _ in 0..limits::DNS_ALIASES_MAX {
        let own: Vec<&LibraryRecord> = response
            .answers
            .iter()
            .filter(|record| {
                record.name == chain.name && record.record_type() == record_type(rtype)
            })
            .collect();
        if !own.is_empty() {
            chain.take(&own, validates);
            return chain.end(&own, rtype);
        }
        let alias = response
            .answers
            .iter()
            .find_map(|record| match &record.data {
                RData::CNAME(target) if record.name == chain.name => Some((record, &target.0)),
                _ => None,
            });
        let Some((record, target)) = alias else {
            return chain.without_records(asked, response);
        };
        chain.take(&[record], validates);
        chain.name = target.clone();
    }
    Reply::failure(Failure::Broken("too many aliases".to_owned()))
}

/// The way through a response from alias to alias.
struct Chain {
    name: Name,
    is_secure: bool,
    is_bogus: bool,
    ttl: u32,
}

impl Chain {
    fn take(&mut self, records: &[&LibraryRecord], validates: bool) {
        for record in records {
            self.ttl = self.ttl.min(record.ttl);
            self.is_secure &= record.proof == Proof::Secure;
            // Whatever validation has not found to be one or the other is not to be used.
            self.is_bogus |= validates && !matches!(record.proof, Proof::Secure | Proof::Insecure);
        }
    }

    fn end(self, own: &[&LibraryRecord], rtype: Rtype) -> Reply {
        if self.is_bogus {
            return Reply::failure(Failure::Bogus);
        }
        let mut records: Vec<Record> = own.iter().filter_map(|record| convert(record)).collect();
        if rtype == Rtype::Srv {
            records.sort_by_key(|record| match record {
                Record::Srv(srv) => srv.priority,
                Record::Address(_) | Record::Tlsa(_) => 0,
            });
        }
        records.truncate(limits::DNS_RECORDS_MAX);
        // Records that cannot be used are none, but for TLSA records: that there are some means
        // that TLS must be used (RFC 7673 §3.4).
        let result = if records.is_empty() && rtype != Rtype::Tlsa {
            Err(Failure::NoRecords)
        } else {
            Ok(Records {
                records,
                is_secure: self.is_secure,
            })
        };
        Reply::Final(result, seconds(self.ttl))
    }

    fn without_records(self, asked: &Name, response: &DnsResponse) -> Reply {
        if self.is_bogus {
            return Reply::failure(Failure::Bogus);
        }
        let code = response.response_code;
        if self.name == *asked || code == ResponseCode::NXDomain {
            return absence(code, response.negative_ttl().map(|ttl| ttl.min(self.ttl)));
        }
        Reply::Alias {
            name: self.name,
            is_secure: self.is_secure,
            ttl: seconds(self.ttl),
        }
    }
}

/// The record as a value, if it is one that can be used.
fn convert(record: &LibraryRecord) -> Option<Record> {
    match &record.data {
        RData::A(rdata::A(ip)) => address(IpAddr::V4(*ip)),
        RData::AAAA(rdata::AAAA(ip)) => address(IpAddr::V6(*ip)),
        RData::SRV(srv) => Some(Record::Srv(SrvRecord {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: host(&srv.target)?,
        })),
        RData::TLSA(tlsa) if tlsa.cert_data.len() <= limits::DNS_TLSA_BYTES_MAX => {
            Some(Record::Tlsa(TlsaRecord {
                usage: tlsa.cert_usage.into(),
                selector: tlsa.selector.into(),
                matching: tlsa.matching.into(),
                data: tlsa.cert_data.clone(),
            }))
        }
        _ => None,
    }
}

/// Addresses of one host only: the unspecified one would connect to this machine.
fn address(ip: IpAddr) -> Option<Record> {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let is_host = !ip.is_unspecified() && !ip.is_multicast() && !is_broadcast;
    is_host.then_some(Record::Address(ip))
}

/// The name of a host in lower case without the dot at the end: letters, digits, hyphens and
/// underscores. Other names are possible in DNS, but no host has one.
pub fn host(name: &Name) -> Option<String> {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(is_usual).then(|| text.to_owned())
}

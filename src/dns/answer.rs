//! What is asked of DNS and what it has answered, as plain values: nothing here knows the library.

use std::fmt::{self, Write};
use std::net::IpAddr;

use super::srv::Rank;

/// What a server link wants to know: how the server of a domain is reached (RFC 6120 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// A domainpart in ASCII: A-labels, no dot at the end, or an IP address.
    pub domain: String,
    /// Who wants to reach it.
    pub service: Service,
    /// Where it is, if that is known: no SRV records are asked for then.
    pub endpoint: Option<Endpoint>,
    /// Whether the TLSA records of targets that are proven by DNSSEC are wanted (RFC 7673).
    pub wants_tlsa: bool,
    /// Whether the cache is passed over, for who wants to see what DNS says now.
    pub is_fresh: bool,
    /// A number for whose sake it is asked: lookups are shared fairly between those who wait for some.
    pub sender: u64,
}

/// A host and port that need no SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// In A-labels, or an IP address as in a domainpart.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
    /// How TLS begins there.
    pub kind: Kind,
}

/// What a domain is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// For clients: `_xmpp-client` and `_xmpps-client`.
    Client,
    /// For other servers: `_xmpp-server` and `_xmpps-server`.
    Server,
}

impl Service {
    /// The names of its SRV records, without and with direct TLS (RFC 6120 §3.2.1, XEP-0368).
    pub fn records(self) -> [&'static str; 2] {
        match self {
            Service::Client => ["_xmpp-client", "_xmpps-client"],
            Service::Server => ["_xmpp-server", "_xmpps-server"],
        }
    }

    /// The port of who has no SRV records (RFC 6120 §14.7).
    pub fn port(self) -> u16 {
        match self {
            Service::Client => 5222,
            Service::Server => 5269,
        }
    }
}

impl Question {
    /// How the servers of a domain, in A-labels, are reached by other servers.
    pub fn about(domain: String) -> Question {
        Question {
            domain,
            service: Service::Server,
            endpoint: None,
            wants_tlsa: false,
            is_fresh: false,
            sender: 0,
        }
    }
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// As it was asked for.
    pub domain: String,
    /// What it comes to.
    pub verdict: Verdict,
    /// The hosts to connect to, in no order: [`super::srv::attempts`] gives them one. Empty but for
    /// [`Verdict::Targets`] and [`Verdict::FallBack`].
    pub targets: Vec<Target>,
    /// Every lookup that was made, in the order of the steps, for who wants to see them.
    pub lookups: Vec<Lookup>,
}

impl Found {
    /// Whether there is an address to connect to.
    pub fn has_addresses(&self) -> bool {
        self.targets
            .iter()
            .any(|target| !target.addresses.is_empty())
    }

    /// Why there is no address, for people, and whether that is for good.
    pub fn nowhere(&self) -> (String, bool) {
        match &self.verdict {
            Verdict::NotOffered => ("its DNS says that it has no XMPP server".to_owned(), true),
            Verdict::Failed(failure) => (format!("its name was not resolved: {failure}"), false),
            Verdict::Targets | Verdict::FallBack => {
                let targets = self.targets.iter();
                let failures = || targets.clone().filter_map(|target| target.failure.as_ref());
                let text = match failures().next() {
                    Some(failure) => format!("it has no address: {failure}"),
                    None => "it has no address".to_owned(),
                };
                (text, failures().all(Failure::is_absence))
            }
        }
    }
}

/// What the SRV records of a domain come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They name targets.
    Targets,
    /// There are none: the domain itself is tried (RFC 6120 §3.2.2). Also for an IP address.
    FallBack,
    /// The domain says with the target "." that it has no XMPP server (RFC 2782).
    NotOffered,
    /// They could not be had, and it would be wrong to go on without (RFC 7673 §3.1).
    Failed(Failure),
}

/// How TLS begins on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `_xmpp-server`: in the stream (RFC 6120 §5).
    StartTls,
    /// `_xmpps-server`: at once (XEP-0368).
    DirectTls,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::StartTls => "STARTTLS",
            Kind::DirectTls => "direct TLS",
        })
    }
}

/// A host to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How TLS begins.
    pub kind: Kind,
    /// Its name in ASCII and lower case, without a dot at the end; or the address, if it was asked
    /// for.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
    /// As in the SRV record; 0 for the fall-back.
    pub priority: u16,
    /// As in the SRV record; 0 for the fall-back.
    pub weight: u16,
    /// IPv6 and IPv4 in turn, IPv6 first. Empty if there is none, or if it must not be contacted.
    pub addresses: Vec<IpAddr>,
    /// Whether DNSSEC proves the SRV record: then the host's name may be in its certificate as well
    /// as the domain's (RFC 7673 §4.1).
    pub is_srv_secure: bool,
    /// Whether DNSSEC proves all of the addresses.
    pub is_address_secure: bool,
    /// What is known of its certificate.
    pub tlsa: Tlsa,
    /// Why it has no addresses.
    pub failure: Option<Failure>,
}

impl Target {
    /// What orders it.
    pub fn rank(&self) -> Rank {
        Rank {
            priority: self.priority,
            weight: self.weight,
        }
    }

    /// Whether DNSSEC proves the way from the domain to the addresses.
    pub fn is_secure(&self) -> bool {
        self.is_srv_secure && self.is_address_secure
    }
}

/// The TLSA records of a target (RFC 6698).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsa {
    /// There are none that count: they were not asked for, there are none, or something on the way
    /// to them is not proven by DNSSEC (RFC 7673 §3).
    None,
    /// They are proven by DNSSEC, and TLS must be used (RFC 7673 §3.4). Those that are too long are
    /// left out, so that there may be none.
    Secure(Vec<TlsaRecord>),
}

/// One TLSA record (RFC 6698 §2.1), as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsaRecord {
    /// Certificate usage: PKIX-TA(0), PKIX-EE(1), DANE-TA(2), DANE-EE(3).
    pub usage: u8,
    /// Selector: Cert(0), SPKI(1).
    pub selector: u8,
    /// Matching type: Full(0), SHA2-256(1), SHA2-512(2).
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// One step: a name, a type, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// In ASCII, without a dot at the end.
    pub name: String,
    /// The type of the records.
    pub rtype: Rtype,
    /// The records, at least one, or why there are none.
    pub result: Result<Records, Failure>,
}

/// Types of records that are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rtype {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Service location.
    Srv,
    /// Certificate association.
    Tlsa,
}

impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rtype::A => "A",
            Rtype::Aaaa => "AAAA",
            Rtype::Srv => "SRV",
            Rtype::Tlsa => "TLSA",
        })
    }
}

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// As many as are used (see [`crate::limits::DNS_RECORDS_MAX`]).
    pub records: Vec<Record>,
    /// Whether DNSSEC proves them and all aliases that led to them.
    pub is_secure: bool,
}

/// The data of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Of types A and AAAA.
    Address(IpAddr),
    /// Service location.
    Srv(SrvRecord),
    /// Certificate association.
    Tlsa(TlsaRecord),
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones are tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
    /// TCP port.
    pub port: u16,
    /// In ASCII and lower case, without a dot at the end: empty if the service is not offered.
    pub target: String,
}

impl fmt::Display for Record {
    /// As in a zone file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Address(ip) => ip.fmt(f),
            Record::Srv(srv) => {
                let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
                write!(f, "{priority} {weight} {port} {}.", srv.target)
            }
            Record::Tlsa(tlsa) => {
                write!(f, "{} {} {} ", tlsa.usage, tlsa.selector, tlsa.matching)?;
                let mut digits = String::with_capacity(2 * tlsa.data.len());
                for byte in &tlsa.data {
                    write!(digits, "{byte:02x}")?;
                }
                f.write_str(&digits)
            }
        }
    }
}

/// Why a lookup has no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name does not exist.
    NxDomain,
    /// The name has no records of this type.
    NoRecords,
    /// No DNS name can be made of it.
    BadName,
    /// DNSSEC should prove the answer and does not, or what would prove it could not be had.
    Bogus,
    /// The name server has an error, or does not want to answer; its response code.
    Refused(&'static str),
    /// No answer came in time.
    TimedOut,
    /// The name server cannot be reached, or what it sends cannot be understood.
    Broken(String),
}

impl Failure {
    /// Whether it is an answer: there are no such records.
    pub fn is_absence(&self) -> bool {
        matches!(self, Failure::NxDomain | Failure::NoRecords)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NxDomain => f.write_str("there is no such name"),
            Failure::NoRecords => f.write_str("there is no such record"),
            Failure::BadName => f.write_str("this is no DNS name"),
            Failure::Bogus => f.write_str("DNSSEC validation failed"),
            Failure::Refused(code) => write!(f, "the name server answers: {code}"),
            Failure::TimedOut => f.write_str("no answer in time"),
            Failure::Broken(cause) => write!(f, "the name server cannot be asked: {cause}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_shown_as_in_a_zone_file() {
        let srv = |target: &str| {
            Record::Srv(SrvRecord {
                priority: 5,
                weight: 10,
                port: 5269,
                target: target.to_owned(),
            })
        };
        assert_eq!(
            srv("xmpp.example.org").to_string(),
            "5 10 5269 xmpp.example.org."
        );
        assert_eq!(srv("").to_string(), "5 10 5269 .");
        let tlsa = Record::Tlsa(TlsaRecord {
            usage: 3,
            selector: 1,
            matching: 1,
            data: vec![0x0b, 0xc0],
        });
        assert_eq!(tlsa.to_string(), "3 1 1 0bc0");
        let address = Record::Address("2001:db8::1".parse().unwrap());
        assert_eq!(address.to_string(), "2001:db8::1");
    }
}

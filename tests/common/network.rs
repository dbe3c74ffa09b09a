//! A small network on loopback: a name server, an authority for certificates, and servers that find each
//! other by them, each on addresses of its own with the standard ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use stanzad::jid::Domain;

use super::authority::{Issued, Wish};
use super::names::{NameServer, Zone};
use super::peer::Peer;
use super::server::{AUTHORITY, Server, add_offline, site_of};
use super::site::Site;

/// The port of streams that begin in the clear (RFC 6120 §14.7).
pub const PORT: u16 = 5269;
/// The port of streams that begin with TLS.
pub const PORT_TLS: u16 = 5270;

/// The names of the accounts of each server.
pub const ACCOUNTS: [&str; 3] = ["juliet", "romeo", "nurse"];

/// What the servers of a test have in common. Domains end with `.example`.
pub struct Network {
    pub names: NameServer,
    /// All servers trust it.
    pub authority: Issued,
    directory: tempfile::TempDir,
}

impl Network {
    pub fn new() -> Network {
        let wish = Wish {
            is_authority: true,
            ..Wish::default()
        };
        let authority = wish.self_signed();
        let directory = tempfile::tempdir().unwrap();
        let pem = authority.certificate.to_pem().unwrap();
        fs::write(directory.path().join(AUTHORITY), pem).unwrap();
        Network {
            names: Zone::of("example.").serve(),
            authority,
            directory,
        }
    }

    /// The file with the authority, for `SSL_CERT_FILE`.
    pub fn authority_file(&self) -> PathBuf {
        self.directory.path().join(AUTHORITY)
    }

    /// Puts a record into the DNS. What a server has asked for before, it remembers.
    pub fn record(&self, owner: &str, rtype: &str, data: &str) {
        self.names.change(|zone| zone.with(owner, rtype, data));
    }

    /// Has the DNS say that the server of a domain is there, on the standard ports.
    pub fn announce(&self, domain: &str, address: Ipv4Addr) {
        self.announce_starttls(domain, address);
        self.announce_direct(domain, address);
    }

    /// The same, for streams that begin in the clear alone.
    pub fn announce_starttls(&self, domain: &str, address: Ipv4Addr) {
        let host = self.host(address);
        let service = format!("_xmpp-server._tcp.{domain}");
        self.record(&service, "SRV", &format!("10 0 {PORT} {host}."));
    }

    /// The same, for streams that begin with TLS alone (XEP-0368).
    pub fn announce_direct(&self, domain: &str, address: Ipv4Addr) {
        let host = self.host(address);
        let service = format!("_xmpps-server._tcp.{domain}");
        self.record(&service, "SRV", &format!("5 0 {PORT_TLS} {host}."));
    }

    /// The name of an address.
    pub fn host(&self, address: Ipv4Addr) -> String {
        let host = format!("host-{}.example", address.to_string().replace('.', "-"));
        self.record(&host, "A", &address.to_string());
        host
    }

    /// A certificate by the authority.
    pub fn issue(&self, domains: &[&str]) -> Issued {
        let wish = Wish {
            dns: domains,
            ..Wish::default()
        };
        wish.by(&self.authority)
    }

    /// Starts a server that serves one domain, with [`ACCOUNTS`] and both kinds of SRV records. `conf`
    /// is laid over its conf file, as in [`Server::start`].
    pub fn server(&self, domain: &str, conf: &str) -> Server {
        let address = address();
        self.announce(domain, address);
        Server::start_in(self.site(&[domain], address, conf))
    }

    /// A directory for a server of these domains, with certificates by the authority, that listens on
    /// this address. It is not in the DNS.
    pub fn site(&self, domains: &[&str], address: Ipv4Addr, conf: &str) -> Site {
        let names: String = domains
            .iter()
            .map(|domain| format!("[domain.\"{domain}\"]\n"))
            .collect();
        let base = format!(
            r#"
[server]
data = "data"
control = "run/control.sock"
shards = 2
[listen]
c2s = ["127.0.0.1:0"]
c2s_tls = ["127.0.0.1:0"]
component = ["127.0.0.1:0"]
s2s = ["{address}:{PORT}"]
s2s_tls = ["{address}:{PORT_TLS}"]
[tls]
certificates = "certs"
[dns]
servers = ["{}"]
[auth]
iterations = 4096
[store]
durability = "normal"
[log]
level = "debug"
to = "./log"
{names}"#,
            self.names.address
        );
        let site = site_of(&base, conf);
        self.vouch(&site);
        for domain in domains {
            let path = |ending| site.path("certs").join(format!("{domain}.{ending}"));
            let name = Domain::parse(domain).unwrap().to_ascii();
            self.issue(&[&name]).write(&path("crt"), &path("key"));
        }
        let accounts: Vec<String> = domains
            .iter()
            .flat_map(|domain| ACCOUNTS.map(|name| format!("{name}@{domain}")))
            .collect();
        let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
        add_offline(&site, &accounts);
        site
    }

    /// Has the server of a site trust the authority.
    pub fn vouch(&self, site: &Site) {
        fs::copy(self.authority_file(), site.path(AUTHORITY)).unwrap();
    }

    /// Starts a server.
    pub fn start(&self, site: Site) -> Server {
        Server::start_in(site)
    }

    /// A peer server that a test plays, with a certificate by the authority. It is found by an SRV record
    /// for streams that begin in the clear.
    pub fn peer(&self, domain: &str) -> Peer {
        let peer = self.stranger(domain, self.issue(&[domain]));
        self.announce_starttls(domain, peer.ip());
        peer
    }

    /// A peer server that shows this certificate, and is not in the DNS.
    pub fn stranger(&self, domain: &str, identity: Issued) -> Peer {
        Peer::new(domain, address(), identity)
    }
}

/// An address of this machine that nobody else has: not in this process, and hardly in another one.
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(n < 750, "there are no more addresses");
    let [.., high, low] = std::process::id().to_be_bytes();
    let second = 32 + (n / 250) as u8 * 64 + high % 64;
    Ipv4Addr::new(127, second, low, (n % 250) as u8 + 1)
}

/// An address to connect to at which nobody listens.
pub fn dead_end() -> SocketAddr {
    (address(), PORT).into()
}

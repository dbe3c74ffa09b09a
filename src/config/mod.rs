//! The configuration as typed values with their defaults, read whole and never changed afterwards.
//!
//! `options` holds the one table of options; `load` turns a file into [`Settings`] or a list of
//! everything that is wrong with it; `reload` decides what a running server may take over. A
//! [`Settings`] is one generation: a reload makes another and leaves this one as it is
//! (`Reloads` in lib.rs).

mod component;
mod load;
pub mod options;
mod peer;
mod problem;
mod reload;
mod suggest;
mod value;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::jid::{Domain, DomainList};
pub use crate::log::{LogFormat, LogOptions, LogTo};
use crate::sasl::{Hash, HashPolicy, Mechanism, Storage};
pub use component::{ComponentSettings, Secret};
pub use load::{load, locate, parse};
pub use peer::{Endpoint, NamedFile, S2sPeer};
pub use problem::{Problem, Problems};
pub use reload::{Reloaded, reload};

/// Where the file is looked for when the command line names none.
pub const DEFAULT_PATH: &str = "/etc/stanzad/stanzad.toml";

/// One generation of the whole configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// 1 after start, one more at each reload; 0 for a value that no server runs with yet.
    pub generation: u64,
    /// `[server]`
    pub server: Server,
    /// `[listen]`
    pub listen: Listen,
    /// `[tls]`
    pub tls: Tls,
    /// `[store]`
    pub store: StoreOptions,
    /// `[s2s]` as it holds for the whole server.
    pub s2s: S2s,
    /// `[dns]`
    pub dns: Dns,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: LogOptions,
    /// Each `[domain."name"]`, with what it takes over from `[c2s]` and `[auth]` filled in.
    pub domains: BTreeMap<Domain, Arc<DomainSettings>>,
    /// Each `[component."name"]`. None has the name of one of `domains`.
    pub components: BTreeMap<Domain, Arc<ComponentSettings>>,
    /// What was read without an error, yet has a risk or no effect.
    pub warnings: Vec<Problem>,
}

impl Settings {
    /// What other servers meet at a domain of this server: a local domain's settings, or those of a
    /// component's.
    pub fn served(&self, name: &str) -> Option<&Arc<DomainSettings>> {
        let component = || Some(&self.components.get(name)?.domain);
        self.domains.get(name).or_else(component)
    }

    /// The domains of components that other servers are to reach.
    pub fn component_domains(&self) -> impl Iterator<Item = &Arc<DomainSettings>> {
        let domains = self.components.values().map(|component| &component.domain);
        domains.filter(|domain| domain.s2s.enabled)
    }
}

/// The process as a whole. Fixed at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The data directory, mode 0700.
    pub data: PathBuf,
    /// Reactor threads, 1 to 256; 0 is one for each core.
    pub shards: usize,
    /// The control socket.
    pub control: PathBuf,
}

/// Addresses to accept clients, other servers and components on. Fixed at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For streams that start in the clear (RFC 6120 §3.2).
    pub c2s: Vec<SocketAddr>,
    /// For direct TLS (XEP-0368).
    pub c2s_tls: Vec<SocketAddr>,
    /// For streams of servers that start in the clear.
    pub s2s: Vec<SocketAddr>,
    /// For direct TLS of servers.
    pub s2s_tls: Vec<SocketAddr>,
    /// For components (XEP-0114); not listened on while there are none.
    pub component: Vec<SocketAddr>,
}

/// TLS of the whole server. What a domain can set of its own is in [`DomainSettings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The directory in which certificates and keys are found by domain name.
    pub certificates: PathBuf,
    /// The oldest version that is negotiated.
    pub min_version: TlsVersion,
    /// Cipher suites of TLS 1.2, in OpenSSL's notation.
    pub ciphers: String,
    /// Cipher suites of TLS 1.3, in OpenSSL's notation.
    pub ciphersuites: String,
    /// Key exchange groups in order of preference; `None` is the built-in order, of which a group
    /// that this OpenSSL lacks is left out.
    pub groups: Option<Vec<String>>,
    /// Parameters for DHE in TLS 1.2; `None` is no DHE.
    pub dhparam: Option<DhParam>,
    /// Whether the order of this server's suites wins over the client's.
    pub prefer_server_ciphers: bool,
    /// Authorities that vouch for other servers, in PEM; `None`: those that the system trusts.
    pub ca: Option<NamedFile>,
}

/// A version of TLS. Older ones must not be negotiated (RFC 9325 §3.1.1) and have no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// Where Diffie-Hellman parameters come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhParam {
    /// A PEM file.
    File(PathBuf),
    /// A group of RFC 7919, one of [`DH_GROUPS`].
    Named(&'static str),
}

/// The groups of RFC 7919 that `dhparam` takes by name.
pub const DH_GROUPS: [&str; 5] = [
    "ffdhe2048",
    "ffdhe3072",
    "ffdhe4096",
    "ffdhe6144",
    "ffdhe8192",
];

/// How the database is written. Fixed at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreOptions {
    /// What a commit survives.
    pub durability: Durability,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the machine: each commit is synced (`synchronous=FULL`).
    #[default]
    Full,
    /// A crash of the process only (`synchronous=NORMAL`).
    Normal,
}

/// Bounds that an operator may need to move; all others are constants in `crate::limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time from one address (IPv6: from one /64).
    pub connections_per_address_max: u32,
    /// New connections from one address within a minute; 0: no limit.
    pub new_connections_per_address_max: u32,
    /// TLS handshakes with one address within a minute; 0: no limit.
    pub handshakes_per_address_max: u32,
    /// Bytes that a client's stream may send, on average; 0: no limit.
    pub bytes_per_second_max: u32,
    /// Stanzas of it.
    pub stanzas_per_second_max: u32,
    /// Bytes that another server's stream may send, on average; 0: no limit.
    pub server_bytes_per_second_max: u32,
    /// Stanzas of it.
    pub server_stanzas_per_second_max: u32,
    /// Seconds from accept until a stream must be authenticated.
    pub unauthenticated_seconds_max: u64,
    /// Bound resources of one account (RFC 6120 §7.6.2.1).
    pub resources_per_account_max: u32,
    /// Contacts in the roster of one account.
    pub roster_items_max: u32,
    /// Subscription requests to one account that wait for its answer (RFC 6121 §3.1.3).
    pub pending_requests_max: u32,
    /// Failed logins on one stream, the last of which closes it (RFC 6120 §6.4.5).
    pub login_failures_per_stream_max: u32,
    /// Failed logins from one address within a minute.
    pub login_failures_per_address_max: u32,
    /// Failed logins for one account within a minute.
    pub login_failures_per_account_max: u32,
    /// Bytes of private XML that an account keeps (XEP-0049).
    pub private_bytes_max: u64,
    /// Bytes of an account's vCard (XEP-0054).
    pub vcard_bytes_max: u64,
    /// Offline messages of one account (XEP-0160 §2).
    pub offline_messages_max: u64,
    /// Bytes of them.
    pub offline_bytes_max: u64,
}

/// One local domain, complete: what it does not set itself is taken from the whole server.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainSettings {
    /// The prepared name.
    pub name: Domain,
    /// Its certificate chain; `None`: found in [`Tls::certificates`].
    pub certificate: Option<PathBuf>,
    /// Its private key; `None` with a certificate: in the certificate's file, or beside it. Never set
    /// alone.
    pub key: Option<PathBuf>,
    /// Its own DHE parameters; `None`: those of [`Tls::dhparam`].
    pub dhparam: Option<DhParam>,
    /// `[c2s]` as it holds for this domain.
    pub c2s: C2s,
    /// `[s2s]` as it holds for this domain.
    pub s2s: S2s,
    /// `[auth]` as it holds for this domain.
    pub auth: Auth,
    /// `[contact]` as it holds for this domain.
    pub contact: Contact,
    /// What the domain's features come to in a hash (XEP-0115 §5.1).
    pub ver: Kept,
}

/// What is computed of settings once, and kept with them. It is no part of them: it is neither compared
/// nor copied, as a copy may be changed.
#[derive(Debug, Default)]
pub struct Kept(OnceLock<String>);

impl Kept {
    /// What is kept; at first it is computed.
    pub fn get_or_init(&self, compute: impl FnOnce() -> String) -> &str {
        self.0.get_or_init(compute)
    }
}

impl Clone for Kept {
    fn clone(&self) -> Kept {
        Kept::default()
    }
}

impl PartialEq for Kept {
    fn eq(&self, _: &Kept) -> bool {
        true
    }
}

/// Where people reach those who run a domain: URIs for each purpose (XEP-0157).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// Reports of abuse.
    pub abuse: Vec<String>,
    /// The operators.
    pub admin: Vec<String>,
    /// What people think of the service.
    pub feedback: Vec<String>,
    /// Sales and marketing.
    pub sales: Vec<String>,
    /// Reports of security problems.
    pub security: Vec<String>,
    /// Where the state of the service is told.
    pub status: Vec<String>,
    /// Help.
    pub support: Vec<String>,
}

/// Streams of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct C2s {
    /// Whether TLS comes before SASL (RFC 6120 §5.3.1).
    pub require_encryption: bool,
    /// Whether PLAIN is offered on a stream without TLS.
    pub allow_unencrypted_plain: bool,
    /// Bytes of one stanza as received (RFC 6120 §13.12, item 4).
    pub stanza_bytes_max: usize,
    /// Seconds without a byte from the client, after which it is pinged; 0: never.
    pub idle_seconds: u64,
    /// Seconds in which a ping must be answered by anything at all.
    pub ping_timeout_seconds: u64,
    /// What a bind to a taken resource does (RFC 6120 §7.7.2.2).
    pub resource_conflict: ResourceConflict,
}

/// What a bind to a resource that the account has bound already does (RFC 6120 §7.7.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResourceConflict {
    /// The older session ends with `<conflict/>`.
    #[default]
    Replace,
    /// The bind gets `<conflict/>`.
    Refuse,
}

/// Streams of other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S2s {
    /// Whether there are any.
    pub enabled: bool,
    /// Whether TLS comes first (RFC 6120 §5.3.1).
    pub require_encryption: bool,
    /// Whether other servers prove themselves by a certificate.
    pub secure_auth: bool,
    /// Those that do so in any case.
    pub secure_domains: DomainList,
    /// Those for which dialback will do.
    pub insecure_domains: DomainList,
    /// Whether TLSA records decide about other servers, where they have some. Only with [`Dns::dnssec`].
    pub dane: bool,
    /// The only ones to be talked with, if there are any.
    pub allow: DomainList,
    /// Those that are not talked with.
    pub deny: DomainList,
    /// Bytes of one stanza as received.
    pub stanza_bytes_max: usize,
    /// Seconds in which nothing but pings is sent by either side, after which a stream is closed; 0: never.
    pub idle_seconds: u64,
    /// Seconds that a message waits for a server that is not reached.
    pub message_wait_seconds: u64,
    /// Seconds that another server's acknowledgement is waited for.
    pub ack_timeout_seconds: u64,
    /// What is known of single servers; never one of which nothing is.
    pub peers: BTreeMap<Domain, S2sPeer>,
}

/// Where names are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; none: those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Whether answers are validated.
    pub dnssec: bool,
    /// DNSKEY records to be trusted in place of the root zone's.
    pub trust_anchor: Option<NamedFile>,
}

/// Authentication of a domain's accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// What may be offered, in order of preference. Complete and free of contradictions after a
    /// load: no SCRAM with bcrypt storage or without its hash, EXTERNAL only with `client_ca`,
    /// ANONYMOUS only with `anonymous`.
    pub mechanisms: Vec<Mechanism>,
    /// In what form new credentials are stored.
    pub storage: Storage,
    /// For which hashes a SCRAM verifier is stored.
    pub hashes: Vec<Hash>,
    /// PBKDF2 iterations of new SCRAM verifiers.
    pub iterations: u32,
    /// Cost of new bcrypt hashes: the work is 2 to this power.
    pub bcrypt_cost: u32,
    /// Whether anybody may log in without an account (XEP-0175).
    pub anonymous: bool,
    /// Certificate authorities whose client certificates log in by EXTERNAL (XEP-0178).
    pub client_ca: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Server {
        Server {
            data: PathBuf::from("/var/lib/stanzad"),
            shards: 0,
            control: PathBuf::from("/run/stanzad/control.sock"),
        }
    }
}

impl Default for Listen {
    /// A `[::]` socket takes IPv4 too.
    fn default() -> Listen {
        let any = |port| vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))];
        Listen {
            c2s: any(5222),
            c2s_tls: any(5223),
            s2s: any(5269),
            s2s_tls: any(5270),
            // Nothing encrypts what is said with them.
            component: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 5347))],
        }
    }
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            certificates: PathBuf::from("/etc/stanzad/certs"),
            min_version: TlsVersion::V1_2,
            // Forward secrecy and AEAD only (RFC 9325 §4.2). DHE is last since it costs 13 times
            // what ECDHE does (`Measured` in lib.rs), and dormant until there are parameters.
            ciphers: "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!aDSS".to_owned(),
            ciphersuites:
                "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
                    .to_owned(),
            groups: None,
            dhparam: None,
            prefer_server_ciphers: true,
            ca: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // An office behind one IPv4 address fits; a single host cannot take all descriptors.
            connections_per_address_max: 1000,
            // All who are behind one address may come at once, and once more within the minute.
            new_connections_per_address_max: 2000,
            // 2,000 in a minute take some 1 % of a core (`Measured` in lib.rs).
            handshakes_per_address_max: 2000,
            // A picture of the largest size each second, and 1 % of a core at most.
            bytes_per_second_max: 256 * 1024,
            stanzas_per_second_max: 200,
            // What sixteen and ten clients may send at their limit: a server speaks for many.
            server_bytes_per_second_max: 4 * 1024 * 1024,
            server_stanzas_per_second_max: 2_000,
            unauthenticated_seconds_max: 30,
            resources_per_account_max: 10,
            // Rosters of 2,000 are seen in organisations that fill them for their people.
            roster_items_max: 2000,
            pending_requests_max: 100,
            // Four retries, within the two to five of RFC 6120 §6.4.5.
            login_failures_per_stream_max: 5,
            login_failures_per_address_max: 20,
            login_failures_per_account_max: 10,
            // Bookmarks, notes and settings of clients take a few KiB.
            private_bytes_max: 256 * 1024,
            // A picture of 90 KiB, in base64.
            vcard_bytes_max: 128 * 1024,
            // Two weeks away from a lively circle; a stranger who fills it takes 16 MiB of disk.
            offline_messages_max: 5_000,
            offline_bytes_max: 16_777_216,
        }
    }
}

impl Default for C2s {
    fn default() -> C2s {
        C2s {
            require_encryption: true,
            allow_unencrypted_plain: false,
            stanza_bytes_max: 262_144,
            // "Not more than once every 5 minutes" (RFC 6120 §4.6.4): it wakes phones.
            idle_seconds: 300,
            ping_timeout_seconds: 30,
            resource_conflict: ResourceConflict::Replace,
        }
    }
}

impl Default for S2s {
    fn default() -> S2s {
        S2s {
            enabled: true,
            require_encryption: true,
            secure_auth: true,
            secure_domains: DomainList::default(),
            insecure_domains: DomainList::default(),
            dane: false,
            allow: DomainList::default(),
            deny: DomainList::default(),
            // Twice what clients may send: a server passes on what it has taken.
            stanza_bytes_max: 524_288,
            idle_seconds: 600,
            message_wait_seconds: 3_600,
            ack_timeout_seconds: 60,
            peers: BTreeMap::new(),
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            mechanisms: default_mechanisms(),
            storage: Storage::Scram,
            hashes: vec![Hash::Sha256, Hash::Sha512, Hash::Sha1],
            iterations: 10_000,
            bcrypt_cost: 12,
            anonymous: false,
            client_ca: None,
        }
    }
}

impl Auth {
    /// How new passwords are stored.
    pub fn hash_policy(&self) -> HashPolicy {
        HashPolicy {
            storage: self.storage,
            hashes: self.hashes.clone(),
            iterations: self.iterations,
            bcrypt_cost: self.bcrypt_cost,
        }
    }
}

impl DomainSettings {
    /// A domain with nothing set.
    pub fn new(name: Domain) -> DomainSettings {
        DomainSettings {
            name,
            certificate: None,
            key: None,
            dhparam: None,
            c2s: C2s::default(),
            s2s: S2s::default(),
            auth: Auth::default(),
            contact: Contact::default(),
            ver: Kept::default(),
        }
    }
}

/// All mechanisms but those that need a switch of their own: EXTERNAL needs `client_ca`,
/// ANONYMOUS needs `anonymous`.
fn default_mechanisms() -> Vec<Mechanism> {
    let switched = |m: &Mechanism| matches!(m, Mechanism::External | Mechanism::Anonymous);
    let all = Mechanism::ALL.iter().copied();
    all.filter(|m| !switched(m)).collect()
}

//! TLS contexts: one generation of certificates and rules, chosen from by SNI inside the handshake.
//!
//! Left out on purpose: session tickets and the session cache. A full handshake with an ECDSA
//! certificate costs the server 145 µs and a resumed one 166 µs (`Measured` in lib.rs), so
//! resumption would buy nothing and bring ticket keys to rotate and destroy (RFC 9325 §3.4). 0-RTT
//! has no XMPP profile and must stay off (RFC 9325 §3.10).

mod settings;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    AlpnError, NameType, SniError, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode,
    SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode, SslVersion, select_next_proto,
};

pub use self::settings::{TlsDomain, TlsSettings, With};
pub use super::certificate::CertificateInfo;
use super::certificate::{Directory, Pair};
use super::dh_parameters::{self, DhGroup};
use crate::config::{DhParam, TlsVersion};

/// Key exchange groups by preference. No ffdhe groups: in TLS 1.3 a client could choose them and
/// make a handshake 13 times as costly (`Measured` in lib.rs).
pub const GROUPS: [&str; 4] = ["X25519MLKEM768", "X25519", "P-256", "P-384"];

/// The same for an OpenSSL older than 3.5.
const GROUPS_CLASSICAL: [&str; 3] = ["X25519", "P-256", "P-384"];

/// 112 bits of strength at the least: RSA and DH from 2048 bits, no SHA-1 signatures.
const SECURITY_LEVEL: u32 = 2;

/// Certificates of a peer that we take in one handshake, beyond which its chain is cut.
const PEER_CHAIN_DEPTH_MAX: u32 = 8;

/// The application protocols of clients and of servers, in the form of RFC 7301 §3.1.
pub(super) const ALPN_CLIENT: &[u8] = b"\x0bxmpp-client";
pub(super) const ALPN_SERVER: &[u8] = b"\x0bxmpp-server";

/// Why no contexts can be made: a sentence for people with the domain and file it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsProblem {
    /// The domain, if it is about one.
    pub domain: Option<String>,
    /// What is wrong, where, and what to do.
    pub text: String,
}

/// What people should know of a domain's certificates, with which the server does all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsWarning {
    /// The domain.
    pub domain: String,
    /// What it is about.
    pub about: Concern,
    /// What is wrong, and what to do.
    pub text: String,
}

/// What a [`TlsWarning`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The domain has no certificate, and none is needed.
    Absence,
    /// The names or the dates of a certificate.
    Certificate,
    /// DH parameters that are of no use.
    DhParameters,
    /// New files that are not usable, so that the old certificate stays in use.
    Renewal,
}

/// One generation of TLS contexts. Connections hold it until their handshake is done, and what they
/// chose from it for as long as they live: a reload disturbs none.
pub struct TlsContexts {
    by_name: HashMap<String, SslContext>,
    default: Option<SslContext>,
    /// For connections to other servers in the name of a domain that has no certificate.
    without_certificate: Option<SslContext>,
    certificates: Vec<CertificateInfo>,
    /// What all contexts have in common.
    rules: TlsSettings,
    choice: Index<Ssl, Choice>,
    dh_label: Index<SslContext, String>,
}

/// The contexts of one generation, by who is at the other end.
#[derive(Clone, Debug)]
pub struct TlsSets {
    /// For connections of clients.
    pub clients: Arc<TlsContexts>,
    /// For connections with other servers, accepted and dialled.
    pub servers: Arc<TlsContexts>,
}

/// What a handshake chooses from; carried by the connection so that contexts own no cycle.
struct Choice {
    /// Taken at the first ClientHello.
    contexts: Option<Arc<TlsContexts>>,
    alpn: &'static [u8],
}

/// Where OpenSSL keeps what is ours.
type Indexes = (Index<Ssl, Choice>, Index<SslContext, String>);

static CHOICE: OnceLock<Index<Ssl, Choice>> = OnceLock::new();
static DH_LABEL: OnceLock<Index<SslContext, String>> = OnceLock::new();

impl TlsContexts {
    /// Finds and checks the certificates of all domains and makes their contexts.
    ///
    /// # Errors
    /// Every problem there is, at once. Nothing is changed by a failed load.
    pub fn load(settings: &TlsSettings) -> Result<(TlsContexts, Vec<TlsWarning>), Vec<TlsProblem>> {
        TlsContexts::load_after(settings, None)
    }

    /// The same for a server that runs with `previous`: a domain whose new files are not usable
    /// keeps the certificates that it has, which is a warning, so that one renewal that went wrong
    /// does not hold up the others. Not if the rules of the whole server have changed: contexts of
    /// different rules do not go together (`TlsContexts::build`).
    ///
    /// # Errors
    /// As for [`TlsContexts::load`].
    pub fn load_after(
        settings: &TlsSettings,
        previous: Option<&TlsContexts>,
    ) -> Result<(TlsContexts, Vec<TlsWarning>), Vec<TlsProblem>> {
        let mut problems = check_rules(settings);
        let mut warnings = Vec::new();
        let (choice, dh_label) = indexes().map_err(|e| vec![TlsProblem::server(e.to_string())])?;
        let directory = Directory::scan(settings.certificates.as_deref());
        let mut contexts = TlsContexts {
            by_name: HashMap::new(),
            default: None,
            without_certificate: None,
            certificates: Vec::new(),
            rules: TlsSettings {
                domains: Vec::new(),
                ..settings.clone()
            },
            choice,
            dh_label,
        };
        let mut groups = DhCache::default();
        for domain in &settings.domains {
            let old = previous
                .filter(|previous| previous.rules == contexts.rules)
                .and_then(|previous| Some((previous, previous.by_name.get(&domain.name)?)));
            let found = match (directory.pairs(domain, &mut warnings), old) {
                (Ok(found), _) => found,
                (Err(found), Some((previous, context))) => {
                    warnings.extend(found.iter().map(|problem| {
                        let text = &problem.text;
                        let text = format!("{text}; the certificate that was in use stays in use");
                        TlsWarning::of(domain, Concern::Renewal, text)
                    }));
                    let infos = previous.certificates.iter();
                    let kept = infos.filter(|info| info.domain == domain.name).cloned();
                    contexts.add(domain, kept.collect(), context.clone());
                    continue;
                }
                (Err(found), None) => {
                    problems.extend(found);
                    continue;
                }
            };
            if found.is_empty() {
                continue;
            }
            let source = domain.dhparam.as_ref().or(settings.dhparam.as_ref());
            let dh = match source.map(|source| groups.get(source)).transpose() {
                Ok(dh) => dh,
                Err(text) => {
                    problems.push(TlsProblem::of(domain, text));
                    continue;
                }
            };
            if dh.is_some() && !found.iter().any(Pair::signs_with_rsa) {
                let text = "dhparam has no effect: DHE cipher suites need an RSA certificate, and there \
                            is none for this domain; add one beside the ECDSA one, or leave dhparam \
                            out";
                warnings.push(TlsWarning::of(
                    domain,
                    Concern::DhParameters,
                    text.to_owned(),
                ));
            }
            if problems.is_empty() {
                match contexts.build(settings, &found, dh.as_deref()) {
                    Ok(context) => {
                        let infos = found.iter().map(|pair| pair.info(&domain.name));
                        contexts.add(domain, infos.collect(), context);
                    }
                    Err(text) => problems.push(TlsProblem::of(domain, text)),
                }
            }
        }
        if problems.is_empty() && settings.with == With::Servers {
            match with_rules(settings) {
                Ok(context) => contexts.without_certificate = Some(context.build()),
                Err(error) => problems.push(TlsProblem::server(error.to_string())),
            }
        }
        // The parameters are checked even where no certificate makes use of them yet.
        if let Some(Err(text)) = settings.dhparam.as_ref().map(|source| groups.get(source)) {
            let problem = TlsProblem::server(text);
            problems.retain(|p| p.text != problem.text);
            problems.push(problem);
        }
        if problems.is_empty() {
            Ok((contexts, warnings))
        } else {
            Err(problems)
        }
    }

    /// Whether `domain` (either form of its name) has a certificate, so that TLS can be offered.
    pub fn has_certificate(&self, domain: &str) -> bool {
        self.by_name.contains_key(domain)
    }

    /// The certificates in use, in the order of the domains.
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.certificates
    }

    /// A server connection that waits for a ClientHello. `domain`'s certificate is shown to who
    /// sends no SNI, or a name we do not know; else the default's.
    ///
    /// # Errors
    /// If there is no certificate at all, or OpenSSL has no memory.
    pub(super) fn accept(self: &Arc<Self>, domain: Option<&str>) -> Result<Ssl, AcceptError> {
        let named = domain.and_then(|d| self.by_name.get(d));
        let context = named
            .or(self.default.as_ref())
            .ok_or(AcceptError::NoCertificate)?;
        let mut ssl = Ssl::new(context).map_err(AcceptError::OpenSsl)?;
        ssl.set_ex_data(
            self.choice,
            Choice {
                contexts: Some(self.clone()),
                alpn: self.alpn(),
            },
        );
        ssl.set_accept_state();
        Ok(ssl)
    }

    /// A connection to another server that is to send its ClientHello. `domain`'s certificate is shown
    /// if it is asked for, and `remote`, in A-labels, is whom we ask for. `is_direct`: TLS comes first,
    /// so that ALPN must tell the protocol (XEP-0368 §3).
    ///
    /// # Errors
    /// If these contexts are for clients, or OpenSSL has no memory.
    pub(super) fn connect(
        &self,
        domain: &str,
        remote: &str,
        is_direct: bool,
    ) -> Result<Ssl, AcceptError> {
        let context = match self.rules.with {
            With::Servers => self.by_name.get(domain),
            With::Clients { .. } => None,
        };
        let context = context
            .or(self.without_certificate.as_ref())
            .ok_or(AcceptError::NoCertificate)?;
        let new = || {
            let mut ssl = Ssl::new(context)?;
            // RFC 6066 §3: the domain, not the host of an SRV record (RFC 7590 §3.4, XEP-0368 §3).
            ssl.set_hostname(remote)?;
            if is_direct {
                ssl.set_alpn_protos(self.alpn())?;
            }
            ssl.set_connect_state();
            Ok(ssl)
        };
        new().map_err(AcceptError::OpenSsl)
    }

    fn alpn(&self) -> &'static [u8] {
        match self.rules.with {
            With::Clients { .. } => ALPN_CLIENT,
            With::Servers => ALPN_SERVER,
        }
    }

    fn add(&mut self, domain: &TlsDomain, infos: Vec<CertificateInfo>, context: SslContext) {
        self.default.get_or_insert_with(|| context.clone());
        self.certificates.extend(infos);
        self.by_name.insert(domain.ascii.clone(), context.clone());
        self.by_name.insert(domain.name.clone(), context);
    }

    /// The one way in which contexts are made: what OpenSSL does not swap along with a context
    /// (versions, suites, groups, options, verify mode: tried) must be the same in all.
    fn build(
        &self,
        settings: &TlsSettings,
        pairs: &[Pair],
        dh: Option<&DhGroup>,
    ) -> Result<SslContext, String> {
        let mut context = with_rules(settings).map_err(|e| e.to_string())?;
        for pair in pairs {
            pair.install(&mut context)?;
        }
        if let Some(dh) = dh {
            context
                .set_tmp_dh(&dh.params)
                .map_err(|e| format!("OpenSSL refuses the DH parameters: {e}"))?;
            context.set_ex_data(self.dh_label, dh.label.clone());
        }
        let choice = self.choice;
        context.set_servername_callback(move |ssl, _alert| choose_by_name(ssl, choice));
        // A context's callback is looked up after the swap, so each needs it.
        context.set_alpn_select_callback(move |ssl, offered| choose_protocol(ssl, choice, offered));
        Ok(context.build())
    }
}

impl fmt::Debug for TlsContexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsContexts")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

/// Swaps in the context of the domain that SNI names.
///
/// An unknown name goes on with what the connection began with and is not acknowledged. RFC 9325
/// §3.7 would rather have the handshake fail, against attacks across protocols; XMPP decides the
/// domain by the stream's `to` after TLS (RFC 7590 §3.5), clients name the host of an SRV record
/// here by mistake, and ALPN is what we are strict about.
fn choose_by_name(ssl: &mut SslRef, choice: Index<Ssl, Choice>) -> Result<(), SniError> {
    // A second ClientHello, after a HelloRetryRequest, finds the choice made.
    let Some(contexts) = ssl.ex_data_mut(choice).and_then(|c| c.contexts.take()) else {
        return Ok(());
    };
    let Some(name) = ssl.servername(NameType::HOST_NAME) else {
        return Err(SniError::NOACK);
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let Some(context) = contexts.by_name.get(&name) else {
        return Err(SniError::NOACK);
    };
    ssl.set_ssl_context(context)
        .map_err(|_| SniError::ALERT_FATAL)
}

/// Who offers protocols must offer ours: else `no_application_protocol` (RFC 7301 §3.2, a SHALL;
/// XEP-0368 §3 rule 8; RFC 9325 §3.8 against attacks across protocols). Who offers none never comes
/// here and is served: ALPN is a SHOULD for XMPP, and left out under STARTTLS.
fn choose_protocol<'a>(
    ssl: &mut SslRef,
    choice: Index<Ssl, Choice>,
    offered: &'a [u8],
) -> Result<&'a [u8], AlpnError> {
    let ours = ssl.ex_data(choice).map_or(ALPN_CLIENT, |c| c.alpn);
    select_next_proto(ours, offered).ok_or(AlpnError::ALERT_FATAL)
}

/// The label of the DH parameters that a connection's context has.
pub(super) fn dh_label(ssl: &SslRef) -> Option<&str> {
    ssl.ssl_context()
        .ex_data(*DH_LABEL.get()?)
        .map(String::as_str)
}

/// A context with all that is the same for every domain.
fn with_rules(settings: &TlsSettings) -> Result<SslContextBuilder, ErrorStack> {
    // A server connects to others with the rules and the certificate with which it accepts them.
    let mut context = SslContext::builder(match settings.with {
        With::Clients { .. } => SslMethod::tls_server(),
        With::Servers => SslMethod::tls(),
    })?;
    context.set_min_proto_version(Some(match settings.min_version {
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    }))?;
    context.set_cipher_list(&settings.ciphers)?;
    context.set_ciphersuites(&settings.ciphersuites)?;
    // After the list, which could carry a level of its own.
    context.set_security_level(SECURITY_LEVEL);
    set_groups(&mut context, settings.groups.as_deref())?;
    let mut options =
        SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION | SslOptions::NO_TICKET;
    if settings.prefer_server_ciphers {
        // A client that puts ChaCha20 first has no AES in hardware: it gets its wish.
        options |= SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::PRIORITIZE_CHACHA;
    } else {
        context.clear_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    context.set_options(options);
    context.set_num_tickets(0)?;
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_max_early_data(0)?;
    // NO_AUTO_CHAIN: else OpenSSL tries to build a chain in each handshake where the file has none.
    context.set_mode(
        SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::RELEASE_BUFFERS
            | SslMode::NO_AUTO_CHAIN,
    );
    let has_peer_certificates = match settings.with {
        With::Clients {
            request_certificate,
        } => request_certificate,
        With::Servers => true,
    };
    if has_peer_certificates {
        // Any certificate is let through: whether it proves anything depends on the domain, which is
        // known only when the stream's header has come (XEP-0178 §2).
        context.set_verify_callback(SslVerifyMode::PEER, |_valid, _chain| true);
        context.set_verify_depth(PEER_CHAIN_DEPTH_MAX);
        context.set_session_id_context(b"stanzad")?;
    }
    Ok(context)
}

fn set_groups(
    context: &mut SslContextBuilder,
    groups: Option<&[String]>,
) -> Result<(), ErrorStack> {
    match groups {
        Some(groups) => context.set_groups_list(&groups.join(":")),
        None => context
            .set_groups_list(&GROUPS.join(":"))
            .or_else(|_| context.set_groups_list(&GROUPS_CLASSICAL.join(":"))),
    }
}

/// Tries each rule by itself, so that the text can name the option.
fn check_rules(settings: &TlsSettings) -> Vec<TlsProblem> {
    let mut problems = Vec::new();
    let mut check = |option: &str,
                     value: &str,
                     set: &dyn Fn(&mut SslContextBuilder) -> Result<(), ErrorStack>,
                     hint: &str| {
        let result =
            SslContext::builder(SslMethod::tls_server()).and_then(|mut context| set(&mut context));
        if result.is_err() {
            problems.push(TlsProblem::server(format!(
                "tls.{option} = \"{value}\": {hint}"
            )));
        }
    };
    check(
        "ciphers",
        &settings.ciphers,
        &|c| c.set_cipher_list(&settings.ciphers),
        "OpenSSL knows no cipher suite by this; see openssl-ciphers(1) for the notation",
    );
    check(
        "ciphersuites",
        &settings.ciphersuites,
        &|c| c.set_ciphersuites(&settings.ciphersuites),
        "has a name that is no TLS 1.3 suite of this OpenSSL; names are like TLS_AES_256_GCM_SHA384",
    );
    if settings.groups.as_ref().is_some_and(Vec::is_empty) {
        problems.push(TlsProblem::server(
            "tls.groups is empty; name at least one, as \"X25519\"".to_owned(),
        ));
        return problems;
    }
    for group in settings.groups.iter().flatten() {
        check(
            "groups",
            group,
            &|c| c.set_groups_list(group),
            "this OpenSSL does not have this group",
        );
    }
    problems
}

fn indexes() -> Result<Indexes, ErrorStack> {
    // Two threads may both make one: an index costs a few bytes, and one of them is kept.
    let choice = match CHOICE.get() {
        Some(index) => *index,
        None => {
            let index = Ssl::new_ex_index()?;
            *CHOICE.get_or_init(|| index)
        }
    };
    let label = match DH_LABEL.get() {
        Some(index) => *index,
        None => {
            let index = SslContext::new_ex_index()?;
            *DH_LABEL.get_or_init(|| index)
        }
    };
    Ok((choice, label))
}

/// Parameters already read: checking them costs a second of CPU, and domains share them.
#[derive(Default)]
struct DhCache(Vec<(DhParam, Result<Arc<DhGroup>, String>)>);

impl DhCache {
    fn get(&mut self, source: &DhParam) -> Result<Arc<DhGroup>, String> {
        if let Some((_, known)) = self.0.iter().find(|(s, _)| s == source) {
            return known.clone();
        }
        let loaded = dh_parameters::load(source).map(Arc::new);
        self.0.push((source.clone(), loaded.clone()));
        loaded
    }
}

/// Why a handshake cannot begin.
#[derive(Debug)]
pub(super) enum AcceptError {
    NoCertificate,
    OpenSsl(ErrorStack),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::NoCertificate => f.write_str("there is no certificate for any domain"),
            AcceptError::OpenSsl(e) => write!(f, "OpenSSL cannot begin a handshake: {e}"),
        }
    }
}

impl std::error::Error for AcceptError {}

impl TlsProblem {
    pub(super) fn of(domain: &TlsDomain, text: String) -> TlsProblem {
        TlsProblem {
            domain: Some(domain.name.clone()),
            text,
        }
    }

    fn server(text: String) -> TlsProblem {
        TlsProblem { domain: None, text }
    }
}

impl TlsWarning {
    pub(super) fn of(domain: &TlsDomain, about: Concern, text: String) -> TlsWarning {
        TlsWarning {
            domain: domain.name.clone(),
            about,
            text,
        }
    }
}

impl fmt::Display for TlsWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "domain \"{}\": {}", self.domain, self.text)
    }
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.domain {
            Some(domain) => write!(f, "domain \"{domain}\": {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

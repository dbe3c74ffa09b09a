//! What TLS contexts are made of: the rules of TLS, and the files of each domain, as the configuration has
//! them.

use std::path::PathBuf;

use crate::config::{DhParam, Settings, Tls, TlsVersion};

/// The rules of TLS for the whole server, and the files of its domains.
///
/// Only certificate, key and DH parameters differ by domain: OpenSSL takes version, suites, groups
/// and options from the context with which a connection began, before the name is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Where certificates are looked for that no domain names; `None`: nowhere.
    pub certificates: Option<PathBuf>,
    /// The lowest version.
    pub min_version: TlsVersion,
    /// TLS 1.2 cipher suites in OpenSSL's notation.
    pub ciphers: String,
    /// TLS 1.3 cipher suites, separated by colons.
    pub ciphersuites: String,
    /// Key exchange groups by preference; `None`: [`super::GROUPS`], as far as this OpenSSL has them.
    pub groups: Option<Vec<String>>,
    /// Turns on DHE for TLS 1.2.
    pub dhparam: Option<DhParam>,
    /// Whether our order of suites counts, and not the client's.
    pub prefer_server_ciphers: bool,
    /// With whom.
    pub with: With,
    /// The domains served, in order: the first one with a certificate is the default.
    pub domains: Vec<TlsDomain>,
}

/// Who is at the other end. Nobody's certificate is checked in the handshake: what it proves depends
/// on the domain, which is known only when the stream's header has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Clients that connect to us.
    Clients {
        /// Whether they are asked for a certificate. Any is taken and none is needed; what it proves
        /// is found out by [`crate::net::certificate::client_identities`].
        request_certificate: bool,
    },
    /// Other servers, whoever connects. Both show their certificates (XEP-0178 §3).
    Servers,
}

/// What a domain has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsDomain {
    /// The domainpart, as in a JID.
    pub name: String,
    /// The same in A-labels, as in SNI and certificates.
    pub ascii: String,
    /// Certificate chain in PEM, leaf first; `None`: look in the directory.
    pub certificate: Option<PathBuf>,
    /// Its key; `None`: in the certificate's file, or beside it.
    pub key: Option<PathBuf>,
    /// Takes the place of [`TlsSettings::dhparam`].
    pub dhparam: Option<DhParam>,
    /// Whether the domain is useless without a certificate, because it requires encryption.
    pub required: bool,
}

impl TlsSettings {
    /// What the configuration says, for streams of clients.
    pub fn for_clients(settings: &Settings) -> TlsSettings {
        let request_certificate = settings
            .domains
            .values()
            .any(|domain| domain.auth.client_ca.is_some());
        TlsSettings::from_config(
            settings,
            With::Clients {
                request_certificate,
            },
        )
    }

    /// The same for streams of servers.
    pub fn for_servers(settings: &Settings) -> TlsSettings {
        TlsSettings::from_config(settings, With::Servers)
    }

    fn from_config(settings: &Settings, with: With) -> TlsSettings {
        let components = settings.component_domains().map(|domain| (domain, false));
        let domains = settings.domains.values().map(|domain| {
            let required = with != With::Servers && domain.c2s.require_encryption;
            (domain, required)
        });
        // Other servers find components as they find domains.
        let domains = domains
            .chain(components)
            .map(|(domain, required)| TlsDomain {
                name: domain.name.as_str().to_owned(),
                ascii: domain.name.to_ascii(),
                certificate: domain.certificate.clone(),
                key: domain.key.clone(),
                dhparam: domain.dhparam.clone(),
                required,
            });
        TlsSettings {
            domains: domains.collect(),
            ..TlsSettings::rules(&settings.tls, with)
        }
    }

    /// The rules of the whole server, without any domain.
    pub fn rules(tls: &Tls, with: With) -> TlsSettings {
        TlsSettings {
            certificates: Some(tls.certificates.clone()),
            min_version: tls.min_version,
            ciphers: tls.ciphers.clone(),
            ciphersuites: tls.ciphersuites.clone(),
            groups: tls.groups.clone(),
            dhparam: tls.dhparam.clone(),
            prefer_server_ciphers: tls.prefer_server_ciphers,
            with,
            domains: Vec::new(),
        }
    }
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings::rules(
            &Tls::default(),
            With::Clients {
                request_certificate: false,
            },
        )
    }
}

//! From the conf file to the rules of TLS: what `net` wants to know of it, for the start, each
//! reload, and `check config`.

use crate::config::{self, Settings};
use crate::net::tls::{DhParam, TlsDomain, TlsSettings, TlsVersion};
use crate::sasl::Mechanism;

/// The rules of TLS that a configuration asks for.
pub fn tls_settings(settings: &Settings) -> TlsSettings {
    let tls = &settings.tls;
    let wants_client_certificate = |domain: &config::DomainSettings| {
        domain.auth.client_ca.is_some() && domain.auth.mechanisms.contains(&Mechanism::External)
    };
    TlsSettings {
        certificates: Some(tls.certificates.clone()),
        min_version: match tls.min_version {
            config::TlsVersion::V1_2 => TlsVersion::V1_2,
            config::TlsVersion::V1_3 => TlsVersion::V1_3,
        },
        ciphers: tls.ciphers.clone(),
        ciphersuites: tls.ciphersuites.clone(),
        groups: tls.groups.clone(),
        dhparam: tls.dhparam.as_ref().map(dhparam),
        prefer_server_ciphers: tls.prefer_server_ciphers,
        request_client_certificate: settings
            .domains
            .values()
            .any(|domain| wants_client_certificate(domain)),
        domains: settings
            .domains
            .values()
            .map(|domain| tls_domain(domain))
            .collect(),
    }
}

fn tls_domain(domain: &config::DomainSettings) -> TlsDomain {
    TlsDomain {
        name: domain.name.as_str().to_string(),
        ascii: domain.name.to_ascii(),
        certificate: domain.certificate.clone(),
        key: domain.key.clone(),
        dhparam: domain.dhparam.as_ref().map(dhparam),
        required: domain.c2s.require_encryption,
    }
}

fn dhparam(given: &config::DhParam) -> DhParam {
    match given {
        config::DhParam::File(path) => DhParam::File(path.clone()),
        config::DhParam::Named(name) => DhParam::Named((*name).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn rules(text: &str) -> TlsSettings {
        tls_settings(&config::parse(text, Path::new("stanzad.toml")).unwrap())
    }

    #[test]
    fn a_domain_that_requires_encryption_requires_a_certificate() {
        let rules = rules(
            "[domain.\"a.example\"]\n\
             [domain.\"b.example\".c2s]\n\
             require_encryption = false\n",
        );
        let required: Vec<_> = rules.domains.iter().map(|domain| domain.required).collect();
        assert_eq!(required, [true, false]);
    }

    #[test]
    fn the_files_and_parameters_of_a_domain_are_its_own() {
        let rules = rules(
            "[tls]\n\
             min_version = \"1.3\"\n\
             [domain.\"a.example\"]\n\
             certificate = \"/a.pem\"\n\
             key = \"/a.key\"\n\
             dhparam = \"ffdhe3072\"\n\
             [domain.\"b.example\"]\n",
        );
        assert_eq!(rules.min_version, TlsVersion::V1_3);
        let [a, b] = &rules.domains[..] else {
            panic!("{:?}", rules.domains);
        };
        assert_eq!(a.certificate.as_deref(), Some(Path::new("/a.pem")));
        assert_eq!(a.key.as_deref(), Some(Path::new("/a.key")));
        assert!(matches!(&a.dhparam, Some(DhParam::Named(name)) if name == "ffdhe3072"));
        assert!(b.certificate.is_none() && b.key.is_none() && b.dhparam.is_none());
    }

    #[test]
    fn clients_are_asked_for_certificates_only_where_external_is_on() {
        let with = "[auth]\n\
                    mechanisms = [\"EXTERNAL\"]\n\
                    client_ca = \"/ca.pem\"\n\
                    [domain.\"a.example\"]\n";
        assert!(rules(with).request_client_certificate);
        assert!(!rules("[domain.\"a.example\"]\n").request_client_certificate);
    }
}

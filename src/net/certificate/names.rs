//! The names a certificate is for (RFC 6120 §13.7.1, RFC 9525).

use std::fmt;
use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::x509::X509Ref;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{GeneralName, OtherName};

use crate::jid::Domain;
use crate::limits;

/// `id-on-xmppAddr` (RFC 6120 §13.7.1.4).
const ID_ON_XMPP_ADDR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.5");

/// `id-on-dnsSRV` (RFC 4985).
const ID_ON_DNS_SRV: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.8.7");

/// The subject alternative names that XMPP knows. The common name is not one (RFC 9525 §2).
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    dns: Vec<String>,
    /// "_xmpp-client.example.org".
    srv: Vec<String>,
    /// A domain for servers, a bare JID for clients.
    xmpp: Vec<String>,
}

/// A name in a certificate, as it stands there (RFC 9525 §2, RFC 6120 §13.7.1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identifier {
    /// A dNSName: "example.org" or "*.example.org".
    DnsId(String),
    /// An `id-on-dnsSRV`: "_xmpp-server.example.org".
    SrvId(String),
    /// An `id-on-xmppAddr`: "example.org", also in U-labels.
    XmppAddr(String),
}

impl Names {
    pub(super) fn of(certificate: &X509Ref) -> Result<Names, ErrorStack> {
        Ok(Names::from_der(&certificate.to_der()?))
    }

    /// What is not in DER as it should be has no names: such a certificate proves nothing.
    pub(super) fn from_der(der: &[u8]) -> Names {
        let mut names = Names::default();
        let Ok(certificate) = Certificate::from_der(der) else {
            return names;
        };
        let Ok(Some((_critical, alternatives))) = certificate
            .tbs_certificate()
            .get_extension::<SubjectAltName>()
        else {
            return names;
        };
        for name in alternatives
            .0
            .into_iter()
            .take(limits::CERTIFICATE_NAMES_MAX)
        {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.to_string()),
                GeneralName::OtherName(other) => names.add_other(&other),
                _ => {}
            }
        }
        names
    }

    fn add_other(&mut self, other: &OtherName) {
        if other.type_id == ID_ON_XMPP_ADDR {
            if let Ok(address) = other.value.decode_as::<Utf8StringRef<'_>>() {
                self.xmpp.push(address.to_string());
            }
        } else if other.type_id == ID_ON_DNS_SRV
            && let Ok(name) = other.value.decode_as::<Ia5StringRef<'_>>()
        {
            self.srv.push(name.to_string());
        }
    }

    pub(super) fn dns(&self) -> &[String] {
        &self.dns
    }

    pub(super) fn xmpp_addresses(self) -> Vec<String> {
        self.xmpp
    }

    /// Whether a server of the domain may show this certificate to clients: DNS-ID, SRV-ID for
    /// xmpp-client, or XmppAddr (RFC 6120 §13.7.2). `ascii` in A-labels, `name` as in JIDs.
    pub(super) fn cover(&self, ascii: &str, name: &str) -> bool {
        self.dns.iter().any(|pattern| dns_matches(pattern, ascii))
            || self.srv.iter().any(|srv| {
                srv_host(srv, "_xmpp-client").is_some_and(|host| dns_matches(host, ascii))
            })
            || self
                .xmpp
                .iter()
                .any(|address| address.eq_ignore_ascii_case(name))
    }

    /// The DNS-ID that is for `ascii`, in A-labels (RFC 9525 §6.3). None is for an address: that
    /// would be an IP-ID, which XMPP has not.
    pub(super) fn dns_id_for(&self, ascii: &str) -> Option<Identifier> {
        if ascii.parse::<IpAddr>().is_ok() || ascii.starts_with('[') {
            return None;
        }
        let mut dns = self.dns.iter();
        dns.find(|pattern| dns_matches(pattern, ascii))
            .map(|dns| Identifier::DnsId(dns.clone()))
    }

    /// The SRV-ID for xmpp-server (RFC 9525 §6.5), else the XmppAddr (RFC 6120 §13.7.2.1), that is
    /// for `ascii`, in A-labels.
    pub(super) fn xmpp_id_for(&self, ascii: &str) -> Option<Identifier> {
        let srv = self
            .srv
            .iter()
            .find(|srv| srv_host(srv, "_xmpp-server").is_some_and(|host| dns_matches(host, ascii)));
        let xmpp = || {
            self.xmpp.iter().find(|address| {
                // A domain in U-labels is compared by its A-labels, as RFC 9525 §6.3 asks.
                Domain::parse(address).is_ok_and(|domain| domain.to_ascii() == ascii)
            })
        };
        srv.map(|srv| Identifier::SrvId(srv.clone()))
            .or_else(|| xmpp().map(|address| Identifier::XmppAddr(address.clone())))
    }

    pub(super) fn identifiers(&self) -> Vec<Identifier> {
        let dns = self.dns.iter().cloned().map(Identifier::DnsId);
        let srv = self.srv.iter().cloned().map(Identifier::SrvId);
        let xmpp = self.xmpp.iter().cloned().map(Identifier::XmppAddr);
        dns.chain(srv).chain(xmpp).collect()
    }

    /// Whether `ascii` stands in it as it is, and not by a wildcard.
    pub(super) fn has_exactly(&self, ascii: &str) -> bool {
        self.dns.iter().any(|dns| dns.eq_ignore_ascii_case(ascii))
    }

    pub(super) fn for_people(&self) -> String {
        let all: Vec<_> = self
            .dns
            .iter()
            .chain(&self.srv)
            .chain(&self.xmpp)
            .map(String::as_str)
            .collect();
        if all.is_empty() {
            "no name at all".to_owned()
        } else {
            all.join(", ")
        }
    }
}

impl fmt::Display for Identifier {
    /// "DNS-ID example.org". A peer chose the bytes: what controls a terminal is escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Identifier::DnsId(name) => ("DNS-ID", name),
            Identifier::SrvId(name) => ("SRV-ID", name),
            Identifier::XmppAddr(name) => ("XmppAddr", name),
        };
        write!(f, "{kind} {}", name.escape_debug())
    }
}

/// The domain of an SRV-ID if it is for the service, whose case does not count (RFC 9525 §6.5).
fn srv_host<'a>(srv: &'a str, service: &str) -> Option<&'a str> {
    let (name, host) = srv.split_once('.')?;
    name.eq_ignore_ascii_case(service).then_some(host)
}

/// RFC 9525 §6.3: case does not count; a wildcard is the whole leftmost label and stands for one.
fn dns_matches(pattern: &str, name: &str) -> bool {
    if pattern.eq_ignore_ascii_case(name) {
        return true;
    }
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(parent), Some((label, rest))) => {
            !label.is_empty() && parent.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Issued;
    use super::*;
    use proptest::prelude::*;

    // RFC 9525 §6.3.
    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (pattern, name, matches) in [
            ("example.org", "example.org", true),
            ("EXAMPLE.org", "example.ORG", true),
            ("*.example.org", "chat.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", "a.b.example.org", false),
            ("*.example.org", ".example.org", false),
            ("c*.example.org", "chat.example.org", false),
            ("*", "example", false),
            ("example.org", "example.org.evil", false),
        ] {
            assert_eq!(dns_matches(pattern, name), matches, "{pattern} {name}");
        }
    }

    // RFC 6120 §13.7.1.2.
    #[test]
    fn xmpp_and_srv_names_count_for_a_server() {
        let issued = Issued::new()
            .xmpp("example.org")
            .srv("_xmpp-client.example.net")
            .build();
        let names = Names::of(&issued.certificate).unwrap();
        assert!(names.cover("example.org", "example.org"));
        assert!(names.cover("example.net", "example.net"));
        assert!(!names.cover("example.com", "example.com"));
    }

    // RFC 9525 §6.5.
    #[test]
    fn the_service_of_an_srv_id_is_compared_without_case_and_whole() {
        for (srv, matches) in [
            ("_xmpp-server.example.org", true),
            ("_XMPP-Server.Example.ORG", true),
            ("_xmpp-client.example.org", false),
            ("_xmpp-server-x.example.org", false),
            ("xmpp-server.example.org", false),
            ("_xmpp-server", false),
            ("_xmpp-server.", false),
        ] {
            let issued = Issued::new().srv(srv).build();
            let names = Names::of(&issued.certificate).unwrap();
            let found = names.xmpp_id_for("example.org").is_some();
            assert_eq!(found, matches, "{srv}");
        }
    }

    /// A DER element of any tag, with a length of any size.
    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let mut der = vec![tag, 0x84];
        if content.len() < 128 {
            der = vec![tag, length[3]];
        } else {
            let skipped = length.iter().take_while(|byte| **byte == 0).count();
            der[1] = 0x80 | u8::try_from(4 - skipped).unwrap();
            der.extend_from_slice(&length[skipped..]);
        }
        der.extend_from_slice(content);
        der
    }

    proptest! {
        #[test]
        fn any_value_of_an_other_name_is_a_name_or_none(
            srv in any::<bool>(),
            tag in any::<u8>(),
            content in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let issued = Issued::new().other(srv, element(tag, &content)).try_build();
            // OpenSSL itself refuses to put some of them into a certificate.
            if let Some(issued) = issued {
                let names = Names::of(&issued.certificate).unwrap();
                let found = names.srv.iter().chain(&names.xmpp);
                for name in found {
                    prop_assert_eq!(name.as_bytes(), &content[..]);
                }
                names.xmpp_id_for("example.org");
                names.identifiers().iter().for_each(|i| drop(i.to_string()));
            }
        }

        #[test]
        fn a_certificate_with_other_bytes_does_not_panic(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut der = template();
            for (at, byte) in changes {
                let at = at.index(der.len());
                der[at] = byte;
            }
            let names = Names::from_der(&der);
            names.xmpp_id_for("example.org");
            names.dns_id_for("example.org");
        }
    }

    fn template() -> Vec<u8> {
        static TEMPLATE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let make = || {
            let wish = Issued::new()
                .dns("*.example.org")
                .srv("_xmpp-server.example.org");
            let issued = wish.xmpp("example.org").build();
            issued.certificate.to_der().unwrap()
        };
        TEMPLATE.get_or_init(make).clone()
    }

    #[test]
    fn names_beyond_the_limit_are_left_out() {
        let mut wish = Issued::new();
        for number in 0..=limits::CERTIFICATE_NAMES_MAX {
            wish = wish.dns(&format!("{number}.example.org"));
        }
        let names = Names::of(&wish.build().certificate).unwrap();
        assert_eq!(names.dns.len(), limits::CERTIFICATE_NAMES_MAX);
    }

    // RFC 9525 §2: CN-ID is gone.
    #[test]
    fn the_common_name_is_no_name() {
        let issued = Issued::new().common_name("example.org").build();
        assert!(
            !Names::of(&issued.certificate)
                .unwrap()
                .cover("example.org", "example.org")
        );
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        let issued = Issued::new().xmpp("juliet@example.org").build();
        let der = issued.certificate.to_der().unwrap();
        assert_eq!(Names::from_der(&der).xmpp, ["juliet@example.org"]);
        for end in 0..der.len() {
            assert!(Names::from_der(&der[..end]).xmpp.is_empty());
        }
    }
}

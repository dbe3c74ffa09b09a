//! The names a certificate is for (RFC 6120 §13.7.1, RFC 9525).

use openssl::error::ErrorStack;
use openssl::x509::X509Ref;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{Ia5StringRef, ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::{GeneralName, OtherName};

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
        for name in alternatives.0 {
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
                srv.strip_prefix("_xmpp-client.")
                    .is_some_and(|host| dns_matches(host, ascii))
            })
            || self
                .xmpp
                .iter()
                .any(|address| address.eq_ignore_ascii_case(name))
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

//! `<stream:features/>` (RFC 6120 §4.3.2): what may be negotiated next, in the order of XEP-0170.

use crate::config::DomainSettings;
use crate::ns;
use crate::router::feature::StreamFeatureContext;
use crate::router::pipeline::Pipeline;
use crate::sasl::Mechanism;
use crate::sasl::scram::{Binding, Bindings};
use crate::stream::policy::c2s::{self as policy, Facts, StartTls};

/// What a stream was offered; later steps are checked against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Whether and how STARTTLS was.
    pub starttls: StartTls,
    /// The SASL mechanisms.
    pub mechanisms: Vec<Mechanism>,
    /// The channel bindings (XEP-0440).
    pub bindings: Vec<Binding>,
}

impl Offer {
    /// What a stream of a domain is offered before authentication. The channel bindings are
    /// announced only beside a `-PLUS` mechanism.
    pub fn new(domain: &DomainSettings, facts: Facts, bindings: &Bindings) -> Offer {
        let mechanisms = policy::mechanisms(&domain.c2s, &domain.auth, facts);
        let has_plus = mechanisms
            .iter()
            .any(|mechanism| mechanism.scram().is_some_and(|(_, plus)| plus));
        Offer {
            starttls: policy::starttls(&domain.c2s, facts),
            bindings: if has_plus {
                bindings.available()
            } else {
                Vec::new()
            },
            mechanisms,
        }
    }

    /// Whether any `-PLUS` mechanism was offered (RFC 5802 §6).
    pub fn has_plus(&self) -> bool {
        !self.bindings.is_empty()
    }
}

/// Writes the features before authentication. Where STARTTLS is required it stands alone
/// (RFC 6120 §5.3.1).
pub fn write_before_authentication(
    out: &mut Vec<u8>,
    offer: &Offer,
    domain: &DomainSettings,
    pipeline: &Pipeline,
    stanza_bytes_max: usize,
) {
    out.extend_from_slice(b"<stream:features>");
    match offer.starttls {
        StartTls::No => {}
        StartTls::Optional => write_empty(out, "starttls", ns::TLS),
        StartTls::Required => {
            out.extend_from_slice(b"<starttls xmlns='");
            out.extend_from_slice(ns::TLS.as_bytes());
            out.extend_from_slice(b"'><required/></starttls></stream:features>");
            return;
        }
    }
    write_mechanisms(out, offer);
    let context = StreamFeatureContext {
        pipeline,
        domain,
        authenticated: false,
        stanza_bytes_max,
    };
    pipeline.write_stream_features(&context, out);
    out.extend_from_slice(b"</stream:features>");
}

fn write_mechanisms(out: &mut Vec<u8>, offer: &Offer) {
    if offer.mechanisms.is_empty() {
        return;
    }
    out.extend_from_slice(b"<mechanisms xmlns='");
    out.extend_from_slice(ns::SASL.as_bytes());
    out.extend_from_slice(b"'>");
    for mechanism in &offer.mechanisms {
        out.extend_from_slice(b"<mechanism>");
        out.extend_from_slice(mechanism.name().as_bytes());
        out.extend_from_slice(b"</mechanism>");
    }
    out.extend_from_slice(b"</mechanisms>");
    if offer.bindings.is_empty() {
        return;
    }
    out.extend_from_slice(b"<sasl-channel-binding xmlns='");
    out.extend_from_slice(ns::CHANNEL_BINDING.as_bytes());
    out.extend_from_slice(b"'>");
    for binding in &offer.bindings {
        out.extend_from_slice(b"<channel-binding type='");
        out.extend_from_slice(binding.name().as_bytes());
        out.extend_from_slice(b"'/>");
    }
    out.extend_from_slice(b"</sasl-channel-binding>");
}

/// Writes the features after authentication: resource binding, which must come next
/// (RFC 6120 §7.2).
pub fn write_after_authentication(out: &mut Vec<u8>, domain: &DomainSettings, pipeline: &Pipeline) {
    out.extend_from_slice(b"<stream:features>");
    write_empty(out, "bind", ns::BIND);
    let context = StreamFeatureContext {
        pipeline,
        domain,
        authenticated: true,
        stanza_bytes_max: domain.c2s.stanza_bytes_max,
    };
    pipeline.write_stream_features(&context, out);
    out.extend_from_slice(b"</stream:features>");
}

fn write_empty(out: &mut Vec<u8>, name: &str, namespace: &str) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b" xmlns='");
    out.extend_from_slice(namespace.as_bytes());
    out.extend_from_slice(b"'/>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, C2s};
    use crate::features::FEATURES;
    use crate::jid::Domain;
    use crate::stream::testing::top;

    fn domain(require_encryption: bool) -> DomainSettings {
        DomainSettings {
            name: Domain::parse("example.org").unwrap(),
            certificate: None,
            key: None,
            dhparam: None,
            c2s: C2s {
                require_encryption,
                ..C2s::default()
            },
            auth: Auth::default(),
            contact: crate::config::Contact::default(),
        }
    }

    fn facts(is_encrypted: bool, has_binding: bool) -> Facts {
        Facts {
            is_encrypted,
            has_certificate: true,
            has_binding,
            has_client_identity: false,
        }
    }

    fn bindings(exporter: bool, end_point: bool) -> Bindings {
        Bindings {
            exporter: exporter.then(|| vec![1; 32]),
            end_point: end_point.then(|| vec![2; 32]),
        }
    }

    fn before(domain: &DomainSettings, facts: Facts, bindings: &Bindings) -> String {
        let offer = Offer::new(domain, facts, bindings);
        let mut out = Vec::new();
        write_before_authentication(&mut out, &offer, domain, &Pipeline::new(FEATURES), 10_000);
        let text = String::from_utf8(out).unwrap();
        assert!(top(&text).is(ns::STREAM, "features"), "it is well-formed");
        text
    }

    /// RFC 6120 §5.3.1.
    #[test]
    fn required_starttls_stands_alone() {
        let written = before(&domain(true), facts(false, false), &Bindings::default());
        assert_eq!(
            written,
            "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/>\
             </starttls></stream:features>"
        );
    }

    #[test]
    fn optional_starttls_stands_beside_mechanisms_without_plain() {
        let written = before(&domain(false), facts(false, false), &Bindings::default());
        assert!(written.contains("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"));
        assert!(written.contains("<mechanism>SCRAM-SHA-256</mechanism>"));
        assert!(
            !written.contains("PLUS") && !written.contains("PLAIN"),
            "{written}"
        );
        assert!(!written.contains("sasl-channel-binding"));
    }

    /// XEP-0440 §3.
    #[test]
    fn the_bindings_of_the_connection_are_announced_beside_plus() {
        let written = before(&domain(true), facts(true, true), &bindings(true, true));
        assert!(!written.contains("<starttls"));
        assert!(written.contains("<mechanism>SCRAM-SHA-256-PLUS</mechanism>"));
        assert!(written.contains(
            "<channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/>"
        ));
        let written = before(&domain(true), facts(true, true), &bindings(false, true));
        assert!(!written.contains("tls-exporter"), "{written}");
    }

    /// RFC 6120 §7.2, XEP-0478 §3.
    #[test]
    fn after_a_login_the_bind_comes_first_and_the_limits_are_the_domains() {
        let mut out = Vec::new();
        write_after_authentication(&mut out, &domain(true), &Pipeline::new(FEATURES));
        let written = String::from_utf8(out).unwrap();
        assert!(top(&written).is(ns::STREAM, "features"));
        let bind = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
        assert!(written.starts_with(bind), "{written}");
        assert!(
            written.contains("<max-bytes>262144</max-bytes>"),
            "{written}"
        );
        assert!(!written.contains("mechanism"));
    }
}

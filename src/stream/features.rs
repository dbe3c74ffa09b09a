//! `<stream:features/>` (RFC 6120 §4.3.2): what may be negotiated next, in the order of XEP-0170.

use crate::config::DomainSettings;
use crate::ns;
use crate::router::feature::StreamFeatureContext;
use crate::router::pipeline::Pipeline;
use crate::sasl::Mechanism;
use crate::sasl::scram::{Binding, Bindings};
use crate::stream::policy::{self, Facts, StartTls};

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

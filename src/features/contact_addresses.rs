//! Contact Addresses for XMPP Services (XEP-0157 1.1.1), in the form of XEP-0128 that a domain's
//! disco#info carries.

use crate::config::DomainSettings;
use crate::ns;
use crate::router::feature::{Feature, Spec};
use crate::stanza::forms::ResultForm;

/// XEP-0157.
pub static FEATURE: Feature = Feature {
    specs: &[
        Spec {
            id: "XEP-0157",
            version: "1.1.1",
        },
        Spec {
            id: "XEP-0128",
            version: "1.0.1",
        },
    ],
    disco_form: Some(form),
    ..Feature::named("contact-addresses")
};

/// §3. Nothing where the operator has given no address.
fn form(domain: &DomainSettings) -> Option<ResultForm> {
    let contact = &domain.contact;
    let fields = [
        ("abuse-addresses", &contact.abuse),
        ("admin-addresses", &contact.admin),
        ("feedback-addresses", &contact.feedback),
        ("sales-addresses", &contact.sales),
        ("security-addresses", &contact.security),
        ("status-addresses", &contact.status),
        ("support-addresses", &contact.support),
    ];
    let mut given = fields
        .into_iter()
        .filter(|(_, uris)| !uris.is_empty())
        .peekable();
    given.peek()?;
    Some(
        given.fold(ResultForm::new(ns::SERVER_INFO), |form, (var, uris)| {
            form.list(var, uris.iter().map(String::as_str))
        }),
    )
}

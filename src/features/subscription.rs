//! Presence subscriptions (RFC 6121 §3): what the router does with subscription stanzas is in
//! `router::subscription`. Here is what a session gets of it: the requests that wait, when it becomes
//! available (§3.1.3), and the word that requests can be approved before they come (§3.4).

use crate::ns;
use crate::router::feature::{
    Feature, SessionEvent, SessionHook, Spec, StreamFeature, StreamFeatureContext,
};

/// RFC 6121 §3.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "RFC 6121 §3",
        version: "",
    }],
    session: &[SessionHook {
        event: SessionEvent::Available,
        run: |router, session| router.deliver_requests(session),
    }],
    stream_features: &[StreamFeature { write }],
    ..Feature::named("subscription")
};

/// RFC 6121 §3.4.
fn write(context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
    if context.authenticated {
        out.extend_from_slice(b"<sub xmlns='");
        out.extend_from_slice(ns::PRE_APPROVAL.as_bytes());
        out.extend_from_slice(b"'/>");
    }
}

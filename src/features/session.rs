//! Session Establishment (RFC 3921 §3): a step that RFC 6121 took out and old clients still take. The
//! stream feature says that it is optional, and the request is answered, since there is nothing to do.

use crate::ns;
use crate::router::feature::{
    Answer, Feature, IqContext, IqRoute, Spec, StreamFeature, StreamFeatureContext, Target,
};
use crate::router::iq::done;
use crate::stanza::Type;

/// RFC 3921 §3.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "RFC 3921 §3",
        version: "",
    }],
    iq: &[
        IqRoute {
            target: Target::Domain,
            type_: Type::Set,
            ns: ns::SESSION,
            name: "session",
            handler: establish,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Set,
            ns: ns::SESSION,
            name: "session",
            handler: establish,
        },
    ],
    stream_features: &[StreamFeature { write }],
    ..Feature::named("session")
};

fn establish(_: &IqContext<'_>) -> Answer {
    done()
}

fn write(context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
    if context.authenticated {
        out.extend_from_slice(b"<session xmlns='");
        out.extend_from_slice(ns::SESSION.as_bytes());
        out.extend_from_slice(b"'><optional/></session>");
    }
}

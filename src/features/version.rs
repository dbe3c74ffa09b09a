//! Software Version (XEP-0092 1.1). The operating system is not told: it helps nobody but attackers (§5).

use crate::ns;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target};
use crate::stanza::Type;
use crate::xml::Element;
use crate::xml::Payload;

/// XEP-0092.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0092",
        version: "1.1",
    }],
    disco: &[Disco {
        target: Target::Domain,
        var: ns::VERSION,
    }],
    iq: &[IqRoute {
        target: Target::Domain,
        type_: Type::Get,
        ns: ns::VERSION,
        name: "query",
        handler: version,
    }],
    ..Feature::named("version")
};

fn version(_: &IqContext<'_>) -> Answer {
    let query = Element::new(ns::VERSION, "query")
        .child(Element::new(ns::VERSION, "name").with_text("stanzad"))
        .child(Element::new(ns::VERSION, "version").with_text(env!("CARGO_PKG_VERSION")));
    Answer::Now(Payload::from_elements(&[query]))
}

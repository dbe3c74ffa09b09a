//! Entity Time (XEP-0202 2.0) of domains. It is UTC: where the machine stands is nobody's business.

use crate::ns;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target};
use crate::stanza::Type;
use crate::xml::{Element, Payload};

/// XEP-0202.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0202",
        version: "2.0",
    }],
    disco: &[Disco {
        target: Target::Domain,
        var: ns::TIME,
    }],
    iq: &[IqRoute {
        target: Target::Domain,
        type_: Type::Get,
        ns: ns::TIME,
        name: "time",
        handler: time,
    }],
    ..Feature::named("entity-time")
};

fn time(context: &IqContext<'_>) -> Answer {
    let time = Element::new(ns::TIME, "time")
        .child(Element::new(ns::TIME, "tzo").with_text("+00:00"))
        .child(Element::new(ns::TIME, "utc").with_text(context.now.wall.date_time()));
    Answer::Now(Payload::from_elements(&[time]))
}

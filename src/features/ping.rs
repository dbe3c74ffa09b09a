//! XMPP Ping (XEP-0199 2.0.1): pings to the domain and to one's own account are answered (§4.1, §4.2).

use crate::ns;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target};
use crate::router::iq::done;
use crate::stanza::Type;

/// XEP-0199.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0199",
        version: "2.0.1",
    }],
    disco: &[
        Disco {
            target: Target::Domain,
            var: ns::PING,
        },
        Disco {
            target: Target::OwnAccount,
            var: ns::PING,
        },
    ],
    iq: &[
        IqRoute {
            target: Target::Domain,
            type_: Type::Get,
            ns: ns::PING,
            name: "ping",
            handler: pong,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::PING,
            name: "ping",
            handler: pong,
        },
    ],
    ..Feature::named("ping")
};

fn pong(_: &IqContext<'_>) -> Answer {
    done()
}

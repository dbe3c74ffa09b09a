//! Service Discovery (XEP-0030 2.5.0) of domains and of one's own account.
//!
//! A stranger's question about an account is answered as for one that does not exist (§8): the roster,
//! which says who is no stranger, comes later. Neither domains nor accounts have nodes yet.

use crate::ns;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target};
use crate::stanza::Type;
use crate::stanza::{Condition, StanzaError};
use crate::xml::Element;
use crate::xml::Payload;

/// XEP-0030.
pub static FEATURE: Feature = Feature {
    name: "disco",
    specs: &[Spec {
        id: "XEP-0030",
        version: "2.5.0",
    }],
    disco: &[
        Disco {
            target: Target::Domain,
            var: ns::DISCO_INFO,
        },
        Disco {
            target: Target::Domain,
            var: ns::DISCO_ITEMS,
        },
        Disco {
            target: Target::OwnAccount,
            var: ns::DISCO_INFO,
        },
        Disco {
            target: Target::OwnAccount,
            var: ns::DISCO_ITEMS,
        },
    ],
    iq: &[
        IqRoute {
            target: Target::Domain,
            type_: Type::Get,
            ns: ns::DISCO_INFO,
            name: "query",
            handler: domain_info,
        },
        IqRoute {
            target: Target::Domain,
            type_: Type::Get,
            ns: ns::DISCO_ITEMS,
            name: "query",
            handler: items,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::DISCO_INFO,
            name: "query",
            handler: account_info,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::DISCO_ITEMS,
            name: "query",
            handler: items,
        },
    ],
    hooks: &[],
    session: &[],
    stream_features: &[],
};

fn domain_info(context: &IqContext<'_>) -> Answer {
    info(context, Target::Domain, "server", "im", Some("stanzad"))
}

fn account_info(context: &IqContext<'_>) -> Answer {
    let is_anonymous = context.account.is_some_and(|account| {
        matches!(
            account.standing,
            crate::router::account::Standing::Anonymous
        )
    });
    let type_ = if is_anonymous {
        "anonymous"
    } else {
        "registered"
    };
    info(context, Target::OwnAccount, "account", type_, None)
}

fn info(
    context: &IqContext<'_>,
    target: Target,
    category: &str,
    type_: &str,
    name: Option<&str>,
) -> Answer {
    if has_node(context) {
        return no_such_node();
    }
    let mut identity = Element::new(ns::DISCO_INFO, "identity")
        .attr("category", category)
        .attr("type", type_);
    if let Some(name) = name {
        identity = identity.attr("name", name);
    }
    let mut query = Element::new(ns::DISCO_INFO, "query").child(identity);
    for var in context.pipeline.disco(target) {
        query = query.child(Element::new(ns::DISCO_INFO, "feature").attr("var", var));
    }
    Answer::Now(Payload::from_elements(&[query]))
}

/// Neither has items yet, which an empty list says (§4.1).
fn items(context: &IqContext<'_>) -> Answer {
    if has_node(context) {
        return no_such_node();
    }
    Answer::Now(Payload::from_elements(&[Element::new(
        ns::DISCO_ITEMS,
        "query",
    )]))
}

fn has_node(context: &IqContext<'_>) -> bool {
    context
        .request()
        .attribute("node")
        .is_some_and(|node| !node.is_empty())
}

/// XEP-0030 §7.
fn no_such_node() -> Answer {
    Answer::Error(StanzaError::new(Condition::ItemNotFound))
}

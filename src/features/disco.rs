//! Service Discovery (XEP-0030 2.5.0) of domains, and of accounts by those who may see their presence.
//!
//! A stranger learns no more of an account than of a name that does not exist (§8): no information, and
//! no items. A domain's items are components; an account's items are its available resources. There are
//! no nodes yet but those of entity capabilities.

use crate::config::DomainSettings;
use crate::jid::Domain;
use crate::ns;
use crate::router::account::Standing;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target};
use crate::router::pipeline::Pipeline;
use crate::stanza::Type;
use crate::stanza::{Condition, StanzaError};
use crate::xml::Element;
use crate::xml::Payload;

/// XEP-0030.
pub static FEATURE: Feature = Feature {
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
            target: Target::Contact,
            var: ns::DISCO_INFO,
        },
        Disco {
            target: Target::Contact,
            var: ns::DISCO_ITEMS,
        },
    ],
    iq: &[
        route(Target::Domain, ns::DISCO_INFO, domain_info),
        route(Target::Domain, ns::DISCO_ITEMS, domain_items),
        route(Target::Contact, ns::DISCO_INFO, account_info),
        route(Target::Contact, ns::DISCO_ITEMS, account_items),
        route(Target::Account, ns::DISCO_ITEMS, no_items),
    ],
    ..Feature::named("disco")
};

const fn route(
    target: Target,
    ns: &'static str,
    handler: crate::router::feature::IqHandler,
) -> IqRoute {
    IqRoute {
        target,
        type_: Type::Get,
        ns,
        name: "query",
        handler,
    }
}

fn domain_info(context: &IqContext<'_>) -> Answer {
    let query = info_of_domain(context.pipeline, context.domain);
    match context.request().attribute("node") {
        None | Some("") => {}
        // XEP-0115 §6.2: the node that the stream features have told.
        Some(node) if node == super::capabilities::node(&query) => {
            let query = query.attr("node", node);
            return Answer::Now(Payload::from_elements(&[query]));
        }
        Some(_) => return no_such_node(),
    }
    Answer::Now(Payload::from_elements(&[query]))
}

/// What a domain says of itself (§3.1).
pub(super) fn info_of_domain(pipeline: &Pipeline, domain: &DomainSettings) -> Element {
    let query = query(
        identity("server", "im").attr("name", "stanzad"),
        pipeline.disco(&[Target::Domain]),
    );
    pipeline
        .disco_forms(domain)
        .fold(query, |query, form| query.child(form.into_element()))
}

fn account_info(context: &IqContext<'_>) -> Answer {
    if has_node(context) {
        return no_such_node();
    }
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    let type_ = match account.standing {
        Standing::Anonymous => "anonymous",
        _ => "registered",
    };
    let targets: &[Target] = if context.asker.bare_str() == account.jid.as_str() {
        &[Target::Account, Target::Contact, Target::OwnAccount]
    } else {
        &[Target::Account, Target::Contact]
    };
    let query = query(identity("account", type_), context.pipeline.disco(targets));
    Answer::Now(Payload::from_elements(&[query]))
}

fn identity(category: &str, type_: &str) -> Element {
    Element::new(ns::DISCO_INFO, "identity")
        .attr("category", category)
        .attr("type", type_)
}

fn query(identity: Element, vars: impl Iterator<Item = &'static str>) -> Element {
    let query = Element::new(ns::DISCO_INFO, "query").child(identity);
    vars.fold(query, |query, var| {
        query.child(Element::new(ns::DISCO_INFO, "feature").attr("var", var))
    })
}

/// The components below a domain, and those that are below none of this server's, which belong to all. A
/// domain without any has an empty list (§4.1).
fn domain_items(context: &IqContext<'_>) -> Answer {
    if has_node(context) {
        return no_such_node();
    }
    let settings = context.settings;
    let is_below = |name: &str, domain: &str| {
        let above = name.strip_suffix(domain);
        above.is_some_and(|above| above.ends_with('.'))
    };
    // The nearest, where one domain is below another.
    let home = |name: &str| {
        let domains = settings.domains.keys().map(Domain::as_str);
        domains
            .filter(|domain| is_below(name, domain))
            .max_by_key(|domain| domain.len())
    };
    let own = context.domain.name.as_str();
    let components = settings.components.keys().map(Domain::as_str);
    let listed: Vec<&str> = components
        .filter(|name| home(name).is_none_or(|home| home == own))
        .collect();
    items(&listed)
}

fn account_items(context: &IqContext<'_>) -> Answer {
    if has_node(context) {
        return no_such_node();
    }
    let resources: Vec<&str> = context.available.iter().map(|jid| jid.as_str()).collect();
    items(&resources)
}

/// §8: whether the request names a node or not, and whether there is such an account.
fn no_items(_: &IqContext<'_>) -> Answer {
    items(&[])
}

fn items(jids: &[&str]) -> Answer {
    let query = jids
        .iter()
        .fold(Element::new(ns::DISCO_ITEMS, "query"), |query, jid| {
            query.child(Element::new(ns::DISCO_ITEMS, "item").attr("jid", *jid))
        });
    Answer::Now(Payload::from_elements(&[query]))
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

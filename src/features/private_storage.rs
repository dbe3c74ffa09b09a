//! Private XML Storage (XEP-0049 1.2): clients keep what is theirs, by namespace and name.
//!
//! Reserved namespaces are stored like others: refusing them is optional (§2.3), and helps nobody.
//! Several elements of one namespace and name in one set are kept, and given back, together.

use crate::limits::PRIVATE_SET_ELEMENTS_MAX;
use crate::ns;
use crate::router::account::Standing;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target, value};
use crate::router::storage_value;
use crate::stanza::{Condition, StanzaError, Type};
use crate::storage::StoreError;
use crate::storage::account_data::{self, Private, Stored};
use crate::xml::{Element, Node, Payload};

/// XEP-0049.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0049",
        version: "1.2",
    }],
    disco: &[Disco {
        target: Target::OwnAccount,
        var: ns::PRIVATE,
    }],
    iq: &[
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::PRIVATE,
            name: "query",
            handler: get,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Set,
            ns: ns::PRIVATE,
            name: "query",
            handler: set,
        },
    ],
    ..Feature::named("private-storage")
};

fn get(context: &IqContext<'_>) -> Answer {
    let request = context.request();
    let mut elements = request.elements();
    let (Some(wanted), None) = (elements.next(), elements.next()) else {
        let error = StanzaError::new(Condition::BadRequest)
            .text("Ask for the element of one namespace at a time");
        return Answer::Error(error);
    };
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    let (jid, wanted) = (
        account.jid.clone(),
        Element::new(&*wanted.ns, &*wanted.name),
    );
    let (ns, name) = (wanted.ns.clone(), wanted.name.clone());
    Answer::Later(
        Box::new(move |db| Ok(value(account_data::private(db, &jid, &ns, &name)?))),
        Box::new(move |_, _, result| {
            let stored = result.and_then(storage_value::<Option<Payload>>)?;
            let mut query = Element::new(ns::PRIVATE, "query");
            match stored {
                None => query = query.child(wanted),
                Some(kept) => query.nodes = kept.nodes(),
            }
            Ok(Payload::from_elements(&[query]))
        }),
    )
}

fn set(context: &IqContext<'_>) -> Answer {
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    if matches!(account.standing, Standing::Anonymous) {
        let error = StanzaError::new(Condition::NotAllowed).text("Anonymous users store nothing");
        return Answer::Error(error);
    }
    let items = match items(context.request()) {
        Ok(items) => items,
        Err(error) => return Answer::Error(error),
    };
    let jid = account.jid.clone();
    let bytes_max = context.settings.limits.private_bytes_max;
    Answer::Change(
        Box::new(move |db| {
            Ok(value(account_data::set_private(
                db, &jid, &items, bytes_max,
            )?))
        }),
        Box::new(
            move |_, _, result| match result.and_then(storage_value::<Stored>) {
                Ok(Stored::Yes) => Ok(Payload::empty()),
                Ok(Stored::OverQuota) => Err(over_quota(bytes_max)),
                Err(StoreError::NotFound) => Err(StanzaError::new(Condition::ServiceUnavailable)),
                Err(error) => Err(error.into()),
            },
        ),
    )
}

/// The elements of a set, those of one namespace and name together. An element that is empty takes
/// away what was there: a get answers alike.
fn items(request: Element) -> Result<Vec<Private>, StanzaError> {
    let mut items: Vec<Private> = Vec::new();
    let mut count = 0;
    for node in request.nodes {
        let Node::Element(element) = node else {
            continue;
        };
        if element.ns.is_empty() || element.ns == ns::PRIVATE {
            let error = StanzaError::new(Condition::NotAcceptable)
                .text("Each element needs a namespace of its own");
            return Err(error);
        }
        count += 1;
        if count > PRIVATE_SET_ELEMENTS_MAX {
            let text = format!("Store at most {PRIVATE_SET_ELEMENTS_MAX} elements at a time");
            return Err(StanzaError::new(Condition::PolicyViolation).text(text));
        }
        let is_empty = element.nodes.is_empty() && element.attributes.is_empty();
        let xml = (!is_empty).then(|| element.to_bytes());
        let same = |item: &&mut Private| item.ns == element.ns && item.name == element.name;
        match (items.iter_mut().find(same), xml) {
            (None, xml) => items.push(Private {
                ns: element.ns,
                name: element.name,
                xml,
            }),
            (Some(item), Some(xml)) => item.xml.get_or_insert_default().extend(xml),
            (Some(_), None) => {}
        }
    }
    if items.is_empty() {
        // §2.3.
        return Err(StanzaError::new(Condition::NotAcceptable).text("There is nothing to store"));
    }
    Ok(items)
}

/// RFC 6120 §8.3.3.12: the policy is the operator's quota, and asking again does not help.
fn over_quota(bytes_max: u64) -> StanzaError {
    let text = format!("You may keep {bytes_max} bytes of private data; delete some first");
    StanzaError::new(Condition::PolicyViolation).text(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(children: &str) -> Element {
        let xml = format!("<query xmlns='jabber:iq:private'>{children}</query>");
        let payload = Payload::from_canonical(xml.into_bytes()).unwrap();
        payload.element(&payload.children()[0])
    }

    #[test]
    fn elements_of_one_name_are_kept_together_and_empty_ones_delete() {
        let found = items(query(
            "<a xmlns='x'>1</a><b xmlns='x'/><a xmlns='y'>2</a><a xmlns='x'>3</a>",
        ))
        .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|item| {
                let xml = item.xml.as_deref().map(|xml| str::from_utf8(xml).unwrap());
                (&*item.ns, &*item.name, xml)
            })
            .collect();
        let both = "<a xmlns='x'>1</a><a xmlns='x'>3</a>";
        let expected = [
            ("x", "a", Some(both)),
            ("x", "b", None),
            ("y", "a", Some("<a xmlns='y'>2</a>")),
        ];
        assert_eq!(found, expected);
    }

    /// Each element is a statement or two of the store's only writer.
    #[test]
    fn a_set_has_a_few_elements_at_most() {
        let set = |count: usize, name: fn(usize) -> String| {
            let elements = (0..count).map(|n| format!("<{0} xmlns='x'>1</{0}>", name(n)));
            items(query(&elements.collect::<String>())).map(|items| items.len())
        };
        let max = PRIVATE_SET_ELEMENTS_MAX;
        assert_eq!(set(max, |n| format!("a{n}")), Ok(max));
        assert_eq!(set(max, |_| "a".to_owned()), Ok(1));
        for name in [|n| format!("a{n}"), |_| "a".to_owned()] as [fn(usize) -> String; 2] {
            let refused = set(max + 1, name).unwrap_err();
            assert_eq!(refused.condition, Condition::PolicyViolation);
        }
    }

    /// XEP-0049 §2.3.
    #[test]
    fn an_element_without_a_namespace_of_its_own_is_refused() {
        for children in ["", "text", "<a/>"] {
            let refused = items(query(children)).unwrap_err();
            assert_eq!(refused.condition, Condition::NotAcceptable, "{children}");
        }
    }
}

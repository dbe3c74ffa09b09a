//! vcard-temp (XEP-0054 1.3.0): an account's vCard, stored whole and shown to whoever asks.
//!
//! To others, an account without a vCard and a name without an account answer alike (§3.3), after the
//! same read of the store. For the same reason another's vCard is refused to be set with
//! `service-unavailable` rather than the `forbidden` that §3.2 prefers.

use crate::ns;
use crate::router::account::Standing;
use crate::router::feature::{Answer, Disco, Feature, IqContext, IqRoute, Spec, Target, value};
use crate::router::storage_value;
use crate::stanza::{Condition, StanzaError, Type};
use crate::storage::{StoreError, account_data};
use crate::xml::{Element, Payload};

/// XEP-0054.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0054",
        version: "1.3.0",
    }],
    disco: &[
        Disco {
            target: Target::Domain,
            var: ns::VCARD,
        },
        Disco {
            target: Target::OwnAccount,
            var: ns::VCARD,
        },
    ],
    iq: &[
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::VCARD,
            name: "vCard",
            handler: get_own,
        },
        IqRoute {
            target: Target::Account,
            type_: Type::Get,
            ns: ns::VCARD,
            name: "vCard",
            handler: get,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Set,
            ns: ns::VCARD,
            name: "vCard",
            handler: set,
        },
    ],
    ..Feature::named("vcard-temp")
};

/// §3.1. Where there is none, an empty one rather than `item-not-found`: slixmpp reads the old vCard
/// before it sets an avatar, and gives up on an error.
fn get_own(context: &IqContext<'_>) -> Answer {
    let none = || Ok(Payload::from_elements(&[Element::new(ns::VCARD, "vCard")]));
    read(context, none)
}

/// §3.3.
fn get(context: &IqContext<'_>) -> Answer {
    read(context, || {
        Err(StanzaError::new(Condition::ServiceUnavailable))
    })
}

fn read(context: &IqContext<'_>, none: fn() -> Result<Payload, StanzaError>) -> Answer {
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    let jid = account.jid.clone();
    Answer::Later(
        Box::new(move |db| Ok(value(account_data::vcard(db, &jid)?))),
        Box::new(move |_, _, result| {
            let stored = result.and_then(storage_value::<Option<Payload>>)?;
            stored.map_or_else(none, Ok)
        }),
    )
}

/// §3.2.
fn set(context: &IqContext<'_>) -> Answer {
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    if matches!(account.standing, Standing::Anonymous) {
        let error = StanzaError::new(Condition::NotAllowed).text("Anonymous users store nothing");
        return Answer::Error(error);
    }
    let bytes = context.stanza.payload.child_bytes(context.child);
    let bytes_max = context.settings.limits.vcard_bytes_max;
    if bytes.len() as u64 > bytes_max {
        let text = format!("A vCard may have {bytes_max} bytes; a smaller picture helps");
        return Answer::Error(StanzaError::new(Condition::PolicyViolation).text(text));
    }
    let is_empty = context.request().nodes.is_empty();
    let xml = (!is_empty).then(|| bytes.to_vec());
    let jid = account.jid.clone();
    Answer::Change(
        Box::new(move |db| {
            account_data::set_vcard(db, &jid, xml.as_deref())?;
            Ok(value(()))
        }),
        Box::new(|_, _, result| match result {
            Ok(_) => Ok(Payload::empty()),
            Err(StoreError::NotFound) => Err(StanzaError::new(Condition::ServiceUnavailable)),
            Err(error) => Err(error.into()),
        }),
    )
}

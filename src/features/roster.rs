//! The roster (RFC 6121 §2): get, set and remove, with versions. Pushes are the router's
//! (`router::roster`), since subscriptions make them too.
//!
//! Left out: rosters that are kept elsewhere, which the RFC leaves to other documents (§2).
//!
//! Invariants: a result comes before every push of a later version (both are written while the account
//! is busy with their change or snapshot); nobody but the account itself learns anything of its roster,
//! not even that there is one.

use std::collections::HashSet;

use crate::jid::prep::prepare_resource;
use crate::jid::{BareJid, Jid};
use crate::limits::{
    ROSTER_GROUP_BYTES_MAX, ROSTER_GROUPS_MAX, ROSTER_NAME_BYTES_MAX, ROSTER_TEXT_BYTES_MAX,
};
use crate::ns;
use crate::router::account::Standing;
use crate::router::feature::{
    Answer, Disco, Feature, Hook, HookContext, IqContext, IqRoute, Spec, Stage, StreamFeature,
    StreamFeatureContext, Target, Verdict, value,
};
use crate::router::subscription::removal_handoffs;
use crate::router::{Router, roster, storage_value};
use crate::slots::Key;
use crate::stanza::{Condition, ErrorType, StanzaError};
use crate::stanza::{Kind, Stanza, Type};
use crate::storage::handoff::Handoff;
use crate::storage::roster::{Item, State};
use crate::storage::{Db, StoreError, roster as stored};
use crate::xml::{Element, Payload};

/// RFC 6121 §2.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "RFC 6121 §2",
        version: "",
    }],
    disco: &[
        Disco {
            target: Target::Domain,
            var: ns::ROSTER,
        },
        Disco {
            target: Target::OwnAccount,
            var: ns::ROSTER,
        },
    ],
    iq: &[
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Get,
            ns: ns::ROSTER,
            name: "query",
            handler: get,
        },
        IqRoute {
            target: Target::OwnAccount,
            type_: Type::Set,
            ns: ns::ROSTER,
            name: "query",
            handler: set,
        },
        IqRoute {
            target: Target::Account,
            type_: Type::Set,
            ns: ns::ROSTER,
            name: "query",
            handler: forbid,
        },
    ],
    hooks: &[Hook {
        stage: Stage::OutboundCheck,
        run: check,
    }],
    stream_features: &[StreamFeature { write }],
    ..Feature::named("roster")
};

/// RFC 6121 §2.6.1.
fn write(context: &StreamFeatureContext<'_>, out: &mut Vec<u8>) {
    if context.authenticated {
        out.extend_from_slice(b"<ver xmlns='");
        out.extend_from_slice(ns::ROSTER_VERSIONING.as_bytes());
        out.extend_from_slice(b"'/>");
    }
}

/// RFC 6121 §2.1.6 has clients look at the sender of what seems to be a roster push; not all do. Pushes
/// come from servers: no client has a reason to send one to somebody else's resource.
fn check(context: &HookContext<'_>, stanza: &mut Stanza) -> Verdict {
    if stanza.kind != Kind::Iq || stanza.type_ != Type::Set {
        return Verdict::Continue;
    }
    let is_to_others = stanza
        .to
        .as_ref()
        .is_some_and(|to| to.is_full() && to.bare_str() != context.account.jid.as_str());
    if is_to_others && stanza.payload.find(ns::ROSTER, "query").is_some() {
        return Verdict::Reject(forbidden());
    }
    Verdict::Continue
}

/// RFC 6121 §2.3.3. A name without an account gets here too (`router::delivery`), so the answer tells
/// nothing.
fn forbid(_: &IqContext<'_>) -> Answer {
    Answer::Error(forbidden())
}

fn forbidden() -> StanzaError {
    StanzaError::new(Condition::Forbidden).text("Only its owner may change a roster")
}

// --- get

/// What a roster get is answered with.
enum Fetched {
    /// The whole roster, as it goes out.
    Whole(Payload),
    /// What has changed since the client's version: pushes, each with its own version.
    Changes(Vec<(u64, Payload)>),
}

/// Interim pushes that are always preferred to a whole roster.
const FEW: usize = 16;

fn get(context: &IqContext<'_>) -> Answer {
    let query = context.request();
    if items(&query).next().is_some() {
        // §2.1.3.
        let error = StanzaError::new(Condition::BadRequest).text("A roster get has no items");
        return Answer::Error(error);
    }
    let account_id = match context.account.map(|account| &account.standing) {
        Some(Standing::Known(record)) => record.id,
        // XEP-0175: whoever is anonymous has no contacts. `ver` would be a promise to keep them.
        _ => {
            let empty = Element::new(ns::ROSTER, "query");
            return Answer::Now(Payload::from_elements(&[empty]));
        }
    };
    let since = query.attribute("ver").and_then(version);
    let conn = context.session.map(|session| session.conn);
    let resource = context.asker.resource().map(str::to_owned);
    Answer::Snapshot(
        Box::new(move |db| Ok(value(fetch(db, account_id, since)?))),
        Box::new(move |router, account, result| {
            let fetched = result.and_then(storage_value::<Fetched>)?;
            let asker = resource.and_then(|resource| {
                let key = router.session_of(account, &resource)?;
                let session = router.sessions.get_mut(key)?;
                // Another client may have taken the resource over meanwhile.
                (Some(session.conn) == conn).then_some(())?;
                // §2.2: from now on it gets pushes.
                session.is_interested = true;
                Some((key, session.jid.clone()))
            });
            match (fetched, asker) {
                (Fetched::Whole(payload), _) => Ok(payload),
                (Fetched::Changes(pushes), Some((key, jid))) => {
                    // §2.6.3: an empty result, and then the pushes.
                    let pushes = pushes.into_iter();
                    router.after_reply.extend(
                        pushes
                            .map(|(version, payload)| (key, roster::push(&jid, version, payload))),
                    );
                    Ok(Payload::empty())
                }
                (Fetched::Changes(_), None) => Ok(Payload::empty()),
            }
        }),
    )
}

/// A version that this server has given out (§2.1.1), as far as its form tells.
fn version(ver: &str) -> Option<u64> {
    let version: u64 = ver.parse().ok()?;
    (version.to_string() == ver).then_some(version)
}

/// On a reader: a shard has better things to do than to write thousands of items.
fn fetch(db: &Db, account_id: i64, since: Option<u64>) -> Result<Fetched, StoreError> {
    if let Some(since) = since
        && let Some(changes) = stored::changes(db, account_id, since)?
    {
        // §2.6.3: the whole roster where it uses less bandwidth. A push costs about twice an item.
        let pushes = changes.items.len();
        if pushes <= FEW || 2 * pushes <= changes.listed {
            let items = changes.items.iter();
            let pushes = items.map(|item| (item.version, roster::push_payload(item)));
            return Ok(Fetched::Changes(pushes.collect()));
        }
    }
    let listed = stored::listed(db, account_id)?;
    let mut query = roster::query(listed.version);
    for item in &listed.items {
        query = query.child(roster::item_element(item));
    }
    Ok(Fetched::Whole(Payload::from_elements(&[query])))
}

// --- set

/// What a roster set asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Keep {
        name: Option<String>,
        groups: Vec<String>,
    },
    Remove,
}

fn set(context: &IqContext<'_>) -> Answer {
    let (contact, wish) = match parse(&context.request()) {
        Ok(parsed) => parsed,
        Err(error) => return Answer::Error(error),
    };
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    let Standing::Known(record) = &account.standing else {
        // XEP-0175 §3.3: what an anonymous user begins would have to end with its session.
        let error =
            StanzaError::new(Condition::NotAllowed).text("Anonymous users have no contacts");
        return Answer::Error(error);
    };
    let Some(roster) = &account.roster else {
        // It is loaded before the first session is let in (`router::loading`).
        ::log::error!(jid:% = account.jid; "a session without a roster");
        return Answer::Error(StanzaError::new(Condition::InternalServerError));
    };
    let old = roster.state(contact.as_str());
    match wish {
        Wish::Remove if old.is_listed() => remove(account.jid.clone(), contact, old),
        // §2.5.3, where it has this type.
        Wish::Remove => Answer::Error(
            StanzaError::new(Condition::ItemNotFound)
                .with_type(ErrorType::Modify)
                .text("This is none of your contacts"),
        ),
        // §2.3.3, interoperability note.
        Wish::Keep { .. } if contact == account.jid => Answer::Error(
            StanzaError::new(Condition::NotAllowed).text("You are none of your own contacts"),
        ),
        Wish::Keep { .. }
            if !old.is_listed()
                && roster.is_full(context.settings.limits.roster_items_max as usize) =>
        {
            Answer::Error(roster::full())
        }
        Wish::Keep { name, groups } => keep(record.id, contact, name, groups),
    }
}

fn keep(account_id: i64, contact: BareJid, name: Option<String>, groups: Vec<String>) -> Answer {
    Answer::Change(
        Box::new(move |db| {
            let name = name.as_deref();
            let item = stored::set_item(
                db,
                account_id,
                &contact,
                name,
                &groups,
                ROSTER_TEXT_BYTES_MAX,
            )?;
            Ok(value(item))
        }),
        Box::new(|router, account, result| {
            let item = result
                .and_then(storage_value::<Option<Item>>)?
                .ok_or_else(roster::full)?;
            committed(router, account, &item.contact, item.state);
            router.push_roster(account, &item);
            Ok(Payload::empty())
        }),
    )
}

/// RFC 6121 §2.5.
fn remove(own: BareJid, contact: BareJid, old: State) -> Answer {
    let removed = contact.clone();
    Answer::Change(
        Box::new(move |db| {
            let item = stored::set_state(db, &own, &removed, State::NONE, None)?;
            let handoffs = removal_handoffs(db, &own, &removed, old)?;
            Ok(value((item, handoffs)))
        }),
        Box::new(move |router, account, result| {
            let (item, handoffs) =
                result.and_then(storage_value::<(Option<Item>, Vec<Handoff>)>)?;
            committed(router, account, &contact, State::NONE);
            if let Some(item) = item {
                router.push_roster(account, &item);
            }
            router.removed_from_roster(account, &contact, old, handoffs);
            Ok(Payload::empty())
        }),
    )
}

/// Memory follows the commit (`Commit first` in lib.rs).
fn committed(router: &mut Router, account: Key, contact: &BareJid, state: State) {
    let account = router.accounts.get_mut(account);
    if let Some(roster) = account.and_then(|account| account.roster.as_mut()) {
        roster.set(contact, state);
    }
}

fn items(query: &Element) -> impl Iterator<Item = &Element> {
    query
        .elements()
        .filter(|child| child.is(ns::ROSTER, "item"))
}

/// The one item of a roster set (§2.1.5, §2.3.3). What clients must not set (`ask`, `approved`, any
/// `subscription` but "remove") is not looked at.
fn parse(query: &Element) -> Result<(BareJid, Wish), StanzaError> {
    let mut items = items(query);
    let (Some(item), None) = (items.next(), items.next()) else {
        return Err(
            StanzaError::new(Condition::BadRequest).text("A roster set has exactly one item")
        );
    };
    let jid = item
        .attribute("jid")
        .ok_or_else(|| StanzaError::new(Condition::BadRequest).text("A roster item needs a JID"))?;
    let jid = Jid::parse(jid).map_err(|error| {
        StanzaError::new(Condition::JidMalformed).text(format!("This is no JID: {error}"))
    })?;
    if jid.is_full() {
        // Subscriptions are between bare JIDs (§3.1.2). Cutting the resource off would answer for
        // another item than the one that was set.
        return Err(StanzaError::new(Condition::BadRequest)
            .text("A roster item is a bare JID, without a resource"));
    }
    let wish = match item.attribute("subscription") {
        Some("remove") => Wish::Remove,
        _ => Wish::Keep {
            name: name(item)?,
            groups: groups(item)?,
        },
    };
    Ok((jid.bare(), wish))
}

/// §2.4.1: an empty name is none.
fn name(item: &Element) -> Result<Option<String>, StanzaError> {
    let name = item.attribute("name").unwrap_or_default();
    if name.len() > ROSTER_NAME_BYTES_MAX {
        return Err(not_acceptable("The name is too long"));
    }
    Ok(Some(name)
        .filter(|name| !name.is_empty())
        .map(str::to_owned))
}

fn groups(item: &Element) -> Result<Vec<String>, StanzaError> {
    let mut groups = Vec::new();
    let mut seen = HashSet::new();
    let elements = item
        .elements()
        .filter(|child| child.is(ns::ROSTER, "group"));
    for element in elements {
        let group = element.text();
        if group.is_empty() {
            return Err(not_acceptable("A group needs a name"));
        }
        if group.len() > ROSTER_GROUP_BYTES_MAX {
            return Err(not_acceptable("The name of a group is too long"));
        }
        if groups.len() == ROSTER_GROUPS_MAX {
            return Err(not_acceptable("A contact cannot be in so many groups"));
        }
        // §2.3.3: compared as resourceparts, so that what looks the same is the same; what could be
        // none is compared as it is.
        let compared = prepare_resource(&group).unwrap_or_else(|_| group.clone());
        if !seen.insert(compared) {
            return Err(StanzaError::new(Condition::BadRequest).text("A group is named twice"));
        }
        groups.push(group);
    }
    Ok(groups)
}

fn not_acceptable(text: &'static str) -> StanzaError {
    StanzaError::new(Condition::NotAcceptable).text(text)
}

#[cfg(test)]
mod tests;

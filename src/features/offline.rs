//! Offline messages (XEP-0160 1.0.1): a message that no session takes is stored, and delivered with its
//! time (XEP-0203 2.0) to the next session that takes messages.
//!
//! Which are stored is decided here, how they are counted and delivered by
//! [`router::offline`](crate::router::offline). Left out: XEP-0013, which few clients have and the
//! archive replaces; expiry (XEP-0079).
//!
//! What is not stored comes back to its sender as `service-unavailable`, as from an account that does
//! not exist (RFC 6121 §8.5.2.2.1): that a person's store is full is nobody else's business
//! (RFC 6120 §13.11).

use crate::jid::Jid;
use crate::ns;
use crate::router::Router;
use crate::router::feature::{
    Disco, Feature, Hook, HookContext, SessionEvent, SessionHook, Spec, Stage, Target, Verdict,
};
use crate::stanza::{Condition, Kind, Stanza, StanzaError, Type};
use crate::storage::Row;
use crate::storage::offline::OfflineMessage;
use crate::xml::{Child, Payload};

/// XEP-0160.
pub static FEATURE: Feature = Feature {
    specs: &[
        Spec {
            id: "RFC 6121 §8.5.2.2.1",
            version: "",
        },
        Spec {
            id: "XEP-0160",
            version: "1.0.1",
        },
        Spec {
            id: "XEP-0203",
            version: "2.0",
        },
        Spec {
            id: "XEP-0334",
            version: "1.0.0",
        },
    ],
    // XEP-0160 §4. Neither XEP-0203 nor XEP-0334 has a disco feature for servers.
    disco: &[Disco {
        target: Target::Domain,
        var: "msgoffline",
    }],
    hooks: &[
        Hook {
            stage: Stage::InboundAmend,
            run: drop_forged_delays,
        },
        Hook {
            stage: Stage::Undelivered,
            run: store,
        },
    ],
    session: &[
        SessionHook {
            event: SessionEvent::TakesMessages,
            run: Router::offline_flush,
        },
        SessionHook {
            event: SessionEvent::Closed,
            run: Router::offline_session_closed,
        },
        SessionHook {
            event: SessionEvent::Ended,
            run: Router::offline_session_ended,
        },
    ],
    ..Feature::named("offline")
};

/// XEP-0203 §5: only we can know what we have delayed.
fn drop_forged_delays(context: &HookContext<'_>, stanza: &mut Stanza) -> Verdict {
    // Most stanzas have none; `without` would look at each child.
    if stanza.payload.find(ns::DELAY, "delay").is_some() {
        let is_ours = |from: &str| {
            Jid::parse(from).is_ok_and(|from| {
                from.is_domain() && context.settings.domains.contains_key(from.domain())
            })
        };
        let is_forged = |payload: &Payload, child: &Child| {
            is(payload, child, ns::DELAY, "delay")
                && payload
                    .element(child)
                    .attribute("from")
                    .is_some_and(is_ours)
        };
        stanza.payload = stanza.payload.without(is_forged);
    }
    Verdict::Continue
}

/// XEP-0160 §2, §3.
fn store(context: &HookContext<'_>, stanza: &mut Stanza) -> Verdict {
    let Some(account) = context.account.standing.id() else {
        return Verdict::Continue;
    };
    if !is_stored(stanza) {
        return Verdict::Continue;
    }
    let offline = &context.account.offline;
    let message = OfflineMessage {
        account,
        seq: offline.next_seq(context.now.wall),
        came: context.now.wall,
        stanza: stanza.clone(),
    };
    let limits = &context.settings.limits;
    let waiting = offline.waiting();
    let bytes = waiting.bytes.saturating_add(message.bytes() as u64);
    if waiting.messages >= limits.offline_messages_max || bytes > limits.offline_bytes_max {
        // XEP-0160 §2, step 3.
        log::debug!(jid:% = context.account.jid; "offline store full");
        return Verdict::Reject(StanzaError::new(Condition::ServiceUnavailable));
    }
    Verdict::Store(Row::Offline(Box::new(message)))
}

/// Whether a message is kept for later. By XEP-0160 §3 these are `normal` and `chat`, with or without a
/// body (receipts, markers and invitations often have none), but for standalone chat states, whatever
/// the type that they come with (XEP-0085 §5.8). The sender's hints decide before that: `no-store`
/// (XEP-0334 §4.2), then `store` (§4.4); `no-permanent-store` allows what lasts until delivery (§4.1).
fn is_stored(stanza: &Stanza) -> bool {
    let payload = &stanza.payload;
    let has_hint = |name| payload.find(ns::HINTS, name).is_some();
    stanza.kind == Kind::Message
        && matches!(stanza.type_, Type::Normal | Type::Chat)
        && !has_hint("no-store")
        && (has_hint("store") || !is_chat_state(payload))
}

/// Whether there is a chat state and nothing that would be worth reading later. XEP-0085 §5.6 has
/// nothing beside it but a thread; clients add hints and ids.
fn is_chat_state(payload: &Payload) -> bool {
    let mut children = payload.children().iter();
    let is_state = |child: &Child| payload.ns(child) == ns::CHAT_STATES;
    let is_beside = |child: &Child| {
        is(payload, child, "", "thread") || matches!(payload.ns(child), ns::HINTS | ns::STANZA_IDS)
    };
    children.clone().any(is_state) && children.all(|child| is_state(child) || is_beside(child))
}

fn is(payload: &Payload, child: &Child, ns: &str, name: &str) -> bool {
    payload.ns(child) == ns && payload.name(child) == name
}

#[cfg(test)]
mod tests;

//! Last Activity (XEP-0012 2.0): how long a domain runs, and how long ago an account went offline, for
//! those who may see its presence.
//!
//! Others get `service-unavailable`, not the `forbidden` of §3: RFC 6121 §8.5.1 wants it for a name
//! that does not exist, and an account must not be told from that. A resource that is connected
//! but has sent no presence counts as offline, since a contact knows nothing of it either. The last
//! status (§3) is left out: it is optional, and kept nowhere.

use std::time::Duration;

use crate::clock::Wall;
use crate::ns;
use crate::router::account::{Account, Standing};
use crate::router::feature::{
    Answer, Disco, Feature, Hook, HookContext, IqContext, IqRoute, Spec, Stage, Target, Verdict,
    value,
};
use crate::router::storage_value;
use crate::stanza::{Condition, Kind, Stanza, StanzaError, Type};
use crate::storage::accounts::{self, AccountRecord};
use crate::xml::{Element, Payload};

/// XEP-0012.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0012",
        version: "2.0",
    }],
    disco: &[
        Disco {
            target: Target::Domain,
            var: ns::LAST,
        },
        Disco {
            target: Target::Contact,
            var: ns::LAST,
        },
    ],
    iq: &[
        IqRoute {
            target: Target::Domain,
            type_: Type::Get,
            ns: ns::LAST,
            name: "query",
            handler: uptime,
        },
        IqRoute {
            target: Target::Contact,
            type_: Type::Get,
            ns: ns::LAST,
            name: "query",
            handler: absence,
        },
    ],
    hooks: &[Hook {
        stage: Stage::InboundCheck,
        run: check,
    }],
    ..Feature::named("last-activity")
};

/// §5: the clock of the process starts with it.
fn uptime(context: &IqContext<'_>) -> Answer {
    Answer::Now(query(context.now.mono.since(crate::clock::Mono::default())))
}

/// §3.
fn absence(context: &IqContext<'_>) -> Answer {
    let Some(account) = context.account else {
        return Answer::Error(StanzaError::new(Condition::ServiceUnavailable));
    };
    if !context.available.is_empty() {
        return Answer::Now(query(Duration::ZERO));
    }
    let (jid, now) = (account.jid.clone(), context.now.wall);
    // What the last session has left may still wait to be stored.
    let in_memory = match &account.standing {
        Standing::Known(record) => record.last_seen,
        _ => None,
    };
    Answer::Later(
        Box::new(move |db| Ok(value(accounts::find(db, &jid)?))),
        Box::new(move |_, _, result| {
            let record = result.and_then(storage_value::<Option<AccountRecord>>)?;
            let gone: Wall = record
                .and_then(|record| record.last_seen)
                .max(in_memory)
                .ok_or_else(|| StanzaError::new(Condition::ItemNotFound).text("Never seen yet"))?;
            let micros = now.micros().saturating_sub(gone.micros());
            Ok(query(Duration::from_micros(micros)))
        }),
    )
}

fn query(since: Duration) -> Payload {
    let seconds = since.as_secs().to_string();
    Payload::from_elements(&[Element::new(ns::LAST, "query").attr("seconds", seconds)])
}

/// §4: a request to a resource reaches it only from who may see its presence. The answer to others is
/// that for a resource that is not there.
fn check(context: &HookContext<'_>, stanza: &mut Stanza) -> Verdict {
    let is_request = stanza.kind == Kind::Iq
        && stanza.type_ == Type::Get
        && stanza.to.as_ref().is_some_and(|to| to.is_full())
        && stanza.payload.find(ns::LAST, "query").is_some();
    if is_request && !may_see(context.account, stanza) {
        return Verdict::Reject(StanzaError::new(Condition::ServiceUnavailable));
    }
    Verdict::Continue
}

fn may_see(account: &Account, stanza: &Stanza) -> bool {
    let from = stanza.from.as_ref();
    from.is_some_and(|from| account.shows_presence_to(from.bare_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jid::Jid;
    use crate::router::testing::Site;
    use crate::storage::roster::State;

    static FEATURES: &[&Feature] = &[&FEATURE];

    /// RFC 6120 §13.11: what comes at once would tell that there is such an account.
    #[test]
    fn a_stranger_waits_alike_for_a_resource_that_is_there_and_for_one_of_nobody() {
        let mut site = Site::new(FEATURES);
        site.bind("juliet@example.org", "balcony", Some(0));
        site.account("nobody@example.org", Standing::Unknown);
        let romeo = site.bind("romeo@example.org", "orchard", None);
        for to in [
            "nobody@example.org/balcony",
            "juliet@example.org/balcony",
            "juliet@example.org/gone",
        ] {
            let mut request = Stanza::new(Kind::Iq, Type::Get, query(Duration::ZERO));
            request.to = Some(Jid::parse(to).unwrap());
            request.id = Some("7".into());
            site.send(romeo, request);
            assert_eq!(site.take(romeo), "", "{to}");
            assert_eq!(site.router.out.reads.len(), 1, "{to}");
            site.run_store();
            assert!(site.take(romeo).contains("<service-unavailable"), "{to}");
        }
    }

    /// When somebody was last here is stored by and by; those who ask are told at once (§3).
    #[test]
    fn an_answer_knows_what_waits_to_be_stored() {
        let mut site = Site::new(FEATURES);
        site.create("juliet@example.org");
        let romeo = site.bind("romeo@example.org", "orchard", None);
        let juliet = site.bind("juliet@example.org", "balcony", Some(0));
        site.contact("juliet@example.org", "romeo@example.org", State::FROM);
        site.router.now.wall = Wall::from_micros(1_000_000_000);
        site.end(juliet);
        assert!(
            site.router.last_seen_due().is_some(),
            "it is not stored yet"
        );
        site.router.now.wall = Wall::from_micros(1_042_900_000);
        let mut request = Stanza::new(Kind::Iq, Type::Get, query(Duration::ZERO));
        request.to = Some(Jid::parse("juliet@example.org").unwrap());
        request.id = Some("7".into());
        site.send(romeo, request);
        site.run_store();
        let answer = site.take(romeo);
        assert!(answer.contains("seconds='42'"), "{answer}");
        assert!(site.router.last_seen_due().is_some(), "nor is it by now");
    }
}

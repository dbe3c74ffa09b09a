//! Best Practices for Use of SASL ANONYMOUS (XEP-0175 1.2): an anonymous user makes no subscriptions
//! and begins nothing with other servers (§3).
//!
//! Nobody could ever meet the subscriber again; and other servers could hold only this one to account
//! for what somebody does who has no name and comes back under another one. Components are this
//! server's own, as its operator has put them there.

use crate::config::Settings;
use crate::router::account::Standing;
use crate::router::feature::{Feature, Hook, HookContext, Spec, Stage, Verdict};
use crate::stanza::{Condition, StanzaError};
use crate::stanza::{Kind, Stanza, Type};

/// XEP-0175.
pub static FEATURE: Feature = Feature {
    specs: &[Spec {
        id: "XEP-0175",
        version: "1.2",
    }],
    hooks: &[Hook {
        stage: Stage::OutboundCheck,
        run: check,
    }],
    ..Feature::named("anonymous")
};

fn check(context: &HookContext<'_>, stanza: &mut Stanza) -> Verdict {
    if !matches!(context.account.standing, Standing::Anonymous) {
        return Verdict::Continue;
    }
    let subscribes = matches!(
        (stanza.kind, stanza.type_),
        (
            Kind::Presence,
            Type::Subscribe | Type::Subscribed | Type::Unsubscribe | Type::Unsubscribed
        )
    );
    if subscribes {
        let error =
            StanzaError::new(Condition::NotAllowed).text("Anonymous users have no subscriptions");
        return Verdict::Reject(error);
    }
    if begins(stanza) && is_elsewhere(stanza, context.settings) {
        // RFC 6120 §8.3.3.4: who logs in with an account may.
        let error =
            StanzaError::new(Condition::Forbidden).text("Anonymous users reach this server only");
        return Verdict::Reject(error);
    }
    Verdict::Continue
}

/// Whether a stanza is more than the answer to another: what others ask of an anonymous user it may
/// answer, as each entity must (RFC 6120 §8.2.3).
fn begins(stanza: &Stanza) -> bool {
    !matches!(stanza.type_, Type::Result | Type::Error)
}

/// Whether a stanza is for a domain of another server.
fn is_elsewhere(stanza: &Stanza, settings: &Settings) -> bool {
    let domain = stanza.to.as_ref().map(|to| to.domain());
    domain.is_some_and(|domain| settings.served(domain).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ComponentSettings, DomainSettings, Secret};
    use crate::jid::Domain;
    use crate::router::testing::{Seat, Site, record, stanza};

    const GHOST: &str = "ghost@example.org";

    fn site() -> (Site, Seat) {
        static FEATURES: &[&Feature] = &[&FEATURE];
        let mut site = Site::new(FEATURES);
        site.account(GHOST, Standing::Anonymous);
        let ghost = site.bind(GHOST, "chat", Some(0));
        (site, ghost)
    }

    /// What may begin something, each with the types of an answer left out.
    const BEGINNINGS: [(Kind, Type); 9] = [
        (Kind::Message, Type::Normal),
        (Kind::Message, Type::Chat),
        (Kind::Message, Type::Groupchat),
        (Kind::Message, Type::Headline),
        (Kind::Presence, Type::Available),
        (Kind::Presence, Type::Unavailable),
        (Kind::Presence, Type::Probe),
        (Kind::Iq, Type::Get),
        (Kind::Iq, Type::Set),
    ];

    /// XEP-0175 §3, restriction 2; RFC 6120 §8.3.3.4.
    #[test]
    fn an_anonymous_user_begins_nothing_with_another_server() {
        let (mut site, ghost) = site();
        for (kind, type_) in BEGINNINGS {
            for to in ["romeo@montague.example", "montague.example"] {
                site.send(ghost, stanza(kind, type_, Some(to)));
                let told = site.take(ghost);
                let wanted = "<error type='auth'><forbidden xmlns=";
                assert!(told.contains(wanted), "{kind:?} {type_:?}: {told}");
            }
        }
        assert!(site.router.out.dials.is_empty(), "no server is looked for");
        assert_eq!(site.open(ghost), 0);
    }

    /// XEP-0175 §3: "initiate communication"; RFC 6120 §8.2.3.
    #[test]
    fn an_anonymous_user_answers_what_another_server_has_asked() {
        let (mut site, ghost) = site();
        for (kind, type_) in [
            (Kind::Iq, Type::Result),
            (Kind::Iq, Type::Error),
            (Kind::Message, Type::Error),
            (Kind::Presence, Type::Error),
        ] {
            site.send(ghost, stanza(kind, type_, Some("romeo@montague.example/a")));
            assert_eq!(site.take(ghost), "", "{kind:?} {type_:?}");
        }
        assert_eq!(site.router.out.dials.len(), 1);
        site.fail_links();
    }

    /// The same stanzas reach who is here, components among them; and accounts reach everybody.
    #[test]
    fn others_are_not_held_back_nor_is_what_stays_here() {
        let (mut site, ghost) = site();
        let rooms = Domain::parse("rooms.example").unwrap();
        let mut settings = (*site.router.settings).clone();
        let component = ComponentSettings {
            domain: DomainSettings::new(rooms.clone()).into(),
            secret: Secret::new("s3cret"),
            stanza_bytes_max: 262_144,
        };
        settings.components.insert(rooms, component.into());
        site.router.settings = settings.into();
        site.account("juliet@example.org", Standing::Known(record(true)));
        let juliet = site.bind("juliet@example.org", "balcony", Some(0));
        for (kind, type_) in BEGINNINGS {
            let to = "juliet@example.org/balcony";
            site.send(ghost, stanza(kind, type_, Some(to)));
            site.send(ghost, stanza(kind, type_, Some("lobby@rooms.example")));
            site.run_store();
            assert!(
                !site.take(ghost).contains("<forbidden"),
                "{kind:?} {type_:?}"
            );
        }
        let heard = site.take(juliet);
        assert!(heard.contains("from='ghost@example.org/chat'"), "{heard}");
        assert!(site.router.out.dials.is_empty());
        let to = Some("romeo@montague.example");
        site.send(juliet, stanza(Kind::Iq, Type::Get, to));
        assert_eq!(site.router.out.dials.len(), 1);
        site.fail_links();
        assert!(site.take(juliet).contains("<remote-server-not-found"));
    }
}

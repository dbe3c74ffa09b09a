//! Best Practices for Use of SASL ANONYMOUS (XEP-0175 1.2): an anonymous user makes no subscriptions (§3),
//! since nobody could ever meet it again.

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
    Verdict::Continue
}

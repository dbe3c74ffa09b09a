//! The one change of an option that would turn a refusal, for `stanzad explain`.

use super::{Facts, Outcome, Rules, S2sPolicy, Tls};
use crate::jid::{Closeness, Domain};

/// The one change of an option that lets a refused peer in, or lets it try dialback; none if the peer
/// is not refused, or no single option would do.
///
/// A pin for a peer that has none is not counted: it would let in whoever it is, also an impostor.
pub fn remedy(policy: &S2sPolicy<'_>, peer: &Domain, facts: &Facts) -> Option<Remedy> {
    let rules = Rules::of(policy, peer);
    if rules.judge(facts).outcome != Outcome::Refuse {
        return None;
    }
    Remedy::ALL.into_iter().find(|remedy| {
        let (rules, facts) = remedy.change(rules, *facts);
        rules.judge(&facts).outcome != Outcome::Refuse
    })
}

/// The change of one option that turns a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// `s2s.enabled = true`
    Enable,
    /// The peer comes off `s2s.deny`.
    Undeny,
    /// The peer comes on `s2s.allow`.
    Allow,
    /// `s2s.require_encryption = false`
    AllowUnencrypted,
    /// `[s2s.peer."name"]` pins what the peer shows, or nothing if it shows nothing.
    Repin,
    /// `s2s.dane = false`
    IgnoreTlsa,
    /// The peer comes off `s2s.secure_domains`.
    Unsecure,
    /// The peer comes on `s2s.insecure_domains`.
    AllowInsecure,
}

impl Remedy {
    /// The order in which they are tried. No two of them turn the same refusal, but for the last two:
    /// to end an exception is better than to make another.
    const ALL: [Remedy; 8] = [
        Remedy::Enable,
        Remedy::Undeny,
        Remedy::Allow,
        Remedy::AllowUnencrypted,
        Remedy::Repin,
        Remedy::IgnoreTlsa,
        Remedy::Unsecure,
        Remedy::AllowInsecure,
    ];

    /// Rules and facts as they would be then.
    fn change(self, mut rules: Rules, mut facts: Facts) -> (Rules, Facts) {
        match self {
            Remedy::Enable => rules.enabled = true,
            Remedy::Undeny => rules.denied = false,
            Remedy::Allow => rules.allowed = true,
            Remedy::AllowUnencrypted => rules.require_encryption = false,
            Remedy::Repin => match &mut facts.tls {
                Tls::Certificate(shown) => shown.matches_pin = true,
                Tls::None | Tls::Bare => rules.pinned = false,
            },
            Remedy::IgnoreTlsa => rules.dane = false,
            Remedy::Unsecure => rules.secure = None,
            // Against its own name on `secure_domains` this does nothing, as it should: the conf file would
            // be refused.
            Remedy::AllowInsecure => rules.insecure = Some(Closeness::Exact),
        }
        (rules, facts)
    }

    /// What to do, for people.
    pub fn sentence(self, peer: &Domain) -> String {
        match self {
            Remedy::Enable => "set s2s.enabled = true".to_owned(),
            Remedy::Undeny => format!("take {peer} off s2s.deny"),
            Remedy::Allow => format!("put {peer} on s2s.allow"),
            Remedy::AllowUnencrypted => "set s2s.require_encryption = false".to_owned(),
            Remedy::Repin => format!("correct what [s2s.peer.\"{peer}\"] pins"),
            Remedy::IgnoreTlsa => "set s2s.dane = false".to_owned(),
            Remedy::Unsecure => format!("take {peer} off s2s.secure_domains"),
            Remedy::AllowInsecure => format!("put {peer} on s2s.insecure_domains"),
        }
    }
}

//! Whether stanzas may go on a stream against the direction in which it was opened (XEP-0288 §2.2).
//!
//! The specification asks no more than that the peer is proven. But who opens a stream chooses how: in
//! the clear, or past the TLSA records that we would have asked for. So a stream that we accepted takes
//! stanzas of ours only if nothing more would be learned by dialling one, and over one that we dialled
//! the peer sends only if its own would be let in. Both are encrypted, since bidirectionality
//! follows STARTTLS (§2.1) and what encrypts nothing has nothing to win by it.

use super::{Dane, Dialback, Direction, Facts, Outcome, S2sPolicy, Tls, judge};
use crate::jid::Domain;

/// Whether our stanzas may go by a stream that we accepted, on which the peer has proven to be who it
/// is. The certificate in `facts` is judged as that of a server which we have dialled.
pub fn may_send(policy: &S2sPolicy<'_>, peer: &Domain, facts: &Facts) -> bool {
    // Nobody has looked for TLSA records, and they might decide otherwise.
    let is_dane_open = policy.dane && !policy.pinned && facts.dane == Dane::None;
    facts.tls != Tls::None && !is_dane_open && accepts(policy, peer, facts, Direction::Dialled)
}

/// Whether the peer's stanzas may come by a stream that we have dialled to it. The certificate in
/// `facts` is judged as that of a server which has opened a stream to us.
pub fn may_receive(policy: &S2sPolicy<'_>, peer: &Domain, facts: &Facts) -> bool {
    facts.tls != Tls::None && accepts(policy, peer, facts, Direction::Accepted)
}

fn accepts(policy: &S2sPolicy<'_>, peer: &Domain, facts: &Facts, direction: Direction) -> bool {
    let facts = Facts {
        direction,
        // To dial to where the DNS says is to call back.
        dialback: Dialback::Verified,
        ..*facts
    };
    matches!(judge(policy, peer, &facts).outcome, Outcome::Accept(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::S2s;
    use crate::stream::policy::s2s::{Fault, Shown};

    fn certificate(chain: Result<(), Fault>) -> Tls {
        Tls::Certificate(Shown {
            chain,
            names_peer: true,
            matches_pin: false,
            matches_tlsa: false,
        })
    }

    fn facts(tls: Tls) -> Facts {
        Facts {
            direction: Direction::Accepted,
            tls,
            dane: Dane::None,
            dialback: Dialback::Verified,
        }
    }

    #[test]
    fn a_stream_goes_both_ways_only_where_it_would_be_trusted_if_it_were_opened_the_other_way() {
        let peer = Domain::parse("example.net").unwrap();
        let strict = S2s::default();
        let lenient = S2s {
            secure_auth: false,
            require_encryption: false,
            ..S2s::default()
        };
        let strict = S2sPolicy::of(&strict, &peer);
        let lenient = S2sPolicy::of(&lenient, &peer);
        let pinned = S2sPolicy {
            pinned: true,
            ..lenient
        };
        let dane = S2sPolicy {
            dane: true,
            ..strict
        };
        let good = certificate(Ok(()));
        let bad = certificate(Err(Fault::SelfSigned));
        for (policy, tls, sends, receives) in [
            (strict, good, true, true),
            (strict, bad, false, false),
            (strict, Tls::Bare, false, false),
            (lenient, bad, true, true),
            (lenient, Tls::Bare, true, true),
            (lenient, Tls::None, false, false),
            (dane, good, false, true),
            (pinned, good, false, false),
        ] {
            let facts = facts(tls);
            assert_eq!(
                may_send(&policy, &peer, &facts),
                sends,
                "{policy:?} {tls:?}"
            );
            assert_eq!(
                may_receive(&policy, &peer, &facts),
                receives,
                "{policy:?} {tls:?}"
            );
        }
        // Records that were found decide, and a pin does without them.
        let mut found = facts(certificate(Err(Fault::UnknownAuthority)));
        found.dane = Dane::Usable;
        assert!(!may_send(&dane, &peer, &found));
        let Tls::Certificate(shown) = &mut found.tls else {
            unreachable!()
        };
        shown.matches_tlsa = true;
        shown.matches_pin = true;
        assert!(may_send(&dane, &peer, &found));
        found.dane = Dane::None;
        assert!(may_send(&pinned, &peer, &found));
    }
}

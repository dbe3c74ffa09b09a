//! The security decisions about client streams. The reason of a verdict is logged, and names the option
//! that decides (`Verdicts` in lib.rs).

use crate::config::{Auth, C2s};
use crate::sasl::{Mechanism, Storage};

/// What is known of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether TLS is there.
    pub is_encrypted: bool,
    /// Whether the domain has a certificate.
    pub has_certificate: bool,
    /// Whether the connection has a channel binding.
    pub has_binding: bool,
    /// Whether the client showed a certificate that names an account of the domain.
    pub has_client_identity: bool,
}

/// A decision and the sentence that explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Yes or no.
    pub allowed: bool,
    /// Why.
    pub reason: &'static str,
}

/// Whether STARTTLS is offered (RFC 6120 §5.3.1), and whether it must be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartTls {
    /// Not offered.
    No,
    /// Offered, and SASL is offered beside it.
    Optional,
    /// Offered alone.
    Required,
}

const fn yes(reason: &'static str) -> Verdict {
    Verdict {
        allowed: true,
        reason,
    }
}

const fn no(reason: &'static str) -> Verdict {
    Verdict {
        allowed: false,
        reason,
    }
}

/// Whether a client may log in at all on this connection.
pub fn may_authenticate(c2s: &C2s, facts: Facts) -> Verdict {
    if facts.is_encrypted {
        yes("the connection is encrypted")
    } else if c2s.require_encryption {
        no("c2s.require_encryption = true and the connection is not encrypted")
    } else {
        yes("c2s.require_encryption = false")
    }
}

/// Whether STARTTLS is offered.
pub fn starttls(c2s: &C2s, facts: Facts) -> StartTls {
    if facts.is_encrypted || !facts.has_certificate {
        StartTls::No
    } else if c2s.require_encryption {
        StartTls::Required
    } else {
        StartTls::Optional
    }
}

/// Whether a mechanism may be used on this connection.
pub fn may_use(mechanism: Mechanism, c2s: &C2s, auth: &Auth, facts: Facts) -> Verdict {
    let may_log_in = may_authenticate(c2s, facts);
    if !may_log_in.allowed {
        return may_log_in;
    }
    if mechanism == Mechanism::Anonymous {
        return if auth.anonymous {
            yes("auth.anonymous = true")
        } else {
            no("auth.anonymous = false")
        };
    }
    if !auth.mechanisms.contains(&mechanism) {
        return no("auth.mechanisms does not list it");
    }
    match mechanism {
        Mechanism::Plain if facts.is_encrypted => yes("the connection is encrypted"),
        Mechanism::Plain if c2s.allow_unencrypted_plain => {
            yes("c2s.allow_unencrypted_plain = true")
        }
        Mechanism::Plain => {
            no("c2s.allow_unencrypted_plain = false and the connection is not encrypted")
        }
        Mechanism::External if facts.has_client_identity => {
            yes("the client's certificate names an account of this domain")
        }
        Mechanism::External => no("the client showed no certificate for an account of this domain"),
        _ => may_use_scram(mechanism, auth, facts),
    }
}

fn may_use_scram(mechanism: Mechanism, auth: &Auth, facts: Facts) -> Verdict {
    let Some((hash, plus)) = mechanism.scram() else {
        return no("it is not built");
    };
    if auth.storage == Storage::Bcrypt {
        no("auth.storage = \"bcrypt\" leaves only PLAIN")
    } else if !auth.hashes.contains(&hash) {
        no("auth.hashes does not list its hash")
    } else if plus && !facts.has_binding {
        no("the connection has no channel binding")
    } else {
        yes("the password is proven, not sent")
    }
}

/// The mechanisms to offer, in the operator's order of preference; ANONYMOUS, which its own option
/// switches on, last.
pub fn mechanisms(c2s: &C2s, auth: &Auth, facts: Facts) -> Vec<Mechanism> {
    let listed = auth.mechanisms.iter().copied();
    listed
        .filter(|mechanism| *mechanism != Mechanism::Anonymous)
        .chain([Mechanism::Anonymous])
        .filter(|mechanism| may_use(*mechanism, c2s, auth, facts).allowed)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_facts() -> Vec<Facts> {
        let mut all = Vec::new();
        for bits in 0..16_u8 {
            all.push(Facts {
                is_encrypted: bits & 1 != 0,
                has_certificate: bits & 2 != 0,
                has_binding: bits & 4 != 0,
                has_client_identity: bits & 8 != 0,
            });
        }
        all
    }

    fn c2s(require_encryption: bool, allow_unencrypted_plain: bool) -> C2s {
        C2s {
            require_encryption,
            allow_unencrypted_plain,
            ..C2s::default()
        }
    }

    #[test]
    fn nobody_logs_in_unencrypted_where_encryption_is_required() {
        for facts in all_facts() {
            for plain in [false, true] {
                let verdict = may_authenticate(&c2s(true, plain), facts);
                assert_eq!(verdict.allowed, facts.is_encrypted, "{facts:?}");
                let offered = mechanisms(&c2s(true, plain), &Auth::default(), facts);
                assert_eq!(offered.is_empty(), !facts.is_encrypted, "{facts:?}");
            }
        }
    }

    #[test]
    fn plain_needs_tls_or_both_options() {
        for facts in all_facts() {
            for (require, allow) in [(false, false), (false, true), (true, false), (true, true)] {
                let verdict = may_use(
                    Mechanism::Plain,
                    &c2s(require, allow),
                    &Auth::default(),
                    facts,
                );
                let expected = facts.is_encrypted || (!require && allow);
                assert_eq!(verdict.allowed, expected, "{facts:?} {require} {allow}");
            }
        }
    }

    #[test]
    fn starttls_is_required_exactly_when_encryption_is() {
        for facts in all_facts() {
            for require in [false, true] {
                let expected = match (facts.is_encrypted || !facts.has_certificate, require) {
                    (true, _) => StartTls::No,
                    (false, true) => StartTls::Required,
                    (false, false) => StartTls::Optional,
                };
                assert_eq!(starttls(&c2s(require, false), facts), expected, "{facts:?}");
            }
        }
    }

    #[test]
    fn plus_needs_a_channel_binding() {
        let facts = Facts {
            is_encrypted: true,
            has_certificate: true,
            has_binding: false,
            has_client_identity: false,
        };
        let bound = Facts {
            has_binding: true,
            ..facts
        };
        let auth = Auth::default();
        let without = mechanisms(&C2s::default(), &auth, facts);
        let with = mechanisms(&C2s::default(), &auth, bound);
        assert!(!without.contains(&Mechanism::ScramSha256Plus));
        assert!(with.contains(&Mechanism::ScramSha256Plus));
        assert!(with.contains(&Mechanism::ScramSha256));
        assert_eq!(
            with.last(),
            Some(&Mechanism::Plain),
            "the weakest comes last"
        );
    }

    #[test]
    fn bcrypt_storage_offers_plain_only() {
        let auth = Auth {
            storage: Storage::Bcrypt,
            ..Auth::default()
        };
        let facts = Facts {
            is_encrypted: true,
            has_certificate: true,
            has_binding: true,
            has_client_identity: false,
        };
        assert_eq!(
            mechanisms(&C2s::default(), &auth, facts),
            [Mechanism::Plain]
        );
    }
}

//! What is noted of streams for `stanzad explain`.

use super::*;

#[test]
fn both_sides_note_what_came_of_a_stream() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    for (end, is_dialled, remote) in [(&wire.a, true, B), (&wire.b, false, A)] {
        let [attempt] = end.attempts()[..] else {
            panic!("{:?}", end.attempts())
        };
        assert!(attempt.is_success && attempt.is_dialled == is_dialled);
        assert_eq!(attempt.remote.as_str(), remote);
        assert!(attempt.tls.is_some());
        let verdict = attempt.verdict.as_deref().unwrap();
        assert!(verdict.contains("its certificate is valid"), "{verdict}");
    }
}

#[test]
fn a_refusal_is_noted_on_both_sides_with_its_reason() {
    let mut wire = Wire::new(lenient(), S2s::default());
    wire.b.judge.trusts = false;
    wire.run();
    let [attempt] = wire.b.attempts()[..] else {
        panic!("{:?}", wire.b.attempts())
    };
    assert!(!attempt.is_success && !attempt.is_dialled);
    let verdict = attempt.verdict.as_deref().unwrap();
    assert!(verdict.contains("s2s.secure_auth = true"), "{verdict}");
    let [attempt] = wire.a.attempts()[..] else {
        panic!("{:?}", wire.a.attempts())
    };
    // In the peer's words.
    let outcome = &attempt.outcome;
    assert!(outcome.contains("policy-violation"), "{outcome}");
}

#[test]
fn who_wants_a_domain_that_is_not_served_is_noted_under_its_name() {
    for (wanted, enabled) in [("c.example", true), (B, false)] {
        let s2s = S2s {
            enabled,
            ..S2s::default()
        };
        let mut b = End::accepting(s2s);
        b.hear(&HEADER.replace(B, wanted));
        let [attempt] = b.attempts()[..] else {
            panic!("{:?}", b.attempts())
        };
        assert_eq!(
            (attempt.remote.as_str(), attempt.local.as_str()),
            (A, wanted)
        );
        let names_option = attempt.outcome.contains("s2s.enabled = false");
        assert_eq!(names_option, !enabled, "{}", attempt.outcome);
    }
}

/// A domain is claimed by whoever wants to: what comes of it is noted under that name.
#[test]
fn who_claims_a_domain_and_leaves_is_noted_under_its_name() {
    let mut b = End::accepting(S2s::default());
    b.hear(&format!("{HEADER}</stream:stream>"));
    let mut later = Vec::new();
    b.stream.hung_up(None, &mut later);
    let [attempt] = b.attempts()[..] else {
        panic!("{:?}", b.attempts())
    };
    assert_eq!(attempt.remote.as_str(), A);
    assert!(!attempt.is_success && !attempt.is_dialled);
    assert!(
        !later
            .iter()
            .any(|action| matches!(action, Action::Attempted(_)))
    );
}

//! What two servers agree on before stanzas flow: TLS, EXTERNAL or dialback, and who is turned away.

use super::*;

/// RFC 6120 §13.7, XEP-0178 §3.
#[test]
fn two_servers_with_certificates_need_nothing_else() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    assert!(wire.a.is_ready(), "{}", wire.b.said);
    assert!(wire.b.said.contains("<mechanism>EXTERNAL</mechanism>"));
    assert!(wire.b.stream.source().is_some());
    assert!(wire.b.to_verify().is_none());
    assert_eq!(wire.b.hear(MESSAGE), "");
    assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
    // RFC 6120 §5.3.1: before TLS nothing else is offered.
    let first = wire.b.said.split("</stream:features>").next().unwrap();
    assert!(
        first.contains("<required/>") && !first.contains("dialback'>"),
        "{first}"
    );
}

/// The default: `s2s.secure_auth = true`.
#[test]
fn who_dials_refuses_a_server_without_a_valid_certificate() {
    let mut wire = Wire::new(S2s::default(), lenient());
    wire.a.judge.trusts = false;
    wire.run();
    let failure = wire.a.failure().unwrap();
    assert!(failure.is_final);
    assert!(
        failure.text.contains("s2s.secure_auth = true"),
        "{failure:?}"
    );
    assert!(wire.a.is_over);
}

#[test]
fn who_accepts_refuses_a_server_without_a_valid_certificate() {
    let mut wire = Wire::new(lenient(), S2s::default());
    wire.b.judge.trusts = false;
    wire.run();
    assert!(!wire.b.said.contains("EXTERNAL"));
    assert!(wire.b.said.contains("<policy-violation"), "{}", wire.b.said);
    assert!(wire.b.to_verify().is_none());
    assert!(!wire.a.is_ready());
    assert!(wire.a.failure().is_some());
}

/// RFC 6120 §6.4.5.
#[test]
fn who_tries_external_in_vain_over_and_over_is_sent_away() {
    const EXTERNAL: &str =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>";
    let mut wire = Wire::untrusting();
    for _ in 1..Settings::default().limits.login_failures_per_stream_max {
        let answer = wire.b.hear(EXTERNAL);
        assert!(answer.contains("<not-authorized/>"), "{answer}");
        assert!(!wire.b.is_over);
    }
    let answer = wire.b.hear(EXTERNAL);
    assert!(answer.contains("<policy-violation "), "{answer}");
    assert!(wire.b.is_over);
}

/// RFC 6120 §4.9.3.6.
#[test]
fn a_domain_that_is_not_served_is_unknown_and_the_dialler_is_told() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.b.settings = Arc::new(Settings::default());
    wire.run();
    assert!(wire.b.said.contains("<host-unknown "), "{}", wire.b.said);
    let failure = wire.a.failure().unwrap();
    assert!(failure.is_final);
    assert_eq!(failure.condition, Condition::RemoteServerNotFound);
}

/// RFC 7590 §3.1: TLS is tried also where it is not offered.
#[test]
fn a_server_that_does_not_offer_tls_is_asked_for_it() {
    let mut a = End::dialling(S2s::default());
    a.on(Event::Begin);
    let bare = format!("{ANSWER}<stream:features/>");
    assert!(a.hear(&bare).contains("<starttls "));
    a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let failure = a.failure().unwrap();
    assert!(
        failure.is_final && failure.text.contains("s2s.require_encryption"),
        "{failure:?}"
    );
}

/// Encryption that is offered is not done without, and who could do without is not told of an option
/// that asks for it.
#[test]
fn a_server_that_offers_tls_and_refuses_it_is_tried_again() {
    let s2s = S2s {
        require_encryption: false,
        ..lenient()
    };
    let mut a = End::dialling(s2s);
    a.on(Event::Begin);
    let offer = format!(
        "{ANSWER}<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
    );
    assert!(a.hear(&offer).contains("<starttls "));
    a.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    let failure = a.failure().unwrap();
    assert!(
        !failure.is_final && !failure.text.contains("s2s."),
        "{failure:?}"
    );
}

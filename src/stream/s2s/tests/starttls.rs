//! STARTTLS that is tried where it is not offered (RFC 7590 §3.1), and what a peer makes of it.

use super::*;

const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const OFFER: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// a.example, which has asked b.example for STARTTLS.
fn asking(s2s: S2s, offer: &str) -> End {
    let mut slots = Slots::default();
    let dialled = Dialled::new(
        slots.insert(()),
        domain(A),
        domain(B),
        false,
        PeerDns::Nothing,
    );
    let mut a = End::new(A, ServerStream::dialled(origin(), dialled), s2s);
    a.on(Event::Begin);
    let features = format!(
        "<stream:stream from='b.example' id='1' version='1.0' xmlns='jabber:server' \
         xmlns:stream='http://etherx.jabber.org/streams'><stream:features>{offer}\
         </stream:features>"
    );
    assert!(a.hear(&features).contains("<starttls "));
    a
}

fn error(condition: &str) -> String {
    format!(
        "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
         </stream:stream>"
    )
}

/// RFC 6120 §5.4.2.2, §4.9.3: what peers without TLS have for an answer.
#[test]
fn a_peer_that_ends_the_stream_for_starttls_has_none_and_policy_says_so() {
    let answers = [
        FAILURE.to_owned(),
        error("unsupported-stanza-type"),
        error("policy-violation"),
        error("not-authorized"),
        error("undefined-condition"),
        "</stream:stream>".to_owned(),
    ];
    for answer in answers {
        let mut a = asking(S2s::default(), "");
        a.hear(&answer);
        let failure = a.failure().expect("the link is told");
        assert!(
            failure.is_final && failure.text.contains("s2s.require_encryption"),
            "{answer}: {failure:?}"
        );
        assert_eq!(failure.condition, Condition::RemoteServerNotFound);
        assert!(a.is_over);
        assert_eq!(a.attempts().len(), 1, "{answer}");
    }
}

#[test]
fn a_peer_that_ends_the_stream_for_another_reason_is_not_taken_to_have_no_tls() {
    for (condition, is_final) in [
        ("system-shutdown", false),
        ("resource-constraint", false),
        ("see-other-host", false),
        ("host-unknown", true),
    ] {
        let mut a = asking(S2s::default(), "");
        a.hear(&error(condition));
        let failure = a.failure().expect("the link is told");
        assert_eq!(failure.is_final, is_final, "{failure:?}");
        assert!(failure.text.contains(condition), "{failure:?}");
    }
    // The connection may break at any time.
    let mut a = asking(S2s::default(), "");
    let mut actions = Vec::new();
    a.stream.hung_up(None, &mut actions);
    a.asked.extend(actions);
    assert!(!a.failure().expect("the link is told").is_final);
}

#[test]
fn a_peer_that_offers_starttls_has_it_whatever_it_does_then() {
    let mut a = asking(S2s::default(), OFFER);
    a.hear(&error("policy-violation"));
    assert!(!a.failure().expect("the link is told").is_final);
}

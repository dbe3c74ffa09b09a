//! How streams end: in time, by their peer, or because nobody needs them.

use super::*;
use crate::limits::PEER_TEXT_CHARS_MAX;

#[test]
fn who_does_not_get_on_is_given_up() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.a.on(Event::Begin);
    let deadline = wire.a.stream.deadline(&wire.a.settings).unwrap();
    wire.a.now = deadline;
    let said = wire.a.on(Event::Deadline);
    assert!(said.contains("<connection-timeout "), "{said}");
    assert!(!wire.a.failure().unwrap().is_final);
    let deadline = wire.b.stream.deadline(&wire.b.settings).unwrap();
    wire.b.now = deadline;
    assert!(wire.b.on(Event::Deadline).contains("<connection-timeout "));
}

/// RFC 6120 §4.6.3.
#[test]
fn a_stream_that_nobody_needs_is_closed_without_an_error() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    let due = wire.a.stream.deadline(&wire.a.settings).unwrap();
    assert_eq!(
        due,
        wire.a.now + Duration::from_secs(S2s::default().idle_seconds)
    );
    // Who has opened it closes it first: it knows whether anything is on its way.
    let other = wire.b.stream.deadline(&wire.b.settings).unwrap();
    assert!(other >= due + Duration::from_secs(S2s::default().idle_seconds));
    wire.a.now = due;
    assert_eq!(wire.a.on(Event::Deadline), "</stream:stream>");
    let ended = |action: &Action| matches!(action, Action::LinkEnded(_));
    assert!(wire.a.asked.iter().any(ended));
    wire.b.hear("</stream:stream>");
    let closed = |action: &Action| matches!(action, Action::PeerClosed(_));
    assert!(wire.b.asked.iter().any(closed));
}

/// Each sender whose stanza goes back is told it, and `stanzad s2s list` prints it.
#[test]
fn what_a_peer_says_of_its_refusal_is_passed_on_within_bounds() {
    let mut a = End::dialling(S2s::default());
    a.on(Event::Begin);
    let text = format!("go\n\u{9b}away {}", "x".repeat(5_000));
    a.hear(&format!(
        "{ANSWER}<stream:error><policy-violation xmlns='{0}'/><text xmlns='{0}'>{text}</text>\
         </stream:error>",
        ns::STREAM_ERROR
    ));
    let told = &a.failure().unwrap().text;
    assert!(
        told.starts_with("it ended the stream: policy-violation go  away xx"),
        "{told}"
    );
    assert_eq!(told.chars().count(), PEER_TEXT_CHARS_MAX + 1);
}

/// A link whose stream was closed by its peer must not wait for it for ever.
#[test]
fn a_peer_that_closes_before_the_stream_is_ready_is_a_failure_once() {
    let mut a = End::dialling(S2s::default());
    a.on(Event::Begin);
    a.hear(&format!("{ANSWER}</stream:stream>"));
    let mut later = Vec::new();
    a.stream.hung_up(None, &mut later);
    let failed = |action: &&Action| matches!(action, Action::LinkFailed(..));
    assert_eq!(a.asked.iter().chain(&later).filter(failed).count(), 1);
    assert!(!a.failure().unwrap().is_final);
}

//! From and to whom stanzas are taken.

use super::*;

/// RFC 6120 §4.9.3.9, §8.1.1.2.
#[test]
fn nobody_sends_for_a_domain_that_is_not_proven() {
    for (from, to, condition) in [
        ("juliet@c.example", "romeo@b.example", "<invalid-from "),
        ("juliet@a.example", "romeo@c.example", "<invalid-from "),
        ("juliet@a.example", "", "<improper-addressing "),
        ("", "romeo@b.example", "<improper-addressing "),
    ] {
        let mut wire = Wire::new(S2s::default(), S2s::default());
        wire.run();
        let attribute = |name: &str, value: &str| match value {
            "" => String::new(),
            value => format!(" {name}='{value}'"),
        };
        let (from, to) = (attribute("from", from), attribute("to", to));
        let answer = wire
            .b
            .hear(&format!("<message{from}{to}><body>a</body></message>"));
        assert!(answer.contains(condition), "{answer}");
        assert!(wire.b.is_over);
        assert!(
            !wire
                .b
                .asked
                .iter()
                .any(|asked| matches!(asked, Action::FromPeer(..)))
        );
    }
}

#[test]
fn nothing_is_taken_before_a_domain_is_proven() {
    let mut wire = Wire::untrusting();
    let answer = wire.b.hear(MESSAGE);
    assert!(answer.contains("<not-authorized "), "{answer}");
}

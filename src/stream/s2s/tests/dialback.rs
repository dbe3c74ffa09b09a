//! Dialback keys, from both ends of the stream on which they are offered (XEP-0220).

use super::*;
use crate::limits::DIALBACK_ANSWER_WAIT;

/// XEP-0220 §2.1.
#[test]
fn without_trust_dialback_decides_where_it_may() {
    let mut wire = Wire::untrusting();
    assert!(!wire.a.is_ready());
    assert_eq!(wire.b.to_verify().unwrap().0, pair(B, A));
    wire.verify();
    assert!(wire.a.is_ready());
    assert_eq!(wire.b.hear(MESSAGE), "");
    assert!(matches!(wire.b.asked.last(), Some(Action::FromPeer(..))));
}

#[test]
fn a_key_that_is_not_the_domains_ends_the_stream() {
    let mut wire = Wire::untrusting();
    // Somebody else has dialled in the domain's name.
    let (asked, ..) = wire.b.to_verify().unwrap();
    let to_a = wire
        .b
        .on(Event::Verified(asked, Checked::Answered(Answer::Invalid)));
    assert!(to_a.contains("type='invalid'"), "{to_a}");
    assert!(wire.b.is_over);
    wire.a.hear(&to_a);
    assert!(!wire.a.is_ready());
    assert!(wire.a.failure().unwrap().is_final);
}

/// XEP-0220 §2.5: a peer that cannot ask our server now may be able to later.
#[test]
fn a_key_that_cannot_be_verified_now_does_not_end_what_waits() {
    for (unreached, is_final) in [(Unreached::Timeout, false), (Unreached::NotFound, true)] {
        let mut wire = Wire::untrusting();
        let (asked, ..) = wire.b.to_verify().unwrap();
        let checked = Checked::Unreached(unreached);
        let to_a = wire.b.on(Event::Verified(asked, checked));
        assert!(to_a.contains("type='error'"), "{to_a}");
        wire.a.hear(&to_a);
        assert!(!wire.a.is_ready());
        assert_eq!(wire.a.failure().unwrap().is_final, is_final);
    }
}

/// XEP-0220 §2.1.2: what others wait for is answered when the stream ends.
#[test]
fn keys_that_nobody_can_be_asked_about_any_more_are_told_to_who_waits() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    let mut slots = Slots::default();
    let asker = Asker {
        shard: 3,
        conn: slots.insert(()),
        pair: pair(A, B),
    };
    let ask = Ask {
        asker: asker.clone(),
        id: "x".to_owned(),
        key: "k".to_owned(),
    };
    let to_b = wire.a.on(Event::Ask(Box::new(ask)));
    assert!(
        to_b.contains("<db:verify from='a.example' to='b.example' id='x'>k<"),
        "{to_b}"
    );
    let mut actions = Vec::new();
    wire.a.stream.hung_up(None, &mut actions);
    let told = actions.into_iter().find_map(|action| match action {
        Action::Tell(told) => Some(*told),
        _ => None,
    });
    let (told, checked) = told.unwrap();
    assert_eq!(told, asker);
    assert!(matches!(checked, Checked::Unreached(_)));
}

/// XEP-0220 §2.1.1, §2.5: also on a stream that is in use.
#[test]
fn a_key_about_which_the_peer_says_nothing_is_given_up_and_the_stream_stays() {
    let mut wire = Wire::new(S2s::default(), S2s::default());
    wire.run();
    let conn = Slots::default().insert(());
    let asker = Asker {
        shard: 3,
        conn,
        pair: pair(A, B),
    };
    let ask = Ask {
        asker: asker.clone(),
        id: "x".to_owned(),
        key: "k".to_owned(),
    };
    wire.a.on(Event::Ask(Box::new(ask)));
    let due = wire.a.now + DIALBACK_ANSWER_WAIT;
    assert_eq!(wire.a.stream.deadline(&wire.a.settings), Some(due));
    wire.a.asked.clear();
    wire.a.now = Mono::from_millis(due.millis() - 1);
    wire.a.on(Event::Deadline);
    assert_eq!(wire.a.asked.len(), 0);
    wire.a.now = due;
    assert_eq!(wire.a.on(Event::Deadline), "");
    let [Action::Tell(told)] = &wire.a.asked[..] else {
        panic!("{} actions", wire.a.asked.len());
    };
    assert_eq!(**told, (asker, Checked::Unreached(Unreached::Timeout)));
    // An answer that comes now is no offense.
    let late = "<db:verify from='b.example' to='a.example' id='x' type='valid'/>";
    assert_eq!(wire.a.hear(late), "");
    assert!(wire.a.is_ready() && !wire.a.is_over);
    assert!(wire.a.stream.deadline(&wire.a.settings) > Some(due));
}

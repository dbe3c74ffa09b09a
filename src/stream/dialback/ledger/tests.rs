use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const ID: &str = "our-id";
const NOW: Mono = Mono::from_millis(1_000);

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn pair(local: &str, remote: &str) -> Pair {
    Pair {
        local: domain(local),
        remote: domain(remote),
    }
}

fn the_pair() -> Pair {
    pair("montague.example", "capulet.example")
}

/// A packet from the peer.
fn from_peer(pair: &Pair, body: Body) -> Packet {
    Packet {
        from: pair.remote.clone(),
        to: pair.local.clone(),
        body,
    }
}

fn key(key: &str) -> Body {
    Body::Offer { key: key.into() }
}

fn verified(id: &str, answer: Answer) -> Body {
    Body::Verified {
        id: id.into(),
        answer,
    }
}

fn error() -> Trouble {
    Trouble::new(Condition::NotAuthorized, "no")
}

fn accepted() -> Ledger<u32> {
    Ledger::accepted(ID)
}

fn dialled() -> Ledger<u32> {
    Ledger::dialled("their-id", the_pair().remote)
}

/// What was sent, in short.
fn said(actions: &[Action<u32>]) -> Vec<String> {
    let word = |answer: &Answer| match answer {
        Answer::Valid => "valid".to_owned(),
        Answer::Invalid => "invalid".to_owned(),
        Answer::Error(trouble) => trouble.condition.clone().into_owned(),
    };
    let each = |action: &Action<u32>| match action {
        Action::Send(packet) => {
            assert_eq!(packet.from, the_pair().local);
            assert_eq!(packet.to, the_pair().remote);
            let Body::Result(answer) = &packet.body else {
                panic!("{packet:?}");
            };
            word(answer)
        }
        Action::Rule(_) => "rule".to_owned(),
        Action::Verify { id, key, .. } => format!("verify {id} {key}"),
        Action::Proven(_) => "proven".to_owned(),
        Action::Denied(_) => "denied".to_owned(),
        Action::Answered(_, answer) => format!("answered {}", word(answer)),
        Action::Tell(asker, answer) => format!("tell {asker} {}", word(answer)),
        Action::Check { id, key, .. } => format!("check {id} {key}"),
        Action::Close => "close".to_owned(),
        Action::End(error) => error.condition.name().to_owned(),
    };
    actions.iter().map(each).collect()
}

/// Every state of a claim with every event about it: what is done, and the state after it.
#[test]
fn each_event_has_its_place() {
    let event = |ledger: &mut Ledger<u32>, event: &str| {
        let pair = the_pair();
        let answer = |answer| Checked::Answered(answer);
        match event {
            "offer" => ledger.receive(from_peer(&pair, key("k2"))).unwrap(),
            "accept" => ledger.rule(&pair, Ruling::Accept),
            "verify" => ledger.rule(&pair, Ruling::Verify),
            "refuse" => ledger.rule(&pair, Ruling::Refuse(error())),
            "valid" => ledger.verified(&pair, answer(Answer::Valid)),
            "invalid" => ledger.verified(&pair, answer(Answer::Invalid)),
            "error" => ledger.verified(&pair, answer(Answer::Error(error()))),
            "unknown" => ledger.verified(&pair, Checked::Unreached(Unreached::NotFound)),
            "timeout" => ledger.verified(&pair, Checked::Unreached(Unreached::Timeout)),
            "prove" => {
                assert!(ledger.prove(pair));
                Vec::new()
            }
            _ => unreachable!("{event}"),
        }
    };
    let state = |ledger: &Ledger<u32>| match ledger.claims.as_slice() {
        [] => "none",
        [claim] => match claim.state {
            ClaimState::Offered(_) => "offered",
            ClaimState::Verifying => "verifying",
            ClaimState::Proven => "proven",
        },
        more => panic!("{more:?}"),
    };
    let none: &[&str] = &[];
    let mut seen = HashSet::new();
    for (before, what, expected, after) in [
        ("none", "offer", &["rule"][..], "offered"),
        ("none", "accept", none, "none"),
        ("none", "verify", none, "none"),
        ("none", "refuse", none, "none"),
        ("none", "valid", none, "none"),
        ("none", "invalid", none, "none"),
        ("none", "error", none, "none"),
        ("none", "unknown", none, "none"),
        ("none", "timeout", none, "none"),
        ("none", "prove", none, "proven"),
        ("offered", "offer", none, "offered"),
        ("offered", "accept", &["proven", "valid"], "proven"),
        ("offered", "verify", &["verify our-id k1"], "verifying"),
        ("offered", "refuse", &["not-authorized"], "none"),
        ("offered", "valid", none, "offered"),
        ("offered", "invalid", none, "offered"),
        ("offered", "error", none, "offered"),
        ("offered", "unknown", none, "offered"),
        ("offered", "timeout", none, "offered"),
        ("offered", "prove", none, "proven"),
        ("verifying", "offer", none, "verifying"),
        ("verifying", "accept", none, "verifying"),
        ("verifying", "verify", none, "verifying"),
        ("verifying", "refuse", none, "verifying"),
        ("verifying", "valid", &["proven", "valid"], "proven"),
        (
            "verifying",
            "invalid",
            &["denied", "invalid", "close"],
            "none",
        ),
        ("verifying", "error", &["remote-server-not-found"], "none"),
        ("verifying", "unknown", &["remote-server-not-found"], "none"),
        ("verifying", "timeout", &["remote-server-timeout"], "none"),
        ("verifying", "prove", none, "proven"),
        ("proven", "offer", &["valid"], "proven"),
        ("proven", "accept", none, "proven"),
        ("proven", "verify", none, "proven"),
        ("proven", "refuse", none, "proven"),
        ("proven", "valid", none, "proven"),
        ("proven", "invalid", none, "proven"),
        ("proven", "error", none, "proven"),
        ("proven", "unknown", none, "proven"),
        ("proven", "timeout", none, "proven"),
        ("proven", "prove", none, "proven"),
    ] {
        let mut ledger = accepted();
        if before != "none" {
            ledger.receive(from_peer(&the_pair(), key("k1"))).unwrap();
        }
        match before {
            "verifying" => drop(ledger.rule(&the_pair(), Ruling::Verify)),
            "proven" => drop(ledger.rule(&the_pair(), Ruling::Accept)),
            _ => {}
        }
        assert_eq!(state(&ledger), before);
        let actions = event(&mut ledger, what);
        assert_eq!(said(&actions), expected, "{before} {what}");
        assert_eq!(state(&ledger), after, "{before} {what}");
        let is_proven = ledger.is_proven("montague.example", "capulet.example");
        assert_eq!(is_proven, after == "proven", "{before} {what}");
        assert!(seen.insert((before, what)));
    }
    assert_eq!(seen.len(), 4 * 10);
}

/// XEP-0220 §2.2.1: it MAY return `forbidden` then, and keeps the stream.
#[test]
fn a_denied_key_does_not_cost_what_is_proven() {
    let mut ledger = accepted();
    assert!(ledger.prove(pair("montague.example", "rooms.capulet.example")));
    ledger.receive(from_peer(&the_pair(), key("k"))).unwrap();
    ledger.rule(&the_pair(), Ruling::Verify);
    let actions = ledger.verified(&the_pair(), Checked::Answered(Answer::Invalid));
    assert_eq!(said(&actions), ["denied", "forbidden"]);
    assert!(ledger.is_proven("montague.example", "rooms.capulet.example"));
    assert!(!ledger.is_proven("montague.example", "capulet.example"));
}

/// XEP-0220 §2.6.
#[test]
fn several_domains_are_proven_on_one_stream_each_for_itself() {
    let mut ledger = accepted();
    let names = ["c.example", "a.example", "d.example", "b.example"];
    for remote in names {
        for local in ["x.example", "w.example"] {
            let pair = pair(local, remote);
            ledger.receive(from_peer(&pair, key("k"))).unwrap();
            if (local, remote) != ("w.example", "d.example") {
                ledger.rule(&pair, Ruling::Accept);
            }
        }
    }
    for remote in names {
        assert!(ledger.is_proven("x.example", remote));
        assert!(!ledger.is_proven(remote, "x.example"));
        let is_proven = ledger.is_proven("w.example", remote);
        assert_eq!(is_proven, remote != "d.example");
    }
    assert_eq!(ledger.proven().count(), 7);
}

/// XEP-0220 §3.1.
#[test]
fn an_answer_that_nobody_asked_for_ends_the_stream() {
    for answer in [Answer::Valid, Answer::Invalid, Answer::Error(error())] {
        for mut ledger in [accepted(), dialled()] {
            ledger.make_bidirectional();
            for body in [Body::Result(answer.clone()), verified("1", answer.clone())] {
                let error = ledger.receive(from_peer(&the_pair(), body)).unwrap_err();
                assert_eq!(error.condition, StreamCondition::InvalidFrom);
            }
        }
    }
    // What the peer has offered itself it does not answer either.
    let mut ledger = accepted();
    ledger.receive(from_peer(&the_pair(), key("k"))).unwrap();
    ledger.rule(&the_pair(), Ruling::Verify);
    for body in [Body::Result(Answer::Valid), verified(ID, Answer::Valid)] {
        let error = ledger.receive(from_peer(&the_pair(), body)).unwrap_err();
        assert_eq!(error.condition, StreamCondition::InvalidFrom);
    }
    assert!(!ledger.is_proven("montague.example", "capulet.example"));
}

#[test]
fn a_question_is_answered_once_by_who_was_asked() {
    let mut ledger = dialled();
    let packet = ledger.ask(the_pair(), "1", "k", 7, NOW).unwrap();
    assert_eq!(packet.from, "montague.example");
    assert_eq!(packet.to, "capulet.example");
    let (id, key) = ("1".to_owned(), "k".to_owned());
    assert_eq!(packet.body, Body::Verify { id, key });
    assert_eq!(
        ledger.ask(the_pair(), "1", "k", 8, NOW),
        Err(NotHere::Asked)
    );

    let other_pairs = [
        pair("montague.example", "tybalt.example"),
        pair("benvolio.example", "capulet.example"),
        pair("capulet.example", "montague.example"),
    ];
    for other in other_pairs {
        let answer = from_peer(&other, verified("1", Answer::Valid));
        assert!(ledger.receive(answer).is_err());
    }
    assert!(
        ledger
            .receive(from_peer(&the_pair(), verified("2", Answer::Valid)))
            .is_err()
    );
    assert!(
        ledger
            .receive(from_peer(&the_pair(), Body::Result(Answer::Valid)))
            .is_err()
    );

    let answer = || from_peer(&the_pair(), verified("1", Answer::Valid));
    assert_eq!(said(&ledger.receive(answer()).unwrap()), ["tell 7 valid"]);
    assert!(ledger.receive(answer()).is_err());
}

/// XEP-0288 §2.2, and the same of a request by the peer.
#[test]
fn no_key_is_verified_on_the_stream_that_it_was_offered_on() {
    let mut ledger = accepted();
    assert!(ledger.prove(the_pair()));
    assert_eq!(
        ledger.ask(the_pair(), ID, "k", 1, NOW),
        Err(NotHere::OfferedHere)
    );
    assert!(ledger.ask(the_pair(), "other", "k", 1, NOW).is_ok());

    let mut ledger = dialled();
    ledger.offer(the_pair(), &Secret::new(b"s")).unwrap();
    let (id, key) = ("their-id".to_owned(), "k".to_owned());
    let error = ledger
        .receive(from_peer(&the_pair(), Body::Verify { id, key }))
        .unwrap_err();
    assert_eq!(error.condition, StreamCondition::NotAuthorized);
}

/// XEP-0220 §2.1.2: who is asked is who the DNS leads to, or who has proven the domain.
#[test]
fn questions_and_offers_go_where_the_domain_is() {
    let secret = Secret::new(b"s");
    let other = pair("montague.example", "tybalt.example");
    let elsewhere = Err(NotHere::LeadsElsewhere);

    let mut ledger = dialled();
    assert_eq!(ledger.ask(other.clone(), "1", "k", 1, NOW), elsewhere);
    assert_eq!(ledger.offer(other.clone(), &secret), elsewhere);
    assert!(ledger.ask(the_pair(), "1", "k", 1, NOW).is_ok());
    assert!(ledger.offer(the_pair(), &secret).is_ok());

    let mut ledger = accepted();
    assert_eq!(ledger.ask(the_pair(), "1", "k", 1, NOW), elsewhere);
    assert!(ledger.prove(the_pair()));
    assert!(ledger.ask(the_pair(), "1", "k", 1, NOW).is_ok());
    assert_eq!(ledger.offer(the_pair(), &secret), elsewhere);
    ledger.make_bidirectional();
    assert!(ledger.offer(the_pair(), &secret).is_ok());
    assert_eq!(ledger.offer(other, &secret), elsewhere);
}

/// XEP-0220 §2.3.
#[test]
fn keys_are_offered_in_the_direction_of_the_stream() {
    let mut ledger = dialled();
    let error = ledger
        .receive(from_peer(&the_pair(), key("k")))
        .unwrap_err();
    assert_eq!(error.condition, StreamCondition::NotAuthorized);
    ledger.make_bidirectional();
    let actions = ledger.receive(from_peer(&the_pair(), key("k"))).unwrap();
    assert_eq!(said(&actions), ["rule"]);
}

#[test]
fn our_offer_has_the_key_of_the_stream_and_is_answered_once() {
    let secret = Secret::new(b"s");
    let mut ledger = dialled();
    let packet = ledger.offer(the_pair(), &secret).unwrap();
    let Body::Offer { key } = packet.body else {
        panic!("{packet:?}");
    };
    assert!(secret.made(&key, &the_pair().remote, &the_pair().local, "their-id"));
    assert_eq!(ledger.offer(the_pair(), &secret), Err(NotHere::Asked));
    let answer = |answer| from_peer(&the_pair(), Body::Result(answer));
    let actions = ledger.receive(answer(Answer::Valid)).unwrap();
    assert_eq!(said(&actions), ["answered valid"]);
    assert!(ledger.receive(answer(Answer::Valid)).is_err());
    assert!(!ledger.is_proven("montague.example", "capulet.example"));
}

#[test]
fn an_offer_and_a_question_are_answered_once() {
    let mut ledger = dialled();
    ledger.offer(the_pair(), &Secret::new(b"s")).unwrap();
    ledger.ask(the_pair(), "1", "k", 7, NOW).unwrap();
    for (body, told) in [
        (Body::Result(Answer::Valid), "answered valid"),
        (verified("1", Answer::Valid), "tell 7 valid"),
    ] {
        let packet = from_peer(&the_pair(), body);
        assert_eq!(said(&ledger.receive(packet.clone()).unwrap()), [told]);
        assert!(ledger.receive(packet).is_err());
    }
}

/// XEP-0220 §2.1.1: an operation has failed if no answer comes for a while; §2.5 has the condition.
#[test]
fn a_question_that_is_not_answered_is_given_up() {
    let mut ledger = dialled();
    let second = NOW + std::time::Duration::from_secs(1);
    ledger.ask(the_pair(), "1", "k", 7, NOW).unwrap();
    ledger.ask(the_pair(), "2", "k", 8, second).unwrap();
    let due = NOW + DIALBACK_ANSWER_WAIT;
    assert_eq!(ledger.due(), Some(due));
    assert!(
        ledger
            .give_up(Mono::from_millis(due.millis() - 1))
            .is_empty()
    );
    assert_eq!(ledger.give_up(due), [7]);
    assert_eq!(ledger.due(), Some(second + DIALBACK_ANSWER_WAIT));
    // Its place is free, and its answer may still come, once.
    assert!(ledger.ask(the_pair(), "1", "k", 9, due).is_ok());
    let answer = from_peer(&the_pair(), verified("1", Answer::Valid));
    assert_eq!(
        said(&ledger.receive(answer.clone()).unwrap()),
        ["tell 9 valid"]
    );
    assert!(ledger.receive(answer.clone()).unwrap().is_empty());
    assert!(ledger.receive(answer).is_err());
    assert_eq!(ledger.end(), [8]);
}

#[test]
fn questions_that_are_given_up_are_remembered_within_bounds() {
    let mut ledger = dialled();
    let mut now = NOW;
    for n in 0..=DIALBACK_QUESTIONS_MAX {
        ledger.ask(the_pair(), &n.to_string(), "k", 1, now).unwrap();
        now = now + DIALBACK_ANSWER_WAIT;
        assert_eq!(ledger.give_up(now), [1]);
    }
    let answer = |id| from_peer(&the_pair(), verified(id, Answer::Valid));
    assert!(ledger.receive(answer("1")).unwrap().is_empty());
    assert!(ledger.receive(answer("0")).is_err());
}

#[test]
fn a_stream_that_ends_tells_who_waits() {
    let mut ledger = dialled();
    for (id, asker) in [("1", 1), ("2", 2), ("3", 3)] {
        ledger.ask(the_pair(), id, "k", asker, NOW).unwrap();
    }
    ledger
        .receive(from_peer(&the_pair(), verified("1", Answer::Invalid)))
        .unwrap();
    let waiting: HashSet<u32> = ledger.end().into_iter().collect();
    assert_eq!(waiting, HashSet::from([2, 3]));
}

#[test]
fn what_a_peer_makes_us_remember_and_do_has_bounds() {
    let nth = |n: usize| pair("montague.example", &format!("d{n}.example"));
    let constraint = |actions: Vec<Action<u32>>| {
        let Some(Action::Send(packet)) = actions.first() else {
            panic!("{actions:?}");
        };
        assert!(
            matches!(&packet.body, Body::Result(Answer::Error(trouble))
                if trouble.condition == "resource-constraint"),
            "{packet:?}"
        );
    };

    // Keys that are being verified.
    let mut ledger = accepted();
    for n in 0..DIALBACK_PENDING_MAX {
        let actions = ledger.receive(from_peer(&nth(n), key("k"))).unwrap();
        assert_eq!(
            actions.len(),
            usize::from(n == 0),
            "the others wait for the first"
        );
        ledger.rule(&nth(n), Ruling::Verify);
    }
    constraint(ledger.receive(from_peer(&nth(999), key("k"))).unwrap());
    ledger.verified(&nth(0), Checked::Answered(Answer::Valid));
    let actions = ledger.receive(from_peer(&nth(999), key("k"))).unwrap();
    assert_eq!(said(&actions), ["rule"]);

    // Pairs.
    let mut ledger = accepted();
    for n in 0..DIALBACK_PAIRS_MAX {
        assert!(ledger.prove(nth(n)));
    }
    assert!(!ledger.prove(nth(DIALBACK_PAIRS_MAX)));
    assert!(ledger.prove(nth(0)));
    constraint(
        ledger
            .receive(from_peer(&nth(DIALBACK_PAIRS_MAX), key("k")))
            .unwrap(),
    );

    // Questions.
    let mut ledger = dialled();
    for n in 0..DIALBACK_QUESTIONS_MAX {
        ledger.ask(the_pair(), &n.to_string(), "k", 1, NOW).unwrap();
    }
    assert_eq!(ledger.ask(the_pair(), "x", "k", 1, NOW), Err(NotHere::Full));
}

/// `Who owns what` in lib.rs: no answer is on its way to a stream that moves.
#[test]
fn one_key_is_verified_at_a_time_until_a_pair_is_proven() {
    let pairs = ["a.example", "b.example", "c.example"].map(|name| pair("montague.example", name));
    let mut ledger = accepted();
    let offer =
        |ledger: &mut Ledger<u32>, pair: &Pair| ledger.receive(from_peer(pair, key("k"))).unwrap();
    let rule = |pair: &Pair| Action::Rule(pair.clone());
    assert_eq!(offer(&mut ledger, &pairs[0]), [rule(&pairs[0])]);
    ledger.rule(&pairs[0], Ruling::Verify);
    for waiting in &pairs[1..] {
        assert_eq!(offer(&mut ledger, waiting), []);
    }
    // It is refused: the next one's turn comes.
    let refused = ledger.verified(&pairs[0], Checked::Unreached(Unreached::Timeout));
    assert_eq!(refused.last(), Some(&rule(&pairs[1])));
    let refused = ledger.rule(&pairs[1], Ruling::Refuse(error()));
    assert_eq!(refused.last(), Some(&rule(&pairs[2])));
    ledger.rule(&pairs[2], Ruling::Verify);
    assert_eq!(offer(&mut ledger, &pairs[0]), []);
    ledger.verified(&pairs[2], Checked::Answered(Answer::Valid));
    // The stream moves, and then nothing waits any more.
    assert_eq!(ledger.placed(), [rule(&pairs[0])]);
    ledger.rule(&pairs[0], Ruling::Verify);
    assert_eq!(offer(&mut ledger, &pairs[1]), [rule(&pairs[1])]);
    assert_eq!(ledger.placed(), [rule(&pairs[1])]);
}

#[test]
fn too_many_refusals_in_a_row_end_the_stream() {
    let refuse = |ledger: &mut Ledger<u32>| {
        ledger.receive(from_peer(&the_pair(), key("k"))).unwrap();
        said(&ledger.rule(&the_pair(), Ruling::Refuse(error())))
    };
    let mut ledger = accepted();
    for _ in 1..DIALBACK_REFUSALS_MAX {
        assert_eq!(refuse(&mut ledger), ["not-authorized"]);
    }
    assert_eq!(refuse(&mut ledger), ["not-authorized", "policy-violation"]);

    let mut ledger = accepted();
    for n in 0..3 * DIALBACK_REFUSALS_MAX {
        if n % (DIALBACK_REFUSALS_MAX - 1) == 0 {
            let good = pair("montague.example", &format!("d{n}.example"));
            ledger.receive(from_peer(&good, key("k"))).unwrap();
            ledger.rule(&good, Ruling::Accept);
        }
        assert_eq!(refuse(&mut ledger), ["not-authorized"]);
    }
}

/// What can happen on a stream; numbers choose among few domains, ids and askers.
#[derive(Clone, Debug)]
enum Step {
    Packet(u8, u8, u8, u8),
    Rule(u8, u8),
    Verified(u8, u8),
    Ask(u8, u8),
    Offer(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_u8, 0..3_u8, 0..4_u8, 0..3_u8).prop_map(|(a, b, c, d)| Step::Packet(a, b, c, d)),
        (0..4_u8, 0..3_u8).prop_map(|(a, b)| Step::Rule(a, b)),
        (0..4_u8, 0..4_u8).prop_map(|(a, b)| Step::Verified(a, b)),
        (0..4_u8, 0..3_u8).prop_map(|(a, b)| Step::Ask(a, b)),
        (0..4_u8).prop_map(Step::Offer),
    ];
    prop::collection::vec(step, 0..60)
}

fn nth_pair(n: u8) -> Pair {
    let local = ["montague.example", "benvolio.example"][usize::from(n & 1)];
    let remote = ["capulet.example", "tybalt.example"][usize::from(n >> 1)];
    pair(local, remote)
}

fn nth_answer(n: u8) -> Answer {
    match n {
        0 => Answer::Valid,
        1 => Answer::Invalid,
        _ => Answer::Error(error()),
    }
}

proptest! {
    /// Whatever the peer sends: a pair is proven by a ruling or by a verification that was asked for,
    /// an asker is told once and only what was answered here, an offer is answered once.
    #[test]
    fn nothing_is_proven_or_told_but_what_was_asked(
        steps in steps(), is_dialled: bool, is_bidirectional: bool,
    ) {
        let mut ledger = if is_dialled { dialled() } else { accepted() };
        let own_id = if is_dialled { "their-id" } else { ID };
        if is_bidirectional {
            ledger.make_bidirectional();
        }
        let ids = [own_id, "1", "2"];
        let secret = Secret::new(b"s");
        let mut verifying = HashSet::new();
        let mut allowed = HashSet::new();
        let mut asked: HashMap<u32, (Pair, &str)> = HashMap::new();
        let mut offered = HashSet::new();
        let mut next = 0;
        for step in steps {
            let mut about = None;
            let actions = match step {
                Step::Packet(n, id, kind, answer) => {
                    let id = ids[usize::from(id)];
                    let body = match kind {
                        0 => key("k"),
                        1 => Body::Verify { id: id.to_owned(), key: "k".to_owned() },
                        2 => verified(id, nth_answer(answer)),
                        _ => Body::Result(nth_answer(answer)),
                    };
                    about = Some((nth_pair(n), id, nth_answer(answer)));
                    // The stream ends at an error; that it goes on here is worse than the truth.
                    ledger.receive(from_peer(&nth_pair(n), body)).unwrap_or_default()
                }
                Step::Rule(n, ruling) => {
                    let ruling = match ruling {
                        0 => Ruling::Accept,
                        1 => Ruling::Verify,
                        _ => Ruling::Refuse(error()),
                    };
                    if ruling == Ruling::Accept {
                        allowed.insert(nth_pair(n));
                    }
                    ledger.rule(&nth_pair(n), ruling)
                }
                Step::Verified(n, answer) => {
                    if answer == 0 && verifying.contains(&nth_pair(n)) {
                        allowed.insert(nth_pair(n));
                    }
                    verifying.remove(&nth_pair(n));
                    let checked = match answer {
                        3 => Checked::Unreached(Unreached::Timeout),
                        answer => Checked::Answered(nth_answer(answer)),
                    };
                    ledger.verified(&nth_pair(n), checked)
                }
                Step::Ask(n, id) => {
                    next += 1;
                    let id = ids[usize::from(id)];
                    if ledger.ask(nth_pair(n), id, "k", next, NOW).is_ok() {
                        prop_assert_ne!(id, own_id);
                        asked.insert(next, (nth_pair(n), id));
                    }
                    Vec::new()
                }
                Step::Offer(n) => {
                    if ledger.offer(nth_pair(n), &secret).is_ok() {
                        prop_assert!(is_dialled || is_bidirectional);
                        prop_assert!(offered.insert(nth_pair(n)));
                    }
                    Vec::new()
                }
            };
            for action in actions {
                match action {
                    Action::Verify { pair, id, .. } => {
                        prop_assert_eq!(id, own_id);
                        verifying.insert(pair);
                    }
                    Action::Proven(pair) => prop_assert!(allowed.contains(&pair)),
                    Action::Tell(asker, answer) => {
                        let (pair, id) = asked.remove(&asker).expect("asked, and not told yet");
                        prop_assert_eq!(about.clone(), Some((pair, id, answer)));
                    }
                    Action::Answered(pair, answer) => {
                        prop_assert!(offered.remove(&pair));
                        let (from, _, said) = about.clone().expect("a packet has come");
                        prop_assert_eq!((from, said), (pair, answer));
                    }
                    _ => {}
                }
            }
            for n in 0..4 {
                let pair = nth_pair(n);
                let is_proven = ledger.is_proven(pair.local.as_str(), pair.remote.as_str());
                prop_assert!(!is_proven || allowed.contains(&pair));
            }
        }
        let left: HashSet<u32> = asked.into_keys().collect();
        prop_assert_eq!(ledger.end().into_iter().collect::<HashSet<_>>(), left);
    }
}

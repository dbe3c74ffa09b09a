//! Both sides of a stream against a model, over the wrap of their counters.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Mono;
use crate::router::settlement::Unsettled;

const NOW: Mono = Mono::from_millis(1_000);
/// Three before the counters start over.
const NEAR_WRAP: u64 = (1 << 32) - 3;

const BOUNDS: Bounds = Bounds {
    stanzas_max: 8,
    bytes_max: 100,
};
const CADENCE: Cadence = Cadence {
    stanzas: 3,
    bytes: 50,
    delay: Duration::from_millis(100),
};

fn queue() -> Unacknowledged<u32> {
    Unacknowledged::new(BOUNDS, CADENCE)
}

fn acknowledge(queue: &mut Unacknowledged<u32>, h: u32) -> Result<Vec<u32>, TooHigh> {
    queue.acknowledge(h, NOW).map(Iterator::collect)
}

#[test]
fn what_is_acknowledged_leaves_in_order_and_the_rest_stays() {
    let mut queue = queue();
    for item in 1..=5 {
        queue.push(item, 10, NOW).unwrap();
    }
    assert_eq!(acknowledge(&mut queue, 2), Ok(vec![1, 2]));
    assert_eq!(acknowledge(&mut queue, 2), Ok(vec![]));
    assert_eq!(queue.waiting().copied().collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!((queue.len(), queue.bytes(), queue.sent()), (3, 30, 5));
    assert_eq!(acknowledge(&mut queue, 4), Ok(vec![3, 4]));
    assert_eq!(queue.into_waiting().collect::<Vec<_>>(), [5]);
}

/// XEP-0198 §6, example 17.
#[test]
fn a_count_that_is_too_high_ends_the_stream_and_acknowledges_nothing() {
    let mut queue = queue();
    for item in 1..=8 {
        queue.push(item, 1, NOW).unwrap();
    }
    let error = acknowledge(&mut queue, 10).unwrap_err();
    assert_eq!(error, TooHigh { h: 10, sent: 8 });
    assert_eq!(queue.len(), 8);
    let mut out = Vec::new();
    error.stream_error().write(&mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>\
         You have acknowledged stanza 10, but 8 is the last one sent</text>\
         <handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/></stream:error>"
    );
    // What was acknowledged cannot be taken back.
    assert_eq!(acknowledge(&mut queue, 5).unwrap().len(), 5);
    assert_eq!(acknowledge(&mut queue, 4), Err(TooHigh { h: 4, sent: 8 }));
}

#[test]
fn a_full_queue_gives_the_stanza_back() {
    let mut queue = queue();
    for item in 0..8 {
        queue.push(item, 1, NOW).unwrap();
    }
    assert_eq!(queue.push(8, 1, NOW), Err(8));
    acknowledge(&mut queue, 1).unwrap();
    assert_eq!(queue.push(8, 1, NOW), Ok(()));
    acknowledge(&mut queue, 9).unwrap();
    // By bytes, but for one that would never have place.
    queue.push(9, 1_000, NOW).unwrap();
    assert_eq!(queue.push(10, 1, NOW), Err(10));
    acknowledge(&mut queue, 10).unwrap();
    queue.push(10, 60, NOW).unwrap();
    assert_eq!(queue.push(11, 41, NOW), Err(11));
    assert_eq!(queue.push(11, 40, NOW), Ok(()));
    assert_eq!(queue.sent(), 12);
}

#[test]
fn an_ack_is_requested_after_stanzas_or_bytes_or_time() {
    let late = NOW + CADENCE.delay;
    let mut queue = queue();
    assert_eq!(queue.request_at(), None);
    queue.push(1, 1, NOW).unwrap();
    assert_eq!(queue.request_at(), Some(late));
    queue.push(2, 1, late).unwrap();
    assert!(!queue.is_request_due(NOW) && queue.is_request_due(late));
    queue.push(3, 1, NOW).unwrap();
    assert!(queue.is_request_due(NOW));

    queue.request(NOW);
    assert_eq!(queue.asked_at(), Some(NOW));
    for item in 4..8 {
        queue.push(item, 1, NOW).unwrap();
    }
    assert_eq!(queue.request_at(), None, "one is under way");
    acknowledge(&mut queue, 3).unwrap();
    assert_eq!(queue.asked_at(), None);
    assert!(queue.is_request_due(NOW));
    acknowledge(&mut queue, 7).unwrap();
    assert_eq!(queue.request_at(), None);

    queue.push(8, 50, NOW).unwrap();
    assert!(queue.is_request_due(NOW));
}

/// XEP-0198 §4: either party may send an ack at any time.
#[test]
fn what_is_acknowledged_unasked_is_not_asked_about() {
    let mut queue = queue();
    queue.push(1, 45, NOW).unwrap();
    queue.push(2, 1, NOW).unwrap();
    acknowledge(&mut queue, 2).unwrap();
    let later = NOW + Duration::from_millis(1);
    queue.push(3, 5, later).unwrap();
    assert_eq!(queue.request_at(), Some(later + CADENCE.delay));
}

/// We answer so ourselves: less at first, the rest later, and not all peers tell the rest.
#[test]
fn what_an_answer_left_out_is_asked_for_again() {
    let mut queue = queue();
    for item in 1..=3 {
        queue.push(item, 1, NOW).unwrap();
    }
    queue.request(NOW);
    acknowledge(&mut queue, 1).unwrap();
    assert_eq!(queue.request_at(), Some(NOW + CADENCE.delay));
    acknowledge(&mut queue, 3).unwrap();
    assert_eq!(queue.request_at(), None);
}

/// XEP-0198 §5.
#[test]
fn a_resumed_stream_goes_on_counting_and_sends_the_rest_again() {
    let mut queue = queue();
    for item in 1..=4 {
        queue.push(item, 1, NOW).unwrap();
    }
    queue.request(NOW);
    let later = NOW + CADENCE.delay;
    let done: Vec<u32> = queue.resume(1, later).unwrap().collect();
    assert_eq!(done, [1]);
    assert_eq!(queue.waiting().copied().collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(queue.sent(), 4);
    assert_eq!(queue.request_at(), Some(later), "the old request is lost");
    assert_eq!(acknowledge(&mut queue, 4), Ok(vec![2, 3, 4]));
    assert!(queue.resume(5, later).is_err());
}

#[test]
fn the_count_of_what_was_sent_starts_over_at_2_to_the_32() {
    let mut queue = queue().after(NEAR_WRAP);
    for item in 1..=5 {
        queue.push(item, 1, NOW).unwrap();
    }
    assert_eq!(acknowledge(&mut queue, u32::MAX), Ok(vec![1, 2]));
    assert_eq!(acknowledge(&mut queue, 0), Ok(vec![3]));
    assert_eq!(acknowledge(&mut queue, 3), Err(TooHigh { h: 3, sent: 2 }));
    assert_eq!(
        acknowledge(&mut queue, u32::MAX),
        Err(TooHigh {
            h: u32::MAX,
            sent: 2
        })
    );
    assert_eq!(acknowledge(&mut queue, 2), Ok(vec![4, 5]));
    assert_eq!(queue.sent(), NEAR_WRAP + 5);
}

/// What can happen to the outbound side alone.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    /// An ack so much above what is acknowledged.
    Ack(u32),
    Resume(u32),
    Request,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let far = prop_oneof![9 => 0..12_u32, 1 => any::<u32>()];
    let step = prop_oneof![
        5 => (0..60_usize).prop_map(Step::Push),
        3 => far.clone().prop_map(Step::Ack),
        1 => far.prop_map(Step::Resume),
        1 => Just(Step::Request),
        2 => (0..80_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Against a plain list: order, counts, bytes and bounds hold after any steps.
    #[test]
    fn the_queue_is_a_list_with_bounds(steps in steps(), start in prop::sample::select(vec![0, NEAR_WRAP])) {
        let mut queue = queue().after(start);
        let mut model: VecDeque<(u32, usize)> = VecDeque::new();
        let (mut done, mut next, mut now) = (start, 0, NOW);
        for step in steps {
            match step {
                Step::Push(bytes) => {
                    let total: usize = model.iter().map(|(_, bytes)| bytes).sum();
                    let has_place = model.is_empty() || model.len() < 8 && total + bytes <= 100;
                    next += 1;
                    prop_assert_eq!(queue.is_full(bytes), !has_place);
                    prop_assert_eq!(queue.push(next, bytes, now).is_ok(), has_place);
                    if has_place {
                        model.push_back((next, bytes));
                    }
                }
                Step::Ack(more) | Step::Resume(more) => {
                    let h = (done as u32).wrapping_add(more);
                    let expected: Option<Vec<u32>> = (more as usize <= model.len())
                        .then(|| model.drain(..more as usize).map(|(item, _)| item).collect());
                    let got = match step {
                        Step::Ack(_) => queue.acknowledge(h, now).map(Iterator::collect),
                        _ => queue.resume(h, now).map(Iterator::collect),
                    };
                    if expected.is_some() {
                        done += u64::from(more);
                        prop_assert_eq!(queue.asked_at(), None);
                    }
                    prop_assert_eq!(got.ok(), expected);
                }
                Step::Request => queue.request(now),
                Step::Wait(millis) => now = now + Duration::from_millis(millis),
            }
            prop_assert_eq!(queue.sent(), done + model.len() as u64);
            prop_assert_eq!(queue.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<usize>());
            prop_assert!(queue.waiting().eq(model.iter().map(|(item, _)| item)));
            prop_assert_eq!(queue.is_empty(), model.is_empty());
            // As long as something waits, it is asked about sooner or later.
            let is_asked = queue.asked_at().is_some();
            prop_assert_eq!(queue.request_at().is_some(), !model.is_empty() && !is_asked);
            prop_assert!(queue.request_at().is_none_or(|at| at <= now + CADENCE.delay));
        }
        prop_assert!(queue.into_waiting().eq(model.into_iter().map(|(item, _)| item)));
    }

    /// A stream between two sides, of which each may do anything at any time, until it breaks: every
    /// stanza is acknowledged or left, once and in order; what is acknowledged was settled; and a peer
    /// that settles everything gets everything acknowledged.
    #[test]
    fn no_stanza_is_lost_and_none_is_acknowledged_too_early(
        steps in prop::collection::vec((0..5_u8, any::<u16>()), 0..150),
        start in prop::sample::select(vec![0, NEAR_WRAP]),
        is_finished: bool,
    ) {
        enum Wire {
            Stanza(u32),
            Request,
        }
        let mut sender = queue().after(start);
        let mut receiver = Handled::after(0);
        receiver.receive(start);
        let (mut unsettled, mut open) = (Unsettled::default(), Vec::new());
        let (mut there, mut back): (VecDeque<Wire>, VecDeque<u32>) = Default::default();
        let (mut sent, mut acknowledged, mut now) = (0_u32, Vec::new(), NOW);
        let mut settled = Vec::new();

        let mut step = |kind: u8, chance: u16| -> Result<(), TestCaseError> {
            match kind {
                0 if sender.push(sent + 1, 5, now).is_ok() => {
                    sent += 1;
                    there.push_back(Wire::Stanza(sent));
                }
                1 => match there.pop_front() {
                    Some(Wire::Stanza(item)) => {
                        let number = unsettled.issue(5, false);
                        prop_assert_eq!(number, u64::from(item));
                        receiver.receive(start + number);
                        open.push(number);
                    }
                    Some(Wire::Request) => receiver.request(now),
                    None => {}
                },
                2 if !open.is_empty() => {
                    let number = open.swap_remove(usize::from(chance) % open.len());
                    prop_assert!(unsettled.settle(number));
                    settled.push(number);
                }
                3 => {
                    if let Some(h) = back.pop_front() {
                        let done = sender.acknowledge(h, now);
                        let done = done.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
                        for item in done {
                            prop_assert!(settled.contains(&u64::from(item)));
                            acknowledged.push(item);
                        }
                    }
                }
                4 => now = now + Duration::from_millis(u64::from(1 + chance % 60)),
                _ => {}
            }
            if sender.is_request_due(now) {
                sender.request(now);
                there.push_back(Wire::Request);
            }
            let prefix = start + unsettled.settled_prefix();
            if receiver.is_due(prefix, now) {
                back.push_back(receiver.say(prefix));
            }
            Ok(())
        };
        for (kind, chance) in steps {
            step(kind, chance)?;
        }
        if is_finished {
            // Deliver, settle, acknowledge, and let the time pass that requests and answers wait for.
            for _ in 0..50 {
                for kind in [1, 2, 3, 4] {
                    step(kind, 59)?;
                }
            }
            for _ in 0..120 {
                for kind in [4, 1, 3] {
                    step(kind, 59)?;
                }
            }
            prop_assert_eq!(acknowledged.len(), sent as usize);
        }
        let all: Vec<u32> = acknowledged.into_iter().chain(sender.into_waiting()).collect();
        prop_assert_eq!(all, (1..=sent).collect::<Vec<_>>());
    }
}

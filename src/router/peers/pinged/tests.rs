//! A stream and its pings, step by step, and against a peer that does anything at any time.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::limits::{PEER_REQUEST_DELAY, PEER_UNACKNOWLEDGED_STANZAS_MAX};

const WAIT: Duration = Duration::from_secs(60);
const HALF: Duration = Duration::from_secs(30);

/// One link, whose streams follow each other.
struct Scene {
    pinged: Pinged<u32>,
    habit: Habit,
    now: Mono,
    pings: u64,
}

impl Scene {
    fn new(habit: Habit) -> Scene {
        Scene {
            pinged: Pinged::new(WAIT),
            habit,
            now: Mono::from_millis(1_000_000),
            pings: 0,
        }
    }

    fn keep(&mut self, item: u32) -> Result<Vec<u32>, u32> {
        self.pinged.keep(self.habit, item, 10, self.now)
    }

    /// Does what is due so much later, and sends the ping that is due.
    fn after(&mut self, time: Duration) -> Step<u32> {
        self.now = self.now + time;
        let step = self.pinged.step(&mut self.habit, self.now);
        if step == Step::Ping {
            self.pings += 1;
            self.pinged.ping(self.pings, self.now);
        }
        step
    }

    fn answer(&mut self, ping: u64) -> Option<Vec<u32>> {
        self.pinged.answered(&mut self.habit, ping, self.now)
    }

    fn end(&mut self) -> Rest<u32> {
        let pinged = std::mem::replace(&mut self.pinged, Pinged::new(WAIT));
        pinged.end(&mut self.habit, self.now)
    }
}

const UNKNOWN: Habit = Habit::Unknown { unanswered: 0 };

#[test]
fn an_answer_says_that_all_is_received_that_was_sent_before_its_ping() {
    let mut scene = Scene::new(UNKNOWN);
    scene.keep(1).unwrap();
    scene.keep(2).unwrap();
    assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
    scene.keep(3).unwrap();
    assert_eq!(scene.answer(2), None, "that was not sent");
    assert_eq!(scene.answer(1), Some(vec![1, 2]));
    assert_eq!(scene.answer(1), None, "once");
    assert_eq!(scene.habit, Habit::Answers);
    assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
    assert_eq!(scene.answer(2), Some(vec![3]));
    assert_eq!(scene.pinged.next_due(scene.habit), None, "it is quiet");
    assert_eq!(scene.end(), Rest::Open(vec![]));
}

/// An answer is lost with the stream on which it comes, which need not be ours.
#[test]
fn it_is_pinged_twice_in_the_time_it_has_and_either_answer_does() {
    for answered in [1, 2] {
        let mut scene = Scene::new(Habit::Answers);
        scene.keep(1).unwrap();
        assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
        scene.keep(2).unwrap();
        assert_eq!(scene.after(HALF - PEER_REQUEST_DELAY), Step::Nothing);
        assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
        let received = scene.answer(answered).unwrap();
        assert_eq!(received, [vec![1], vec![1, 2]][answered as usize - 1]);
    }
}

#[test]
fn a_server_that_has_answered_and_stops_to_is_dead() {
    let mut scene = Scene::new(Habit::Answers);
    scene.keep(1).unwrap();
    scene.after(PEER_REQUEST_DELAY);
    assert_eq!(scene.after(HALF), Step::Ping);
    assert_eq!(scene.after(HALF), Step::GiveUp);
    assert_eq!(scene.after(WAIT * 9), Step::Nothing, "once");
    assert_eq!(scene.end(), Rest::Open(vec![1]));
    // If its answers alone get lost, it goes on without.
    scene.keep(1).unwrap();
    scene.after(PEER_REQUEST_DELAY);
    assert_eq!(scene.after(HALF), Step::Ping);
    assert_eq!(scene.after(HALF), Step::Settle(vec![1]));
}

/// It is neither given up nor held up.
#[test]
fn a_server_that_was_never_heard_to_answer_is_done_without() {
    let mut scene = Scene::new(UNKNOWN);
    scene.keep(1).unwrap();
    assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
    assert_eq!(scene.after(HALF), Step::Ping);
    assert_eq!(scene.after(HALF), Step::Ping);
    scene.keep(2).unwrap();
    assert_eq!(scene.after(HALF), Step::Settle(vec![1, 2]));
    assert_eq!(scene.pinged.next_due(scene.habit), None);
    assert_eq!(scene.keep(3), Err(3));
    // It is tried again, now and then, while something is sent.
    assert_eq!(scene.after(Duration::ZERO), Step::Nothing);
    assert_eq!(scene.after(PEER_PING_PROBE_EVERY), Step::Ping);
    assert_eq!(scene.after(PEER_PING_PROBE_EVERY * 2), Step::Nothing);
    assert_eq!(scene.keep(4), Err(4));
    assert_eq!(scene.after(Duration::ZERO), Step::Ping);
    assert_eq!(scene.end(), Rest::Open(vec![]));
    // And once on each stream.
    assert_eq!(scene.keep(5), Err(5));
    assert_eq!(scene.after(Duration::ZERO), Step::Ping);
    assert_eq!(scene.answer(scene.pings), Some(vec![]));
    assert_eq!(scene.keep(6), Ok(vec![]));
}

#[test]
fn an_answer_after_the_last_try_is_heard_all_the_same() {
    let mut scene = Scene::new(UNKNOWN);
    scene.keep(1).unwrap();
    scene.after(PEER_REQUEST_DELAY);
    for _ in 0..PEER_PINGS_UNANSWERED_MAX {
        scene.after(HALF);
    }
    assert_eq!(scene.habit, Habit::Silent);
    assert_eq!(scene.answer(1), Some(vec![]));
    assert_eq!(scene.habit, Habit::Answers);
    scene.keep(2).unwrap();
    assert_eq!(scene.after(PEER_REQUEST_DELAY), Step::Ping);
}

/// What it is sent would else come again with each of its streams.
#[test]
fn a_server_that_ends_its_streams_without_an_answer_is_done_without_too() {
    let mut scene = Scene::new(UNKNOWN);
    for _ in 1..PEER_PINGS_UNANSWERED_MAX {
        scene.keep(1).unwrap();
        scene.after(PEER_REQUEST_DELAY);
        scene.after(PEER_PING_FAIR);
        assert_eq!(scene.end(), Rest::Open(vec![1]));
    }
    // It had no time for that one.
    scene.keep(1).unwrap();
    scene.after(PEER_REQUEST_DELAY);
    assert_eq!(scene.end(), Rest::Open(vec![1]));
    scene.keep(1).unwrap();
    scene.after(PEER_REQUEST_DELAY);
    scene.after(PEER_PING_FAIR);
    assert_eq!(scene.end(), Rest::Settled(vec![1]));
}

#[test]
fn a_server_that_answers_is_waited_for_and_another_is_not() {
    let max = PEER_UNACKNOWLEDGED_STANZAS_MAX as u32;
    for habit in [UNKNOWN, Habit::Answers] {
        let mut scene = Scene::new(habit);
        for item in 0..max {
            assert_eq!(scene.keep(item), Ok(vec![]));
        }
        let is_known = habit == Habit::Answers;
        assert_eq!(scene.pinged.is_full(habit, 10), is_known);
        let kept = scene.keep(max);
        assert_eq!(kept, if is_known { Err(max) } else { Ok(vec![0]) });
        assert_eq!(scene.pinged.len(), PEER_UNACKNOWLEDGED_STANZAS_MAX);
        // The ping that is answered was sent before that one went.
        assert_eq!(scene.after(Duration::ZERO), Step::Ping);
        assert_eq!(scene.answer(1).map(|done| done.len()), Some(max as usize));
    }
}

/// What can happen to a link.
#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    Wait(u64),
    /// The answer to one of the last pings, or to none.
    Answer(u64),
    Break,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => prop_oneof![9 => 1..50_000_usize, 1 => 1..3_000_000_usize].prop_map(Act::Write),
        4 => prop_oneof![0..200_u64, 0..40_000_u64].prop_map(Act::Wait),
        3 => (0..5_u64).prop_map(Act::Answer),
        1 => Just(Act::Break),
    ];
    prop::collection::vec(act, 0..200)
}

/// A link over pings, and what has become of each of its stanzas.
struct Link {
    scene: Scene,
    /// What waits for a stream that takes it, in order, with its size.
    queue: Vec<(u32, usize)>,
    /// What was written to this stream and not given back, in order, and its size.
    kept: Vec<(u32, usize)>,
    /// Of each ping of this stream, the last stanza before it.
    behind: Vec<(u64, Option<u32>)>,
    received: BTreeSet<u32>,
    /// Those that count as received.
    settled: BTreeSet<u32>,
    /// Whether the stream was given up.
    is_over: bool,
    asked_since: Option<Mono>,
}

impl Link {
    fn new() -> Link {
        Link {
            scene: Scene::new(UNKNOWN),
            queue: Vec::new(),
            kept: Vec::new(),
            behind: Vec::new(),
            received: BTreeSet::new(),
            settled: BTreeSet::new(),
            is_over: false,
            asked_since: None,
        }
    }

    /// Takes items, which are the first that are kept.
    fn leave(&mut self, items: &[u32]) {
        let rest = self.kept.split_off(items.len());
        let first: Vec<u32> = self.kept.iter().map(|(item, _)| *item).collect();
        assert_eq!(first, items, "in order");
        self.kept = rest;
    }

    fn write(&mut self) {
        while let Some(&(item, bytes)) = self.queue.first() {
            let Scene {
                pinged, habit, now, ..
            } = &mut self.scene;
            if self.is_over || pinged.is_full(*habit, bytes) {
                return;
            }
            self.queue.remove(0);
            self.kept.push((item, bytes));
            match pinged.keep(*habit, item, bytes, *now) {
                Ok(released) => {
                    assert!(released.is_empty() || *habit != Habit::Answers);
                    self.leave(&released);
                    self.settled.extend(released);
                }
                Err(item) => {
                    assert_eq!(*habit, Habit::Silent);
                    assert_eq!(self.kept.len(), 1);
                    self.leave(&[item]);
                    self.settled.insert(item);
                }
            }
            self.step(Duration::ZERO);
        }
    }

    fn step(&mut self, time: Duration) {
        let before = self.scene.habit;
        let step = self.scene.after(time);
        assert!(!self.is_over || step == Step::Nothing);
        match step {
            Step::Nothing => {}
            Step::Ping => {
                let last = self.kept.last().map(|(item, _)| *item);
                self.behind.push((self.scene.pings, last));
                self.asked_since.get_or_insert(self.scene.now);
            }
            Step::Settle(items) => {
                assert!(matches!(before, Habit::Unknown { .. }));
                self.leave(&items);
                assert!(self.kept.is_empty());
                self.settled.extend(items);
            }
            Step::GiveUp => {
                assert_eq!(before, Habit::Answers, "it has answered before");
                let asked = self.asked_since.expect("it was asked");
                assert!(asked + WAIT <= self.scene.now, "and had its time");
                self.is_over = true;
            }
        }
    }

    fn answer(&mut self, back: u64) {
        let ping = self.scene.pings.saturating_sub(back);
        let Some(items) = self.scene.answer(ping) else {
            return;
        };
        let (_, last) = *self.behind.iter().find(|(id, _)| *id == ping).unwrap();
        let last = last.filter(|last| self.kept.iter().any(|(item, _)| item == last));
        assert_eq!(
            items.last().copied(),
            last,
            "up to the ping, and no further"
        );
        self.leave(&items);
        self.received.extend(items);
        self.asked_since = None;
    }

    /// The stream ends, and there is a new one.
    fn next_stream(&mut self) {
        let before = self.scene.habit;
        match self.scene.end() {
            Rest::Open(items) => {
                let sizes = std::mem::take(&mut self.kept);
                assert!(sizes.iter().map(|(item, _)| item).eq(&items));
                self.queue.splice(..0, sizes);
            }
            Rest::Settled(items) => {
                assert!(matches!(before, Habit::Unknown { .. }));
                self.leave(&items);
                assert!(self.kept.is_empty());
                self.settled.extend(items);
            }
        }
        self.behind.clear();
        self.asked_since = None;
        self.is_over = false;
    }
}

proptest! {
    /// Every stanza is received, sent again, or counts as received since the peer was never heard to
    /// answer: nothing else becomes of it, whatever the peer does.
    #[test]
    fn nothing_is_lost_whatever_the_peer_does(acts in acts()) {
        let mut link = Link::new();
        let mut written = 0;
        for act in acts {
            match act {
                Act::Write(bytes) => {
                    written += 1;
                    link.queue.push((written, bytes));
                }
                Act::Wait(millis) => link.step(Duration::from_millis(millis)),
                Act::Answer(back) => link.answer(back),
                Act::Break => link.next_stream(),
            }
            link.write();
            let pinged = &link.scene.pinged;
            prop_assert_eq!(pinged.len(), link.kept.len());
            prop_assert_eq!(pinged.bytes(), link.kept.iter().map(|kept| kept.1).sum::<usize>());
            prop_assert!(pinged.len() <= 1 || pinged.bytes() <= Bounds::PEER.bytes_max);
            // Something happens sooner or later.
            let is_due = pinged.next_due(link.scene.habit).is_some();
            prop_assert!(is_due || link.kept.is_empty() || link.is_over);
            prop_assert!(pinged.pings.len() <= PEER_PINGS_MAX);
        }
        // A peer that answers has everything at the end.
        link.next_stream();
        for _ in 0..3 * (written + 1) {
            link.write();
            link.step(PEER_REQUEST_DELAY);
            link.answer(0);
        }
        prop_assert!(link.queue.is_empty() && link.kept.is_empty());
        let both = link.received.intersection(&link.settled).count();
        prop_assert_eq!(both, 0);
        prop_assert_eq!(link.received.len() + link.settled.len(), written as usize);
    }
}

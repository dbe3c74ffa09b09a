//! Two accounts agree about their subscriptions once nothing is on its way between them, whatever they
//! did at once, in whatever order it was committed and carried, and wherever the server crashed.

use proptest::prelude::*;

use super::realm::{Realm, Seat, signal};
use crate::slots::Key;
use crate::stanza::Type;
use crate::storage::roster::State;

const NAMES: [&str; 3] = [
    "juliet@example.org",
    "romeo@example.org",
    "nurse@example.org",
];

const TYPES: [Type; 4] = [
    Type::Subscribe,
    Type::Subscribed,
    Type::Unsubscribe,
    Type::Unsubscribed,
];

/// What happens besides the steps that are due.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Does one of the steps that are due.
    Step(u8),
    /// An account sends a contact a subscription stanza.
    Send(usize, usize, usize),
    /// An account removes a contact from its roster.
    Remove(usize, usize),
    /// A batch of a shard fails.
    Fail(usize),
    /// A read of a shard fails.
    FailRead(usize),
    Crash,
    /// An operator deletes an account, and makes another one of that name.
    Replace(usize),
    /// An operator disables or enables an account.
    Enable(usize, bool),
}

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        30 => any::<u8>().prop_map(Act::Step),
        10 => (name.clone(), 1..NAMES.len(), 0..4_usize)
            .prop_map(|(from, by, type_)| Act::Send(from, (from + by) % NAMES.len(), type_)),
        2 => (name.clone(), 1..NAMES.len())
            .prop_map(|(from, by)| Act::Remove(from, (from + by) % NAMES.len())),
        1 => (0..2_usize).prop_map(Act::Fail),
        1 => (0..2_usize).prop_map(Act::FailRead),
        1 => Just(Act::Crash),
        1 => name.clone().prop_map(Act::Replace),
        1 => (name, any::<bool>()).prop_map(|(name, enabled)| Act::Enable(name, enabled)),
    ]
}

struct Play {
    realm: Realm,
    seats: [Option<Seat>; 3],
    /// Connections that wait to be let in.
    admissions: [Option<Key>; 3],
    /// A name that was asked while it had no account has not heard of it.
    is_anyone_replaced: bool,
}

impl Play {
    fn new() -> Play {
        Play {
            realm: Realm::new(&NAMES, |_| ()),
            seats: [None; 3],
            admissions: [None; 3],
            is_anyone_replaced: false,
        }
    }

    /// The session of an account; else it logs in, which takes some steps.
    fn seat(&mut self, index: usize) -> Option<Seat> {
        let realm = &mut self.realm;
        if let Some(seat) = self.seats[index]
            && realm.routers[seat.shard]
                .sessions
                .get(seat.session)
                .is_some()
        {
            return Some(seat);
        }
        self.seats[index] = None;
        let Some(conn) = self.admissions[index] else {
            self.admissions[index] = Some(realm.admit(NAMES[index]));
            return None;
        };
        if let Some(seat) = realm.bind(NAMES[index], "there", conn) {
            self.seats[index] = seat;
            self.admissions[index] = None;
        }
        self.seats[index]
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Step(choice) => {
                let steps = self.realm.steps();
                if !steps.is_empty() {
                    self.realm.take(steps[usize::from(choice) % steps.len()]);
                }
            }
            Act::Send(from, to, type_) => {
                if let Some(seat) = self.seat(from)
                    && self.realm.is_heard(seat)
                {
                    self.realm.send(seat, signal(TYPES[type_], NAMES[to]));
                }
            }
            Act::Remove(from, to) => {
                self.realm.remove(NAMES[from], NAMES[to]);
            }
            Act::Fail(shard) => {
                self.realm.steps();
                self.realm.fail(shard);
            }
            Act::FailRead(shard) => {
                self.realm.steps();
                self.realm.fail_read(shard);
            }
            Act::Crash => {
                self.realm.crash();
                self.seats = [None; 3];
                self.admissions = [None; 3];
            }
            Act::Replace(name) => {
                self.realm.delete(NAMES[name]);
                self.realm.create_live(NAMES[name]);
                self.is_anyone_replaced = true;
            }
            Act::Enable(name, enabled) => self.realm.set_enabled(NAMES[name], enabled),
        }
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        self.realm.settle();
        prop_assert_eq!(self.realm.handoffs(), 0, "none is left on its way");
        for seat in self.seats.into_iter().flatten() {
            prop_assert_eq!(self.realm.open(seat), 0, "every stanza is settled");
            let session = self.realm.routers[seat.shard].sessions.get(seat.session);
            prop_assert_eq!(session.map_or(0, |session| session.holds), 0);
        }
        for one in NAMES {
            for other in NAMES {
                let (mine, theirs) = (self.realm.stored(one, other), self.realm.stored(other, one));
                let told = format!("{one} {mine:?}, {other} {theirs:?}");
                if let Some(remembered) = self.realm.remembered(one, other) {
                    prop_assert_eq!(remembered, mine, "memory and store of {}", one);
                }
                prop_assert_eq!(mine.has(State::TO), theirs.has(State::FROM), "{}", told);
                if theirs.has(State::PENDING_IN) {
                    prop_assert!(mine.has(State::PENDING_OUT), "{}", told);
                }
                if mine.has(State::PENDING_OUT) && !self.is_anyone_replaced {
                    prop_assert!(theirs.has(State::PENDING_IN), "{}", told);
                }
                for (one, other) in [
                    (State::TO, State::PENDING_OUT),
                    (State::FROM, State::PENDING_IN),
                    (State::PENDING_IN, State::APPROVED),
                ] {
                    prop_assert!(!mine.has(one.with(other)), "{} is no state", told);
                }
                for bit in [State::TO, State::FROM, State::PENDING_OUT, State::APPROVED] {
                    prop_assert!(!mine.has(bit) || mine.is_listed(), "{}", told);
                }
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn accounts_agree_when_all_is_done(acts in prop::collection::vec(act(), 0..200)) {
        let mut play = Play::new();
        for act in acts {
            play.act(act);
        }
        play.check()?;
        // They go on from there.
        for type_ in [0, 1] {
            for (from, to) in [(0, 1), (1, 0)] {
                play.act(Act::Send(from, to, type_));
                play.realm.settle();
            }
        }
        play.check()?;
    }
}

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::limits::OPEN_FILES_KEPT;
use crate::net::open_files::{OpenFiles, Taken};

/// Limits that nobody reaches.
const PLENTY: ThrottleLimits = ThrottleLimits {
    connections_per_address_max: 1000,
    new_connections_per_address_max: 0,
    ..LIMITS
};

/// Places for further connections, where these do not matter.
const MANY: u64 = u64::MAX;

const LIMITS: ThrottleLimits = ThrottleLimits {
    connections_per_address_max: 2,
    new_connections_per_address_max: 0,
    handshakes_per_address_max: 0,
    login_failures_per_address_max: 10,
    login_failures_per_account_max: 4,
};
const START: Mono = Mono::from_millis(1_000_000);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_has_as_many_connections_as_allowed_and_gets_back_what_it_closes() {
    let table = Throttle::new(LIMITS);
    let one = ip("192.0.2.1");
    assert!(table.connect(one, START, MANY).is_ok());
    assert!(table.connect(one, START, MANY).is_ok());
    assert!(table.connect(one, START, MANY).is_err());
    assert!(table.connect(ip("192.0.2.2"), START, MANY).is_ok());
    table.disconnect(one, true);
    assert!(table.connect(one, START, MANY).is_ok());
}

#[test]
fn an_address_that_comes_too_often_is_refused_though_it_closes_what_it_opens() {
    let table = Throttle::new(ThrottleLimits {
        new_connections_per_address_max: 3,
        ..LIMITS
    });
    let one = ip("2001:db8:0:1::1");
    for _ in 0..3 {
        assert!(table.connect(one, START, MANY).is_ok());
        table.disconnect(one, true);
    }
    let refused = table.connect(one, START, MANY).unwrap_err();
    assert_eq!(refused.limit, "limits.new_connections_per_address_max");
    let neighbor = ip("2001:db8:0:1::2");
    assert!(
        table.connect(neighbor, START, MANY).is_err(),
        "a /64 is one customer"
    );
    let later = START + Duration::from_secs(60);
    for _ in 0..2 {
        assert!(
            table.connect(one, later, MANY).is_ok(),
            "refusals were not counted as open"
        );
    }
    let refused = table.connect(one, later, MANY).unwrap_err();
    assert_eq!(refused.limit, "limits.connections_per_address_max");
    assert_eq!(
        refused.untold,
        Some(2),
        "the one of the neighbor, and this one"
    );
}

#[test]
fn a_mapped_address_is_the_ipv4_one_and_a_slash_64_is_one_customer() {
    let table = Throttle::new(LIMITS);
    assert!(table.connect(ip("192.0.2.1"), START, MANY).is_ok());
    assert!(table.connect(ip("::ffff:192.0.2.1"), START, MANY).is_ok());
    assert!(table.connect(ip("192.0.2.1"), START, MANY).is_err());
    assert!(table.connect(ip("2001:db8:0:1::1"), START, MANY).is_ok());
    assert!(
        table
            .connect(ip("2001:db8:0:1:ffff::2"), START, MANY)
            .is_ok()
    );
    assert!(table.connect(ip("2001:db8:0:1:5::3"), START, MANY).is_err());
    assert!(table.connect(ip("2001:db8:0:2::1"), START, MANY).is_ok());
}

#[test]
fn failures_slow_an_address_down_then_refuse_it_then_fade() {
    let table = Throttle::new(LIMITS);
    let address = ip("192.0.2.1");
    let mut delays = Vec::new();
    for n in 0..10 {
        match table.may_log_in(address, "nobody@example.org", START) {
            Verdict::Allowed => assert!(n < 5),
            Verdict::SlowDown(delay) => delays.push(delay.as_millis()),
            Verdict::Refuse => panic!("refused after {n}"),
        }
        // Each time another account, so that only the address counts.
        table.login_failed(address, &format!("user{n}@example.org"), START);
    }
    assert_eq!(delays, [500, 1000, 2000, 4000, 8000]);
    let verdict = |at: u64| {
        table.may_log_in(
            address,
            "nobody@example.org",
            START + Duration::from_secs(at),
        )
    };
    assert_eq!(verdict(0), Verdict::Refuse);
    assert_eq!(verdict(6), Verdict::SlowDown(Duration::from_secs(8)));
    assert_eq!(verdict(60), Verdict::Allowed);
    assert_eq!(
        table.may_log_in(ip("192.0.2.2"), "nobody@example.org", START),
        Verdict::Allowed
    );
}

#[test]
fn a_flood_keeps_an_address_out_no_longer_than_its_last_failure_needs_to_fade() {
    let table = Throttle::new(LIMITS);
    let address = ip("192.0.2.1");
    for n in 0..1000 {
        table.login_failed(address, &format!("user{n}@example.org"), START);
    }
    let soon = START + Duration::from_secs(1);
    assert_eq!(
        table.may_log_in(address, "x@example.org", soon),
        Verdict::Refuse
    );
    let later = START + Duration::from_secs(12);
    assert_ne!(
        table.may_log_in(address, "x@example.org", later),
        Verdict::Refuse
    );
}

#[test]
fn an_attacked_account_is_refused_to_who_failed_and_only_slow_for_its_owner() {
    let table = Throttle::new(LIMITS);
    for n in 0..20 {
        let attacker = ip(&format!("198.51.100.{n}"));
        table.login_failed(attacker, "juliet@example.org", START);
    }
    let attacker = table.may_log_in(ip("198.51.100.1"), "juliet@example.org", START);
    assert_eq!(attacker, Verdict::Refuse);
    let owner = table.may_log_in(ip("192.0.2.1"), "juliet@example.org", START);
    assert_eq!(owner, Verdict::SlowDown(DELAY_MAX));
    let other = table.may_log_in(ip("192.0.2.1"), "romeo@example.org", START);
    assert_eq!(other, Verdict::Allowed);
}

#[test]
fn a_limit_of_one_refuses_after_one_failure() {
    assert_eq!(verdict(0, 1), Verdict::Allowed);
    assert_eq!(verdict(FAILURE, 1), Verdict::Refuse);
}

#[test]
fn new_limits_count_at_once() {
    let table = Throttle::new(LIMITS);
    let address = ip("192.0.2.1");
    table.login_failed(address, "a@example.org", START);
    assert_eq!(
        table.may_log_in(address, "b@example.org", START),
        Verdict::Allowed
    );
    table.set_limits(ThrottleLimits {
        login_failures_per_address_max: 1,
        ..LIMITS
    });
    assert_eq!(
        table.may_log_in(address, "b@example.org", START),
        Verdict::Refuse
    );
}

#[test]
fn the_table_stays_bounded_and_keeps_who_failed_most() {
    let table = Throttle::new(LIMITS);
    let worst = ip("203.0.113.1");
    for _ in 0..12 {
        table.login_failed(worst, "x@example.org", START);
    }
    for n in 0..300_000u32 {
        table.fail(Key::V4(n), 10, START);
    }
    let entries: usize = table.stripes.iter().map(|s| s.lock().unwrap().len()).sum();
    assert!(entries <= STRIPES * ENTRIES_PER_STRIPE_MAX, "{entries}");
    assert_eq!(
        table.may_log_in(worst, "y@example.org", START),
        Verdict::Refuse
    );
}

#[test]
fn an_address_without_connections_and_failures_leaves_nothing() {
    let table = Throttle::new(ThrottleLimits {
        connections_per_address_max: 0,
        ..LIMITS
    });
    assert!(table.connect(ip("192.0.2.1"), START, MANY).is_err());
    table.set_limits(LIMITS);
    assert!(table.connect(ip("192.0.2.1"), START, MANY).is_ok());
    table.disconnect(ip("192.0.2.1"), true);
    table.disconnect(ip("192.0.2.1"), true);
    assert!(table.stripes.iter().all(|s| s.lock().unwrap().is_empty()));
}

/// RFC 6120 §13.12: one that has proven itself is not counted against its address.
#[test]
fn an_address_may_have_newcomers_for_a_part_of_the_places_that_are_free() {
    let table = Throttle::new(PLENTY);
    let (one, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
    let two = 2 * NEWCOMERS_SHARE - 1;
    assert!(table.connect(one, START, two).is_ok());
    assert!(table.connect(one, START, two).is_ok());
    let refused = table.connect(one, START, two).unwrap_err();
    assert_eq!((refused.limit, refused.untold), ("open files", Some(1)));
    assert!(table.connect(one, START, two + 1).is_ok());
    assert!(table.connect(other, START, 0).is_ok(), "the last place");
    table.proven(one);
    table.proven(one);
    assert!(table.connect(one, START, two).is_ok());
    table.disconnect(one, false);
    assert!(table.connect(one, START, two).is_err(), "a session went");
    table.disconnect(one, true);
    assert!(table.connect(one, START, two).is_ok(), "a newcomer went");
}

/// Addresses with connections, proven or not, that come, prove themselves and go, beside what the
/// process has room for.
struct Crowd {
    table: Throttle,
    files: Arc<OpenFiles>,
    members: Vec<(IpAddr, bool, Taken)>,
}

impl Crowd {
    fn new(max: u64) -> Crowd {
        let files = Arc::new(OpenFiles::default());
        files.admit(0, Some(OPEN_FILES_KEPT + max));
        Crowd {
            table: Throttle::new(PLENTY),
            files,
            members: Vec::new(),
        }
    }

    /// As the listener does it.
    fn comes(&mut self, address: IpAddr) -> bool {
        let Some(taken) = self.files.take() else {
            return false;
        };
        let free = self.files.free();
        let may_come = self.table.connect(address, START, free).is_ok();
        if may_come {
            self.members.push((address, true, taken));
        }
        may_come
    }

    fn newcomers(&self, address: IpAddr) -> u64 {
        let of = self.members.iter();
        of.filter(|(of, is_newcomer, _)| *of == address && *is_newcomer)
            .count() as u64
    }
}

proptest! {
    /// Who has many gets no more than its part, whoever comes, proves itself and goes meanwhile; who has
    /// none gets the last place.
    #[test]
    fn a_flood_gets_its_part_and_who_has_none_gets_in(
        max in 2u64..80,
        floods in 1u8..20,
        steps in proptest::collection::vec((0u8..20, 0u8..8), 0..400),
    ) {
        let mut crowd = Crowd::new(max);
        let flood = |who: u8| IpAddr::from([192, 0, 2, who % floods]);
        for (who, what) in steps {
            match what {
                0 if !crowd.members.is_empty() => {
                    let at = usize::from(who) % crowd.members.len();
                    let (address, is_newcomer, _) = crowd.members.swap_remove(at);
                    crowd.table.disconnect(address, is_newcomer);
                }
                1 => {
                    if let Some(member) = crowd.members.iter_mut().find(|(_, new, _)| *new) {
                        member.1 = false;
                        crowd.table.proven(member.0);
                    }
                }
                _ => {
                    let before = crowd.newcomers(flood(who));
                    let free = crowd.files.free();
                    let got_in = crowd.comes(flood(who));
                    let part = free.saturating_sub(1) / NEWCOMERS_SHARE;
                    prop_assert_eq!(got_in, free > 0 && before <= part);
                    prop_assert!(before > 0 || free == 0 || got_in);
                    let has = crowd.newcomers(flood(who));
                    prop_assert!(has <= max.div_ceil(NEWCOMERS_SHARE + 1));
                }
            }
        }
    }

    /// In whatever order they come: each flood leaves the others seven eighths of what there was.
    #[test]
    fn floods_leave_places_for_who_comes_from_elsewhere(
        max in 20u64..400,
        order in proptest::collection::vec(0u8..8, 1..40),
    ) {
        let mut crowd = Crowd::new(max);
        let address = |who: u8| IpAddr::from([192, 0, 2, who]);
        for round in 0..max + 40 {
            let who = order[round as usize % order.len()];
            crowd.comes(address(who));
        }
        let floods: std::collections::BTreeSet<&u8> = order.iter().collect();
        let left = floods.iter().fold(max, |left, _| {
            left.saturating_sub(1) * NEWCOMERS_SHARE / (NEWCOMERS_SHARE + 1)
        });
        prop_assert!(crowd.files.free() >= left, "{} {left}", crowd.files.free());
        prop_assert_eq!(crowd.comes(ip("198.51.100.7")), true);
    }

    #[test]
    fn connections_never_exceed_the_limit(steps in proptest::collection::vec((0u8..3, any::<bool>()), 0..200)) {
        let table = Throttle::new(LIMITS);
        let mut open = [0u32; 3];
        for (who, opens) in steps {
            let address = IpAddr::from([192, 0, 2, who]);
            let count = &mut open[usize::from(who)];
            if opens {
                let free = table.connect(address, START, MANY).is_ok();
                prop_assert_eq!(free, *count < 2);
                *count += u32::from(free);
            } else if *count > 0 {
                table.disconnect(address, true);
                *count -= 1;
            }
        }
    }
}

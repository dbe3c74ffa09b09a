//! Reads of stored messages that fail.

use std::time::Duration;

use super::*;

impl House {
    fn rest(&mut self, pause: Duration) {
        self.pass(u64::try_from(pause.as_micros()).unwrap());
        self.site.router.work();
    }

    fn fail_read(&mut self) {
        self.site.answer_read(Err(StoreError::Busy));
    }
}

/// Meanwhile the account is not busy, and nothing overtakes.
#[test]
fn a_page_that_cannot_be_read_is_tried_again() {
    let mut house = House::new();
    house.chat(2);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.chat(1);
    for pause in OFFLINE_READ_PAUSES {
        house.fail_read();
        assert!(!house.account().is_busy(), "a login need not wait");
        assert_eq!(house.site.router.out.reads.len(), 0, "not at once");
        assert_eq!(house.take(balcony), []);
        let due = house.site.router.postponed.next().unwrap();
        assert_eq!(due, house.site.router.now.mono + pause);
        house.site.run_store();
        house.rest(pause - Duration::from_millis(1));
        assert_eq!(house.site.router.out.reads.len(), 0, "not early");
        house.rest(Duration::from_millis(1));
        assert_eq!(house.site.router.out.reads.len(), 1);
    }
    assert_eq!(house.drain(balcony), numbers(0..3, true));
    assert_eq!(house.held(), Tally::default());
    assert!(house.account().offline.is_idle());
    assert!(house.refused().is_empty());
}

/// In the middle of a flush as well: nothing is read twice, and nothing deleted that was not read.
#[test]
fn a_flush_goes_on_where_a_page_could_not_be_read() {
    let mut house = House::new();
    house.chat(120);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.site.run_store();
    assert_eq!(house.take(balcony), numbers(0..50, true));
    house.fail_read();
    house.site.run_store();
    assert_eq!(house.held().messages, 70);
    house.chat(1);
    house.rest(OFFLINE_READ_PAUSES[0]);
    assert_eq!(house.drain(balcony), numbers(50..121, true));
}

/// The tries are counted anew when one has succeeded.
#[test]
fn a_page_has_all_tries_whatever_those_before_it_needed() {
    let mut house = House::new();
    house.chat(120);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    for page in [0..50, 50..100, 100..120] {
        for pause in OFFLINE_READ_PAUSES {
            house.fail_read();
            house.rest(pause);
        }
        house.site.run_store();
        assert_eq!(house.take(balcony), numbers(page, true));
    }
}

#[test]
fn a_page_that_can_never_be_read_stays_for_the_next_session() {
    let mut house = House::new();
    house.chat(2);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    for pause in OFFLINE_READ_PAUSES {
        house.fail_read();
        house.rest(pause);
    }
    house.chat(1);
    house.fail_read();
    assert_eq!(house.site.router.postponed.next(), None);
    house.chat(1);
    assert_eq!(house.take(balcony), numbers(2..4, false), "they are live");
    house.log_out(balcony);
    let chamber = house.log_in("chamber");
    assert_eq!(house.drain(chamber), numbers(0..2, true));
}

#[test]
fn a_store_that_stops_is_not_asked_again() {
    let mut house = House::new();
    house.chat(2);
    house.site.run_store();
    house.log_in("balcony");
    house.site.answer_read(Err(StoreError::Stopped));
    assert_eq!(house.site.router.postponed.next(), None);
    assert!(house.account().offline.is_idle());
}

/// Nobody waits for it any more, or somebody else.
#[test]
fn a_session_that_ends_meanwhile_is_not_waited_for() {
    let mut house = House::new();
    house.chat(2);
    house.site.run_store();
    let balcony = house.log_in("balcony");
    house.fail_read();
    let chamber = house.log_in("chamber");
    house.log_out(balcony);
    assert_eq!(
        house.site.router.out.reads.len(),
        1,
        "the other one is next"
    );
    house.fail_read();
    house.log_out(chamber);
    assert!(house.account().offline.is_idle());
    house.rest(OFFLINE_READ_PAUSES[1]);
    assert_eq!(house.site.router.out.reads.len(), 0);
    let orchard = house.log_in("orchard");
    assert_eq!(house.drain(orchard), numbers(0..2, true));
}

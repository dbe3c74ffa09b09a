//! The subscription states of Appendix A.1, as a user's roster has them for a contact, and its
//! tables in the RFC's own words.

use stanzad::xml::Element;

use crate::common::roster::Seed;

/// A row of a table of Appendix A: existing state, "MUST" or "S.N." or "M.N.", new state.
pub type Row = (&'static str, &'static str, &'static str);

/// One of the nine states of Appendix A.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub from: bool,
    pub to: bool,
    pub pending_out: bool,
    pub pending_in: bool,
}

impl State {
    /// The state that a table calls so.
    pub fn named(name: &str) -> State {
        let has = |word: &str| name.split(' ').any(|one| one == word);
        State {
            from: has("From") || has("Both"),
            to: has("To") || has("Both"),
            pending_out: has("Out") || has("Out+In"),
            pending_in: has("In") || has("Out+In"),
        }
    }

    /// True if a roster can be in this state with no item (A.1, number 3).
    pub fn can_be_unlisted(self) -> bool {
        !self.from && !self.to && !self.pending_out
    }

    /// As it stands in the roster of `account`.
    pub fn seed(self, account: &str, contact: &str) -> Seed {
        Seed {
            from: self.from,
            to: self.to,
            ask: self.pending_out,
            pending: self.pending_in,
            ..Seed::new(account, contact)
        }
    }

    /// The values of 'subscription' and 'ask'.
    pub fn shown(self) -> (&'static str, Option<&'static str>) {
        let subscription = match (self.from, self.to) {
            (false, false) => "none",
            (false, true) => "to",
            (true, false) => "from",
            (true, true) => "both",
        };
        (subscription, self.pending_out.then_some("subscribe"))
    }
}

/// What a client sees of a contact: subscription, ask, approved.
pub type Shown = (String, Option<String>, bool);

/// What an item of a roster result or push says.
pub fn shown(item: &Element) -> Shown {
    let value = |name: &str| item.attribute(name).map(str::to_owned);
    let approved = matches!(item.attribute("approved"), Some("true" | "1"));
    let subscription = value("subscription").unwrap_or_else(|| "none".to_owned());
    (subscription, value("ask"), approved)
}

/// A.2.1, table 2.
pub const OUTBOUND_SUBSCRIBE: [Row; 9] = [
    ("None", "MUST", "None + Pending Out"),
    ("None + Pending Out", "MUST", "no state change"),
    ("None + Pending In", "MUST", "None + Pending Out+In"),
    ("None + Pending Out+In", "MUST", "no state change"),
    ("To", "MUST", "no state change"),
    ("To + Pending In", "MUST", "no state change"),
    ("From", "MUST", "From + Pending Out"),
    ("From + Pending Out", "MUST", "no state change"),
    ("Both", "MUST", "no state change"),
];

/// A.2.2, table 3.
pub const OUTBOUND_UNSUBSCRIBE: [Row; 9] = [
    ("None", "MUST", "no state change"),
    ("None + Pending Out", "MUST", "None"),
    ("None + Pending In", "MUST", "no state change"),
    ("None + Pending Out+In", "MUST", "None + Pending In"),
    ("To", "MUST", "None"),
    ("To + Pending In", "MUST", "None + Pending In"),
    ("From", "MUST", "no state change"),
    ("From + Pending Out", "MUST", "From"),
    ("Both", "MUST", "From"),
];

/// A.2.3, table 4.
pub const OUTBOUND_SUBSCRIBED: [Row; 9] = [
    ("None", "M.N.", "pre-approval"),
    ("None + Pending Out", "M.N.", "pre-approval"),
    ("None + Pending In", "MUST", "From"),
    ("None + Pending Out+In", "MUST", "From + Pending Out"),
    ("To", "M.N.", "pre-approval"),
    ("To + Pending In", "MUST", "Both"),
    ("From", "M.N.", "no state change"),
    ("From + Pending Out", "M.N.", "no state change"),
    ("Both", "M.N.", "no state change"),
];

/// A.2.4, table 5.
pub const OUTBOUND_UNSUBSCRIBED: [Row; 9] = [
    ("None", "S.N.", "no state change"),
    ("None + Pending Out", "S.N.", "no state change"),
    ("None + Pending In", "MUST", "None"),
    ("None + Pending Out+In", "MUST", "None + Pending Out"),
    ("To", "S.N.", "no state change"),
    ("To + Pending In", "MUST", "To"),
    ("From", "MUST", "None"),
    ("From + Pending Out", "MUST", "None + Pending Out"),
    ("Both", "MUST", "To"),
];

/// A.3.1, table 6.
pub const INBOUND_SUBSCRIBE: [Row; 9] = [
    ("None", "MUST", "None + Pending In"),
    ("None + Pending Out", "MUST", "None + Pending Out+In"),
    ("None + Pending In", "S.N.", "no state change"),
    ("None + Pending Out+In", "S.N.", "no state change"),
    ("To", "MUST", "To + Pending In"),
    ("To + Pending In", "S.N.", "no state change"),
    ("From", "S.N.", "no state change"),
    ("From + Pending Out", "S.N.", "no state change"),
    ("Both", "S.N.", "no state change"),
];

/// A.3.2, table 7.
pub const INBOUND_UNSUBSCRIBE: [Row; 9] = [
    ("None", "S.N.", "no state change"),
    ("None + Pending Out", "S.N.", "no state change"),
    ("None + Pending In", "MUST", "None"),
    ("None + Pending Out+In", "MUST", "None + Pending Out"),
    ("To", "S.N.", "no state change"),
    ("To + Pending In", "MUST", "To"),
    ("From", "MUST", "None"),
    ("From + Pending Out", "MUST", "None + Pending Out"),
    ("Both", "MUST", "To"),
];

/// A.3.3, table 8.
pub const INBOUND_SUBSCRIBED: [Row; 9] = [
    ("None", "S.N.", "no state change"),
    ("None + Pending Out", "MUST", "To"),
    ("None + Pending In", "S.N.", "no state change"),
    ("None + Pending Out+In", "MUST", "To + Pending In"),
    ("To", "S.N.", "no state change"),
    ("To + Pending In", "S.N.", "no state change"),
    ("From", "S.N.", "no state change"),
    ("From + Pending Out", "MUST", "Both"),
    ("Both", "S.N.", "no state change"),
];

/// A.3.4, table 9.
pub const INBOUND_UNSUBSCRIBED: [Row; 9] = [
    ("None", "S.N.", "no state change"),
    ("None + Pending Out", "MUST", "None"),
    ("None + Pending In", "S.N.", "no state change"),
    ("None + Pending Out+In", "MUST", "None + Pending In"),
    ("To", "MUST", "None"),
    ("To + Pending In", "MUST", "None + Pending In"),
    ("From", "S.N.", "no state change"),
    ("From + Pending Out", "MUST", "From"),
    ("Both", "MUST", "From"),
];

/// Appendix A.1.
const STATES: [&str; 9] = [
    "None",
    "None + Pending Out",
    "None + Pending In",
    "None + Pending Out+In",
    "To",
    "To + Pending In",
    "From",
    "From + Pending Out",
    "Both",
];

#[test]
fn every_table_has_every_state_in_the_order_of_the_rfc() {
    for table in [
        OUTBOUND_SUBSCRIBE,
        OUTBOUND_UNSUBSCRIBE,
        OUTBOUND_SUBSCRIBED,
        OUTBOUND_UNSUBSCRIBED,
        INBOUND_SUBSCRIBE,
        INBOUND_UNSUBSCRIBE,
        INBOUND_SUBSCRIBED,
        INBOUND_UNSUBSCRIBED,
    ] {
        assert_eq!(table.map(|(before, _, _)| before), STATES);
        for (before, _, after) in table {
            let is_same = after == "no state change" || after == "pre-approval";
            assert!(is_same || STATES.contains(&after), "{after}");
            assert_ne!(before, after);
        }
    }
}

#[test]
fn the_nine_states_differ() {
    let states = STATES.map(State::named);
    for (at, state) in states.iter().enumerate() {
        assert!(!states[at + 1..].contains(state), "{}", STATES[at]);
    }
    assert_eq!(
        State::named("From + Pending Out").shown(),
        ("from", Some("subscribe"))
    );
    assert_eq!(State::named("To + Pending In").shown(), ("to", None));
}

//! The subscription state machine of RFC 6121, Appendix A, as pure functions over [`State`], with
//! pre-approval (§3.4), and the rule that makes two local accounts agree.

use crate::stanza::Type;
use crate::storage::roster::State;

/// The four types of subscription stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Asks for the other's presence.
    Subscribe,
    /// Grants it.
    Subscribed,
    /// Wants the other's presence no more.
    Unsubscribe,
    /// Denies a request, or takes back what was granted.
    Unsubscribed,
}

impl Signal {
    /// All of them, in the order of Appendix A's tables for inbound ones.
    pub const ALL: [Signal; 4] = [
        Signal::Subscribe,
        Signal::Unsubscribe,
        Signal::Subscribed,
        Signal::Unsubscribed,
    ];

    /// The signal of a presence type; none for presence that concerns no subscription.
    pub fn of(type_: Type) -> Option<Signal> {
        match type_ {
            Type::Subscribe => Some(Signal::Subscribe),
            Type::Subscribed => Some(Signal::Subscribed),
            Type::Unsubscribe => Some(Signal::Unsubscribe),
            Type::Unsubscribed => Some(Signal::Unsubscribed),
            _ => None,
        }
    }

    /// The presence type.
    pub fn type_(self) -> Type {
        match self {
            Signal::Subscribe => Type::Subscribe,
            Signal::Subscribed => Type::Subscribed,
            Signal::Unsubscribe => Type::Unsubscribe,
            Signal::Unsubscribed => Type::Unsubscribed,
        }
    }
}

/// What a subscription stanza comes to at its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The sender's state from then on.
    pub state: State,
    /// Whether the stanza goes on to the contact.
    pub is_routed: bool,
}

/// What a subscription stanza comes to at its recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The recipient's state from then on.
    pub state: State,
    /// Whether the recipient's resources get the stanza.
    pub is_delivered: bool,
    /// What is answered on the recipient's behalf.
    pub reply: Option<Signal>,
}

/// The account gets the contact's presence or has asked for it.
const OUTWARD: State = State::TO.with(State::PENDING_OUT);
/// The contact gets the account's presence or has asked for it.
const INWARD: State = State::FROM.with(State::PENDING_IN);

/// RFC 6121 §A.2: the account sends `signal` to a contact that it has this state with.
pub fn outbound(state: State, signal: Signal) -> Outbound {
    let (state, is_routed) = match signal {
        // §A.2.1. A request makes the contact an item of the roster (§3.1.2).
        Signal::Subscribe if state.has(State::TO) => (state, true),
        Signal::Subscribe => (state.with(State::PENDING_OUT).with(State::LISTED), true),
        // §A.2.2.
        Signal::Unsubscribe => (state.without(OUTWARD), true),
        // §A.2.3.
        Signal::Subscribed if state.has(State::FROM) => (state, false),
        Signal::Subscribed if state.has(State::PENDING_IN) => {
            let granted = state.with(State::FROM).with(State::LISTED);
            (granted.without(State::PENDING_IN), true)
        }
        // §3.4.2, rules 3 and 4.
        Signal::Subscribed => (state.with(State::APPROVED).with(State::LISTED), false),
        // §A.2.4, and §3.2.2 rule 2: it takes back an approval, too.
        Signal::Unsubscribed => (
            state.without(INWARD).without(State::APPROVED),
            has_any(state, INWARD),
        ),
    };
    Outbound { state, is_routed }
}

/// RFC 6121 §A.3: the account gets `signal` from a contact that it has this state with.
pub fn inbound(state: State, signal: Signal) -> Inbound {
    let ignored = Inbound {
        state,
        is_delivered: false,
        reply: None,
    };
    match signal {
        // §A.3.1, note 2.
        Signal::Subscribe if state.has(State::FROM) => Inbound {
            reply: Some(Signal::Subscribed),
            ..ignored
        },
        Signal::Subscribe if state.has(State::PENDING_IN) => ignored,
        // §A.3.1, note 1. An approval is good for one request (§3.4.2, first implementation note):
        // who unsubscribes and asks again later is asked about again.
        Signal::Subscribe if state.has(State::APPROVED) => Inbound {
            state: state.with(State::FROM).without(State::APPROVED),
            is_delivered: false,
            reply: Some(Signal::Subscribed),
        },
        Signal::Subscribe => Inbound {
            state: state.with(State::PENDING_IN),
            is_delivered: true,
            reply: None,
        },
        // §A.3.2.
        Signal::Unsubscribe if has_any(state, INWARD) => Inbound {
            state: state.without(INWARD),
            is_delivered: true,
            reply: Some(Signal::Unsubscribed),
        },
        // §A.3.3.
        Signal::Subscribed if state.has(State::PENDING_OUT) => Inbound {
            state: state.with(State::TO).without(State::PENDING_OUT),
            is_delivered: true,
            reply: None,
        },
        // §A.3.4.
        Signal::Unsubscribed if has_any(state, OUTWARD) => Inbound {
            state: state.without(OUTWARD),
            is_delivered: true,
            reply: None,
        },
        Signal::Unsubscribe | Signal::Subscribed | Signal::Unsubscribed => ignored,
    }
}

/// Whether a signal still says what its sender's state says.
///
/// Appendix A alone does not bring two accounts to agree when stanzas cross: an approval of a request
/// that was withdrawn and made again meanwhile is taken for one of the new request. So a hand-off
/// between local accounts takes effect only while this holds, looked at in the recipient's change; what
/// its sender has done since is told by a hand-off that follows. Then the last change of either account is
/// the last word, whatever crossed, came twice or came late.
pub fn still_holds(sender: State, signal: Signal) -> bool {
    match signal {
        Signal::Subscribe => sender.has(State::PENDING_OUT),
        Signal::Subscribed => sender.has(State::FROM),
        Signal::Unsubscribe => !has_any(sender, OUTWARD),
        Signal::Unsubscribed => !has_any(sender, INWARD),
    }
}

/// What an account tells a contact that it removes from its roster, in this order.
///
/// RFC 6121 §2.5.2 has `unsubscribe` for To and `unsubscribed` for From. An unanswered request of the
/// account is withdrawn as well, and one of the contact's denied: nothing of either is left after the
/// removal, so that the contact would wait, or answer, in vain.
pub fn removal(state: State) -> impl Iterator<Item = Signal> {
    let unsubscribe = has_any(state, OUTWARD).then_some(Signal::Unsubscribe);
    let unsubscribed = has_any(state, INWARD).then_some(Signal::Unsubscribed);
    unsubscribe.into_iter().chain(unsubscribed)
}

fn has_any(state: State, bits: State) -> bool {
    state.without(bits) != state
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: State = State::LISTED;
    const TO: State = NONE.with(State::TO);
    const FROM: State = NONE.with(State::FROM);
    const BOTH: State = TO.with(State::FROM);

    /// The nine states of §A.1, in its order.
    const STATES: [State; 9] = [
        NONE,
        NONE.with(State::PENDING_OUT),
        NONE.with(State::PENDING_IN),
        NONE.with(State::PENDING_OUT).with(State::PENDING_IN),
        TO,
        TO.with(State::PENDING_IN),
        FROM,
        FROM.with(State::PENDING_OUT),
        BOTH,
    ];

    /// A state as the tables of Appendix A write it.
    fn named(name: &str) -> State {
        let index = match name {
            "None" => 0,
            "None + Pending Out" => 1,
            "None + Pending In" => 2,
            "None + Pending Out+In" => 3,
            "To" => 4,
            "To + Pending In" => 5,
            "From" => 6,
            "From + Pending Out" => 7,
            "Both" => 8,
            other => panic!("{other} is no state of §A.1"),
        };
        STATES[index]
    }

    const SAME: &str = "no state change";
    const PRE: &str = "pre-approval";

    /// One row: the existing state, whether it is routed or delivered (MUST), and the new state.
    type Row = (&'static str, bool, &'static str);

    fn new_state(old: State, name: &str) -> State {
        match name {
            SAME => old,
            PRE => old.with(State::APPROVED),
            name => named(name),
        }
    }

    fn check_outbound(signal: Signal, rows: [Row; 9]) {
        for ((name, is_routed, new), state) in rows.into_iter().zip(STATES) {
            assert_eq!(named(name), state, "the rows are in the order of §A.1");
            let expected = Outbound {
                state: new_state(state, new),
                is_routed,
            };
            assert_eq!(outbound(state, signal), expected, "{signal:?} in {name:?}");
        }
    }

    fn check_inbound(signal: Signal, rows: [(Row, Option<Signal>); 9]) {
        for (((name, is_delivered, new), reply), state) in rows.into_iter().zip(STATES) {
            assert_eq!(named(name), state, "the rows are in the order of §A.1");
            let expected = Inbound {
                state: new_state(state, new),
                is_delivered,
                reply,
            };
            assert_eq!(inbound(state, signal), expected, "{signal:?} in {name:?}");
        }
    }

    /// RFC 6121 §A.2.1, Table 2.
    #[test]
    fn an_outbound_subscribe_is_as_in_table_2() {
        check_outbound(
            Signal::Subscribe,
            [
                ("None", true, "None + Pending Out"),
                ("None + Pending Out", true, SAME),
                ("None + Pending In", true, "None + Pending Out+In"),
                ("None + Pending Out+In", true, SAME),
                ("To", true, SAME),
                ("To + Pending In", true, SAME),
                ("From", true, "From + Pending Out"),
                ("From + Pending Out", true, SAME),
                ("Both", true, SAME),
            ],
        );
    }

    /// RFC 6121 §A.2.2, Table 3.
    #[test]
    fn an_outbound_unsubscribe_is_as_in_table_3() {
        check_outbound(
            Signal::Unsubscribe,
            [
                ("None", true, SAME),
                ("None + Pending Out", true, "None"),
                ("None + Pending In", true, SAME),
                ("None + Pending Out+In", true, "None + Pending In"),
                ("To", true, "None"),
                ("To + Pending In", true, "None + Pending In"),
                ("From", true, SAME),
                ("From + Pending Out", true, "From"),
                ("Both", true, "From"),
            ],
        );
    }

    /// RFC 6121 §A.2.3, Table 4.
    #[test]
    fn an_outbound_subscribed_is_as_in_table_4() {
        check_outbound(
            Signal::Subscribed,
            [
                ("None", false, PRE),
                ("None + Pending Out", false, PRE),
                ("None + Pending In", true, "From"),
                ("None + Pending Out+In", true, "From + Pending Out"),
                ("To", false, PRE),
                ("To + Pending In", true, "Both"),
                ("From", false, SAME),
                ("From + Pending Out", false, SAME),
                ("Both", false, SAME),
            ],
        );
    }

    /// RFC 6121 §A.2.4, Table 5.
    #[test]
    fn an_outbound_unsubscribed_is_as_in_table_5() {
        check_outbound(
            Signal::Unsubscribed,
            [
                ("None", false, SAME),
                ("None + Pending Out", false, SAME),
                ("None + Pending In", true, "None"),
                ("None + Pending Out+In", true, "None + Pending Out"),
                ("To", false, SAME),
                ("To + Pending In", true, "To"),
                ("From", true, "None"),
                ("From + Pending Out", true, "None + Pending Out"),
                ("Both", true, "To"),
            ],
        );
    }

    /// RFC 6121 §A.3.1, Table 6.
    #[test]
    fn an_inbound_subscribe_is_as_in_table_6() {
        let auto = Some(Signal::Subscribed);
        check_inbound(
            Signal::Subscribe,
            [
                (("None", true, "None + Pending In"), None),
                (("None + Pending Out", true, "None + Pending Out+In"), None),
                (("None + Pending In", false, SAME), None),
                (("None + Pending Out+In", false, SAME), None),
                (("To", true, "To + Pending In"), None),
                (("To + Pending In", false, SAME), None),
                (("From", false, SAME), auto),
                (("From + Pending Out", false, SAME), auto),
                (("Both", false, SAME), auto),
            ],
        );
    }

    /// RFC 6121 §A.3.2, Table 7.
    #[test]
    fn an_inbound_unsubscribe_is_as_in_table_7() {
        let auto = Some(Signal::Unsubscribed);
        check_inbound(
            Signal::Unsubscribe,
            [
                (("None", false, SAME), None),
                (("None + Pending Out", false, SAME), None),
                (("None + Pending In", true, "None"), auto),
                (("None + Pending Out+In", true, "None + Pending Out"), auto),
                (("To", false, SAME), None),
                (("To + Pending In", true, "To"), auto),
                (("From", true, "None"), auto),
                (("From + Pending Out", true, "None + Pending Out"), auto),
                (("Both", true, "To"), auto),
            ],
        );
    }

    /// RFC 6121 §A.3.3, Table 8.
    #[test]
    fn an_inbound_subscribed_is_as_in_table_8() {
        check_inbound(
            Signal::Subscribed,
            [
                (("None", false, SAME), None),
                (("None + Pending Out", true, "To"), None),
                (("None + Pending In", false, SAME), None),
                (("None + Pending Out+In", true, "To + Pending In"), None),
                (("To", false, SAME), None),
                (("To + Pending In", false, SAME), None),
                (("From", false, SAME), None),
                (("From + Pending Out", true, "Both"), None),
                (("Both", false, SAME), None),
            ],
        );
    }

    /// RFC 6121 §A.3.4, Table 9.
    #[test]
    fn an_inbound_unsubscribed_is_as_in_table_9() {
        check_inbound(
            Signal::Unsubscribed,
            [
                (("None", false, SAME), None),
                (("None + Pending Out", true, "None"), None),
                (("None + Pending In", false, SAME), None),
                (("None + Pending Out+In", true, "None + Pending In"), None),
                (("To", true, "None"), None),
                (("To + Pending In", true, "None + Pending In"), None),
                (("From", false, SAME), None),
                (("From + Pending Out", true, "From"), None),
                (("Both", true, "From"), None),
            ],
        );
    }

    /// RFC 6121 §A.1: who is not in the roster counts as None. §3.1.3: a request adds nobody to the
    /// roster; §3.1.2, §3.1.5 and §3.4.2 do.
    #[test]
    fn an_unknown_entity_becomes_an_item_by_what_the_account_itself_does_only() {
        for (signal, expected) in [
            (Signal::Subscribe, NONE.with(State::PENDING_OUT)),
            (Signal::Unsubscribe, State::NONE),
            (Signal::Subscribed, NONE.with(State::APPROVED)),
            (Signal::Unsubscribed, State::NONE),
        ] {
            assert_eq!(outbound(State::NONE, signal).state, expected, "{signal:?}");
        }
        for signal in Signal::ALL {
            assert!(
                !inbound(State::NONE, signal).state.is_listed(),
                "{signal:?}"
            );
        }
        let asked = State::PENDING_IN;
        assert_eq!(outbound(asked, Signal::Subscribed).state, FROM);
        assert_eq!(outbound(asked, Signal::Unsubscribed).state, State::NONE);
        assert_eq!(inbound(asked, Signal::Unsubscribe).state, State::NONE);
    }

    /// RFC 6121 §3.4.2, §A.3.1 note 1.
    #[test]
    fn an_approval_answers_one_request() {
        for (old, new) in [
            (NONE, FROM),
            (NONE.with(State::PENDING_OUT), FROM.with(State::PENDING_OUT)),
            (TO, BOTH),
        ] {
            let approved = outbound(old, Signal::Subscribed).state;
            let expected = Inbound {
                state: new,
                is_delivered: false,
                reply: Some(Signal::Subscribed),
            };
            assert_eq!(inbound(approved, Signal::Subscribe), expected, "{old:?}");
        }
    }

    /// RFC 6121 §3.2.2, rule 2; §3.4.2.
    #[test]
    fn an_approval_is_taken_back_in_silence_and_outlives_all_else() {
        for old in [NONE, NONE.with(State::PENDING_OUT), TO] {
            let approved = old.with(State::APPROVED);
            let taken_back = Outbound {
                state: old,
                is_routed: false,
            };
            assert_eq!(outbound(approved, Signal::Unsubscribed), taken_back);
            let again = Outbound {
                state: approved,
                is_routed: false,
            };
            assert_eq!(outbound(approved, Signal::Subscribed), again);
            for state in [
                outbound(approved, Signal::Subscribe).state,
                outbound(approved, Signal::Unsubscribe).state,
                inbound(approved, Signal::Subscribed).state,
                inbound(approved, Signal::Unsubscribe).state,
                inbound(approved, Signal::Unsubscribed).state,
            ] {
                assert!(state.has(State::APPROVED));
            }
        }
    }

    /// RFC 6121 §2.5.2.
    #[test]
    fn a_removal_tells_the_contact_what_it_ends() {
        let (to, from) = (Signal::Unsubscribe, Signal::Unsubscribed);
        for (state, expected) in [
            ("None", &[][..]),
            ("None + Pending Out", &[to]),
            ("None + Pending In", &[from]),
            ("None + Pending Out+In", &[to, from]),
            ("To", &[to]),
            ("To + Pending In", &[to, from]),
            ("From", &[from]),
            ("From + Pending Out", &[to, from]),
            ("Both", &[to, from]),
        ] {
            let told: Vec<_> = removal(named(state)).collect();
            assert_eq!(told, expected, "{state}");
        }
    }

    /// What an account has just sent holds.
    #[test]
    fn a_signal_holds_until_its_sender_changes_its_mind() {
        for state in STATES {
            for signal in Signal::ALL {
                let sent = outbound(state, signal);
                if sent.is_routed && !(signal == Signal::Subscribe && state.has(State::TO)) {
                    assert!(still_holds(sent.state, signal), "{signal:?} in {state:?}");
                }
            }
        }
        let withdrawn = outbound(named("None + Pending Out"), Signal::Unsubscribe).state;
        assert!(!still_holds(withdrawn, Signal::Subscribe));
        let denied = outbound(FROM, Signal::Unsubscribed).state;
        assert!(!still_holds(denied, Signal::Subscribed));
        let asked_again = outbound(NONE, Signal::Subscribe).state;
        assert!(!still_holds(asked_again, Signal::Unsubscribe));
        assert!(!still_holds(FROM, Signal::Unsubscribed));
    }
}

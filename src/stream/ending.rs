//! How a stream ends, whoever is at its other end (RFC 6120 §4.4, §4.9.1.1).

use std::fmt;

use crate::clock::Mono;
use crate::limits::{CLOSE_WAIT, PEER_TEXT_CHARS_MAX};
use crate::log::for_people;
use crate::stanza::StreamError;
use crate::stream::{Action, Context, Event, header};
use crate::xml::{Element, Top};

/// Why a stream ends, for its line in the log.
#[derive(Clone, Copy)]
pub(super) enum Cause<'a> {
    /// The peer has made its end.
    Closed,
    /// The peer has ended it by an error.
    Reported(&'a Reported),
    /// We end it by an error.
    Error(&'a StreamError),
    /// The connection is gone without an end of the stream; why, if that is known.
    Lost(Option<&'a str>),
    /// We end it without an error, or drop it where no stream can be ended.
    Ours(&'a str),
}

impl fmt::Display for Cause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Closed => f.write_str("the peer closed it"),
            Cause::Reported(Reported { condition, text }) => {
                let told = for_people(&format!("{condition}: {text}"), PEER_TEXT_CHARS_MAX);
                let told = told.trim_end_matches([' ', ':']);
                write!(f, "the peer reported {told}")
            }
            Cause::Error(error) => write!(f, "{}: {}", error.condition.name(), error.text),
            Cause::Lost(None) => f.write_str("the connection was closed without its end"),
            Cause::Lost(Some(why)) => write!(f, "the connection was lost: {why}"),
            Cause::Ours(why) => f.write_str(why),
        }
    }
}

/// A stream error of the peer, in its own words (RFC 6120 §4.9.2).
pub(super) struct Reported {
    /// The name of the condition, or what stands there.
    pub condition: String,
    /// May be empty.
    pub text: String,
}

impl Reported {
    /// Reads a `<stream:error/>`.
    pub fn of(top: &Top) -> Reported {
        let element = top.to_element();
        let condition = element.elements().find(|child| child.name != "text");
        let text = element.elements().find(|child| child.name == "text");
        Reported {
            condition: condition.map_or(String::new(), |child| child.name.clone()),
            text: text.map_or(String::new(), Element::text),
        }
    }
}

/// Answers the peer's end of stream, or makes ours (RFC 6120 §4.4); without a header of ours there is none
/// to make. Yields until when the peer's direction is waited for.
pub(super) fn close(is_header_sent: bool, cx: &mut Context<'_>) -> Mono {
    if is_header_sent {
        cx.out.extend_from_slice(header::CLOSE);
    }
    cx.actions.extend([Action::Shutdown, Action::Drop]);
    cx.now.mono + CLOSE_WAIT
}

/// Ends the stream with an error, behind our header (RFC 6120 §4.9.1.1). Yields until when the peer's
/// direction is waited for.
pub(super) fn fail(error: &StreamError, cx: &mut Context<'_>) -> Mono {
    error.write(cx.out);
    cx.out.extend_from_slice(header::CLOSE);
    cx.actions.push(Action::Shutdown);
    cx.now.mono + CLOSE_WAIT
}

/// What the peer says after our end is not looked at, and may well be broken. Yields whether its direction
/// is still waited for.
pub(super) fn is_awaited(until: Mono, event: &Event, cx: &mut Context<'_>) -> bool {
    match event {
        // What is still to be sent is sent, until the time is up.
        Event::Close => {
            cx.actions.push(Action::Drop);
            true
        }
        Event::Deadline if until <= cx.now.mono => {
            cx.actions.push(Action::Drop);
            false
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stanza::StreamCondition;

    /// RFC 6120 §4.4, §4.9.
    #[test]
    fn each_cause_is_told_in_words() {
        let error = StreamError::new(StreamCondition::PolicyViolation, "No more");
        let reported = |condition: &str, text: &str| Reported {
            condition: condition.to_owned(),
            text: text.to_owned(),
        };
        let (bare, long) = (
            reported("conflict", ""),
            reported("reset", &"x".repeat(2000)),
        );
        for (cause, told) in [
            (Cause::Closed, "the peer closed it"),
            (Cause::Reported(&bare), "the peer reported conflict"),
            (Cause::Error(&error), "policy-violation: No more"),
            (
                Cause::Lost(None),
                "the connection was closed without its end",
            ),
            (Cause::Lost(Some("reset")), "the connection was lost: reset"),
            (Cause::Ours("idle"), "idle"),
        ] {
            assert_eq!(cause.to_string(), told);
        }
        let told = Cause::Reported(&long).to_string();
        assert!(told.starts_with("the peer reported reset: xxx"), "{told}");
        assert!(told.len() < 400, "what the peer says has bounds");
    }
}

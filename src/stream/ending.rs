//! How a stream ends, whoever is at its other end (RFC 6120 §4.4, §4.9.1.1).

use crate::clock::Mono;
use crate::limits::CLOSE_WAIT;
use crate::stanza::StreamError;
use crate::stream::{Action, Context, Event, header};

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

//! STARTTLS as who is asked for it (RFC 6120 §5.4.2), by a client or by another server.

use crate::ns;
use crate::stanza::{StreamCondition, StreamError};
use crate::stream::{Action, Context, Origin};

/// Tells the peer to begin its handshake with the certificate of this domain.
///
/// # Errors
/// The peer has not waited for the answer, or its address has had too many handshakes.
pub(super) fn proceed(
    origin: &Origin,
    domain: &str,
    cx: &mut Context<'_>,
) -> Result<(), StreamError> {
    if cx.unread > 0 {
        // What an attacker slips in behind `<starttls/>` must not be taken for the peer's words under
        // TLS.
        return Err(StreamError::new(
            StreamCondition::PolicyViolation,
            "Bytes were sent behind <starttls/> before the handshake",
        ));
    }
    let turn = origin.handshake_waits(cx.settings, cx.throttle, cx.now.mono);
    let turn = turn.map_err(|_| {
        StreamError::new(
            StreamCondition::PolicyViolation,
            "Too many TLS handshakes with this address; come again later",
        )
    })?;
    cx.actions.extend(turn.map(Action::Pause));
    answer("proceed", cx);
    cx.actions.push(Action::StartTls(domain.to_owned()));
    Ok(())
}

/// RFC 6120 §5.4.2.2: the failure, behind which stream and connection end.
pub(super) fn refuse(cx: &mut Context<'_>) {
    answer("failure", cx);
}

fn answer(name: &str, cx: &mut Context<'_>) {
    let answer = format!("<{name} xmlns='{}'/>", ns::TLS);
    cx.out.extend_from_slice(answer.as_bytes());
}

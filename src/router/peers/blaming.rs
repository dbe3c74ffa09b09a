//! Stanzas over which other servers end their streams with an error (RFC 6120 §4.9.1.1): sent again and
//! again, such a one would keep all behind it from being received.
//!
//! The error does not say which stanza it is about. So what such a stream leaves open is sent one at a
//! time, each when the one before is received. One that was open alone when a stream ended so is to
//! blame for that, and goes back when it has ended some.

use super::Link;
use super::link::Waiting;
use crate::limits::{PEER_STANZA_STREAMS_MAX, PEER_TEXT_CHARS_MAX};
use crate::log::for_people;
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::{Condition, StanzaError};

/// The stream error by which another server has ended a stream, perhaps over a stanza.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    condition: String,
    text: String,
}

impl Objection {
    /// The error's condition (RFC 6120 §4.9.3) and its text, as the peer has written them. None if that
    /// condition is about the peer itself or the connection, whatever was sent.
    pub fn new(condition: &str, text: &str) -> Option<Objection> {
        let bounded = |text: &str| for_people(text, PEER_TEXT_CHARS_MAX);
        (!is_about_itself(condition)).then(|| Objection {
            condition: bounded(condition),
            text: bounded(text),
        })
    }

    /// What the sender of the stanza is told (RFC 6120 §8.3.3.1, §8.3.3.12).
    fn to_error(&self) -> StanzaError {
        let condition = match &*self.condition {
            "policy-violation" => Condition::PolicyViolation,
            _ => Condition::BadRequest,
        };
        let text = format!(
            "That server ends its streams over this: {} {}",
            self.condition, self.text
        );
        StanzaError::new(condition).text(text.trim_end().to_owned())
    }
}

/// Whether a stream error is about who sends it, or has no time or room for anybody now, and not about what
/// it was sent (RFC 6120 §4.9.3).
pub fn is_about_itself(condition: &str) -> bool {
    matches!(
        condition,
        "conflict"
            | "connection-timeout"
            | "host-gone"
            | "host-unknown"
            | "internal-server-error"
            | "remote-connection-failed"
            | "reset"
            | "resource-constraint"
            | "see-other-host"
            | "system-shutdown"
    )
}

impl Router {
    /// The peer ends the stream of a connection with an error, and the stream's end follows.
    pub fn peer_objected(&mut self, conn: Key, objection: &Objection) {
        let links: Vec<Key> = self.peers.keys_written_by(conn).collect();
        for key in links {
            if let Some(sent) = self
                .peers
                .links
                .get_mut(key)
                .and_then(|link| link.sent_by_mut(conn))
            {
                sent.objection = Some(objection.clone());
            }
        }
    }

    /// Draws the conclusion from how a stream has ended that leaves this open, and gives what is to be sent
    /// again. `is_all`: nothing else was open.
    pub(super) fn blame(
        &mut self,
        key: Key,
        mut open: Vec<Waiting>,
        is_all: bool,
        objection: &Objection,
    ) -> Vec<Waiting> {
        let Some(link) = self.peers.links.get_mut(key) else {
            return open;
        };
        link.singly = link.singly.max(open.len());
        let [only] = &mut open[..] else {
            return open;
        };
        if !is_all {
            return open;
        }
        only.streams_ended += 1;
        if only.streams_ended < PEER_STANZA_STREAMS_MAX {
            return open;
        }
        link.singly -= 1;
        // What kept the link from being used is gone.
        link.retry.succeeded();
        ::log::info!(
            from:% = link.local, to:% = link.remote, condition = objection.condition.as_str(),
            text = objection.text.as_str();
            "server ends its streams over a stanza, which goes back to its sender"
        );
        self.return_to_senders(key, open, &objection.to_error());
        Vec::new()
    }
}

impl Link {
    /// Some of what was sent is received, or is not waited for any more.
    pub(super) fn note_received(&mut self, stanzas: usize) {
        self.singly = self.singly.saturating_sub(stanzas);
    }

    /// Whether nothing may be sent on a stream that leaves something open.
    pub(super) fn waits_singly(&self, conn: Key) -> bool {
        self.singly > 0 && self.sent_by(conn).is_some_and(|sent| sent.len() > 0)
    }
}

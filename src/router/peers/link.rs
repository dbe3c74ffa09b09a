//! What waits for a stream to another server, and when the next one is tried. Knows no streams.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::{Mono, Wall};
use crate::limits::{
    PEER_QUEUE_BYTES_MAX, PEER_QUEUE_STANZAS_MAX, PEER_REQUEST_WAIT, PEER_RETRY_FIRST,
    PEER_RETRY_MAX, PEER_STREAM_STEADY,
};
use crate::router::delivery::Routed;
use crate::stanza::{Condition, Kind, StanzaError, Type};

/// Why another server is not reached, as a sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `remote-server-not-found` or `remote-server-timeout` (RFC 6120 §8.3.3.16, §8.3.3.17), or what
    /// policy calls for.
    pub condition: Condition,
    /// Why, for people.
    pub text: String,
    /// Whether waiting would not help: there is no such server, or one of us may not talk to the other.
    pub is_final: bool,
}

impl Failure {
    /// The error that goes back with a stanza.
    pub fn to_error(&self) -> StanzaError {
        StanzaError::new(self.condition.clone()).text(self.text.clone())
    }
}

/// A stanza that waits for a stream, or for its acknowledgement.
#[derive(Debug)]
pub(super) struct Waiting {
    pub routed: Routed,
    /// Its row in the store, which outlives a crash.
    pub row: Option<Stored>,
    pub place: Place,
    pub bytes: usize,
    /// When it goes back to its sender.
    until: Mono,
}

/// A row of the store for a stanza that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub is_committed: bool,
}

/// Where a stanza stands among all of its shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Greater than those of all that came before: the number of its row, if it gets one.
    pub id: i64,
    /// When it came.
    pub came: Wall,
}

/// The stanzas that wait for a stream, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

impl Queue {
    /// Appends a stanza, or gives it back if too many wait.
    pub fn push(&mut self, waiting: Waiting) -> Result<(), Waiting> {
        let is_full = self.waiting.len() >= PEER_QUEUE_STANZAS_MAX
            || self.bytes.saturating_add(waiting.bytes) > PEER_QUEUE_BYTES_MAX;
        // What has a row already was counted when it got that.
        if is_full && waiting.row.is_none_or(|row| !row.is_committed) {
            return Err(waiting);
        }
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Puts back in front what was taken out.
    pub fn push_front(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        self.waiting.push_front(waiting);
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Bytes of the first stanza.
    pub fn first_bytes(&self) -> Option<usize> {
        self.waiting.front().map(|waiting| waiting.bytes)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The stanza that has that number.
    pub fn by_id(&mut self, id: i64) -> Option<&mut Waiting> {
        self.waiting
            .iter_mut()
            .find(|waiting| waiting.place.id == id)
    }

    /// Takes out, in their order, those that are to go back.
    pub fn take_if(&mut self, goes_back: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let (back, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(goes_back);
        self.bytes = rest.iter().map(|waiting: &Waiting| waiting.bytes).sum();
        self.waiting = rest;
        back.into()
    }

    /// When the first of them is to go back. While a stream is being made, messages have time until
    /// that has come to something.
    pub fn next_due(&self, is_making: bool) -> Option<Mono> {
        let waiting = self.waiting.iter();
        let ends = waiting.filter(|waiting| !(is_making && waiting.is_patient()));
        ends.map(|waiting| waiting.until).min()
    }
}

impl Waiting {
    pub fn new(routed: Routed, place: Place, until: Mono) -> Waiting {
        Waiting {
            bytes: routed.stanza.size(),
            routed,
            row: None,
            place,
            until,
        }
    }

    /// When it goes back to its sender.
    pub fn until(&self) -> Mono {
        self.until
    }

    /// Whether its time is over.
    pub fn is_due(&self, now: Mono) -> bool {
        self.until <= now
    }

    /// Whether it may wait until the other server is reached again: nobody waits for a message's answer.
    pub fn is_patient(&self) -> bool {
        is_patient(&self.routed)
    }
}

/// Whether a stanza may wait for longer than it takes to make a stream. Presence is told anew when a
/// stream is there again, and whoever asks something waits for an answer.
pub(super) fn is_patient(routed: &Routed) -> bool {
    let stanza = &routed.stanza;
    stanza.kind == Kind::Message && stanza.type_ != Type::Error
}

/// What the sender is told of a stanza whose time is over while its server was being tried.
pub(super) fn waited_too_long() -> StanzaError {
    StanzaError::new(Condition::RemoteServerTimeout)
        .text("That server was not reached in the time for which this may wait")
}

/// How long a stanza waits for a stream.
pub(super) fn wait_of(routed: &Routed, message_wait: Duration) -> Duration {
    match is_patient(routed) {
        true => message_wait,
        false => PEER_REQUEST_WAIT,
    }
}

/// When a server that was not reached is tried again: ever later, and not by all of its peers at the
/// same moment.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
    /// Streams in a row that ended soon after they were ready, with something left to be sent.
    short_streams: u32,
}

impl Retry {
    /// The pause after one more failure. `chance` is any number that others cannot foresee.
    pub fn failed(&mut self, chance: u64) -> Duration {
        let doubled = PEER_RETRY_FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.min(PEER_RETRY_MAX);
        // Between three quarters and the whole of it.
        let quarter = pause.as_millis() as u64 / 4;
        pause - Duration::from_millis(chance % (quarter + 1))
    }

    /// A stream has ended that was ready for so long, and something is left to be sent. The pause, if the
    /// next one is not to be made at once: who takes streams and ends them is not dialled all the time.
    pub fn ended(&mut self, lasted: Duration, chance: u64) -> Option<Duration> {
        if lasted >= PEER_STREAM_STEADY {
            *self = Retry::default();
            return None;
        }
        self.short_streams = self.short_streams.saturating_add(1);
        (self.short_streams > 1).then(|| self.failed(chance))
    }

    /// The server was reached, and has taken something.
    pub fn succeeded(&mut self) {
        *self = Retry::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::settlement::Ticket;
    use crate::router::testing::stanza;

    fn routed(kind: Kind, type_: Type) -> Routed {
        Routed::new(
            stanza(kind, type_, Some("romeo@example.net")),
            Ticket::none(),
        )
    }

    fn message() -> Routed {
        routed(Kind::Message, Type::Chat)
    }

    fn push(queue: &mut Queue, until: Mono) -> Result<(), Waiting> {
        queue.push(Waiting::new(message(), Place::default(), until))
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn stanzas_leave_in_their_order_and_no_more_wait_than_may() {
        let mut queue = Queue::default();
        for _ in 0..PEER_QUEUE_STANZAS_MAX {
            push(&mut queue, at(9)).unwrap();
        }
        assert!(push(&mut queue, at(9)).is_err());
        assert!(queue.pop().is_some());
        push(&mut queue, at(9)).unwrap();
        let bytes = queue.bytes;
        while queue.pop().is_some() {}
        assert!(bytes > 0 && queue.bytes == 0 && queue.is_empty());
    }

    #[test]
    fn what_the_store_has_kept_is_never_turned_away() {
        let mut queue = Queue::default();
        for id in 0..=PEER_QUEUE_STANZAS_MAX as i64 {
            let place = Place {
                id,
                ..Place::default()
            };
            let mut waiting = Waiting::new(message(), place, at(9));
            waiting.row = Some(Stored { is_committed: true });
            queue.push(waiting).unwrap();
        }
        assert!(queue.by_id(7).is_some());
        assert!(queue.by_id(-1).is_none());
    }

    #[test]
    fn those_whose_time_is_over_go_back_and_the_others_keep_their_order() {
        let mut queue = Queue::default();
        for seconds in [5, 1, 9, 2] {
            push(&mut queue, at(seconds)).unwrap();
        }
        assert_eq!(queue.next_due(false), Some(at(1)));
        assert_eq!(queue.next_due(true), None);
        let back = queue.take_if(|waiting| waiting.is_due(at(2)));
        assert_eq!(
            back.iter().map(|w| w.until).collect::<Vec<_>>(),
            [at(1), at(2)]
        );
        assert_eq!((queue.len(), queue.next_due(false)), (2, Some(at(5))));
        assert_eq!(queue.pop().map(|w| w.until), Some(at(5)));
        assert_eq!(queue.pop().map(|w| w.until), Some(at(9)));
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn messages_wait_and_requests_and_presence_do_not() {
        let hour = Duration::from_secs(3600);
        assert_eq!(wait_of(&message(), hour), hour);
        for (kind, type_) in [
            (Kind::Iq, Type::Get),
            (Kind::Presence, Type::Available),
            (Kind::Message, Type::Error),
        ] {
            assert_eq!(wait_of(&routed(kind, type_), hour), PEER_REQUEST_WAIT);
        }
    }

    #[test]
    fn pauses_grow_up_to_a_bound_and_begin_anew_after_a_success() {
        let mut retry = Retry::default();
        assert_eq!(retry.failed(0), PEER_RETRY_FIRST);
        assert_eq!(retry.failed(0), PEER_RETRY_FIRST * 2);
        let mut last = Duration::ZERO;
        for chance in 0..100 {
            last = retry.failed(chance * 7919);
            assert!(last <= PEER_RETRY_MAX);
        }
        assert!(last >= PEER_RETRY_MAX * 3 / 4);
        retry.succeeded();
        let pause = retry.failed(u64::MAX);
        assert!(pause >= PEER_RETRY_FIRST * 3 / 4 && pause <= PEER_RETRY_FIRST);
    }

    /// The first that ends may have met a restart of its server.
    #[test]
    fn streams_that_end_soon_are_made_anew_at_once_a_single_time() {
        let mut retry = Retry::default();
        let short = PEER_STREAM_STEADY - Duration::from_millis(1);
        assert_eq!(retry.ended(short, 0), None);
        assert_eq!(retry.ended(short, 0), Some(PEER_RETRY_FIRST));
        assert_eq!(retry.ended(short, 0), Some(PEER_RETRY_FIRST * 2));
        assert_eq!(retry.ended(PEER_STREAM_STEADY, 0), None);
        assert_eq!(retry.ended(short, 0), None);
        assert_eq!(retry.ended(short, 0), Some(PEER_RETRY_FIRST));
    }
}

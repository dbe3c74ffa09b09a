//! What waits for a stream to another server, and when the next one is tried. Knows no streams.

use std::collections::VecDeque;
use std::time::Duration;

use super::sharing::{Sender, TooMuch};
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
    /// Whose share it counts to.
    pub sender: Sender,
    pub place: Place,
    pub bytes: usize,
    /// How many streams the other server has ended over it.
    pub streams_ended: u32,
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
    /// Whether one more stanza may wait. Nobody has more here than is left to others.
    pub fn may_wait(&self, sender: Sender, bytes: usize) -> Result<(), TooMuch> {
        let stanzas_free = PEER_QUEUE_STANZAS_MAX.saturating_sub(self.waiting.len());
        let bytes_free = PEER_QUEUE_BYTES_MAX.saturating_sub(self.bytes);
        if stanzas_free == 0 || bytes > bytes_free {
            return Err(TooMuch::There);
        }
        // What one has is counted only where that can be too much.
        if self.waiting.len() < stanzas_free && self.bytes.saturating_add(bytes) <= bytes_free {
            return Ok(());
        }
        let own = self.waiting.iter().filter(|other| other.sender == sender);
        let (own_stanzas, own_bytes) = own.fold((0, 0), |(stanzas, bytes), other| {
            (stanzas + 1, bytes + other.bytes)
        });
        let may = own_stanzas < stanzas_free
            && (own_stanzas == 0 || bytes.saturating_add(own_bytes) <= bytes_free);
        may.then_some(()).ok_or(TooMuch::OfSenderThere)
    }

    /// Appends a stanza.
    pub fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        self.waiting.push_back(waiting);
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

    /// The stanzas, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter()
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
    pub fn new(routed: Routed, sender: Sender, place: Place, until: Mono) -> Waiting {
        Waiting {
            bytes: routed.stanza.size(),
            routed,
            row: None,
            sender,
            place,
            streams_ended: 0,
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

    fn sender(number: u64) -> Sender {
        Sender::numbered(number)
    }

    fn push(queue: &mut Queue, until: Mono) {
        queue.push(Waiting::new(message(), sender(1), Place::default(), until));
    }

    fn at(seconds: u64) -> Mono {
        Mono::default() + Duration::from_secs(seconds)
    }

    /// Nobody has more than is left to others: the first half of the whole, the next half of the rest.
    #[test]
    fn no_more_wait_than_may_and_no_more_of_one_sender_than_are_left_to_others() {
        let mut queue = Queue::default();
        let size = message().stanza.size();
        for (number, most) in [(1, 500), (2, 250), (3, 125)] {
            let mut count = 0;
            while queue.may_wait(sender(number), size).is_ok() {
                let place = Place::default();
                queue.push(Waiting::new(message(), sender(number), place, at(9)));
                count += 1;
            }
            assert_eq!(count, most);
            assert_eq!(
                queue.may_wait(sender(number), size),
                Err(TooMuch::OfSenderThere)
            );
        }
        for number in 4.. {
            match queue.may_wait(sender(number), size) {
                Ok(()) => {
                    let place = Place::default();
                    queue.push(Waiting::new(message(), sender(number), place, at(9)));
                }
                Err(refused) => {
                    assert_eq!(refused, TooMuch::There);
                    break;
                }
            }
        }
        assert_eq!(queue.len(), PEER_QUEUE_STANZAS_MAX);
        let bytes = queue.bytes;
        while queue.pop().is_some() {}
        assert!(bytes > 0 && queue.bytes == 0 && queue.is_empty());
    }

    #[test]
    fn bytes_are_shared_as_stanzas_are_and_one_of_any_size_that_fits_may_wait() {
        let mut queue = Queue::default();
        let wait = |number, bytes| {
            let mut waiting = Waiting::new(message(), sender(number), Place::default(), at(9));
            waiting.bytes = bytes;
            waiting
        };
        let most = PEER_QUEUE_BYTES_MAX;
        assert_eq!(queue.may_wait(sender(1), most + 1), Err(TooMuch::There));
        assert_eq!(queue.may_wait(sender(1), most), Ok(()));
        queue.push(wait(1, most / 2));
        assert_eq!(queue.may_wait(sender(1), 1), Err(TooMuch::OfSenderThere));
        assert_eq!(queue.may_wait(sender(2), most / 2), Ok(()));
        queue.push(wait(2, most / 4));
        assert_eq!(queue.may_wait(sender(2), 1), Err(TooMuch::OfSenderThere));
        assert_eq!(queue.may_wait(sender(3), most / 4 + 1), Err(TooMuch::There));
    }

    #[test]
    fn those_whose_time_is_over_go_back_and_the_others_keep_their_order() {
        let mut queue = Queue::default();
        for seconds in [5, 1, 9, 2] {
            push(&mut queue, at(seconds));
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

//! Other servers (`Who owns what` in lib.rs): a link for each pair of a local and a remote domain,
//! with one queue and at most one stream that writes it (RFC 6120 §10.1), on the shard of the
//! remote domain.
//!
//! What is sent while there is no stream waits in the link's queue and has one made. A message that
//! waits gets a row in the store, and is settled when that is committed (`Settlement` in lib.rs);
//! presence and requests go back to their senders as soon as the other server was tried in vain,
//! messages when they have waited for long.
//!
//! Invariants: a link that has something to send is being made, is ready, or rests until a time; what
//! was appended to a stream's output has left the queue, in the order in which it came, and is kept until
//! it is received, or nobody will say that it is.

mod acknowledging;
mod blaming;
mod handling;
pub mod history;
mod holdings;
mod keys;
mod link;
mod now_local;
mod pinged;
mod pinging;
mod receipts;
mod resting;
mod restoring;
mod sending;
mod sharing;
#[cfg(test)]
mod tests;
mod writers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

pub use self::acknowledging::LinkNews;
use self::acknowledging::Sent;
pub use self::blaming::{Objection, is_about_itself};
pub use self::handling::PeerNews;
use self::history::History;
pub use self::link::Failure;
use self::link::{Queue, Retry, Waiting};
use self::pinged::Habit;
pub use self::pinging::is_aside;
pub use self::receipts::Receipts;
pub use self::sharing::Sender;
use self::sharing::Shares;
use self::writers::Writers;
use crate::clock::Mono;
use crate::jid::Domain;
use crate::limits::{
    PEER_HELD_BYTES_MAX, PEER_HELD_STANZAS_MAX, PEER_LINKS_MAX, PEER_REFUSED_PAUSE,
};
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::management::Handled;
use crate::router::settlement::{Origin, Source, Ticket, Unsettled};
use crate::slots::{Key, Slots};
use crate::stanza::{Condition, Stanza, StanzaError};

/// The other servers of one shard.
#[derive(Default)]
pub struct Peers {
    links: Slots<Link>,
    by_domains: HashMap<(Domain, Domain), Key>,
    writers: Writers,
    /// When links are to be looked at; old times of a link may be left in it.
    dues: BinaryHeap<Reverse<(Mono, u64)>>,
    /// Streams that other servers have opened and proven.
    incoming: Slots<Incoming>,
    /// What the links hold, queued or sent and not acknowledged.
    held: Held,
    /// Who has how much of that, and of the links.
    shares: Shares,
    /// Links that are not needed, by when that was noted: the first makes room for another one.
    spares: BTreeMap<u64, Key>,
    spares_noted: u64,
    /// Streams that have asked what we have handled and are owed an answer.
    owed: Vec<Key>,
    /// What became of the last attempts, for who asks.
    pub history: History,
    last_row: i64,
    /// How often servers were pinged.
    pings: u64,
}

/// The way from a local domain to another server's.
pub struct Link {
    /// Ours.
    pub local: Domain,
    /// Theirs.
    pub remote: Domain,
    /// To whom it counts while it is needed: one who sends by it.
    sender: Sender,
    /// Its place in [`Peers::spares`], if it is not needed.
    spare: Option<u64>,
    way: Way,
    queue: Queue,
    /// What was sent and is not acknowledged, for each stream that has written something or counts.
    sent: Vec<Sent>,
    /// Whether the other server answers pings.
    habit: Habit,
    /// So many of the next stanzas are sent each when the one before is received: a stream was ended
    /// over one of them.
    singly: usize,
    retry: Retry,
    /// When its last stream was ready.
    ready_at: Mono,
    /// When it is forgotten, if it is idle until then.
    idle_until: Mono,
    /// The earliest of its times in [`Peers::dues`] that counts.
    armed: Option<Mono>,
}

/// How far a link is.
#[derive(Debug)]
enum Way {
    /// There is no stream, and nothing to send.
    Idle,
    /// A stream is being made.
    Making,
    /// The stream of this connection takes stanzas.
    Ready(Key),
    /// The other server was not reached, for this reason, and is not tried before that time.
    Resting(Mono, Failure),
}

/// How far a link is, for operators.
#[derive(Debug)]
pub enum LinkState<'a> {
    /// There is no stream, and none is wanted.
    Idle,
    /// A stream is being made.
    Making,
    /// A stream takes stanzas.
    Ready,
    /// Nobody is tried before that time, for this reason.
    Resting(Mono, &'a Failure),
}

/// A stream by which another server sends us stanzas.
pub struct Incoming {
    /// Its connection.
    pub conn: Key,
    pub(super) unsettled: Unsettled,
    /// There once stream management is enabled.
    handled: Option<Handled>,
    /// Whether it stands in [`Peers::owed`].
    is_owed: bool,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    stanzas: usize,
    bytes: usize,
}

impl Router {
    /// Sends a stanza towards another server, by way of its shard. Its sender must be local.
    pub(crate) fn route_to_peer(&mut self, routed: Routed) {
        let domains = |stanza: &Stanza| {
            let (from, to) = (stanza.from.as_ref()?, stanza.to.as_ref()?);
            Some((from.to_domain(), to.to_domain()))
        };
        let local = domains(&routed.stanza)
            .and_then(|(local, remote)| Some((self.settings.served(local.as_str())?, remote)));
        let Some((local, remote)) = local else {
            let error = StanzaError::new(Condition::RemoteServerNotFound)
                .text("Only the domains of this server may send to others");
            self.reject(routed, error);
            return;
        };
        if !local.s2s.enabled {
            let error = StanzaError::new(Condition::RemoteServerNotFound).text(NOT_ENABLED);
            self.reject(routed, error);
            return;
        }
        let shard = self.placement.shard_of(remote.as_str());
        self.out.to_peer(shard, routed);
    }

    /// Has a stream made; the shard goes on in [`Router::link_ready`] or [`Router::link_failed`].
    fn make_link(&mut self, key: Key) {
        debug_assert!(
            !self.peers.has_writer(key),
            "a stream that is there is used"
        );
        if self.peers.enter(key, Way::Making) {
            self.out.dials.push(key);
        }
    }

    /// No stream could be made.
    pub fn link_failed(&mut self, key: Key, failure: Failure) {
        let chance = self.chance_of(key);
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        if matches!(link.way, Way::Ready(_)) {
            // The other server has opened a stream meanwhile, which will do.
            return;
        }
        let pause = match failure.is_final {
            true => PEER_REFUSED_PAUSE,
            false => link.retry.failed(chance),
        };
        self.rest_link(key, pause, failure);
    }

    /// Tries nobody for a while, and returns what cannot wait for that.
    fn rest_link(&mut self, key: Key, pause: Duration, failure: Failure) {
        let now = self.now.mono;
        let back = self.peers.change(key, |link| match failure.is_final {
            true => link.queue.take_if(|_| true),
            false => link
                .queue
                .take_if(|waiting| !waiting.is_patient() || waiting.is_due(now)),
        });
        let back = back.unwrap_or_default();
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        ::log::info!(
            from:% = link.local, to:% = link.remote, reason = failure.text.as_str(),
            returned = back.len(), waiting = link.queue.len(),
            see = format!("stanzad explain s2s {}", link.remote).as_str();
            "server not reached"
        );
        let error = failure.to_error();
        self.peers.enter(key, Way::Resting(now + pause, failure));
        self.peers.arm(key, now + pause);
        self.peers.arm_again(key);
        self.return_to_senders(key, back, &error);
    }

    /// A number that others cannot foresee, and another one for each link.
    fn chance_of(&self, key: Key) -> u64 {
        self.placement
            .chance(self.now.mono.millis() ^ (key.to_bits() << 20))
    }

    fn return_to_senders(&mut self, key: Key, back: Vec<Waiting>, error: &StanzaError) {
        for waiting in back {
            self.end_peer_row(key, &waiting);
            self.reject(waiting.routed, error.clone());
        }
    }

    /// When a link is to be looked at again.
    pub fn links_due(&self) -> Option<Mono> {
        let link = self.peers.dues.peek().map(|Reverse((due, _))| *due);
        link.into_iter().chain(self.owed_at()).min()
    }

    /// Sends back what has waited for too long, and tries again whom it is time to try.
    pub(crate) fn do_links(&mut self) {
        while let Some(key) = self.peers.pop_due(self.now.mono) {
            self.do_link(key);
            self.peers.arm_again(key);
        }
        debug_assert!(
            self.peers.is_counted(),
            "each stanza on a link has a sender"
        );
        self.answer_owed();
    }

    fn do_link(&mut self, key: Key) {
        let now = self.now.mono;
        self.ask_if_due(key);
        self.end_if_silent(key);
        let back = self.peers.change(key, |link| {
            let is_making = matches!(link.way, Way::Making);
            let ends =
                |waiting: &Waiting| waiting.is_due(now) && !(is_making && waiting.is_patient());
            link.queue.take_if(ends)
        });
        let back = back.unwrap_or_default();
        let Some(link) = self.peers.links.get(key) else {
            return;
        };
        let mut is_rested = false;
        let is_over = matches!(link.way, Way::Idle) && link.idle_until <= now;
        let error = match &link.way {
            Way::Resting(until, failure) => {
                is_rested = *until <= now;
                failure.to_error()
            }
            _ => link::waited_too_long(),
        };
        let goes_on = is_rested && !link.queue.is_empty();
        if is_rested {
            self.peers.enter(key, Way::Idle);
        }
        self.return_to_senders(key, back, &error);
        if goes_on {
            self.make_link(key);
        } else if is_rested || is_over {
            self.peers.forget(key);
        }
    }

    /// Sends a stanza of the server's own making, an answer to one that another server has sent.
    pub fn send_to_peer(&mut self, stanza: Stanza) {
        self.route(Routed::new(stanza, Ticket::none()));
    }

    /// The link by whose stream the server of a remote domain can be asked something, and its connection;
    /// without one, a stream is being made. None if that server is not to be reached, or there are too many
    /// links.
    pub fn link_for_ask(&mut self, local: Domain, remote: Domain) -> Option<(Key, Option<Key>)> {
        let domains = (local, remote);
        let sender = self.strangers();
        let known = self.peers.by_domains.get(&domains).copied();
        self.peers.may_need(known, sender).ok()?;
        let key = self.peers.link(domains, sender)?;
        match &self.peers.links.get(key)?.way {
            Way::Ready(_) => return Some((key, self.stream_for_ask(key))),
            Way::Making => return Some((key, None)),
            Way::Resting(until, failure) if *until > self.now.mono && failure.is_final => {
                return None;
            }
            // It has just reached us, so it is tried without regard to when that came to nothing: each of
            // two servers would wait for the other one to be reached, and both ever longer.
            Way::Idle | Way::Resting(..) => {}
        }
        self.make_link(key);
        Some((key, None))
    }

    // --- streams by which other servers send ---

    /// A server has proven a domain on a stream of its own: stanzas may come.
    pub fn peer_opened(&mut self, conn: Key) -> Key {
        self.peers.incoming.insert(Incoming {
            conn,
            unsettled: Unsettled::default(),
            handled: None,
            is_owed: false,
        })
    }

    /// Takes a stanza of another server, whose addresses belong to a pair of domains that is proven on
    /// its stream. `size` is its length as received.
    pub fn from_peer(&mut self, key: Key, stanza: Stanza, size: usize) {
        let Some(incoming) = self.peers.incoming.get_mut(key) else {
            return;
        };
        let seq = incoming.receive(size);
        if let Some((domains, number)) = pinging::answered(&stanza) {
            incoming.unsettled.settle(seq);
            self.answer_peer(key);
            let shard = self.placement.shard_of(domains.1.as_str());
            if shard == self.shard {
                self.ping_answered(&domains, number);
            } else {
                self.out.ping_answered(shard, domains, number);
            }
            return;
        }
        let ticket = Ticket::new(Origin {
            shard: self.shard,
            source: Source::Peer(key),
            seq,
        });
        self.route(Routed::new(stanza, ticket));
    }

    /// The stream has ended.
    pub fn peer_closed(&mut self, key: Key) {
        self.peers.incoming.remove(key);
    }

    /// Whether the stream's socket is to be left unread (`Backpressure` in lib.rs).
    pub fn holds_peer(&self, key: Key) -> bool {
        let incoming = self.peers.incoming.get(key);
        incoming.is_some_and(|incoming| incoming.unsettled.is_full())
    }
}

impl Peers {
    /// The link of these domains, made for a sender if it is not there. None if there are too many.
    fn link(&mut self, domains: (Domain, Domain), sender: Sender) -> Option<Key> {
        if let Some(key) = self.by_domains.get(&domains) {
            return Some(*key);
        }
        if self.links.len() >= PEER_LINKS_MAX {
            let spare = self.first_spare()?;
            self.forget(spare);
        }
        let way = self.writers.first(&domains).map_or(Way::Idle, Way::Ready);
        let key = self.links.insert(Link {
            local: domains.0.clone(),
            remote: domains.1.clone(),
            sender,
            spare: None,
            way,
            queue: Queue::default(),
            sent: Vec::new(),
            habit: Habit::default(),
            singly: 0,
            retry: Retry::default(),
            ready_at: Mono::default(),
            idle_until: Mono::default(),
            armed: None,
        });
        self.by_domains.insert(domains, key);
        self.note_new(key);
        Some(key)
    }

    /// Forgets a link that has nothing to send.
    fn forget(&mut self, key: Key) {
        if let Some(link) = self.links.remove(key) {
            debug_assert!(
                link.queue.is_empty() && link.sent.is_empty(),
                "it is needed"
            );
            self.note_end(&link);
            let domains = (link.local, link.remote);
            debug_assert!(self.writers.first(&domains).is_none(), "it has a stream");
            self.by_domains.remove(&domains);
        }
    }

    /// The only way to change how far a link is. False if it is no more.
    fn enter(&mut self, key: Key, way: Way) -> bool {
        let Some(link) = self.links.get_mut(key) else {
            return false;
        };
        link.way = way;
        self.note(key);
        true
    }

    /// Changes what a link holds, and keeps count of it.
    fn change<R>(&mut self, key: Key, change: impl FnOnce(&mut Link) -> R) -> Option<R> {
        let link = self.links.get_mut(key)?;
        let before = link.held();
        let result = change(link);
        let after = link.held();
        self.held.stanzas = self.held.stanzas + after.stanzas - before.stanzas;
        self.held.bytes = self.held.bytes + after.bytes - before.bytes;
        self.note(key);
        Some(result)
    }

    /// Whether all links together hold as much as they may.
    fn is_full(&self, bytes: usize) -> bool {
        self.held.stanzas >= PEER_HELD_STANZAS_MAX
            || self.held.bytes.saturating_add(bytes) > PEER_HELD_BYTES_MAX
    }

    /// Has a link looked at no later than then.
    fn arm(&mut self, key: Key, due: Mono) {
        if let Some(link) = self.links.get_mut(key)
            && link.armed.is_none_or(|armed| due < armed)
        {
            link.armed = Some(due);
            self.dues.push(Reverse((due, key.to_bits())));
        }
    }

    fn arm_again(&mut self, key: Key) {
        if let Some(due) = self.links.get(key).and_then(Link::next_due) {
            self.arm(key, due);
        }
    }

    /// The next link that is due.
    fn pop_due(&mut self, now: Mono) -> Option<Key> {
        while let Some(&Reverse((due, bits))) = self.dues.peek()
            && due <= now
        {
            self.dues.pop();
            let key = Key::from_bits(bits);
            if let Some(link) = self.links.get_mut(key)
                && link.armed == Some(due)
            {
                link.armed = None;
                return Some(key);
            }
        }
        None
    }

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = (Key, &Link)> {
        self.links.iter()
    }

    /// A link.
    pub fn get(&self, key: Key) -> Option<&Link> {
        self.links.get(key)
    }

    /// What is unsettled of another server's stream, and its connection.
    pub(super) fn source_mut(&mut self, key: Key) -> Option<(&mut Unsettled, Key)> {
        let incoming = self.incoming.get_mut(key)?;
        Some((&mut incoming.unsettled, incoming.conn))
    }
}

impl Link {
    /// How far it is.
    pub fn state(&self) -> LinkState<'_> {
        match &self.way {
            Way::Idle => LinkState::Idle,
            Way::Making => LinkState::Making,
            Way::Ready(_) => LinkState::Ready,
            Way::Resting(until, failure) => LinkState::Resting(*until, failure),
        }
    }

    fn held(&self) -> Held {
        let sent = || self.sent.iter();
        Held {
            stanzas: self.queue.len() + sent().map(Sent::len).sum::<usize>(),
            bytes: self.queue.bytes() + sent().map(Sent::bytes).sum::<usize>(),
        }
    }

    /// How many stanzas wait for a stream.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    fn next_due(&self) -> Option<Mono> {
        let tried = match &self.way {
            Way::Resting(until, _) => Some(*until),
            Way::Idle if self.queue.is_empty() => Some(self.idle_until),
            _ => None,
        };
        let sent = self.sent.iter();
        let sent = sent.filter_map(|sent| sent.next_due(self.habit)).min();
        let is_making = matches!(self.way, Way::Making);
        let dues = [tried, sent, self.queue.next_due(is_making)];
        dues.into_iter().flatten().min()
    }
}

/// What is told whose domain may not talk to other servers.
const NOT_ENABLED: &str = "This domain does not talk to other servers (s2s.enabled = false)";

fn unreachable_now() -> StanzaError {
    StanzaError::new(Condition::RemoteServerTimeout).text("That server cannot be reached now")
}

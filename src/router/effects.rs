//! What the handlers of one turn give back: bytes for connections, posts, work and requests. Nothing
//! here acts by itself; the shard carries it out at the turn's end, in order
//! (`Order of a turn` in lib.rs).

use std::collections::VecDeque;

use crate::jid::Domain;
use crate::router::delivery::Routed;
use crate::router::settlement::{Origin, Source, Ticket};
use crate::slots::Key;
use crate::stanza::StreamError;
use crate::storage::{Batch, Lane, ReadFn};

/// What the routers of two shards tell each other.
#[derive(Debug)]
pub enum RouterPost {
    /// A stanza for an account of the receiving shard.
    Route(Box<Routed>),
    /// A stanza for another server, whose link is the receiving shard's.
    ToPeer(Box<Routed>),
    /// The server of the second domain has answered a ping of the first: the receiving shard's, with this
    /// number.
    PingAnswered(Box<(Domain, Domain)>, u64),
    /// A stanza for a component, whose stream is the receiving shard's.
    ToComponent(Box<Routed>),
    /// Stanzas of sessions and streams of the receiving shard whose way has ended.
    Settled(Vec<(Source, u64)>),
}

/// Everything that the turn's handlers asked for.
pub struct Effects {
    shard: u32,
    /// Bytes for connections.
    pub outputs: Outputs,
    /// Stanzas for accounts of this shard, handled in the turn's fifth step.
    pub work: VecDeque<Routed>,
    /// Stanzas for links of this shard to other servers.
    pub peer_work: VecDeque<Routed>,
    /// Stanzas for components of this shard.
    pub component_work: VecDeque<Routed>,
    /// Stanzas for other shards, by shard.
    pub routes: Vec<Vec<RouterPost>>,
    /// Settled stanzas, by shard.
    settled: Vec<Vec<(Source, u64)>>,
    /// What to write.
    pub batch: Batch,
    /// What to read: the number of the continuation, the lane and the read itself.
    pub reads: Vec<(u64, Lane, ReadFn)>,
    /// Links to other servers for which a stream is to be made.
    pub dials: Vec<Key>,
    /// Connections whose session was ended from outside, and why.
    pub ends: Vec<(Key, StreamError)>,
    /// Connections that waited for an account, and what became of it.
    pub admitted: Vec<(Key, Result<(), Refusal>)>,
    /// Connections to look at again: something that held their reading back has changed.
    pub resumed: Vec<Key>,
}

/// Why a proven identity is not let in after all (`Who owns what` in lib.rs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The account is gone, or its credentials are no longer those that were proven.
    Changed,
    /// The account is disabled.
    Disabled,
    /// The store could not tell.
    Unavailable,
}

impl Effects {
    /// No effects yet, for one of `shards` shards.
    pub fn new(shard: u32, shards: u32) -> Effects {
        let shards = shards as usize;
        Effects {
            shard,
            outputs: Outputs::default(),
            work: VecDeque::new(),
            peer_work: VecDeque::new(),
            component_work: VecDeque::new(),
            routes: (0..shards).map(|_| Vec::new()).collect(),
            settled: (0..shards).map(|_| Vec::new()).collect(),
            batch: Batch::default(),
            reads: Vec::new(),
            dials: Vec::new(),
            ends: Vec::new(),
            admitted: Vec::new(),
            resumed: Vec::new(),
        }
    }

    /// Hands a stanza to the shard that owns its recipient.
    pub fn route(&mut self, shard: u32, routed: Routed) {
        self.hand(shard, routed, RouterPost::Route, |own| &mut own.work);
    }

    /// Hands a stanza to the shard that owns the link to another server.
    pub fn to_peer(&mut self, shard: u32, routed: Routed) {
        self.hand(shard, routed, RouterPost::ToPeer, |own| &mut own.peer_work);
    }

    /// Hands a stanza to the shard that owns the component.
    pub fn to_component(&mut self, shard: u32, routed: Routed) {
        self.hand(shard, routed, RouterPost::ToComponent, |own| {
            &mut own.component_work
        });
    }

    fn hand(
        &mut self,
        shard: u32,
        routed: Routed,
        post: fn(Box<Routed>) -> RouterPost,
        work: fn(&mut Effects) -> &mut VecDeque<Routed>,
    ) {
        if shard == self.shard {
            work(self).push_back(routed);
        } else if let Some(posts) = self.routes.get_mut(shard as usize) {
            posts.push(post(Box::new(routed)));
        } else {
            debug_assert!(false, "shard {shard} does not exist");
            routed.ticket.abandon();
        }
    }

    /// Tells another shard that a server has answered a ping of its.
    pub fn ping_answered(&mut self, shard: u32, domains: (Domain, Domain), number: u64) {
        if let Some(posts) = self.routes.get_mut(shard as usize) {
            posts.push(RouterPost::PingAnswered(Box::new(domains), number));
        } else {
            debug_assert!(false, "shard {shard} does not exist");
        }
    }

    /// Tells a stanza's sender that its way has ended.
    pub fn settle(&mut self, ticket: Ticket) {
        if let Some(Origin { shard, source, seq }) = ticket.redeem()
            && let Some(settled) = self.settled.get_mut(shard as usize)
        {
            settled.push((source, seq));
        }
    }

    /// The settled stanzas of this shard's own sessions.
    pub fn take_own_settled(&mut self) -> Vec<(Source, u64)> {
        match self.settled.get_mut(self.shard as usize) {
            Some(own) => std::mem::take(own),
            None => Vec::new(),
        }
    }

    /// The posts for another shard: stanzas, then what was settled.
    pub fn take_posts(&mut self, shard: usize) -> Vec<RouterPost> {
        let mut posts = self
            .routes
            .get_mut(shard)
            .map(std::mem::take)
            .unwrap_or_default();
        if let Some(settled) = self.settled.get_mut(shard)
            && !settled.is_empty()
        {
            posts.push(RouterPost::Settled(std::mem::take(settled)));
        }
        posts
    }
}

/// The unsent bytes of each connection of the shard.
#[derive(Debug, Default)]
pub struct Outputs {
    buffers: Vec<Output>,
    dirty: Vec<Key>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Output {
    key: Option<Key>,
    bytes: Vec<u8>,
    is_dirty: bool,
    /// Whether all of the bytes are asides.
    is_aside: bool,
}

/// Empty buffers kept for the next connection that has something to send, so that idle connections
/// hold none.
const SPARE_BUFFERS_MAX: usize = 64;
/// A buffer that grew beyond this is given back to the allocator.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl Outputs {
    /// Makes room for a connection, with bytes that it may have brought along.
    pub fn open(&mut self, key: Key, bytes: Vec<u8>) {
        let index = key.index();
        if self.buffers.len() <= index {
            self.buffers.resize_with(index + 1, Output::default);
        }
        let is_dirty = !bytes.is_empty();
        self.buffers[index] = Output {
            key: Some(key),
            bytes,
            is_dirty,
            is_aside: false,
        };
        if is_dirty {
            self.dirty.push(key);
        }
    }

    /// Ends a connection's buffer and yields what was unsent.
    pub fn close(&mut self, key: Key) -> Vec<u8> {
        match self.buffers.get_mut(key.index()) {
            Some(output) if output.key == Some(key) => {
                output.key = None;
                output.is_dirty = false;
                std::mem::take(&mut output.bytes)
            }
            _ => Vec::new(),
        }
    }

    /// The buffer to append to; it will be written at the turn's end. None if the connection is gone.
    pub fn append(&mut self, key: Key) -> Option<&mut Vec<u8>> {
        let output = self.touched(key)?;
        output.is_aside = false;
        Some(&mut output.bytes)
    }

    /// The same, for something that is no use of the connection: one that has nothing else is idle.
    pub fn append_aside(&mut self, key: Key) -> Option<&mut Vec<u8>> {
        let output = self.touched(key)?;
        output.is_aside |= output.bytes.is_empty();
        Some(&mut output.bytes)
    }

    /// Whether a connection is used by what is unsent.
    pub fn is_use(&self, key: Key) -> bool {
        match self.buffers.get(key.index()) {
            Some(output) if output.key == Some(key) => !output.is_aside && !output.bytes.is_empty(),
            _ => false,
        }
    }

    fn touched(&mut self, key: Key) -> Option<&mut Output> {
        let output = self
            .buffers
            .get_mut(key.index())
            .filter(|output| output.key == Some(key))?;
        if !output.is_dirty {
            output.is_dirty = true;
            self.dirty.push(key);
        }
        if output.bytes.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            output.bytes = spare;
        }
        Some(output)
    }

    /// Unsent bytes of a connection.
    pub fn len(&self, key: Key) -> usize {
        match self.buffers.get(key.index()) {
            Some(output) if output.key == Some(key) => output.bytes.len(),
            _ => 0,
        }
    }

    /// Whether any connection has unsent bytes that this turn has not tried to write.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// The connections that were appended to since the last call.
    pub fn take_dirty(&mut self) -> Vec<Key> {
        let dirty = std::mem::take(&mut self.dirty);
        for key in &dirty {
            if let Some(output) = self.buffers.get_mut(key.index()) {
                output.is_dirty = false;
            }
        }
        dirty
    }

    /// Gives the list back that [`Outputs::take_dirty`] gave, to be filled again.
    pub fn reuse(&mut self, mut list: Vec<Key>) {
        if self.dirty.is_empty() && list.capacity() > self.dirty.capacity() {
            list.clear();
            self.dirty = list;
        }
    }

    /// The unsent bytes, for writing.
    pub fn bytes(&self, key: Key) -> &[u8] {
        match self.buffers.get(key.index()) {
            Some(output) if output.key == Some(key) => &output.bytes,
            _ => &[],
        }
    }

    /// Drops the first `count` bytes, which were written.
    pub fn consume(&mut self, key: Key, count: usize) {
        let Some(output) = self
            .buffers
            .get_mut(key.index())
            .filter(|output| output.key == Some(key))
        else {
            return;
        };
        if count < output.bytes.len() {
            output.bytes.drain(..count);
            return;
        }
        let mut bytes = std::mem::take(&mut output.bytes);
        if bytes.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_BUFFERS_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;

    #[test]
    fn a_closed_connection_takes_no_bytes() {
        let mut slots = Slots::default();
        let mut outputs = Outputs::default();
        let key = slots.insert(());
        outputs.open(key, Vec::new());
        outputs.append(key).unwrap().extend_from_slice(b"one");
        assert_eq!(outputs.take_dirty(), [key]);
        outputs.consume(key, 2);
        assert_eq!(outputs.bytes(key), b"e");
        assert_eq!(outputs.close(key), b"e");
        assert!(outputs.append(key).is_none());
        slots.remove(key);
        let next = slots.insert(());
        outputs.open(next, b"brought".to_vec());
        assert!(outputs.append(key).is_none(), "an old key finds nothing");
        assert_eq!(outputs.take_dirty(), [next]);
        assert_eq!(outputs.len(next), 7);
    }

    #[test]
    fn a_connection_is_used_by_what_is_no_aside() {
        let mut outputs = Outputs::default();
        let key = Slots::default().insert(());
        outputs.open(key, Vec::new());
        assert!(!outputs.is_use(key));
        outputs.append_aside(key).unwrap().extend(b"ping");
        assert!(!outputs.is_use(key));
        outputs.append(key).unwrap().extend(b"message");
        outputs.append_aside(key).unwrap().extend(b"ping");
        assert!(outputs.is_use(key));
        outputs.consume(key, 15);
        assert!(!outputs.is_use(key));
        outputs.append_aside(key).unwrap().extend(b"ping");
        assert!(!outputs.is_use(key));
    }
}

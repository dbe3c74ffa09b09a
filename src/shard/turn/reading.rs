//! The turn's third step: sockets are read, and what comes is given to the streams, each connection
//! within its share.

use super::acting::handling;
use super::{Outside, Ready, Shard};
use crate::limits::{
    FLOOD_BYTES, FLOOD_STANZAS, OUTPUT_BYTES_MAX, OUTPUT_HOLD_BYTES, PEER_OUTPUT_HOLD_BYTES,
    TURN_BYTES_MAX, TURN_FLOOD_BYTES, TURN_FLOOD_STANZAS, TURN_HANDSHAKES_MAX, TURN_NEWCOMERS_MAX,
    TURN_SESSIONS_PER_NEWCOMER, TURN_STANZAS_MAX,
};
use crate::net::transport::Read;
use crate::shard::budget::Used;
use crate::shard::connection::Ending;
use crate::slots::Key;
use crate::stream::Event;
use crate::stream::machine::Machine;

impl Shard {
    /// Remembers to go on reading in the next turn.
    pub(super) fn list(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.is_listed
        {
            connection.is_listed = true;
            self.again.push_back(key);
        }
    }

    /// Reads who has news, and then those who wait on lists, each kind within its share of the turn.
    pub(super) fn read_sockets(&mut self, ready: &[Ready], outside: &mut dyn Outside) {
        for news in ready {
            if let Some(key) = self.connections.at(news.index) {
                self.noticed(key, news.is_closed);
            }
        }
        let waiting = self.again.len();
        let mut sessions_read = 0;
        for news in ready {
            // Who stands on a list is read when that list's turn comes: once, and under a shut gate not
            // put on it again with each edge.
            if let Some(key) = self.connections.at(news.index)
                && self.connections.get(key).is_some_and(|c| !c.is_listed)
            {
                sessions_read += usize::from(self.read_in_turn(key, outside).is_some());
            }
        }
        // Who has more than others waits for its turn among its like: sessions that say a word now and
        // then need not wait until all of them are read.
        let mut floods = Used::default();
        for _ in 0..waiting {
            if floods.stanzas >= TURN_FLOOD_STANZAS || floods.bytes >= TURN_FLOOD_BYTES {
                break;
            }
            if let Some(key) = self.again.pop_front()
                && let Some(used) = self.read_in_turn(key, outside)
            {
                floods.add(used);
                sessions_read += 1;
            }
        }
        self.read_newcomers(sessions_read, outside);
    }

    /// Newcomers get their share of a long turn too, or nobody could log in to a busy server.
    fn read_newcomers(&mut self, sessions_read: usize, outside: &mut dyn Outside) {
        let share = sessions_read / TURN_SESSIONS_PER_NEWCOMER;
        let newcomers = self.newcomers.len().min(TURN_NEWCOMERS_MAX.max(share));
        let mut handshakes = TURN_HANDSHAKES_MAX.max(share);
        for _ in 0..newcomers {
            if handshakes == 0 {
                return;
            }
            let Some(key) = self.newcomers.pop_front() else {
                return;
            };
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.is_listed = false;
            let is_securing = connection.transport.is_securing();
            let used = self.read(key, outside);
            handshakes -= usize::from(is_securing && used.bytes > 0);
        }
    }

    /// Reads a session's connection at once: what it has sent. One without a session joins the queue of
    /// newcomers: what it sends may be a handshake, and as many may come in one turn as the listener has
    /// accepted.
    fn read_in_turn(&mut self, key: Key, outside: &mut dyn Outside) -> Option<Used> {
        let connection = self.connections.get_mut(key)?;
        connection.is_listed = !connection.stream.is_authenticated();
        if connection.is_listed {
            self.newcomers.push_back(key);
            return None;
        }
        Some(self.read(key, outside))
    }

    /// The socket may have bytes, or take some again. A flood's wait for their turn.
    fn noticed(&mut self, key: Key, is_closed: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.transport.readable(is_closed);
        if connection.is_blocked {
            connection.is_blocked = false;
            // Asking for the buffer puts the connection on the list of those to be written.
            self.router.out.outputs.append(key);
        }
        if connection.is_flood {
            self.list(key);
        }
    }

    /// Reads a connection's share, unless it is paused, and charges it: what it has sent.
    pub(super) fn read(&mut self, key: Key, outside: &mut dyn Outside) -> Used {
        let mut used = Used::default();
        if self.is_paused(key) {
            return used;
        }
        self.read_turn(key, &mut used, outside);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_flood = used.stanzas >= FLOOD_STANZAS || used.bytes >= FLOOD_BYTES;
        }
        self.charge(key, used);
        used
    }

    /// Reads what one turn has room for.
    pub(super) fn read_turn(&mut self, key: Key, used: &mut Used, outside: &mut dyn Outside) {
        let (mut events, mut bytes) = (0, 0);
        loop {
            if events >= TURN_STANZAS_MAX || bytes >= TURN_BYTES_MAX {
                self.list(key);
                return;
            }
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            if !connection.stream.takes_input() || matches!(connection.ending, Ending::StartTls(_))
            {
                return;
            }
            let (holds, output_max) = match &connection.stream {
                Machine::Client(stream) => {
                    let session = stream.session();
                    let holds = session.is_some_and(|session| self.router.holds_reading(session));
                    (holds, OUTPUT_HOLD_BYTES)
                }
                Machine::Server(stream) => {
                    let source = stream.source();
                    let holds = source.is_some_and(|source| self.router.holds_peer(source));
                    (holds, PEER_OUTPUT_HOLD_BYTES)
                }
                Machine::Component(stream) => {
                    let component = stream.component();
                    let holds = component.is_some_and(|it| self.router.holds_component(it));
                    // It may well write while it does not read. What others send to it waits elsewhere;
                    // this bounds the errors that it is told itself.
                    (holds, OUTPUT_BYTES_MAX)
                }
            };
            if holds || self.router.out.outputs.len(key) > output_max {
                return;
            }
            if outside.is_gate_shut() {
                connection.is_listed = true;
                self.gated.push(key);
                return;
            }
            // The parser may crash too.
            handling(connection, &self.router);
            if let Some(event) = connection.input.next_event() {
                events += 1;
                used.stanzas += u64::from(event.is_stanza());
                self.event(key, event, outside);
                continue;
            }
            let result = connection.transport.read(&mut self.buffers);
            let received = match result {
                Ok(Read::Data(count)) => count.max(self.buffers.received),
                _ => self.buffers.received,
            };
            bytes += received;
            used.bytes += received as u64;
            match result {
                Ok(Read::Data(count)) => {
                    let is_sooner = connection.stream.touch(self.router.now.mono);
                    connection.input.feed(&self.buffers.plain[..count]);
                    if !connection.is_watched {
                        connection.is_watched = true;
                        self.watched.add(key, self.router.now.mono);
                    }
                    if is_sooner {
                        self.rearm(key);
                    }
                }
                Ok(Read::Nothing) => {}
                Ok(Read::Blocked) => return,
                Ok(Read::Established(facts)) => {
                    self.event(key, Event::Established(facts), outside);
                }
                Ok(Read::End) => {
                    // RFC 6120 §4.4: who ends its stream and its direction at once is answered too.
                    if connection.stream.is_ending() {
                        connection.ending = Ending::Drop;
                        self.router.out.outputs.append(key);
                    } else {
                        self.write(key, outside);
                        self.remove(key, outside);
                    }
                    return;
                }
                Err(error) => {
                    log::debug!(stream = connection.stream.origin().stream, error:%; "connection failed");
                    connection.failure = Some(error.to_string().into());
                    // An alert may tell the peer what was wrong with its handshake.
                    if let Err(error) = connection.transport.flush() {
                        log::trace!(error:%; "alert not sent");
                    }
                    self.remove(key, outside);
                    return;
                }
            }
        }
    }
}

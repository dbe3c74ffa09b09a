//! The turn's third step: sockets are read, and what comes is given to the streams, each connection
//! within its share.

use super::acting::handling;
use super::{Outside, Shard};
use crate::limits::{
    OUTPUT_BYTES_MAX, OUTPUT_HOLD_BYTES, PEER_OUTPUT_HOLD_BYTES, TURN_BYTES_MAX, TURN_STANZAS_MAX,
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

    /// Reads a session's connection at once. One without a session joins the queue of newcomers: what
    /// it sends may be a handshake, which costs as much as a hundred messages, and as many may come in
    /// one turn as the listener has accepted. Whether it was a session's.
    pub(super) fn read_in_turn(&mut self, key: Key, outside: &mut dyn Outside) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        connection.is_listed = !connection.stream.is_authenticated();
        if connection.is_listed {
            self.newcomers.push_back(key);
            return false;
        }
        self.read(key, outside);
        true
    }

    /// The socket may have bytes, or take some again.
    pub(super) fn noticed(&mut self, key: Key, is_closed: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.transport.readable(is_closed);
        if connection.is_blocked {
            connection.is_blocked = false;
            // Asking for the buffer puts the connection on the list of those to be written.
            self.router.out.outputs.append(key);
        }
    }

    pub(super) fn read(&mut self, key: Key, outside: &mut dyn Outside) {
        if !self.is_paused(key) {
            let mut used = Used::default();
            self.read_turn(key, &mut used, outside);
            self.charge(key, used);
        }
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

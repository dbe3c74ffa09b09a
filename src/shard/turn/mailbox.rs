//! The turn's second step: what the mailbox brought.

use std::sync::Arc;

use super::{Outside, Shard};
use crate::router;
use crate::shard::connection::{Connection, Ending, Moving, Proven};
use crate::shard::{Accepted, Generation, Peer, Post};
use crate::slots::Key;
use crate::stanza::{StreamCondition, StreamError};
use crate::storage::Answer;
use crate::stream::Event;
use crate::stream::c2s::ClientStream;
use crate::stream::component::ComponentStream;
use crate::stream::machine::Machine;
use crate::stream::s2s::ServerStream;

impl Shard {
    pub(super) fn take(&mut self, post: Post, outside: &mut dyn Outside) {
        match post {
            Post::Router(post) => self.router.post(post),
            Post::Accepted(accepted) => {
                let Accepted {
                    transport,
                    origin,
                    peer,
                } = *accepted;
                let stream = match peer {
                    Peer::Client => Machine::Client(ClientStream::new(origin)),
                    Peer::Server => Machine::Server(Box::new(ServerStream::accepted(origin))),
                    Peer::Component => Machine::Component(ComponentStream::new(origin)),
                };
                let mut connection = Connection::new(transport, stream);
                if self.is_stopping || !self.may_secure(&mut connection) {
                    let address = connection.stream.origin().ip();
                    self.throttle.disconnect(address, true);
                    return;
                }
                if let Some(key) = self.insert(connection, Vec::new(), outside) {
                    self.list(key);
                }
            }
            Post::Moved(moving) => self.arrived(*moving, outside),
            Post::Store(answer) => self.store_answered(answer, outside),
            Post::Worked(key, value) => {
                self.event(key, Event::Worked(Some(value)), outside);
                self.list(key);
            }
            Post::Command(jid, command, reply) => self.router.command(&jid, command, reply),
            Post::Resolved(id, found) => self.resolved(id, *found, outside),
            Post::Verify(ask) => self.verify_here(*ask, outside),
            Post::Verified(asker, checked) => {
                self.event(asker.conn, Event::Verified(asker.pair, checked), outside);
                self.list(asker.conn);
            }
            Post::PeerMessages(messages) => self.router.restore_peer_messages(messages),
            Post::Survey(reply) => reply(self.survey()),
            Post::Attempted(attempt) => self.router.peers.history.note(*attempt),
            Post::Recall(peer, reply) => reply(self.remembered(&peer)),
            Post::EndSessions(jid, reply) => reply(self.end_sessions(&jid)),
            Post::Reload(generation) => self.reload(generation, outside),
            Post::Stop => self.stop(outside),
            // Only a word that wakes the thread.
            Post::AllAtRest => {}
        }
    }

    /// Has a connection that begins with TLS wait for its address's turn. False: that is too far off.
    fn may_secure(&self, connection: &mut Connection) -> bool {
        if !connection.transport.is_securing() {
            return true;
        }
        let (settings, now) = (&self.generation.settings, self.router.now.mono);
        let origin = connection.stream.origin();
        let waits = origin.handshake_waits(settings, &self.throttle, now);
        let Ok(until) = waits else {
            return false;
        };
        connection.paused_until = until;
        true
    }

    /// Puts a new generation in force. Sessions of a domain that is gone could reach nobody and
    /// nobody them: they end (RFC 6120 §4.9.3.5).
    fn reload(&mut self, generation: Arc<Generation>, outside: &mut dyn Outside) {
        self.judge_servers_by(&generation, outside);
        self.router.settings = Arc::clone(&generation.settings);
        self.generation = generation;
        let sessions = self.router.sessions.iter();
        let gone: Vec<Key> = sessions
            .filter(|(_, session)| self.router.domain(session.jid.domain()).is_none())
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            let text = "This server does not serve the domain any more";
            self.router
                .end_session(key, StreamError::new(StreamCondition::HostGone, text));
        }
        self.router.end_revoked_components();
        self.router.deliver_what_is_ours();
        self.router.end_rests();
        // The time for a login may be shorter now.
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.forgive(key);
            self.rearm(key);
        }
    }

    pub(super) fn insert(
        &mut self,
        connection: Connection,
        output: Vec<u8>,
        outside: &mut dyn Outside,
    ) -> Option<Key> {
        let key = self.connections.insert(connection);
        self.router.out.outputs.open(key, output);
        let connection = self.connections.get_mut(key)?;
        if let Err(error) = outside.register(key, connection.transport.as_ref()) {
            log::warn!(address:% = connection.stream.origin().ip(), error:%; "connection dropped");
            self.remove(key, outside);
            return None;
        }
        self.rearm(key);
        Some(key)
    }

    fn arrived(&mut self, moving: Moving, outside: &mut dyn Outside) {
        let Moving {
            mut connection,
            output,
            proven,
        } = moving;
        connection.armed = None;
        connection.is_listed = false;
        connection.is_watched = false;
        if let Some(key) = self.insert(connection, output, outside) {
            match proven {
                Proven::Account(jid, proof) => self.router.admit(key, &jid, proof),
                Proven::Peer => self.place_peer(key, outside),
                Proven::Component(component) => self.admit_component(key, &component, outside),
            }
            if self.is_stopping {
                self.event(key, Event::End(shutting_down()), outside);
            }
            // No edge comes for what the old shard's registration has seen.
            self.list(key);
        }
    }

    fn store_answered(&mut self, answer: Answer, outside: &mut dyn Outside) {
        match answer {
            Answer::Committed {
                last_row,
                changes,
                rows,
            } => {
                if let Err(error) = &rows {
                    log::log!(error.level(), shard = self.router.shard, error:%; "rows lost");
                }
                self.router.rows_answered(last_row, &rows);
                for (id, result) in changes {
                    let waiter = self.router.answered(id, result);
                    debug_assert!(waiter.is_none(), "connections change nothing themselves");
                }
            }
            Answer::Read { id, result } => {
                let Some((key, result)) = self.router.answered(id, result) else {
                    return;
                };
                let credentials = result.and_then(router::storage_value);
                self.event(key, Event::Credentials(credentials), outside);
                self.list(key);
            }
        }
    }

    fn end_sessions(&mut self, jid: &str) -> u64 {
        let sessions = self.router.sessions.iter();
        let meant: Vec<Key> = sessions
            .filter(|(_, session)| session.jid.as_str() == jid || session.jid.bare_str() == jid)
            .map(|(key, _)| key)
            .collect();
        let count = meant.len() as u64;
        for key in meant {
            let error = StreamError::new(
                StreamCondition::PolicyViolation,
                "The operator has ended this session",
            );
            self.router.end_session(key, error);
        }
        count
    }

    fn stop(&mut self, outside: &mut dyn Outside) {
        self.is_stopping = true;
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let connection = self.connections.get(key);
            let is_stranger = connection.is_some_and(|it| !it.stream.is_authenticated());
            self.event(key, Event::End(shutting_down()), outside);
            if is_stranger {
                self.dismiss(key, outside);
            }
        }
    }

    /// Who has proven nothing has nothing to lose, and is not waited for: a handshake, or a connection
    /// that is being made, is broken off, and another stranger hears the error and no more.
    fn dismiss(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.transport.is_securing() || connection.stream.is_dialled() {
            self.remove(key, outside);
        } else {
            connection.ending = Ending::Drop;
            self.router.out.outputs.append(key);
        }
    }
}

fn shutting_down() -> StreamError {
    StreamError::new(
        StreamCondition::SystemShutdown,
        "The server is shutting down",
    )
}

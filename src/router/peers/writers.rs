//! Which streams may write the stanzas of which pairs of domains: those that were dialled for a link, and
//! those that another server has opened and that go both ways (XEP-0288).
//!
//! Several may be there, after both servers have dialled at once or because the other one has opened
//! more. One writes, the first that was there, until it ends; then the next takes over, so that
//! the stanzas of a link never go by two streams at a time (RFC 6120 §10.1).

use std::collections::HashMap;
use std::time::Duration;

use super::{Failure, Link, Peers, Way};
use crate::jid::Domain;
use crate::limits::PEER_LINK_IDLE;
use crate::router::Router;
use crate::slots::Key;
use crate::stanza::Condition;

/// The connections of the streams that may write, the present one of each pair first. As many as there
/// are pairs on streams, which the ledgers of these bound.
#[derive(Default)]
pub(super) struct Writers {
    by_domains: HashMap<(Domain, Domain), Vec<Writer>>,
    by_connection: HashMap<Key, Vec<(Domain, Domain)>>,
}

#[derive(Clone, Copy)]
struct Writer {
    conn: Key,
    /// Whether we have opened the stream.
    is_dialled: bool,
}

impl Writers {
    /// The stream that writes.
    pub fn first(&self, domains: &(Domain, Domain)) -> Option<Key> {
        Some(self.by_domains.get(domains)?.first()?.conn)
    }

    fn add(&mut self, domains: (Domain, Domain), writer: Writer) {
        let written = self.by_connection.entry(writer.conn).or_default();
        if !written.contains(&domains) {
            written.push(domains.clone());
            self.by_domains.entry(domains).or_default().push(writer);
        }
    }

    fn remove(&mut self, domains: &(Domain, Domain), conn: Key) {
        if let Some(conns) = self.by_domains.get_mut(domains) {
            conns.retain(|other| other.conn != conn);
            if conns.is_empty() {
                self.by_domains.remove(domains);
            }
        }
        if let Some(written) = self.by_connection.get_mut(&conn) {
            written.retain(|other| other != domains);
            if written.is_empty() {
                self.by_connection.remove(&conn);
            }
        }
    }
}

impl Router {
    /// The stream that was dialled for a link takes its stanzas.
    pub fn link_ready(&mut self, key: Key, conn: Key) {
        if let Some(domains) = self.peers.domains_of(key) {
            let is_dialled = true;
            self.writer_came(domains, Writer { conn, is_dialled });
        }
    }

    /// A stream that another server has opened takes the stanzas of a pair of domains.
    pub fn pair_open(&mut self, local: Domain, remote: Domain, conn: Key) {
        let is_dialled = false;
        self.writer_came((local, remote), Writer { conn, is_dialled });
    }

    /// The stream that was dialled for a link has ended, whoever ended it.
    pub fn link_ended(&mut self, key: Key, conn: Key) {
        if let Some(domains) = self.peers.domains_of(key) {
            self.writer_went(&domains, conn);
        }
    }

    /// A stream takes the stanzas of a pair of domains no more.
    pub fn pair_closed(&mut self, local: Domain, remote: Domain, conn: Key) {
        self.writer_went(&(local, remote), conn);
    }

    /// The output of a connection has room again.
    pub fn stream_writable(&mut self, conn: Key) {
        let links: Vec<Key> = self.peers.keys_written_by(conn).collect();
        for link in links {
            self.drain_link(link);
        }
    }

    fn writer_came(&mut self, domains: (Domain, Domain), writer: Writer) {
        let key = self.peers.by_domains.get(&domains).copied();
        self.peers.writers.add(domains, writer);
        if let Some(key) = key {
            self.use_writer(key);
        }
    }

    /// The stream by which a link that is ready can ask about dialback keys: one that we have dialled, for
    /// which one is made if need be. Prosody 0.12 takes the question for an answer on its own stream,
    /// and ends that.
    pub(super) fn stream_for_ask(&mut self, key: Key) -> Option<Key> {
        let domains = self.peers.domains_of(key)?;
        let mut writers = self.peers.writers.by_domains.get(&domains)?.iter();
        let dialled = writers.find(|writer| writer.is_dialled);
        if dialled.is_none() {
            self.out.dials.push(key);
        }
        dialled.map(|writer| writer.conn)
    }

    fn writer_went(&mut self, domains: &(Domain, Domain), conn: Key) {
        self.peers.writers.remove(domains, conn);
        let Some(key) = self.peers.by_domains.get(domains).copied() else {
            return;
        };
        self.take_back(key, conn);
        if let Some(link) = self.peers.links.get(key)
            && link.way.is_ready_by(conn)
        {
            let lasted = self.now.mono.since(link.ready_at);
            self.peers.enter(key, Way::Idle);
            self.use_writer(key);
            let link = self.peers.links.get(key);
            if link.is_some_and(|link| link.way.is_idle()) {
                self.go_on_without(key, lasted);
            }
        }
    }

    /// The last stream of a link has ended.
    fn go_on_without(&mut self, key: Key, lasted: Duration) {
        self.deliver_if_ours(key);
        let chance = self.chance_of(key);
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        if link.queue.is_empty() {
            link.idle_until = self.now.mono + PEER_LINK_IDLE;
            self.peers.arm_again(key);
            return;
        }
        match link.retry.ended(lasted, chance) {
            None => self.make_link(key),
            Some(pause) => {
                let failure = Failure {
                    condition: Condition::RemoteServerTimeout,
                    text: "its streams end soon after they are ready".to_owned(),
                    is_final: false,
                };
                self.rest_link(key, pause, failure);
            }
        }
    }

    /// Has a link that has no stream use the one that may write for it, if there is one.
    fn use_writer(&mut self, key: Key) {
        let now = self.now.mono;
        let Some(link) = self.peers.links.get_mut(key) else {
            return;
        };
        let domains = (link.local.clone(), link.remote.clone());
        if let Some(conn) = self.peers.writers.first(&domains)
            && !matches!(link.way, Way::Ready(_))
        {
            link.ready_at = now;
            self.peers.enter(key, Way::Ready(conn));
            self.drain_link(key);
        }
    }
}

impl Peers {
    /// Whether a stream is there for a link.
    pub(super) fn has_writer(&self, key: Key) -> bool {
        let domains = self.domains_of(key);
        domains.is_some_and(|domains| self.writers.first(&domains).is_some())
    }

    /// The links of the pairs of domains that a connection may write.
    pub(super) fn keys_written_by(&self, conn: Key) -> impl Iterator<Item = Key> {
        let written = self.writers.by_connection.get(&conn);
        let domains = written.into_iter().flatten();
        domains.filter_map(|domains| self.by_domains.get(domains).copied())
    }

    /// The same.
    pub(super) fn written_by(&self, conn: Key) -> impl Iterator<Item = &Link> {
        let keys = self.keys_written_by(conn);
        keys.filter_map(|key| self.links.get(key))
    }

    fn domains_of(&self, key: Key) -> Option<(Domain, Domain)> {
        let link = self.links.get(key)?;
        Some((link.local.clone(), link.remote.clone()))
    }
}

impl Way {
    fn is_ready_by(&self, conn: Key) -> bool {
        matches!(self, Way::Ready(ready) if *ready == conn)
    }

    fn is_idle(&self) -> bool {
        matches!(self, Way::Idle)
    }
}

#[cfg(test)]
mod tests;

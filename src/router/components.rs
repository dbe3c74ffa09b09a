//! Components (XEP-0114): each on the shard of its domain, with one stream that is used both ways.
//!
//! To accounts a component's addresses are those of a remote domain: they have no account here, and
//! presence and subscriptions with them are stanzas like any others. What is sent to a component that
//! is not connected comes back as `remote-server-timeout`, and nothing is kept for it. It could as well
//! be `service-unavailable`, but rooms take that for the answer of an occupant that is there
//! (XEP-0410 §3).
//!
//! Invariants: what waits for a component goes into its output in the order in which it came; while
//! anything waits nothing overtakes it; and it waits for a limited time, since the clients that have
//! sent it are not read meanwhile.

use std::collections::{HashMap, VecDeque};

use crate::clock::{Mono, Wall};
use crate::config::Secret;
use crate::jid::Domain;
use crate::limits::{
    COMPONENT_QUEUE_BYTES_MAX, COMPONENT_QUEUE_STANZAS_MAX, COMPONENT_STALL_WAIT, OUTPUT_HOLD_BYTES,
};
use crate::router::Router;
use crate::router::delivery::Routed;
use crate::router::settlement::{Origin, Source, Ticket, Unsettled};
use crate::slots::{Key, Slots};
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::stanza::{StreamCondition, StreamError};

/// The components of one shard that are connected.
#[derive(Default)]
pub struct Components {
    connected: Slots<Component>,
    by_domain: HashMap<Domain, Key>,
}

/// A component that is connected.
pub struct Component {
    /// Its domain.
    pub domain: Domain,
    /// The connection of its stream.
    pub conn: Key,
    /// Since when.
    pub since: Wall,
    /// What it has proven itself by.
    secret: Secret,
    unsettled: Unsettled,
    queue: VecDeque<Routed>,
    queue_bytes: usize,
    /// Since when it has read nothing that made room for what waits.
    stalled: Option<Mono>,
}

impl Router {
    /// Lets in a component that has proven itself by a secret, on the shard of its domain.
    ///
    /// # Errors
    /// `conflict` if it is connected already: the older stream stays, so that two programs with one
    /// configuration do not end each other's streams for ever. `host-unknown` if it is gone from the
    /// conf file, and `not-authorized` if it has another secret there by now.
    pub fn component_opened(
        &mut self,
        conn: Key,
        domain: &Domain,
        secret: &Secret,
    ) -> Result<Key, StreamError> {
        let Some(settings) = self.settings.components.get(domain) else {
            return Err(StreamError::new(
                StreamCondition::HostUnknown,
                "This server has no such component",
            ));
        };
        if settings.secret != *secret {
            return Err(other_secret());
        }
        let older = self.components.find(domain.as_str());
        if let Some(older) = older.and_then(|older| self.components.get(older)) {
            // If its machine is gone without a word, TCP finds out by this (RFC 6120 §4.6.1).
            if let Some(output) = self.out.outputs.append(older.conn)
                && output.is_empty()
            {
                output.push(b' ');
            }
            return Err(StreamError::new(
                StreamCondition::Conflict,
                "This component is connected already",
            ));
        }
        let key = self.components.connected.insert(Component {
            domain: domain.clone(),
            conn,
            since: self.now.wall,
            secret: secret.clone(),
            unsettled: Unsettled::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            stalled: None,
        });
        self.components.by_domain.insert(domain.clone(), key);
        Ok(key)
    }

    /// A component's stream has ended. What waits for it goes back.
    pub fn component_closed(&mut self, key: Key) {
        let Some(component) = self.components.connected.remove(key) else {
            return;
        };
        self.components.by_domain.remove(&component.domain);
        for routed in component.queue {
            self.reject(routed, not_connected());
        }
    }

    /// Takes a stanza of a component, whose sender is of its domain. `size` is its length as received.
    pub fn from_component(&mut self, key: Key, stanza: Stanza, size: usize) {
        let Some(component) = self.components.connected.get_mut(key) else {
            return;
        };
        let seq = component.unsettled.issue(size, false);
        let ticket = Ticket::new(Origin {
            shard: self.shard,
            source: Source::Component(key),
            seq,
        });
        self.route(Routed::new(stanza, ticket));
    }

    /// Sends a stanza towards a component, by way of its shard.
    pub(crate) fn route_to_component(&mut self, routed: Routed) {
        let to = routed.stanza.to.as_ref().map_or("", |to| to.domain());
        let shard = self.placement.shard_of(to);
        self.out.to_component(shard, routed);
    }

    /// Takes a stanza for a component of this shard.
    pub(crate) fn send_to_component(&mut self, routed: Routed) {
        let now = self.now.mono;
        let to = routed.stanza.to.as_ref().map_or("", |to| to.domain());
        let key = self.components.find(to);
        let Some(component) = key.and_then(|key| self.components.connected.get_mut(key)) else {
            self.reject(routed, not_connected());
            return;
        };
        let conn = component.conn;
        if component.queue.is_empty() && self.out.outputs.len(conn) <= OUTPUT_HOLD_BYTES {
            self.write_to_component(conn, routed);
            return;
        }
        let size = routed.stanza.size();
        let is_full = component.queue.len() >= COMPONENT_QUEUE_STANZAS_MAX
            || component.queue_bytes.saturating_add(size) > COMPONENT_QUEUE_BYTES_MAX;
        if is_full {
            let error = StanzaError::new(Condition::ResourceConstraint)
                .text("Too many stanzas wait for that service; try again later");
            self.reject(routed, error);
            return;
        }
        component.stalled.get_or_insert(now);
        component.queue_bytes += size;
        component.queue.push_back(routed);
    }

    fn write_to_component(&mut self, conn: Key, routed: Routed) {
        match self.out.outputs.append(conn) {
            Some(output) => {
                routed.stanza.write(output);
                self.drop_routed(routed);
            }
            // Its end is on its way to us.
            None => self.reject(routed, not_connected()),
        }
    }

    /// The output of a component's connection has room again.
    pub fn component_writable(&mut self, key: Key) {
        let now = self.now.mono;
        loop {
            let Some(component) = self.components.connected.get_mut(key) else {
                return;
            };
            component.stalled = (!component.queue.is_empty()).then_some(now);
            let conn = component.conn;
            if self.out.outputs.len(conn) > OUTPUT_HOLD_BYTES {
                return;
            }
            let Some(routed) = component.queue.pop_front() else {
                return;
            };
            component.queue_bytes = component.queue_bytes.saturating_sub(routed.stanza.size());
            self.write_to_component(conn, routed);
        }
    }

    /// Whether the socket of a component is to be left unread (`Backpressure` in lib.rs).
    pub fn holds_component(&self, key: Key) -> bool {
        let component = self.components.get(key);
        component.is_some_and(|component| component.unsettled.is_full())
    }

    /// When a component that does not read is to be given up.
    pub fn components_due(&self) -> Option<Mono> {
        let stalled = self.components.iter().filter_map(|(_, one)| one.stalled);
        stalled.min().map(|since| since + COMPONENT_STALL_WAIT)
    }

    /// Ends the streams of components that do not read (RFC 6120 §4.9.3.17).
    pub(crate) fn do_components(&mut self) {
        let now = self.now.mono;
        if self.components_due().is_none_or(|due| due > now) {
            return;
        }
        let is_due = |since: Mono| since + COMPONENT_STALL_WAIT <= now;
        let stalled = self.components.iter();
        let stalled = stalled.filter(|(_, component)| component.stalled.is_some_and(is_due));
        let keys: Vec<Key> = stalled.map(|(key, _)| key).collect();
        for component in keys {
            if let Some(component) = self.components.connected.get_mut(component) {
                component.stalled = None;
                let text = "You do not read what others send you";
                let error = StreamError::new(StreamCondition::ResourceConstraint, text);
                self.out.ends.push((component.conn, error));
            }
        }
    }

    /// Ends the streams of components that the conf file does not name any more (RFC 6120 §4.9.3.5),
    /// or for which it has another secret than they have proven themselves by (§4.9.3.12).
    pub fn end_revoked_components(&mut self) {
        for (_, component) in self.components.connected.iter() {
            let error = match self.settings.components.get(&component.domain) {
                Some(settings) if settings.secret == component.secret => continue,
                Some(_) => other_secret(),
                None => StreamError::new(
                    StreamCondition::HostGone,
                    "This server does not serve the component any more",
                ),
            };
            self.out.ends.push((component.conn, error));
        }
    }
}

impl Components {
    /// The component of a domain, if it is connected.
    fn find(&self, domain: &str) -> Option<Key> {
        self.by_domain.get(domain).copied()
    }

    /// A component that is connected.
    pub fn get(&self, key: Key) -> Option<&Component> {
        self.connected.get(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Component)> {
        self.connected.iter()
    }

    /// What is unsettled of a component's stream, and its connection.
    pub(super) fn source_mut(&mut self, key: Key) -> Option<(&mut Unsettled, Key)> {
        let component = self.connected.get_mut(key)?;
        Some((&mut component.unsettled, component.conn))
    }
}

impl Component {
    /// How many stanzas wait for it to read.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }
}

fn other_secret() -> StreamError {
    StreamError::new(
        StreamCondition::NotAuthorized,
        "The secret of this component has been changed",
    )
}

/// Nobody knows when it is there again.
fn not_connected() -> StanzaError {
    StanzaError::new(Condition::RemoteServerTimeout)
        .text("This service is not connected to the server now")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{ComponentSettings, DomainSettings};
    use crate::jid::Jid;
    use crate::router::testing::{Site, stanza};
    use crate::stanza::{Kind, Type};

    const IRC: &str = "irc.example.org";

    /// A router with a component that is connected and has read nothing for long.
    fn site() -> (Site, Key, Key) {
        let mut site = Site::new(&[]);
        let name = Domain::parse(IRC).unwrap();
        let component = ComponentSettings {
            domain: Arc::new(DomainSettings::new(name.clone())),
            secret: Secret::new("sesame"),
            stanza_bytes_max: 100_000,
        };
        let settings = Arc::make_mut(&mut site.router.settings);
        settings
            .components
            .insert(name.clone(), Arc::new(component));
        let conn = Slots::default().insert(());
        site.router.out.outputs.open(conn, Vec::new());
        let secret = Secret::new("sesame");
        let key = site.router.component_opened(conn, &name, &secret).unwrap();
        let output = site.router.out.outputs.append(conn).unwrap();
        output.resize(OUTPUT_HOLD_BYTES + 1, b' ');
        (site, key, conn)
    }

    fn send(site: &mut Site, bytes: usize) {
        let mut message = stanza(Kind::Message, Type::Chat, Some("a@irc.example.org"));
        message.from = Jid::parse("juliet@example.org/balcony").ok();
        message.id = Some("x".repeat(bytes).into());
        site.router.route(Routed::new(message, Ticket::none()));
        site.router.work();
    }

    fn waiting(site: &Site, key: Key) -> (usize, usize) {
        let component = site.router.components.get(key).unwrap();
        (component.queue.len(), component.queue_bytes)
    }

    #[test]
    fn what_waits_for_one_that_does_not_read_is_bounded_in_count_and_bytes() {
        let (mut site, key, _) = site();
        for _ in 0..COMPONENT_QUEUE_STANZAS_MAX + 100 {
            send(&mut site, 10);
        }
        assert_eq!(waiting(&site, key).0, COMPONENT_QUEUE_STANZAS_MAX);
        let (mut site, key, _) = self::site();
        for _ in 0..COMPONENT_QUEUE_BYTES_MAX / 50_000 + 10 {
            send(&mut site, 50_000);
        }
        let (count, bytes) = waiting(&site, key);
        assert!(bytes <= COMPONENT_QUEUE_BYTES_MAX, "{bytes}");
        assert!(
            bytes > COMPONENT_QUEUE_BYTES_MAX - 60_000,
            "{count}: {bytes}"
        );
    }

    #[test]
    fn what_waits_goes_out_in_order_when_there_is_room_and_its_bytes_are_counted_back() {
        let (mut site, key, conn) = site();
        for bytes in 1..=3 {
            send(&mut site, bytes);
        }
        site.router.out.outputs.consume(conn, OUTPUT_HOLD_BYTES + 1);
        site.router.component_writable(key);
        assert_eq!(waiting(&site, key), (0, 0));
        assert_eq!(site.router.components_due(), None);
        let got = String::from_utf8(site.router.out.outputs.bytes(conn).to_vec()).unwrap();
        let places = ["id='x'", "id='xx'", "id='xxx'"].map(|id| got.find(id));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{got}"
        );
    }
}

//! Events for the stream machines, and what these ask for in return.

use super::{Outside, Shard};
use crate::config::ComponentSettings;
use crate::router;
use crate::router::feature::SessionEvent;
use crate::router::peers::PeerNews;
use crate::shard::Post;
use crate::shard::budget::Budget;
use crate::shard::connection::{Connection, Ending, Moving, Proven};
use crate::slots::Key;
use crate::storage::{self, ReadFn, logins};
use crate::stream::dialback::Pair;
use crate::stream::machine::Machine;
use crate::stream::s2s::{Ask, Asker};
use crate::stream::{Action, BindRequest, Context, Event};

/// Should the server crash now, it is known on whose account.
pub(super) fn handling(connection: &Connection, router: &router::Router) {
    let session = connection.stream.session();
    let session = session.and_then(|session| router.sessions.get(session));
    let sender = session.map_or("", |session| session.jid.bare_str());
    crate::log::panic::handling(connection.stream.origin().stream, sender);
}

impl Shard {
    /// Gives an event to a stream machine and carries out what it asks for.
    pub(super) fn event(&mut self, key: Key, event: Event, outside: &mut dyn Outside) {
        let mut actions = std::mem::take(&mut self.actions);
        let Some(connection) = self.connections.get_mut(key) else {
            self.actions = actions;
            return;
        };
        handling(connection, &self.router);
        if let (Machine::Server(stream), Event::Close | Event::End(_) | Event::Reloaded { .. }) =
            (&connection.stream, &event)
            && let Some(source) = stream.source()
            && !stream.is_ending()
        {
            // XEP-0198 §4: before the stream is closed, the peer is told what it need not send again.
            // A reload may close it.
            self.router.peer_news(source, PeerNews::Close);
        }
        let mut random = |buffer: &mut [u8]| outside.random(buffer);
        let mut context = Context {
            now: self.router.now,
            settings: &self.generation.settings,
            pipeline: &self.pipeline,
            certificates: self.generation.certificates.as_ref(),
            throttle: &self.throttle,
            secret: &self.secret,
            random: &mut random,
            placement: &self.router.placement,
            shard: self.router.shard,
            unread: connection.input.unread(),
            out: &mut self.scratch,
            actions: &mut actions,
        };
        connection.stream.on(event, &mut context);
        self.flush_scratch(key);
        for action in actions.drain(..) {
            self.act(key, action, outside);
        }
        self.actions = actions;
        self.rearm(key);
    }

    pub(super) fn flush_scratch(&mut self, key: Key) {
        if self.scratch.is_empty() {
            return;
        }
        if let Some(output) = self.router.out.outputs.append(key) {
            output.extend_from_slice(&self.scratch);
        }
        self.scratch.clear();
    }

    pub(super) fn act(&mut self, key: Key, action: Action, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            self.act_without_connection(key, action, outside);
            return;
        };
        match action {
            Action::StartTls(domain) => {
                connection.ending = Ending::StartTls(domain);
                self.router.out.outputs.append(key);
            }
            Action::Pause(until) => self.pause(key, until),
            Action::Restart => connection.input.restart(),
            Action::AcceptStanzas(bytes) => connection.input.accept(bytes),
            Action::LoadCredentials(jid) => {
                let read: ReadFn =
                    Box::new(move |db| Ok(router::feature::value(logins::login(db, &jid)?)));
                let waiter = router::Waiter::Connection(key);
                self.router.read(storage::Lane::Quick, read, waiter);
            }
            Action::Work(job) => {
                if !outside.work(key, job) {
                    self.event(key, Event::Worked(None), outside);
                }
            }
            Action::Admit(jid, proof) => {
                let owner = self.router.placement.shard_of(jid.as_str());
                if owner == self.router.shard {
                    self.router.admit(key, &jid, proof);
                } else {
                    self.move_to(owner, key, Proven::Account(jid, proof), outside);
                }
            }
            Action::Bind(request) => {
                let BindRequest {
                    jid,
                    resource,
                    proof,
                    origin,
                } = *request;
                // What it has sent to log in is no part of what it may send from now on.
                connection.budget = Budget::default();
                self.proven(key);
                let result = self.router.bind(key, &jid, &resource, proof, origin);
                self.event(key, Event::Bound(result), outside);
            }
            Action::Route(stanza, size) => {
                let Some(session) = connection.stream.session() else {
                    return;
                };
                if let Err(error) = self.router.outbound(session, *stanza, size) {
                    self.event(key, Event::End(error), outside);
                }
            }
            Action::PeerProven(remote) => {
                connection.budget = Budget::default();
                // One that we have dialled stands by its link.
                let stays = connection.stream.is_dialled();
                self.proven(key);
                let owner = self.router.placement.shard_of(remote.as_str());
                if owner == self.router.shard || stays {
                    self.place_peer(key, outside);
                } else {
                    self.move_to(owner, key, Proven::Peer, outside);
                }
            }
            Action::FromPeer(stanza, size) => {
                if let Machine::Server(stream) = &connection.stream
                    && let Some(source) = stream.source()
                {
                    self.router.from_peer(source, *stanza, size);
                }
            }
            Action::AdmitComponent(component) => {
                let domain = component.domain.name.as_str();
                let owner = self.router.placement.shard_of(domain);
                if owner == self.router.shard {
                    self.admit_component(key, &component, outside);
                } else {
                    self.move_to(owner, key, Proven::Component(component), outside);
                }
            }
            Action::FromComponent(stanza, size) => {
                if let Some(component) = connection.stream.component() {
                    self.router.from_component(component, *stanza, size);
                }
            }
            Action::Verify(asked) => {
                let (pair, id, key_to_verify) = *asked;
                let ask = Ask {
                    asker: Asker {
                        shard: self.router.shard,
                        conn: key,
                        pair,
                    },
                    id,
                    key: key_to_verify,
                };
                self.verify(ask, outside);
            }
            Action::LookUp(remote) => self.look_up(key, remote, outside),
            Action::LinkReady(link) => self.link_is_ready(link, key),
            Action::PairOpen(pair) => self.router.pair_open(pair.local, pair.remote, key),
            Action::LinkOpen(link) => self.ask_waiting(link, key, outside),
            Action::LinkFailed(link, failure) => {
                let address = connection.stream.origin().address;
                self.stream_failed(link, address, failure, outside);
            }
            Action::Shutdown => {
                if connection.ending == Ending::No {
                    connection.ending = Ending::Shutdown;
                }
                self.router.out.outputs.append(key);
                // Reading goes on, for the peer's end.
                self.list(key);
            }
            Action::Drop => {
                connection.ending = Ending::Drop;
                self.router.out.outputs.append(key);
            }
            other => self.act_without_connection(key, other, outside),
        }
    }

    /// What is to be done also when the connection has gone.
    pub(super) fn act_without_connection(
        &mut self,
        key: Key,
        action: Action,
        outside: &mut dyn Outside,
    ) {
        match action {
            Action::Closed(session) => {
                self.router.session_event(SessionEvent::Closed, session);
            }
            Action::Unbind(session) => self.router.session_closed(session),
            Action::Leave(jid) => self.router.admission_ended(key, &jid),
            Action::Upgrade {
                jid,
                generation,
                credentials,
            } => self
                .router
                .upgrade_credentials(jid, generation, credentials),
            Action::ToPeer(stanza) => self.router.send_to_peer(*stanza),
            Action::PeerKey(pair, key) => {
                self.router.peer_key_seen(pair.local, pair.remote, key);
            }
            Action::Tell(told) => {
                let (asker, checked) = *told;
                self.tell(asker, checked, outside);
            }
            Action::ComponentClosed(component) => self.router.component_closed(component),
            Action::PeerNews(source, news) => self.router.peer_news(source, news),
            Action::LinkNews(link, news) => self.router.link_news(link, key, news),
            Action::PeerClosed(source) => self.router.peer_closed(source),
            Action::PeerObjected(objection) => self.router.peer_objected(key, &objection),
            Action::LinkEnded(link) => self.router.link_ended(link, key),
            Action::PairClosed(pair) => self.router.pair_closed(pair.local, pair.remote, key),
            Action::Attempted(attempted) => self.attempted(*attempted),
            // There is nobody left whom these are about.
            Action::StartTls(_)
            | Action::Pause(_)
            | Action::Restart
            | Action::AcceptStanzas(_)
            | Action::LoadCredentials(_)
            | Action::Work(_)
            | Action::Admit(..)
            | Action::Bind(_)
            | Action::Route(..)
            | Action::PeerProven(_)
            | Action::AdmitComponent(_)
            | Action::FromComponent(..)
            | Action::FromPeer(..)
            | Action::Verify(_)
            | Action::LookUp(_)
            | Action::LinkOpen(_)
            | Action::LinkReady(_)
            | Action::LinkFailed(..)
            | Action::PairOpen(_)
            | Action::Shutdown
            | Action::Drop => {}
        }
    }

    /// A connection has proven who it is: from now on it takes no part of what its address may have of
    /// those that have not.
    fn proven(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.stream.is_dialled()
            && std::mem::take(&mut connection.is_newcomer)
        {
            self.throttle.proven(connection.stream.origin().ip());
        }
    }

    /// Lets a component in, on the shard of its domain.
    pub(super) fn admit_component(
        &mut self,
        key: Key,
        component: &ComponentSettings,
        outside: &mut dyn Outside,
    ) {
        let ComponentSettings { domain, secret, .. } = component;
        let admitted = self.router.component_opened(key, &domain.name, secret);
        if admitted.is_ok() {
            self.proven(key);
        }
        self.event(key, Event::ComponentAdmitted(admitted), outside);
        self.list(key);
    }

    /// Makes a place for what another server sends, on the shard where its stream stays.
    pub(super) fn place_peer(&mut self, key: Key, outside: &mut dyn Outside) {
        let source = self.router.peer_opened(key);
        self.event(key, Event::Placed(source), outside);
        let Some(Machine::Server(stream)) = self.connections.get(key).map(|it| &it.stream) else {
            return;
        };
        let pairs: Vec<Pair> = stream.proofs().map(|proof| proof.pair.clone()).collect();
        for Pair { local, remote } in pairs {
            self.router.peer_reached_us(local, remote);
        }
    }

    /// Takes the connection to the shard of the account or the domain that it has proven
    /// (`Who owns what` in lib.rs).
    pub(super) fn move_to(
        &mut self,
        owner: u32,
        key: Key,
        proven: Proven,
        outside: &mut dyn Outside,
    ) {
        let Some(connection) = self.connections.remove(key) else {
            return;
        };
        let output = self.router.out.outputs.close(key);
        outside.deregister(connection.transport.as_ref());
        if let Some(posts) = self.posts.get_mut(owner as usize) {
            posts.push(Post::Moved(Box::new(Moving {
                connection,
                output,
                proven,
            })));
        }
    }

    /// Forgets a connection, whose session ends with it.
    pub(super) fn remove(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(mut connection) = self.connections.remove(key) else {
            return;
        };
        self.router.out.outputs.close(key);
        outside.deregister(connection.transport.as_ref());
        if !connection.stream.is_dialled() {
            let address = connection.stream.origin().ip();
            self.throttle.disconnect(address, connection.is_newcomer);
        }
        let mut actions = Vec::new();
        connection
            .stream
            .hung_up(connection.failure.as_deref(), &mut actions);
        let address = connection.stream.origin().address;
        for action in actions {
            match action {
                Action::LinkFailed(link, failure) => {
                    self.stream_failed(link, address, failure, outside);
                }
                other => self.act_without_connection(key, other, outside),
            }
        }
    }
}

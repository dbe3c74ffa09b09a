//! The sockets between clients and shards, and the world as a shard's turn sees it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use stanzad::clock::Mono;
use stanzad::dns::{Question, Refused};
use stanzad::net::transport::Transport;
use stanzad::shard::turn::{Outside, Ready};
use stanzad::shard::{Accepted, Peer, Post};
use stanzad::slots::Key;
use stanzad::storage::{Batch, Lane, ReadFn, Value};
use stanzad::stream::Origin;

use crate::client::Reading;
use crate::network::{SimulatedTransport, Wire};
use crate::world::{Event, Sender, World};

/// Whose end of a connection it is that a server has the other end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    Client(usize),
    /// Its own end of a connection between servers.
    Peer(usize),
}

impl World {
    /// An edge of a connection, for the shard that watches it.
    pub fn edge(&mut self, socket: Socket, is_closed: bool) {
        let registered = match socket {
            Socket::Client(client) => self.clients[client].registered,
            Socket::Peer(end) => self.ends[end].registered,
        };
        let Some((shard, index)) = registered else {
            return;
        };
        // As epoll has it, one event tells of all that is new.
        let ready = &mut self.ready[shard as usize];
        match ready.iter_mut().find(|ready| ready.index == index) {
            Some(ready) => ready.is_closed |= is_closed,
            None => ready.push(Ready { index, is_closed }),
        }
        let pause = self.chance.within(0..=2);
        self.turn_within(shard, pause);
    }

    pub fn arrive(&mut self, client: usize, bytes: &[u8]) {
        let wire = self.clients[client].wire.clone();
        wire.ends().arrived.extend(bytes);
        self.edge(Socket::Client(client), false);
    }

    pub fn hang(&mut self, client: usize, is_reset: bool) {
        {
            let wire = self.clients[client].wire.clone();
            let mut ends = wire.ends();
            ends.is_finished = true;
            ends.is_reset = is_reset;
        }
        self.edge(Socket::Client(client), true);
    }

    /// A client reads some of what the server has sent.
    pub fn drain(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.is_drain_due = false;
        let is_thirsty = std::mem::take(&mut client.is_thirsty);
        let most = match client.reading {
            _ if is_thirsty => usize::MAX,
            Reading::Eager if self.chance.one_in(2) => usize::MAX,
            Reading::Eager => 4_096,
            Reading::Slow => 300,
            Reading::Never => return,
        };
        let wire = client.wire.clone();
        let (bytes, has_room, is_over) = {
            let mut ends = wire.ends();
            let most = ends.sent.len().min(most) as u64;
            let count = match most {
                0 => 0,
                most if !is_thirsty && self.chance.one_in(3) => self.chance.within(1..=most),
                most => most,
            };
            let bytes: Vec<u8> = ends.sent.drain(..count as usize).collect();
            let has_room = ends.takes_room();
            (bytes, has_room, ends.is_over())
        };
        if has_room {
            self.edge(Socket::Client(index), false);
        }
        if !bytes.is_empty() {
            self.hash(&bytes);
            self.received(index, &bytes);
        }
        if is_over {
            self.saw_end(index);
        } else {
            self.look_at_wire(index);
        }
    }

    pub fn look_at_wires(&mut self) {
        for index in self.live.clone() {
            self.look_at_wire(index);
        }
    }

    /// Has a client read if there is something for it, and notes what the server has done to it.
    pub fn look_at_wire(&mut self, index: usize) {
        let client = &self.clients[index];
        let (has_news, is_success, misuse) = {
            let ends = client.wire.ends();
            (ends.has_news(), ends.is_success_written, ends.misuse)
        };
        if let Some(misuse) = misuse {
            self.violated(format!("client {index}: {misuse}"));
        }
        if is_success && self.clients[index].admitted_turn.is_none() {
            let account = self.clients[index].account;
            self.clients[index].admitted_turn = Some(self.turns);
            self.clients[index].life = self.accounts.all[account].id;
            self.check_admission(index);
        }
        let client = &mut self.clients[index];
        if has_news && !client.is_drain_due && client.reading != Reading::Never {
            client.is_drain_due = true;
            let pause = match client.reading {
                Reading::Slow => self.chance.within(5..=80),
                _ => self.chance.within(0..=6),
            };
            self.after(pause, Event::Drain(index));
        }
    }

    /// A new connection is dealt to a shard.
    pub fn accept(&mut self, client: usize, wire: &Wire) {
        let slot = self.clients[client].slot as u8;
        let address = SocketAddr::from((
            Ipv4Addr::new(10, 0, 0, slot + 1),
            1024 + u16::try_from(client).unwrap(),
        ));
        self.by_address.insert(address, Socket::Client(client));
        self.clients[client].address = address;
        let now = Mono::from_millis(self.now);
        let server = self.server_of_account(self.clients[client].account);
        let server = &self.servers[server];
        assert!(server.throttle.connect(address.ip(), now, u64::MAX).is_ok());
        let (base, shards) = (server.base, server.shards as usize);
        let accepted = Accepted {
            transport: Box::new(SimulatedTransport::new(wire.clone(), address)),
            origin: Origin {
                stream: client as u64,
                address,
                accepted: now,
            },
            peer: Peer::Client,
        };
        let shard = base + self.chance.index(shards) as u32;
        self.deliver(
            Sender::Listener,
            shard,
            vec![Post::Accepted(Box::new(accepted))],
        );
    }
}

/// The world as one shard's turn sees it.
pub struct View<'a> {
    pub world: &'a mut World,
    /// The shard, among those of all servers.
    pub shard: u32,
    pub server: usize,
}

impl View<'_> {
    fn socket(&mut self, transport: &dyn Transport) -> Socket {
        self.world.take_dials();
        self.world.by_address[&transport.peer()]
    }
}

impl Outside for View<'_> {
    fn register(&mut self, key: Key, transport: &dyn Transport) -> io::Result<()> {
        let socket = self.socket(transport);
        let place = (self.shard, key.index());
        self.world.registered.insert(place, socket);
        let wire = match socket {
            Socket::Client(client) => {
                let client = &mut self.world.clients[client];
                client.registered = Some(place);
                client.released = None;
                &client.wire
            }
            Socket::Peer(end) => {
                let end = &mut self.world.ends[end];
                end.registered = Some(place);
                &end.wire
            }
        };
        // What the socket holds is told once; what TLS holds is not.
        let (has_bytes, is_finished) = {
            let ends = wire.ends();
            (!ends.arrived.is_empty(), ends.is_finished)
        };
        if has_bytes || is_finished {
            self.world.edge(socket, is_finished);
        }
        Ok(())
    }

    fn deregister(&mut self, transport: &dyn Transport) {
        let now = self.world.now;
        let place = match self.socket(transport) {
            Socket::Client(client) => {
                let client = &mut self.world.clients[client];
                client.released = client.registered.map(|_| now).or(client.released);
                client.registered.take()
            }
            Socket::Peer(end) => self.world.ends[end].registered.take(),
        };
        if let Some(place) = place {
            self.world.registered.remove(&place);
        }
    }

    fn post(&mut self, shard: u32, posts: Vec<Post>) {
        if posts.iter().any(|post| matches!(post, Post::Moved(_))) {
            self.world.count("moves");
        }
        let posts = self.world.carried(self.server, posts);
        let shard = self.world.servers[self.server].base + shard;
        self.world.deliver(Sender::Shard(self.shard), shard, posts);
    }

    fn write(&mut self, batch: Batch) {
        let world = &mut *self.world;
        let batch = world.written(self.server, batch);
        let server = &mut world.servers[self.server];
        let shard = self.shard - server.base;
        server.batches.push((shard as usize, batch));
        if !server.is_commit_due {
            server.is_commit_due = true;
            let pause = match world.chance.one_in(12) {
                true => world.chance.within(100..=800),
                false => world.chance.within(1..=25),
            };
            world.after(pause, Event::Commit(self.server));
        }
    }

    fn read(&mut self, id: u64, _lane: Lane, read: ReadFn) {
        let pause = self.world.chance.delay();
        self.world.after(pause, Event::Read(self.shard, id, read));
    }

    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool {
        let world = &mut *self.world;
        if world.chance.one_in(50) {
            let socket = world.registered.get(&(self.shard, conn.index()));
            if let Some(Socket::Client(client)) = socket {
                world.clients[*client].had_trouble = true;
            }
            return false;
        }
        let pause = world.chance.within(1..=120);
        world.after(pause, Event::Work(self.shard, conn, job));
        true
    }

    fn resolve(&mut self, link: Key, question: Question) -> Result<(), Refused> {
        self.world.resolve(self.shard, link, question)
    }

    fn random(&mut self, buffer: &mut [u8]) {
        self.world.chance.fill(buffer);
    }

    fn is_gate_shut(&self) -> bool {
        self.world.servers[self.server].is_gate_shut
    }
}

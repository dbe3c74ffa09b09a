//! Stand-ins for sockets, store and workers, and a server of several shards that turns on one thread.

pub mod servers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::{Mono, Now, Wall};
use crate::config::{Auth, C2s, DomainSettings, Limits, Settings};
use crate::dns;
use crate::features::FEATURES;
use crate::jid::{BareJid, Domain};
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::net::transport::{Buffers, Read, TlsFacts, Transport};
use crate::router::pipeline::Pipeline;
use crate::router::placement::Placement;
use crate::sasl::{Credentials, Hash, Verifier};
use crate::shard::turn::{Due, Outside, Ready, Shard};
use crate::shard::{Accepted, Dialler, Generation, Peer, Post};
use crate::slots::Key;
use crate::storage::{Answer, Batch, Lane, ReadFn, Value, WriterCore, accounts};
use crate::stream::peer_facts::{PeerFacts, PeerQuestion};
use crate::stream::{Certificates, Origin};

/// Both ends of a simulated connection.
#[derive(Default)]
pub struct Wire {
    /// What the peer has sent and nobody has read.
    pub sent: VecDeque<u8>,
    /// Whether the peer has ended its direction.
    pub is_ended: bool,
    /// What the server has written.
    pub got: Vec<u8>,
    /// Bytes that the socket takes until the peer reads; none is no bound.
    pub room: Option<usize>,
    /// Whether the server has ended its direction.
    pub is_shut: bool,
    /// Whether it has written something behind that.
    pub is_overrun: bool,
    /// Whether the server has let the connection go.
    pub is_dropped: bool,
    /// The domain that `start_tls` was given.
    pub tls: Option<String>,
    /// Bytes that the peer has sent and that carry no clear text.
    pub hidden: usize,
    /// What the next read yields, once TLS has begun.
    pub facts: Option<TlsFacts>,
    /// Whether a TLS handshake is to come, or runs: what is written comes to nothing.
    pub is_securing: bool,
}

/// The server's end of a [`Wire`].
pub struct Socket(pub Arc<Mutex<Wire>>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.lock().unwrap().is_dropped = true;
    }
}

impl Transport for Socket {
    fn read(&mut self, buffers: &mut Buffers) -> io::Result<Read> {
        let mut wire = self.0.lock().unwrap();
        if wire.tls.is_some()
            && let Some(facts) = wire.facts.take()
        {
            return Ok(Read::Established(Box::new(facts)));
        }
        buffers.received = wire.hidden.min(buffers.plain.len());
        if buffers.received > 0 {
            wire.hidden -= buffers.received;
            return Ok(Read::Nothing);
        }
        if wire.sent.is_empty() {
            return Ok(if wire.is_ended {
                Read::End
            } else {
                Read::Blocked
            });
        }
        let count = wire.sent.len().min(buffers.plain.len());
        for (to, from) in buffers.plain.iter_mut().zip(wire.sent.drain(..count)) {
            *to = from;
        }
        Ok(Read::Data(count))
    }

    fn readable(&mut self, _closed: bool) {}

    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut wire = self.0.lock().unwrap();
        if wire.is_shut {
            wire.is_overrun = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.is_securing {
            return Ok(0);
        }
        let count = plain.len().min(wire.room.unwrap_or(usize::MAX));
        wire.room = wire.room.map(|room| room - count);
        wire.got.extend_from_slice(&plain[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn start_tls(&mut self, domain: Option<&str>) -> io::Result<()> {
        self.0.lock().unwrap().tls = domain.map(str::to_owned);
        Ok(())
    }

    fn is_securing(&self) -> bool {
        self.0.lock().unwrap().is_securing
    }

    fn shutdown(&mut self) {
        self.0.lock().unwrap().is_shut = true;
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn peer(&self) -> SocketAddr {
        "192.0.2.1:5000".parse().unwrap()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

/// The client's end of a [`Wire`].
pub struct Client {
    /// The connection.
    pub wire: Arc<Mutex<Wire>>,
}

impl Client {
    /// What the server has written since the last call.
    pub fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.wire.lock().unwrap().got)).unwrap()
    }

    /// Whether the server has let the connection go.
    pub fn is_dropped(&self) -> bool {
        self.wire.lock().unwrap().is_dropped
    }
}

/// What a shard's turn sees.
pub struct World {
    /// Places of connections that there are, or were.
    places: BTreeSet<usize>,
    sent: Vec<(u32, Post)>,
    writes: Vec<Batch>,
    reads: Vec<(u64, ReadFn)>,
    /// Where other servers are, that is asked for.
    questions: Vec<(Key, dns::Question)>,
    /// Jobs of the workers that are still to be done.
    pub jobs: Vec<(Key, Box<dyn FnOnce() -> Value + Send>)>,
    /// Whether the workers refuse more.
    pub is_busy: bool,
    /// Whether some receiver is above its mark.
    pub is_gate_shut: bool,
    drawn: u64,
}

impl Outside for World {
    fn register(&mut self, key: Key, _transport: &dyn Transport) -> io::Result<()> {
        self.places.insert(key.index());
        Ok(())
    }
    fn deregister(&mut self, _transport: &dyn Transport) {}
    fn post(&mut self, shard: u32, posts: Vec<Post>) {
        self.sent
            .extend(posts.into_iter().map(|post| (shard, post)));
    }
    fn write(&mut self, batch: Batch) {
        self.writes.push(batch);
    }
    fn read(&mut self, id: u64, _lane: Lane, read: ReadFn) {
        self.reads.push((id, read));
    }
    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool {
        if !self.is_busy {
            self.jobs.push((conn, job));
        }
        !self.is_busy
    }
    fn resolve(&mut self, link: Key, question: dns::Question) -> Result<(), dns::Refused> {
        self.questions.push((link, question));
        Ok(())
    }
    fn random(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.drawn += 1;
            *byte = (self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
    fn is_gate_shut(&self) -> bool {
        self.is_gate_shut
    }
}

/// A server of several shards.
pub struct Server {
    generation: Arc<Generation>,
    pipeline: Arc<Pipeline>,
    /// Which shard owns what.
    pub placement: Placement,
    /// Of all accounts.
    password: &'static str,
    /// The shards.
    pub shards: Vec<Shard>,
    /// What each of them sees.
    pub worlds: Vec<World>,
    mail: Vec<Vec<Post>>,
    /// The time.
    pub now: Mono,
    /// The store.
    pub store: WriterCore,
    /// The limits per address.
    pub throttle: Arc<Throttle>,
    /// Whether the store does not answer.
    pub is_store_stuck: bool,
    /// Whether the resolver does not answer.
    pub is_resolver_stuck: bool,
    has_written: bool,
    next: u64,
}

/// Each domain has a certificate; those of other servers are as [`servers::shown`] says.
pub struct AnyCertificate;

/// Nobody is reached.
pub struct NoNetwork;

impl Dialler for NoNetwork {
    fn dial(
        &self,
        _: SocketAddr,
        _: &str,
        _: &str,
        _: bool,
    ) -> io::Result<(Box<dyn Transport>, u64)> {
        Err(io::ErrorKind::NetworkUnreachable.into())
    }
}

impl Certificates for AnyCertificate {
    fn has_certificate(&self, _: &str) -> bool {
        true
    }
    fn client_identities(&self, _: &str, _: &[Vec<u8>]) -> Vec<String> {
        Vec::new()
    }
    fn peer(&self, question: &PeerQuestion<'_>) -> PeerFacts {
        PeerFacts {
            shown: servers::shown(question.chain.der(), question.remote),
            ..PeerFacts::worthless(question.dns)
        }
    }
}

/// The settings of a server of `example.org` that takes PLAIN and ANONYMOUS in the clear, as fast as
/// they come.
pub fn open_settings() -> Settings {
    let name = Domain::parse("example.org").unwrap();
    let domain = DomainSettings {
        c2s: C2s {
            require_encryption: false,
            allow_unencrypted_plain: true,
            ..C2s::default()
        },
        auth: Auth {
            anonymous: true,
            iterations: ITERATIONS,
            ..Auth::default()
        },
        ..DomainSettings::new(name.clone())
    };
    Settings {
        domains: BTreeMap::from([(name, Arc::new(domain))]),
        limits: Limits {
            bytes_per_second_max: 0,
            stanzas_per_second_max: 0,
            ..Limits::default()
        },
        ..Settings::default()
    }
}

/// Rounds of hashing, so few that many logins fit into a second.
const ITERATIONS: u32 = 1;

/// The credentials of a password.
pub fn credentials(password: &str) -> Credentials {
    let hashes = Auth::default().hashes.into_iter();
    let verifier = |hash: Hash| Verifier::derive(password, hash, vec![7; 16], ITERATIONS);
    Credentials {
        scram: hashes.map(|hash| verifier(hash).unwrap()).collect(),
        bcrypt: None,
    }
}

fn throttle() -> Arc<Throttle> {
    Arc::new(Throttle::new(ThrottleLimits {
        connections_per_address_max: 1000,
        login_failures_per_address_max: 1000,
        login_failures_per_account_max: 1000,
        ..ThrottleLimits::default()
    }))
}

/// A store with the accounts juliet and romeo.
fn store(password: &str) -> WriterCore {
    let mut store = WriterCore::memory(&[1; 32]).unwrap();
    for name in ["juliet", "romeo"] {
        let jid = BareJid::parse(&format!("{name}@example.org")).unwrap();
        let credentials = credentials(password);
        store
            .change(move |db| accounts::create(db, &jid, &credentials, Wall::default()))
            .unwrap();
    }
    store
}

impl Server {
    /// A server of `count` shards with the accounts juliet and romeo, whose password is `secret`.
    pub fn new(count: u32, settings: Settings) -> Server {
        Server::in_network(count, settings, Arc::new(NoNetwork))
    }

    /// The same, where other servers can be dialled.
    pub fn in_network(count: u32, settings: Settings, dialler: Arc<dyn Dialler>) -> Server {
        Server::of(Placement::new(count), settings, dialler, "secret")
    }

    /// The same, with all that is chosen elsewhere by chance, and another password.
    pub fn of(
        placement: Placement,
        settings: Settings,
        dialler: Arc<dyn Dialler>,
        password: &'static str,
    ) -> Server {
        let mut server = Server {
            generation: Arc::new(Generation {
                settings: Arc::new(settings),
                certificates: Arc::new(AnyCertificate),
                dialler,
            }),
            pipeline: Arc::new(Pipeline::new(FEATURES)),
            placement,
            password,
            shards: Vec::new(),
            worlds: Vec::new(),
            mail: Vec::new(),
            now: Mono::default(),
            store: store(password),
            throttle: throttle(),
            is_store_stuck: false,
            is_resolver_stuck: false,
            has_written: false,
            next: 0,
        };
        server.renew();
        server
    }

    /// All is as when it was new. Makes another store only if something was written to this one: that
    /// takes most of the time.
    pub fn renew(&mut self) {
        self.throttle = throttle();
        let shard = |index| {
            Shard::new(
                index,
                self.placement.clone(),
                Arc::clone(&self.generation),
                Arc::clone(&self.pipeline),
                Arc::clone(&self.throttle),
                [1; 32],
            )
        };
        let world = |index| World {
            places: BTreeSet::new(),
            sent: Vec::new(),
            writes: Vec::new(),
            reads: Vec::new(),
            questions: Vec::new(),
            jobs: Vec::new(),
            is_busy: false,
            is_gate_shut: false,
            drawn: u64::from(index) << 32,
        };
        let count = self.placement.shards();
        self.shards = (0..count).map(shard).collect();
        self.worlds = (0..count).map(world).collect();
        self.mail = (0..count).map(|_| Vec::new()).collect();
        self.now = Mono::from_millis(1000);
        self.is_store_stuck = false;
        self.is_resolver_stuck = false;
        self.next = 0;
        if std::mem::take(&mut self.has_written) {
            self.store = store(self.password);
        }
    }

    /// Accepts a client's connection on a shard.
    pub fn connect(&mut self, shard: usize) -> Client {
        self.connect_from(shard, Peer::Client)
    }

    /// Accepts a connection on a shard.
    pub fn connect_from(&mut self, shard: usize, peer: Peer) -> Client {
        let wire = Arc::new(Mutex::new(Wire::default()));
        let address: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        assert!(
            self.throttle
                .connect(address.ip(), self.now, u64::MAX)
                .is_ok()
        );
        self.next += 1;
        let origin = Origin {
            stream: self.next,
            address,
            accepted: self.now,
        };
        self.mail[shard].push(Post::Accepted(Box::new(Accepted {
            transport: Box::new(Socket(Arc::clone(&wire))),
            origin,
            peer,
        })));
        self.run();
        Client { wire }
    }

    /// Sends bytes, lets the server work until nothing is left, and yields what it has written.
    pub fn say(&mut self, client: &Client, text: &str) -> String {
        self.say_bytes(client, text.as_bytes())
    }

    /// The same, whatever the bytes are.
    pub fn say_bytes(&mut self, client: &Client, bytes: &[u8]) -> String {
        client.wire.lock().unwrap().sent.extend(bytes);
        self.news();
        self.run();
        client.take()
    }

    /// Tells every shard of news of every socket, some of which may be old.
    pub fn news(&mut self) {
        for shard in 0..self.shards.len() {
            for index in self.worlds[shard].places.clone() {
                self.turn(
                    shard,
                    &[Ready {
                        index,
                        is_closed: false,
                    }],
                );
            }
        }
    }

    /// Lets time pass until there is no connection, or nothing that is due makes that so.
    pub fn wait_for_ends(&mut self) {
        for _ in 0..100 {
            self.news();
            self.run();
            let mut next: Option<Mono> = None;
            for shard in 0..self.shards.len() {
                if let Due::At(due) = self.turn(shard, &[]) {
                    next = Some(next.map_or(due, |next| next.min(due)));
                }
            }
            let are_gone = self.shards.iter().all(|shard| shard.connections() == 0);
            match next {
                Some(next) if !are_gone => self.now = self.now.max(next),
                _ => return,
            }
        }
    }

    /// A post for a shard.
    pub fn post(&mut self, shard: usize, post: Post) {
        self.mail[shard].push(post);
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.run();
    }

    /// One turn of a shard.
    pub fn turn(&mut self, shard: usize, ready: &[Ready]) -> Due {
        let now = Now {
            mono: self.now,
            wall: Wall::default(),
        };
        let mut posts = std::mem::take(&mut self.mail[shard]);
        let due = self.shards[shard].turn(now, &mut posts, ready, &mut self.worlds[shard]);
        for (to, post) in std::mem::take(&mut self.worlds[shard].sent) {
            self.mail[to as usize].push(post);
        }
        due
    }

    /// Turns until no shard has anything to do.
    ///
    /// # Panics
    /// If that does not come to an end.
    pub fn run(&mut self) {
        for _ in 0..1000 {
            let mut is_quiet = true;
            for shard in 0..self.shards.len() {
                let due = self.turn(shard, &[]);
                let is_due = match due {
                    Due::Now => true,
                    Due::At(at) => at <= self.now,
                    Due::Never => false,
                };
                is_quiet &= !is_due & !self.answer(shard);
            }
            if is_quiet && self.mail.iter().all(Vec::is_empty) {
                return;
            }
        }
        panic!("the shards never come to rest");
    }

    fn answer(&mut self, shard: usize) -> bool {
        let mut answered = !self.is_resolver_stuck && self.answer_questions(shard);
        let world = &mut self.worlds[shard];
        let jobs = std::mem::take(&mut world.jobs);
        answered |= !jobs.is_empty();
        for (key, job) in jobs {
            self.mail[shard].push(Post::Worked(key, job()));
        }
        if self.is_store_stuck {
            return answered;
        }
        let world = &mut self.worlds[shard];
        for (id, read) in std::mem::take(&mut world.reads) {
            answered = true;
            let result = self.store.read(read);
            self.mail[shard].push(Post::Store(Answer::Read { id, result }));
        }
        let world = &mut self.worlds[shard];
        for batch in std::mem::take(&mut world.writes) {
            answered = true;
            self.has_written = true;
            for (shard, answer) in self.store.commit(vec![(shard, batch)]) {
                self.mail[shard].push(Post::Store(answer));
            }
        }
        answered
    }

    /// Logs `name` in and binds `resource`.
    pub fn log_in(&mut self, shard: usize, name: &str, resource: &str) -> Client {
        let client = self.connect(shard);
        let features = self.say(&client, HEADER);
        assert!(
            features.contains("<mechanism>PLAIN</mechanism>"),
            "{features}"
        );
        let success = self.say(&client, &plain(name, self.password));
        assert!(success.contains("<success"), "{success}");
        let bound = self.say(
            &client,
            &format!(
                "{HEADER}<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>{resource}</resource></bind></iq>"
            ),
        );
        assert!(bound.contains(&format!("/{resource}</jid>")), "{bound}");
        client
    }
}

/// A client's stream header.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
     xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// A login by PLAIN.
pub fn plain(name: &str, password: &str) -> String {
    let message = format!("\0{name}\0{password}");
    format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}</auth>",
        crate::sasl::simple::encode(message.as_bytes())
    )
}

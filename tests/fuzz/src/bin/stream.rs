//! A client's bytes through the server's own turn, router, streams and SQL, without sockets:
//! what is written is well-formed, ends with the end of the stream, and lets nobody in.
//!
//! The first line of an input tells how the rest is cut; if it begins with `J`, juliet has logged
//! in and bound a resource before. No input knows her password.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use stanzad::clock::{Mono, Now, Wall};
use stanzad::config::{DomainSettings, Settings};
use stanzad::features::FEATURES;
use stanzad::jid::{BareJid, Domain};
use stanzad::net::throttle::{Throttle, ThrottleLimits};
use stanzad::net::transport::{Buffers, Read, TlsFacts, Transport};
use stanzad::router::pipeline::Pipeline;
use stanzad::router::placement::Placement;
use stanzad::sasl::simple;
use stanzad::sasl::{Credentials, Hash, Verifier};
use stanzad::shard::turn::{Due, Outside, Ready, Shard};
use stanzad::shard::{Accepted, Dialler, Generation, Peer, Post};
use stanzad::slots::Key;
use stanzad::storage::{Answer, Batch, Lane, ReadFn, Value, WriterCore, accounts};
use stanzad::stream::{Certificates, Origin};
use stanzad::xml::{Bounds, Parser};
use stanzad_fuzz::{pieces, run};

const PASSWORD: &str = "c93f0f9b1d5a4e7fa7e8d2b06c41";
const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.org' version='1.0' \
                      xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
/// Turns in which a server must come to rest, whatever was said to it.
const TURNS_MAX: usize = 10_000;
/// Deadlines that may pass before a connection that the client has ended is gone.
const DEADLINES_MAX: usize = 100;

fn main() {
    let mut server = Server::new();
    run(|input| {
        let (pieces, _) = pieces(input);
        let is_login = input.first() == Some(&b'J');
        server.begin();
        let mut seen = Vec::new();
        if is_login {
            seen = server.log_in();
        }
        for piece in pieces {
            server.say(piece);
        }
        server.hang_up();
        let wire = server.wire.lock().expect("one thread");
        seen.extend_from_slice(&wire.got);
        let said = std::str::from_utf8(&seen).expect("UTF-8 is written");
        let successes = said.matches("<success").count();
        assert_eq!(successes, usize::from(is_login), "somebody is let in");
        check_documents(said);
        drop(wire);
        server.end();
    });
}

/// Each stream is well-formed as far as it goes, and nothing follows its end.
fn check_documents(said: &str) {
    const END: &str = "</stream:stream>";
    if let Some(at) = said.find(END) {
        assert_eq!(
            &said[at + END.len()..],
            "",
            "something is written after the end"
        );
    }
    // What is written of a peer's has no processing instruction, so each of these begins a stream.
    for document in said.split("<?xml ").skip(1) {
        let mut parser = Parser::new(Bounds::client(16 << 20));
        parser.feed(b"<?xml ");
        parser.feed(document.as_bytes());
        loop {
            match parser.next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => panic!("{error} is written: {said}"),
            }
        }
        assert_eq!(parser.unread(), 0, "half an element is written: {said}");
    }
}

/// Both ends of the connection.
#[derive(Default)]
struct Wire {
    sent: VecDeque<u8>,
    is_ended: bool,
    got: Vec<u8>,
    is_shut: bool,
    is_dropped: bool,
    /// TLS was begun, and its end is to be told.
    is_handshaking: bool,
}

struct Socket(Arc<Mutex<Wire>>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.lock().expect("one thread").is_dropped = true;
    }
}

impl Transport for Socket {
    fn read(&mut self, buffers: &mut Buffers) -> io::Result<Read> {
        let mut wire = self.0.lock().expect("one thread");
        if std::mem::take(&mut wire.is_handshaking) {
            return Ok(Read::Established(Box::new(TlsFacts {
                version: "TLSv1.3",
                ..TlsFacts::default()
            })));
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
        let mut wire = self.0.lock().expect("one thread");
        assert!(
            !wire.is_shut,
            "something is written after the connection's end"
        );
        wire.got.extend_from_slice(plain);
        Ok(plain.len())
    }

    fn flush(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn start_tls(&mut self, _domain: Option<&str>) -> io::Result<()> {
        self.0.lock().expect("one thread").is_handshaking = true;
        Ok(())
    }

    fn shutdown(&mut self) {
        self.0.lock().expect("one thread").is_shut = true;
    }

    fn has_buffered(&self) -> bool {
        false
    }

    fn peer(&self) -> SocketAddr {
        address()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5000))
}

/// What the turn asks for, to be done after it.
#[derive(Default)]
struct Wishes {
    posts: Vec<Post>,
    writes: Vec<Batch>,
    reads: Vec<(u64, ReadFn)>,
    jobs: Vec<(Key, Box<dyn FnOnce() -> Value + Send>)>,
    drawn: u64,
}

impl Outside for Wishes {
    fn register(&mut self, _: Key, _: &dyn Transport) -> io::Result<()> {
        Ok(())
    }
    fn deregister(&mut self, _: &dyn Transport) {}
    fn post(&mut self, _: u32, posts: Vec<Post>) {
        self.posts.extend(posts);
    }
    fn write(&mut self, batch: Batch) {
        self.writes.push(batch);
    }
    fn read(&mut self, id: u64, _: Lane, read: ReadFn) {
        self.reads.push((id, read));
    }
    fn work(&mut self, conn: Key, job: Box<dyn FnOnce() -> Value + Send>) -> bool {
        self.jobs.push((conn, job));
        true
    }
    fn random(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.drawn += 1;
            *byte = (self.drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
    }
    fn is_gate_shut(&self) -> bool {
        false
    }
}

struct AnyCertificate;

impl Certificates for AnyCertificate {
    fn has_certificate(&self, _: &str) -> bool {
        true
    }
    fn client_identities(&self, _: &str, _: &[Vec<u8>]) -> Vec<String> {
        Vec::new()
    }
}

/// No other server is reached.
struct NoNetwork;

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

/// A server of one shard with one connection.
struct Server {
    generation: Arc<Generation>,
    pipeline: Arc<Pipeline>,
    /// Made anew after an execution only if that has written, which takes most of the time.
    store: WriterCore,
    is_written: bool,
    shard: Shard,
    wishes: Wishes,
    now: Mono,
    wire: Arc<Mutex<Wire>>,
}

impl Server {
    fn new() -> Server {
        let generation = Arc::new(Generation {
            settings: Arc::new(settings()),
            certificates: Arc::new(AnyCertificate),
            dialler: Arc::new(NoNetwork),
        });
        let pipeline = Arc::new(Pipeline::new(FEATURES));
        Server {
            shard: shard(&generation, &pipeline),
            generation,
            pipeline,
            store: store(),
            is_written: false,
            wishes: Wishes::default(),
            now: Mono::from_millis(1000),
            wire: Arc::default(),
        }
    }

    /// All as new. Not when the next execution begins: it would take ways that are not its own input's
    /// doing, and afl++ could not tell what that does.
    fn end(&mut self) {
        if std::mem::take(&mut self.is_written) {
            self.store = store();
        }
        self.shard = shard(&self.generation, &self.pipeline);
        self.wishes = Wishes::default();
        self.now = Mono::from_millis(1000);
        self.wire = Arc::default();
    }

    /// A connection is accepted.
    fn begin(&mut self) {
        self.wishes.posts.push(Post::Accepted(Box::new(Accepted {
            transport: Box::new(Socket(Arc::clone(&self.wire))),
            origin: Origin {
                stream: 1,
                address: address(),
                accepted: self.now,
            },
            peer: Peer::Client,
        })));
        self.run();
    }

    fn log_in(&mut self) -> Vec<u8> {
        let message = simple::encode(format!("\0juliet\0{PASSWORD}").as_bytes());
        self.say(HEADER.as_bytes());
        let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>";
        self.say(format!("{auth}{message}</auth>").as_bytes());
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                    <resource>balcony</resource></bind></iq>";
        self.say(format!("{HEADER}{bind}").as_bytes());
        let seen = std::mem::take(&mut self.wire.lock().expect("one thread").got);
        let text = String::from_utf8_lossy(&seen);
        assert!(
            text.contains("/balcony</jid>"),
            "the login went wrong: {text}"
        );
        seen
    }

    /// Bytes arrive, and the server works until nothing is left to do.
    fn say(&mut self, bytes: &[u8]) {
        self.wire.lock().expect("one thread").sent.extend(bytes);
        self.turn(true, false);
        self.run();
    }

    /// The client ends its direction, and time passes until the connection is gone.
    fn hang_up(&mut self) {
        self.wire.lock().expect("one thread").is_ended = true;
        let mut due = self.turn(true, true);
        for _ in 0..DEADLINES_MAX {
            self.run();
            if self.wire.lock().expect("one thread").is_dropped {
                assert_eq!(self.shard.connections(), 0);
                return;
            }
            if let Due::At(at) = due {
                self.now = self.now.max(at);
            }
            due = self.turn(true, true);
        }
        panic!("the connection outlives its end");
    }

    fn turn(&mut self, is_ready: bool, is_closed: bool) -> Due {
        let now = Now {
            mono: self.now,
            wall: Wall::default(),
        };
        let ready = [Ready {
            index: 0,
            is_closed,
        }];
        let ready = if is_ready { &ready[..] } else { &[] };
        let mut posts = std::mem::take(&mut self.wishes.posts);
        self.shard.turn(now, &mut posts, ready, &mut self.wishes)
    }

    fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            let due = self.turn(false, false);
            let is_due = match due {
                Due::Now => true,
                Due::At(at) => at <= self.now,
                Due::Never => false,
            };
            self.fulfil();
            if !is_due && self.wishes.posts.is_empty() {
                return;
            }
        }
        panic!("the shard does not come to rest");
    }

    fn fulfil(&mut self) {
        let wishes = &mut self.wishes;
        for (conn, job) in std::mem::take(&mut wishes.jobs) {
            wishes.posts.push(Post::Worked(conn, job()));
        }
        for (id, read) in std::mem::take(&mut wishes.reads) {
            let result = self.store.read(read);
            wishes.posts.push(Post::Store(Answer::Read { id, result }));
        }
        for batch in std::mem::take(&mut wishes.writes) {
            self.is_written = true;
            for (_, answer) in self.store.commit(vec![(0, batch)]) {
                wishes.posts.push(Post::Store(answer));
            }
        }
    }
}

fn shard(generation: &Arc<Generation>, pipeline: &Arc<Pipeline>) -> Shard {
    let throttle = Arc::new(Throttle::new(ThrottleLimits {
        connections_per_address_max: 1000,
        login_failures_per_address_max: 1000,
        login_failures_per_account_max: 1000,
        ..ThrottleLimits::default()
    }));
    let admitted = throttle.connect(address().ip(), Mono::from_millis(1000));
    assert_eq!(admitted, Ok(()));
    Shard::new(
        0,
        Placement::new(1),
        Arc::clone(generation),
        Arc::clone(pipeline),
        throttle,
        [1; 32],
    )
}

/// PLAIN and SCRAM in the clear, with one round of hashing: many logins fit into a second.
fn settings() -> Settings {
    let mut settings = Settings::default();
    let name = Domain::parse("example.org").expect("a domain");
    let mut domain = DomainSettings::new(name.clone());
    domain.c2s.require_encryption = false;
    domain.c2s.allow_unencrypted_plain = true;
    domain.auth.hashes = vec![Hash::Sha256];
    domain.auth.iterations = 1;
    settings.domains.insert(name, Arc::new(domain));
    settings
}

fn store() -> WriterCore {
    let mut store = WriterCore::memory(&[1; 32]).expect("SQLite has memory");
    for name in ["juliet", "romeo"] {
        let jid = BareJid::parse(&format!("{name}@example.org")).expect("a JID");
        store
            .change(move |db| accounts::create(db, &jid, &credentials(), Wall::default()))
            .expect("the account is new");
    }
    store
}

/// RFC 5802 §3.
fn credentials() -> Credentials {
    use openssl::{hash::MessageDigest, pkcs5::pbkdf2_hmac, pkey::PKey, sha::sha256, sign::Signer};
    let mut salted = [0; 32];
    let digest = MessageDigest::sha256();
    pbkdf2_hmac(PASSWORD.as_bytes(), &[7; 16], 1, digest, &mut salted).expect("OpenSSL hashes");
    let key = PKey::hmac(&salted).expect("a key");
    let sign = |text: &[u8]| {
        let signer = Signer::new(MessageDigest::sha256(), &key);
        signer
            .and_then(|mut signer| signer.sign_oneshot_to_vec(text))
            .expect("OpenSSL hashes")
    };
    Credentials {
        scram: vec![Verifier {
            hash: Hash::Sha256,
            salt: vec![7; 16],
            iterations: 1,
            stored_key: sha256(&sign(b"Client Key")).to_vec(),
            server_key: sign(b"Server Key"),
        }],
        bcrypt: None,
    }
}

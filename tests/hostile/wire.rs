//! The attackers' sockets: cheap, many to a thread, from addresses of their choice.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use openssl::ssl::{Ssl, SslConnector, SslContext, SslMethod, SslStream, SslVerifyMode};
use socket2::{Domain, Socket, Type};

use crate::common::client::header;

/// The longest wait for one answer: an attacker that is refused goes on with the next blow.
const WAIT: Duration = Duration::from_secs(2);
/// The most that is kept of what the server says while something is looked for in it.
const HEARD_BYTES_MAX: usize = 1 << 20;

/// Where an attack comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// 127.1.0.1, which one honest session shares.
    One,
    /// 200 addresses, so that limits per address alone do not stop it.
    Spread,
}

impl Origin {
    /// The address of the attack's connection of that number, for a port that the system chooses.
    pub fn address(self, number: usize) -> SocketAddr {
        let last = match self {
            Origin::One => 1,
            Origin::Spread => 1 + (number % 200) as u8,
        };
        SocketAddr::from(([127, 1, 0, last], 0))
    }
}

/// A connection under TLS.
pub type Tls = SslStream<TcpStream>;

/// Connects from an address. Closing the socket resets it, so that no port is kept waiting.
///
/// # Errors
/// The server's queue is full, or this process is at its limit on open files.
pub fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&to.into(), WAIT)?;
    socket.set_read_timeout(Some(WAIT))?;
    socket.set_write_timeout(Some(WAIT))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

fn context() -> &'static SslContext {
    static CONTEXT: OnceLock<SslContext> = OnceLock::new();
    CONTEXT.get_or_init(|| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_alpn_protos(b"\x0bxmpp-client").unwrap();
        builder.build().into_context()
    })
}

/// A client's side of TLS that asks for example.org.
pub fn ssl() -> Ssl {
    let mut ssl = Ssl::new(context()).unwrap();
    ssl.set_hostname("example.org").unwrap();
    ssl
}

/// Connects by direct TLS.
///
/// # Errors
/// The server refuses, or does not answer in time.
pub fn secured(from: SocketAddr, to: SocketAddr) -> io::Result<Tls> {
    let mut stream = SslStream::new(ssl(), connect(from, to)?)?;
    stream.connect().map_err(io::Error::other)?;
    Ok(stream)
}

/// Reads until one of these has been heard, and gives its index.
///
/// # Errors
/// The server has closed the connection or says nothing in time.
pub fn hear(stream: &mut impl Read, wanted: &[&str]) -> io::Result<usize> {
    let (mut heard, mut bytes) = (Vec::new(), [0; 4096]);
    let deadline = Instant::now() + WAIT;
    while heard.len() < HEARD_BYTES_MAX && Instant::now() < deadline {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        heard.extend_from_slice(&bytes[..read]);
        let text = String::from_utf8_lossy(&heard);
        if let Some(found) = wanted.iter().position(|wanted| text.contains(wanted)) {
            return Ok(found);
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// Tells a password by PLAIN (RFC 4616) on a stream whose features were heard; whether it is right.
///
/// # Errors
/// The server closes the stream or does not answer in time.
pub fn plain(stream: &mut Tls, user: &str, password: &str) -> io::Result<bool> {
    let initial = STANDARD.encode(format!("\0{user}\0{password}"));
    write!(
        stream,
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{initial}</auth>"
    )?;
    Ok(hear(stream, &["<success", "</failure>"])? == 0)
}

/// Logs an attacker in and binds a resource.
///
/// # Errors
/// The server refuses, or does not answer in time.
pub fn login(
    from: SocketAddr,
    to: SocketAddr,
    user: &str,
    password: &str,
    resource: &str,
) -> io::Result<Tls> {
    let mut stream = secured(from, to)?;
    stream.write_all(header("example.org").as_bytes())?;
    hear(&mut stream, &["</stream:features>"])?;
    if !plain(&mut stream, user, password)? {
        return Err(ErrorKind::PermissionDenied.into());
    }
    stream.write_all(header("example.org").as_bytes())?;
    hear(&mut stream, &["</stream:features>"])?;
    write!(
        stream,
        "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <resource>{resource}</resource></bind></iq>"
    )?;
    hear(&mut stream, &["</bind></iq>"])?;
    Ok(stream)
}

/// A session that sends as fast as the server takes it.
pub struct Flooder {
    stream: Tls,
    waiting: Vec<u8>,
    sent: usize,
    is_open: bool,
}

impl Flooder {
    /// Takes a session over.
    pub fn new(stream: Tls) -> Flooder {
        stream.get_ref().set_nonblocking(true).unwrap();
        Flooder {
            stream,
            waiting: Vec::new(),
            sent: 0,
            is_open: true,
        }
    }

    /// Reads and writes what can be at once; whether anything was, and whether a blow is through.
    fn step(&mut self, next: impl FnOnce() -> Vec<u8>) -> (bool, bool) {
        let mut bytes = [0; 16 * 1024];
        let read = self.take(|stream| stream.read(&mut bytes));
        if self.sent == self.waiting.len() {
            self.waiting = next();
            self.sent = 0;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let rest = &waiting[self.sent..];
        let written = self.take(|stream| stream.write(rest));
        self.waiting = waiting;
        self.sent += written;
        (
            read + written > 0,
            written > 0 && self.sent == self.waiting.len(),
        )
    }

    fn take(&mut self, io: impl FnOnce(&mut Tls) -> io::Result<usize>) -> usize {
        if !self.is_open {
            return 0;
        }
        match io(&mut self.stream) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Ok(0) | Err(_) => {
                self.is_open = false;
                0
            }
            Ok(count) => count,
        }
    }
}

/// Has sessions send what `next` gives for the session of an index until the time is over, and reads
/// what they are sent. Yields how many blows the server took.
pub fn flood(
    sessions: &mut [Flooder],
    until: Instant,
    mut next: impl FnMut(usize) -> Vec<u8>,
) -> u64 {
    let mut poll = Poll::new().unwrap();
    for (index, session) in sessions.iter().enumerate() {
        let fd = session.stream.get_ref().as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = poll.registry();
        registry
            .register(&mut SourceFd(&fd), Token(index), interest)
            .unwrap();
    }
    let (mut events, mut blows) = (Events::with_capacity(sessions.len()), 0);
    while Instant::now() < until && sessions.iter().any(|session| session.is_open) {
        let mut has_moved = false;
        for (index, session) in sessions.iter_mut().enumerate() {
            let (moved, is_through) = session.step(|| next(index));
            has_moved |= moved;
            blows += u64::from(is_through);
        }
        if !has_moved {
            let left = until.saturating_duration_since(Instant::now());
            poll.poll(&mut events, Some(left)).unwrap();
        }
    }
    blows
}

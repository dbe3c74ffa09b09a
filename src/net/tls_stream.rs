//! A socket as a shard sees it, accepted or dialled: clear text, then TLS by STARTTLS, or TLS from the
//! first byte.
//!
//! OpenSSL works on memory, not on the socket: one read(2) into a buffer that the shard lends, one
//! write(2) a call. So it never waits for writing, and an idle connection holds no buffer
//! (14.8 KiB a connection with `RELEASE_BUFFERS`, measured).

use std::io::{self, Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::ssl::{ErrorCode, SslStream};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::open_files::Taken;
use super::tls::{self, AcceptError, TlsContexts};
use super::tls_facts;
use super::transport::{Buffers, Read, Transport};
use crate::limits::TCP_USER_TIMEOUT;

/// Encrypted bytes that may wait inside for a slow reader: four full records, so that a write of
/// this size is one write(2).
const OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a peer may send before its handshake is done (`Bounds` in lib.rs). The largest honest
/// ones, with a client's certificate chain, have some 10 KiB.
const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;

/// A connection over TCP.
pub struct SocketTransport {
    socket: TcpStream,
    /// Behind the socket, as fields are dropped in their order: it is closed by then.
    _taken: Option<Taken>,
    peer: SocketAddr,
    state: State,
    /// We have dialled, and the peer has not answered yet.
    is_connecting: bool,
    fin: Fin,
    /// Whether a read may yield something without a new edge: the last one did.
    unread: bool,
    /// Whether a short read(2) means that the socket is empty (see [`Transport::readable`]).
    short_is_last: bool,
    /// The last read(2) was short, and that counts.
    emptied: bool,
    /// The poll has told of the peer's FIN or an error: only the socket itself tells the end.
    closing: bool,
    /// What OpenSSL said behind the last clear text: close_notify, or an error.
    last: Option<io::Result<()>>,
}

enum State {
    Plain(Side),
    Handshake(SslStream<Memory>),
    Secure(SslStream<Memory>),
    /// TLS has failed; nothing can be said or heard.
    Failed,
}

/// Which side of the handshake is ours.
enum Side {
    Accepted(Arc<TlsContexts>),
    Dialled(Dialled),
}

/// What a connection to another server is for.
#[derive(Clone)]
pub struct Dialled {
    /// Those for servers.
    pub contexts: Arc<TlsContexts>,
    /// The local domain, whose certificate is shown.
    pub local: String,
    /// The other domain, in A-labels.
    pub remote: String,
}

/// How far our direction has been ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fin {
    Open,
    /// FIN follows when everything is written.
    Wanted,
    Sent,
}

/// What OpenSSL takes for its socket.
#[derive(Default)]
struct Memory {
    /// Lent by the shard during a read, empty otherwise.
    raw: Box<[u8]>,
    /// The unread part of `raw`.
    at: usize,
    end: usize,
    /// What was left in `raw` when it was given back: bytes that follow a handshake, or did not fit
    /// into the plain buffer. At most as large as `raw`.
    rest: Vec<u8>,
    rest_at: usize,
    /// Encrypted bytes that the socket has not taken.
    out: Vec<u8>,
    /// Bytes received so far.
    received: usize,
}

/// What filling from the socket came to.
enum Fill {
    Some,
    Blocked,
    End,
}

impl SocketTransport {
    /// A connection in clear text, that [`Transport::start_tls`] may encrypt.
    ///
    /// # Errors
    /// If the socket is dead already.
    pub fn plain(
        socket: TcpStream,
        peer: SocketAddr,
        contexts: Arc<TlsContexts>,
    ) -> io::Result<SocketTransport> {
        socket.set_nonblocking(true)?;
        SocketTransport::new(socket, peer, Side::Accepted(contexts))
    }

    fn new(socket: TcpStream, peer: SocketAddr, side: Side) -> io::Result<SocketTransport> {
        // A turn writes once all that it has: waiting for more would only delay it.
        socket.set_nodelay(true)?;
        Ok(SocketTransport {
            socket,
            _taken: None,
            peer,
            state: State::Plain(side),
            is_connecting: false,
            fin: Fin::Open,
            unread: false,
            short_is_last: false,
            emptied: false,
            closing: false,
            last: None,
        })
    }

    /// A connection to another server, which is being made: until then reading is blocked, and writing
    /// too. `is_direct`: it begins with TLS (XEP-0368).
    ///
    /// # Errors
    /// What can be told at once, such as that there is no route.
    pub fn dial(
        address: SocketAddr,
        dialled: Dialled,
        is_direct: bool,
    ) -> io::Result<SocketTransport> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // A server that is gone without a word, or takes no bytes, is found out.
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut transport = SocketTransport::new(socket.into(), address, Side::Dialled(dialled))?;
        transport.is_connecting = true;
        if is_direct {
            transport.begin_tls(None, true)?;
        }
        Ok(transport)
    }

    /// Whether the connection is still being made.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn is_connecting(&mut self) -> io::Result<bool> {
        if !self.is_connecting {
            return Ok(false);
        }
        if let Some(error) = SockRef::from(&self.socket).take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => self.is_connecting = false,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => return Err(error),
        }
        Ok(self.is_connecting)
    }

    fn begin_tls(&mut self, domain: Option<&str>, is_direct: bool) -> io::Result<()> {
        let State::Plain(side) = &self.state else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "TLS has begun already",
            ));
        };
        let ssl = match side {
            Side::Accepted(contexts) => contexts.accept(domain),
            Side::Dialled(dialled) => {
                let Dialled {
                    contexts,
                    local,
                    remote,
                } = dialled;
                contexts.connect(local, remote, is_direct)
            }
        };
        let ssl = ssl.map_err(|e| match e {
            AcceptError::NoCertificate => io::Error::new(io::ErrorKind::Unsupported, e),
            AcceptError::OpenSsl(_) => io::Error::other(e),
        })?;
        let stream = SslStream::new(ssl, Memory::default()).map_err(io::Error::other)?;
        self.state = State::Handshake(stream);
        Ok(())
    }

    /// A connection that begins with TLS (XEP-0368): who offers ALPN must offer `xmpp-client`.
    ///
    /// # Errors
    /// If the socket is dead already, or there is no certificate at all.
    pub fn direct_tls(
        socket: TcpStream,
        peer: SocketAddr,
        contexts: Arc<TlsContexts>,
    ) -> io::Result<SocketTransport> {
        let mut transport = SocketTransport::plain(socket, peer, contexts)?;
        transport.start_tls(None)?;
        Ok(transport)
    }

    /// Keeps a connection counted for as long as its socket is open.
    pub fn counted(mut self, taken: Taken) -> SocketTransport {
        self._taken = Some(taken);
        self
    }

    fn read_plain(&mut self, plain: &mut [u8]) -> io::Result<Read> {
        if mem::take(&mut self.emptied) {
            self.unread = false;
            return Ok(Read::Blocked);
        }
        let room = plain.len();
        match read_socket(&mut self.socket, plain)? {
            Some(0) => {
                self.unread = false;
                Ok(Read::End)
            }
            Some(n) => {
                self.emptied = n < room && self.short_is_last;
                self.unread = true;
                Ok(Read::Data(n))
            }
            None => {
                self.unread = false;
                Ok(Read::Blocked)
            }
        }
    }

    /// One read(2) into the lent buffer, unless bytes are there already.
    fn fill(&mut self) -> io::Result<Fill> {
        if mem::take(&mut self.emptied) {
            return Ok(Fill::Blocked);
        }
        let (State::Handshake(stream) | State::Secure(stream)) = &mut self.state else {
            return Ok(Fill::End);
        };
        let memory = stream.get_mut();
        let room = memory.raw.len();
        match read_socket(&mut self.socket, &mut memory.raw)? {
            Some(0) => Ok(Fill::End),
            Some(n) => {
                (memory.at, memory.end) = (0, n);
                memory.received = memory.received.saturating_add(n);
                self.emptied = n < room && self.short_is_last;
                Ok(Fill::Some)
            }
            None => Ok(Fill::Blocked),
        }
    }

    fn handshake(&mut self) -> io::Result<Read> {
        loop {
            let State::Handshake(stream) = &mut self.state else {
                return Ok(Read::End);
            };
            match stream.do_handshake() {
                Ok(()) => return self.established(),
                Err(e) if e.code() == ErrorCode::WANT_READ => {
                    if stream.get_ref().received > HANDSHAKE_BYTES_MAX {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            format!(
                                "TLS: the handshake is longer than {HANDSHAKE_BYTES_MAX} bytes"
                            ),
                        ));
                    }
                    match self.fill()? {
                        Fill::Some => {}
                        Fill::Blocked => return Ok(Read::Blocked),
                        Fill::End => return Ok(Read::End),
                    }
                }
                Err(e) => return Err(in_words(&e)),
            }
        }
    }

    fn established(&mut self) -> io::Result<Read> {
        let State::Handshake(stream) = &mut self.state else {
            return Ok(Read::End);
        };
        let ssl = stream.ssl();
        let facts = tls_facts::collect(ssl, tls::dh_label(ssl)).map_err(io::Error::other)?;
        tls_facts::drop_key_share(stream, &facts);
        // Only now, when nothing can fail: the stream holds the shard's buffer.
        if let State::Handshake(stream) = mem::replace(&mut self.state, State::Failed) {
            self.state = State::Secure(stream);
        }
        Ok(Read::Established(Box::new(facts)))
    }

    /// Decrypts until the plain buffer is full or what has been read from the socket is used up, which
    /// is one read(2): a peer could send key updates for ever (RFC 8446 §4.6.3).
    fn decrypt(&mut self, plain: &mut [u8]) -> io::Result<Read> {
        let (mut filled, mut has_read) = (0, false);
        loop {
            match &mut self.last {
                Some(_) if filled > 0 => return Ok(Read::Data(filled)),
                Some(Ok(())) => return Ok(Read::End),
                Some(error) => return mem::replace(error, Ok(())).map(|()| Read::End),
                None => {}
            }
            let State::Secure(stream) = &mut self.state else {
                return Ok(Read::End);
            };
            // Asking OpenSSL first would cost a call only to learn that it has nothing.
            let has_nothing = stream.get_ref().is_empty() && stream.ssl().pending() == 0;
            if filled == plain.len() || (filled > 0 && has_nothing) {
                return Ok(Read::Data(filled));
            }
            if has_nothing {
                if has_read {
                    return Ok(Read::Nothing);
                }
                match self.fill()? {
                    Fill::Some => has_read = true,
                    Fill::Blocked => return Ok(Read::Blocked),
                    Fill::End => self.last = Some(Ok(())),
                }
                continue;
            }
            match stream.ssl_read(plain.get_mut(filled..).unwrap_or_default()) {
                Ok(n) => filled += n,
                // Part of a record: the loop fetches more, or hands out what it has.
                Err(e) if e.code() == ErrorCode::WANT_READ => {}
                Err(e) if e.code() == ErrorCode::ZERO_RETURN => self.last = Some(Ok(())),
                Err(e) => self.last = Some(Err(in_words(&e))),
            }
        }
    }

    /// One write(2) of what waits. True: nothing waits any more.
    fn write_out(&mut self) -> io::Result<bool> {
        let (State::Handshake(stream) | State::Secure(stream)) = &mut self.state else {
            return Ok(true);
        };
        let out = &mut stream.get_mut().out;
        if out.is_empty() {
            return Ok(true);
        }
        match write_socket(&mut self.socket, out)? {
            n if n >= out.len() => {
                // An idle connection keeps no buffer.
                *out = Vec::new();
                Ok(true)
            }
            n => {
                out.drain(..n);
                Ok(false)
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.fin == Fin::Wanted {
            self.fin = Fin::Sent;
            match self.socket.shutdown(Shutdown::Write) {
                // The peer has gone before us.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl Transport for SocketTransport {
    fn read(&mut self, buffers: &mut Buffers) -> io::Result<Read> {
        if self.is_connecting()? {
            buffers.received = 0;
            return Ok(Read::Blocked);
        }
        if let State::Plain(_) = self.state {
            let result = self.read_plain(&mut buffers.plain);
            buffers.received = match result {
                Ok(Read::Data(count)) => count,
                _ => 0,
            };
            return result;
        }
        let before = self.received();
        forget_errors();
        self.lend(buffers);
        let result = match self.state {
            State::Handshake(_) => self.handshake(),
            _ => self.decrypt(&mut buffers.plain),
        };
        self.take_back(buffers);
        buffers.received = self.received().saturating_sub(before);
        self.unread = matches!(
            result,
            Ok(Read::Data(_) | Read::Established(_) | Read::Nothing)
        );
        // Answers of the handshake, or an alert.
        let written = self.write_out();
        if result.is_err() {
            self.state = State::Failed;
            return result;
        }
        // A peer that has gone is told by `End`, in whose place no error of writing may come.
        if !matches!(result, Ok(Read::End)) {
            written?;
        }
        result
    }

    fn readable(&mut self, closed: bool) {
        self.closing |= closed;
        self.short_is_last = !self.closing;
        self.emptied = false;
    }

    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if self.fin != Fin::Open {
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "our direction has been ended",
            ));
        }
        if self.is_connecting()? {
            return Ok(0);
        }
        loop {
            let stream = match &mut self.state {
                State::Plain(_) => return write_socket(&mut self.socket, plain),
                State::Handshake(_) => return Ok(0),
                State::Failed => return Err(io::ErrorKind::NotConnected.into()),
                State::Secure(stream) => stream,
            };
            let room = OUT_BYTES_MAX.saturating_sub(stream.get_ref().out.len());
            if room == 0 {
                if !self.write_out()? {
                    return Ok(0);
                }
                continue;
            }
            forget_errors();
            let mut taken = 0;
            let wanted = plain.get(..room).unwrap_or(plain);
            // One record a call, for partial writes are on; memory never refuses one.
            while taken < wanted.len() {
                match stream.ssl_write(wanted.get(taken..).unwrap_or_default()) {
                    Ok(n) => taken += n,
                    Err(e) => return Err(in_words(&e)),
                }
            }
            self.write_out()?;
            return Ok(taken);
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        if self.is_connecting()? {
            return Ok(false);
        }
        let empty = self.write_out()?;
        if empty {
            self.finish()?;
        }
        Ok(empty)
    }

    fn start_tls(&mut self, domain: Option<&str>) -> io::Result<()> {
        self.begin_tls(domain, false)
    }

    fn is_securing(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    fn shutdown(&mut self) {
        if self.fin != Fin::Open {
            return;
        }
        self.fin = Fin::Wanted;
        if let State::Secure(stream) = &mut self.state {
            // A connection that has failed has nobody to say goodbye to: FIN must do.
            let _ = stream.shutdown();
        }
        // If the socket is broken, the next read says so.
        let _ = self.flush();
    }

    fn has_buffered(&self) -> bool {
        self.unread
    }

    fn peer(&self) -> SocketAddr {
        self.peer
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.socket.as_raw_fd())
    }
}

impl SocketTransport {
    fn lend(&mut self, buffers: &mut Buffers) {
        if let State::Handshake(stream) | State::Secure(stream) = &mut self.state {
            let memory = stream.get_mut();
            mem::swap(&mut memory.raw, &mut buffers.raw);
            (memory.at, memory.end) = (0, 0);
        }
    }

    fn received(&self) -> usize {
        match &self.state {
            State::Handshake(stream) | State::Secure(stream) => stream.get_ref().received,
            State::Plain(_) | State::Failed => 0,
        }
    }

    fn take_back(&mut self, buffers: &mut Buffers) {
        if let State::Handshake(stream) | State::Secure(stream) = &mut self.state {
            let memory = stream.get_mut();
            memory.keep_rest();
            mem::swap(&mut memory.raw, &mut buffers.raw);
        }
    }
}

impl Memory {
    fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.at == self.end
    }

    /// Saves what OpenSSL has not taken from the lent buffer.
    fn keep_rest(&mut self) {
        if let Some(left) = self
            .raw
            .get(self.at..self.end)
            .filter(|left| !left.is_empty())
        {
            // `raw` is filled only when `rest` is used up, so this never adds to anything.
            self.rest.extend_from_slice(left);
        }
        (self.at, self.end) = (0, 0);
    }
}

impl io::Read for Memory {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let kept = self.rest.get(self.rest_at..).unwrap_or_default();
        if !kept.is_empty() {
            let n = copy(kept, into);
            self.rest_at += n;
            if self.rest_at == self.rest.len() {
                self.rest = Vec::new();
                self.rest_at = 0;
            }
            return Ok(n);
        }
        let fresh = self.raw.get(self.at..self.end).unwrap_or_default();
        if fresh.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = copy(fresh, into);
        self.at += n;
        Ok(n)
    }
}

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let n = from.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..n), from.get(..n)) {
        into.copy_from_slice(from);
    }
    n
}

/// `None`: would block. A reset counts as the end: the peer has gone either way.
fn read_socket(socket: &mut TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match socket.read(into) {
            Ok(n) => Ok(Some(n)),
            Err(e) => match e.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Ok(None),
                io::ErrorKind::ConnectionReset => Ok(Some(0)),
                _ => Err(e),
            },
        };
    }
}

/// 0: would block.
fn write_socket(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        return match socket.write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        };
    }
}

/// Empties OpenSSL's queue of errors of this thread. What anything else has left there (a certificate that
/// was refused, for one) would be taken for an error of the next stream, which has none.
fn forget_errors() {
    drop(ErrorStack::get());
}

/// OpenSSL's reason, as "no shared cipher", without its file and line.
fn in_words(error: &openssl::ssl::Error) -> io::Error {
    let reason = error
        .ssl_error()
        .and_then(|stack| stack.errors().first())
        .and_then(|e| e.reason());
    let text = reason.map_or_else(
        || format!("TLS: {error}"),
        |reason| format!("TLS: {reason}"),
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests;

//! What a connection is to its shard: bytes in, bytes out, and the moment when TLS is there.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::sasl::scram::Bindings;

/// Bytes in each half of [`Buffers`]: one read(2) of this size empties what a busy client sends in
/// a turn, and four TLS records of full size fit.
pub const BUFFER_BYTES: usize = 64 * 1024;

/// Scratch memory that a shard lends to the transport it reads from. Holds nothing between calls,
/// so one pair serves all connections of a shard.
#[derive(Debug)]
pub struct Buffers {
    /// Bytes as the socket gives them.
    pub raw: Box<[u8]>,
    /// Bytes after decryption. [`Read::Data`] tells how many of them count.
    pub plain: Box<[u8]>,
    /// Bytes that the last read took from the socket, as many of them as the transport tells of.
    pub received: usize,
}

/// What one step of reading yielded.
#[derive(Debug)]
pub enum Read {
    /// `plain[..n]` holds clear text; `n` is at least 1.
    Data(usize),
    /// Bytes came that are no clear text, or not yet: TLS's own messages, a part of a record.
    Nothing,
    /// Nothing more until the socket is readable again.
    Blocked,
    /// The TLS handshake is done.
    Established(Box<TlsFacts>),
    /// The peer will send nothing more, cleanly or not. Further reads yield the same.
    End,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TlsFacts {
    /// "TLSv1.3", "TLSv1.2".
    pub version: &'static str,
    /// The suite's standard name, as "TLS_AES_256_GCM_SHA384".
    pub cipher: String,
    /// The key exchange group, as "X25519MLKEM768"; "DH-2048" for finite fields without a name;
    /// empty if this OpenSSL does not tell.
    pub group: String,
    /// The name that the client asked for, as it sent it.
    pub sni: Option<String>,
    /// The application protocol that was agreed on.
    pub alpn: Option<String>,
    /// What SASL mechanisms with `-PLUS` can bind to (RFC 9266, RFC 5929 §4).
    pub bindings: Bindings,
    /// The peer's certificates in DER, leaf first. Nothing about them has been checked but that it
    /// holds the leaf's key.
    pub peer_chain: Vec<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
}

/// A connection, as a shard drives it: a socket with or without TLS, or a simulated one. Never
/// blocks. The first `Err` of a method ends the connection: the shard drops it.
pub trait Transport: Send {
    /// One step of reading: at most one read(2), a piece of handshake, or a decryption. Call again
    /// until [`Read::Blocked`] or [`Read::End`]: no new edge comes for what is buffered.
    ///
    /// # Errors
    /// The socket's error, or a TLS failure. An alert for the peer may wait to be written: the
    /// caller may call [`Transport::flush`] once before it drops the connection.
    fn read(&mut self, buffers: &mut Buffers) -> io::Result<Read>;

    /// Tells of a readiness event of the poll. `closed`: the event says that the peer's FIN, or an
    /// error, is there too (mio's `is_read_closed()` or `is_error()`). Optional, and worth it: it
    /// lets a read(2) that came back short count as the last one, which saves the one that would
    /// only say EAGAIN. Without it, or after `closed`, reading goes on until the socket says so,
    /// because a FIN that came along with the data brings no edge of its own.
    fn readable(&mut self, closed: bool);

    /// Takes bytes of `plain` from its start and tells how many; 0 means blocked, try again when
    /// the socket is writable. At most one write(2). What was taken but not written stays inside,
    /// within a bound; [`Transport::flush`] writes it.
    ///
    /// # Errors
    /// The socket's error, or a TLS failure.
    fn write(&mut self, plain: &[u8]) -> io::Result<usize>;

    /// Writes what [`Transport::write`] or the handshake left. True: nothing is left.
    ///
    /// # Errors
    /// The socket's error.
    fn flush(&mut self) -> io::Result<bool>;

    /// Begins the handshake on a clear-text connection (RFC 6120 §5.4.2.3, §5.4.3). All that the peer
    /// sends from here on is TLS: what came before and was not parsed is the caller's to refuse. Call
    /// [`Transport::read`] next. On an accepted connection `domain` is the stream's `to`, whose
    /// certificate is shown if the peer sends no SNI; one that we have dialled knows its own.
    ///
    /// # Errors
    /// If TLS is there already, or OpenSSL cannot make a connection.
    fn start_tls(&mut self, domain: Option<&str>) -> io::Result<()>;

    /// Whether a TLS handshake is to come, or runs.
    fn is_securing(&self) -> bool {
        false
    }

    /// Ends our direction: close_notify under TLS, then FIN as soon as everything is written.
    /// Reading goes on. Writing after it yields an error.
    fn shutdown(&mut self);

    /// Whether a read may yield something though no new edge will announce it.
    fn has_buffered(&self) -> bool;

    /// The peer's address.
    fn peer(&self) -> SocketAddr;

    /// The descriptor to register with a poll; `None` for a simulated connection.
    fn raw_fd(&self) -> Option<RawFd>;
}

impl fmt::Debug for TlsFacts {
    /// Without the bindings, which serve to prove something to the peer and nothing in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFacts")
            .field("version", &self.version)
            .field("cipher", &self.cipher)
            .field("group", &self.group)
            .field("sni", &self.sni)
            .field("alpn", &self.alpn)
            .field("peer_certificates", &self.peer_chain.len())
            .finish_non_exhaustive()
    }
}

impl Buffers {
    /// A pair of [`BUFFER_BYTES`] each.
    pub fn new() -> Buffers {
        Buffers {
            raw: vec![0; BUFFER_BYTES].into_boxed_slice(),
            plain: vec![0; BUFFER_BYTES].into_boxed_slice(),
            received: 0,
        }
    }
}

impl Default for Buffers {
    fn default() -> Buffers {
        Buffers::new()
    }
}

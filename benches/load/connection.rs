//! A client's TCP connection, plain or under TLS, driven by readiness.
//!
//! TLS works on memory, so that a turn costs one read and one write of the socket however many
//! records it carries. Certificates are not verified: the generator measures, it does not trust.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use openssl::hash::MessageDigest;
use openssl::ssl::{
    ErrorCode, Ssl, SslConnector, SslContext, SslMethod, SslMode, SslOptions, SslRef, SslStream,
    SslVerifyMode, SslVersion,
};

use crate::scanner::Scanner;

/// Bytes read from a socket, or out of TLS, at once; lent to each connection in turn.
pub const SCRATCH_BYTES: usize = 64 * 1024;

/// A connection and what waits to be written to it.
#[derive(Debug)]
pub struct Connection {
    pub socket: TcpStream,
    layer: Layer,
    /// Plain bytes that have not been encrypted yet (TLS), or not been written (plain).
    outgoing: Vec<u8>,
}

#[derive(Debug)]
enum Layer {
    Plain,
    Tls {
        stream: SslStream<Memory>,
        established: bool,
    },
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Perhaps bytes, now in the scanner.
    More,
    /// The TLS handshake has just been completed; perhaps there are bytes too.
    Established,
    /// The peer has closed; bytes before that are in the scanner.
    End,
}

/// Encrypted bytes on their way between the socket and OpenSSL.
#[derive(Debug, Default)]
struct Memory {
    received: Vec<u8>,
    taken: usize,
    to_send: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let waiting = &self.received[self.taken..];
        if waiting.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = waiting.len().min(out.len());
        out[..count].copy_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.received.len() {
            self.received.clear();
            self.taken = 0;
        }
        Ok(count)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to_send.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What of TLS can be chosen; `None` leaves it to OpenSSL.
#[derive(Clone, Debug, Default)]
pub struct TlsChoice {
    pub version: Option<SslVersion>,
    pub groups: Option<String>,
}

impl TlsChoice {
    /// The context all connections share.
    pub fn context(&self) -> Result<SslContext, String> {
        let broken = |e| format!("OpenSSL refuses the TLS options: {e}");
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(broken)?;
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_mode(SslMode::RELEASE_BUFFERS);
        // Many servers cut TCP without a close_notify after the stream's end.
        builder.set_options(SslOptions::IGNORE_UNEXPECTED_EOF);
        builder
            .set_min_proto_version(self.version.or(Some(SslVersion::TLS1_2)))
            .map_err(broken)?;
        builder
            .set_max_proto_version(self.version)
            .map_err(broken)?;
        if let Some(groups) = &self.groups {
            builder.set_groups_list(groups).map_err(broken)?;
        }
        Ok(builder.build().into_context())
    }
}

impl Connection {
    /// Starts to connect; the socket still has to be registered.
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address)?;
        Ok(Connection {
            socket,
            layer: Layer::Plain,
            outgoing: Vec::new(),
        })
    }

    /// Whether the socket did not take all that was flushed.
    pub fn is_blocked(&self) -> bool {
        match &self.layer {
            Layer::Plain => !self.outgoing.is_empty(),
            Layer::Tls { stream, .. } => !stream.get_ref().to_send.is_empty(),
        }
    }

    /// Whether the TCP connection stands; once it does, small writes are not held back.
    ///
    /// # Errors
    /// If it was refused.
    pub fn is_connected(&self) -> io::Result<bool> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {
                self.socket.set_nodelay(true)?;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Begins the TLS handshake, naming the domain in SNI; `direct` also says by ALPN that XMPP
    /// follows (XEP-0368).
    pub fn start_tls(
        &mut self,
        context: &SslContext,
        domain: &str,
        direct: bool,
    ) -> io::Result<()> {
        let mut ssl = Ssl::new(context)?;
        ssl.set_hostname(domain)?;
        if direct {
            ssl.set_alpn_protos(b"\x0bxmpp-client")?;
        }
        let mut stream = SslStream::new(ssl, Memory::default())?;
        handshake(&mut stream)?;
        self.layer = Layer::Tls {
            stream,
            established: false,
        };
        self.flush()
    }

    /// Takes bytes to be sent at the next `flush`.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
    }

    /// Encrypts what waits and writes what the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.layer {
            Layer::Plain => write_out(&mut self.socket, &mut self.outgoing),
            Layer::Tls {
                stream,
                established,
            } => {
                if *established && !self.outgoing.is_empty() {
                    // The memory takes all, so OpenSSL does too.
                    stream.ssl_write(&self.outgoing).map_err(tls_error)?;
                    self.outgoing.clear();
                }
                write_out(&mut self.socket, &mut stream.get_mut().to_send)
            }
        }
    }

    /// Reads what the socket holds into the scanner. `to_end` reads until nothing is left even after
    /// a short read: needed when the peer has closed, as no further readiness comes then.
    pub fn read(
        &mut self,
        scanner: &mut Scanner,
        scratch: &mut [u8],
        to_end: bool,
    ) -> io::Result<Progress> {
        let mut outcome = Progress::More;
        loop {
            let count = match self.socket.read(scratch) {
                Ok(0) => return Ok(Progress::End),
                Ok(count) => count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(outcome),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(Progress::End),
                Err(e) => return Err(e),
            };
            match self.received(count, scanner, scratch)? {
                Progress::End => return Ok(Progress::End),
                Progress::Established => outcome = Progress::Established,
                Progress::More => {}
            }
            if count < scratch.len() && !to_end {
                return Ok(outcome);
            }
        }
    }

    /// Decrypts `scratch[..count]`, which came from the socket.
    fn received(
        &mut self,
        count: usize,
        scanner: &mut Scanner,
        scratch: &mut [u8],
    ) -> io::Result<Progress> {
        let Layer::Tls {
            stream,
            established,
        } = &mut self.layer
        else {
            scanner.push(&scratch[..count]);
            return Ok(Progress::More);
        };
        stream
            .get_mut()
            .received
            .extend_from_slice(&scratch[..count]);
        let mut outcome = Progress::More;
        if !*established {
            *established = handshake(stream)?;
            write_out(&mut self.socket, &mut stream.get_mut().to_send)?;
            if !*established {
                return Ok(Progress::More);
            }
            outcome = Progress::Established;
        }
        loop {
            match stream.ssl_read(scratch) {
                Ok(count) => scanner.push(&scratch[..count]),
                Err(e) if e.code() == ErrorCode::WANT_READ => return Ok(outcome),
                Err(e) if e.code() == ErrorCode::ZERO_RETURN => return Ok(Progress::End),
                Err(e) => return Err(tls_error(e)),
            }
        }
    }

    /// Says goodbye in TLS, as far as the socket takes it.
    pub fn close(&mut self) -> io::Result<()> {
        if let Layer::Tls {
            stream,
            established: true,
        } = &mut self.layer
        {
            stream.shutdown().map_err(tls_error)?;
        }
        self.flush()
    }

    /// TLS version, cipher suite, key exchange group and certificate, once they are agreed.
    pub fn tls_facts(&self) -> Option<[String; 4]> {
        let Layer::Tls {
            stream,
            established: true,
        } = &self.layer
        else {
            return None;
        };
        let ssl = stream.ssl();
        let cipher = ssl.current_cipher().map_or("none", |cipher| cipher.name());
        let version = ssl.version_str().to_owned();
        Some([version, cipher.to_owned(), group(ssl), certificate(ssl)])
    }
}

/// Takes the handshake as far as it goes; true when it is done.
fn handshake(stream: &mut SslStream<Memory>) -> io::Result<bool> {
    match stream.connect() {
        Ok(()) => Ok(true),
        Err(e) if e.code() == ErrorCode::WANT_READ => Ok(false),
        Err(e) => Err(tls_error(e)),
    }
}

/// Writes from the front of `bytes` what the socket takes now.
fn write_out(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match socket.write(&bytes[done..]) {
            Ok(count) => done += count,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.drain(..done);
    Ok(())
}

fn tls_error(error: openssl::ssl::Error) -> io::Error {
    error.into_io_error().unwrap_or_else(io::Error::other)
}

/// What tells the server's certificate from others: its key type and the head of its SHA-256 digest.
fn certificate(ssl: &SslRef) -> String {
    let Some(certificate) = ssl.peer_certificate() else {
        return "no certificate".into();
    };
    let bits = certificate.public_key().map_or(0, |key| key.bits());
    let digest = certificate.digest(MessageDigest::sha256());
    let digest = digest.map_or_else(|_| Vec::new(), |digest| digest.to_vec());
    let head: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("{bits}-bit certificate {head}")
}

/// The name of the group agreed on. The safe crate has no call for it.
fn group(ssl: &SslRef) -> String {
    use std::ffi::{c_int, c_long};
    use std::ptr::null_mut;

    use foreign_types::ForeignTypeRef;
    use openssl::nid::Nid;

    // SSL_get_negotiated_group of openssl/ssl.h is this control, since 3.0.
    const GET_NEGOTIATED_GROUP: c_int = 134;
    // Groups without an OpenSSL identifier come as their TLS code point, marked so.
    const CODE_POINT_MARK: c_long = 0x0100_0000;
    // SAFETY: `ssl` is a live SSL, and this control reads one integer from it: it uses neither of
    // the two further arguments.
    #[expect(unsafe_code, reason = "the openssl crate has no call for it")]
    let id = unsafe { openssl_sys::SSL_ctrl(ssl.as_ptr(), GET_NEGOTIATED_GROUP, 0, null_mut()) };
    if id & CODE_POINT_MARK == 0 {
        let name = Nid::from_raw(id as c_int).short_name();
        return name.map_or_else(|_| format!("group {id}"), str::to_owned);
    }
    match id & 0xffff {
        0x001d => "X25519".into(),
        0x11eb => "SecP256r1MLKEM768".into(),
        0x11ec => "X25519MLKEM768".into(),
        0x11ed => "SecP384r1MLKEM1024".into(),
        other => format!("group 0x{other:04x}"),
    }
}

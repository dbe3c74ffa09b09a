//! A client of OpenSSL against our transport, over real loopback sockets, driven step by step on
//! one thread.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use openssl::ssl::{ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslRef, SslStream};
use tempfile::TempDir;

use super::certificate::testing::{Issued, write};
use super::tls::{TlsContexts, TlsDomain, TlsProblem, TlsSettings, TlsWarning};
use super::tls_stream::SocketTransport;
use super::transport::{Buffers, Read, TlsFacts, Transport};

/// Steps after which a dialog that does not go on has failed. Each yields the processor, so that
/// the kernel can deliver.
const STEPS_MAX: usize = 100_000;

/// Settings with a directory of their own for certificates.
pub(super) struct Setup {
    pub dir: TempDir,
    pub settings: TlsSettings,
}

/// Both ends of a connection.
pub(super) struct Dialog {
    pub server: SocketTransport,
    pub client: SslStream<TcpStream>,
    pub buffers: Buffers,
}

impl Setup {
    /// A server of these domains, without certificates yet.
    pub(super) fn new(domains: &[&str]) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let domain = |name: &&str| TlsDomain {
            name: (*name).to_owned(),
            ascii: (*name).to_owned(),
            required: true,
            ..TlsDomain::default()
        };
        let settings = TlsSettings {
            certificates: Some(dir.path().to_owned()),
            domains: domains.iter().map(domain).collect(),
            ..TlsSettings::default()
        };
        Setup { dir, settings }
    }

    /// example.org with an ECDSA certificate.
    pub(super) fn ecdsa() -> Setup {
        Setup::new(&["example.org"]).with("example.org", &Issued::new().dns("example.org").build())
    }

    /// example.org with an RSA certificate.
    pub(super) fn rsa() -> Setup {
        let issued = Issued::new().dns("example.org").rsa(2048).build();
        Setup::new(&["example.org"]).with("example.org", &issued)
    }

    /// Puts a certificate into the directory.
    pub(super) fn with(self, file: &str, issued: &Issued) -> Setup {
        let path = self.path(&format!("{file}.pem"));
        write(&path, 0o600, &[&issued.pem(), &issued.key_pem()]);
        self
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(super) fn load(&self) -> Result<(Arc<TlsContexts>, Vec<TlsWarning>), Vec<TlsProblem>> {
        TlsContexts::load(&self.settings).map(|(contexts, warnings)| (Arc::new(contexts), warnings))
    }

    pub(super) fn contexts(&self) -> Arc<TlsContexts> {
        self.load()
            .unwrap_or_else(|problems| panic!("{problems:?}"))
            .0
    }

    /// A handshake by STARTTLS with a client as `rules` and `wishes` make it.
    pub(super) fn connect(
        &self,
        rules: impl FnOnce(&mut SslContextBuilder),
        wishes: impl FnOnce(&mut SslRef),
    ) -> Result<(Dialog, TlsFacts), Failure> {
        connect(&self.contexts(), Some("example.org"), rules, wishes)
    }
}

/// Why a handshake came to nothing, in the words of both.
#[derive(Debug)]
pub(super) struct Failure {
    pub server: Option<String>,
    pub client: Option<String>,
}

/// Two ends of a TCP connection over loopback: the accepted one, and the dialled one.
pub(super) fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialled = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (accepted, dialled)
}

/// A client's end.
pub(super) fn client(
    socket: TcpStream,
    rules: impl FnOnce(&mut SslContextBuilder),
    wishes: impl FnOnce(&mut SslRef),
) -> SslStream<TcpStream> {
    socket.set_nonblocking(true).unwrap();
    let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
    rules(&mut builder);
    let mut ssl = Ssl::new(&builder.build()).unwrap();
    wishes(&mut ssl);
    ssl.set_connect_state();
    SslStream::new(ssl, socket).unwrap()
}

pub(super) fn connect(
    contexts: &Arc<TlsContexts>,
    to: Option<&str>,
    rules: impl FnOnce(&mut SslContextBuilder),
    wishes: impl FnOnce(&mut SslRef),
) -> Result<(Dialog, TlsFacts), Failure> {
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    let mut server = SocketTransport::plain(accepted, peer, contexts.clone()).unwrap();
    server.start_tls(to).unwrap();
    shake(server, client(dialled, rules, wishes))
}

/// Drives a handshake to its end on both sides.
pub(super) fn shake(
    server: SocketTransport,
    client: SslStream<TcpStream>,
) -> Result<(Dialog, TlsFacts), Failure> {
    let mut dialog = Dialog {
        server,
        client,
        buffers: Buffers::new(),
    };
    let mut facts = None;
    let mut client_done = false;
    let mut failure = Failure {
        server: None,
        client: None,
    };
    for _ in 0..STEPS_MAX {
        if !client_done {
            match dialog.client.do_handshake() {
                Ok(()) => client_done = true,
                Err(e) if waits(&e) => {}
                Err(e) => failure.client = Some(e.to_string()),
            }
        }
        if facts.is_none() && failure.server.is_none() {
            match dialog.server.read(&mut dialog.buffers) {
                Ok(Read::Established(found)) => facts = Some(*found),
                Ok(Read::Blocked | Read::Nothing) => {}
                Ok(other) => failure.server = Some(format!("{other:?}")),
                Err(e) => failure.server = Some(e.to_string()),
            }
        }
        if client_done && let Some(facts) = facts {
            return Ok((dialog, facts));
        }
        let client_over = client_done || failure.client.is_some();
        if client_over && failure.server.is_some() {
            return Err(failure);
        }
        if failure.client.is_some() {
            // What the client has sent last is still to be read.
            dialog
                .client
                .get_ref()
                .shutdown(std::net::Shutdown::Write)
                .unwrap_or_default();
        }
        std::thread::yield_now();
    }
    panic!("the handshake neither ends nor fails: {failure:?}");
}

fn waits(error: &openssl::ssl::Error) -> bool {
    matches!(error.code(), ErrorCode::WANT_READ | ErrorCode::WANT_WRITE)
}

impl Dialog {
    /// The server's next step that is not waiting.
    pub(super) fn server_reads(&mut self) -> io::Result<Read> {
        next(&mut self.server, &mut self.buffers)
    }

    /// Clear text that the server reads, `n` bytes of it.
    pub(super) fn server_reads_exactly(&mut self, n: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < n {
            match self.server_reads().unwrap() {
                Read::Data(got) => all.extend_from_slice(&self.buffers.plain[..got]),
                other => panic!("{other:?} after {} bytes", all.len()),
            }
        }
        assert_eq!(all.len(), n);
        all
    }

    /// The client's next bytes; none at the end that close_notify marks.
    pub(super) fn client_reads(&mut self) -> Result<Vec<u8>, openssl::ssl::Error> {
        let mut into = vec![0; 16 * 1024];
        for _ in 0..STEPS_MAX {
            match self.client.ssl_read(&mut into) {
                Ok(n) => {
                    into.truncate(n);
                    return Ok(into);
                }
                Err(e) if waits(&e) => std::thread::yield_now(),
                Err(e) if e.code() == ErrorCode::ZERO_RETURN => return Ok(Vec::new()),
                Err(e) => return Err(e),
            }
        }
        panic!("nothing comes");
    }

    pub(super) fn client_writes(&mut self, bytes: &[u8]) {
        let mut written = 0;
        for _ in 0..STEPS_MAX {
            match self.client.ssl_write(&bytes[written..]) {
                Ok(n) => written += n,
                Err(e) if waits(&e) => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
            if written == bytes.len() {
                return;
            }
        }
        panic!("the server does not read");
    }

    /// A word each way.
    pub(super) fn chat(&mut self) {
        self.client_writes(b"O Romeo");
        assert_eq!(self.server_reads_exactly(7), b"O Romeo");
        assert_eq!(self.server.write(b"Shall I").unwrap(), 7);
        assert_eq!(self.client_reads().unwrap(), b"Shall I");
    }
}

/// A transport's next step that is not waiting.
pub(super) fn next(server: &mut SocketTransport, buffers: &mut Buffers) -> io::Result<Read> {
    for _ in 0..STEPS_MAX {
        match server.read(buffers) {
            Ok(Read::Blocked | Read::Nothing) => std::thread::yield_now(),
            other => return other,
        }
    }
    panic!("nothing comes");
}

/// The common name of the certificate that the client was shown.
pub(super) fn shown(dialog: &Dialog) -> String {
    let certificate = dialog.client.ssl().peer_certificate().unwrap();
    let name = certificate
        .subject_name()
        .entries()
        .next()
        .unwrap()
        .data()
        .to_string();
    name.unwrap()
}

pub(super) fn nothing(_: &mut SslContextBuilder) {}

pub(super) fn no_wish(_: &mut SslRef) {}

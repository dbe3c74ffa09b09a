//! One side of a stream of XML, client's or server's: sends what a test tells it to, right or wrong, and
//! reads whole elements.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use openssl::ssl::{ShutdownState, Ssl, SslRef, SslStream};
use stanzad::ns;
use stanzad::xml::{Bounds, Element, Header, Item, Parser};

use super::server::PATIENCE;

/// What is heard next.
#[derive(Debug)]
pub enum Heard {
    /// The other side's stream header.
    Open(Box<Header>),
    /// A whole child of the stream.
    Element(Element),
    /// `</stream:stream>`.
    Close,
    /// The other side has closed its direction of the connection.
    End,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    /// While TLS begins.
    None,
}

/// A connection with a stream on it.
pub struct Wire {
    socket: Socket,
    parser: Parser,
    /// Every byte heard since [`Wire::forget`], decrypted.
    pub raw: Vec<u8>,
    /// Whether pings by which a server asks what was received are heard like other elements; else they
    /// are neither heard nor answered.
    pub hears_pings: bool,
}

impl Wire {
    /// Takes a connection that has no TLS yet.
    pub fn over(socket: TcpStream) -> Wire {
        Wire {
            socket: Socket::Plain(patient(socket)),
            parser: Parser::new(Bounds::of(1 << 24)),
            raw: Vec::new(),
            hears_pings: false,
        }
    }

    /// Connects to an address.
    pub fn connect(address: SocketAddr) -> Wire {
        Wire::over(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
    }

    /// Connects from an address of this machine.
    pub fn connect_from(from: SocketAddr, to: SocketAddr) -> Wire {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect_timeout(&to.into(), PATIENCE).unwrap();
        Wire::over(socket.into())
    }

    // --- sending

    /// Sends bytes, which the other side has to take.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes; the other side may have closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(bytes.as_ref()),
            Socket::Tls(stream) => stream.write_all(bytes.as_ref()),
            Socket::None => unreachable!("TLS did not begin"),
        }
    }

    /// Sends as many of the bytes as there is room for on a socket that does not block, and gives their
    /// number. Where there is none, the same bytes have to come first next time.
    pub fn try_send_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
            Socket::None => unreachable!("TLS did not begin"),
        }
    }

    /// Closes our direction of the TCP connection, with no close of stream or TLS.
    pub fn shutdown(&mut self) {
        self.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// The socket under it all.
    pub fn tcp(&mut self) -> &mut TcpStream {
        match &mut self.socket {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => stream.get_mut(),
            Socket::None => unreachable!("TLS did not begin"),
        }
    }

    /// What TLS knows, on a connection with TLS.
    pub fn tls(&self) -> &SslRef {
        match &self.socket {
            Socket::Tls(stream) => stream.ssl(),
            _ => panic!("this connection has no TLS"),
        }
    }

    /// Whether the other side has ended TLS by close_notify.
    pub fn heard_close_notify(&mut self) -> bool {
        match &mut self.socket {
            Socket::Tls(stream) => stream.get_shutdown().contains(ShutdownState::RECEIVED),
            _ => false,
        }
    }

    // --- hearing

    /// What comes next, within [`PATIENCE`].
    ///
    /// # Errors
    /// The connection was reset or broken.
    pub fn try_hear(&mut self) -> io::Result<Heard> {
        loop {
            let next = self.parser.next();
            let raw = String::from_utf8_lossy(&self.raw);
            match next.unwrap_or_else(|error| panic!("{error:?} in {raw}")) {
                Some(Item::Open(header)) => return Ok(Heard::Open(header)),
                Some(Item::Top(top)) => {
                    if top.is(ns::SASL, "success") {
                        // A new stream follows (RFC 6120 §6.4.6).
                        self.parser.restart();
                    }
                    let element = top.to_element();
                    if is_server_ping(&element) && !self.hears_pings {
                        continue;
                    }
                    let Some(answer) = receipt(&element) else {
                        return Ok(Heard::Element(element));
                    };
                    // If the server has closed the connection since, what is heard next tells.
                    let _ = self.try_send(answer);
                    continue;
                }
                Some(Item::Close) => return Ok(Heard::Close),
                None => {}
            }
            let mut bytes = [0; 16 * 1024];
            let read = match &mut self.socket {
                Socket::Plain(socket) => socket.read(&mut bytes),
                Socket::Tls(stream) => stream.read(&mut bytes),
                Socket::None => unreachable!("TLS did not begin"),
            };
            match read {
                Ok(0) => return Ok(Heard::End),
                Ok(read) => {
                    self.raw.extend_from_slice(&bytes[..read]);
                    self.parser.feed(&bytes[..read]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    let raw = String::from_utf8_lossy(&self.raw);
                    panic!("nothing came for {PATIENCE:?}; all so far: {raw}")
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What comes next, which must come over an unbroken connection.
    pub fn hear(&mut self) -> Heard {
        self.try_hear().unwrap()
    }

    /// The element that comes next.
    pub fn element(&mut self) -> Element {
        match self.hear() {
            Heard::Element(element) => element,
            other => panic!("no element: {other:?}"),
        }
    }

    /// The stream header that comes next.
    pub fn hear_header(&mut self) -> Header {
        match self.hear() {
            Heard::Open(header) => *header,
            other => panic!("no header: {other:?}"),
        }
    }

    /// The stream has to end in an orderly way: `</stream:stream>`, then the connection's end.
    pub fn closes(&mut self) {
        let heard = self.hear();
        assert!(matches!(heard, Heard::Close), "{heard:?}");
        self.ends();
    }

    /// The server's direction of the connection has to end.
    pub fn ends(&mut self) {
        let heard = self.hear();
        assert!(matches!(heard, Heard::End), "{heard:?}");
    }

    /// A stream error with this condition has to come next, then the orderly end.
    pub fn fails(&mut self, condition: &str) {
        let error = self.element();
        assert!(error.is(ns::STREAM, "error"), "{}", text(&error));
        let found = error.elements().next().expect("it has a condition");
        assert_eq!(found.name, condition, "{}", text(&error));
        assert_eq!(found.ns, "urn:ietf:params:xml:ns:xmpp-streams");
        self.closes();
    }

    /// Forgets the bytes heard.
    pub fn forget(&mut self) {
        self.raw.clear();
    }

    /// Does the TLS handshake now, as its client; `Err` is its failure.
    pub fn handshake(&mut self, ssl: Ssl) -> Result<(), String> {
        self.begin_tls(ssl, |stream| stream.connect())
    }

    /// Does the TLS handshake now, as its server; `Err` is its failure.
    pub fn accept_handshake(&mut self, ssl: Ssl) -> Result<(), String> {
        self.begin_tls(ssl, |stream| stream.accept())
    }

    fn begin_tls(
        &mut self,
        ssl: Ssl,
        shake: impl FnOnce(&mut SslStream<TcpStream>) -> Result<(), openssl::ssl::Error>,
    ) -> Result<(), String> {
        let Socket::Plain(socket) = std::mem::replace(&mut self.socket, Socket::None) else {
            panic!("this connection has TLS already");
        };
        let mut stream = SslStream::new(ssl, socket).map_err(|error| error.to_string())?;
        shake(&mut stream).map_err(|error| error.to_string())?;
        self.socket = Socket::Tls(Box::new(stream));
        self.parser.restart();
        Ok(())
    }

    /// What comes next is a new stream, as after SASL.
    pub fn restart(&mut self) {
        self.parser.restart();
    }
}

/// The answer to the ping that follows offline messages, by which the server knows that they came. It
/// is answered beside all else, so that tests hear what people do.
fn receipt(element: &Element) -> Option<String> {
    let id = element
        .attribute("id")
        .filter(|id| id.starts_with("ask-"))?;
    element.find("urn:xmpp:ping", "ping")?;
    let to = element.attribute("from")?;
    Some(format!("<iq type='result' id='{id}' to='{to}'/>"))
}

/// Whether an element is the ping behind what a server has sent (XEP-0199 §4.3).
fn is_server_ping(element: &Element) -> bool {
    let id = element.attribute("id").unwrap_or_default();
    id.starts_with("receipt-") && element.find("urn:xmpp:ping", "ping").is_some()
}

/// An element as a test's message shows it.
pub fn text(element: &Element) -> String {
    String::from_utf8_lossy(&element.to_bytes()).into_owned()
}

/// Nothing on it waits for longer than [`PATIENCE`].
fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

//! A client that sends what a test tells it to, right or wrong, and reads whole elements.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::ssl::{
    ShutdownState, Ssl, SslConnector, SslConnectorBuilder, SslMethod, SslRef, SslStream,
    SslVerifyMode,
};
use stanzad::ns;
use stanzad::xml::{Bounds, Element, Header, Item, Parser};

use super::scram::{Channel, Scram};
use super::server::{PASSWORD, PATIENCE, Server};

/// What a client hears next.
#[derive(Debug)]
pub enum Heard {
    /// The server's stream header.
    Open(Box<Header>),
    /// A whole child of the stream.
    Element(Element),
    /// `</stream:stream>`.
    Close,
    /// The server has closed its direction of the connection.
    End,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
    /// While TLS begins.
    None,
}

/// A connection to a server, as its client.
pub struct Client {
    socket: Socket,
    parser: Parser,
    /// Every byte heard since [`Client::forget`], decrypted.
    pub raw: Vec<u8>,
    /// The full JID, once bound.
    pub jid: String,
}

impl Client {
    /// Connects without TLS.
    pub fn connect(server: &Server) -> Client {
        Client::connect_to(server.c2s)
    }

    /// Connects to an address without TLS.
    pub fn connect_to(address: SocketAddr) -> Client {
        Client::over(Socket::Plain(tcp(address)))
    }

    /// Connects without TLS from an address of this machine.
    pub fn connect_from(from: SocketAddr, to: SocketAddr) -> Client {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Client::over(Socket::Plain(patient(socket.into())))
    }

    /// Connects by direct TLS (XEP-0368), asking for example.org.
    pub fn connect_tls(server: &Server) -> Client {
        let ssl = ssl("example.org", |_| ());
        Client::over(Socket::Tls(handshake(ssl, tcp(server.c2s_tls)).unwrap()))
    }

    /// Connects by direct TLS with a session that the test has set up; `Err` is a failed handshake.
    pub fn try_connect_tls(server: &Server, ssl: Ssl) -> Result<Client, String> {
        let stream = handshake(ssl, tcp(server.c2s_tls))?;
        Ok(Client::over(Socket::Tls(stream)))
    }

    /// Connects and upgrades to TLS by STARTTLS for example.org; SASL comes next.
    pub fn secured(server: &Server) -> Client {
        let mut client = Client::connect(server);
        client.secure("example.org");
        client
    }

    /// Like [`Client::login`], but does not bind a resource yet; features were heard.
    pub fn authenticated(server: &Server, bare: &str) -> Client {
        let mut client = Client::connect(server);
        let (user, domain) = bare.split_once('@').unwrap();
        client.secure(domain);
        client.scram("SCRAM-SHA-256", user, PASSWORD).unwrap();
        client.open(domain);
        client
    }

    fn over(socket: Socket) -> Client {
        Client {
            socket,
            parser: Parser::new(Bounds::client(1 << 24)),
            raw: Vec::new(),
            jid: String::new(),
        }
    }

    /// Logs an account in over STARTTLS by SCRAM-SHA-256 with [`PASSWORD`] and binds a resource;
    /// `address` is a full JID, or a bare one whose resource the server makes.
    pub fn login(server: &Server, address: &str) -> Client {
        let (bare, resource) = match address.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (address, None),
        };
        let mut client = Client::authenticated(server, bare);
        client.bind(resource);
        client
    }

    /// Like [`Client::login`], and then sends initial presence.
    pub fn available(server: &Server, address: &str) -> Client {
        let mut client = Client::login(server, address);
        client.send("<presence/>");
        client.until_settled();
        client
    }

    // --- sending

    /// Sends bytes, which the server has to take.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes; the server may have closed the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.socket {
            Socket::Plain(socket) => socket.write_all(bytes.as_ref()),
            Socket::Tls(stream) => stream.write_all(bytes.as_ref()),
            Socket::None => unreachable!("TLS did not begin"),
        }
    }

    /// Sends a stream header of version 1.0.
    pub fn send_header(&mut self, domain: &str) {
        self.send(header(domain));
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

    /// Whether the server has ended TLS by close_notify.
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

    /// The stanza that comes next, which has to be of that kind.
    pub fn stanza(&mut self, name: &str) -> Element {
        let element = self.element();
        assert_eq!(
            (&*element.name, &*element.ns),
            (name, ns::CLIENT),
            "{}",
            text(&element)
        );
        element
    }

    /// The error stanza that comes next: kind and condition have to be these. It is given back.
    pub fn refused(&mut self, name: &str, condition: &str) -> Element {
        let stanza = self.stanza(name);
        assert_eq!(error_of(&stanza), condition, "{}", text(&stanza));
        stanza
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

    /// Everything sent so far has been handled by this session's shard, and nothing came back: a
    /// ping to the server is answered, and before its answer nothing is heard.
    pub fn settle(&mut self) {
        let heard = self.until_settled();
        assert!(heard.is_empty(), "{heard:?}");
    }

    /// Everything that comes before the answer to a ping to the server.
    pub fn until_settled(&mut self) -> Vec<Element> {
        self.send("<iq type='get' id='settle'><ping xmlns='urn:xmpp:ping'/></iq>");
        let mut heard = Vec::new();
        loop {
            let element = self.element();
            if element.name == "iq" && element.attribute("id") == Some("settle") {
                return heard;
            }
            heard.push(element);
        }
    }

    /// Forgets the bytes heard.
    pub fn forget(&mut self) {
        self.raw.clear();
    }

    // --- negotiating

    /// Opens a stream and gives its features. After TLS and after a login it is a new one.
    pub fn open(&mut self, domain: &str) -> Element {
        self.send_header(domain);
        self.opened();
        self.features()
    }

    /// The header that answers ours.
    pub fn opened(&mut self) -> Header {
        self.hear_header()
    }

    /// The features that come next.
    pub fn features(&mut self) -> Element {
        let features = self.element();
        assert!(features.is(ns::STREAM, "features"), "{}", text(&features));
        features
    }

    /// Asks for TLS on an open stream and does the handshake, with SNI.
    pub fn starttls(&mut self, domain: &str) {
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        let proceed = self.element();
        assert!(proceed.is(ns::TLS, "proceed"), "{}", text(&proceed));
        self.handshake(ssl(domain, |_| ())).unwrap();
    }

    /// Does the TLS handshake now; `Err` is its failure.
    pub fn handshake(&mut self, ssl: Ssl) -> Result<(), String> {
        let Socket::Plain(socket) = std::mem::replace(&mut self.socket, Socket::None) else {
            panic!("this connection has TLS already");
        };
        self.socket = Socket::Tls(handshake(ssl, socket)?);
        self.parser.restart();
        Ok(())
    }

    /// Opens a stream, upgrades it by STARTTLS, and opens it again; gives the features after TLS.
    pub fn secure(&mut self, domain: &str) -> Element {
        self.open(domain);
        self.starttls(domain);
        self.open(domain)
    }

    /// Begins SASL.
    pub fn auth(&mut self, mechanism: &str, initial: &[u8]) {
        let data = match STANDARD.encode(initial) {
            empty if empty.is_empty() => "=".to_owned(),
            data => data,
        };
        self.send(format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{data}</auth>"
        ));
    }

    /// Answers a challenge.
    pub fn respond(&mut self, data: &[u8]) {
        let data = STANDARD.encode(data);
        self.send(format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{data}</response>"
        ));
    }

    /// The outcome of SASL: the data of `<success/>`, or the failure. After a success the next
    /// thing has to be a new stream.
    pub fn outcome(&mut self) -> Result<Vec<u8>, Element> {
        let element = self.element();
        assert_eq!(element.ns, ns::SASL, "{}", text(&element));
        match &*element.name {
            "success" => Ok(match element.text().as_str() {
                "" | "=" => Vec::new(),
                data => STANDARD.decode(data).unwrap(),
            }),
            "failure" => Err(element),
            _ => panic!("neither success nor failure: {}", text(&element)),
        }
    }

    /// Logs in by PLAIN. `Err` is the failure.
    pub fn plain(&mut self, user: &str, password: &str) -> Result<(), Element> {
        self.auth("PLAIN", format!("\0{user}\0{password}").as_bytes());
        self.outcome().map(drop)
    }

    /// Logs in by SCRAM, with -PLUS by `tls-exporter`. `Err` is the failure.
    pub fn scram(&mut self, mechanism: &str, user: &str, password: &str) -> Result<(), Element> {
        let channel = if mechanism.ends_with("-PLUS") {
            Channel::Bound("tls-exporter".to_owned(), self.exporter())
        } else {
            Channel::Unable
        };
        self.scram_with(
            mechanism,
            &Scram::new(mechanism, user, password, None, channel),
        )
    }

    /// Logs in by SCRAM as the test has set it up; checks the server's signature.
    pub fn scram_with(&mut self, mechanism: &str, scram: &Scram) -> Result<(), Element> {
        self.auth(mechanism, scram.first().as_bytes());
        let challenge = self.challenge()?;
        let proof = scram.proof(&challenge);
        self.respond(proof.message.as_bytes());
        let success = self.outcome()?;
        assert_eq!(String::from_utf8(success).unwrap(), proof.expected);
        Ok(())
    }

    /// The challenge that comes next, decoded; `Err` is a failure in its place.
    pub fn challenge(&mut self) -> Result<String, Element> {
        let element = self.element();
        if element.is(ns::SASL, "failure") {
            return Err(element);
        }
        assert!(element.is(ns::SASL, "challenge"), "{}", text(&element));
        let data = STANDARD.decode(element.text()).unwrap();
        Ok(String::from_utf8(data).unwrap())
    }

    /// The channel binding `tls-exporter` of this connection (RFC 9266 §2).
    pub fn exporter(&self) -> Vec<u8> {
        let mut data = vec![0; 32];
        let label = "EXPORTER-Channel-Binding";
        let context: &[u8] = &[];
        self.tls()
            .export_keying_material(&mut data, label, Some(context))
            .unwrap();
        data
    }

    /// The channel binding `tls-server-end-point` of this connection (RFC 5929 §4).
    pub fn end_point(&self) -> Vec<u8> {
        let certificate = self.tls().peer_certificate().unwrap();
        let algorithm = certificate.signature_algorithm().object().nid();
        let digest = match algorithm.signature_algorithms().map(|found| found.digest) {
            Some(Nid::SHA384) => MessageDigest::sha384(),
            Some(Nid::SHA512) => MessageDigest::sha512(),
            _ => MessageDigest::sha256(),
        };
        hash(digest, &certificate.to_der().unwrap())
            .unwrap()
            .to_vec()
    }

    /// Binds a resource, or one that the server makes, and gives the full JID.
    pub fn bind(&mut self, resource: Option<&str>) -> String {
        let answer = self.try_bind(resource);
        assert_eq!(
            answer.attribute("type"),
            Some("result"),
            "{}",
            text(&answer)
        );
        let bind = answer.find(ns::BIND, "bind").unwrap();
        self.jid = bind.find(ns::BIND, "jid").unwrap().text();
        self.jid.clone()
    }

    /// Asks for a resource and gives the answer.
    pub fn try_bind(&mut self, resource: Option<&str>) -> Element {
        let resource = resource.map_or(String::new(), |resource| {
            format!("<resource>{resource}</resource>")
        });
        self.send(format!(
            "<iq type='set' id='bind'>\
             <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{resource}</bind></iq>"
        ));
        self.stanza("iq")
    }
}

/// A stream header of version 1.0.
pub fn header(domain: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' \
         xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
    )
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

/// The condition of an error stanza (RFC 6120 §8.3.2).
pub fn error_of(stanza: &Element) -> String {
    assert_eq!(stanza.attribute("type"), Some("error"), "{}", text(stanza));
    let error = stanza.find(ns::CLIENT, "error").expect("it has an error");
    let conditions: Vec<&Element> = error
        .elements()
        .filter(|child| child.ns == ns::STANZA_ERROR && child.name != "text")
        .collect();
    assert_eq!(conditions.len(), 1, "{}", text(stanza));
    conditions[0].name.clone()
}

/// The condition of a SASL failure (RFC 6120 §6.5).
pub fn failure_of(outcome: Result<(), Element>) -> String {
    let failure = outcome.expect_err("the login fails");
    let condition = failure.elements().next().expect("it has a condition");
    condition.name.clone()
}

/// An element as a test's message shows it.
pub fn text(element: &Element) -> String {
    String::from_utf8_lossy(&element.to_bytes()).into_owned()
}

/// A TLS session of a client that asks for `domain` and trusts any certificate.
pub fn ssl(domain: &str, set: impl FnOnce(&mut SslConnectorBuilder)) -> Ssl {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    builder.set_alpn_protos(b"\x0bxmpp-client").unwrap();
    set(&mut builder);
    let mut configuration = builder.build().configure().unwrap();
    configuration.set_verify_hostname(false);
    configuration.into_ssl(domain).unwrap()
}

fn handshake(ssl: Ssl, socket: TcpStream) -> Result<Box<SslStream<TcpStream>>, String> {
    let mut stream = SslStream::new(ssl, socket).map_err(|error| error.to_string())?;
    stream.connect().map_err(|error| error.to_string())?;
    Ok(Box::new(stream))
}

fn tcp(address: SocketAddr) -> TcpStream {
    patient(TcpStream::connect_timeout(&address, PATIENCE).unwrap())
}

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

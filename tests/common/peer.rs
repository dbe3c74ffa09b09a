//! A peer server that a test plays on both sides of a stream, right or wrong: it does nothing by itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::{Deref, DerefMut};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslVerifyMode};
use stanzad::ns;
use stanzad::xml::{Element, Header};

use super::authority::Issued;
use super::network::{PORT, PORT_TLS};
use super::server::{PATIENCE, Server};
use super::wire::{Heard, Wire, text};

/// A server with an address, a domain and a certificate.
pub struct Peer {
    pub domain: String,
    pub identity: Issued,
    listener: TcpListener,
    listener_tls: TcpListener,
}

/// One stream of a peer.
pub struct PeerStream {
    wire: Wire,
    /// The peer's domain.
    own: String,
    /// The domain at the other end.
    other: String,
    /// The id of the stream, once there is one (RFC 6120 §4.7.3).
    pub id: String,
}

impl Deref for PeerStream {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for PeerStream {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Peer {
    /// A peer that listens on the standard ports of an address.
    pub fn new(domain: &str, address: Ipv4Addr, identity: Issued) -> Peer {
        Peer {
            domain: domain.to_owned(),
            identity,
            listener: listen((address, PORT).into()),
            listener_tls: listen((address, PORT_TLS).into()),
        }
    }

    pub fn ip(&self) -> Ipv4Addr {
        match self.listener.local_addr().unwrap() {
            SocketAddr::V4(address) => *address.ip(),
            SocketAddr::V6(address) => panic!("{address}"),
        }
    }

    // --- dialled by the server under test

    /// Takes the next connection to the port of streams that begin in the clear.
    pub fn accept(&self) -> PeerStream {
        let (socket, _) = self.listener.accept().unwrap_or_else(never);
        self.over(Wire::over(socket), "")
    }

    /// Takes the next connection to the port of direct TLS, and does the handshake.
    pub fn accept_direct(&self) -> PeerStream {
        let (socket, _) = self.listener_tls.accept().unwrap_or_else(never);
        let mut wire = Wire::over(socket);
        wire.accept_handshake(self.acceptor()).unwrap();
        self.over(wire, "")
    }

    /// Takes the next connection, upgrades it by STARTTLS, and hears the header of the second stream,
    /// which is not answered yet.
    pub fn accept_secured(&self) -> PeerStream {
        let mut stream = self.accept();
        stream.hear_open();
        stream.answer("0");
        stream.send(format!(
            "<stream:features><starttls xmlns='{}'><required/></starttls></stream:features>",
            ns::TLS
        ));
        stream.accept_starttls(self);
        stream.hear_open();
        stream
    }

    /// Takes the next connection, upgrades it, and takes the EXTERNAL of the server under test.
    pub fn accept_external(&self) -> PeerStream {
        let mut stream = self.accept_external_until_features();
        stream.offer("");
        stream
    }

    fn accept_external_until_features(&self) -> PeerStream {
        let mut stream = self.accept_secured();
        stream.answer("1");
        stream.offer("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>");
        let auth = stream.element();
        assert!(auth.is(ns::SASL, "auth"), "{}", text(&auth));
        assert_eq!(auth.attribute("mechanism"), Some("EXTERNAL"));
        let identity = STANDARD.decode(auth.text()).unwrap();
        assert_eq!(String::from_utf8(identity).unwrap(), stream.other);
        stream.send(format!("<success xmlns='{}'/>", ns::SASL));
        stream.restart();
        stream.hear_open();
        stream.answer("2");
        stream
    }

    /// Takes the next connection and everything on it, up to where stanzas flow and are counted
    /// (XEP-0198).
    pub fn accept_managed(&self) -> PeerStream {
        let mut stream = self.accept_external_until_features();
        stream.offer("<sm xmlns='urn:xmpp:sm:3'/>");
        let enable = stream.element();
        assert!(
            enable.is(ns::STREAM_MANAGEMENT, "enable"),
            "{}",
            text(&enable)
        );
        assert_eq!(enable.attribute("resume"), None);
        stream.send("<enabled xmlns='urn:xmpp:sm:3'/>");
        stream
    }

    /// Takes the next connection, upgrades it, offers nothing, and hears the dialback key by which the
    /// server under test proves itself. The key is not answered yet.
    pub fn accept_dialback(&self) -> (PeerStream, Element) {
        let mut stream = self.accept_secured();
        stream.answer("1");
        stream.offer("");
        let key = stream.element();
        assert!(key.is(ns::DIALBACK, "result"), "{}", text(&key));
        (stream, key)
    }

    /// Takes the next connection and everything on it, up to where stanzas flow.
    pub fn accept_ready(&self) -> PeerStream {
        let (mut stream, _) = self.accept_dialback();
        let (own, other) = (stream.own.clone(), stream.other.clone());
        stream.send(format!(
            "<db:result from='{own}' to='{other}' type='valid'/>"
        ));
        stream
    }

    /// Whether a connection waits to be taken.
    pub fn is_dialled(&self) -> bool {
        [&self.listener, &self.listener_tls].iter().any(|listener| {
            listener.set_nonblocking(true).unwrap();
            let accepted = listener.accept();
            listener.set_nonblocking(false).unwrap();
            match accepted {
                Ok(_) => true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                Err(error) => panic!("{error}"),
            }
        })
    }

    /// The server's side of TLS, with this peer's certificate. A certificate of the client is asked for
    /// and not looked at.
    pub fn acceptor(&self) -> Ssl {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        builder.set_certificate(&self.identity.certificate).unwrap();
        builder.set_private_key(&self.identity.key).unwrap();
        builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        builder.set_alpn_select_callback(|_, offered| {
            openssl::ssl::select_next_proto(b"\x0bxmpp-server", offered)
                .ok_or(openssl::ssl::AlpnError::NOACK)
        });
        Ssl::new(builder.build().context()).unwrap()
    }

    // --- dialling the server under test

    /// Connects to a server in the clear, and says nothing yet. `domain` is the one that is wanted.
    pub fn dial(&self, server: &Server, domain: &str) -> PeerStream {
        self.over(self.connect(server.s2s), domain)
    }

    /// Connects to a server by direct TLS, and says nothing yet.
    pub fn dial_direct(&self, server: &Server, domain: &str) -> PeerStream {
        let mut wire = self.connect(server.s2s_tls);
        wire.handshake(self.connector(domain)).unwrap();
        self.over(wire, domain)
    }

    /// Connects to a server, upgrades the stream by STARTTLS, and opens the second one. Gives its
    /// features too.
    pub fn dial_secured(&self, server: &Server, domain: &str) -> (PeerStream, Element) {
        let mut stream = self.dial(server, domain);
        stream.open();
        stream.starttls(self.connector(domain));
        let features = stream.open();
        (stream, features)
    }

    /// The same, and proves the domain by EXTERNAL: stanzas can be sent.
    pub fn dial_external(&self, server: &Server, domain: &str) -> PeerStream {
        let (mut stream, _) = self.dial_secured(server, domain);
        stream.external();
        stream.open();
        stream
    }

    /// The client's side of TLS, with this peer's certificate.
    pub fn connector(&self, domain: &str) -> Ssl {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_alpn_protos(b"\x0bxmpp-server").unwrap();
        self.identity.show(&mut builder);
        let mut configuration = builder.build().configure().unwrap();
        configuration.set_verify_hostname(false);
        configuration.into_ssl(domain).unwrap()
    }

    /// Connects from the peer's own address.
    fn connect(&self, to: SocketAddr) -> Wire {
        Wire::connect_from((self.ip(), 0).into(), to)
    }

    /// A stream of the peer on a connection; `other` is the domain that is wanted.
    pub fn over(&self, wire: Wire, other: &str) -> PeerStream {
        PeerStream {
            wire,
            own: self.domain.clone(),
            other: other.to_owned(),
            id: String::new(),
        }
    }
}

impl PeerStream {
    // --- as the receiving entity

    /// The header of the server under test, which names both domains.
    pub fn hear_open(&mut self) -> Header {
        let header = self.hear_header();
        assert_eq!(header.to.as_deref(), Some(&*self.own), "{header:?}");
        self.other = header.from.clone().expect("the header names its sender");
        header
    }

    /// Answers a header; the stream gets this id.
    pub fn answer(&mut self, id: &str) {
        self.id = id.to_owned();
        let header = header(&self.own, &self.other, &format!(" id='{id}'"));
        self.send(header);
    }

    /// Sends features.
    pub fn offer(&mut self, features: &str) {
        self.send(format!("<stream:features>{features}</stream:features>"));
    }

    /// The other side has to ask for TLS, and gets it.
    pub fn accept_starttls(&mut self, peer: &Peer) {
        let starttls = self.element();
        assert!(starttls.is(ns::TLS, "starttls"), "{}", text(&starttls));
        self.send(format!("<proceed xmlns='{}'/>", ns::TLS));
        self.accept_handshake(peer.acceptor()).unwrap();
    }

    // --- as the initiating entity

    /// Opens a stream and gives its features.
    pub fn open(&mut self) -> Element {
        self.send_header();
        let header = self.hear_header();
        assert_eq!(header.from.as_deref(), Some(&*self.other), "{header:?}");
        assert_eq!(header.to.as_deref(), Some(&*self.own), "{header:?}");
        self.id = header.id.expect("the stream has an id");
        let features = self.element();
        assert!(features.is(ns::STREAM, "features"), "{}", text(&features));
        features
    }

    /// Sends a header.
    pub fn send_header(&mut self) {
        let header = header(&self.own, &self.other, "");
        self.send(header);
    }

    /// Asks for TLS, and gets it.
    pub fn starttls(&mut self, ssl: Ssl) {
        self.send(format!("<starttls xmlns='{}'/>", ns::TLS));
        let proceed = self.element();
        assert!(proceed.is(ns::TLS, "proceed"), "{}", text(&proceed));
        self.handshake(ssl).unwrap();
    }

    /// Proves the domain by EXTERNAL (XEP-0178 §3); a new stream is to be opened.
    pub fn external(&mut self) {
        let identity = STANDARD.encode(&self.own);
        self.send(format!(
            "<auth xmlns='{}' mechanism='EXTERNAL'>{identity}</auth>",
            ns::SASL
        ));
        let success = self.element();
        assert!(success.is(ns::SASL, "success"), "{}", text(&success));
    }

    // --- stanzas

    /// The stanza that comes next, which has to be of that kind. The parser shows those of its children that
    /// are in the content namespace as of `jabber:client`.
    pub fn stanza(&mut self, name: &str) -> Element {
        let element = self.element();
        assert!(element.is(ns::SERVER, name), "{}", text(&element));
        element
    }

    /// Everything sent so far has been handled: a ping from one of the peer's own accounts to the other
    /// domain is sent, whose answer comes on the way back. Gives the stanzas before it; `back` is the
    /// stream by which the server under test sends to the peer.
    pub fn until_settled(&mut self, back: &mut PeerStream) -> Vec<Element> {
        let (own, other) = (&self.own, &self.other);
        let ping = format!(
            "<iq type='get' id='settle' from='settle@{own}/1' to='{other}'>\
             <ping xmlns='urn:xmpp:ping'/></iq>"
        );
        self.send(ping);
        let mut heard = Vec::new();
        loop {
            match back.hear() {
                Heard::Element(element) if element.attribute("id") == Some("settle") => {
                    return heard;
                }
                Heard::Element(element) => heard.push(element),
                other => panic!("{other:?} after {heard:?}"),
            }
        }
    }
}

/// A stream header between servers.
pub fn header(from: &str, to: &str, more: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:server' \
         xmlns:db='jabber:server:dialback' xmlns:stream='http://etherx.jabber.org/streams' \
         from='{from}' to='{to}' version='1.0'{more}>"
    )
}

/// Accepting on it waits for no longer than [`PATIENCE`].
fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    let socket = socket2::SockRef::from(&listener);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    listener
}

fn never<T>(error: io::Error) -> T {
    panic!("nobody has connected: {error}")
}

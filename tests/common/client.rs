//! A client that sends what a test tells it to, right or wrong, and reads whole elements.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::ssl::{Ssl, SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use stanzad::ns;
use stanzad::xml::{Element, Header};

use super::scram::{Channel, Scram};
use super::server::{PASSWORD, Server};
pub use super::wire::{Heard, Wire, text};

/// A connection to a server, as its client.
pub struct Client {
    wire: Wire,
    /// The full JID, once bound.
    pub jid: String,
}

impl Deref for Client {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Client {
    /// Connects without TLS.
    pub fn connect(server: &Server) -> Client {
        Client::connect_to(server.c2s)
    }

    /// Connects to an address without TLS.
    pub fn connect_to(address: SocketAddr) -> Client {
        Client::over(Wire::connect(address))
    }

    /// Connects without TLS from an address of this machine.
    pub fn connect_from(from: SocketAddr, to: SocketAddr) -> Client {
        Client::over(Wire::connect_from(from, to))
    }

    /// Connects by direct TLS (XEP-0368), asking for example.org.
    pub fn connect_tls(server: &Server) -> Client {
        let ssl = ssl("example.org", |_| ());
        Client::try_connect_tls(server, ssl).unwrap()
    }

    /// Connects by direct TLS with a session that the test has set up; `Err` is a failed handshake.
    pub fn try_connect_tls(server: &Server, ssl: Ssl) -> Result<Client, String> {
        let mut wire = Wire::connect(server.c2s_tls);
        wire.handshake(ssl)?;
        Ok(Client::over(wire))
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

    fn over(wire: Wire) -> Client {
        Client {
            wire,
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

    /// Sends a stream header of version 1.0.
    pub fn send_header(&mut self, domain: &str) {
        self.send(header(domain));
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

//! Looking at an XMPP server from outside, one address at a time: the connection, STARTTLS or direct
//! TLS, the certificates that it shows, and what it offers then. For `stanzad explain` and
//! `stanzad check`: it blocks, up to its deadline, and has no place on a reactor.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::ssl::SslStream;

use super::tls::{ALPN_CLIENT, TlsContexts};
use super::tls_facts;
use super::transport::TlsFacts;
use crate::dns::Service;
use crate::ns;
use crate::xml::{Bounds, Element, Item, Parser, attribute};

/// Bytes of one element that is looked at: features are some hundred bytes long.
const ELEMENT_BYTES_MAX: usize = 64 * 1024;

/// Where to look, and in whose name.
pub struct Probe<'a> {
    /// Where.
    pub address: SocketAddr,
    /// What is expected there.
    pub service: Service,
    /// Whether TLS comes first (XEP-0368).
    pub is_direct: bool,
    /// The domain that is asked for, as in a JID.
    pub domain: &'a str,
    /// The same in A-labels, for SNI.
    pub ascii: &'a str,
    /// The domain that asks; its certificate is shown if it has one.
    pub from: Option<&'a str>,
    /// The rules of TLS, and the certificates; those for servers.
    pub contexts: &'a Arc<TlsContexts>,
}

/// What was seen, as far as it went.
#[derive(Debug, Default)]
pub struct Seen {
    /// How long the connection took; none if there is none.
    pub connected_after: Option<Duration>,
    /// What was offered before TLS.
    pub before_tls: Option<Offer>,
    /// What TLS agreed on, with the certificates that were shown.
    pub tls: Option<TlsFacts>,
    /// What was offered behind TLS.
    pub offer: Option<Offer>,
    /// Why it went no further.
    pub stop: Option<Stop>,
}

/// What a server offers in its stream features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// STARTTLS.
    pub starttls: bool,
    /// Nothing without it (RFC 6120 §5.4.1).
    pub starttls_required: bool,
    /// SASL mechanisms.
    pub mechanisms: Vec<String>,
    /// Dialback (XEP-0220 §2.4.2).
    pub dialback: bool,
    /// Use of the stream in both directions (XEP-0288).
    pub bidi: bool,
}

/// Why a look went no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// No connection could be made.
    Unreachable(String),
    /// Nothing came in time; what was waited for.
    TimedOut(&'static str),
    /// The connection was closed, or broke, while this was waited for.
    Closed(&'static str, String),
    /// It ended the stream with an error: condition and text.
    StreamError(String, String),
    /// It answered in the name of another domain, this one, and offered nothing.
    Misnamed(String),
    /// It does not do TLS here.
    NoTls,
    /// The TLS handshake failed.
    Handshake(String),
    /// What it says is not XMPP.
    NotXmpp(String),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Unreachable(why) => write!(f, "no connection: {why}"),
            Stop::TimedOut(what) => write!(f, "{what} did not come in time"),
            Stop::Closed(what, why) => write!(f, "closed while {what} was waited for: {why}"),
            Stop::StreamError(condition, text) if text.is_empty() => {
                write!(f, "it ended the stream: {condition}")
            }
            Stop::StreamError(condition, text) => {
                write!(f, "it ended the stream: {condition}, \"{text}\"")
            }
            Stop::Misnamed(name) => write!(f, "it answered as \"{name}\""),
            Stop::NoTls => f.write_str("it does not encrypt: it refuses STARTTLS"),
            Stop::Handshake(why) => write!(f, "the TLS handshake failed: {why}"),
            Stop::NotXmpp(why) => write!(f, "what it says is not XMPP: {why}"),
        }
    }
}

/// A socket on which nothing takes longer than until a deadline.
struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }
}

/// A socket's time-out is told as "would block", which OpenSSL would try again.
fn as_time_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(buffer).map_err(as_time_out)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(buffer).map_err(as_time_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// A stream of XML over whatever carries bytes.
struct Talk<S> {
    bytes: S,
    parser: Parser,
}

impl<S: Read + Write> Talk<S> {
    fn new(bytes: S) -> Talk<S> {
        Talk {
            bytes,
            parser: Parser::new(Bounds::client(ELEMENT_BYTES_MAX)),
        }
    }

    fn say(&mut self, text: &[u8], what: &'static str) -> Result<(), Stop> {
        let said = self.bytes.write_all(text).and_then(|()| self.bytes.flush());
        said.map_err(|error| broken(&error, what))
    }

    fn hear(&mut self, what: &'static str) -> Result<Item, Stop> {
        let mut buffer = [0; 4096];
        loop {
            match self.parser.next() {
                Ok(Some(item)) => return Ok(item),
                Ok(None) => {}
                Err(error) => return Err(Stop::NotXmpp(error.text().into_owned())),
            }
            match self.bytes.read(&mut buffer) {
                Ok(0) => return Err(Stop::Closed(what, "the end of the connection".to_owned())),
                Ok(count) => self.parser.feed(buffer.get(..count).unwrap_or_default()),
                Err(error) => return Err(broken(&error, what)),
            }
        }
    }

    /// Opens a stream and reads what is offered there; none if the server knows no features.
    fn open(&mut self, probe: &Probe<'_>) -> Result<Option<Offer>, Stop> {
        self.say(&probe.header(), "the stream's header")?;
        let header = match self.hear("the stream's header")? {
            Item::Open(header) => header,
            Item::Top(_) | Item::Close => {
                return Err(Stop::NotXmpp("no stream header".to_owned()));
            }
        };
        let has_features = header.version.is_some();
        let other_name = header.from.filter(|from| from != probe.domain);
        if !has_features {
            return Ok(None);
        }
        let top = self.element("the stream's features")?;
        match (top.is(ns::STREAM, "features"), other_name) {
            (true, None) => Ok(Some(Offer::of(&top))),
            (true, Some(name)) => Err(Stop::Misnamed(name)),
            (false, _) => Err(Stop::NotXmpp(format!(
                "<{}/> in place of stream features",
                top.name
            ))),
        }
    }

    /// The next element; a stream error is an error.
    fn element(&mut self, what: &'static str) -> Result<Element, Stop> {
        match self.hear(what)? {
            Item::Top(top) => {
                let element = top.to_element();
                match element.is(ns::STREAM, "error") {
                    true => Err(stream_error(&element)),
                    false => Ok(element),
                }
            }
            Item::Close => Err(Stop::Closed(what, "the end of the stream".to_owned())),
            Item::Open(_) => Err(Stop::NotXmpp("a second stream header".to_owned())),
        }
    }
}

impl Offer {
    fn of(features: &Element) -> Offer {
        let mut offer = Offer::default();
        for feature in features.elements() {
            match (&*feature.ns, &*feature.name) {
                (ns::TLS, "starttls") => {
                    offer.starttls = true;
                    offer.starttls_required = feature.find(ns::TLS, "required").is_some();
                }
                (ns::SASL, "mechanisms") => {
                    let names = feature.elements().map(Element::text);
                    offer.mechanisms = names.collect();
                }
                (ns::DIALBACK_FEATURE, "dialback") => offer.dialback = true,
                ("urn:xmpp:features:bidi", "bidi") => offer.bidi = true,
                _ => {}
            }
        }
        offer
    }
}

impl Probe<'_> {
    /// Looks, until the deadline at the latest.
    pub fn look(&self, deadline: Instant) -> Seen {
        let mut seen = Seen::default();
        if let Err(stop) = self.look_into(deadline, &mut seen) {
            seen.stop = Some(stop);
        }
        seen
    }

    fn look_into(&self, deadline: Instant, seen: &mut Seen) -> Result<(), Stop> {
        let began = Instant::now();
        let left = deadline.saturating_duration_since(began);
        if left.is_zero() {
            return Err(Stop::TimedOut("the connection"));
        }
        let socket = TcpStream::connect_timeout(&self.address, left).map_err(|error| {
            match as_time_out(error) {
                error if error.kind() == io::ErrorKind::TimedOut => {
                    Stop::TimedOut("the connection")
                }
                error => Stop::Unreachable(error.to_string()),
            }
        })?;
        seen.connected_after = Some(began.elapsed());
        let mut plain = Timed { socket, deadline };
        if !self.is_direct {
            plain = self.start_tls(plain, seen)?;
        }
        let mut secure = Talk::new(self.handshake(plain, seen)?);
        seen.offer = secure.open(self)?;
        // The end of a stream that nobody waits for.
        let _ = secure.say(b"</stream:stream>", "the end");
        Ok(())
    }

    /// Asks for TLS, also where it is not offered (RFC 7590 §3.1).
    fn start_tls(&self, plain: Timed, seen: &mut Seen) -> Result<Timed, Stop> {
        let mut talk = Talk::new(plain);
        let offer = talk.open(self)?;
        seen.before_tls.clone_from(&offer);
        let what = "the answer to STARTTLS";
        talk.say(format!("<starttls xmlns='{}'/>", ns::TLS).as_bytes(), what)?;
        // Who does not know it may also end the stream, which means the same.
        match talk.element(what) {
            Ok(answer) if answer.is(ns::TLS, "proceed") => Ok(talk.bytes),
            Ok(_) => Err(Stop::NoTls),
            Err(Stop::StreamError(..) | Stop::Closed(..))
                if offer.as_ref().is_some_and(|offer| !offer.starttls) =>
            {
                Err(Stop::NoTls)
            }
            Err(stop) => Err(stop),
        }
    }

    fn handshake(&self, plain: Timed, seen: &mut Seen) -> Result<SslStream<Timed>, Stop> {
        let refused = |error: &dyn fmt::Display| Stop::Handshake(error.to_string());
        let from = self.from.unwrap_or_default();
        let mut ssl = self
            .contexts
            .connect(from, self.ascii, self.is_direct)
            .map_err(|error| refused(&error))?;
        if self.is_direct && self.service == Service::Client {
            ssl.set_alpn_protos(ALPN_CLIENT)
                .map_err(|error| refused(&error))?;
        }
        let mut stream = SslStream::new(ssl, plain).map_err(|error| refused(&error))?;
        stream
            .do_handshake()
            .map_err(|error| match error.io_error() {
                Some(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Stop::TimedOut("the TLS handshake")
                }
                _ => Stop::Handshake(in_short(&error)),
            })?;
        let facts = tls_facts::collect(stream.ssl(), None).map_err(|error| refused(&error))?;
        seen.tls = Some(facts);
        Ok(stream)
    }

    fn header(&self) -> Vec<u8> {
        let mut out = b"<?xml version='1.0'?><stream:stream xmlns='".to_vec();
        out.extend_from_slice(match self.service {
            Service::Client => ns::CLIENT.as_bytes(),
            Service::Server => ns::SERVER.as_bytes(),
        });
        out.extend_from_slice(b"' xmlns:stream='http://etherx.jabber.org/streams'");
        if self.service == Service::Server {
            out.extend_from_slice(b" xmlns:db='jabber:server:dialback'");
        }
        for (name, value) in [("from", self.from), ("to", Some(self.domain))] {
            if let Some(value) = value {
                attribute(&mut out, name, value);
            }
        }
        out.extend_from_slice(b" version='1.0'>");
        out
    }
}

fn broken(error: &io::Error, what: &'static str) -> Stop {
    match error.kind() {
        io::ErrorKind::TimedOut => Stop::TimedOut(what),
        _ => Stop::Closed(what, error.to_string()),
    }
}

fn stream_error(element: &Element) -> Stop {
    let mut children = element.elements();
    let condition = children.next().map_or("", |child| &child.name).to_owned();
    let text = element.elements().find(|child| child.name == "text");
    Stop::StreamError(condition, text.map(Element::text).unwrap_or_default())
}

/// The reason alone, of OpenSSL's line with functions and numbers.
fn in_short(error: &openssl::ssl::Error) -> String {
    let stack = error.ssl_error().map(|stack| stack.errors());
    let reason = stack
        .and_then(<[_]>::first)
        .and_then(|first| first.reason());
    match (reason, error.io_error()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(error)) => error.to_string(),
        (None, None) => "the connection was closed".to_owned(),
    }
}

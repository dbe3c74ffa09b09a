//! Looking at an XMPP server from outside, one address at a time: the connection, STARTTLS or direct
//! TLS, the certificates that it shows, and what it offers then. For `stanzad explain` and
//! `stanzad check`: it blocks, up to its deadline, and has no place on a reactor.

mod component;
mod talk;

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use openssl::ssl::SslStream;

pub use self::component::component;
use self::talk::{Talk, Timed};
use super::tls::{ALPN_CLIENT, TlsContexts};
use super::tls_facts;
use super::transport::TlsFacts;
use crate::dns::Service;
use crate::ns;
use crate::xml::{Element, Header, Top, attribute};

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
    /// What TLS agreed on, with the certificates that were shown.
    pub tls: Option<TlsFacts>,
    /// What was offered behind TLS.
    pub offer: Option<Offer>,
    /// Why it went no further.
    pub stop: Option<Stop>,
}

/// A stream behind TLS that was looked at, and on which more can be said. It ends without a word if it is
/// just dropped.
pub struct Secured {
    talk: Talk<SslStream<Timed>>,
    /// The id that the server has given it, to which dialback keys are bound.
    pub id: String,
}

/// What a server offers in its stream features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// STARTTLS.
    pub starttls: bool,
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

impl Offer {
    fn of(features: &Element) -> Offer {
        let mut offer = Offer::default();
        for feature in features.elements() {
            match (&*feature.ns, &*feature.name) {
                (ns::TLS, "starttls") => offer.starttls = true,
                (ns::SASL, "mechanisms") => {
                    let names = feature.elements().map(Element::text);
                    offer.mechanisms = names.collect();
                }
                (ns::DIALBACK_FEATURE, "dialback") => offer.dialback = true,
                (ns::BIDI_FEATURE, "bidi") => offer.bidi = true,
                _ => {}
            }
        }
        offer
    }
}

impl Probe<'_> {
    /// Looks, until the deadline at the latest.
    pub fn look(&self, deadline: Instant) -> Seen {
        let (seen, secured) = self.look_and_stay(deadline);
        if let Some(secured) = secured {
            secured.close();
        }
        seen
    }

    /// The same, for who has more to say then: the stream stays open, if it got as far as that.
    pub fn look_and_stay(&self, deadline: Instant) -> (Seen, Option<Secured>) {
        let mut seen = Seen::default();
        match self.look_into(deadline, &mut seen) {
            Ok(secured) => (seen, Some(secured)),
            Err(stop) => {
                seen.stop = Some(stop);
                (seen, None)
            }
        }
    }

    fn look_into(&self, deadline: Instant, seen: &mut Seen) -> Result<Secured, Stop> {
        let mut plain = Timed::connect(self.address, deadline)?;
        if !self.is_direct {
            plain = self.start_tls(plain)?;
        }
        let mut secure = Talk::new(self.handshake(plain, seen)?);
        let header = self.open(&mut secure)?;
        let id = header.id.clone().unwrap_or_default();
        seen.offer = secure.offer(header, self.domain)?;
        Ok(Secured { talk: secure, id })
    }

    /// Opens a stream.
    fn open<S: Read + Write>(&self, talk: &mut Talk<S>) -> Result<Header, Stop> {
        talk.say(&self.header(), "the stream's header")?;
        talk.header()
    }

    /// Asks for TLS, also where it is not offered (RFC 7590 §3.1).
    fn start_tls(&self, plain: Timed) -> Result<Timed, Stop> {
        let mut talk = Talk::new(plain);
        let header = self.open(&mut talk)?;
        let offer = talk.offer(header, self.domain)?;
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

impl Secured {
    /// Lets what follows take until then.
    pub fn extend(&mut self, deadline: Instant) {
        self.talk.bytes.get_mut().deadline = deadline;
    }

    /// Says something; `what` is it.
    ///
    /// # Errors
    /// The connection is gone, or takes nothing in time.
    pub fn say(&mut self, text: &[u8], what: &'static str) -> Result<(), Stop> {
        self.talk.say(text, what)
    }

    /// The next element; `what` is waited for.
    ///
    /// # Errors
    /// There is none, or a stream error.
    pub fn hear(&mut self, what: &'static str) -> Result<Top, Stop> {
        self.talk.top(what)
    }

    /// Ends the stream.
    pub fn close(mut self) {
        // Nobody waits for it any more.
        let _ = self.talk.say(b"</stream:stream>", "the end");
    }
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

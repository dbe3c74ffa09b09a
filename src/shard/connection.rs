//! A connection as its shard holds it: transport, parser and stream machine.

use std::sync::Arc;

use crate::clock::Mono;
use crate::config::ComponentSettings;
use crate::jid::BareJid;
use crate::net::transport::Transport;
use crate::router::account::Proof;
use crate::shard::budget::Budget;
use crate::stream::Event;
use crate::stream::machine::Machine;
use crate::xml::{Bounds, Item, Parser};

/// One connection, with a client, another server or a component.
pub struct Connection {
    /// The socket, with or without TLS.
    pub transport: Box<dyn Transport>,
    /// The peer's XML.
    pub input: Input,
    /// The stream machine.
    pub stream: Machine,
    /// What is to happen when everything is sent.
    pub ending: Ending,
    /// What its stream may send.
    pub budget: Budget,
    /// Until when it is not read: it has sent more than it may, or waits for its handshake.
    pub paused_until: Option<Mono>,
    /// Whether it has proven nothing yet.
    pub is_newcomer: bool,
    /// Whether the log has told that it is slowed.
    pub is_told: bool,
    /// The earliest time at which a timer looks at it.
    pub armed: Option<Mono>,
    /// Whether it stands on the list of connections to go on reading.
    pub is_listed: bool,
    /// Whether it sent so much when it was last read that it waits among those that do.
    pub is_flood: bool,
    /// Whether the socket took no more bytes when last tried.
    pub is_blocked: bool,
    /// Whether it stands in the queue of those that may come to rest.
    pub is_watched: bool,
    /// Why the transport has failed, for who dialled.
    pub failure: Option<Box<str>>,
}

/// What happens to a connection when its output is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    #[default]
    No,
    /// The TLS handshake begins; with the stream's `to`.
    StartTls(String),
    /// Our direction is closed.
    Shutdown,
    /// Our direction is closed, and the connection dropped.
    Drop,
    /// Our direction is closed already.
    IsShut,
}

/// The peer's XML, as long as it is well-formed.
pub struct Input {
    reading: Reading,
    is_broken: bool,
    is_dry: bool,
}

/// A parser takes 4 KiB, an eighth of an idle session; making one costs as much as a small stanza.
enum Reading {
    Awake(Box<Parser>),
    /// Between two elements of a stream that has been silent for a while.
    AtRest(Bounds),
}

impl Reading {
    fn awake(&mut self) -> &mut Parser {
        if let Reading::AtRest(bounds) = self {
            *self = Reading::Awake(Box::new(Parser::resumed(*bounds)));
        }
        match self {
            Reading::Awake(parser) => parser,
            Reading::AtRest(_) => unreachable!("it was woken"),
        }
    }
}

/// A connection on its way to the shard of who the peer has proven to be, with everything that belongs
/// to it.
pub struct Moving {
    /// The connection; its stream machine waits for what that shard says.
    pub connection: Connection,
    /// Bytes that are still to be sent.
    pub output: Vec<u8>,
    /// What it has proven.
    pub proven: Proven,
}

/// What takes a connection to another shard.
pub enum Proven {
    /// A client has proven an account, and how.
    Account(BareJid, Proof),
    /// Another server has proven its first domain.
    Peer,
    /// A component has proven that it is the one of these settings.
    Component(Arc<ComponentSettings>),
}

impl Connection {
    /// A connection that was just accepted or dialled.
    pub fn new(transport: Box<dyn Transport>, stream: Machine) -> Connection {
        Connection {
            transport,
            input: Input::new(),
            stream,
            ending: Ending::No,
            budget: Budget::default(),
            paused_until: None,
            is_newcomer: true,
            is_told: false,
            armed: None,
            is_listed: false,
            is_flood: false,
            is_blocked: false,
            is_watched: false,
            failure: None,
        }
    }
}

impl Input {
    fn new() -> Input {
        Input {
            reading: Reading::Awake(Box::new(Parser::new(Bounds::UNAUTHENTICATED))),
            is_broken: false,
            is_dry: true,
        }
    }

    /// Takes bytes from the peer. After broken ones nothing is looked at any more.
    pub fn feed(&mut self, bytes: &[u8]) {
        // White space between stanzas keeps a connection alive (RFC 6120 §4.6.1), and says nothing.
        let is_at_rest = matches!(self.reading, Reading::AtRest(_));
        if is_at_rest && bytes.iter().all(|byte| b" \t\r\n".contains(byte)) {
            return;
        }
        if !self.is_broken {
            self.reading.awake().feed(bytes);
            self.is_dry = false;
        }
    }

    /// The next event in the bytes so far.
    pub fn next_event(&mut self) -> Option<Event> {
        if self.is_broken || self.is_dry {
            return None;
        }
        match self.reading.awake().next() {
            Ok(Some(Item::Open(header))) => Some(Event::Open(header)),
            Ok(Some(Item::Top(top))) => Some(Event::Top(top)),
            Ok(Some(Item::Close)) => Some(Event::Close),
            Ok(None) => {
                self.is_dry = true;
                None
            }
            Err(error) => {
                self.is_broken = true;
                Some(Event::BadXml(error))
            }
        }
    }

    /// Bytes behind the last event.
    pub fn unread(&self) -> usize {
        match &self.reading {
            Reading::Awake(parser) => parser.unread(),
            Reading::AtRest(_) => 0,
        }
    }

    /// A new document follows; bytes behind the last event belong to it.
    pub fn restart(&mut self) {
        let parser = self.reading.awake();
        parser.restart();
        self.is_dry = parser.unread() == 0;
    }

    /// Accepts elements up to so many bytes.
    pub fn accept(&mut self, element_bytes_max: usize) {
        let bounds = Bounds::of(element_bytes_max);
        match &mut self.reading {
            Reading::Awake(parser) => parser.set_bounds(bounds),
            Reading::AtRest(kept) => *kept = bounds,
        }
    }

    #[cfg(test)]
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(self.reading, Reading::AtRest(_))
    }

    /// Gives the parser back until more bytes come, if the stream stands between two elements.
    pub fn rest(&mut self) {
        if let Reading::Awake(parser) = &self.reading
            && self.is_dry
            && !self.is_broken
            && parser.can_rest()
        {
            self.reading = Reading::AtRest(parser.bounds());
        }
    }
}

impl Moving {
    /// Bytes that the connection holds while it waits.
    pub fn weight(&self) -> usize {
        self.output.len() + self.connection.input.unread()
    }
}

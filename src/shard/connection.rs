//! A connection as its shard holds it: transport, parser and stream machine.

use crate::clock::Mono;
use crate::jid::BareJid;
use crate::limits::UNAUTHENTICATED_ELEMENT_BYTES_MAX;
use crate::net::transport::Transport;
use crate::router::account::Proof;
use crate::stream::c2s::ClientStream;
use crate::stream::{Event, Origin};
use crate::xml::{Bounds, Item, Parser};

/// One client connection.
pub struct Connection {
    /// The socket, with or without TLS.
    pub transport: Box<dyn Transport>,
    /// The client's XML.
    pub input: Input,
    /// The stream machine.
    pub stream: ClientStream,
    /// What is to happen when everything is sent.
    pub ending: Ending,
    /// The earliest time at which a timer looks at it.
    pub armed: Option<Mono>,
    /// Whether it stands on the list of connections to go on reading.
    pub is_listed: bool,
    /// Whether the socket took no more bytes when last tried.
    pub is_blocked: bool,
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

/// The client's XML, as long as it is well-formed.
pub struct Input {
    parser: Parser,
    is_broken: bool,
    is_dry: bool,
}

/// A connection on its way to the shard of its account, with everything that belongs to it.
pub struct Moving {
    /// The connection; its stream machine waits for admission.
    pub connection: Connection,
    /// Bytes that are still to be sent.
    pub output: Vec<u8>,
    /// Whom the client has proven to be.
    pub jid: BareJid,
    /// How.
    pub proof: Proof,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(transport: Box<dyn Transport>, origin: Origin) -> Connection {
        Connection {
            transport,
            input: Input::new(),
            stream: ClientStream::new(origin),
            ending: Ending::No,
            armed: None,
            is_listed: false,
            is_blocked: false,
        }
    }
}

impl Input {
    fn new() -> Input {
        Input {
            parser: Parser::new(Bounds::client(UNAUTHENTICATED_ELEMENT_BYTES_MAX)),
            is_broken: false,
            is_dry: true,
        }
    }

    /// Takes bytes from the client. After broken ones nothing is looked at any more.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.parser.feed(bytes);
            self.is_dry = false;
        }
    }

    /// The next event in the bytes so far.
    pub fn next_event(&mut self) -> Option<Event> {
        if self.is_broken || self.is_dry {
            return None;
        }
        match self.parser.next() {
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
        self.parser.unread()
    }

    /// A new document follows; bytes behind the last event belong to it.
    pub fn restart(&mut self) {
        self.parser.restart();
        self.is_dry = self.parser.unread() == 0;
    }

    /// Accepts elements up to so many bytes.
    pub fn accept(&mut self, element_bytes_max: usize) {
        self.parser.set_bounds(Bounds::client(element_bytes_max));
    }

    /// Looks at nothing any more.
    pub fn ignore(&mut self) {
        self.parser.discard();
        self.is_broken = true;
    }
}

impl Moving {
    /// Bytes that the connection holds while it waits.
    pub fn weight(&self) -> usize {
        self.output.len() + self.connection.input.unread()
    }
}

//! What is said on one connection, by the deadline: XML there and back.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Offer, Stop};
use crate::ns;
use crate::xml::{Bounds, Element, Header, Item, Parser, Top};

/// Bytes of one element that is looked at: features are some hundred bytes long.
const ELEMENT_BYTES_MAX: usize = 64 * 1024;

/// A socket on which nothing takes longer than until a deadline.
pub struct Timed {
    socket: TcpStream,
    /// When it is over.
    pub deadline: Instant,
}

impl Timed {
    /// Connects.
    ///
    /// # Errors
    /// Nobody is there, or not in time.
    pub fn connect(address: SocketAddr, deadline: Instant) -> Result<Timed, Stop> {
        let what = "the connection";
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Stop::TimedOut(what));
        }
        match TcpStream::connect_timeout(&address, left).map_err(as_time_out) {
            Ok(socket) => Ok(Timed { socket, deadline }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Stop::TimedOut(what)),
            Err(error) => Err(Stop::Unreachable(error.to_string())),
        }
    }

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
pub struct Talk<S> {
    /// What carries them.
    pub bytes: S,
    parser: Parser,
}

impl<S: Read + Write> Talk<S> {
    /// Nothing is said yet.
    pub fn new(bytes: S) -> Talk<S> {
        Talk {
            bytes,
            parser: Parser::new(Bounds::of(ELEMENT_BYTES_MAX)),
        }
    }

    /// Says something, for this purpose.
    pub fn say(&mut self, text: &[u8], what: &'static str) -> Result<(), Stop> {
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

    /// The header of the stream that the other side opens.
    pub fn header(&mut self) -> Result<Header, Stop> {
        match self.hear("the stream's header")? {
            Item::Open(header) => Ok(*header),
            Item::Top(_) | Item::Close => Err(Stop::NotXmpp("no stream header".to_owned())),
        }
    }

    /// What is offered on a stream in the name of a domain; `header` is the answer to ours. None if the
    /// server knows no features.
    pub fn offer(&mut self, header: Header, domain: &str) -> Result<Option<Offer>, Stop> {
        if header.version.is_none() {
            return Ok(None);
        }
        let other_name = header.from.filter(|from| from != domain);
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
    pub fn top(&mut self, what: &'static str) -> Result<Top, Stop> {
        match self.hear(what)? {
            Item::Top(top) if top.is(ns::STREAM, "error") => Err(stream_error(&top.to_element())),
            Item::Top(top) => Ok(*top),
            Item::Close => Err(Stop::Closed(what, "the end of the stream".to_owned())),
            Item::Open(_) => Err(Stop::NotXmpp("a second stream header".to_owned())),
        }
    }

    /// The same, as a tree.
    pub fn element(&mut self, what: &'static str) -> Result<Element, Stop> {
        self.top(what).map(|top| top.to_element())
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

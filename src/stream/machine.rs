//! The stream of a connection, whoever is at its other end.

use crate::clock::Mono;
use crate::config::Settings;
use crate::slots::Key;
use crate::stream::c2s::ClientStream;
use crate::stream::component::ComponentStream;
use crate::stream::s2s::ServerStream;
use crate::stream::{Action, Context, Event, Origin};

/// A stream machine.
pub enum Machine {
    /// Of a client.
    Client(ClientStream),
    /// Of another server.
    Server(Box<ServerStream>),
    /// Of a component.
    Component(ComponentStream),
}

/// Calls the same method of whichever machine it is.
macro_rules! whichever {
    ($machine:expr, $stream:ident => $call:expr) => {
        match $machine {
            Machine::Client($stream) => $call,
            Machine::Server($stream) => $call,
            Machine::Component($stream) => $call,
        }
    };
}

impl Machine {
    /// Where the connection comes from, or leads to.
    pub fn origin(&self) -> &Origin {
        whichever!(self, stream => &stream.origin)
    }

    /// Whether we have dialled the connection.
    pub fn is_dialled(&self) -> bool {
        match self {
            Machine::Client(_) | Machine::Component(_) => false,
            Machine::Server(stream) => stream.is_dialled(),
        }
    }

    /// Notes that the peer sent bytes. True if the deadline may have come nearer.
    pub fn touch(&mut self, now: Mono) -> bool {
        match self {
            Machine::Client(stream) => stream.touch(now),
            Machine::Server(stream) => {
                stream.touch(now);
                false
            }
            Machine::Component(stream) => {
                stream.touch(now);
                false
            }
        }
    }

    /// Notes that bytes were sent to the peer, other than pings of servers and their answers.
    pub fn note_written(&mut self, now: Mono) {
        if let Machine::Server(stream) = self {
            stream.note_written(now);
        }
    }

    /// When the peer last sent a byte.
    pub fn touched(&self) -> Mono {
        whichever!(self, stream => stream.touched())
    }

    /// Whether the machine takes input now.
    pub fn takes_input(&self) -> bool {
        whichever!(self, stream => stream.takes_input())
    }

    /// Whether our end of the stream is written, and perhaps not yet sent.
    pub fn is_ending(&self) -> bool {
        whichever!(self, stream => stream.is_ending())
    }

    /// The session, once a client has bound a resource.
    pub fn session(&self) -> Option<Key> {
        match self {
            Machine::Client(stream) => stream.session(),
            Machine::Server(_) | Machine::Component(_) => None,
        }
    }

    /// Whether stanzas flow, so that the peer is no stranger any more.
    pub fn is_authenticated(&self) -> bool {
        match self {
            Machine::Client(stream) => stream.session().is_some(),
            Machine::Server(stream) => stream.is_authenticated(),
            Machine::Component(stream) => stream.component().is_some(),
        }
    }

    /// The link to another server whose stanzas the stream takes.
    pub fn ready_link(&self) -> Option<Key> {
        match self {
            Machine::Client(_) | Machine::Component(_) => None,
            Machine::Server(stream) => stream.ready_link(),
        }
    }

    /// The component, once it is let in.
    pub fn component(&self) -> Option<Key> {
        match self {
            Machine::Client(_) | Machine::Server(_) => None,
            Machine::Component(stream) => stream.component(),
        }
    }

    /// When [`Event::Deadline`] is due.
    pub fn deadline(&self, settings: &Settings) -> Option<Mono> {
        whichever!(self, stream => stream.deadline(settings))
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, cx: &mut Context<'_>) {
        whichever!(self, stream => stream.on(event, cx));
    }

    /// The connection is gone without an end of the stream; `why`, if that is known.
    pub fn hung_up(&mut self, why: Option<&str>, actions: &mut Vec<Action>) {
        match self {
            Machine::Client(stream) => stream.hung_up(why, actions),
            Machine::Server(stream) => stream.hung_up(why, actions),
            Machine::Component(stream) => stream.hung_up(why, actions),
        }
    }
}

//! A component (XEP-0114) that says what a test tells it to.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use stanzad::ns;
use stanzad::xml::Element;

use super::server::Server;
use super::wire::{Wire, text};

/// The secret of every component of the tests.
pub const SECRET: &str = "open, the barley seed";

/// A component's connection.
pub struct Component {
    wire: Wire,
}

impl Deref for Component {
    type Target = Wire;

    fn deref(&self) -> &Wire {
        &self.wire
    }
}

impl DerefMut for Component {
    fn deref_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }
}

impl Component {
    /// Connects and proves itself.
    pub fn connect(server: &Server, name: &str) -> Component {
        let mut component = Component::shake(server, name, SECRET);
        let answer = component.element();
        assert!(answer.is(ns::COMPONENT, "handshake"), "{}", text(&answer));
        component
    }

    /// Connects and sends a handshake with a secret, right or wrong.
    pub fn shake(server: &Server, name: &str, secret: &str) -> Component {
        let mut component = Component {
            wire: Wire::connect(listener(server).unwrap()),
        };
        component.send(header(name));
        let id = component.hear_header().id.unwrap();
        let hash = openssl::sha::sha1(format!("{id}{secret}").as_bytes());
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        component.send(format!("<handshake>{digits}</handshake>"));
        component
    }

    /// The stanza of that name that comes next.
    pub fn stanza(&mut self, name: &str) -> Element {
        let element = self.element();
        assert!(element.is(ns::COMPONENT, name), "{}", text(&element));
        element
    }
}

/// A component's stream header.
pub fn header(name: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:component:accept' \
         xmlns:stream='http://etherx.jabber.org/streams' to='{name}'>"
    )
}

/// Where the server takes components, if it does.
pub fn listener(server: &Server) -> Option<SocketAddr> {
    let listeners = server.status().listeners;
    let found = listeners.iter().find(|it| it.kind == "component")?;
    Some(found.address.parse().unwrap())
}

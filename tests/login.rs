//! Logins over real sockets by every mechanism, right and wrong, and what a login must not tell.

mod common;

#[path = "login/anonymous.rs"]
mod anonymous;
#[path = "login/external.rs"]
mod external;
#[path = "login/forms.rs"]
mod forms;
#[path = "login/names.rs"]
mod names;
#[path = "login/plain.rs"]
mod plain;
#[path = "login/scram.rs"]
mod scram;
#[path = "login/throttle.rs"]
mod throttle;

use openssl::ssl::SslConnectorBuilder;
use stanzad::xml::Element;

use common::client::{Client, ssl};
use common::server::Server;

/// A client behind STARTTLS as the test sets it up, and the features that it is offered there.
fn secured(
    server: &Server,
    domain: &str,
    set: impl FnOnce(&mut SslConnectorBuilder),
) -> (Client, Element) {
    let mut client = Client::connect(server);
    client.open(domain);
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(client.element().name, "proceed");
    client.handshake(ssl(domain, set)).unwrap();
    let features = client.open(domain);
    (client, features)
}

/// The session of a client that has just authenticated really works.
fn binds_as(client: &mut Client, bare: &str) {
    let (_, domain) = bare.rsplit_once('@').unwrap();
    client.open(domain);
    let jid = client.bind(None);
    assert_eq!(jid.split_once('/').unwrap().0, bare);
    client.settle();
}

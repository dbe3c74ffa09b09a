//! Anonymous users and other servers (XEP-0175 §3).

use super::common::client::Client;
use super::common::network::Network;
use super::{CAPULET, MONTAGUE, body, chat, message, ping, why};

/// XEP-0175 §3, restriction 2; RFC 6120 §8.3.3.4. What comes back tells why, and that other server
/// hears nothing but what became of a message of its own (RFC 6120 §8.3.1).
#[test]
fn an_anonymous_user_begins_nothing_with_another_server_and_answers_it() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "[auth]\nanonymous = true\n");
    let peer = network.peer(MONTAGUE);
    let mut ghost = Client::connect(&capulet);
    ghost.secure(CAPULET);
    ghost.auth("ANONYMOUS", b"");
    ghost.outcome().unwrap();
    ghost.open(CAPULET);
    ghost.bind(None);

    let romeo = "romeo@montague.example";
    ghost.send(chat(romeo, "Boo"));
    let refused = ghost.refused("message", "forbidden");
    assert_eq!(why(&refused), "Anonymous users reach this server only");
    assert_eq!(refused.attribute("from"), Some(romeo));
    ghost.send(format!("<presence to='{romeo}'/>"));
    ghost.refused("presence", "forbidden");
    for to in [romeo, MONTAGUE] {
        ghost.send(ping(to));
        ghost.refused("iq", "forbidden");
    }
    assert!(!peer.is_dialled());

    let mut there = peer.dial_external(&capulet, CAPULET);
    there.send(message(romeo, &ghost.jid, "Who is there?"));
    assert_eq!(body(&ghost.stanza("message")), "Who is there?");
    ghost.send(format!(
        "<message type='error' id='no' to='{romeo}'><error type='cancel'>\
         <not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
    ));
    let mut back = peer.accept_ready();
    let answer = back.stanza("message");
    assert_eq!(answer.attribute("id"), Some("no"));
    assert_eq!(answer.attribute("from"), Some(&*ghost.jid));
    assert_eq!(there.until_settled(&mut back), []);
}

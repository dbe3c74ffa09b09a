//! Messages and requests between two servers that are both this program.

use stanzad::ns;

use super::common::client::Client;
use super::common::network::Network;
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, body, chat, ping};

fn two() -> (Network, Server, Server) {
    let network = Network::new();
    let (capulet, montague) = (network.server(CAPULET, ""), network.server(MONTAGUE, ""));
    (network, capulet, montague)
}

/// RFC 6120 §10.4.
#[test]
fn a_message_reaches_an_account_of_another_server_and_so_does_the_answer() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    juliet.send(chat("romeo@montague.example", "Ay me!"));
    let heard = romeo.stanza("message");
    assert_eq!(
        heard.attribute("from"),
        Some("juliet@capulet.example/balcony")
    );
    assert_eq!(heard.attribute("to"), Some("romeo@montague.example"));
    assert_eq!(body(&heard), "Ay me!");
    romeo.send(chat("juliet@capulet.example/balcony", "She speaks"));
    let heard = juliet.stanza("message");
    assert_eq!(
        heard.attribute("from"),
        Some("romeo@montague.example/orchard")
    );
    assert_eq!(body(&heard), "She speaks");
}

/// RFC 6120 §10.1: from the first, which has a stream made, to the last.
#[test]
fn messages_keep_their_order() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    let all: String = (0..300)
        .map(|n| chat("romeo@montague.example/orchard", &n.to_string()))
        .collect();
    juliet.send(all);
    for n in 0..300 {
        assert_eq!(body(&romeo.stanza("message")), n.to_string());
    }
    juliet.settle();
}

/// RFC 6121 §8.5.2.2.1; XEP-0160.
#[test]
fn a_message_to_an_account_without_a_session_waits_there() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@montague.example", "Good night"));
    // It has arrived when what was sent behind it is answered.
    juliet.send(ping("romeo@montague.example/orchard"));
    juliet.refused("iq", "service-unavailable");
    let mut romeo = Client::login(&montague, "romeo@montague.example/orchard");
    romeo.send("<presence/>");
    let heard = loop {
        let element = romeo.element();
        if element.name == "message" {
            break element;
        }
    };
    assert_eq!(body(&heard), "Good night");
    assert!(heard.find(ns::DELAY, "delay").is_some());
}

/// RFC 6121 §8.5.1, §8.5.3.2.
#[test]
fn errors_come_back_from_the_other_server() {
    let (_network, capulet, _montague) = two();
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    for to in ["nobody@montague.example", "romeo@montague.example/orchard"] {
        juliet.send(ping(to));
        let error = juliet.refused("iq", "service-unavailable");
        assert_eq!(error.attribute("from"), Some(to));
    }
    juliet.send(chat("nobody@montague.example", "Is there nobody?"));
    juliet.refused("message", "service-unavailable");
}

/// XEP-0030 §3, XEP-0199 §4.1.
#[test]
fn the_other_server_answers_for_itself_and_for_its_accounts() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    juliet.send(
        "<iq type='get' id='d' to='montague.example'>\
         <query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
    );
    let answer = juliet.stanza("iq");
    assert_eq!(answer.attribute("type"), Some("result"));
    let query = answer.find(ns::DISCO_INFO, "query").unwrap();
    let mut identities = query.elements().filter(|child| child.name == "identity");
    assert_eq!(
        identities.next().unwrap().attribute("category"),
        Some("server")
    );
    juliet.send(ping("montague.example"));
    assert_eq!(juliet.stanza("iq").attribute("type"), Some("result"));
    romeo.send(
        "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>Romeo Montague</FN></vCard></iq>",
    );
    assert_eq!(romeo.stanza("iq").attribute("type"), Some("result"));
    juliet
        .send("<iq type='get' id='v' to='romeo@montague.example'><vCard xmlns='vcard-temp'/></iq>");
    let card = juliet.stanza("iq");
    let card = card.find("vcard-temp", "vCard").unwrap();
    assert_eq!(
        card.find("vcard-temp", "FN").unwrap().text(),
        "Romeo Montague"
    );
}

/// RFC 6121 §8.5.3.1.
#[test]
fn a_request_reaches_a_session_and_its_answer_comes_back() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    // What may be asked of a session is for those who have its presence.
    romeo.send("<presence to='juliet@capulet.example/balcony'/>");
    assert_eq!(juliet.stanza("presence").attribute("type"), None);
    juliet.send(ping("romeo@montague.example/orchard"));
    let asked = romeo.stanza("iq");
    assert!(asked.find(ns::PING, "ping").is_some());
    let id = asked.attribute("id").unwrap().to_owned();
    romeo.send(format!(
        "<iq type='result' id='{id}' to='juliet@capulet.example/balcony'/>"
    ));
    let answer = juliet.stanza("iq");
    assert_eq!(answer.attribute("type"), Some("result"));
    assert_eq!(answer.attribute("id"), Some("ping"));
}

/// RFC 6120 §4.6.4, §10.4: [stream-reconnect].
#[test]
fn what_is_sent_while_the_other_server_is_away_arrives_when_it_is_back() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let mut montague = network.server(MONTAGUE, "");
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    juliet.send(chat("romeo@montague.example", "before"));
    assert_eq!(body(&romeo.stanza("message")), "before");
    montague.stop();
    capulet.logs("server stream");
    juliet.send(chat("romeo@montague.example", "meanwhile"));
    juliet.send(ping("montague.example"));
    juliet.refused("iq", "remote-server-timeout");
    montague.start_again();
    let mut romeo = Client::login(&montague, "romeo@montague.example/orchard");
    romeo.send("<presence/>");
    let heard = loop {
        let element = romeo.element();
        if element.name == "message" {
            break element;
        }
    };
    assert_eq!(body(&heard), "meanwhile");
}

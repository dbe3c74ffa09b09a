//! Messages that wait for their recipient (RFC 6121 §8.5.2.2.1, XEP-0160): each once, in order.

use stanzad::xml::Element;

use crate::common::client::{Client, Heard, text};
use crate::common::server::Server;

const JULIET: &str = "juliet@example.org";

fn message(number: usize) -> String {
    format!("<message to='{JULIET}' type='chat' id='{number}'><body>{number}</body></message>")
}

/// The number of a message, and whether it was stored.
fn number(stanza: &Element) -> (usize, bool) {
    assert_eq!(stanza.name, "message", "{}", text(stanza));
    let number = stanza.attribute("id").and_then(|id| id.parse().ok());
    let is_stored = stanza.find("urn:xmpp:delay", "delay").is_some();
    (number.expect("it has its number"), is_stored)
}

/// The next message; presence is passed over.
fn next(client: &mut Client) -> (usize, bool) {
    loop {
        let stanza = client.element();
        if stanza.name != "presence" {
            return number(&stanza);
        }
    }
}

/// [message-type-deliver] XEP-0160 §2, RFC 6120 §10.1: while the recipient comes, messages go on
/// coming; those that waited are first, and none is lost, doubled or overtaken.
#[test]
fn what_waited_and_what_comes_meanwhile_arrive_in_order() {
    const WAITING: usize = 60;
    const ALL: usize = 400;
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    for n in 0..WAITING {
        romeo.send(message(n));
    }
    romeo.settle();
    let mut juliet = Client::login(&server, &format!("{JULIET}/balcony"));
    let sender = std::thread::spawn(move || {
        for n in WAITING..ALL {
            romeo.send(message(n));
        }
        romeo.settle();
    });
    juliet.send("<presence/>");
    let mut last_stored = 0;
    for wanted in 0..ALL {
        let (found, is_stored) = next(&mut juliet);
        assert_eq!(found, wanted);
        if is_stored {
            last_stored = wanted;
        }
    }
    assert!(last_stored >= WAITING - 1, "they were stored");
    sender.join().unwrap();
    juliet.settle();
    juliet.send("</stream:stream>");
    juliet.closes();
    let mut juliet = Client::login(&server, &format!("{JULIET}/balcony"));
    juliet.send("<presence/>");
    let more = juliet.until_settled();
    assert!(more.iter().all(|one| one.name == "presence"), "{more:?}");
}

/// XEP-0160 §2: of two resources that come at once, one gets each message.
#[test]
fn two_resources_that_come_at_once_get_each_message_once() {
    const ALL: usize = 40;
    let server = Server::start("");
    for round in 0..5 {
        let mut romeo = Client::login(&server, "romeo@example.org/orchard");
        for n in 0..ALL {
            romeo.send(message(n));
        }
        romeo.settle();
        let names = ["balcony", "chamber"].map(|resource| format!("{JULIET}/{resource}"));
        let mut clients = names.map(|name| Client::login(&server, &name));
        for client in &mut clients {
            client.send("<presence/>");
        }
        let mut seen = vec![0; ALL];
        while seen.iter().sum::<usize>() < ALL {
            for client in &mut clients {
                for stanza in client.until_settled() {
                    if stanza.name != "presence" {
                        seen[number(&stanza).0] += 1;
                    }
                }
            }
        }
        for client in &mut clients {
            let more = client.until_settled();
            assert!(more.iter().all(|one| one.name == "presence"), "{more:?}");
            client.send("</stream:stream>");
            while !matches!(client.hear(), Heard::End) {}
        }
        assert_eq!(seen, vec![1; ALL], "round {round}");
    }
}

/// XEP-0160 §2: what waits is on disk.
#[test]
fn what_waits_outlives_a_restart() {
    let mut server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    for n in 0..10 {
        romeo.send(message(n));
    }
    romeo.settle();
    server.stop();
    server.start_again();
    let mut juliet = Client::login(&server, &format!("{JULIET}/balcony"));
    juliet.send("<presence/>");
    for wanted in 0..10 {
        assert_eq!(next(&mut juliet), (wanted, true));
    }
    juliet.settle();
}

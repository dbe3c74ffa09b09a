//! What a client sends in one breath is done in that order (RFC 6120 §10.1), whichever part of the
//! server does it: here what concerns the client's own account.

use stanzad::xml::Element;

use crate::common::client::{Client, text};
use crate::common::server::Server;

const JULIET: &str = "juliet@example.org";

fn told(heard: &[Element]) -> Vec<String> {
    heard.iter().map(text).collect()
}

/// RFC 6120 §10.1: "in-order processing of a roster get and initial presence".
#[test]
fn a_roster_get_is_answered_before_presence_that_follows_it() {
    let server = Server::start("");
    for round in 0..10 {
        let mut juliet = Client::login(&server, &format!("{JULIET}/balcony{round}"));
        juliet.send(
            "<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq><presence id='first'/>",
        );
        let heard = juliet.until_settled();
        assert_eq!(heard[0].attribute("id"), Some("get"), "{:?}", told(&heard));
        assert_eq!(
            heard[1].attribute("id"),
            Some("first"),
            "{:?}",
            told(&heard)
        );
    }
}

/// RFC 6120 §10.1: it is there for messages until it says that it is not.
#[test]
fn a_message_to_oneself_comes_before_the_end_of_the_presence_that_follows_it() {
    let server = Server::start("");
    let mut juliet = Client::available(&server, &format!("{JULIET}/balcony"));
    juliet.send(format!(
        "<message type='headline' id='m' to='{JULIET}'/><presence type='unavailable' id='p'/>"
    ));
    let heard = juliet.until_settled();
    let ids: Vec<_> = heard.iter().map(|one| one.attribute("id")).collect();
    assert_eq!(ids, [Some("m"), Some("p")], "{:?}", told(&heard));
}

/// RFC 6120 §10.1: requests to the server for the account are done in the order in which they were
/// sent, those that change it too.
#[test]
fn changes_and_questions_about_ones_own_account_keep_their_order() {
    const ROUNDS: usize = 40;
    let server = Server::start("");
    let mut juliet = Client::login(&server, &format!("{JULIET}/balcony"));
    let mut script = String::new();
    for round in 0..ROUNDS {
        script += &format!(
            "<iq type='set' id='set{round}'><query xmlns='jabber:iq:roster'>\
             <item jid='romeo@example.net' name='{round}'/></query></iq>\
             <iq type='get' id='get{round}' to='{JULIET}'><query xmlns='jabber:iq:roster'/></iq>"
        );
    }
    juliet.send(&script);
    for round in 0..ROUNDS {
        loop {
            let answer = juliet.stanza("iq");
            if answer.attribute("type") == Some("set") {
                continue;
            }
            if answer.attribute("id") == Some(&*format!("set{round}")) {
                continue;
            }
            assert_eq!(answer.attribute("id"), Some(&*format!("get{round}")));
            let query = answer.find("jabber:iq:roster", "query").unwrap();
            let item = query.elements().next().unwrap();
            assert_eq!(item.attribute("name"), Some(&*round.to_string()));
            break;
        }
    }
}

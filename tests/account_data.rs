//! What clients keep on the server: private XML (XEP-0049) and vCards (XEP-0054).

mod common;

use common::client::{Client, error_of};
use common::server::Server;
use rusqlite::Connection;
use stanzad::ns;
use stanzad::xml::Element;

const NOTES: &str =
    "<notes xmlns='storage:rosternotes'><note jid='romeo@example.org'>\u{2665}</note></notes>";

/// Sends an IQ and yields its answer.
fn ask(client: &mut Client, type_: &str, to: Option<&str>, child: &str) -> Element {
    let to = to.map_or(String::new(), |to| format!(" to='{to}'"));
    client.send(format!("<iq type='{type_}' id='q'{to}>{child}</iq>"));
    client.stanza("iq")
}

fn private(children: &str) -> String {
    format!("<query xmlns='jabber:iq:private'>{children}</query>")
}

/// XEP-0049 §2.3.
#[test]
fn private_xml_is_kept_for_all_clients_of_its_account_and_survives_a_kill() {
    let mut server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let set = ask(&mut balcony, "set", None, &private(NOTES));
    assert_eq!(set.attribute("type"), Some("result"), "{set:?}");
    server.kill();
    server.start_again();
    let mut chamber = Client::login(&server, "juliet@example.org/chamber");
    chamber.forget();
    ask(
        &mut chamber,
        "get",
        None,
        &private("<notes xmlns='storage:rosternotes'/>"),
    );
    let raw = String::from_utf8(chamber.raw.clone()).unwrap();
    assert!(raw.contains(&private(NOTES)), "{raw}");
    let nothing = private("<notes xmlns='elsewhere'/>");
    chamber.forget();
    ask(&mut chamber, "get", None, &nothing);
    let raw = String::from_utf8(chamber.raw.clone()).unwrap();
    assert!(raw.contains(&nothing), "{raw}");
}

/// XEP-0049 §2.3, §4: others can neither read nor write it, and learn nothing of the account.
#[test]
fn private_xml_of_others_is_out_of_reach() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org");
    for type_ in ["get", "set"] {
        for to in ["juliet@example.org", "nobody@example.org"] {
            let refused = ask(&mut romeo, type_, Some(to), &private(NOTES));
            assert_eq!(error_of(&refused), "service-unavailable", "{type_} {to}");
        }
    }
    let empty = ask(&mut romeo, "get", None, &private(""));
    assert_eq!(error_of(&empty), "bad-request");
    let empty = ask(&mut romeo, "set", None, &private(""));
    assert_eq!(error_of(&empty), "not-acceptable");
}

/// XEP-0054 §3.1 to §3.3.
#[test]
fn a_vcard_is_shown_to_others_as_it_was_stored() {
    let mut server = Server::start("");
    let card = "<vCard xmlns='vcard-temp'><FN>Juliet Capulet</FN><PHOTO><TYPE>image/png</TYPE>\
                <BINVAL>iVBORw0KGgo=</BINVAL></PHOTO></vCard>";
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    assert_eq!(own_vcard(&mut juliet), 0);
    let set = ask(&mut juliet, "set", None, card);
    assert_eq!(set.attribute("type"), Some("result"), "{set:?}");
    assert_eq!(own_vcard(&mut juliet), 2);
    server.kill();
    server.start_again();
    let mut romeo = Client::login(&server, "romeo@example.org");
    romeo.forget();
    let shown = ask(
        &mut romeo,
        "get",
        Some("juliet@example.org"),
        "<vCard xmlns='vcard-temp'/>",
    );
    assert_eq!(shown.attribute("from"), Some("juliet@example.org"));
    let raw = String::from_utf8(romeo.raw.clone()).unwrap();
    assert!(raw.contains(card), "{raw}");
    let other = ask(&mut romeo, "set", Some("juliet@example.org"), card);
    assert_eq!(error_of(&other), "service-unavailable");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    ask(&mut juliet, "set", None, "<vCard xmlns='vcard-temp'/>");
    assert_eq!(own_vcard(&mut juliet), 0);
}

/// How many elements the vCard has that a client gets as its own.
fn own_vcard(client: &mut Client) -> usize {
    let answer = ask(client, "get", None, "<vCard xmlns='vcard-temp'/>");
    assert_eq!(answer.attribute("type"), Some("result"), "{answer:?}");
    answer
        .find(ns::VCARD, "vCard")
        .expect("a vCard")
        .elements()
        .count()
}

/// XEP-0054 §3.3: against directory harvesting.
#[test]
fn an_account_without_a_vcard_is_like_none() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org");
    let mut answers = Vec::new();
    for to in ["juliet@example.org", "nobody@example.org"] {
        romeo.forget();
        ask(&mut romeo, "get", Some(to), "<vCard xmlns='vcard-temp'/>");
        answers.push(
            String::from_utf8(romeo.raw.clone())
                .unwrap()
                .replace(to, "TO"),
        );
    }
    assert!(
        answers[0].contains("<service-unavailable "),
        "{}",
        answers[0]
    );
    assert_eq!(answers[0], answers[1]);
}

/// What a damaged disk has left is no empty answer, which a client would take for the truth and store
/// over the rest: it is an error to who asks, and the log names account and kind.
#[test]
fn damaged_rows_are_errors_and_the_log_tells_of_whom_and_what() {
    let mut server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let card = "<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>";
    for child in [card, &private(NOTES)] {
        let set = ask(&mut juliet, "set", None, child);
        assert_eq!(set.attribute("type"), Some("result"), "{set:?}");
    }
    server.stop();
    let database = Connection::open(server.site.path("data/stanzad.sqlite")).unwrap();
    let damage = "UPDATE vcard SET xml = x'3c'; UPDATE private_data SET xml = x'3c'";
    database.execute_batch(damage).unwrap();
    drop(database);
    server.start_again();
    let mut romeo = Client::login(&server, "romeo@example.org");
    let wanted = "<vCard xmlns='vcard-temp'/>";
    let refused = ask(&mut romeo, "get", Some("juliet@example.org"), wanted);
    assert_eq!(error_of(&refused), "internal-server-error");
    let line = server.logs("vcard.xml");
    let words = ["error", "jid=juliet@example.org"];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let wanted = private("<notes xmlns='storage:rosternotes'/>");
    let refused = ask(&mut juliet, "get", None, &wanted);
    assert_eq!(error_of(&refused), "internal-server-error");
    let line = server.logs("private_data.xml");
    let words = ["error", "jid=juliet@example.org", "storage:rosternotes"];
    assert!(words.iter().all(|word| line.contains(word)), "{line}");
    let set = ask(&mut juliet, "set", None, card);
    assert_eq!(set.attribute("type"), Some("result"), "{set:?}");
    assert_eq!(own_vcard(&mut juliet), 1);
}

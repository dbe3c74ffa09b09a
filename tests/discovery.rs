//! What domains and accounts tell of themselves: XEP-0030, XEP-0128, XEP-0157, XEP-0202, XEP-0012.

mod common;

use common::client::{Client, error_of};
use common::server::Server;
use stanzad::ns;
use stanzad::xml::Element;

fn ask(client: &mut Client, to: &str, child: &str) -> Element {
    client.send(format!("<iq type='get' id='q' to='{to}'>{child}</iq>"));
    client.stanza("iq")
}

const INFO: &str = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
const ITEMS: &str = "<query xmlns='http://jabber.org/protocol/disco#items'/>";
const LAST: &str = "<query xmlns='jabber:iq:last'/>";

fn features(reply: &Element) -> Vec<String> {
    let query = reply.find(ns::DISCO_INFO, "query").unwrap();
    query
        .elements()
        .filter(|child| child.is(ns::DISCO_INFO, "feature"))
        .map(|feature| feature.attribute("var").unwrap().to_owned())
        .collect()
}

/// XEP-0030 §3.1, XEP-0157 §3: addresses are told where the operator has given some, and no empty form
/// where not.
#[test]
fn a_domain_tells_its_features_and_the_addresses_of_its_operators() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org");
    let info = ask(&mut juliet, "example.org", INFO);
    let vars = features(&info);
    for var in [
        ns::DISCO_INFO,
        ns::DISCO_ITEMS,
        ns::PING,
        ns::TIME,
        ns::LAST,
        ns::VERSION,
    ] {
        assert!(vars.contains(&var.to_owned()), "{var}: {vars:?}");
    }
    let query = info.find(ns::DISCO_INFO, "query").unwrap();
    assert!(query.find(ns::DATA_FORMS, "x").is_none());
    server.configure("[contact]\nabuse = [\"mailto:abuse@example.org\"]\n");
    server.reload();
    let info = ask(&mut juliet, "example.org", INFO);
    let query = info.find(ns::DISCO_INFO, "query").unwrap();
    let form = query.find(ns::DATA_FORMS, "x").unwrap();
    let fields: Vec<_> = form
        .elements()
        .map(|field| {
            (
                field.attribute("var").unwrap(),
                field.attribute("type").unwrap(),
                field.elements().next().unwrap().text(),
            )
        })
        .collect();
    let expected = [
        ("FORM_TYPE", "hidden", ns::SERVER_INFO.to_owned()),
        (
            "abuse-addresses",
            "list-multi",
            "mailto:abuse@example.org".to_owned(),
        ),
    ];
    assert_eq!(fields, expected);
}

/// XEP-0030 §8: an account's items are its available resources, for itself.
#[test]
fn an_account_sees_its_own_features_and_available_resources() {
    let server = Server::start("");
    let mut balcony = Client::available(&server, "juliet@example.org/balcony");
    let _connected = Client::login(&server, "juliet@example.org/cellar");
    let info = ask(&mut balcony, "juliet@example.org", INFO);
    let vars = features(&info);
    for var in [ns::DISCO_INFO, ns::PRIVATE, ns::VCARD, ns::LAST] {
        assert!(vars.contains(&var.to_owned()), "{var}: {vars:?}");
    }
    let items = ask(&mut balcony, "juliet@example.org", ITEMS);
    let query = items.find(ns::DISCO_ITEMS, "query").unwrap();
    let jids: Vec<_> = query
        .elements()
        .map(|item| item.attribute("jid").unwrap())
        .collect();
    assert_eq!(jids, ["juliet@example.org/balcony"]);
}

/// XEP-0202 §3.
#[test]
fn a_domain_tells_the_time() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org");
    let reply = ask(&mut juliet, "example.org", "<time xmlns='urn:xmpp:time'/>");
    let time = reply.find(ns::TIME, "time").unwrap();
    assert_eq!(time.find(ns::TIME, "tzo").unwrap().text(), "+00:00");
    let utc = time.find(ns::TIME, "utc").unwrap().text();
    let told: jiff::Timestamp = utc.parse().unwrap();
    let off = jiff::Timestamp::now().duration_since(told).as_secs();
    assert!((0..60).contains(&off), "{utc}");
}

/// XEP-0012 §5 and §3.
#[test]
fn a_domain_tells_its_uptime_and_an_account_that_it_is_here() {
    let server = Server::start("");
    let mut juliet = Client::available(&server, "juliet@example.org");
    let uptime = ask(&mut juliet, "example.org", LAST);
    let query = uptime.find(ns::LAST, "query").unwrap();
    let seconds: u64 = query.attribute("seconds").unwrap().parse().unwrap();
    assert!(seconds < 600, "{seconds}");
    let own = ask(&mut juliet, "juliet@example.org", LAST);
    let query = own.find(ns::LAST, "query").unwrap();
    assert_eq!(query.attribute("seconds"), Some("0"));
}

/// RFC 6120 §13.11, XEP-0030 §8, XEP-0012 §8: online, offline, not there.
#[test]
fn a_stranger_cannot_tell_accounts_from_names_without_one() {
    let server = Server::start("");
    let _juliet = Client::available(&server, "juliet@example.org/balcony");
    let mut romeo = Client::available(&server, "romeo@example.org");
    let nodes = "<query xmlns='http://jabber.org/protocol/disco#items' node='x'/>";
    for request in [
        INFO,
        ITEMS,
        nodes,
        LAST,
        "<ping xmlns='urn:xmpp:ping'/>",
        "<a xmlns='b'/>",
    ] {
        let mut answers = Vec::new();
        for to in [
            "juliet@example.org",
            "nurse@example.org",
            "nobody@example.org",
        ] {
            romeo.forget();
            ask(&mut romeo, to, request);
            answers.push(
                String::from_utf8(romeo.raw.clone())
                    .unwrap()
                    .replace(to, "TO"),
            );
        }
        assert_eq!(answers[0], answers[1], "{request}");
        assert_eq!(answers[1], answers[2], "{request}");
    }
    let items = ask(&mut romeo, "juliet@example.org", ITEMS);
    assert!(
        items
            .find(ns::DISCO_ITEMS, "query")
            .unwrap()
            .nodes
            .is_empty()
    );
    let info = ask(&mut romeo, "juliet@example.org", INFO);
    assert_eq!(error_of(&info), "service-unavailable");
    // XEP-0012 §4: nor does a resource, which never hears of it.
    for to in [
        "juliet@example.org/balcony",
        "juliet@example.org/none",
        "nobody@example.org/x",
    ] {
        let refused = ask(&mut romeo, to, LAST);
        assert_eq!(error_of(&refused), "service-unavailable", "{to}");
    }
}

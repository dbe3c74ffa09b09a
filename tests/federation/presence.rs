//! Subscriptions and presence between two servers that are both this program (RFC 6121 §3, §4).

use super::common::client::{Client, text};
use super::common::network::Network;
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, ping, told};

const JULIET: &str = "juliet@capulet.example";
const ROMEO: &str = "romeo@montague.example";

fn two() -> (Network, Server, Server) {
    let network = Network::new();
    let (capulet, montague) = (network.server(CAPULET, ""), network.server(MONTAGUE, ""));
    (network, capulet, montague)
}

/// A session that is available and wants roster pushes.
fn interested(server: &Server, address: &str) -> Client {
    let mut client = Client::login(server, address);
    client.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    client.stanza("iq");
    client.send("<presence/>");
    client
}

/// The presence that comes next; roster pushes are passed over.
fn presence(client: &mut Client) -> String {
    loop {
        let element = client.element();
        if element.name == "presence" {
            return told(&element);
        }
        assert_eq!(element.name, "iq", "{}", text(&element));
    }
}

/// Juliet and romeo have each other's presence.
fn friends(capulet: &Server, montague: &Server) -> (Client, Client) {
    let mut juliet = interested(capulet, "juliet@capulet.example/balcony");
    assert_eq!(
        presence(&mut juliet),
        "available juliet@capulet.example/balcony"
    );
    let mut romeo = interested(montague, "romeo@montague.example/orchard");
    assert_eq!(
        presence(&mut romeo),
        "available romeo@montague.example/orchard"
    );
    romeo.send(format!("<presence type='subscribe' to='{JULIET}'/>"));
    assert_eq!(presence(&mut juliet), "subscribe romeo@montague.example");
    juliet.send(format!("<presence type='subscribed' to='{ROMEO}'/>"));
    assert_eq!(presence(&mut romeo), "subscribed juliet@capulet.example");
    assert_eq!(
        presence(&mut romeo),
        "available juliet@capulet.example/balcony"
    );
    juliet.send(format!("<presence type='subscribe' to='{ROMEO}'/>"));
    assert_eq!(presence(&mut romeo), "subscribe juliet@capulet.example");
    romeo.send(format!("<presence type='subscribed' to='{JULIET}'/>"));
    assert_eq!(presence(&mut juliet), "subscribed romeo@montague.example");
    assert_eq!(
        presence(&mut juliet),
        "available romeo@montague.example/orchard"
    );
    (juliet, romeo)
}

/// RFC 6121 §3.1, §3.1.6.
#[test]
fn accounts_of_two_servers_subscribe_to_each_other() {
    let (_network, capulet, montague) = two();
    let (mut juliet, _romeo) = friends(&capulet, &montague);
    juliet.until_settled();
    juliet.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>");
    let roster = juliet.stanza("iq");
    let query = roster.elements().next().unwrap();
    let item = query.elements().next().unwrap();
    assert_eq!(item.attribute("jid"), Some(ROMEO));
    assert_eq!(item.attribute("subscription"), Some("both"));
}

/// RFC 6121 §3.2, §3.3.
#[test]
fn a_subscription_ends_on_both_sides() {
    let (_network, capulet, montague) = two();
    let (mut juliet, mut romeo) = friends(&capulet, &montague);
    juliet.send(format!("<presence type='unsubscribe' to='{ROMEO}'/>"));
    assert_eq!(presence(&mut romeo), "unsubscribe juliet@capulet.example");
    assert_eq!(
        presence(&mut juliet),
        "unavailable romeo@montague.example/orchard"
    );
    juliet.send(format!("<presence type='unsubscribed' to='{ROMEO}'/>"));
    // In this order (RFC 6121 §3.2.2).
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/balcony"
    );
    assert_eq!(presence(&mut romeo), "unsubscribed juliet@capulet.example");
}

/// RFC 6121 §4.2.2, §4.3.2: at login the contact's server is probed.
#[test]
fn a_login_is_told_to_the_contact_and_finds_it_by_a_probe() {
    let (_network, capulet, montague) = two();
    let (mut juliet, mut romeo) = friends(&capulet, &montague);
    juliet.send("</stream:stream>");
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/balcony"
    );
    let mut juliet = interested(&capulet, "juliet@capulet.example/chamber");
    let mut heard = [presence(&mut juliet), presence(&mut juliet)];
    heard.sort();
    assert_eq!(
        heard,
        [
            "available juliet@capulet.example/chamber",
            "available romeo@montague.example/orchard",
        ]
    );
    assert_eq!(
        presence(&mut romeo),
        "available juliet@capulet.example/chamber"
    );
}

/// RFC 6121 §4.5.2: on each kind of end of a session.
#[test]
fn a_contact_learns_of_each_session_that_ends() {
    let (_network, capulet, montague) = two();
    let (mut juliet, mut romeo) = friends(&capulet, &montague);
    juliet.send("<presence type='unavailable'/>");
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/balcony"
    );
    juliet.send("<presence/>");
    assert_eq!(
        presence(&mut romeo),
        "available juliet@capulet.example/balcony"
    );
    drop(juliet);
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/balcony"
    );
    let mut juliet = interested(&capulet, "juliet@capulet.example/chamber");
    assert_eq!(
        presence(&mut romeo),
        "available juliet@capulet.example/chamber"
    );
    juliet.send("<bad xmlns='urn:bad'/>");
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/chamber"
    );
}

/// RFC 6121 §4.6.3.
#[test]
fn who_was_told_directly_learns_of_the_end_and_nobody_else() {
    let (_network, capulet, montague) = two();
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::available(&montague, "romeo@montague.example/orchard");
    let mut nurse = Client::available(&montague, "nurse@montague.example/hall");
    juliet.send("<presence to='romeo@montague.example/orchard'/>");
    assert_eq!(
        presence(&mut romeo),
        "available juliet@capulet.example/balcony"
    );
    drop(juliet);
    assert_eq!(
        presence(&mut romeo),
        "unavailable juliet@capulet.example/balcony"
    );
    nurse.settle();
}

/// RFC 6121 §3.1.3: who is not there does not answer; RFC 6120 §13.11: nor does the answer tell.
#[test]
fn a_request_to_a_name_without_an_account_stays_unanswered() {
    let (_network, capulet, _montague) = two();
    let mut juliet = interested(&capulet, "juliet@capulet.example/balcony");
    assert_eq!(
        presence(&mut juliet),
        "available juliet@capulet.example/balcony"
    );
    juliet.send("<presence type='subscribe' to='rosaline@montague.example'/>");
    juliet.send(ping("montague.example"));
    let heard = loop {
        let element = juliet.element();
        if element.attribute("id") == Some("ping") {
            break element;
        }
        assert_eq!(element.name, "iq", "a roster push: {}", text(&element));
    };
    assert_eq!(heard.attribute("type"), Some("result"));
}

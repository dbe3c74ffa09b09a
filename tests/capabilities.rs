//! Entity capabilities (XEP-0115), and what operators see of clients and do with their sessions.

mod common;

use common::client::Client;
use common::server::Server;
use stanzad::ns;
use stanzad::server::control::{Reply, Request};
use stanzad::stanza::capabilities::{Capabilities, CapsHash};
use stanzad::xml::Element;

const INFO: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
     <feature var='http://jabber.org/protocol/caps'/>\
     <feature var='http://jabber.org/protocol/disco#info'/>\
     <feature var='http://jabber.org/protocol/disco#items'/>\
     <feature var='http://jabber.org/protocol/muc'/>";
const VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";

fn available(server: &Server, jid: &str, ver: &str) -> Client {
    let mut client = Client::login(server, jid);
    client.send(format!(
        "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
         node='http://exodus' ver='{ver}'/></presence>"
    ));
    client
}

/// The server's question, and the node that it asks for.
fn question(client: &mut Client) -> (String, String) {
    // Its own presence comes back first.
    client.stanza("presence");
    let iq = client.stanza("iq");
    let query = iq.find(ns::DISCO_INFO, "query").unwrap();
    let id = iq.attribute("id").unwrap().to_owned();
    (id, query.attribute("node").unwrap().to_owned())
}

fn answer(client: &mut Client, id: &str, info: &str) {
    client.send(format!(
        "<iq type='result' id='{id}' to='example.org'>\
         <query xmlns='http://jabber.org/protocol/disco#info'>{info}</query></iq>"
    ));
}

fn shown(server: &Server, jid: &str) -> Option<String> {
    server.sessions(Some(jid))[0].client.clone()
}

/// XEP-0115 §5.4, items 3.7 and 3.8: one client proves its hash for all.
#[test]
fn a_proven_hash_is_asked_for_once() {
    let server = Server::start("[server]\nshards = 1\n");
    let mut juliet = available(&server, "juliet@example.org/balcony", VER);
    let (id, node) = question(&mut juliet);
    assert_eq!(node, format!("http://exodus#{VER}"));
    answer(&mut juliet, &id, INFO);
    juliet.settle();
    assert_eq!(
        shown(&server, "juliet@example.org/balcony").as_deref(),
        Some("Exodus 0.9.1")
    );
    let mut romeo = available(&server, "romeo@example.org/orchard", VER);
    let heard = romeo.until_settled();
    assert!(
        heard.iter().all(|element| element.name != "iq"),
        "{heard:?}"
    );
    assert_eq!(
        shown(&server, "romeo@example.org/orchard").as_deref(),
        Some("Exodus 0.9.1")
    );
}

/// XEP-0115 §5.4, item 3.9, and §9.3: a lie is told by nobody else.
#[test]
fn a_false_hash_is_not_believed_and_the_next_client_is_asked() {
    let server = Server::start("[server]\nshards = 1\n");
    let mut mallory = available(&server, "juliet@example.org/balcony", VER);
    let (id, _) = question(&mut mallory);
    answer(&mut mallory, &id, &INFO.replace("Exodus", "Mallory"));
    mallory.settle();
    assert_eq!(shown(&server, "juliet@example.org/balcony"), None);
    let mut romeo = available(&server, "romeo@example.org/orchard", VER);
    let (id, _) = question(&mut romeo);
    answer(&mut romeo, &id, INFO);
    romeo.settle();
    assert_eq!(
        shown(&server, "romeo@example.org/orchard").as_deref(),
        Some("Exodus 0.9.1")
    );
}

/// XEP-0115 §6.2, §6.3.
#[test]
fn the_hash_in_the_stream_features_is_that_of_the_domain() {
    let server = Server::start("[contact]\nadmin = [\"xmpp:admin@example.org\"]\n");
    let mut juliet = Client::connect(&server);
    juliet.secure("example.org");
    juliet
        .scram("SCRAM-SHA-256", "juliet", common::server::PASSWORD)
        .unwrap();
    let features: Element = juliet.open("example.org");
    let c = features.find(ns::CAPS, "c").unwrap();
    let node = format!(
        "{}#{}",
        c.attribute("node").unwrap(),
        c.attribute("ver").unwrap()
    );
    juliet.bind(None);
    juliet.send(format!(
        "<iq type='get' id='d' to='example.org'>\
         <query xmlns='http://jabber.org/protocol/disco#info' node='{node}'/></iq>"
    ));
    let reply = juliet.stanza("iq");
    let query = reply.find(ns::DISCO_INFO, "query").unwrap();
    assert_eq!(query.attribute("node"), Some(node.as_str()));
    let own = Capabilities::parse(query).unwrap();
    assert_eq!(Some(own.ver(CapsHash::Sha1).as_str()), c.attribute("ver"));
}

#[test]
fn an_operator_ends_one_session_or_all_of_an_account() {
    let server = Server::start("[server]\nshards = 2\n");
    let mut one = Client::login(&server, "juliet@example.org/one");
    let mut two = Client::login(&server, "juliet@example.org/two");
    let mut three = Client::login(&server, "juliet@example.org/three");
    let end = |jid: &str| {
        server.ask(&Request::SessionsEnd {
            jid: jid.to_owned(),
        })
    };
    assert_eq!(
        end("juliet@example.org/one"),
        Reply::SessionsEnded { count: 1 }
    );
    one.fails("policy-violation");
    two.settle();
    assert_eq!(end("Juliet@Example.org"), Reply::SessionsEnded { count: 2 });
    two.fails("policy-violation");
    three.fails("policy-violation");
    assert_eq!(end("juliet@example.org"), Reply::SessionsEnded { count: 0 });
}

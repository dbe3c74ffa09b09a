//! Rosters beyond the examples (RFC 6121 §2): the order of pushes, versions, and what is kept.

use std::collections::BTreeMap;

use stanzad::xml::Element;

use crate::common::cast::Cast;
use crate::common::client::{Client, text};
use crate::common::server::Server;

const JULIET: &str = "juliet@example.org";

/// A roster as a client keeps it: the items, each as it was last told.
type Cache = BTreeMap<String, String>;

fn query(iq: &Element) -> &Element {
    let query = iq.find("jabber:iq:roster", "query");
    query.unwrap_or_else(|| panic!("no query: {}", text(iq)))
}

fn version(iq: &Element) -> String {
    let ver = query(iq).attribute("ver");
    ver.unwrap_or_else(|| panic!("no version: {}", text(iq)))
        .to_owned()
}

/// Takes the items of a result or a push.
fn take(cache: &mut Cache, iq: &Element) {
    for item in query(iq).elements() {
        let jid = item.attribute("jid").unwrap().to_owned();
        match item.attribute("subscription") {
            Some("remove") => drop(cache.remove(&jid)),
            _ => drop(cache.insert(jid, text(item))),
        }
    }
}

fn is_push(stanza: &Element) -> bool {
    stanza.name == "iq" && stanza.attribute("type") == Some("set")
}

fn set(id: &str, item: &str) -> String {
    format!("<iq type='set' id='{id}'><query xmlns='jabber:iq:roster'>{item}</query></iq>")
}

/// [roster-push] RFC 6121 §2.6.3: two resources change the roster at once; both hear all changes in
/// one order, each with a version of its own, and end with what the server has.
#[test]
fn pushes_come_to_all_in_one_order_with_a_version_each() {
    const ROUNDS: usize = 60;
    let server = Server::start("");
    let names = ["balcony", "chamber"].map(|resource| format!("{JULIET}/{resource}"));
    let mut clients = names.clone().map(|name| Client::login(&server, &name));
    for client in &mut clients {
        client.send("<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>");
        assert_eq!(client.stanza("iq").attribute("type"), Some("result"));
    }
    for round in 0..ROUNDS {
        for (which, client) in clients.iter_mut().enumerate() {
            // Both change the same items.
            let jid = format!("contact{}@example.com", round % 7);
            let item = match (round + which) % 5 {
                4 => format!("<item jid='{jid}' subscription='remove'/>"),
                _ => format!("<item jid='{jid}' name='{which} {round}'/>"),
            };
            client.send(set(&format!("{round}"), &item));
        }
    }
    // Each waits for its own answers; pushes for what the other did may come after them.
    let told: Vec<Vec<Element>> = clients.iter_mut().map(Client::until_settled).collect();
    let mut seen: Vec<Vec<(String, String)>> = Vec::new();
    let mut caches = Vec::new();
    for (client, mut heard) in clients.iter_mut().zip(told) {
        heard.extend(client.until_settled());
        let answers = heard.iter().filter(|one| !is_push(one)).count();
        assert_eq!(answers, ROUNDS);
        let pushes: Vec<&Element> = heard.iter().filter(|one| is_push(one)).collect();
        let mut cache = Cache::new();
        for push in &pushes {
            assert_eq!(query(push).elements().count(), 1, "{}", text(push));
            take(&mut cache, push);
        }
        caches.push(cache);
        let of = |push: &&Element| (version(push), text(query(push).elements().next().unwrap()));
        seen.push(pushes.iter().map(of).collect());
    }
    assert_eq!(seen[0], seen[1]);
    let mut versions: Vec<&String> = seen[0].iter().map(|(version, _)| version).collect();
    let count = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), count, "each has a version of its own");
    let mut cast = Cast::new(&server, &[JULIET]);
    let late = format!("{JULIET}/late");
    cast.enter(&late);
    let result = cast.take_roster(&late);
    let mut whole = Cache::new();
    take(&mut whole, &result);
    assert_eq!(version(&result), seen[0][count - 1].0);
    assert_eq!(caches, [whole.clone(), whole]);
}

/// [roster-version] RFC 6121 §2.6.3: from whatever version a client starts, it comes to the same
/// roster, with an answer or the pushes after it.
#[test]
fn every_version_leads_to_the_newest_roster() {
    let mut server = Server::start("");
    let mut client = Client::login(&server, &format!("{JULIET}/balcony"));
    client.send("<iq type='get' id='get'><query xmlns='jabber:iq:roster' ver=''/></iq>");
    let result = client.stanza("iq");
    let mut cache = Cache::new();
    take(&mut cache, &result);
    let mut known = vec![(version(&result), cache.clone())];
    for round in 0..40 {
        let jid = format!("contact{}@example.com", round % 9);
        let item = match round % 4 {
            3 if cache.contains_key(&jid) => format!("<item jid='{jid}' subscription='remove'/>"),
            0 => format!("<item jid='{jid}' name='n{round}'/>"),
            _ => format!("<item jid='{jid}'><group>g{round}</group></item>"),
        };
        client.send(set("set", &item));
        let heard = client.until_settled();
        for push in heard.iter().filter(|one| is_push(one)) {
            take(&mut cache, push);
            known.push((version(push), cache.clone()));
        }
    }
    assert_eq!(known.len(), 41);
    // What is acknowledged is kept (`Commit first` in lib.rs), versions too.
    server.kill();
    server.start_again();
    let (newest, whole) = known.last().cloned().unwrap();
    for (ver, mut cache) in known {
        let mut client = Client::login(&server, &format!("{JULIET}/balcony"));
        client.send(format!(
            "<iq type='get' id='get'><query xmlns='jabber:iq:roster' ver='{ver}'/></iq>"
        ));
        let result = client.stanza("iq");
        assert_eq!(result.attribute("type"), Some("result"));
        if result.elements().next().is_some() {
            cache.clear();
            take(&mut cache, &result);
            assert_eq!(version(&result), newest);
        }
        let pushes = client.until_settled();
        assert!(pushes.iter().all(is_push), "{pushes:?}");
        if ver == newest {
            assert!(result.elements().next().is_none(), "{}", text(&result));
            assert!(pushes.is_empty(), "{pushes:?}");
        }
        pushes.iter().for_each(|push| take(&mut cache, push));
        assert_eq!(cache, whole, "from {ver}");
        if let Some(last) = pushes.last() {
            assert_eq!(version(last), newest);
        }
    }
}

/// [roster-get] [roster-set] RFC 6121 §2: what was stored comes back unmodified, after a crash too.
#[test]
fn items_come_back_as_they_were_set() {
    let mut server = Server::start("");
    let items = [
        "<item jid='romeo@example.net' name=' Romeo &amp; &lt;co&gt; '/>",
        "<item jid='benvolio@example.net' name='B&#xE9;n \u{1F409}'>\
         <group> Friends &#x3B1;</group><group>friends</group></item>",
        "<item jid='example.com' name='a server'/>",
    ];
    let mut client = Client::login(&server, &format!("{JULIET}/balcony"));
    for item in items {
        client.send(set("set", item));
        let answer = client.stanza("iq");
        assert_eq!(
            answer.attribute("type"),
            Some("result"),
            "{}",
            text(&answer)
        );
    }
    server.kill();
    server.start_again();
    let mut cast = Cast::new(&server, &[JULIET]);
    let balcony = format!("{JULIET}/balcony");
    cast.enter(&balcony);
    let result = cast.take_roster(&balcony);
    let mut found = Vec::new();
    for item in query(&result).elements() {
        let mut item = item.clone();
        assert_eq!(item.attribute("subscription").unwrap_or("none"), "none");
        item.attributes.retain(|one| one.name != "subscription");
        found.push(item);
    }
    let wanted = items.map(|item| {
        let mut wanted = crate::common::pattern::stanza(item);
        in_roster(&mut wanted);
        wanted
    });
    assert_eq!(found.len(), wanted.len());
    for item in &wanted {
        let same = found.iter().any(|found| {
            let mut words = crate::common::pattern::Words::new();
            crate::common::pattern::matches(item, found, &balcony, &mut words).is_ok()
        });
        assert!(same, "{} is not among {found:?}", text(item));
    }
}

/// The namespace that an item has within a roster query.
fn in_roster(element: &mut Element) {
    element.ns = "jabber:iq:roster".to_owned();
    for node in &mut element.nodes {
        if let stanzad::xml::Node::Element(child) = node {
            in_roster(child);
        }
    }
}

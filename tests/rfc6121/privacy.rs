//! What a stranger can find out about accounts: nothing (RFC 6120 §13.10.2, §13.11, RFC 6121 §11).
//!
//! Three strangers who have done the same ask the same of an account that does not exist, of one
//! that is offline, and of one that is online. What they hear is the same, byte by byte, but for the
//! addresses and for ids that the server makes.

use std::fmt::Write;

use stanzad::xml::{Element, Node};

use crate::common::cast::Cast;
use crate::common::client::text;
use crate::common::pattern::map;
use crate::common::server::{Server, add_offline, site};

/// Who asks whom; the second account does not exist, the third is offline, the fourth online.
const PAIRS: [(&str, &str); 3] = [
    ("stranger1@example.org", "victim1@example.net"),
    ("stranger2@example.org", "victim2@example.net"),
    ("stranger3@example.org", "victim3@example.net"),
];

const ONLINE: &str = "victim3@example.net/balcony";

/// Requests that some server answers for its accounts: type, and payload.
const REQUESTS: [(&str, &str); 22] = [
    (
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#info'/>",
    ),
    (
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>",
    ),
    (
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#items'/>",
    ),
    (
        "get",
        "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>",
    ),
    ("get", "<query xmlns='jabber:iq:last'/>"),
    ("get", "<query xmlns='jabber:iq:version'/>"),
    ("get", "<time xmlns='urn:xmpp:time'/>"),
    ("get", "<ping xmlns='urn:xmpp:ping'/>"),
    ("get", "<vCard xmlns='vcard-temp'/>"),
    ("set", "<vCard xmlns='vcard-temp'><FN>Tybalt</FN></vCard>"),
    (
        "get",
        "<query xmlns='jabber:iq:private'><a xmlns='urn:example:a'/></query>",
    ),
    (
        "set",
        "<query xmlns='jabber:iq:private'><a xmlns='urn:example:a'/></query>",
    ),
    ("get", "<query xmlns='jabber:iq:roster'/>"),
    ("get", "<query xmlns='jabber:iq:roster' ver=''/>"),
    (
        "set",
        "<query xmlns='jabber:iq:roster'><item jid='tybalt@example.org'/></query>",
    ),
    ("set", "<query xmlns='jabber:iq:roster'/>"),
    (
        "set",
        "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>",
    ),
    ("set", "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"),
    (
        "get",
        "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'/></pubsub>",
    ),
    ("get", "<blocklist xmlns='urn:xmpp:blocking'/>"),
    ("get", "<a xmlns='urn:example:a'/>"),
    ("set", "<a xmlns='urn:example:a'/>"),
];

/// Everything a stranger can send to an account, with `TO` for its address.
fn stanzas() -> Vec<String> {
    let mut all = Vec::new();
    for to in ["TO", "TO/balcony", "TO/gone"] {
        for (type_, payload) in REQUESTS {
            all.push(format!(
                "<iq type='{type_}' to='{to}' id='q'>{payload}</iq>"
            ));
        }
        for type_ in ["result", "error"] {
            all.push(format!("<iq type='{type_}' to='{to}' id='q'/>"));
        }
        for type_ in [
            "probe",
            "unavailable",
            "subscribe",
            "probe",
            "unsubscribe",
            "subscribed",
            "probe",
            "unsubscribed",
            "error",
        ] {
            all.push(format!("<presence type='{type_}' to='{to}' id='p'/>"));
        }
        all.push(format!("<presence to='{to}' id='p'/>"));
        all.push(format!("<presence type='probe' to='{to}' id='p'/>"));
    }
    // Other messages reach a resource that is named, or wait for the account (RFC 6121 §8.5).
    for type_ in ["groupchat", "headline", "error"] {
        for to in ["TO", "TO/gone"] {
            all.push(format!("<message type='{type_}' to='{to}' id='m'/>"));
        }
    }
    all
}

/// What is heard, without what may differ: addresses, ids that the server makes, and the version of
/// the stranger's own roster.
fn anonymous(heard: &[Element], stranger: &str, victim: &str) -> String {
    let mut all = String::new();
    for stanza in heard {
        let mut stanza = map(stanza, &|value: &String| {
            value
                .replace(stranger, "STRANGER")
                .replace(victim, "VICTIM")
        });
        let is_servers_own = stanza.attribute("type") == Some("set");
        for attribute in &mut stanza.attributes {
            if is_servers_own && attribute.name == "id" {
                attribute.value = "ID".to_owned();
            }
        }
        for node in &mut stanza.nodes {
            if let Node::Element(query) = node
                && query.is("jabber:iq:roster", "query")
            {
                query.attributes.retain(|one| one.name != "ver");
            }
        }
        writeln!(all, "{}", text(&stanza)).unwrap();
    }
    all
}

/// [presence-probe] RFC 6120 §13.10.2, §13.11; RFC 6121 §8.5.1, §11.
#[test]
fn accounts_that_are_missing_offline_or_online_answer_alike() {
    let site = site("");
    let mut accounts: Vec<&str> = PAIRS.iter().map(|(stranger, _)| *stranger).collect();
    accounts.extend([PAIRS[1].1, PAIRS[2].1]);
    add_offline(&site, &accounts);
    let server = Server::start_in(site);
    let mut casts = PAIRS.map(|(stranger, victim)| Cast::new(&server, &[stranger, victim]));
    casts[2].enter_available(ONLINE);
    let strangers = PAIRS.map(|(stranger, _)| format!("{stranger}/orchard"));
    for (cast, stranger) in casts.iter_mut().zip(&strangers) {
        cast.enter_available(stranger);
    }
    let mut problems = String::new();
    // Twice: what was asked before may not make a difference either.
    for round in ["first", "second"] {
        for stanza in stanzas() {
            let answers: Vec<String> = (PAIRS.iter().zip(&strangers).zip(&mut casts))
                .map(|(((bare, victim), stranger), cast)| {
                    cast.send(stranger, stanza.replace("TO", victim));
                    anonymous(&cast.heard(stranger), bare, victim)
                })
                .collect();
            if answers[0] != answers[1] || answers[0] != answers[2] {
                writeln!(problems, "{round} {stanza}:").unwrap();
                for (which, answer) in ["missing", "offline", "online"].iter().zip(&answers) {
                    writeln!(problems, "  {which}: {answer:?}").unwrap();
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
}

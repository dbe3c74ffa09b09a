//! What stanzas are, and the errors that answer them (RFC 6120 §8.2 to §8.4).

use crate::common::client::{Client, error_of, text};
use crate::common::server::Server;

/// [stanza/bad-request] [stanza-iq-child] RFC 6120 §8.2.3.
#[test]
fn an_iq_request_has_exactly_one_child() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for type_ in ["get", "set"] {
        for children in ["", "<a xmlns='x'/><b xmlns='x'/>"] {
            juliet.send(format!(
                "<iq type='{type_}' id='1' to='romeo@example.org/orchard'>{children}</iq>"
            ));
            let error = juliet.refused("iq", "bad-request");
            assert_eq!(error.attribute("id"), Some("1"));
        }
    }
    romeo.send("<presence to='juliet@example.org/balcony'/>");
    juliet.stanza("presence");
    juliet.send("<iq type='get' id='good' to='romeo@example.org/orchard'><a xmlns='x'/></iq>");
    assert_eq!(romeo.stanza("iq").attribute("id"), Some("good"));
}

/// [stanza-iq-child] RFC 6120 §8.2.3: a result with too much is not answered, nor delivered.
#[test]
fn an_iq_result_has_at_most_one_child() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let iq = |children: &str, id: &str| {
        format!("<iq type='result' id='{id}' to='romeo@example.org/orchard'>{children}</iq>")
    };
    juliet.send(iq("<a xmlns='x'/><b xmlns='x'/>", "two"));
    juliet.send(iq("", "none"));
    juliet.send(iq("<a xmlns='x'/>", "one"));
    assert_eq!(romeo.stanza("iq").attribute("id"), Some("none"));
    assert_eq!(romeo.stanza("iq").attribute("id"), Some("one"));
    juliet.settle();
}

/// [stanza/bad-request] [stanza-iq-id] RFC 6120 §8.2.3, §8.3.1.
#[test]
fn an_iq_without_id_is_refused() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<iq type='get' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>");
    let error = juliet.refused("iq", "bad-request");
    assert_eq!(error.attribute("id").unwrap_or_default(), "");
    juliet.settle();
}

/// [stanza/bad-request] [stanza-iq-type] RFC 6120 §8.2.3, RFC 6121 §4.7.1.
#[test]
fn an_iq_or_presence_of_an_unknown_type_is_refused() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for stanza in [
        "<iq type='query' id='1'><a xmlns='x'/></iq>",
        "<iq type='GET' id='1'><a xmlns='x'/></iq>",
        "<iq id='1'><a xmlns='x'/></iq>",
        "<presence type='asleep' id='1'/>",
    ] {
        juliet.send(stanza);
        let name = if stanza.starts_with("<iq") {
            "iq"
        } else {
            "presence"
        };
        let error = juliet.refused(name, "bad-request");
        assert_eq!(error.attribute("id"), Some("1"), "{stanza}");
    }
    juliet.settle();
}

/// [stanza-kind-iq] [stanza-iq-reply] RFC 6120 §8.2.3: every request is answered, once.
#[test]
fn every_iq_request_is_answered_with_its_id() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let recipients = [
        "",
        "to='example.org'",
        "to='juliet@example.org'",
        "to='juliet@example.org/balcony/none'",
        "to='romeo@example.org'",
        "to='romeo@example.org/none'",
        "to='nobody@example.org'",
        "to='example.org/none'",
        "to='montague.example'",
    ];
    for (index, to) in recipients.iter().enumerate() {
        for type_ in ["get", "set"] {
            let id = format!("{index}{type_}");
            juliet.send(format!(
                "<iq {to} type='{type_}' id='{id}'><a xmlns='urn:x'/></iq>"
            ));
            let answer = juliet.stanza("iq");
            assert_eq!(answer.attribute("id"), Some(&*id), "{}", text(&answer));
            assert_eq!(answer.attribute("type"), Some("error"));
        }
    }
    juliet.settle();
}

/// [stanza-iq-reply] [stanza-kind-iq] RFC 6120 §8.2.3, §10.5.4: between clients too, if the one that
/// is asked lets the other know that it is there (RFC 6121 §8.5.3.1).
#[test]
fn an_iq_and_its_answer_go_from_client_to_client() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let ask = "<iq type='get' id='q' to='romeo@example.org/orchard'><a xmlns='urn:x'/></iq>";
    juliet.send(ask);
    juliet.refused("iq", "service-unavailable");
    romeo.send("<presence to='juliet@example.org/balcony'/>");
    juliet.stanza("presence");
    juliet.send(ask);
    let request = romeo.stanza("iq");
    assert!(request.find("urn:x", "a").is_some());
    let from = request.attribute("from").unwrap();
    romeo.send(format!(
        "<iq type='result' id='q' to='{from}'><b xmlns='urn:x'/></iq>"
    ));
    let answer = juliet.stanza("iq");
    assert_eq!(answer.attribute("from"), Some("romeo@example.org/orchard"));
    assert!(answer.find("urn:x", "b").is_some());
}

/// [stanza-error] [stanza-error-child] [stanza-error-id] RFC 6120 §8.3.1: for each kind.
#[test]
fn errors_have_the_id_the_addresses_and_an_error_child() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for (name, stanza) in [
        ("message", "<message to='romeo@montague.example' id='e1'/>"),
        (
            "presence",
            "<presence to='romeo@montague.example' id='e1'/>",
        ),
        (
            "iq",
            "<iq type='get' to='romeo@montague.example' id='e1'><a xmlns='x'/></iq>",
        ),
    ] {
        juliet.send(stanza);
        let error = juliet.refused(name, "remote-server-not-found");
        assert_eq!(error.attribute("id"), Some("e1"));
        assert_eq!(error.attribute("from"), Some("romeo@montague.example"));
        assert_eq!(error.attribute("to"), Some("juliet@example.org/balcony"));
        let child = error.find("jabber:client", "error").unwrap();
        assert_eq!(child.attribute("type"), Some("cancel"));
    }
}

/// [stanza-error-reply] RFC 6120 §8.3.1: nothing answers an error, or a result.
#[test]
fn errors_and_results_are_never_answered() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let error = "<error type='cancel'>\
                 <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for to in [
        "nobody@example.org",
        "romeo@example.org",
        "romeo@example.org/none",
        "montague.example",
        "example.org",
        "@@",
    ] {
        juliet.send(format!("<message type='error' to='{to}'>{error}</message>"));
        juliet.send(format!(
            "<presence type='error' to='{to}'>{error}</presence>"
        ));
        juliet.send(format!("<iq type='error' id='1' to='{to}'>{error}</iq>"));
        juliet.send(format!("<iq type='result' id='1' to='{to}'/>"));
        assert!(until_answered(&mut juliet, to, false).is_empty(), "{to}");
    }
}

/// [stanza-error] RFC 6120 §8.3: errors of clients go to clients.
#[test]
fn errors_are_delivered_like_other_stanzas() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send(
        "<message type='error' id='1' to='romeo@example.org/orchard'><error type='wait'>\
         <unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <too-soon xmlns='urn:example:app'/></error></message>",
    );
    let error = romeo.stanza("message");
    let child = error.find("jabber:client", "error").unwrap();
    assert_eq!(child.attribute("type"), Some("wait"));
    assert!(child.find("urn:example:app", "too-soon").is_some());
}

/// [stanza-extension] [stanza-kind-message] RFC 6120 §8.4: what the server does not know it
/// carries.
#[test]
fn unknown_extensions_are_delivered_untouched() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let child = "<x xmlns='urn:example:x' a='1' b='&lt;'><y xmlns='urn:example:y'>t&amp;</y>\
                 <n:z xmlns:n='urn:example:z' n:q='2'/>tail</x>";
    juliet.send(format!(
        "<message to='romeo@example.org/orchard'>{child}</message>"
    ));
    let message = romeo.stanza("message");
    let x = message.find("urn:example:x", "x").unwrap();
    assert_eq!((x.attribute("a"), x.attribute("b")), (Some("1"), Some("<")));
    assert_eq!(x.find("urn:example:y", "y").unwrap().text(), "t&");
    let z = x.find("urn:example:z", "z").unwrap();
    assert_eq!(z.attributes[0].ns.as_deref(), Some("urn:example:z"));
    assert_eq!(x.text(), "tail");
    juliet.send(format!(
        "<presence to='romeo@example.org/orchard'>{child}</presence>"
    ));
    assert!(
        romeo
            .stanza("presence")
            .find("urn:example:x", "x")
            .is_some()
    );
}

/// [stanza-extension] [stanza/service-unavailable] RFC 6120 §8.4, §8.3.3.19: an IQ that the server
/// does not know.
#[test]
fn an_unknown_iq_gets_an_error() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for to in ["", "to='example.org'", "to='juliet@example.org'"] {
        juliet.send(format!(
            "<iq {to} type='set' id='u'><u xmlns='urn:example:u'/></iq>"
        ));
        juliet.refused("iq", "service-unavailable");
    }
}

/// [stanza/not-acceptable] RFC 6120 §8.3.3.9, XEP-0049 §2.3: private XML without any.
#[test]
fn nothing_to_store_is_not_acceptable() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org");
    juliet.send("<iq type='set' id='p'><query xmlns='jabber:iq:private'/></iq>");
    juliet.refused("iq", "not-acceptable");
}

/// [stanza/policy-violation] RFC 6120 §8.3.3.12: what the operator's quota does not allow.
#[test]
fn more_than_the_quota_violates_the_policy() {
    let server = Server::start("[limits]\nvcard_bytes_max = 1024\n");
    let mut juliet = Client::login(&server, "juliet@example.org");
    let note = "x".repeat(1024);
    juliet.send(format!(
        "<iq type='set' id='v'><vCard xmlns='vcard-temp'><NOTE>{note}</NOTE></vCard></iq>"
    ));
    juliet.refused("iq", "policy-violation");
}

/// [stanza/item-not-found] RFC 6120 §8.3.3.7, XEP-0030 §7: a node that is not there.
#[test]
fn an_unknown_node_is_not_found() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send(
        "<iq to='example.org' type='get' id='n'>\
         <query xmlns='http://jabber.org/protocol/disco#info' node='nothing'/></iq>",
    );
    juliet.refused("iq", "item-not-found");
}

/// [stanza/service-unavailable] RFC 6120 §8.3.3.19, RFC 6121 §8.5.1: what can't be delivered comes
/// back, in the same way whether the account is not there or not online. A message that is stored is
/// delivered later and gets no answer (XEP-0160 §2); these say that they are not to be.
#[test]
fn an_unknown_account_looks_like_an_offline_one() {
    const NO_STORE: &str = "<no-store xmlns='urn:xmpp:hints'/>";
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut answers = |user: &str| -> Vec<String> {
        let mut heard = Vec::new();
        for resource in ["", "/none"] {
            let to = format!("{user}@example.org{resource}");
            for stanza in [
                format!("<message to='{to}' id='1'>{NO_STORE}</message>"),
                format!("<message to='{to}' id='1' type='chat'>{NO_STORE}</message>"),
                format!("<message to='{to}' id='1' type='groupchat'/>"),
                format!("<message to='{to}' id='1' type='headline'/>"),
                format!("<presence to='{to}' id='1'/>"),
                format!("<presence to='{to}' id='1' type='probe'/>"),
                format!("<presence to='{to}' id='1' type='subscribe'/>"),
                format!("<iq to='{to}' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"),
                format!("<iq to='{to}' id='1' type='set'><a xmlns='urn:x'/></iq>"),
                format!(
                    "<iq to='{to}' id='1' type='get'>\
                     <query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
                ),
            ] {
                juliet.send(&stanza);
                let answers = until_answered(&mut juliet, &to, stanza.starts_with("<iq"));
                heard.push(answers.concat().replace(user, "USER"));
            }
        }
        heard
    };
    let (offline, unknown) = (answers("romeo"), answers("rosaline"));
    assert_eq!(offline, unknown);
    assert!(offline[0].contains("service-unavailable"), "{offline:?}");
}

/// Everything that comes before the answer to a request that takes the same way to `to`.
fn until_answered(client: &mut Client, to: &str, is_request: bool) -> Vec<String> {
    client.send(format!(
        "<iq to='{to}' type='get' id='last'><a xmlns='urn:x'/></iq>"
    ));
    let (mut heard, mut is_last) = (Vec::new(), false);
    loop {
        let element = client.element();
        if element.attribute("id") == Some("last") {
            is_last = true;
        } else {
            heard.push(text(&element));
        }
        // Each of two requests waits for a read of its own, so the later may be answered first.
        if is_last && (!is_request || !heard.is_empty()) {
            return heard;
        }
    }
}

/// [stanza-kind-message] RFC 6120 §8.2.1: a message to a domain has no reader.
#[test]
fn a_message_to_the_server_comes_back() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='example.org'><body>anybody there?</body></message>");
    let error = juliet.refused("message", "service-unavailable");
    assert_eq!(error.attribute("from"), Some("example.org"));
}

/// [stanza-kind-presence] RFC 6120 §8.2.2, RFC 6121 §4.2.2: all of one's own are told.
#[test]
fn presence_reaches_the_other_resources_of_the_account() {
    let server = Server::start("");
    let mut balcony = Client::login(&server, "juliet@example.org/balcony");
    let mut garden = Client::login(&server, "juliet@example.org/garden");
    balcony.send("<presence/>");
    assert_eq!(
        balcony.stanza("presence").attribute("from"),
        Some("juliet@example.org/balcony")
    );
    garden.send("<presence><show>away</show></presence>");
    for client in [&mut balcony, &mut garden] {
        let presence = client.stanza("presence");
        assert_eq!(
            presence.attribute("from"),
            Some("juliet@example.org/garden")
        );
        assert_eq!(
            presence.find("jabber:client", "show").unwrap().text(),
            "away"
        );
    }
    // The new one is told of the other (RFC 6121 §4.3.2).
    let presence = garden.stanza("presence");
    assert_eq!(presence.attribute("from"), Some(&*balcony.jid));
    garden.send("<presence type='unavailable'/>");
    for client in [&mut balcony, &mut garden] {
        let presence = client.stanza("presence");
        assert_eq!(presence.attribute("type"), Some("unavailable"));
    }
    // Once a resource is unavailable it is told nothing more (RFC 6121 §4.5.2).
    balcony.send("<presence/>");
    balcony.stanza("presence");
    garden.settle();
}

/// RFC 6121 §4.5.2: a resource that vanishes is told to be unavailable, however its stream ends.
#[test]
fn a_vanished_resource_becomes_unavailable_to_the_others() {
    let server = Server::start("");
    let mut balcony = Client::available(&server, "juliet@example.org/balcony");
    let garden = |balcony: &mut Client| {
        let garden = Client::login(&server, "juliet@example.org/garden");
        let mut garden = garden;
        garden.send("<presence/>");
        garden.until_settled();
        let presence = balcony.stanza("presence");
        assert_eq!(presence.attribute("from"), Some(&*garden.jid));
        garden
    };
    let gone = |balcony: &mut Client| {
        let presence = balcony.stanza("presence");
        assert_eq!(presence.attribute("type"), Some("unavailable"));
        let from = presence.attribute("from");
        assert_eq!(from, Some("juliet@example.org/garden"));
        balcony.settle();
    };
    let mut closing = garden(&mut balcony);
    closing.send("</stream:stream>");
    gone(&mut balcony);
    let mut breaking = garden(&mut balcony);
    breaking.shutdown();
    gone(&mut balcony);
    let mut failing = garden(&mut balcony);
    failing.send("<unknown/>");
    gone(&mut balcony);
    // Who has said so itself is not told of again.
    let mut leaving = garden(&mut balcony);
    leaving.send("<presence type='unavailable'/></stream:stream>");
    gone(&mut balcony);
    leaving.stanza("presence");
    leaving.closes();
    balcony.settle();
}

/// [stanza/forbidden] RFC 6120 §8.3.3.4, [stanza/not-acceptable] §8.3.3.9, [stanza/policy-violation]
/// §8.3.3.12.
#[test]
fn what_may_not_be_changed_or_is_too_much_has_its_own_error() {
    let server = Server::start("[limits]\nroster_items_max = 1\n");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for (to, item, condition, type_) in [
        (
            " to='romeo@example.org'",
            "<item jid='a@example.org'/>",
            "forbidden",
            "auth",
        ),
        (
            "",
            "<item jid='a@example.org'><group/></item>",
            "not-acceptable",
            "modify",
        ),
        ("", "<item jid='a@example.org'/>", "", "result"),
        (
            "",
            "<item jid='b@example.org'/>",
            "policy-violation",
            "wait",
        ),
    ] {
        juliet.send(format!(
            "<iq type='set' id='1'{to}><query xmlns='jabber:iq:roster'>{item}</query></iq>"
        ));
        let answer = juliet.stanza("iq");
        if condition.is_empty() {
            assert_eq!(answer.attribute("type"), Some(type_));
            continue;
        }
        assert_eq!(error_of(&answer), condition);
        let error = answer.find("jabber:client", "error").unwrap();
        assert_eq!(error.attribute("type"), Some(type_));
    }
}

/// RFC 6120 §8.3.2, §8.3.3.
#[test]
fn errors_have_the_recommended_type() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for (stanza, condition, type_) in [
        ("<iq type='get' id='1'/>", "bad-request", "modify"),
        (
            "<iq type='get' id='1' to='@'><a xmlns='x'/></iq>",
            "jid-malformed",
            "modify",
        ),
        (
            "<iq type='get' id='1'><a xmlns='x'/></iq>",
            "service-unavailable",
            "cancel",
        ),
    ] {
        juliet.send(stanza);
        let error = juliet.stanza("iq");
        assert_eq!(error_of(&error), condition);
        let child = error.find("jabber:client", "error").unwrap();
        assert_eq!(child.attribute("type"), Some(type_));
    }
}

//! Who a stanza is from and to (RFC 6120 §8.1, §10.1 to §10.3).

use crate::common::client::{Client, text};
use crate::common::server::Server;

/// [stanza-attribute-from] [stanza-attribute-from-stamp] RFC 6120 §8.1.2.1.
#[test]
fn stanzas_are_stamped_with_the_full_jid_of_their_sender() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for from in [
        "",
        "from='juliet@example.org'",
        "from='juliet@example.org/balcony'",
    ] {
        juliet.send(format!("<message {from} to='romeo@example.org/orchard'/>"));
        let message = romeo.stanza("message");
        assert_eq!(
            message.attribute("from"),
            Some("juliet@example.org/balcony"),
            "{from}"
        );
    }
    juliet.send("<presence to='romeo@example.org/orchard'/>");
    let presence = romeo.stanza("presence");
    assert_eq!(
        presence.attribute("from"),
        Some("juliet@example.org/balcony")
    );
    romeo.send("<presence to='juliet@example.org/balcony'/>");
    juliet.stanza("presence");
    juliet.send("<iq type='get' id='1' to='romeo@example.org/orchard'><a xmlns='b'/></iq>");
    let iq = romeo.stanza("iq");
    assert_eq!(iq.attribute("from"), Some("juliet@example.org/balcony"));
}

/// [stream/invalid-from] RFC 6120 §8.1.2.1, §4.9.3.9: nobody writes another's name under a stanza.
#[test]
fn a_stanza_from_somebody_else_ends_the_stream() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    for from in [
        "tybalt@example.org",
        "juliet@example.org/garden",
        "juliet@example.net",
        "example.org",
        "@@",
    ] {
        let mut juliet = Client::login(&server, "juliet@example.org/balcony");
        juliet.send(format!(
            "<message from='{from}' to='romeo@example.org/orchard'/>"
        ));
        juliet.fails("invalid-from");
    }
    romeo.settle();
}

/// [stanza-attribute-to] [stanza/jid-malformed] RFC 6120 §8.3.3.8.
#[test]
fn a_stanza_to_what_is_no_address_comes_back() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for to in [
        "@example.org",
        "romeo@",
        "romeo@example.org/",
        "a b@example.org",
        "",
    ] {
        for stanza in [
            format!("<message to='{to}' id='x'/>"),
            format!("<presence to='{to}' id='x'/>"),
            format!("<iq to='{to}' id='x' type='get'><a xmlns='b'/></iq>"),
        ] {
            juliet.send(&stanza);
            let name = stanza[1..].split(' ').next().unwrap();
            let error = juliet.refused(name, "jid-malformed");
            assert_eq!(error.attribute("id"), Some("x"), "{stanza}");
        }
    }
    juliet.settle();
}

/// [stanza-attribute-to] RFC 7622 §3: addresses are compared in prepared form.
#[test]
fn an_address_reaches_its_account_however_it_is_written() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='ROMEO@Example.ORG/orchard'/>");
    let message = romeo.stanza("message");
    assert_eq!(message.attribute("to"), Some("romeo@example.org/orchard"));
}

/// [stanza-attribute-to] RFC 6120 §10.3.1: a message without `to` is to the sender's own account.
#[test]
fn a_message_without_to_is_to_oneself() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<presence/>");
    juliet.until_settled();
    juliet.send("<message id='1' type='chat'><body>to myself</body></message>");
    let message = juliet.stanza("message");
    assert_eq!(message.attribute("id"), Some("1"));
    assert_eq!(
        message.attribute("from"),
        Some("juliet@example.org/balcony")
    );
}

/// [stanza-attribute-to] RFC 6120 §10.3.3: an IQ without `to` is answered for the account.
#[test]
fn an_iq_without_to_is_answered_by_the_account() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet
        .send("<iq type='get' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    let info = juliet.stanza("iq");
    let query = info
        .find("http://jabber.org/protocol/disco#info", "query")
        .unwrap();
    let identity = query
        .find("http://jabber.org/protocol/disco#info", "identity")
        .unwrap();
    assert_eq!(
        identity.attribute("category"),
        Some("account"),
        "{}",
        text(&info)
    );
}

/// [stanza/remote-server-not-found] RFC 6120 §8.3.3.16, §10.4: the DNS knows no such domain.
#[test]
fn a_stanza_to_another_domain_comes_back() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for to in [
        "romeo@montague.example",
        "montague.example",
        "example.org.",
        "sub.example.org",
    ] {
        juliet.send(format!("<message to='{to}'/>"));
        let error = match to {
            // A final dot is no part of the name (RFC 7622 §3.2).
            "example.org." => juliet.refused("message", "service-unavailable"),
            _ => juliet.refused("message", "remote-server-not-found"),
        };
        assert_eq!(error.attribute("to"), Some("juliet@example.org/balcony"));
        juliet.send(format!(
            "<iq to='{to}' type='set' id='2'><a xmlns='b'/></iq>"
        ));
        let error = juliet.stanza("iq");
        assert_eq!(error.attribute("type"), Some("error"));
    }
}

/// [stanza-attribute-id] RFC 6120 §8.1.3: an id goes through as it is, none is made up.
#[test]
fn ids_arrive_unchanged() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='romeo@example.org/orchard' id=' &lt;a&gt; &#x1f339; '/>");
    assert_eq!(
        romeo.stanza("message").attribute("id"),
        Some(" <a> \u{1f339} ")
    );
    juliet.send("<message to='romeo@example.org/orchard'/>");
    assert_eq!(romeo.stanza("message").attribute("id"), None);
}

/// [stanza-attribute-type] RFC 6120 §8.1.4, RFC 6121 §5.2.2: types go through; an unknown one of a
/// message is `normal`.
#[test]
fn types_arrive_unchanged() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    for (sent, heard) in [
        ("type='chat'", Some("chat")),
        ("type='groupchat'", Some("groupchat")),
        ("type='headline'", Some("headline")),
        ("type='error'", Some("error")),
        ("type='normal'", None),
        ("", None),
        ("type='whisper'", None),
    ] {
        juliet.send(format!("<message {sent} to='romeo@example.org/orchard'/>"));
        let message = romeo.stanza("message");
        let type_ = message.attribute("type").filter(|type_| *type_ != "normal");
        assert_eq!(type_, heard, "{sent}");
    }
    juliet.send("<presence type='unavailable' to='romeo@example.org/orchard'/>");
    assert_eq!(
        romeo.stanza("presence").attribute("type"),
        Some("unavailable")
    );
}

/// [stanza-attribute-xmllang] RFC 6120 §4.7.4, §8.1.5: the stream's language holds for stanzas that
/// have none.
#[test]
fn a_stanza_without_language_gets_that_of_the_stream() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::secured(&server);
    juliet
        .scram("SCRAM-SHA-256", "juliet", crate::common::server::PASSWORD)
        .unwrap();
    let header = crate::common::client::header("example.org");
    juliet.send(header.replace("xml:lang='en'", "xml:lang='cs'"));
    juliet.opened();
    juliet.features();
    juliet.bind(None);
    juliet.send("<message to='romeo@example.org/orchard'/>");
    assert_eq!(romeo.stanza("message").attribute("xml:lang"), Some("cs"));
    juliet.send("<message to='romeo@example.org/orchard' xml:lang='it'/>");
    assert_eq!(romeo.stanza("message").attribute("xml:lang"), Some("it"));
}

/// [stanza-attribute-xmllang] RFC 6120 §8.1.5: none is made up, and that of a child stays.
#[test]
fn languages_of_children_stay_as_they_are() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::secured(&server);
    juliet
        .scram("SCRAM-SHA-256", "juliet", crate::common::server::PASSWORD)
        .unwrap();
    let header = crate::common::client::header("example.org");
    juliet.send(header.replace(" xml:lang='en'", ""));
    juliet.opened();
    juliet.features();
    juliet.bind(None);
    juliet.send(
        "<message to='romeo@example.org/orchard'><body>a</body>\
         <body xml:lang='cs'>b</body></message>",
    );
    let message = romeo.stanza("message");
    assert_eq!(message.attribute("xml:lang"), None);
    let languages: Vec<_> = message
        .elements()
        .map(|body| body.attribute("xml:lang"))
        .collect();
    assert_eq!(languages, [None, Some("cs")]);
}

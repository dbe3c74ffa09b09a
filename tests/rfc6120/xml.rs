//! What a stream may consist of (RFC 6120 §4.8, §11).

use crate::common::client::{Client, header};
use crate::common::server::Server;

const STREAM: &str = "http://etherx.jabber.org/streams";

/// What a client sends in its first bytes gets a header, this error, and the end.
fn opening_fails(opening: &str, condition: &str) {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(opening);
    client.opened();
    client.fails(condition);
}

/// What a client sends on a stream with a bound resource gets this error and the end.
fn sending_fails(sent: &[u8], condition: &str) {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client.send(sent);
    client.fails(condition);
    assert!(server.sessions(None).is_empty(), "the session ends with it");
}

/// [xml-namespace-content-client] RFC 6120 §4.8.2.
#[test]
fn jabber_client_is_the_content_namespace() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("example.org");
    assert_eq!(client.opened().content_ns, "jabber:client");
}

/// [xml-namespace-content-client] RFC 6120 §4.8.3: the namespace may be declared on each stanza.
#[test]
fn stanzas_may_declare_the_content_namespace_themselves() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    let header = format!("<p:stream to='example.org' version='1.0' xmlns:p='{STREAM}'>");
    client.send(&header);
    client.opened();
    client.features();
    client
        .scram("SCRAM-SHA-256", "juliet", crate::common::server::PASSWORD)
        .unwrap();
    client.send(&header);
    client.opened();
    client.features();
    client.send(
        "<c:iq xmlns:c='jabber:client' type='set' id='b'>\
         <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></c:iq>",
    );
    client.fails("bad-namespace-prefix");

    let mut client = Client::connect(&server);
    client.send(&header);
    client.opened();
    client.features();
    client
        .scram("SCRAM-SHA-256", "juliet", crate::common::server::PASSWORD)
        .unwrap();
    client.send(&header);
    client.opened();
    client.features();
    client.send(
        "<iq xmlns='jabber:client' type='set' id='b'>\
         <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
    );
    assert_eq!(client.stanza("iq").attribute("type"), Some("result"));
}

/// [stream/invalid-namespace] RFC 6120 §4.9.3.10.
#[test]
fn another_stream_namespace_is_refused() {
    opening_fails(
        "<stream:stream to='example.org' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://wrong.namespace.example.org/'>",
        "invalid-namespace",
    );
}

/// [stream/invalid-namespace] RFC 6120 §4.8.2: this is a port for clients.
#[test]
fn another_content_namespace_is_refused() {
    opening_fails(
        &header("example.org").replace("jabber:client", "jabber:server"),
        "invalid-namespace",
    );
}

/// [xml-namespace-streams-declaration] RFC 6120 §4.8.1.
#[test]
fn our_header_declares_the_stream_namespace() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("example.org");
    let header = client.opened();
    assert_eq!((&*header.ns, header.binds_stream_ns), (STREAM, true));
    assert_eq!(header.prefix.as_deref(), Some("stream"));
}

/// [xml-namespace-streams-prefix] [stream/bad-namespace-prefix] RFC 6120 §4.9.3.2.
#[test]
fn a_root_without_the_declared_prefix_is_refused() {
    opening_fails(
        "<stream to='example.org' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
        "bad-namespace-prefix",
    );
}

/// [xml-restriction-comment] [stream/restricted-xml] RFC 6120 §11.1.
#[test]
fn comments_are_refused() {
    sending_fails(b"<!-- a rose by any other name -->", "restricted-xml");
}

/// [xml-restriction-comment] RFC 6120 §11.1.
#[test]
fn comments_within_a_stanza_are_refused() {
    sending_fails(
        b"<message><!-- --><body>a</body></message>",
        "restricted-xml",
    );
}

/// [xml-restriction-dtd] RFC 6120 §11.1.
#[test]
fn document_type_declarations_are_refused() {
    opening_fails(
        &format!("<!DOCTYPE x [<!ENTITY a 'aaaa'>]>{}", header("example.org")),
        "restricted-xml",
    );
}

/// [xml-restriction-pi] RFC 6120 §11.1.
#[test]
fn processing_instructions_are_refused() {
    sending_fails(b"<?php echo 'hi' ?>", "restricted-xml");
}

/// [xml-restriction-ref] RFC 6120 §11.1.
#[test]
fn entities_that_are_not_predefined_are_refused() {
    sending_fails(b"<message><body>&foo;</body></message>", "restricted-xml");
}

/// [xml-restriction-ref] RFC 6120 §11.1, §11.2.
#[test]
fn the_predefined_entities_and_character_references_arrive() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send(
        "<message to='juliet@example.org/balcony'>\
         <body>&lt;&gt;&amp;&apos;&quot;&#x1f339;</body></message>",
    );
    let body = juliet.stanza("message");
    let body = body.find("jabber:client", "body").unwrap();
    assert_eq!(body.text(), "<>&'\"\u{1f339}");
}

/// [xml-wellformed-xml] [stream/not-well-formed] RFC 6120 §4.9.3.13.
#[test]
fn xml_that_is_not_well_formed_is_refused() {
    sending_fails(
        b"<message><body>No closing tag!</message>",
        "not-well-formed",
    );
}

/// [xml-wellformed-xml] RFC 6120 §4.9.3.13: what came before it is still dealt with.
#[test]
fn what_precedes_broken_xml_is_delivered() {
    let server = Server::start("");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send("<message to='romeo@example.org/orchard' id='last'/><<");
    juliet.fails("not-well-formed");
    assert_eq!(romeo.stanza("message").attribute("id"), Some("last"));
}

/// [xml-wellformed-ns] RFC 6120 §11.3: an undeclared prefix.
#[test]
fn xml_that_is_not_namespace_well_formed_is_refused() {
    sending_fails(b"<message><foo:bar/></message>", "not-well-formed");
}

/// [stream/bad-format] RFC 6120 §4.9.3.1.
#[test]
fn text_between_stanzas_is_refused() {
    sending_fails(b"wherefore art thou", "bad-format");
}

/// [stream/bad-format] RFC 6120 §4.2: one stream at a time in each direction.
#[test]
fn a_second_stream_header_is_refused_at_once() {
    let again = header("example.org").replace("<?xml version='1.0'?>", "");
    sending_fails(again.as_bytes(), "bad-format");
}

/// [stream/not-well-formed] RFC 6120 §4.2: with its XML declaration it is no XML at all.
#[test]
fn a_second_xml_declaration_is_refused() {
    sending_fails(header("example.org").as_bytes(), "restricted-xml");
}

/// [stream/unsupported-encoding] RFC 6120 §4.9.3.22, §11.6.
#[test]
fn another_encoding_than_utf_8_is_refused() {
    opening_fails(
        &header("example.org").replace("version='1.0'?", "version='1.0' encoding='UTF-16'?"),
        "unsupported-encoding",
    );
}

/// [stream/unsupported-encoding] RFC 6120 §11.6.
#[test]
fn bytes_that_are_not_utf_8_are_refused() {
    sending_fails(
        b"<message><body>\xff\xfe</body></message>",
        "unsupported-encoding",
    );
}

/// RFC 6120 §13.12: the promised size is really taken, whatever the pieces in which it comes.
#[test]
fn a_stanza_of_the_largest_size_arrives_whole() {
    let server = Server::start("[c2s]\nstanza_bytes_max = 20000\n");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let start = "<message to='romeo@example.org/orchard'><body>";
    let end = "</body></message>";
    let text = "a".repeat(20_000 - start.len() - end.len());
    for piece in format!("{start}{text}{end}").as_bytes().chunks(1_000) {
        juliet.send(piece);
    }
    let message = romeo.stanza("message");
    let body = message.find("jabber:client", "body").unwrap();
    assert_eq!(body.text(), text);
}

/// [stream/policy-violation] RFC 6120 §4.9.3.14, §13.12.
#[test]
fn a_stanza_above_the_largest_size_ends_the_stream() {
    let server = Server::start("[c2s]\nstanza_bytes_max = 10000\n");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send(format!("<message><body>{}", "a".repeat(10_000)));
    juliet.fails("policy-violation");
}

/// RFC 6120 §13.12: strangers have less than an account's session.
#[test]
fn an_element_above_10_kib_ends_a_stream_before_authentication() {
    let server = Server::start("[c2s]\nrequire_encryption = false\n");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}",
        "A".repeat(11_000)
    ));
    client.fails("policy-violation");
}

/// RFC 6120 §11.7: white space between stanzas is no error and no stanza.
#[test]
fn white_space_between_stanzas_is_ignored() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    juliet.send(" \n\t\r\n ");
    juliet.settle();
    juliet.send(" ");
    juliet.settle();
}

/// RFC 6120 §11.4: the declaration may be left out.
#[test]
fn a_stream_needs_no_xml_declaration() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(header("example.org").replace("<?xml version='1.0'?>", ""));
    client.opened();
    client.features();
}

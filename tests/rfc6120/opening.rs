//! Stream headers and what follows them (RFC 6120 §4.3, §4.7).

use std::collections::HashSet;

use stanzad::ns;

use crate::common::client::{Client, header};
use crate::common::server::{PASSWORD, Server};

/// [stream-tcp-binding] RFC 6120 §3: a stream is bound to one TCP connection, on any of the
/// addresses.
#[test]
fn a_stream_runs_over_each_listening_address() {
    let server = Server::start("[listen]\nc2s = [\"127.0.0.1:0\", \"[::1]:0\"]\n");
    let listeners = server.status().listeners;
    let clients = listeners.iter().filter(|listener| listener.kind == "c2s");
    let addresses: Vec<_> = clients.map(|c| c.address.parse().unwrap()).collect();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        Client::connect_to(address).open("example.org");
    }
}

/// [stream-attribute-response-from] RFC 6120 §4.7.1.
#[test]
fn the_response_is_from_the_domain_that_was_asked_for() {
    let server = Server::start("");
    for domain in ["example.org", "example.net"] {
        let mut client = Client::connect(&server);
        client.send_header(domain);
        assert_eq!(client.opened().from.as_deref(), Some(domain));
    }
}

/// RFC 6120 §4.7.2, RFC 7622 §3.2: domains compare in prepared form.
#[test]
fn a_domain_is_known_in_any_letter_case() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("EXAMPLE.org");
    assert_eq!(client.opened().from.as_deref(), Some("example.org"));
}

/// [stream-attribute-response-id] [stream-attribute-response-id-unique] RFC 6120 §4.7.3.
#[test]
fn every_stream_has_an_id_of_its_own() {
    let server = Server::start("");
    let mut ids = HashSet::new();
    for _ in 0..8 {
        let mut client = Client::connect(&server);
        client.send_header("example.org");
        let id = client.opened().id.unwrap();
        assert!(id.len() >= 20, "{id} can be guessed");
        ids.insert(id);
        client.features();
        client.starttls("example.org");
        client.send_header("example.org");
        ids.insert(client.opened().id.unwrap());
    }
    assert_eq!(ids.len(), 16);
}

/// [stream-attribute-response-to] RFC 6120 §4.7.2: the bare JID that the client said it is.
#[test]
fn the_response_is_to_whom_the_header_was_from() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(header("example.org").replace(" to=", " from='Juliet@example.org/x' to="));
    assert_eq!(client.opened().to.as_deref(), Some("juliet@example.org"));
    let mut client = Client::connect(&server);
    client.send_header("example.org");
    assert_eq!(client.opened().to, None);
}

/// RFC 6120 §4.7.5: the lower of both versions.
#[test]
fn the_response_is_of_version_1_0() {
    let server = Server::start("");
    for version in ["1.0", "1.7", "2.0", "1.12"] {
        let mut client = Client::connect(&server);
        client.send(header("example.org").replace(
            "to='example.org' version='1.0'",
            &format!("to='example.org' version='{version}'"),
        ));
        assert_eq!(client.opened().version.as_deref(), Some("1.0"), "{version}");
        client.features();
    }
}

/// [stream/unsupported-version] RFC 6120 §4.9.3.25, §4.7.5: no version is version 0.9.
#[test]
fn versions_below_1_0_are_refused() {
    let server = Server::start("");
    for version in ["", " version='0.9'", " version='one'", " version='1'"] {
        let mut client = Client::connect(&server);
        client.send(
            header("example.org")
                .replace(" version='1.0' xml:lang", &format!("{version} xml:lang")),
        );
        client.opened();
        client.fails("unsupported-version");
    }
}

/// [stream-attribute-response-from] [stream-attribute-response-to] RFC 6120 §4.7.1, §4.7.2: also
/// when the stream ends at once.
#[test]
fn a_refused_header_is_answered_by_the_domain_that_it_is_for() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    let header = header("example.net").replace(" version='1.0' xml:lang", " xml:lang");
    client.send(header.replace(" to=", " from='paris@example.net' to="));
    let answer = client.opened();
    assert_eq!(answer.from.as_deref(), Some("example.net"));
    assert_eq!(answer.to.as_deref(), Some("paris@example.net"));
    client.fails("unsupported-version");
}

/// [stream/host-unknown] RFC 6120 §4.9.3.7, §4.9.1.3: the header of the answer is from a host that
/// exists.
#[test]
fn a_domain_that_is_not_served_is_refused() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("montague.example");
    let from = client.opened().from.unwrap();
    assert!(["example.org", "example.net"].contains(&&*from), "{from}");
    client.fails("host-unknown");
}

/// [stream/host-unknown] [stream-attribute-initial-to] RFC 6120 §4.7.2.
#[test]
fn a_header_without_to_is_refused() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(header("example.org").replace(" to='example.org'", ""));
    client.opened();
    client.fails("host-unknown");
}

/// [stream/improper-addressing] RFC 6120 §4.9.3.8.
#[test]
fn a_header_to_what_is_no_domain_is_refused() {
    let server = Server::start("");
    for to in ["exa mple.org", "", "juliet@example.org", "example.org/x"] {
        let mut client = Client::connect(&server);
        client.send(header("example.org").replace("to='example.org'", &format!("to='{to}'")));
        client.opened();
        client.fails("improper-addressing");
    }
}

/// [stream/improper-addressing] [stream-attribute-initial-from] RFC 6120 §4.7.1.
#[test]
fn a_header_from_what_is_no_address_is_refused() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send(header("example.org").replace(" to=", " from='@@' to="));
    client.opened();
    client.fails("improper-addressing");
}

/// [stream-attribute-initial-lang] RFC 6120 §4.7.4: the response tells our own language.
#[test]
fn the_response_has_a_language() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.send_header("example.org");
    assert_eq!(client.opened().lang.as_deref(), Some("en"));
}

/// [stream-negotiation-features] RFC 6120 §4.3.2: after every header of ours.
#[test]
fn features_follow_every_header() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    assert!(
        client
            .open("example.org")
            .find(ns::TLS, "starttls")
            .is_some()
    );
    client.starttls("example.org");
    assert!(
        client
            .open("example.org")
            .find(ns::SASL, "mechanisms")
            .is_some()
    );
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    assert!(client.open("example.org").find(ns::BIND, "bind").is_some());
}

/// [stream-negotiation-restart] RFC 6120 §4.3.3: the domain cannot change after authentication.
#[test]
fn a_restart_for_another_domain_after_authentication_is_refused() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    client.send_header("example.net");
    client.opened();
    client.fails("host-unknown");
}

/// [stream-negotiation-restart] RFC 6120 §4.3.3: what was said before TLS does not count.
#[test]
fn a_restart_for_another_domain_after_tls_begins_anew() {
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.starttls("example.org");
    client.open("example.net");
    client.scram("SCRAM-SHA-256", "paris", PASSWORD).unwrap();
    client.open("example.net");
    assert!(client.bind(None).starts_with("paris@example.net/"));
}

/// [stream-negotiation-complete] RFC 6120 §4.3.5: all that is left after the login but resource
/// binding is voluntary.
#[test]
fn only_binding_is_mandatory_after_authentication() {
    let server = Server::start("");
    let mut client = Client::secured(&server);
    client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
    let features = client.open("example.org");
    for feature in features.elements().filter(|feature| feature.ns != ns::BIND) {
        let required = feature.elements().any(|child| child.name == "required");
        assert!(!required, "{}", feature.name);
    }
    assert!(features.find(ns::TLS, "starttls").is_none());
    assert!(features.find(ns::SASL, "mechanisms").is_none());
}

/// [stream/not-authorized] RFC 6120 §4.9.3.12.
#[test]
fn stanzas_before_authentication_are_refused() {
    let server = Server::start("");
    for stanza in [
        "<message/>",
        "<presence/>",
        "<iq type='get' id='1'><a xmlns='b'/></iq>",
    ] {
        for secured in [false, true] {
            let mut client = Client::connect(&server);
            client.open("example.org");
            if secured {
                client.starttls("example.org");
                client.open("example.org");
            }
            client.send(stanza);
            client.fails("not-authorized");
        }
    }
}

/// [stream/unsupported-stanza-type] RFC 6120 §4.9.3.24.
#[test]
fn unknown_elements_end_the_stream_in_every_phase() {
    let unknown = "<pubsub xmlns='urn:example:unknown'><a/></pubsub>";
    let server = Server::start("");
    let mut client = Client::connect(&server);
    client.open("example.org");
    client.send(unknown);
    client.fails("unsupported-stanza-type");
    let mut client = Client::authenticated(&server, "juliet@example.org");
    client.send(unknown);
    client.fails("unsupported-stanza-type");
    let mut client = Client::login(&server, "juliet@example.org");
    client.send("<pubsub/>");
    client.fails("unsupported-stanza-type");
}

/// [stream/invalid-namespace] RFC 6120 §4.9.3.10: a stanza of the other content namespace is none
/// here.
#[test]
fn stanzas_of_the_server_namespace_are_refused() {
    let server = Server::start("");
    let mut client = Client::login(&server, "juliet@example.org");
    client
        .send("<message xmlns='jabber:server' to='romeo@example.org' from='juliet@example.org'/>");
    client.fails("invalid-namespace");
}

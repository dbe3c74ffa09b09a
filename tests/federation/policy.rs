//! What `[s2s]` says, in both directions, for the whole server and for one domain.

use super::common::authority::Wish;
use super::common::client::Client;
use super::common::network::{Network, address};
use super::common::offer::{describe, mechanisms};
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, body, chat, message, ping, self_signed, why};

/// `s2s.require_encryption`; RFC 6120 §5.3.1, RFC 7590 §3.1.
#[test]
fn encryption_is_asked_for_even_where_it_is_not_offered_and_nothing_is_sent_without() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::login(&capulet, "juliet@capulet.example");
    juliet.send(ping(MONTAGUE));
    let mut stream = peer.accept();
    stream.hear_open();
    stream.answer("1");
    stream.offer("");
    assert_eq!(stream.element().name, "starttls");
    stream.send("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>");
    let why = why(&juliet.refused("iq", "remote-server-not-found"));
    assert!(why.contains("require_encryption"), "{why}");
    stream.closes();
}

/// RFC 7590 §3.1: a peer that has never heard of STARTTLS has no TLS, and does not count as one that is
/// not reached.
#[test]
fn a_peer_that_answers_starttls_by_a_stream_error_is_refused_and_not_waited_for() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::login(&capulet, "juliet@capulet.example");
    juliet.send(chat("romeo@montague.example", "O Romeo"));
    let mut stream = peer.accept();
    stream.hear_open();
    stream.answer("1");
    stream.offer("");
    assert_eq!(stream.element().name, "starttls");
    stream.send(
        "<stream:error><unsupported-stanza-type xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         </stream:error></stream:stream>",
    );
    // A message that would wait for an hour if the server were not reached.
    let why = why(&juliet.refused("message", "remote-server-not-found"));
    assert!(why.contains("require_encryption"), "{why}");
    stream.closes();
}

/// `s2s.require_encryption = false`, `s2s.secure_auth = false`.
#[test]
fn a_peer_without_tls_is_talked_with_where_both_options_say_so() {
    let network = Network::new();
    let conf = "[s2s]\nrequire_encryption = false\nsecure_auth = false\n";
    let capulet = network.server(CAPULET, conf);
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@montague.example", "O"));
    let mut to = peer.accept();
    to.hear_open();
    to.answer("1");
    to.offer("");
    assert_eq!(to.element().name, "result");
    to.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"
    ));
    assert_eq!(body(&to.stanza("message")), "O");
    let mut from = peer.dial(&capulet, CAPULET);
    assert_eq!(describe(&from.open()), "STARTTLS");
    from.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}'>k3y</db:result>"
    ));
    let question = to.element();
    let id = question.attribute("id").unwrap();
    to.send(format!(
        "<db:verify from='{MONTAGUE}' to='{CAPULET}' id='{id}' type='valid'/>"
    ));
    assert_eq!(from.element().attribute("type"), Some("valid"));
    from.send(message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "She speaks",
    ));
    assert_eq!(body(&juliet.stanza("message")), "She speaks");
}

/// Issue 6: encryption is used where the peer offers it, whatever the settings.
#[test]
fn encryption_is_used_where_it_is_offered_even_if_it_is_no_must() {
    let network = Network::new();
    let conf = "[s2s]\nrequire_encryption = false\nsecure_auth = false\n";
    let capulet = network.server(CAPULET, conf);
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::login(&capulet, "juliet@capulet.example");
    juliet.send(chat("romeo@montague.example", "O Romeo"));
    assert_eq!(body(&peer.accept_ready().stanza("message")), "O Romeo");
}

/// `s2s.secure_auth`, in both directions: RFC 6120 §13.7.2.
#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_in_both_directions() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = self_signed(&network, MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send(ping(MONTAGUE));
    let mut stream = peer.accept_secured();
    stream.answer("1");
    stream.offer("");
    stream.closes();
    let why = why(&juliet.refused("iq", "remote-server-not-found"));
    assert!(why.contains("self-signed"), "{why}");
    let (mut stream, features) = peer.dial_secured(&capulet, CAPULET);
    assert!(mechanisms(&features).is_empty());
    stream.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}'>k3y</db:result>"
    ));
    assert_eq!(stream.element().attribute("type"), Some("error"));
    stream.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>");
    assert_eq!(stream.element().name, "failure");
    juliet.settle();
}

/// RFC 6120 §13.7.1.2: the name counts.
#[test]
fn a_certificate_for_another_name_proves_nothing() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let wish = Wish {
        dns: &["tybalt.example"],
        ..Wish::default()
    };
    let peer = network.stranger(MONTAGUE, wish.by(&network.authority));
    network.announce_starttls(MONTAGUE, peer.ip());
    let mut juliet = Client::login(&capulet, "juliet@capulet.example");
    juliet.send(ping(MONTAGUE));
    let mut stream = peer.accept_secured();
    stream.answer("1");
    stream.offer("");
    stream.closes();
    juliet.refused("iq", "remote-server-not-found");
    let (_, features) = peer.dial_secured(&capulet, CAPULET);
    assert!(mechanisms(&features).is_empty());
}

/// `[domain."name".s2s]`: two policies on one server.
#[test]
fn each_domain_has_its_own_policy() {
    let network = Network::new();
    let conf = "[domain.\"verona.example\".s2s]\nsecure_auth = false\n\
                [domain.\"mantua.example\".s2s]\nenabled = false\n";
    let domains = [CAPULET, "verona.example", "mantua.example"];
    let server = Server::start_in(network.site(&domains, address(), conf));
    let peer = self_signed(&network, MONTAGUE);
    for (domain, refusal) in [(CAPULET, "self-signed"), ("mantua.example", "s2s.enabled")] {
        let mut client = Client::login(&server, &format!("juliet@{domain}"));
        client.send(ping(MONTAGUE));
        if domain == CAPULET {
            let mut stream = peer.accept_secured();
            stream.answer("1");
            stream.offer("");
            stream.closes();
        }
        let why = why(&client.refused("iq", "remote-server-not-found"));
        assert!(why.contains(refusal), "{why}");
    }
    let mut client = Client::login(&server, "juliet@verona.example");
    client.send(chat("romeo@montague.example", "Hail"));
    assert_eq!(body(&peer.accept_ready().stanza("message")), "Hail");
    // And for who comes in.
    let mut stream = peer.dial(&server, "mantua.example");
    stream.send_header();
    stream.hear_header();
    stream.fails("host-unknown");
}

/// `s2s.deny`, `s2s.allow`: in both directions, and before anything is dialled.
#[test]
fn who_is_denied_or_not_allowed_is_neither_dialled_nor_let_in() {
    let network = Network::new();
    let peer = network.peer(MONTAGUE);
    for (domain, list, option) in [
        ("a.example", "deny = [\"montague.example\"]", "s2s.deny"),
        ("b.example", "allow = [\"*.verona.example\"]", "s2s.allow"),
    ] {
        let server = network.server(domain, &format!("[s2s]\n{list}\n"));
        let mut juliet = Client::login(&server, &format!("juliet@{domain}"));
        juliet.send(chat("romeo@montague.example", "Hail"));
        let why = why(&juliet.refused("message", "remote-server-not-found"));
        assert!(why.contains(option), "{why}");
        assert!(!peer.is_dialled());
        let mut stream = peer.dial(&server, domain);
        stream.send_header();
        stream.hear_header();
        stream.fails("policy-violation");
    }
}

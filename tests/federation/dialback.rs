//! Server Dialback (XEP-0220) in its three roles, with peers that the test plays.

use stanzad::ns;
use stanzad::xml::Element;

use super::common::client::Client;
use super::common::network::{Network, address};
use super::common::peer::{Peer, PeerStream};
use super::common::server::Server;
use super::common::wire::text;
use super::{CAPULET, MONTAGUE, body, chat, message, ping, self_signed, why};

/// Dialback will do for everybody.
const LENIENT: &str = "[s2s]\nsecure_auth = false\n";

/// Offers a key for a domain of a peer.
fn offer(stream: &mut PeerStream, from: &str, to: &str, key: &str) {
    stream.send(format!(
        "<db:result from='{from}' to='{to}'>{key}</db:result>"
    ));
}

/// What a key was answered: `valid`, `invalid`, or the condition of an error.
fn answer(stream: &mut PeerStream, name: &str) -> String {
    let answer = stream.element();
    assert!(answer.is(ns::DIALBACK, name), "{}", text(&answer));
    outcome(&answer)
}

fn outcome(answer: &Element) -> String {
    match answer.attribute("type").expect("it has a type") {
        "error" => {
            let error = answer.elements().next().expect("it has an error");
            let mut children = error.elements();
            let condition = children.find(|child| child.name != "text");
            condition.expect("it has a condition").name.clone()
        }
        type_ => type_.to_owned(),
    }
}

/// The request for verification that comes next, on a stream to the authoritative server.
fn asked(stream: &mut PeerStream) -> Element {
    let asked = stream.element();
    assert!(asked.is(ns::DIALBACK, "verify"), "{}", text(&asked));
    asked
}

/// Takes the call of the server under test that asks about a key, up to the question.
fn called(peer: &Peer) -> (PeerStream, Element) {
    let mut stream = peer.accept_secured();
    stream.answer("a");
    stream.offer("");
    let mut first = stream.element();
    // It may prove itself as well.
    if first.is(ns::DIALBACK, "result") {
        first = stream.element();
    }
    assert!(first.is(ns::DIALBACK, "verify"), "{}", text(&first));
    (stream, first)
}

fn told(stream: &mut PeerStream, question: &Element, type_: &str) {
    let (from, to) = (
        question.attribute("to").unwrap(),
        question.attribute("from").unwrap(),
    );
    let id = question.attribute("id").unwrap();
    stream.send(format!(
        "<db:verify from='{from}' to='{to}' id='{id}' type='{type_}'/>"
    ));
}

/// XEP-0220 §2.1, §2.2: the receiving server calls the authoritative one.
#[test]
fn a_key_is_verified_by_a_call_to_where_the_dns_says_that_the_domain_is() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut stream, MONTAGUE, CAPULET, "k3y");
    let (mut call, question) = called(&peer);
    assert_eq!(question.attribute("from"), Some(CAPULET));
    assert_eq!(question.attribute("to"), Some(MONTAGUE));
    assert_eq!(question.attribute("id"), Some(&*stream.id));
    assert_eq!(question.text(), "k3y");
    told(&mut call, &question, "valid");
    assert_eq!(answer(&mut stream, "result"), "valid");
    stream.send(message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "It is I",
    ));
    assert_eq!(body(&juliet.stanza("message")), "It is I");
}

/// XEP-0220 §2.2.1: [stream/not-authorized] is for stanzas; the key alone closes the stream.
#[test]
fn a_key_that_its_domain_denies_closes_the_stream() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut stream, MONTAGUE, CAPULET, "stolen");
    let (mut call, question) = called(&peer);
    told(&mut call, &question, "invalid");
    assert_eq!(answer(&mut stream, "result"), "invalid");
    stream.closes();
    capulet.logs("a server claimed a domain with a key that is not that domain's");
}

/// XEP-0220 §2.5.
#[test]
fn a_key_about_which_nobody_can_be_asked_is_answered_with_the_reason() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let nowhere = network.stranger(
        "nowhere.example",
        self_signed(&network, "other.example").identity,
    );
    let (mut stream, _) = nowhere.dial_secured(&capulet, CAPULET);
    offer(&mut stream, "nowhere.example", CAPULET, "k3y");
    assert_eq!(answer(&mut stream, "result"), "remote-server-not-found");
    // The stream stays: another domain may be proven on it.
    network.announce_starttls("dead.example", address());
    offer(&mut stream, "dead.example", CAPULET, "k3y");
    assert_eq!(answer(&mut stream, "result"), "remote-server-timeout");
    offer(&mut stream, "nowhere.example", "verona.example", "k3y");
    assert_eq!(answer(&mut stream, "result"), "item-not-found");
}

/// XEP-0220 §2.1.1, §2.5: the stream to the authoritative server is in use, and it says nothing of a key.
#[test]
fn a_key_of_which_its_domain_says_nothing_is_refused_in_time_and_may_come_again() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut stream, MONTAGUE, CAPULET, "k3y");
    let (mut call, _) = peer.accept_dialback();
    let (from, to) = (MONTAGUE, CAPULET);
    call.send(format!("<db:result from='{from}' to='{to}' type='valid'/>"));
    let first = asked(&mut call);
    // It answers after 20 seconds.
    let patience = Some(std::time::Duration::from_secs(30));
    stream.tcp().set_read_timeout(patience).unwrap();
    assert_eq!(answer(&mut stream, "result"), "remote-server-timeout");
    capulet.logs("server does not answer about a dialback key");
    offer(&mut stream, MONTAGUE, CAPULET, "an0ther");
    let second = asked(&mut call);
    assert_eq!(second.text(), "an0ther");
    told(&mut call, &second, "valid");
    assert_eq!(answer(&mut stream, "result"), "valid");
    // That the first answer comes late ends no stream.
    told(&mut call, &first, "valid");
    juliet.send(chat("romeo@montague.example", "still there"));
    assert_eq!(body(&call.stanza("message")), "still there");
}

/// XEP-0220 §2.5: the authoritative server does not know the domain.
#[test]
fn an_error_of_the_authoritative_server_is_passed_on() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut stream, MONTAGUE, CAPULET, "k3y");
    let (mut call, question) = called(&peer);
    let id = question.attribute("id").unwrap();
    call.send(format!(
        "<db:verify from='{MONTAGUE}' to='{CAPULET}' id='{id}' type='error'><error type='cancel'>\
         <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:verify>"
    ));
    assert_eq!(answer(&mut stream, "result"), "remote-server-not-found");
}

/// XEP-0220 §2.6.
#[test]
fn several_domains_are_proven_on_one_stream_and_each_speaks_for_itself() {
    let network = Network::new();
    let ip = address();
    let conf = LENIENT;
    let capulet = Server::start_in(network.site(&[CAPULET, "verona.example"], ip, conf));
    let peer = self_signed(&network, MONTAGUE);
    network.announce_starttls("benvolio.example", peer.ip());
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut nurse = Client::available(&capulet, "nurse@verona.example/hall");
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut stream, MONTAGUE, CAPULET, "1");
    let (mut call, question) = called(&peer);
    told(&mut call, &question, "valid");
    assert_eq!(answer(&mut stream, "result"), "valid");
    // Another of ours is asked on a link of its own.
    offer(&mut stream, MONTAGUE, "verona.example", "2");
    let (mut call, question) = called(&peer);
    assert_eq!(question.attribute("from"), Some("verona.example"));
    told(&mut call, &question, "valid");
    assert_eq!(answer(&mut stream, "result"), "valid");
    stream.send(message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "one",
    ));
    stream.send(message(
        "romeo@montague.example",
        "nurse@verona.example",
        "two",
    ));
    assert_eq!(body(&juliet.stanza("message")), "one");
    assert_eq!(body(&nurse.stanza("message")), "two");
    // A domain that is not proven stays out.
    stream.send(message(
        "b@benvolio.example",
        "juliet@capulet.example",
        "three",
    ));
    stream.fails("invalid-from");
    juliet.settle();
}

/// Issue 6: a valid certificate is always used before dialback.
#[test]
fn a_key_of_a_peer_with_a_valid_certificate_is_valid_without_a_call() {
    let network = Network::new();
    for conf in ["", LENIENT] {
        let domain = if conf.is_empty() {
            "a.example"
        } else {
            "b.example"
        };
        let capulet = network.server(domain, conf);
        let peer = network.peer(&format!("peer-of-{domain}"));
        let own = peer.domain.clone();
        let mut juliet = Client::available(&capulet, &format!("juliet@{domain}/balcony"));
        let (mut stream, _) = peer.dial_secured(&capulet, domain);
        offer(&mut stream, &own, domain, "whatever");
        assert_eq!(answer(&mut stream, "result"), "valid");
        stream.send(message(
            &format!("romeo@{own}"),
            &format!("juliet@{domain}"),
            "I",
        ));
        assert_eq!(body(&juliet.stanza("message")), "I");
        assert!(!peer.is_dialled());
    }
}

/// XEP-0220 §2.3: the authoritative server knows its keys, and no others.
#[test]
fn the_key_that_a_server_has_offered_is_valid_for_that_stream_and_no_other() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@montague.example", "Thou knowest"));
    let (mut stream, key) = peer.accept_dialback();
    assert_eq!(key.attribute("from"), Some(CAPULET));
    assert_eq!(key.attribute("to"), Some(MONTAGUE));
    let (mut call, _) = peer.dial_secured(&capulet, CAPULET);
    let mut verify = |to: &str, id: &str, key: &str| {
        call.send(format!(
            "<db:verify from='{MONTAGUE}' to='{to}' id='{id}'>{key}</db:verify>"
        ));
        let answer = call.element();
        assert_eq!(answer.attribute("id"), Some(id));
        assert_eq!(answer.attribute("from"), Some(to));
        outcome(&answer)
    };
    assert_eq!(verify(CAPULET, "1", &key.text()), "valid");
    assert_eq!(verify(CAPULET, "2", &key.text()), "invalid");
    assert_eq!(verify(CAPULET, "1", "0"), "invalid");
    assert_eq!(verify("verona.example", "1", &key.text()), "item-not-found");
    stream.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"
    ));
    assert_eq!(body(&stream.stanza("message")), "Thou knowest");
}

/// XEP-0220 §2.1.1: what the receiving server may answer.
#[test]
fn a_peer_that_refuses_our_key_gets_nothing_and_the_sender_is_told_why() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    for (domain, answer, expected) in [
        ("a.example", "type='invalid'/>", "dialback key is not ours"),
        (
            "b.example",
            "type='error'><error type='auth'>\
             <not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>Certificates only</text>\
             </error></db:result>",
            "Certificates only",
        ),
    ] {
        let peer = network.peer(domain);
        let mut juliet = Client::login(&capulet, "juliet@capulet.example");
        juliet.send(ping(domain));
        let (mut stream, _) = peer.accept_dialback();
        stream.send(format!(
            "<db:result from='{domain}' to='{CAPULET}' {answer}"
        ));
        let why = why(&juliet.refused("iq", "remote-server-not-found"));
        assert!(why.contains(expected), "{why}");
        stream.closes();
    }
}

/// XEP-0220 §3.1: answers that nobody has asked for.
#[test]
fn a_peer_that_answers_for_others_loses_its_stream_and_nobody_is_proven() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let victim = self_signed(&network, MONTAGUE);
    let liar = network.peer("tybalt.example");
    // Somebody claims the victim's domain, and the victim's server is being asked.
    let (mut thief, _) = liar.dial_secured(&capulet, CAPULET);
    offer(&mut thief, MONTAGUE, CAPULET, "stolen");
    let (mut call, question) = called(&victim);
    let id = question.attribute("id").unwrap();
    // On streams of his own he says that the key is good.
    for lie in [
        format!("<db:verify from='{MONTAGUE}' to='{CAPULET}' id='{id}' type='valid'/>"),
        format!("<db:result from='{MONTAGUE}' to='{CAPULET}' type='valid'/>"),
        format!("<db:verify from='tybalt.example' to='{CAPULET}' id='{id}' type='valid'/>"),
    ] {
        let mut stream = liar.dial_external(&capulet, CAPULET);
        stream.send(lie);
        stream.fails("invalid-from");
    }
    told(&mut call, &question, "invalid");
    assert_eq!(answer(&mut thief, "result"), "invalid");
    thief.closes();
    juliet.settle();
}

/// XEP-0220 §3.1, XEP-0288 §2.2: who offers a key is not who vouches for it.
#[test]
fn a_key_is_not_verified_on_the_stream_that_offers_it() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let peer = self_signed(&network, MONTAGUE);
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    let id = stream.id.clone();
    offer(&mut stream, MONTAGUE, CAPULET, "k3y");
    stream.send(format!(
        "<db:verify from='{MONTAGUE}' to='{CAPULET}' id='{id}' type='valid'/>"
    ));
    stream.fails("invalid-from");
    let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
    let id = stream.id.clone();
    stream.send(format!(
        "<db:verify from='{MONTAGUE}' to='{CAPULET}' id='{id}'>k3y</db:verify>"
    ));
    stream.fails("not-authorized");
    juliet.settle();
}

/// XEP-0220 §2.1: a stream that we have opened carries our stanzas, not theirs.
#[test]
fn a_peer_does_not_send_stanzas_by_a_stream_that_we_have_opened() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@montague.example", "Good night"));
    let mut stream = peer.accept_ready();
    stream.stanza("message");
    stream.send(message(
        "romeo@montague.example",
        "juliet@capulet.example",
        "Sleep well",
    ));
    stream.fails("not-authorized");
    juliet.settle();
    // It has not said that it has received the first, and hears that once more.
    juliet.send(chat("romeo@montague.example", "again"));
    let mut stream = peer.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "Good night");
    assert_eq!(body(&stream.stanza("message")), "again");
}

/// XEP-0220 §2.1.2: asked once, by the stream that is there.
#[test]
fn a_server_is_asked_on_the_stream_on_which_it_is_written_to() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    let mut juliet = Client::login(&capulet, "juliet@capulet.example/balcony");
    juliet.send(chat("romeo@montague.example", "Good morrow"));
    let mut stream = peer.accept_ready();
    stream.stanza("message");
    let (mut dialled, _) = peer.dial_secured(&capulet, CAPULET);
    offer(&mut dialled, MONTAGUE, CAPULET, "k3y");
    let question = asked(&mut stream);
    told(&mut stream, &question, "valid");
    assert_eq!(answer(&mut dialled, "result"), "valid");
    assert!(!peer.is_dialled());
}

/// RFC 6120 §4.9.3.11: [stream/invalid-xml]; XEP-0220 §2.
#[test]
fn a_packet_of_dialback_that_is_none_ends_the_stream() {
    let network = Network::new();
    let capulet = network.server(CAPULET, LENIENT);
    let peer = self_signed(&network, MONTAGUE);
    for (packet, condition) in [
        (
            "<db:result from='montague.example' to='capulet.example'/>",
            "invalid-xml",
        ),
        (
            "<db:verify from='montague.example' to='capulet.example'>k</db:verify>",
            "invalid-xml",
        ),
        (
            "<db:result from='montague.example' to='capulet.example' type='maybe'/>",
            "invalid-xml",
        ),
        (
            "<db:result from='montague.example'>k</db:result>",
            "improper-addressing",
        ),
        (
            "<db:bite from='montague.example' to='capulet.example'/>",
            "unsupported-stanza-type",
        ),
    ] {
        let (mut stream, _) = peer.dial_secured(&capulet, CAPULET);
        stream.send(packet);
        stream.fails(condition);
    }
    assert!(!peer.is_dialled());
}

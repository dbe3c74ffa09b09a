//! How another server takes our proof.

use std::fs;
use std::thread;

use stanzad::ns;

use super::common::authority::Wish;
use super::common::network::{Network, address};
use super::common::peer::PeerStream;
use super::common::server::Server;
use super::common::wire::Heard;
use super::{Asking, explain_by, says};

const EXTERNAL: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                        <mechanism>EXTERNAL</mechanism></mechanisms>";

fn hear_external(stream: &mut PeerStream) {
    let auth = stream.element();
    assert!(auth.is(ns::SASL, "auth"));
    assert_eq!(auth.attribute("mechanism"), Some("EXTERNAL"));
}

/// XEP-0178 §3. No stanza follows: after the answer there is only the end.
#[test]
fn a_server_that_takes_our_certificate_is_told() {
    let asking = Asking::new("");
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    let told = asking.explain_offered(&peer, EXTERNAL, |stream| {
        hear_external(stream);
        stream.send(format!("<success xmlns='{}'/>", ns::SASL));
        assert!(matches!(stream.hear(), Heard::Close), "it goes on");
    });
    says(
        &told,
        0,
        &[
            "  offers EXTERNAL\n",
            "  it takes our certificate: EXTERNAL\n",
            "a.example talks with b.example: its certificate is valid and names b.example\n",
        ],
    );
    assert!(!told.stdout.contains("dialback"), "{}", told.stdout);
}

/// Without a server that runs nobody could answer for a key.
#[test]
fn a_server_that_refuses_our_certificate_is_told_with_its_reason_and_what_was_not_tried() {
    let asking = Asking::new("");
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    let told = asking.explain_offered(&peer, EXTERNAL, |stream| {
        hear_external(stream);
        stream.send(format!(
            "<failure xmlns='{}'><not-authorized/><text>not you</text></failure>",
            ns::SASL
        ));
    });
    says(
        &told,
        0,
        &[
            "  it refuses EXTERNAL: not-authorized, \"not you\"\n",
            "  dialback is not tried: it takes a running server to answer for the key\n",
        ],
    );
}

#[test]
fn a_server_that_ends_the_stream_by_our_certificate_is_not_talked_with() {
    let asking = Asking::new("");
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    let told = asking.explain_offered(&peer, EXTERNAL, |stream| {
        hear_external(stream);
        stream.send(
            "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             </stream:error></stream:stream>",
        );
    });
    let verdict = "a.example does not talk with b.example: its certificate is valid and names \
                   b.example, but EXTERNAL comes to nothing: it ended the stream: policy-violation\n\
                   That is for the other server to change, or for the certificate here";
    says(&told, 1, &[verdict]);
}

/// Prosody 0.12 with `s2s_secure_auth`.
#[test]
fn a_server_that_ends_the_stream_before_it_offers_anything_is_not_talked_with() {
    let asking = Asking::new("");
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = peer.accept_secured();
            stream.answer("1");
            stream.send(
                "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 </stream:error></stream:stream>",
            );
        });
        asking.explain(&["b.example"])
    });
    let verdict = "b.example, but it does not talk with us: it ended the stream: not-authorized\n\
                   That is for the other server to change, or for the certificate here";
    says(&told, 1, &[verdict]);
}

/// A peer that we refuse is shown no proof of ours.
#[test]
fn a_server_that_is_refused_is_not_asked_what_it_thinks_of_us() {
    let asking = Asking::new("");
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let peer = asking.peer(wish.self_signed());
    let told = asking.explain_offered(&peer, EXTERNAL, |stream| {
        assert!(matches!(stream.hear(), Heard::Close), "it goes on");
    });
    says(
        &told,
        1,
        &["s2s.secure_auth = true and its certificate is self-signed"],
    );
}

/// Servers of a.example, whose certificate nobody trusts, and b.example.
fn without_a_valid_certificate(conf_of_b: &str) -> (Network, Server, Server) {
    let network = Network::new();
    let ip = address();
    let site = network.site(&["a.example"], ip, "");
    let path = |ending| site.path("certs").join(format!("a.example.{ending}"));
    let wish = Wish {
        dns: &["a.example"],
        ..Wish::default()
    };
    wish.self_signed().write(&path("crt"), &path("key"));
    network.announce("a.example", ip);
    let a = network.start(site);
    let b = network.server("b.example", conf_of_b);
    (network, a, b)
}

/// XEP-0220: the other server calls back, and the running server answers.
#[test]
fn a_running_server_tries_dialback_too() {
    let (network, a, _b) = without_a_valid_certificate("[s2s]\nsecure_auth = false\n");
    let told = explain_by(&network, &a, "b.example");
    says(
        &told,
        0,
        &[
            "  it does not offer EXTERNAL\n  it takes our dialback key\n",
            "a.example talks with b.example: its certificate is valid and names b.example\n",
        ],
    );
}

#[test]
fn a_server_that_wants_another_certificate_of_us_is_told_in_its_own_words() {
    let (network, a, _b) = without_a_valid_certificate("");
    let told = explain_by(&network, &a, "b.example");
    let verdict = "a.example does not talk with b.example: its certificate is valid and names \
                   b.example, but it refuses our dialback key: policy-violation s2s.secure_auth = \
                   true and its certificate is self-signed\n";
    says(
        &told,
        1,
        &[
            verdict,
            "That is for the other server to change, or for the certificate here",
        ],
    );
}

/// Not by what an operator has written since, which is not in force.
#[test]
fn a_running_server_tries_as_it_is() {
    let network = Network::new();
    let a = network.server("a.example", "");
    let _b = network.server("b.example", "");
    a.configure("[s2s]\ndeny = [\"b.example\"]\n");
    fs::write(a.site.path("certs/a.example.crt"), "no certificate").unwrap();
    let told = explain_by(&network, &a, "b.example");
    says(&told, 0, &["it takes our certificate: EXTERNAL\n"]);
}

//! What a reload changes for streams that are open, and for servers that were not talked with.

use super::common::client::Client;
use super::common::network::{Network, address};
use super::common::peer::{Peer, PeerStream};
use super::common::server::{PASSWORD, Server};
use super::common::wire::Heard;
use super::proof::{own, with_dane};
use super::restarts::until_stored;
use super::{CAPULET, MONTAGUE, body, chat, message, self_signed, why};

const JULIET: &str = "juliet@capulet.example/balcony";
const ROMEO: &str = "romeo@montague.example";

/// The server under test closes the stream, without an error, and waits for its peer to do so.
fn closes_in_turn(stream: &mut PeerStream) {
    let heard = stream.hear();
    assert!(matches!(heard, Heard::Close), "{heard:?}");
    stream.send("</stream:stream>");
    stream.ends();
}

/// Juliet, a stream to the peer on which she was heard, and one from it.
fn talk(capulet: &Server, peer: &Peer) -> (Client, PeerStream, PeerStream) {
    let mut juliet = Client::available(capulet, JULIET);
    juliet.send(chat(ROMEO, "O Romeo"));
    let mut to = peer.accept_external();
    assert_eq!(body(&to.stanza("message")), "O Romeo");
    let from = peer.dial_external(capulet, CAPULET);
    (juliet, to, from)
}

/// `s2s.deny`: who was refused a moment ago is not taken to be refused still.
#[test]
fn a_server_that_is_denied_no_more_is_reached_by_the_next_stanza() {
    let network = Network::new();
    let deny = "[s2s]\ndeny = [\"montague.example\"]\n";
    let capulet = network.server(CAPULET, deny);
    let peer = network.peer(MONTAGUE);
    let mut juliet = Client::login(&capulet, JULIET);
    juliet.send(chat(ROMEO, "Hail"));
    let reason = why(&juliet.refused("message", "remote-server-not-found"));
    assert!(reason.contains("s2s.deny"), "{reason}");
    capulet.configure("");
    capulet.reload();
    juliet.send(chat(ROMEO, "Hark"));
    assert_eq!(body(&peer.accept_ready().stanza("message")), "Hark");
}

/// `s2s.deny`, `s2s.allow`, `[s2s.peer."name"] pin`: in both directions; and what is sent next comes back.
#[test]
fn a_server_that_policy_refuses_now_loses_its_streams_and_hears_why() {
    for (conf, option) in [
        ("[s2s]\ndeny = [\"montague.example\"]\n", "s2s.deny"),
        ("[s2s]\nallow = [\"verona.example\"]\n", "s2s.allow"),
        (
            "[s2s.peer.\"montague.example\"]\npin = [\"sha256:\
             0000000000000000000000000000000000000000000000000000000000000000\"]\n",
            "pin",
        ),
    ] {
        let network = Network::new();
        let capulet = network.server(CAPULET, "");
        let peer = network.peer(MONTAGUE);
        let (mut juliet, mut to, mut from) = talk(&capulet, &peer);
        from.send(message(ROMEO, JULIET, "She speaks"));
        assert_eq!(body(&juliet.stanza("message")), "She speaks");
        capulet.configure(conf);
        capulet.reload();
        for stream in [&mut to, &mut from] {
            stream.fails("policy-violation");
        }
        juliet.send(chat(ROMEO, "Wherefore"));
        if option == "pin" {
            let mut stream = peer.accept_secured();
            stream.answer("1");
            stream.offer("");
            stream.closes();
        }
        let reason = why(&juliet.refused("message", "remote-server-not-found"));
        assert!(reason.contains(option), "{reason}");
    }
}

/// `s2s.secure_auth`, `s2s.insecure_domains`: an exception that is taken back.
#[test]
fn a_server_that_was_an_exception_loses_its_stream_with_that() {
    let network = Network::new();
    let conf = "[s2s]\ninsecure_domains = [\"montague.example\"]\n";
    let capulet = network.server(CAPULET, conf);
    let peer = self_signed(&network, MONTAGUE);
    let mut juliet = Client::login(&capulet, JULIET);
    juliet.send(chat(ROMEO, "O Romeo"));
    let mut stream = peer.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "O Romeo");
    capulet.configure("");
    capulet.reload();
    stream.fails("policy-violation");
}

/// `[s2s.peer."name"] address`: no error, since nobody has done anything wrong.
#[test]
fn a_server_that_is_elsewhere_now_is_dialled_there() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let before = network.peer(MONTAGUE);
    let after = network.stranger(MONTAGUE, network.issue(&[MONTAGUE]));
    let mut juliet = Client::login(&capulet, JULIET);
    juliet.send(chat(ROMEO, "O Romeo"));
    let mut stream = before.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "O Romeo");
    let address = after.ip();
    capulet.configure(&format!(
        "[s2s.peer.\"montague.example\"]\naddress = \"{address}:5269\"\n"
    ));
    capulet.reload();
    closes_in_turn(&mut stream);
    juliet.send(chat(ROMEO, "Wherefore"));
    // The first once more: nobody has said that it was received.
    let mut stream = after.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "O Romeo");
    assert_eq!(body(&stream.stanza("message")), "Wherefore");
}

/// `s2s.dane`: nobody has asked for TLSA records before.
#[test]
fn what_the_dns_is_to_decide_is_decided_on_the_next_stream() {
    let (capulet, peer, network) = with_dane(own(MONTAGUE), &"07".repeat(32));
    let with = |s2s: &str| {
        capulet.configure(&format!(
            "[dns]\nservers = [\"{}\"]\ndnssec = true\ntrust_anchor = \"anchor.key\"\n[s2s]\n{s2s}\n",
            network.names.address
        ));
        capulet.reload();
    };
    with("secure_auth = false");
    let mut juliet = Client::login(&capulet, JULIET);
    juliet.send(chat(ROMEO, "O Romeo"));
    let mut stream = peer.accept_ready();
    assert_eq!(body(&stream.stanza("message")), "O Romeo");
    with("secure_auth = false\ndane = true");
    closes_in_turn(&mut stream);
    juliet.send(chat(ROMEO, "Wherefore"));
    let mut stream = peer.accept_secured();
    stream.answer("1");
    stream.offer("");
    stream.closes();
    let reason = why(&juliet.refused("message", "remote-server-not-found"));
    assert!(reason.contains("TLSA"), "{reason}");
}

#[test]
fn a_reload_that_changes_nothing_for_a_server_leaves_its_streams_alone() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let peer = network.peer(MONTAGUE);
    let (mut juliet, mut to, mut from) = talk(&capulet, &peer);
    for conf in ["[s2s]\ndeny = [\"tybalt.example\"]\n", ""] {
        capulet.configure(conf);
        capulet.reload();
        from.send(message(ROMEO, JULIET, "She speaks"));
        assert_eq!(body(&juliet.stanza("message")), "She speaks");
        juliet.send(chat(ROMEO, "Wherefore"));
        assert_eq!(body(&to.stanza("message")), "Wherefore");
    }
}

/// RFC 6120 §10.5: what waits for a server that was not reached is not for another one any more. It is
/// delivered here, in its order, and so is what is sent next.
#[test]
fn what_waits_for_a_domain_that_becomes_ours_is_delivered_here() {
    let network = Network::new();
    network.announce(MONTAGUE, address());
    let capulet = network.server(CAPULET, "");
    let path = |ending| {
        let certificates = capulet.site.path("certs");
        certificates.join(format!("{MONTAGUE}.{ending}"))
    };
    network.issue(&[MONTAGUE]).write(&path("crt"), &path("key"));
    let ours = format!("[domain.\"{MONTAGUE}\"]\n");
    capulet.configure(&ours);
    capulet.reload();
    capulet.add(ROMEO, PASSWORD);
    capulet.configure("");
    capulet.reload();
    let mut juliet = Client::available(&capulet, JULIET);
    for text in ["O Romeo", "Wherefore"] {
        juliet.send(chat(ROMEO, text));
    }
    until_stored(&capulet, 2);
    capulet.configure(&ours);
    capulet.reload();
    // Each shard takes a reload up when it comes to that; this one has.
    until_stored(&capulet, 0);
    juliet.send(chat(ROMEO, "art thou"));
    juliet.settle();
    let mut romeo = Client::login(&capulet, ROMEO);
    romeo.send("<presence/>");
    for text in ["O Romeo", "Wherefore", "art thou"] {
        let mut heard = romeo.element();
        while heard.name == "presence" {
            heard = romeo.element();
        }
        assert_eq!(body(&heard), text);
    }
}

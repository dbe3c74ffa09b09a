//! What proves other servers beside public authorities: pinned keys and TLSA records; and what is told of
//! a key that changes.

use super::common::authority::{Issued, Wish};
use super::common::client::Client;
use super::common::names::Zone;
use super::common::network::{Network, PORT, address};
use super::common::peer::Peer;
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, body, chat, message};
use openssl::sha::sha256;

/// A certificate of its own making.
pub fn own(domain: &str) -> Issued {
    let wish = Wish {
        dns: &[domain],
        ..Wish::default()
    };
    wish.self_signed()
}

/// SHA-256 of a certificate's key, in hexadecimal digits.
fn digest(identity: &Issued) -> String {
    let key = identity.certificate.public_key().unwrap();
    let digest = sha256(&key.public_key_to_der().unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Messages flow both ways, on a stream of each side.
fn talk(server: &Server, peer: &Peer) {
    let juliet_jid = format!("juliet@{CAPULET}");
    let romeo = format!("romeo@{MONTAGUE}");
    let mut juliet = Client::available(server, &juliet_jid);
    let mut stream = peer.dial_external(server, CAPULET);
    stream.send(message(&romeo, &juliet_jid, "one"));
    assert_eq!(body(&juliet.stanza("message")), "one");
    juliet.send(chat(&romeo, "two"));
    let mut back = peer.accept_ready();
    assert_eq!(body(&back.stanza("message")), "two");
}

/// What a peer's dialback key is answered, and why the peer is not reached.
fn is_refused(server: &Server, peer: &Peer, why: &str) {
    let (mut stream, features) = peer.dial_secured(server, CAPULET);
    let mut offered = features.elements();
    assert!(
        !offered.any(|feature| feature.name == "mechanisms"),
        "{features:?}"
    );
    stream.send(format!(
        "<db:result from='{MONTAGUE}' to='{CAPULET}'>0</db:result>"
    ));
    assert_eq!(stream.element().attribute("type"), Some("error"));
    let mut juliet = Client::available(server, &format!("juliet@{CAPULET}"));
    juliet.send(chat(&format!("romeo@{MONTAGUE}"), "two"));
    let mut back = peer.accept_secured();
    back.answer("1");
    back.offer("");
    back.closes();
    juliet.refused("message", "remote-server-not-found");
    server.logs(why);
}

/// Issue 6: a pinned key decides alone, for streams of both directions.
#[test]
fn a_server_with_a_pinned_key_needs_no_authority_and_no_dns() {
    let network = Network::new();
    let peer = network.stranger(MONTAGUE, own("another.example"));
    let (pin, ip) = (digest(&peer.identity), peer.ip());
    let conf =
        format!("[s2s.peer.\"{MONTAGUE}\"]\naddress = \"{ip}:{PORT}\"\npin = [\"sha256:{pin}\"]\n");
    talk(&network.server(CAPULET, &conf), &peer);
}

#[test]
fn a_server_without_the_pinned_key_is_refused_with_a_valid_certificate() {
    let network = Network::new();
    let peer = network.peer(MONTAGUE);
    let pin = "07".repeat(32);
    let conf = format!("[s2s.peer.\"{MONTAGUE}\"]\npin = [\"sha256:{pin}\"]\n");
    is_refused(&network.server(CAPULET, &conf), &peer, "has not shown what");
}

/// A server with `s2s.dane`, and a peer with that certificate whose TLSA record is about this key.
pub fn with_dane(identity: Issued, digest: &str) -> (Server, Peer, Network) {
    let mut network = Network::new();
    let peer = network.stranger(MONTAGUE, identity);
    let (zone, anchor) = Zone::of("example.")
        .with(
            &format!("_xmpp-server._tcp.{MONTAGUE}"),
            "SRV",
            &format!("0 0 {PORT} host.{MONTAGUE}."),
        )
        .with(&format!("host.{MONTAGUE}"), "A", &peer.ip().to_string())
        .with(
            &format!("_{PORT}._tcp.host.{MONTAGUE}"),
            "TLSA",
            &format!("3 1 1 {digest}"),
        )
        .signed();
    let names = zone.serve();
    let conf = format!(
        "[dns]\nservers = [\"{}\"]\ndnssec = true\ntrust_anchor = \"anchor.key\"\n\
         [s2s]\ndane = true\n",
        names.address
    );
    let site = network.site(&[CAPULET], address(), &conf);
    std::fs::write(site.path("anchor.key"), anchor).unwrap();
    let server = network.start(site);
    network.names = names;
    (server, peer, network)
}

/// RFC 7673 §4.2: the DNS vouches for the key, and no authority has to.
#[test]
fn with_dane_a_server_is_proven_by_its_tlsa_record_both_ways() {
    let identity = own("another.example");
    let digest = digest(&identity);
    let (server, peer, _network) = with_dane(identity, &digest);
    talk(&server, &peer);
    assert!(server.log().contains("EXTERNAL (DANE)"));
}

/// RFC 7673 §3.4, RFC 6698 §4.1: usable records that do not match refuse a certificate that authorities
/// vouch for.
#[test]
fn with_dane_a_server_that_does_not_match_its_tlsa_record_is_refused_both_ways() {
    let network = Network::new();
    let identity = network.issue(&[MONTAGUE]);
    let (server, peer, _network) = with_dane(identity, &"07".repeat(32));
    is_refused(&server, &peer, "TLSA");
}

/// RFC 7590 §3.6.
#[test]
fn a_server_that_shows_another_key_than_before_is_warned_of() {
    let network = Network::new();
    let server = network.server(CAPULET, "");
    for _ in 0..2 {
        let peer = network.stranger(MONTAGUE, network.issue(&[MONTAGUE]));
        peer.dial_external(&server, CAPULET);
    }
    let line = server.logs("server shows another certificate key than before");
    assert!(line.contains(" warn ") && line.contains(MONTAGUE), "{line}");
}

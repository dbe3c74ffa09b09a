//! What proves other servers and where they are: `tls.ca`, `s2s.dane`, `[s2s.peer."name"]`, and `[dns]`
//! as far as it is about DNSSEC.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use stanzad::ns;

use super::common::authority::{Issued, Wish};
use super::common::client::{Client, error_of};
use super::common::names::{NameServer, Zone};
use super::common::network::{Network, PORT, dead_end};
use super::common::peer::Peer;
use super::common::server::Server;
use super::common::site::Site;
use super::connections::const_format;
use super::fresh;

super::cases! {
    tls_ca: "tls.ca",
        ["[tls]\nca = \"\"\n", "[tls]\nca = \"other.pem\"\n"],
        ["valid", "policy-violation"],
        claimed,
        authorities;
    dane: "s2s.dane",
        [signed("[s2s]\ndane = false\n"), signed("[s2s]\ndane = true\n")],
        ["valid", "policy-violation"],
        claimed,
        authorities;
    address: "s2s.peer.address",
        [placed("address = \"\"\n"), placed(&format!("address = \"{}\"\n", dead_end()))],
        ["remote-server-not-found", "remote-server-timeout"],
        |server| reached(server, &format!("placed{}.example", once()));
    tls: "s2s.peer.tls",
        [
            placed(&format!("address = \"{}:{PORT}\"\ntls = \"starttls\"\n", PLACE.ip())),
            placed(&format!("address = \"{}:{PORT}\"\ntls = \"direct\"\n", PLACE.ip())),
        ],
        ["a stream", "TLS"],
        begun;
    pin: "s2s.peer.pin",
        [
            "[s2s.peer.\"signed.example\"]\npin = []\n",
            "[s2s.peer.\"signed.example\"]\n\
             pin = [\"sha256:0707070707070707070707070707070707070707070707070707070707070707\"]\n",
        ],
        ["valid", "policy-violation"],
        claimed,
        authorities;
    ca: "s2s.peer.ca",
        [
            "[s2s.peer.\"signed.example\"]\nca = \"\"\n",
            "[s2s.peer.\"signed.example\"]\nca = \"other.pem\"\n",
        ],
        ["valid", "policy-violation"],
        claimed,
        authorities;
    dnssec: "dns.dnssec",
        [names("dnssec = false\n"), names("dnssec = true\n")],
        // Nobody vouches for the zone up to the root.
        ["remote-server-not-found", "remote-server-timeout"],
        unknown;
    trust_anchor: "dns.trust_anchor",
        [
            names("dnssec = true\ntrust_anchor = \"\"\n"),
            names("dnssec = true\ntrust_anchor = \"anchor.key\"\n"),
        ],
        ["remote-server-timeout", "remote-server-not-found"],
        unknown,
        authorities;
}

/// The authority that vouches for peers here.
static NETWORK: LazyLock<Network> = LazyLock::new(Network::new);

/// One that vouches for nobody.
static OTHER: LazyLock<Issued> = LazyLock::new(|| {
    let wish = Wish {
        is_authority: true,
        ..Wish::default()
    };
    wish.self_signed()
});

/// Where a server may be that nothing is in the DNS about.
static PLACE: LazyLock<Peer> =
    LazyLock::new(|| NETWORK.stranger("place.example", NETWORK.issue(&["place.example"])));

/// A signed zone with a server whose TLSA record is about another key than it has, and the zone's key.
static SIGNED: LazyLock<(NameServer, String)> = LazyLock::new(|| {
    let digest = "07".repeat(32);
    let (zone, anchor) = Zone::of("example.")
        .with(
            "_xmpp-server._tcp.signed.example",
            "SRV",
            "0 0 5269 host.signed.example.",
        )
        .with("host.signed.example", "A", "127.0.0.1")
        .with(
            "_5269._tcp.host.signed.example",
            "TLSA",
            &format!("3 1 1 {digest}"),
        )
        .signed();
    (zone.serve(), anchor)
});

/// Files that confs name.
fn authorities(site: &Site) {
    NETWORK.vouch(site);
    let pem = OTHER.certificate.to_pem().unwrap();
    std::fs::write(site.path("other.pem"), pem).unwrap();
    std::fs::write(site.path("anchor.key"), &SIGNED.1).unwrap();
}

fn names(conf: &str) -> &'static str {
    let address = SIGNED.0.address.to_string();
    const_format(&["[dns]\nservers = [\"", &address, "\"]\n", conf])
}

fn signed(conf: &str) -> &'static str {
    const_format(&[
        names("dnssec = true\ntrust_anchor = \"anchor.key\"\n"),
        conf,
    ])
}

/// A conf file with servers of which the same is known: one for each look, since who is not reached is
/// not tried again at once.
fn placed(conf: &str) -> &'static str {
    let peers = (0..8).map(|n| format!("[s2s.peer.\"placed{n}.example\"]\n{conf}"));
    let address = NETWORK.names.address;
    let names = format!("[dns]\nservers = [\"{address}\"]\n");
    const_format(&[&names, &peers.collect::<String>()])
}

fn once() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % 8
}

/// What a dialback key of signed.example is answered, which has a certificate of the network's
/// authority.
fn claimed(server: &Server) -> String {
    let domain = "signed.example";
    let peer = NETWORK.stranger(domain, NETWORK.issue(&[domain]));
    let (mut stream, _) = peer.dial_secured(server, "example.org");
    stream.send(format!(
        "<db:result from='{domain}' to='example.org'>0</db:result>"
    ));
    let answer = stream.element();
    assert!(answer.is(ns::DIALBACK, "result"), "{answer:?}");
    match answer.elements().next() {
        None => answer.attribute("type").unwrap().to_owned(),
        Some(error) => {
            let mut conditions = error.elements().filter(|child| child.name != "text");
            conditions.next().unwrap().name.clone()
        }
    }
}

/// Why a server is not reached.
fn reached(server: &Server, domain: &str) -> String {
    let mut juliet = Client::login(server, "juliet@example.org");
    ping(&mut juliet, domain);
    error_of(&juliet.stanza("iq"))
}

fn ping(juliet: &mut Client, domain: &str) {
    juliet.send(format!(
        "<iq type='get' id='1' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
    ));
}

fn unknown(server: &Server) -> String {
    reached(server, &format!("unknown{}.example", fresh()))
}

/// What a dialled server is sent first.
fn begun(server: &Server) -> String {
    let mut juliet = Client::login(server, "juliet@example.org");
    ping(&mut juliet, &format!("placed{}.example", once()));
    match PLACE.accept().accept_handshake(PLACE.acceptor()) {
        Ok(()) => "TLS".to_owned(),
        Err(_) => "a stream".to_owned(),
    }
}

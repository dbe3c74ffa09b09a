//! How the server of a remote domain is found and reached (RFC 6120 §3.2, RFC 2782, XEP-0368).

use super::common::client::Client;
use super::common::network::{Network, PORT, PORT_TLS, address};
use super::common::server::Server;
use super::{CAPULET, MONTAGUE, body, chat, ping, why};

/// The attempts to dial that were logged, as `address:port`.
fn dialled(server: &Server) -> Vec<String> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("dialling"));
    lines
        .map(|line| {
            let (_, rest) = line.split_once("address=").unwrap();
            rest.split(' ').next().unwrap().to_owned()
        })
        .collect()
}

/// Juliet of capulet asks the domain montague, and gets an answer.
fn is_reached(capulet: &Server) {
    let mut juliet = Client::login(capulet, "juliet@capulet.example");
    juliet.send(ping(MONTAGUE));
    let answer = juliet.stanza("iq");
    assert_eq!(answer.attribute("type"), Some("result"));
    capulet.logs("stream to server ready");
}

/// Why juliet's question to a domain comes back.
fn is_not_reached(capulet: &Server, domain: &str, condition: &str) -> String {
    let mut juliet = Client::login(capulet, "juliet@capulet.example");
    juliet.send(ping(domain));
    let why = why(&juliet.refused("iq", condition));
    capulet.logs("server not reached");
    why
}

/// XEP-0368 §2.1: priorities count across both kinds: [stream-fqdn-resolution].
#[test]
fn both_kinds_of_records_are_mixed_by_priority() {
    for (starttls, direct, first) in [(1, 2, PORT), (2, 1, PORT_TLS)] {
        let network = Network::new();
        let capulet = network.server(CAPULET, "");
        let ip = address();
        let _montague = Server::start_in(network.site(&[MONTAGUE], ip, ""));
        let host = network.host(ip);
        for (kind, priority, port) in [
            ("xmpp-server", starttls, PORT),
            ("xmpps-server", direct, PORT_TLS),
        ] {
            let owner = format!("_{kind}._tcp.{MONTAGUE}");
            network.record(&owner, "SRV", &format!("{priority} 0 {port} {host}."));
        }
        is_reached(&capulet);
        assert_eq!(dialled(&capulet), [format!("{ip}:{first}")]);
    }
}

/// RFC 6120 §3.2.1 steps 5 to 8.
#[test]
fn addresses_at_which_nobody_listens_are_passed_over_in_order() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let (dead, live) = (address(), address());
    let _montague = Server::start_in(network.site(&[MONTAGUE], live, ""));
    let owner = format!("_xmpp-server._tcp.{MONTAGUE}");
    let (dead_host, live_host) = (network.host(dead), network.host(live));
    network.record(&owner, "SRV", &format!("1 0 {PORT} {dead_host}."));
    network.record(&owner, "SRV", "2 0 5269 no-such-host.example.");
    network.record(&owner, "SRV", &format!("3 0 {PORT} {live_host}."));
    is_reached(&capulet);
    let attempts = [dead, live].map(|ip| format!("{ip}:{PORT}"));
    assert_eq!(dialled(&capulet), attempts);
}

/// RFC 6120 §3.2.1: all addresses of a host.
#[test]
fn each_address_of_a_host_is_tried() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let (dead, live) = (address(), address());
    let _montague = Server::start_in(network.site(&[MONTAGUE], live, ""));
    for ip in [dead, live] {
        network.record("xmpp.montague.example", "A", &ip.to_string());
    }
    let owner = format!("_xmpp-server._tcp.{MONTAGUE}");
    network.record(&owner, "SRV", &format!("1 0 {PORT} xmpp.montague.example."));
    is_reached(&capulet);
    assert_eq!(dialled(&capulet).last(), Some(&format!("{live}:{PORT}")));
}

/// RFC 6120 §3.2.2.
#[test]
fn without_srv_records_the_domain_itself_is_tried_on_the_standard_port() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let ip = address();
    let _montague = Server::start_in(network.site(&[MONTAGUE], ip, ""));
    network.record(MONTAGUE, "A", &ip.to_string());
    is_reached(&capulet);
    assert_eq!(dialled(&capulet), [format!("{ip}:{PORT}")]);
}

/// RFC 2782: the target ".".
#[test]
fn a_domain_that_says_that_it_has_no_server_is_not_dialled() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    network.record(MONTAGUE, "A", &address().to_string());
    for kind in ["xmpp-server", "xmpps-server"] {
        network.record(&format!("_{kind}._tcp.{MONTAGUE}"), "SRV", "0 0 0 .");
    }
    let why = is_not_reached(&capulet, MONTAGUE, "remote-server-not-found");
    assert_eq!(why, "its DNS says that it has no XMPP server");
    assert!(dialled(&capulet).is_empty());
}

/// RFC 6120 §8.3.3.16.
#[test]
fn a_domain_that_is_not_in_the_dns_is_not_found_for_messages_too() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let why_iq = is_not_reached(&capulet, MONTAGUE, "remote-server-not-found");
    assert!(why_iq.contains("there is no such name"), "{why_iq}");
    let mut juliet = Client::login(&capulet, "juliet@capulet.example");
    juliet.send(chat("romeo@montague.example", "Wherefore?"));
    let why_message = why(&juliet.refused("message", "remote-server-not-found"));
    assert_eq!(why_message, why_iq);
    juliet.send("<presence to='romeo@montague.example'/>");
    juliet.refused("presence", "remote-server-not-found");
}

/// RFC 6120 §8.3.3.17: [stanza/remote-server-timeout].
#[test]
fn a_server_that_cannot_be_connected_to_has_timed_out() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let dead = address();
    network.announce(MONTAGUE, dead);
    let why = is_not_reached(&capulet, MONTAGUE, "remote-server-timeout");
    for port in [PORT, PORT_TLS] {
        assert!(why.contains(&format!("{dead}:{port}")), "{why}");
    }
}

/// RFC 6120 §4.9.3.6; issue 6: a name whose records lead here, and that is not served here.
#[test]
fn a_name_that_leads_back_to_this_server_is_not_found_and_not_dialled_again() {
    let network = Network::new();
    let ip = address();
    network.announce_starttls(CAPULET, ip);
    network.announce_starttls("elsewhere.example", ip);
    let capulet = Server::start_in(network.site(&[CAPULET], ip, ""));
    let why = is_not_reached(&capulet, "elsewhere.example", "remote-server-not-found");
    assert!(why.contains("host-unknown"), "{why}");
    is_not_reached(&capulet, "elsewhere.example", "remote-server-not-found");
    assert_eq!(dialled(&capulet).len(), 1);
}

/// RFC 6121 §8.1.1.2, RFC 7622 §3.2: the DNS is asked by A-labels.
#[test]
fn a_domain_outside_of_ascii_is_found_and_talked_with_by_its_own_name() {
    let network = Network::new();
    let capulet = network.server(CAPULET, "");
    let ip = address();
    network.announce("xn--mntague-90a.example", ip);
    let montague = Server::start_in(network.site(&["möntague.example"], ip, ""));
    let mut juliet = Client::available(&capulet, "juliet@capulet.example/balcony");
    let mut romeo = Client::login(&montague, "romeo@möntague.example/orchard");
    romeo.send(chat("juliet@capulet.example", "My name"));
    assert_eq!(body(&juliet.stanza("message")), "My name");
    juliet.send(chat("romeo@möntague.example/orchard", "is hateful"));
    assert_eq!(body(&romeo.stanza("message")), "is hateful");
}

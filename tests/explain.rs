//! `stanzad explain s2s` tells why another server is talked with or not, by trying it: a case for each
//! state of a peer server, with the text and the exit status that an operator gets.

mod common;
#[path = "explain/domains.rs"]
mod domains;
#[path = "explain/proof.rs"]
mod proof;

use std::fs;
use std::process::Command;
use std::thread;

use common::authority::{Issued, Wish};
use common::client::Client;
use common::network::{Network, address, dead_end};
use common::peer::{Peer, PeerStream};
use common::server::Server;
use common::site::{Ended, Site, ended};
use common::wire::Heard;
use stanzad::ns;

const DAY: i64 = 86_400;

/// The one who asks: a site for a.example, without a server that runs.
struct Asking {
    network: Network,
    site: Site,
}

impl Asking {
    fn new(conf: &str) -> Asking {
        let network = Network::new();
        let site = network.site(&["a.example"], address(), conf);
        Asking { network, site }
    }

    fn explain(&self, words: &[&str]) -> Ended {
        run(
            &self.network,
            &self.site,
            &[&["explain", "s2s"], words].concat(),
        )
    }

    /// A peer that the DNS knows as b.example and that shows this certificate.
    fn peer(&self, identity: Issued) -> Peer {
        let peer = self.network.stranger("b.example", identity);
        self.network.announce_starttls("b.example", peer.ip());
        peer
    }

    /// What is told of b.example while its server plays along, up to its features behind TLS.
    fn explain_secured(&self, peer: &Peer) -> Ended {
        self.explain_offered(
            peer,
            "<dialback xmlns='urn:xmpp:features:dialback'/>",
            |_| {},
        )
    }

    /// The same, with these features, and what is said then.
    fn explain_offered(
        &self,
        peer: &Peer,
        features: &str,
        then: impl FnOnce(&mut PeerStream) + Send,
    ) -> Ended {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = peer.accept_secured();
                stream.answer("1");
                stream.offer(features);
                then(&mut stream);
                until_end(&mut stream);
            });
            self.explain(&["b.example"])
        })
    }

    /// The same for a peer with this certificate.
    fn explain_with(&self, identity: Issued) -> Ended {
        self.explain_secured(&self.peer(identity))
    }
}

/// Runs a command that trusts the network's authority.
fn run(network: &Network, site: &Site, words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
    command
        .args(words)
        .arg("--config")
        .arg(site.path("stanzad.toml"))
        .env("SSL_CERT_FILE", network.authority_file());
    ended(&mut command, b"")
}

/// Waits until the other side has closed: only so it has seen all that was sent.
fn until_end(stream: &mut PeerStream) {
    while !matches!(stream.hear(), Heard::Close | Heard::End) {}
}

/// A certificate for b.example by the authority, but for what `wish` wants otherwise.
fn issued(network: &Network, wish: Wish<'_>) -> Issued {
    let dns = match wish.dns.is_empty() {
        true => &["b.example"],
        false => wish.dns,
    };
    Wish { dns, ..wish }.by(&network.authority)
}

#[track_caller]
fn says(ended: &Ended, status: i32, texts: &[&str]) {
    assert_eq!(ended.status, status, "{}{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(ended.stdout.contains(text), "{text}:\n{}", ended.stdout);
    }
}

#[test]
fn a_server_with_a_valid_certificate_is_talked_with() {
    let asking = Asking::new("");
    let told = asking.explain_with(asking.network.issue(&["b.example"]));
    says(
        &told,
        0,
        &[
            "DNS _xmpp-server._tcp.b.example SRV: 10 0 5269 host-127-",
            "STARTTLS, TLSv1.3 ",
            "certificate CN=leaf, issued by CN=authority, valid until 20",
            "its chain is valid",
            "offers dialback",
            "with the same certificate: proven at once: its certificate is valid",
            "a.example talks with b.example: its certificate is valid and names b.example",
        ],
    );
}

#[test]
fn an_expired_certificate_is_told_with_its_day_and_the_option() {
    let asking = Asking::new("");
    let valid = Some((-9 * DAY, -2 * DAY));
    let expired = issued(
        &asking.network,
        Wish {
            valid,
            ..Wish::default()
        },
    );
    let told = asking.explain_with(expired);
    says(
        &told,
        1,
        &[
            "WRONG: the certificate (CN=leaf) has expired on 20",
            "does not talk with b.example: s2s.secure_auth = true and its certificate has expired",
            "To change that: put b.example on s2s.insecure_domains",
        ],
    );
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_told() {
    let asking = Asking::new("");
    let valid = Some((2 * DAY, 9 * DAY));
    let early = issued(
        &asking.network,
        Wish {
            valid,
            ..Wish::default()
        },
    );
    let told = asking.explain_with(early);
    says(
        &told,
        1,
        &["WRONG: the certificate (CN=leaf) is not valid before 20"],
    );
}

#[test]
fn a_self_signed_certificate_is_told() {
    let asking = Asking::new("");
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let told = asking.explain_with(wish.self_signed());
    says(
        &told,
        1,
        &[
            "WRONG: the certificate (CN=leaf) is self-signed",
            "s2s.secure_auth = true and its certificate is self-signed",
        ],
    );
}

#[test]
fn a_certificate_for_another_name_is_told_with_that_name() {
    let asking = Asking::new("");
    let other = asking.network.issue(&["c.example"]);
    let told = asking.explain_with(other);
    says(
        &told,
        1,
        &[
            "WRONG: for DNS-ID c.example, and not for b.example",
            "its chain is valid",
            "s2s.secure_auth = true and its certificate is for another name",
        ],
    );
}

#[test]
fn an_unknown_authority_is_told_with_its_name() {
    let asking = Asking::new("");
    let stranger = Wish {
        is_authority: true,
        ..Wish::default()
    };
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    // Its name is the same as that of the authority that is trusted; its key is not.
    let told = asking.explain_with(wish.by(&stranger.self_signed()));
    says(
        &told,
        1,
        &[
            "WRONG: the certificate (CN=leaf) ",
            "s2s.secure_auth = true",
        ],
    );
    assert!(
        told.stdout
            .contains("put b.example on s2s.insecure_domains")
    );
}

/// RFC 7590 §3.1.
#[test]
fn a_server_without_tls_is_told_with_the_option_that_refuses_it() {
    let asking = Asking::new("");
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = peer.accept();
            stream.hear_open();
            stream.answer("0");
            stream.offer("");
            let asked = stream.element();
            assert!(asked.is(ns::TLS, "starttls"));
            stream.send(format!("<failure xmlns='{}'/></stream:stream>", ns::TLS));
            until_end(&mut stream);
        });
        asking.explain(&["b.example"])
    });
    says(
        &told,
        1,
        &[
            "it does not encrypt: it refuses STARTTLS",
            "s2s.require_encryption = true and the connection is not encrypted",
            "No single option would change that.",
        ],
    );
}

#[test]
fn an_address_at_which_nobody_listens_is_told() {
    let asking = Asking::new("");
    let std::net::IpAddr::V4(nobody) = dead_end().ip() else {
        panic!("it is of this family")
    };
    asking.network.announce("b.example", nobody);
    let told = asking.explain(&["b.example"]);
    says(
        &told,
        1,
        &[
            &format!("{nobody}:5269"),
            &format!("{nobody}:5270"),
            "no connection: Connection refused",
            "a.example does not talk with b.example: ",
            "No single option would change that.",
        ],
    );
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    let asking = Asking::new("");
    let told = asking.explain(&["nowhere.example"]);
    says(
        &told,
        1,
        &[
            "DNS _xmpp-server._tcp.nowhere.example SRV: there is no such name",
            "DNS nowhere.example A: there is no such name",
            "a.example does not talk with nowhere.example: it has no address: there is no such name",
        ],
    );
}

/// RFC 2782.
#[test]
fn a_domain_that_says_that_it_has_no_server_is_told() {
    let asking = Asking::new("");
    for service in ["_xmpp-server", "_xmpps-server"] {
        let owner = format!("{service}._tcp.b.example");
        asking.network.record(&owner, "SRV", "0 0 0 .");
    }
    let told = asking.explain(&["b.example"]);
    says(
        &told,
        1,
        &["SRV: 0 0 0 .", "its DNS says that it has no XMPP server"],
    );
}

#[test]
fn a_denied_server_is_not_tried_and_the_list_is_named() {
    let asking = Asking::new("[s2s]\ndeny = [\"b.example\"]\n");
    let peer = asking.network.peer("b.example");
    let told = asking.explain(&["b.example"]);
    says(
        &told,
        1,
        &[
            "nothing was tried: its name alone decides",
            "a.example does not talk with b.example: b.example is on s2s.deny",
            "To change that: take b.example off s2s.deny",
        ],
    );
    assert!(!peer.is_dialled());
}

#[test]
fn an_exception_for_a_server_without_a_valid_certificate_lets_it_pass() {
    let asking = Asking::new("[s2s]\ninsecure_domains = [\"b.example\"]\n");
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let told = asking.explain_with(wish.self_signed());
    says(
        &told,
        0,
        &[
            "WRONG: the certificate (CN=leaf) is self-signed",
            "b.example is on s2s.insecure_domains, its certificate is self-signed",
            "with the same certificate: proven by dialback alone: b.example is on s2s.insecure_domains",
        ],
    );
}

#[test]
fn scripts_get_json() {
    let asking = Asking::new("");
    let told = asking.explain(&["nowhere.example", "--json"]);
    assert_eq!(told.status, 1, "{}", told.stderr);
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(json["remote"], "nowhere.example");
    assert_eq!(json["tries"][0]["locals"][0], "a.example");
    let run = &json["tries"][0]["dry_run"];
    assert_eq!(run["would_talk"], false);
    assert_eq!(run["lookups"][0]["rtype"], "SRV");
}

#[test]
fn a_name_that_is_none_and_a_domain_that_is_not_served_are_wrong_use() {
    let asking = Asking::new("");
    for words in [
        &["exa mple"][..],
        &["b.example", "--from", "c.example"],
        &["a.example"],
    ] {
        let told = asking.explain(words);
        assert_eq!(told.status, 2, "{words:?}: {}", told.stderr);
    }
}

/// The server is asked for what it remembers, and for the try where the command may not read the keys.
#[test]
fn a_running_server_tells_its_last_attempts_in_both_directions() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let peer = network.stranger("b.example", wish.self_signed());
    let (mut stream, _) = peer.dial_secured(&server, "a.example");
    stream.send("<db:result from='b.example' to='a.example'>abc</db:result>");
    let refused = stream.element();
    assert!(refused.is(ns::DIALBACK, "result"));
    server.logs("server refused");
    let told = explain_by(&network, &server, "b.example");
    says(
        &told,
        1,
        &[
            &format!("it dialled a.example from {}:", peer.ip()),
            "failed, we refused it",
            "policy: s2s.secure_auth = true and its certificate is self-signed",
            "WRONG: the certificate (CN=leaf) is self-signed",
        ],
    );
}

/// XEP-0220 §2.1.2: to verify a key, the domain's own server is dialled, which is not there.
#[test]
fn a_server_that_was_dialled_in_vain_is_told_with_the_address_and_the_reason() {
    let network = Network::new();
    let server = network.server("a.example", "[s2s]\nsecure_auth = false\n");
    let std::net::IpAddr::V4(nobody) = dead_end().ip() else {
        panic!("it is of this family")
    };
    network.announce_starttls("b.example", nobody);
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let peer = network.stranger("b.example", wish.self_signed());
    let (mut stream, _) = peer.dial_secured(&server, "a.example");
    stream.send("<db:result from='b.example' to='a.example'>abc</db:result>");
    let line = server.logs("server not reached");
    assert!(
        line.contains("see=\"stanzad explain s2s b.example\""),
        "{line}"
    );
    let told = explain_by(&network, &server, "b.example");
    let attempt = format!("a.example dialled {nobody}:5269: failed, ");
    says(&told, 1, &[&attempt, "Connection refused"]);
    let listed = run(&network, &server.site, &["s2s", "list"]).stdout;
    assert!(listed.contains("next try in "), "{listed}");
    assert!(listed.contains("Connection refused"), "{listed}");
}

/// Who cannot read the configuration has the server try.
#[test]
fn a_command_without_a_configuration_has_the_server_try() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let broken = server.site.path("broken.toml");
    fs::write(&broken, "nonsense").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
    command
        .args(["explain", "s2s", "nowhere.example", "--config"])
        .arg(&broken)
        .arg("--control")
        .arg(server.control());
    let told = ended(&mut command, b"");
    says(
        &told,
        1,
        &[
            "nowhere.example\n",
            "A try just now by a.example\n",
            "DNS _xmpp-server._tcp.nowhere.example SRV: there is no such name",
        ],
    );
}

fn explain_by(network: &Network, server: &Server, domain: &str) -> Ended {
    run(network, &server.site, &["explain", "s2s", domain])
}

/// XEP-0178 §3.
#[test]
fn streams_in_both_directions_are_listed_with_what_has_proven_them() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let peer = network.peer("b.example");
    let _stream = peer.dial_external(&server, "a.example");
    server.logs("server authenticated");
    let listed = run(&network, &server.site, &["s2s", "list", "--json"]);
    assert_eq!(listed.status, 0, "{}", listed.stderr);
    let json: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let stream = &json["servers"][0];
    assert_eq!(stream["direction"], "accepted");
    assert_eq!(stream["proven"][0]["peer_proven_by"], "EXTERNAL");
    assert_eq!(stream["proven"][0]["remote"], "b.example");
    assert_eq!(stream["tls_version"], "TLSv1.3");
    assert_eq!(stream["state"], "ready");
    let text = run(&network, &server.site, &["s2s", "list", "b.example"]).stdout;
    assert!(
        text.contains("b.example  a.example    accepted  EXTERNAL"),
        "{text}"
    );
    let none = run(&network, &server.site, &["s2s", "list", "c.example"]).stdout;
    assert_eq!(none.lines().count(), 1, "{none}");
}

/// Each side tells what has proven the other, and how it has proven itself.
#[test]
fn the_stream_between_two_servers_is_listed_by_both() {
    let network = Network::new();
    let a = network.server("a.example", "");
    let b = network.server("b.example", "");
    let mut juliet = Client::available(&a, "juliet@a.example/balcony");
    let mut romeo = Client::available(&b, "romeo@b.example/orchard");
    juliet.send("<message to='romeo@b.example/orchard' type='chat'><body>Ay me!</body></message>");
    romeo.stanza("message");
    let list = |server: &Server| run(&network, &server.site, &["s2s", "list"]).stdout;
    let (by_a, by_b) = (list(&a), list(&b));
    assert!(
        by_a.contains(
            "b.example  a.example    dialled, both ways  certificate, we by EXTERNAL  ready"
        ),
        "{by_a}"
    );
    assert!(by_a.contains("direct TLS, TLSv1.3"), "{by_a}");
    assert!(
        by_b.contains("a.example  b.example    accepted, both ways  EXTERNAL   ready"),
        "{by_b}"
    );
    let told = explain_by(&network, &a, "b.example");
    says(
        &told,
        0,
        &[
            "worked, it takes our stanzas",
            "offers EXTERNAL, dialback, bidi",
        ],
    );
}

// --- DANE (RFC 7673)

/// A site that validates by the key of a signed zone; the DNS knows b.example.
fn with_dnssec() -> (Asking, Peer) {
    let network = Network::new();
    let mut anchor = String::new();
    network.names.change(|zone| {
        let (zone, key) = zone.signed();
        anchor = key;
        zone
    });
    let conf = "[dns]\ndnssec = true\ntrust_anchor = \"anchor\"\n[s2s]\ndane = true\n";
    let site = network.site(&["a.example"], address(), "");
    fs::write(site.path("anchor"), anchor).unwrap();
    common::server::write_conf(&site, conf);
    let asking = Asking { network, site };
    let peer = asking.peer(asking.network.issue(&["b.example"]));
    (asking, peer)
}

/// Puts a record "3 1 1" for a certificate into the DNS, at the port for STARTTLS.
fn record_key(asking: &Asking, peer: &Peer, certificate: &Issued) {
    let key = certificate.certificate.public_key().unwrap();
    let digest = openssl::sha::sha256(&key.public_key_to_der().unwrap());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let host = format!("host-{}.example", peer.ip().to_string().replace('.', "-"));
    let owner = format!("_5269._tcp.{host}");
    asking
        .network
        .record(&owner, "TLSA", &format!("3 1 1 {digits}"));
}

#[test]
fn tlsa_records_that_prove_a_certificate_are_told_with_what_dnssec_proves() {
    let (asking, peer) = with_dnssec();
    record_key(&asking, &peer, &peer.identity);
    let told = asking.explain_secured(&peer);
    says(
        &told,
        0,
        &[
            "DNS _xmpp-server._tcp.b.example SRV: 10 0 5269 host-127-",
            ". (DNSSEC)\n",
            " TLSA: 3 1 1 ",
            "DANE: one of 1 TLSA records proves the certificate",
            "s2s.dane = true and it has shown the certificate of its TLSA records",
        ],
    );
}

#[test]
fn tlsa_records_for_another_certificate_refuse_and_the_option_is_named() {
    let (asking, peer) = with_dnssec();
    record_key(&asking, &peer, &asking.network.issue(&["b.example"]));
    let told = asking.explain_secured(&peer);
    says(
        &told,
        1,
        &[
            "its chain is valid",
            "DANE: WRONG: none of 1 TLSA records proves the certificate",
            "To change that: set s2s.dane = false",
        ],
    );
}

/// RFC 7671 §5.1: with usage 3 neither dates nor issuers nor names count.
#[test]
fn what_a_tlsa_record_proves_is_told_with_no_fault() {
    let (asking, _) = with_dnssec();
    let wish = Wish {
        dns: &["c.example"],
        ..Wish::default()
    };
    let peer = asking.peer(wish.self_signed());
    record_key(&asking, &peer, &peer.identity);
    let told = asking.explain_secured(&peer);
    says(
        &told,
        0,
        &[
            "is self-signed, which does not count: its TLSA records prove it\n",
            "and not for b.example, which does not count: its TLSA records prove it\n",
            "s2s.dane = true and it has shown the certificate of its TLSA records",
        ],
    );
    assert!(!told.stdout.contains("WRONG"), "{}", told.stdout);
}

// --- what is pinned

/// The authority of `[s2s.peer]` takes the place of those that vouch for all others.
#[test]
fn the_chain_of_a_peer_with_a_ca_of_its_own_is_judged_by_that() {
    let asking = Asking::new("");
    let authority = Wish {
        is_authority: true,
        ..Wish::default()
    };
    let authority = authority.self_signed();
    let pem = authority.certificate.to_pem().unwrap();
    fs::write(asking.site.path("own-ca.pem"), pem).unwrap();
    let conf = "[s2s.peer.\"b.example\"]\nca = \"own-ca.pem\"\n";
    common::server::write_conf(&asking.site, conf);
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let told = asking.explain_with(wish.by(&authority));
    says(
        &told,
        0,
        &[
            "its chain is valid by the ca of [s2s.peer.\"b.example\"]\n",
            "a.example talks with b.example: it has shown what [s2s.peer.\"b.example\"] pins",
            "with the same certificate: proven at once: ",
        ],
    );
    assert!(!told.stdout.contains("WRONG"), "{}", told.stdout);
    // That the rest of the world trusts it is of no use to it.
    let told = asking.explain_with(asking.network.issue(&["b.example"]));
    says(
        &told,
        1,
        &[
            "WRONG: the certificate (CN=leaf) ",
            "does not talk with b.example: it has not shown what [s2s.peer.\"b.example\"] pins",
        ],
    );
    assert!(!told.stdout.contains("chain is valid"), "{}", told.stdout);
}

#[test]
fn the_chain_of_a_peer_with_a_pinned_key_does_not_count() {
    let asking = Asking::new("");
    let wish = Wish {
        dns: &["c.example"],
        ..Wish::default()
    };
    let peer = asking.peer(wish.self_signed());
    let key = peer.identity.key.public_key_to_der().unwrap();
    let digits = openssl::sha::sha256(&key).map(|byte| format!("{byte:02x}"));
    let pin = digits.concat();
    let conf = format!("[s2s.peer.\"b.example\"]\npin = [\"sha256:{pin}\"]\n");
    common::server::write_conf(&asking.site, &conf);
    let told = asking.explain_secured(&peer);
    says(
        &told,
        0,
        &[
            "is self-signed, which does not count: its key is pinned\n",
            "for DNS-ID c.example, and not for b.example, which does not count: its key is pinned\n",
            "a.example talks with b.example: it has shown what [s2s.peer.\"b.example\"] pins",
        ],
    );
    assert!(!told.stdout.contains("WRONG"), "{}", told.stdout);
}

/// What the running server remembers was judged by the same.
#[test]
fn the_last_attempts_of_a_peer_with_a_ca_of_its_own_are_told_by_that() {
    let network = Network::new();
    let peer = network.peer("b.example");
    let site = network.site(&["a.example"], address(), "");
    let other = Wish {
        is_authority: true,
        ..Wish::default()
    };
    let pem = other.self_signed().certificate.to_pem().unwrap();
    fs::write(site.path("own-ca.pem"), pem).unwrap();
    let conf = "[s2s.peer.\"b.example\"]\nca = \"own-ca.pem\"\n";
    common::server::write_conf(&site, conf);
    let server = network.start(site);
    let (mut stream, _) = peer.dial_secured(&server, "a.example");
    stream.send("<db:result from='b.example' to='a.example'>abc</db:result>");
    stream.element();
    server.logs("server refused");
    let told = thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = peer.accept_secured();
            stream.answer("1");
            stream.offer("");
            until_end(&mut stream);
        });
        explain_by(&network, &server, "b.example")
    });
    let attempts = told.stdout.split("A try just now").next().unwrap();
    assert!(
        attempts.contains("WRONG: the certificate (CN=leaf) "),
        "{attempts}"
    );
    assert!(!attempts.contains("chain is valid"), "{attempts}");
}

// --- keys (RFC 7590 §3.6)

#[test]
fn a_key_that_has_changed_is_told_by_list_and_explain() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let first = network.peer("b.example");
    drop(first.dial_external(&server, "a.example"));
    server.logs("server stream ended");
    let second = network.stranger("b.example", network.issue(&["b.example"]));
    let _stream = second.dial_external(&server, "a.example");
    server.logs("server shows another certificate key than before");
    let listed = run(&network, &server.site, &["s2s", "list"]).stdout;
    assert!(listed.contains("EXTERNAL, NEW KEY since 20"), "{listed}");
    // The first peer is the one that the DNS knows.
    let told = thread::scope(|scope| {
        scope.spawn(|| until_end(&mut first.accept_ready()));
        explain_by(&network, &server, "b.example")
    });
    says(
        &told,
        0,
        &[
            "Key of its certificate\n  sha256:",
            "  before: sha256:",
            "WARNING: another key than was last seen, sha256:",
        ],
    );
}

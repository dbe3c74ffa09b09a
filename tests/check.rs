//! `stanzad check` proves a deployment by using it: the DNS, the certificates, the ports of the running
//! server, and the TLS of any other.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::thread;

use common::authority::{Issued, Wish};
use common::component::Component;
use common::network::{Network, address};
use common::peer::Peer;
use common::server::{Server, write_conf};
use common::site::{Ended, Site, ended};

const DAY: i64 = 86_400;

/// Runs a command that trusts the network's authority.
fn run(network: &Network, site: &Site, words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
    command
        .arg("check")
        .args(words)
        .arg("--config")
        .arg(site.path("stanzad.toml"))
        .env("SSL_CERT_FILE", network.authority_file());
    ended(&mut command, b"")
}

#[track_caller]
fn says(ended: &Ended, status: i32, texts: &[&str]) {
    assert_eq!(ended.status, status, "{}{}", ended.stdout, ended.stderr);
    for text in texts {
        assert!(ended.stdout.contains(text), "{text}:\n{}", ended.stdout);
    }
}

fn announce_clients(network: &Network, server: &Server, port: u16) {
    let std::net::IpAddr::V4(ip) = server.c2s.ip() else {
        panic!("it is of this family")
    };
    let host = network.host(ip);
    let data = format!("0 5 {port} {host}.");
    network.record("_xmpp-client._tcp.a.example", "SRV", &data);
}

// --- dns

#[test]
fn records_that_lead_to_the_server_are_good() {
    let network = Network::new();
    let server = network.server("a.example", "");
    announce_clients(&network, &server, server.c2s.port());
    let told = run(&network, &server.site, &["dns"]);
    says(
        &told,
        0,
        &[
            "dns: a.example: clients: host-127-0-0-1.example is 127.0.0.1, port ",
            "dns: a.example: other servers: host-127-",
            "port 5269, STARTTLS: this server listens there\n",
            "port 5270, direct TLS: this server listens there\n",
            "note: clients: no record for direct TLS (_xmpps-client)",
            "0 problems, 0 warnings\n",
        ],
    );
}

#[test]
fn records_that_lead_nowhere_are_problems() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let told = run(&network, &server.site, &["dns"]);
    says(
        &told,
        1,
        &[
            "PROBLEM: clients: there is neither an SRV record nor an address",
            "make a record like \"_xmpp-client._tcp.a.example. SRV 0 5 5222 HOST.\"",
        ],
    );
    announce_clients(&network, &server, 1);
    let told = run(&network, &server.site, &["dns"]);
    says(
        &told,
        1,
        &[
            "PROBLEM: clients: host-127-0-0-1.example is 127.0.0.1, port 1, STARTTLS: ",
            "this machine, but the server does not listen there for them",
        ],
    );
}

/// RFC 5737: no machine has the address.
#[test]
fn an_address_of_another_machine_is_warned_of() {
    let network = Network::new();
    let site = network.site(&["a.example"], address(), "");
    network.record("host.example", "A", "192.0.2.1");
    for service in ["_xmpp-client", "_xmpp-server"] {
        let owner = format!("{service}._tcp.a.example");
        network.record(&owner, "SRV", "0 5 5222 host.example.");
    }
    let told = run(&network, &site, &["dns"]);
    says(
        &told,
        0,
        &[
            "warning: clients: host.example is 192.0.2.1, port 5222, STARTTLS: no address of this machine",
        ],
    );
}

// --- certs

fn certified(network: &Network, wish: Wish<'_>) -> Site {
    let site = network.site(&["a.example"], address(), "");
    let path = |ending| site.path("certs").join(format!("a.example.{ending}"));
    let dns = match wish.dns.is_empty() {
        true => &["a.example"],
        false => wish.dns,
    };
    let wish = Wish { dns, ..wish };
    wish.by(&network.authority)
        .write(&path("crt"), &path("key"));
    site
}

#[test]
fn a_certificate_is_told_with_its_listeners_and_its_end() {
    let network = Network::new();
    let site = certified(&network, Wish::default());
    let told = run(&network, &site, &["certs"]);
    says(
        &told,
        0,
        &[
            "certs: a.example: ECDSA 256 in ",
            "a.example.crt, shown by c2s, c2s_tls, s2s, s2s_tls: certificate CN=leaf, issued by",
            "0 problems, 0 warnings\n",
        ],
    );
}

#[test]
fn three_weeks_before_its_end_a_certificate_is_warned_of() {
    let network = Network::new();
    let wish = |days: i64| Wish {
        valid: Some((-DAY, days * DAY + DAY / 2)),
        ..Wish::default()
    };
    let told = run(&network, &certified(&network, wish(20)), &["certs"]);
    says(&told, 0, &["warning: ", "ends in 20 days: renew it"]);
    let told = run(&network, &certified(&network, wish(21)), &["certs"]);
    says(&told, 0, &["0 warnings"]);
}

#[test]
fn expired_and_misnamed_certificates_are_problems() {
    let network = Network::new();
    let expired = Wish {
        valid: Some((-9 * DAY, -DAY)),
        ..Wish::default()
    };
    let told = run(&network, &certified(&network, expired), &["certs"]);
    says(&told, 1, &["PROBLEM: ", "has expired on 20"]);
    let misnamed = Wish {
        dns: &["c.example"],
        ..Wish::default()
    };
    let told = run(&network, &certified(&network, misnamed), &["certs"]);
    says(
        &told,
        1,
        &[
            "PROBLEM: ",
            "is for DNS-ID c.example, and not for a.example",
        ],
    );
}

#[test]
fn a_certificate_that_only_the_initiated_trust_is_warned_of() {
    let network = Network::new();
    let site = network.site(&["a.example"], address(), "");
    let path = |ending| site.path("certs").join(format!("a.example.{ending}"));
    let wish = Wish {
        dns: &["a.example"],
        ..Wish::default()
    };
    wish.self_signed().write(&path("crt"), &path("key"));
    let told = run(&network, &site, &["certs"]);
    says(
        &told,
        0,
        &[
            "warning: ",
            "is self-signed: only who was told to will trust it",
        ],
    );
}

#[test]
fn a_key_that_others_can_read_is_a_problem_with_its_remedy() {
    let network = Network::new();
    let site = certified(&network, Wish::default());
    let key = site.path("certs").join("a.example.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let told = run(&network, &site, &["certs"]);
    let remedy = format!("mend it with \"chmod 600 {}\"", key.display());
    says(&told, 1, &["PROBLEM: ", &remedy]);
}

/// RFC 6120 §13.7: other servers ask for a component's certificate as for a domain's.
#[test]
fn a_component_is_looked_at_as_other_servers_meet_it() {
    let network = Network::new();
    let ip = address();
    let site = network.site(&["a.example"], ip, &format!("{IRC}{ALONE}"));
    let told = run(&network, &site, &["certs"]);
    says(
        &told,
        0,
        &[
            "certs: irc.a.example: warning: no certificate found in ",
            "other servers that ask for one do not reach the component\n",
            "0 problems, 1 warning\n",
        ],
    );
    let path = |ending| site.path(&format!("certs/irc.a.example.{ending}"));
    let issued = network.issue(&["irc.a.example"]);
    issued.write(&path("crt"), &path("key"));
    let told = run(&network, &site, &["certs"]);
    let shown = "irc.a.example.crt, shown by s2s, s2s_tls: certificate CN=leaf, issued by";
    says(
        &told,
        0,
        &["certs: irc.a.example: ECDSA 256 in ", shown, "0 warnings\n"],
    );
    assert!(!told.stdout.contains("alone.a.example"), "{}", told.stdout);

    let server = network.start(site);
    announce_clients(&network, &server, server.c2s.port());
    network.announce("a.example", ip);
    let told = run(&network, &server.site, &["dns"]);
    let missing = "dns: irc.a.example: PROBLEM: other servers: there is neither an SRV record";
    says(&told, 1, &[missing, "1 problem, 0 warnings\n"]);
    network.announce("irc.a.example", ip);
    let told = run(&network, &server.site, &["dns"]);
    let listens = "port 5269, STARTTLS: this server listens there\n";
    says(
        &told,
        0,
        &["dns: irc.a.example: other servers: host-127-", listens],
    );
    assert!(
        !told.stdout.contains("irc.a.example: clients"),
        "{}",
        told.stdout
    );

    let told = run(&network, &server.site, &["ports"]);
    let tls = format!("ports: s2s {}: irc.a.example: TLSv1.3 ", server.s2s);
    says(
        &told,
        0,
        &[&tls, "irc.a.example: the component is not connected"],
    );
    let _irc = Component::connect(&server, "irc.a.example");
    let told = run(&network, &server.site, &["ports"]);
    says(
        &told,
        0,
        &[
            "irc.a.example: connected from 127.0.0.1:",
            "alone.a.example: ",
        ],
    );
}

#[test]
fn a_port_for_components_that_is_open_to_others_is_warned_of() {
    let network = Network::new();
    let conf = format!("[listen]\ncomponent = [\"0.0.0.0:0\"]\n{ALONE}");
    let site = network.site(&["a.example"], address(), &conf);
    let server = network.start(site);
    let told = run(&network, &server.site, &["ports"]);
    says(
        &told,
        0,
        &["warning: nothing encrypts what is said with a component"],
    );
}

/// A component that other servers are to reach.
const IRC: &str = r#"
[component."irc.a.example"]
secret = "open, the barley seed"
"#;

/// One that they are not to.
const ALONE: &str = r#"
[component."alone.a.example"]
secret = "open, the barley seed"
[component."alone.a.example".s2s]
enabled = false
"#;

// --- files

#[test]
fn files_that_others_can_get_at_are_told_with_the_remedy() {
    let network = Network::new();
    let server = network.server("a.example", ALONE);
    let good = run(&network, &server.site, &["config"]);
    says(&good, 0, &["stanzad.toml: good\n"]);
    assert_eq!(good.stdout.lines().count(), 1, "{}", good.stdout);
    let cases = [
        // What the server refuses to start with.
        (
            "data",
            0o750,
            1,
            "has mode 0750, so that others can get at it; mend it with \"chmod 700 ",
        ),
        ("data/stanzad.sqlite", 0o640, 1, "mend it with \"chmod 600 "),
        ("run", 0o777, 1, "control socket's directory"),
        // What it starts with, all the same.
        (
            "run/control.sock",
            0o666,
            0,
            "can be opened by other users (mode 0666)",
        ),
        (
            "log",
            0o644,
            0,
            "tells who talks with whom, and other users can get at it (mode 0644)",
        ),
        (
            "stanzad.toml",
            0o620,
            0,
            "decides all that the server does, and can be changed",
        ),
    ];
    for (name, mode, status, text) in cases {
        let path = server.site.path(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let told = run(&network, &server.site, &["config"]);
        says(&told, status, &[text, &format!("/{name}")]);
        fs::set_permissions(&path, before).unwrap();
    }
    let told = run(&network, &server.site, &["config"]);
    assert_eq!(told.stdout, good.stdout);
}

/// RFC 6120 §13.7.2, RFC 4035 §5: without its anchors a server trusts nobody, and does not start.
#[test]
fn files_that_decide_who_is_trusted_are_told_when_they_cannot_be_used() {
    let network = Network::new();
    let told_of = |conf: &str, make: fn(&Path)| {
        let site = network.site(&["a.example"], address(), conf);
        make(&site.path("trust"));
        let start = site.run(&["run"], b"");
        assert_eq!(start.status, 1, "{conf}{}", start.stderr);
        let told = run(&network, &site, &["config"]);
        let all = run(&network, &site, &["--json"]);
        let json: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap();
        let problem = findings.iter().find(|finding| {
            let is_problem = finding["level"] == "problem";
            is_problem && finding["text"].to_string().contains("trust")
        });
        assert!(problem.is_some(), "{conf}{}", all.stdout);
        told
    };
    let nothing: fn(&Path) = |_| ();
    let junk: fn(&Path) = |path| fs::write(path, "; no key\n").unwrap();
    let directory: fn(&Path) = |path| fs::create_dir(path).unwrap();
    let ca = "tls.ca = \"trust\"";
    let peer = "s2s.peer.\"b.example\".ca = \"trust\"";
    let of_domain = "domain.\"a.example\".s2s.peer.\"b.example\".ca = \"trust\"";
    let clients = "auth.client_ca = \"trust\"";
    let anchor = "dns.dnssec = true\ndns.trust_anchor = \"trust\"";
    let dhparam = "tls.dhparam = \"./trust\"";
    let cases = [
        (ca, nothing, "tls.ca file ", "trust cannot be read: No such"),
        (
            ca,
            directory,
            "tls.ca file ",
            "cannot be read: is not a file",
        ),
        (ca, junk, "tls.ca file ", "holds no certificate in PEM"),
        (
            peer,
            nothing,
            "s2s.peer.\"b.example\".ca file ",
            "cannot be read",
        ),
        (
            of_domain,
            nothing,
            "s2s.peer.\"b.example\".ca file ",
            "cannot be read",
        ),
        (
            clients,
            nothing,
            "auth.client_ca: ",
            "cannot be read: No such",
        ),
        (anchor, nothing, "dns.trust_anchor: ", "trust: No such file"),
        (
            anchor,
            junk,
            "dns.trust_anchor: ",
            "it has no DNSKEY record",
        ),
        (dhparam, nothing, "trust", "cannot be read: No such"),
    ];
    for (conf, make, lead, why) in cases {
        let told = told_of(conf, make);
        says(&told, 1, &[lead, why]);
        assert_eq!(told.stdout.lines().count(), 1, "{}", told.stdout);
    }
}

#[test]
fn directories_that_a_start_needs_are_told_when_they_are_missing() {
    let network = Network::new();
    let cases = [
        (
            "server.data = \"no/data\"",
            "the data directory ",
            "/no; make it",
        ),
        (
            "server.control = \"no/run/sock\"",
            "the control socket's directory ",
            "/no; make it",
        ),
        ("log.to = \"no/log\"", "the log ", "/no; make it"),
        (
            "log.to = \"./certs\"",
            "the log ",
            "is a directory; write log.to = ",
        ),
        (
            "server.data = \"stanzad.toml\"",
            "stanzad.toml: ",
            "this is not a directory",
        ),
        (
            "tls.certificates = \"no\"",
            "no certificate found in ",
            "(there is no such directory)",
        ),
    ];
    for (conf, lead, why) in cases {
        let site = network.site(&["a.example"], address(), conf);
        let start = site.run(&["run"], b"");
        assert_eq!(start.status, 1, "{conf}: {}", start.stderr);
        says(&run(&network, &site, &["config"]), 1, &[lead, why]);
    }
}

/// Who checks is often root, who can read all. Only root can give files to somebody else, so as another
/// user there is nothing to see here.
#[test]
fn what_only_root_can_read_is_told_before_the_server_fails_by_it() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let network = Network::new();
    let site = network.site(&["a.example"], address(), "tls.ca = \"ca.pem\"");
    fs::copy(network.authority_file(), site.path("ca.pem")).unwrap();
    let (nobody, nogroup) = (65_534, 65_534);
    let give = |path: &Path, user| chown(path, Some(user), Some(nogroup)).unwrap();
    give(&site.path("data"), nobody);
    for entry in fs::read_dir(site.path("data")).unwrap() {
        give(&entry.unwrap().path(), nobody);
    }
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let key = site.path("certs/a.example.key");
    let files = ["stanzad.toml", "ca.pem", "certs/a.example.crt"].map(|name| site.path(name));
    for file in &files {
        mode(file, 0o640);
    }
    mode(site.directory.path(), 0o755);
    let told = run(&network, &site, &["config"]);
    let hidden = |file: &Path| {
        let file = file.display();
        format!("{file} may be hidden from the server, which runs as user {nobody}, ")
    };
    for file in files.iter().chain([&key]) {
        says(&told, 0, &[&hidden(file)]);
    }
    let certs = run(&network, &site, &["certs"]);
    assert!(
        certs.stdout.contains(&hidden(&files[2])),
        "{}",
        certs.stdout
    );
    for file in &files {
        give(file, 0);
    }
    give(&key, nobody);
    let told = run(&network, &site, &["config"]);
    says(&told, 0, &["stanzad.toml: good\n"]);
    assert_eq!(told.stdout.lines().count(), 1, "{}", told.stdout);
}

// --- ports

#[test]
fn each_port_of_the_running_server_is_shaken_hands_with() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let told = run(&network, &server.site, &["ports"]);
    let lines: Vec<String> = [
        ("c2s", server.c2s),
        ("c2s_tls", server.c2s_tls),
        ("s2s", server.s2s),
        ("s2s_tls", server.s2s_tls),
    ]
    .map(|(kind, address)| format!("ports: {kind} {address}: a.example: TLSv1.3 "))
    .to_vec();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    says(&told, 0, &lines);
    says(&told, 0, &["0 problems, 0 warnings\n"]);
}

#[test]
fn a_renewed_certificate_that_is_not_in_use_yet_is_told() {
    let network = Network::new();
    let server = network.server("a.example", "");
    let path = |ending| {
        server
            .site
            .path("certs")
            .join(format!("a.example.{ending}"))
    };
    network
        .issue(&["a.example"])
        .write(&path("crt"), &path("key"));
    let told = run(&network, &server.site, &["ports"]);
    says(
        &told,
        0,
        &[
            "warning: ",
            "another certificate than is on the disk: run \"stanzad reload\"",
        ],
    );
    server.reload();
    let told = run(&network, &server.site, &["ports"]);
    says(&told, 0, &["0 problems, 0 warnings\n"]);
}

#[test]
fn without_a_server_there_is_no_port_to_check() {
    let network = Network::new();
    let site = network.site(&["a.example"], address(), "");
    let told = run(&network, &site, &["ports"]);
    says(
        &told,
        1,
        &["ports: server: PROBLEM: ", "the server is not running"],
    );
}

// --- tls

#[test]
fn any_server_is_found_and_looked_at() {
    let network = Network::new();
    let server = network.server("b.example", "");
    let asking = network.site(&["a.example"], address(), "");
    let told = run(&network, &asking, &["tls", "b.example"]);
    says(
        &told,
        1,
        &[
            "tls: b.example for clients: PROBLEM: it has no address: ",
            ":5269 for servers, STARTTLS: TLSv1.3 ",
            ":5270 for servers, direct TLS: TLSv1.3 ",
            "certificate CN=leaf, issued by CN=authority, valid until 20",
        ],
    );
    let host = network.host([127, 0, 0, 1].into());
    let data = format!("0 5 {} {host}.", server.c2s.port());
    network.record("_xmpp-client._tcp.b.example", "SRV", &data);
    let told = run(&network, &asking, &["tls", "b.example"]);
    says(&told, 0, &[" for clients, STARTTLS: TLSv1.3 "]);
}

#[test]
fn a_port_is_looked_at_whatever_it_is_for() {
    let network = Network::new();
    let server = network.server("b.example", "");
    network.record("b.example", "A", "127.0.0.1");
    let asking = network.site(&["a.example"], address(), "");
    let port = |port: u16| format!("b.example:{port}");
    let told = run(&network, &asking, &["tls", &port(server.c2s_tls.port())]);
    says(&told, 0, &[" for clients, direct TLS: TLSv1.3 "]);
    assert!(!told.stdout.contains("STARTTLS"), "{}", told.stdout);
    let told = run(&network, &asking, &["tls", &port(server.c2s.port())]);
    says(&told, 0, &[" for clients, STARTTLS: TLSv1.3 "]);
    let told = run(&network, &asking, &["tls", "b.example:0"]);
    assert_eq!(told.status, 2, "{}", told.stdout);
}

#[test]
fn a_certificate_that_nobody_trusts_is_a_problem_of_others() {
    let network = Network::new();
    let ip = address();
    let site = network.site(&["b.example"], ip, "");
    let path = |ending| site.path("certs").join(format!("b.example.{ending}"));
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    wish.self_signed().write(&path("crt"), &path("key"));
    network.announce("b.example", ip);
    let server = network.start(site);
    let told = run(&network, &server.site, &["tls", "b.example"]);
    let text = "STARTTLS: PROBLEM: the certificate (CN=leaf) is self-signed: only who was told to";
    says(&told, 1, &[text]);
}

/// Prosody 0.12 with `s2s_secure_auth`. It has shown all that is looked for by then.
#[test]
fn a_server_that_turns_strangers_away_has_no_problem_by_that() {
    let network = Network::new();
    let peer = network.peer("b.example");
    let asking = network.site(&["a.example"], address(), "[s2s]\nenabled = false\n");
    let told = turned_away(&network, &peer, &asking);
    let note =
        "STARTTLS: note: of a stranger it wants no more: it ended the stream: not-authorized\n";
    // That nothing is there for clients is one.
    says(&told, 1, &[note, "1 problem, 0 warnings\n"]);
}

/// RFC 6120 §13.7.2: who shows the certificate of a domain here, and is turned away, is no stranger.
#[test]
fn a_server_that_turns_a_domain_here_away_is_a_problem() {
    let network = Network::new();
    let peer = network.peer("b.example");
    let asking = network.site(&["a.example"], address(), "");
    let told = turned_away(&network, &peer, &asking);
    let problem = "STARTTLS: PROBLEM: it ended the stream: not-authorized\n";
    says(&told, 1, &[problem, "2 problems, 0 warnings\n"]);
}

/// What is told by who asks a server that ends the second stream with `not-authorized`.
fn turned_away(network: &Network, peer: &Peer, asking: &Site) -> Ended {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = peer.accept();
            stream.hear_header();
            stream.answer("0");
            stream.offer("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            stream.accept_starttls(peer);
            stream.hear_header();
            stream.answer("1");
            stream.send(
                "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
                 </stream:error></stream:stream>",
            );
        });
        run(network, asking, &["tls", "b.example"])
    })
}

/// A server for b.example with this certificate, that no client finds.
fn server_with(network: &Network, identity: &Issued, conf: &str) -> Server {
    let ip = address();
    let site = network.site(&["b.example"], ip, conf);
    let path = |ending| site.path("certs").join(format!("b.example.{ending}"));
    identity.write(&path("crt"), &path("key"));
    network.announce("b.example", ip);
    network.start(site)
}

/// As `policy::s2s` decides: what is pinned decides alone.
#[test]
fn a_server_with_a_ca_of_its_own_is_judged_by_that() {
    let network = Network::new();
    let authority = Wish {
        is_authority: true,
        ..Wish::default()
    };
    let authority = authority.self_signed();
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let _server = server_with(&network, &wish.by(&authority), "");
    let asking = network.site(&["a.example"], address(), "");
    let told = run(&network, &asking, &["tls", "b.example"]);
    says(
        &told,
        1,
        &[
            "STARTTLS: PROBLEM: the certificate (CN=leaf) ",
            "PROBLEM: a.example refuses it: s2s.secure_auth = true and its certificate is ",
        ],
    );
    let pem = authority.certificate.to_pem().unwrap();
    fs::write(asking.path("own-ca.pem"), pem).unwrap();
    write_conf(&asking, "[s2s.peer.\"b.example\"]\nca = \"own-ca.pem\"\n");
    let told = run(&network, &asking, &["tls", "b.example"]);
    // That nothing is there for clients is the one problem.
    says(
        &told,
        1,
        &[
            "STARTTLS: a.example takes it: it has shown what [s2s.peer.\"b.example\"] pins\n",
            "direct TLS: a.example takes it: ",
            "1 problem, 0 warnings\n",
        ],
    );
}

#[test]
fn a_server_is_looked_at_as_by_each_domain_here() {
    let network = Network::new();
    let wish = Wish {
        dns: &["b.example"],
        ..Wish::default()
    };
    let _server = server_with(&network, &wish.self_signed(), "");
    let conf = "[domain.\"c.example\".s2s]\ninsecure_domains = [\"b.example\"]\n\
                [domain.\"d.example\".s2s]\ndeny = [\"b.example\"]\n";
    let domains = ["a.example", "c.example", "d.example"];
    let asking = network.site(&domains, address(), conf);
    let told = run(&network, &asking, &["tls", "b.example"]);
    says(
        &told,
        1,
        &[
            "note: d.example: not talked with, b.example is on s2s.deny\n",
            "STARTTLS, by a.example: PROBLEM: the certificate (CN=leaf) is self-signed",
            "STARTTLS, by a.example: PROBLEM: a.example refuses it: s2s.secure_auth = true",
            "STARTTLS, by c.example: note: the certificate (CN=leaf) is self-signed",
            "STARTTLS, by c.example: c.example takes it: b.example is on s2s.insecure_domains",
        ],
    );
}

/// TLS with another server is agreed on by the `[tls]` here, and not by what any program can.
#[test]
fn a_server_is_looked_at_by_the_rules_of_tls_here() {
    let network = Network::new();
    let own = network.issue(&["b.example"]);
    let server = server_with(&network, &own, "[tls]\ngroups = [\"P-521\"]\n");
    let asking = |groups: &str| {
        let conf = format!("[tls]\ngroups = [{groups}]\n");
        let site = network.site(&["a.example"], address(), &conf);
        run(&network, &site, &["tls", "b.example"])
    };
    says(
        &asking("\"P-384\""),
        1,
        &["PROBLEM: the TLS handshake failed: "],
    );
    let told = asking("\"P-384\", \"P-521\"");
    says(&told, 1, &["STARTTLS: TLSv1.3 ", "1 problem, 0 warnings\n"]);
    // Of a domain here it is told what its own listeners do.
    let told = run(&network, &server.site, &["tls", "b.example"]);
    says(&told, 1, &["STARTTLS: TLSv1.3 ", "1 problem, 0 warnings\n"]);
    let told = run(&network, &server.site, &["ports"]);
    says(&told, 0, &["0 problems, 0 warnings\n"]);
}

// --- all

#[test]
fn without_a_word_all_is_checked() {
    let network = Network::new();
    let server = network.server("a.example", "");
    announce_clients(&network, &server, server.c2s.port());
    let told = run(&network, &server.site, &["--json"]);
    assert_eq!(told.status, 0, "{}{}", told.stdout, told.stderr);
    let json: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(json["ok"], true);
    for check in ["config", "certs", "dns", "ports"] {
        let findings = json["findings"].as_array().unwrap();
        let has = findings.iter().any(|finding| finding["check"] == check);
        assert!(has, "{check}: {}", told.stdout);
    }
}

/// What is logged of a certificate that ends soon.
#[test]
fn a_start_warns_of_a_certificate_that_ends_soon() {
    let network = Network::new();
    let soon = Wish {
        valid: Some((-DAY, 20 * DAY)),
        ..Wish::default()
    };
    let server = network.start(certified(&network, soon));
    let line = server.logs("expires soon");
    assert!(
        line.contains("warn") && line.contains("a.example.crt"),
        "{line}"
    );
}

/// What the conf file asks for and does not get (RFC 5802 §9: SCRAM needs keys, which bcrypt has not).
#[test]
fn a_start_and_a_reload_warn_of_scram_that_is_not_offered() {
    const LISTED: &str = "auth.mechanisms = [\"SCRAM-SHA-256\", \"PLAIN\"]\n";
    let network = Network::new();
    let conf = format!("{LISTED}auth.storage = \"bcrypt\"\n");
    let server = network.server("a.example", &conf);
    let text = "SCRAM-SHA-256 in auth.mechanisms will not be offered";
    let line = server.logs(text);
    assert!(
        line.contains("warn") && line.contains("stanzad.toml:"),
        "{line}"
    );
    let told = run(&network, &server.site, &["config"]);
    says(&told, 0, &["warning: ", text]);
    assert!(server.reload().warnings.join("\n").contains(text));
    write_conf(&server.site, LISTED);
    assert!(server.reload().warnings.is_empty());
}

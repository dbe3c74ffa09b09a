//! What an operator and a service manager do to the running server: certificates and domains come
//! and go at a reload, signals, sockets handed in, several addresses (`Reloads` in lib.rs,
//! `stanzad.8`).

mod common;
#[path = "operating/endings.rs"]
mod endings;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use common::authority::Wish;
use common::client::{Client, failure_of, ssl};
use common::server::{PASSWORD, Server, site};
use common::site::Site;
use stanzad::server::control::ListenerInfo;

/// Puts a new certificate for a domain in place of the old one, and gives its fingerprint.
fn renew(site: &Site, domain: &str) -> Vec<u8> {
    let issued = Wish {
        dns: &[domain],
        ..Wish::default()
    };
    let issued = issued.self_signed();
    let file = |ending: &str| site.path(&format!("certs/{domain}.{ending}"));
    issued.write(&file("crt"), &file("key"));
    issued.certificate.to_der().unwrap()
}

/// The certificate that is shown for a domain over direct TLS.
fn shown(server: &Server, domain: &str) -> Vec<u8> {
    let client = Client::try_connect_tls(server, ssl(domain, |_| ())).unwrap();
    let certificate = client.tls().peer_certificate().unwrap();
    certificate.to_der().unwrap()
}

/// The same over STARTTLS without SNI: the stream's `to` tells (RFC 6120 §4.7.2).
fn shown_by_to(server: &Server, domain: &str) -> Vec<u8> {
    let mut client = Client::connect(server);
    client.open(domain);
    client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
    assert_eq!(client.element().name, "proceed");
    // An address is no SNI name.
    client.handshake(ssl("127.0.0.1", |_| ())).unwrap();
    let certificate = client.tls().peer_certificate().unwrap();
    certificate.to_der().unwrap()
}

fn chat(from: &mut Client, to: &mut Client) {
    from.send(format!(
        "<message to='{}' type='chat'><body>hi</body></message>",
        to.jid
    ));
    assert_eq!(to.stanza("message").attribute("from"), Some(&*from.jid));
}

/// One in the middle of each stage of a stream, and two that chat.
#[test]
fn a_renewed_certificate_is_shown_after_a_reload_and_no_stream_is_dropped() {
    let server = Server::start("");
    let mut old = shown(&server, "example.org");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut romeo = Client::login(&server, "romeo@example.org/orchard");
    let mut opened = Client::connect(&server);
    opened.open("example.org");
    let mut secured = Client::connect(&server);
    secured.secure("example.org");

    for by_signal in [false, true] {
        let new = renew(&server.site, "example.org");
        assert_eq!(shown(&server, "example.org"), old, "before the reload");
        if by_signal {
            server.hang_up();
        } else {
            server.reload();
        }
        assert_eq!(shown(&server, "example.org"), new);
        assert_eq!(shown_by_to(&server, "example.org"), new);
        assert_ne!(shown(&server, "example.net"), new);
        chat(&mut juliet, &mut romeo);
        chat(&mut romeo, &mut juliet);
        old = new;
    }
    // Who was on the way in goes on, and binds to the certificate that its connection showed.
    opened.starttls("example.org");
    opened.open("example.org");
    opened
        .scram("SCRAM-SHA-256-PLUS", "nurse", PASSWORD)
        .unwrap();
    let channel = common::scram::Channel::Bound("tls-server-end-point".into(), secured.end_point());
    let scram = common::scram::Scram::new("SCRAM-SHA-1-PLUS", "nurse", PASSWORD, None, channel);
    secured.scram_with("SCRAM-SHA-1-PLUS", &scram).unwrap();
}

/// The reload says what is wrong, the old certificate stays, and so do the streams.
#[test]
fn a_bad_certificate_keeps_the_old_one_and_tells_why() {
    let server = Server::start("");
    let old = shown(&server, "example.org");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let crt = server.site.path("certs/example.org.crt");
    let key = server.site.path("certs/example.org.key");
    let (good, good_key) = (fs::read(&crt).unwrap(), fs::read(&key).unwrap());
    let other = Wish {
        dns: &["example.org"],
        ..Wish::default()
    };
    let other_key = other.self_signed().key.private_key_to_pem_pkcs8().unwrap();
    let half = &good[..good.len() / 2];
    let bad: [(&str, &[u8], &[u8]); 4] = [
        ("empty", b"", &good_key),
        ("cut off", half, &good_key),
        ("with another's key", &good, &other_key),
        ("with no key", &good, b"nothing\n"),
    ];
    for (what, certificate, private) in bad {
        fs::write(&crt, certificate).unwrap();
        fs::write(&key, private).unwrap();
        let ended = server.run(&["reload"], "");
        server.wait_until_ready();
        assert_eq!(shown(&server, "example.org"), old, "{what}");
        let told = ended.stderr;
        assert!(told.contains("example.org"), "{what}: {told}");
        assert_eq!(shown_by_to(&server, "example.org"), old, "{what}");
        juliet.settle();
    }
    // A key that others can read is refused, with the command that mends it.
    fs::write(&crt, &good).unwrap();
    fs::write(&key, &good_key).unwrap();
    let set_mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o644);
    let ended = server.run(&["reload"], "");
    server.wait_until_ready();
    assert!(ended.stderr.contains("chmod"), "{}", ended.stderr);
    assert_eq!(shown(&server, "example.org"), old);
    set_mode(0o600);
    let new = renew(&server.site, "example.org");
    server.reload();
    assert_eq!(shown(&server, "example.org"), new);
}

/// A broken conf file changes nothing, be the reload by command or by signal.
#[test]
fn a_broken_conf_file_changes_nothing_and_is_told() {
    let server = Server::start("");
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let path = server.site.path("stanzad.toml");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("{good}\n[c2s]\nidle_second = 5\nidle_seconds = \"x\"\n"),
    )
    .unwrap();
    let ended = server.run(&["reload"], "");
    assert_ne!(ended.status, 0);
    assert!(
        ended.stderr.contains("did you mean idle_seconds"),
        "{}",
        ended.stderr
    );
    server.signal(Signal::HUP);
    server.wait_until_ready();
    server.logs("did you mean idle_seconds");
    assert_eq!(server.status().generation, 1);
    juliet.settle();
    fs::write(&path, good).unwrap();
    server.reload();
    assert_eq!(server.status().generation, 2);
}

/// Who has broken the conf file can still look at the server, and stop it.
#[test]
fn a_broken_conf_file_does_not_keep_from_asking_and_stopping_the_server() {
    let mut server = Server::start("");
    let path = server.site.path("stanzad.toml");
    let good = fs::read_to_string(&path).unwrap();
    // A wrong value, and a line that is no TOML.
    fs::write(&path, format!("{good}\n[c2s]\nidle_seconds = \"x\"\n]\n")).unwrap();
    for words in [&["status", "--json"][..], &["sessions"]] {
        let ended = server.run(words, "");
        assert_eq!(ended.status, 0, "{words:?}: {}", ended.stderr);
        for told in ["idle_seconds", "the conf file is broken", "control.sock"] {
            assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
        }
    }
    let control = server.control().display().to_string();
    // A file that does not name the socket might be another server's.
    fs::write(&path, "[domain.\"example.org\"\n").unwrap();
    for command in ["status", "stop"] {
        let ended = server.run(&[command], "");
        assert_eq!(ended.status, 1);
        assert!(ended.stderr.contains("--control"), "{}", ended.stderr);
    }
    let ended = server.run(&["status", "--control", &control], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert_eq!(ended.stderr, "", "nothing of the file was needed");
    let ended = server.run(&["stop", "--control", &control], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(server.wait().success());
}

/// `stanzad.toml.5`, `[domain]`.
#[test]
fn a_domain_that_is_added_is_served_after_a_reload_and_one_removed_refused() {
    let server = Server::start("");
    let mut paris = Client::login(&server, "paris@example.net/church");
    let refused = |domain: &str| {
        let mut client = Client::connect(&server);
        client.send_header(domain);
        client.opened();
        client.fails("host-unknown");
    };
    refused("example.com");
    let certificate = renew(&server.site, "example.com");
    server.configure("[domain.\"example.com\"]\n");
    server.reload();
    assert_eq!(shown(&server, "example.com"), certificate);
    server.add("rosaline@example.com", PASSWORD);
    let mut rosaline = Client::login(&server, "rosaline@example.com/window");
    chat(&mut rosaline, &mut paris);

    // The conf file of the tests has example.net, so it is written without.
    let path = server.site.path("stanzad.toml");
    let mut whole: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let domains = whole["domain"].as_table_mut().unwrap();
    domains.remove("example.net").unwrap();
    fs::write(&path, whole.to_string()).unwrap();
    server.reload();
    refused("example.net");
    assert_eq!(server.status().domains, ["example.com", "example.org"]);
    let listed = server.run(
        &["account", "passwd", "paris@example.net"],
        "0ther passw0rd\n",
    );
    assert!(
        listed.stderr.contains("is not served here"),
        "{}",
        listed.stderr
    );
    rosaline.settle();
    // And back, with its accounts.
    server.configure("[domain.\"example.com\"]\n");
    server.reload();
    Client::login(&server, "paris@example.net/square");
}

/// RFC 6120 §4.9.3.20: clients are told, and may come back elsewhere or later.
#[test]
fn sigterm_and_sigint_close_streams_with_system_shutdown_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start("");
        let mut bound = Client::login(&server, "juliet@example.org/balcony");
        let mut other = Client::login(&server, "romeo@example.org/orchard");
        let mut secured = Client::connect(&server);
        secured.secure("example.org");
        let mut opened = Client::connect(&server);
        opened.open("example.org");
        let address = server.c2s;
        server.signal(signal);
        for client in [&mut bound, &mut other, &mut secured, &mut opened] {
            client.fails("system-shutdown");
        }
        drop((bound, other, secured, opened));
        assert_eq!(server.wait().code(), Some(0));
        assert!(
            std::net::TcpStream::connect(address).is_err(),
            "it listens still"
        );
        assert!(!server.control().exists(), "the control socket is left");
        server.start_again();
        Client::login(&server, "juliet@example.org/balcony");
    }
}

/// A client that never answers does not keep the server from stopping.
#[test]
fn a_client_that_does_not_close_is_not_waited_for_beyond_its_time() {
    let mut server = Server::start("");
    let _silent = Client::login(&server, "juliet@example.org/balcony");
    let _never_began = Client::connect(&server);
    server.stop();
}

/// sd_listen_fds(3): the descriptors 3 and 4 are the test's sockets, LISTEN_PID the server's own.
const HAND_OVER: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; \
     LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=c2s:c2s_tls exec \"$@\"";

fn handed_over(site: &Site, c2s: TcpListener, c2s_tls: TcpListener) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", HAND_OVER, "sh", env!("CARGO_BIN_EXE_stanzad")])
        .args(["run", "--as-root", "--config"])
        .arg(site.path("stanzad.toml"))
        .stdin(Stdio::from(OwnedFd::from(c2s)))
        .stdout(Stdio::from(OwnedFd::from(c2s_tls)));
    command
}

fn client_listeners(server: &Server) -> Vec<ListenerInfo> {
    let listeners = server.status().listeners.into_iter();
    listeners
        .filter(|listener| listener.kind.starts_with("c2s"))
        .collect()
}

#[test]
fn sockets_of_the_service_manager_are_used_in_place_of_the_addresses() {
    let c2s = TcpListener::bind("127.0.0.1:0").unwrap();
    let c2s_tls = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [c2s.local_addr().unwrap(), c2s_tls.local_addr().unwrap()];
    // Whoever connects before the server runs waits in the socket.
    let mut early = Client::connect_to(addresses[0]);
    early.send_header("example.org");
    let site = site("");
    let command = handed_over(&site, c2s, c2s_tls);
    let server = Server::start_by(site, command);
    assert_eq!([server.c2s, server.c2s_tls], addresses);
    assert_eq!(client_listeners(&server).len(), 2);
    early.opened();
    early.features();
    let mut juliet = Client::login(&server, "juliet@example.org/balcony");
    let mut direct = Client::connect_tls(&server);
    direct.open("example.org");
    direct
        .scram("SCRAM-SHA-256-PLUS", "romeo", PASSWORD)
        .unwrap();
    direct.open("example.org");
    direct.bind(Some("orchard"));
    chat(&mut juliet, &mut direct);
}

/// IPv4 and IPv6, more than one of each, and each serves all domains.
#[test]
fn every_address_of_both_families_is_served() {
    let server = Server::start(
        "[listen]\nc2s = [\"127.0.0.1:0\", \"127.0.0.3:0\", \"[::1]:0\"]\n\
         c2s_tls = [\"[::1]:0\", \"127.0.0.1:0\"]\n",
    );
    let listeners = client_listeners(&server);
    assert_eq!(listeners.len(), 5);
    for listener in listeners {
        let address: SocketAddr = listener.address.parse().unwrap();
        assert_ne!(address.port(), 0);
        let mut client = Client::connect_to(address);
        if listener.kind == "c2s_tls" {
            client.handshake(ssl("example.org", |_| ())).unwrap();
            client.open("example.org");
        } else {
            client.secure("example.org");
        }
        client.scram("SCRAM-SHA-256", "juliet", PASSWORD).unwrap();
        client.open("example.org");
        let jid = client.bind(None);
        let told: SocketAddr = server.sessions(Some(&jid))[0].address.parse().unwrap();
        assert_eq!(told, client.tcp().local_addr().unwrap());
    }
}

/// `[::]` takes IPv4 too, and an IPv4 client is known by its IPv4 address.
#[test]
fn the_unspecified_ipv6_address_takes_both_families() {
    let server = Server::start("[listen]\nc2s = [\"[::]:0\"]\nc2s_tls = []\n");
    let port = server.c2s.port();
    for ip in ["127.0.0.1", "::1"] {
        let ip: IpAddr = ip.parse().unwrap();
        let mut client = Client::connect_to((ip, port).into());
        client.secure("example.org");
        let outcome = client.plain("ghost", "wrong");
        assert_eq!(failure_of(outcome), "not-authorized");
        server.logs(&format!("address={ip}"));
    }
}

/// Two servers on one data directory, or on one address: the second says what is wrong.
#[test]
fn a_second_server_on_the_same_data_does_not_start() {
    let server = Server::start("");
    let mut command = common::server::command(&server.site);
    let ended = common::site::ended(command.env("STANZAD", "second"), b"");
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("data"), "{}", ended.stderr);
    server.status();
}

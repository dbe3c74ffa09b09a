//! The limit on open files: how many connections it admits, and what works when those are taken, or
//! when there is no descriptor at all (`stanzad.8`, OPEN FILES).

mod common;

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use stanzad::limits::OPEN_FILES_KEPT;

use common::client::{Client, Heard, header};
use common::server::{ACCOUNTS, PASSWORD, PATIENCE, Server, command, site};
use common::site::{Site, ended};

/// Silent connections of these tests must not run out of time on a busy machine.
const CONF: &str = "[limits]\nunauthenticated_seconds_max = 600\n";

/// The command that runs a server after a shell has set limits of its process.
fn limited(site: &Site, limits: &str) -> Command {
    let run = command(site);
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("{limits} && exec \"$0\" \"$@\"")])
        .arg(run.get_program())
        .args(run.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    shell
}

fn start(limits: &str) -> Server {
    let site = site(CONF);
    let command = limited(&site, limits);
    Server::start_by(site, command)
}

fn pid(server: &Server) -> Pid {
    Pid::from_raw(server.pid().try_into().unwrap()).unwrap()
}

/// Sets the limit on open files of the running server, and gives the one before.
fn set_limit(server: &Server, current: u64, maximum: u64) -> Rlimit {
    let limit = Rlimit {
        current: Some(current),
        maximum: Some(maximum),
    };
    prlimit(Some(pid(server)), Resource::Nofile, limit).unwrap()
}

fn connections_max(server: &Server) -> u64 {
    server.status().connections_max.expect("there is a limit")
}

/// An address of this machine that the tests have not connected from but by this number.
fn elsewhere(number: u64) -> SocketAddr {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    SocketAddr::from(([127, 2, high, low], 0))
}

/// Opens streams until all connections are taken, each from another address.
fn fill(server: &Server) -> Vec<Client> {
    let status = server.status();
    let open = |number| {
        let mut client = Client::connect_from(elsewhere(number), server.c2s);
        client.open("example.org");
        client
    };
    let free = connections_max(server) - status.connections;
    let held = (0..free).map(open).collect();
    assert_eq!(server.status().connections, connections_max(server));
    held
}

/// Connects, and has to be closed without a byte.
fn refused(address: SocketAddr) {
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(socket.read(&mut [0; 64]).unwrap(), 0);
}

/// Waits until the server has at most so many connections.
fn wait_for_connections(server: &Server, at_most: u64) {
    let deadline = Instant::now() + PATIENCE;
    while server.status().connections > at_most {
        assert!(Instant::now() < deadline, "connections are not given back");
    }
}

fn chat(from: &mut Client, to: &mut Client) {
    from.send(format!(
        "<message to='{}' type='chat'><body>hi</body></message>",
        to.jid
    ));
    assert_eq!(to.stanza("message").attribute("from"), Some(&*from.jid));
}

/// CPU that the server's threads of the names that are meant have used, in the kernel's ticks.
fn ticks(server: &Server, is_meant: fn(&str) -> bool) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let of_thread = |thread: fs::DirEntry| {
        // Those that answer a command end by and by.
        let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
        let (front, fields) = stat.rsplit_once(')').unwrap();
        let name = front.split_once('(').unwrap().1;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // utime and stime (proc_pid_stat(5)).
        let used = [fields[11], fields[12]].map(|field| field.parse::<u64>().unwrap());
        is_meant(name).then(|| used.iter().sum::<u64>())
    };
    threads
        .filter_map(|thread| of_thread(thread.unwrap()))
        .sum()
}

/// Has two chat until the shards have worked for it for a while; who accepts must have done next to
/// nothing beside them. One that spins works for the whole time, the shards only when something comes.
fn accepting_costs_nothing(server: &Server, juliet: &mut Client, romeo: &mut Client) {
    const WORK: u64 = 24;
    let serving = || ticks(server, |name| name.starts_with("shard-"));
    let accepting = || ticks(server, |name| name == "listener" || name == "control");
    let before = (serving(), accepting());
    while serving() - before.0 < WORK {
        for _ in 0..50 {
            chat(juliet, romeo);
            chat(romeo, juliet);
        }
    }
    let used = accepting() - before.1;
    assert!(used <= WORK / 4, "{used} ticks of {WORK}");
}

fn pair(server: &Server) -> (Client, Client) {
    (
        Client::available(server, "juliet@example.org/balcony"),
        Client::available(server, "romeo@example.org/orchard"),
    )
}

/// How many lines of the log have this text. The log has a thread of its own: all that was said before a
/// reload is written when the reload's line is.
fn lines(server: &Server, text: &str) -> usize {
    let generation = server.reload().generation;
    server.logs(&format!("reloaded generation={generation}"));
    let log = server.log();
    log.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn the_soft_limit_is_raised_and_what_it_admits_is_told() {
    let server = start("ulimit -n 120 && ulimit -S -n 90");
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let line: Vec<&str> = line.unwrap().split_whitespace().collect();
    assert_eq!(line[3..5], ["120", "120"]);
    let max = connections_max(&server);
    assert!(max > 10 && max < 120 - OPEN_FILES_KEPT, "{max}");
    let told = server.logs("connections are admitted");
    assert!(told.contains(&format!("connections_max={max}")), "{told}");
    assert!(told.contains("open_files=120"), "{told}");
    assert!(server.logs("few connections").contains("LimitNOFILE="));
    let status = server.run(&["status"], "");
    let row = format!("0 of at most {max}\n");
    assert!(status.stdout.contains(&row), "{}", status.stdout);
}

#[test]
fn a_limit_that_does_not_hamper_is_told_without_a_warning() {
    let server = Server::start("");
    server.logs("connections are admitted");
    assert!(connections_max(&server) >= 1000, "these tests need as many");
    assert_eq!(lines(&server, "few connections"), 0);
}

#[test]
fn a_limit_that_admits_nobody_is_told_and_nothing_starts() {
    // What a server has open counts what this process leaves to it.
    let kept = {
        let server = start("ulimit -n 200");
        200 - connections_max(&server)
    };
    let site = site(CONF);
    let ended = ended(&mut limited(&site, &format!("ulimit -n {kept}")), b"");
    assert_eq!(ended.status, 1);
    let limit = format!("only {kept} open files");
    for told in [&*limit, "LimitNOFILE=", "ulimit -Hn"] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    assert!(!site.path("run/control.sock").exists());
}

#[test]
fn sessions_store_and_commands_work_while_all_connections_are_taken() {
    let server = start("ulimit -n 100");
    let (mut juliet, mut romeo) = pair(&server);
    let _held = fill(&server);
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    // The call that told the count may be open still.
    assert!(open.count() as u64 <= 100 - OPEN_FILES_KEPT + 1);
    refused(server.c2s);
    refused(server.c2s_tls);
    accepting_costs_nothing(&server, &mut juliet, &mut romeo);
    // A change of what is stored, and one by a command that also hashes.
    juliet.send(
        "<iq type='set' id='add'><query xmlns='jabber:iq:roster'>\
         <item jid='nurse@example.org'/></query></iq>",
    );
    let answers = juliet.until_settled();
    let is_result = |id: &str| {
        let of = |name| move |stanza: &&stanzad::xml::Element| stanza.attribute(name) == Some(id);
        answers
            .iter()
            .find(of("id"))
            .and_then(|stanza| stanza.attribute("type"))
            == Some("result")
    };
    assert!(is_result("add"), "{answers:?}");
    let added = server.run(&["account", "add", "rosaline@example.org"], PASSWORD);
    assert_eq!(added.status, 0, "{}", added.stderr);
    let listed = server.run(&["account", "list"], "");
    assert!(listed.stdout.contains("rosaline@example.org"));
    let status = server.run(&["status"], "");
    let max = connections_max(&server);
    let row = format!("{max} of at most {max}\n");
    assert!(status.stdout.contains(&row), "{}", status.stdout);
    server.reload();
    assert_eq!(connections_max(&server), max);
    chat(&mut romeo, &mut juliet);
}

#[test]
fn refusals_are_logged_once_and_end_when_connections_close() {
    let server = start("ulimit -n 100");
    let (mut juliet, mut romeo) = pair(&server);
    for round in 1..=2 {
        let held = fill(&server);
        for _ in 0..25 {
            refused(server.c2s);
            refused(server.c2s_tls);
        }
        chat(&mut juliet, &mut romeo);
        assert_eq!(lines(&server, "not all connections are taken"), round - 1);
        drop(held);
        wait_for_connections(&server, 2);
        let mut nurse = Client::login(&server, "nurse@example.org/house");
        chat(&mut nurse, &mut romeo);
        nurse.send("</stream:stream>");
        nurse.closes();
        drop(nurse);
        wait_for_connections(&server, 2);
    }
    assert_eq!(lines(&server, "all connections are taken, further ones"), 2);
    assert_eq!(
        lines(&server, "not all connections are taken any more refused=50"),
        2
    );
}

/// Opens streams from one address until it may have no more.
fn flood(server: &Server, from: SocketAddr) -> Vec<Client> {
    let mut held = Vec::new();
    loop {
        let mut client = Client::connect_from(from, server.c2s);
        // It may be refused before it has said anything.
        let is_sent = client.try_send(header("example.org")).is_ok();
        match client.try_hear() {
            Ok(Heard::Open(_)) if is_sent => held.push(client),
            Ok(Heard::End) | Err(_) => return held,
            other => panic!("{other:?}"),
        }
    }
}

/// RFC 6120 §13.12: who proves nothing gets a part of the places that are free, and nobody who is in is
/// put out for others.
#[test]
fn one_address_does_not_keep_the_others_out() {
    let server = start("ulimit -n 140");
    let (mut juliet, mut romeo) = pair(&server);
    let places = connections_max(&server) - 2;
    let mut floods: Vec<Vec<Client>> = Vec::new();
    for number in 0..10 {
        let free = connections_max(&server) - server.status().connections;
        let flood = flood(&server, elsewhere(number));
        let had = flood.len() as u64;
        assert!(had >= 1 && had <= free / 8 + 1, "{had} of {free}");
        floods.push(flood);
    }
    let taken = server.status().connections - 2;
    assert!(taken < places, "{taken} of {places}");
    assert_eq!(lines(&server, "all connections are taken"), 0);
    let told = server.logs("connections refused, too many from one address");
    assert!(told.contains("limit=\"open files\""), "{told}");
    // Somebody else comes in, from the address of sessions and from a new one.
    let mut nurse = Client::login(&server, "nurse@example.org/house");
    let mut tybalt = Client::connect_from(elsewhere(1000), server.c2s);
    tybalt.open("example.org");
    chat(&mut nurse, &mut romeo);
    chat(&mut romeo, &mut juliet);
    // Who goes leaves room for one more.
    drop(floods.remove(0));
    let free = places - taken;
    wait_for_connections(&server, connections_max(&server) - free);
    Client::connect_from(elsewhere(0), server.c2s).open("example.org");
}

/// Sessions take no part of what their address may have; else an office would be full of them.
#[test]
fn sessions_leave_their_address_its_part() {
    let server = start("ulimit -n 120");
    let max = connections_max(&server);
    let login =
        |number: usize| Client::login(&server, &format!("{}/{number}", ACCOUNTS[number % 3]));
    let count: usize = 9;
    let mut sessions: Vec<Client> = (0..count).map(login).collect();
    assert!(count as u64 > max / 8 + 1, "more than its part: {max}");
    let from = SocketAddr::from(([127, 0, 0, 1], 0));
    let held = flood(&server, from);
    assert!(!held.is_empty());
    for session in &mut sessions {
        session.settle();
    }
    drop(held);
    wait_for_connections(&server, count as u64);
    sessions.push(login(count));
}

/// Who has a place may leave and come again as often as it likes; the count comes out even.
#[test]
fn each_way_for_a_connection_to_end_gives_its_place_back() {
    let server = start("ulimit -n 100");
    let max = connections_max(&server);
    for round in 0..2 * max {
        let mut client = Client::connect(&server);
        match round % 5 {
            0 => drop(client),
            1 => {
                client.send("<no-stream/>");
                while !matches!(client.try_hear(), Ok(Heard::End) | Err(_)) {}
            }
            2 => {
                client.secure("example.org");
            }
            3 => {
                client.open("example.org");
                client.send("</stream:stream>");
                client.closes();
            }
            _ => {
                client.open("example.org");
                client.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
                client.element();
                client.send("no TLS at all");
                while !matches!(client.try_hear(), Ok(Heard::End) | Err(_)) {}
            }
        }
    }
    wait_for_connections(&server, 0);
    let _held = fill(&server);
    refused(server.c2s);
    assert_eq!(lines(&server, "all connections are taken"), 1);
}

#[test]
fn a_reload_takes_up_a_limit_that_was_changed() {
    let server = start("ulimit -n 140");
    let max = connections_max(&server);
    set_limit(&server, 110, 120);
    server.reload();
    assert_eq!(connections_max(&server), max - 20, "the soft one is raised");
    server.logs("open_files=120");
    let _held = fill(&server);
    refused(server.c2s);
}

#[test]
fn without_a_descriptor_the_server_serves_on_and_who_comes_waits() {
    let server = start("ulimit -n 110");
    let (mut juliet, mut romeo) = pair(&server);
    let before = set_limit(&server, 3, 110);
    let mut waiting = [server.c2s, server.c2s, server.c2s_tls].map(Client::connect_to);
    // The thread that waits for calls has a descriptor set aside for one already.
    let max = connections_max(&server);
    accepting_costs_nothing(&server, &mut juliet, &mut romeo);
    let hard = before.maximum.unwrap();
    set_limit(&server, hard, hard);
    for client in &mut waiting[..2] {
        client.open("example.org");
    }
    let [_, _, direct] = &mut waiting;
    direct
        .handshake(common::client::ssl("example.org", |_| ()))
        .unwrap();
    direct.open("example.org");
    chat(&mut romeo, &mut juliet);
    assert!(max <= connections_max(&server));
    server.logs("accepting again");
    assert_eq!(lines(&server, "cannot accept"), 1);
    assert!(lines(&server, "control call not accepted") <= 1);
}

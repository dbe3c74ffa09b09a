//! Every option of the conf file changes what the server does, and a reload does with a change what
//! `stanzad.toml.5` says: it holds, or it waits for a restart and is told of.
//!
//! Each case sets an option to one value and then to another, and looks at the server from outside.
//! [`every_option_is_tested`] holds the cases to the one table of options.

mod common;

#[path = "options/components.rs"]
mod components;
#[path = "options/connections.rs"]
mod connections;
#[path = "options/contact.rs"]
mod contact;
#[path = "options/limits.rs"]
mod limits;
#[path = "options/logins.rs"]
mod logins;
#[path = "options/logs.rs"]
mod logs;
#[path = "options/peers.rs"]
mod peers;
#[path = "options/process.rs"]
mod process;
#[path = "options/servers.rs"]
mod servers;
#[path = "options/tls.rs"]
mod tls;

use std::sync::atomic::{AtomicU32, Ordering};

use stanzad::config::options::{DOMAIN_SECTIONS, OPTIONS, Reload, Spec};

use common::client::Client;
use common::offer::mechanisms;
use common::server::{PASSWORD, Server, site};
use common::site::Site;

/// One option, two values of it, and what is seen of each.
struct Case {
    option: &'static str,
    /// Conf files, laid over that of all tests; they differ in this option alone.
    confs: [&'static str; 2],
    seen: [&'static str; 2],
    look: fn(&Server) -> String,
    prepare: fn(&Site),
}

/// Makes a test of each case, and a list of the options that they cover.
macro_rules! cases {
    ($($test:ident: $option:literal, $confs:expr, $seen:expr, $look:expr $(, $prepare:expr)?;)*) => {
        pub const TESTED: &[&str] = &[$($option),*];
        $(
            #[test]
            fn $test() {
                #[allow(unused_mut, unused_assignments)]
                let mut prepare: fn(&super::Site) = |_| ();
                $(prepare = $prepare;)?
                super::check(&super::Case {
                    option: $option,
                    confs: $confs,
                    seen: $seen,
                    look: $look,
                    prepare,
                });
            }
        )*
    };
}
use cases;

#[test]
fn every_option_is_tested() {
    let tested = [
        process::TESTED,
        process::TESTED_APART,
        components::TESTED,
        connections::TESTED,
        servers::TESTED,
        peers::TESTED,
        tls::TESTED,
        logins::TESTED,
        contact::TESTED,
        limits::TESTED,
        logs::TESTED,
    ]
    .concat();
    for spec in OPTIONS {
        let name = spec.name();
        let count = tested.iter().filter(|tested| **tested == name).count();
        assert_eq!(count, 1, "{name} has to have one test here");
    }
    assert_eq!(tested.len(), OPTIONS.len(), "a test of no option");
}

fn spec(option: &str) -> &'static Spec {
    let found = OPTIONS.iter().find(|spec| spec.name() == option);
    found.unwrap_or_else(|| panic!("there is no option {option}"))
}

fn check(case: &Case) {
    let spec = spec(case.option);
    let directory = site(case.confs[0]);
    (case.prepare)(&directory);
    let mut server = Server::start_in(directory);
    let look = case.look;
    assert_eq!(look(&server), case.seen[0], "at first");

    let witness = witness(&server, case.option);
    server.configure(case.confs[1]);
    let waiting = reload(&server, spec);
    match spec.reload {
        Reload::Restart(_) => {
            assert_eq!(waiting, [case.option]);
            assert_eq!(look(&server), case.seen[0], "before the restart");
            server.hang_up();
            server.logs("only after a restart");
            assert_eq!(look(&server), case.seen[0], "before the restart");
            if let Some(mut witness) = witness {
                witness.settle();
            }
            server.stop();
            server.start_again();
            assert_eq!(look(&server), case.seen[1], "after the restart");
        }
        Reload::Now | Reload::NewConnections => {
            assert!(waiting.is_empty(), "{waiting:?}");
            assert_eq!(look(&server), case.seen[1], "after the reload");
            if DOMAIN_SECTIONS.contains(&spec.section) {
                server.configure(&of_domain(case, spec.section));
                server.reload();
                assert_eq!(look(&server), case.seen[1], "in the domain alone");
            }
            server.configure(case.confs[0]);
            server.hang_up();
            assert_eq!(look(&server), case.seen[0], "after SIGHUP");
            if let Some(mut witness) = witness {
                witness.settle();
            }
        }
    }
}

/// Reloads by `stanzad reload`, and gives what has to wait.
fn reload(server: &Server, spec: &Spec) -> Vec<String> {
    if spec.section == "server" {
        // The command finds the server by the same file, which is about another one now.
        return server.reload().needs_restart;
    }
    let ended = server.run(&["reload"], "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    server.wait_until_ready();
    let lines = ended.stderr.lines();
    lines
        .filter_map(|line| {
            let (before, _) = line.split_once(" has changed, but takes effect only")?;
            Some(before.rsplit(' ').next().unwrap().to_owned())
        })
        .collect()
}

/// A session from before the reload, which has to outlive it. None where the options under test end
/// it for its silence, or leave it no way in.
fn witness(server: &Server, option: &str) -> Option<Client> {
    if ["c2s.idle_seconds", "c2s.ping_timeout_seconds"].contains(&option)
        || option == "limits.unauthenticated_seconds_max"
    {
        return None;
    }
    let mut client = Client::connect(server);
    let offered = mechanisms(&client.secure("example.org"));
    if !offered.contains(&"SCRAM-SHA-256".to_owned()) {
        return None;
    }
    client.scram("SCRAM-SHA-256", "nurse", PASSWORD).unwrap();
    client.open("example.org");
    client.bind(Some("witness"));
    Some(client)
}

/// The first conf file, with the section of the second in the domain that is looked at.
fn of_domain(case: &Case, section: &str) -> String {
    let mut whole: toml::Table = case.confs[0].parse().unwrap();
    let mut other: toml::Table = case.confs[1].parse().unwrap();
    let of_section = other.remove(section).unwrap();
    let table = |value: &mut toml::Table, key: &str| {
        let empty = || toml::Value::Table(toml::Table::new());
        let entry = value.entry(key).or_insert_with(empty);
        entry.as_table().unwrap().clone()
    };
    let mut domains = table(&mut whole, "domain");
    let mut domain = table(&mut domains, "example.org");
    domain.insert(section.to_owned(), of_section);
    domains.insert("example.org".to_owned(), toml::Value::Table(domain));
    whole.insert("domain".to_owned(), toml::Value::Table(domains));
    whole.to_string()
}

/// A number that no other look has.
fn fresh() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A client behind TLS on example.org, from an address that nobody has come from before.
fn stranger(server: &Server) -> Client {
    let n = fresh();
    let octets = [127, 1, (n / 200) as u8, (n % 200) as u8 + 1];
    let mut client = Client::connect_from((octets, 0).into(), server.c2s);
    client.secure("example.org");
    client
}

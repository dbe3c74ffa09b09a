//! Accounts whose credentials differ from what their domain asks for now, and names that no account
//! has: what a login shows must not tell one from the other (issue 3, RFC 6120 §13.11).

use std::collections::{BTreeMap, BTreeSet};

use super::common::client::{Client, failure_of};
use super::common::scram::{Channel, Scram};
use super::common::server::{PASSWORD, Server, add_offline};

/// Asking must not be slowed down: the test asks as often as an attacker would over weeks.
const LIMITS: &str = "[limits]\nlogin_failures_per_stream_max = 6\n\
                      login_failures_per_address_max = 100000\n\
                      login_failures_per_account_max = 10000\n";

/// So many that chance does not fail the test once in a million runs.
const NAMES: u32 = 150;

fn conf(iterations: u32) -> String {
    format!("{LIMITS}[auth]\niterations = {iterations}\n")
}

/// What one stream may ask before it ends.
const NAMES_PER_STREAM: usize = 5;

/// Salt and count that each name is challenged with.
fn challenges(server: &Server, names: &[String]) -> BTreeMap<String, (String, u32)> {
    let mut all = BTreeMap::new();
    for some in names.chunks(NAMES_PER_STREAM) {
        let mut client = Client::secured(server);
        for name in some {
            all.insert(name.clone(), challenge(&mut client, name));
        }
    }
    all
}

fn challenge(client: &mut Client, name: &str) -> (String, u32) {
    let scram = Scram::new("SCRAM-SHA-256", name, "wrong", None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let challenge = client.challenge().unwrap();
    client.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    assert_eq!(failure_of(client.outcome().map(drop)), "aborted");
    let field = |name| {
        let found = challenge.split(',').find_map(|f| f.strip_prefix(name));
        found.unwrap().to_owned()
    };
    (field("s="), field("i=").parse().unwrap())
}

fn nobodies() -> Vec<String> {
    (0..NAMES).map(|number| format!("nobody{number}")).collect()
}

fn counts(challenges: &BTreeMap<String, (String, u32)>) -> BTreeSet<u32> {
    challenges.values().map(|(_, count)| *count).collect()
}

#[test]
fn an_old_count_does_not_tell_that_the_account_exists() {
    let server = Server::start(&conf(4096));
    // The harness has made five accounts with the old count; five get the new one.
    const OLD: [&str; 5] = ["juliet", "romeo", "mercutio", "tybalt", "nurse"];
    const NEW: [&str; 5] = ["benvolio", "balthasar", "sampson", "gregory", "laurence"];
    server.configure(&conf(5000));
    server.reload();
    for name in NEW {
        server.add(&format!("{name}@example.org"), PASSWORD);
    }
    let accounts: Vec<String> = OLD.into_iter().chain(NEW).map(str::to_owned).collect();
    let own = challenges(&server, &accounts);
    assert!(OLD.iter().all(|name| own[*name].1 == 4096));
    assert!(NEW.iter().all(|name| own[*name].1 == 5000));

    let names = nobodies();
    let first = challenges(&server, &names);
    assert_eq!(counts(&first), BTreeSet::from([4096, 5000]));
    let share = first.values().filter(|(_, count)| *count == 4096).count();
    assert!((40..110).contains(&share), "about half of {NAMES}: {share}");
    for _ in 0..2 {
        assert_eq!(challenges(&server, &names), first, "the same each time");
    }

    // Juliet's upgrade changes names as it changes her, and nobody else's account.
    let mut client = Client::secured(&server);
    client.plain("juliet", PASSWORD).unwrap();
    server.logs("credentials upgraded jid=juliet@example.org");
    let after = challenges(&server, &names);
    let mut changed = 0;
    for (name, before) in &first {
        if after[name] != *before {
            assert_eq!((before.1, after[name].1), (4096, 5000));
            assert_eq!(before.0, after[name].0, "the salt stays");
            changed += 1;
        }
    }
    assert!(
        (1..40).contains(&changed),
        "about a tenth of {NAMES}: {changed}"
    );
    let disabled = server.run(&["account", "disable", "romeo@example.org"], "");
    assert_eq!(disabled.status, 0);
    let own_after = challenges(&server, &accounts);
    assert_eq!(own_after["juliet"].1, 5000);
    assert_eq!(own_after["romeo"], own["romeo"], "disabled, and alike");
    for name in accounts.iter().filter(|name| *name != "juliet") {
        assert_eq!(own_after[name], own[name]);
    }
}

/// A watcher who asks for one name again and again learns nothing when its account comes and goes.
#[test]
fn an_account_that_is_made_changed_and_deleted_shows_the_same_all_the_time() {
    let mut server = Server::start(&conf(4096));
    let names = [String::from("benvolio"), String::from("nobody")];
    let before = challenges(&server, &names);
    let address = "benvolio@example.org";
    server.add(address, "queen mab");
    assert_eq!(challenges(&server, &names), before);
    let changed = server.run(&["account", "passwd", address], "queen Mab");
    assert_eq!(changed.status, 0, "{}", changed.stderr);
    assert_eq!(challenges(&server, &names), before);
    let mut client = Client::secured(&server);
    client
        .scram("SCRAM-SHA-256", "benvolio", "queen Mab")
        .unwrap();
    let deleted = server.run(&["account", "delete", address], "");
    assert_eq!(deleted.status, 0, "{}", deleted.stderr);
    assert_eq!(challenges(&server, &names), before);
    // Nor by a command that works on the stopped server.
    server.stop();
    add_offline(&server.site, &[address]);
    server.start_again();
    assert_eq!(challenges(&server, &names), before);
}

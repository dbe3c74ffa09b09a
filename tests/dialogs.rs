//! Dialogs as scripts, mostly the examples of RFC 6121 and of XEPs, each played by raw clients
//! against the real server. `tests/dialogs/README.md` tells how a script is written.

mod common;

#[path = "dialogs/patterns.rs"]
mod patterns;
#[path = "dialogs/play.rs"]
mod play;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::authority::Wish;
use common::roster;
use common::server::{Server, add_offline, site};
use play::Script;

/// How many scripts are played at once: clients wait most of the time.
const AT_ONCE: usize = 4;

/// The domain of RFC 6121's juliet, beside those that every test's server has.
const CONF: &str = "[domain.\"example.com\"]\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs")
}

/// Plays all scripts of a folder on one server, and tells of each that fails.
fn play(area: &str) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder().join(area))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let read = |(number, path): (usize, &PathBuf)| Script::read(path, number);
    let scripts: Vec<_> = paths.iter().enumerate().map(read).collect();
    let mut failures: Vec<String> = Vec::new();
    let mut playable = Vec::new();
    for script in scripts {
        match script {
            Ok(script) => playable.push(script),
            Err(why) => failures.push(why),
        }
    }
    let server = server_for(&playable);
    let next = Mutex::new(playable.iter());
    let failed = Mutex::new(failures);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let script = next.lock().unwrap().next();
                    let Some(script) = script else { return };
                    if let Err(why) = script.play(&server) {
                        failed.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let mut failures = failed.into_inner().unwrap();
    failures.sort();
    let count = playable.len();
    assert!(
        failures.is_empty(),
        "of {count} scripts:\n{}",
        failures.join("\n")
    );
}

/// A server with the accounts and the rosters of the scripts.
fn server_for(scripts: &[Script]) -> Server {
    let site = site(CONF);
    let issued = Wish {
        dns: &["example.com"],
        ..Wish::default()
    };
    let certs = site.path("certs");
    issued.self_signed().write(
        &certs.join("example.com.crt"),
        &certs.join("example.com.key"),
    );
    let accounts: Vec<&str> = scripts.iter().flat_map(Script::accounts).collect();
    add_offline(&site, &accounts);
    roster::sow(&site, scripts.iter().flat_map(|script| &script.seeds));
    Server::start_in(site)
}

/// RFC 6121 §2.
#[test]
fn rosters_are_managed_as_the_examples_show() {
    play("roster");
}

/// RFC 6121 §3.
#[test]
fn subscriptions_are_managed_as_the_examples_show() {
    play("subscription");
}

/// RFC 6121 §4.
#[test]
fn presence_is_exchanged_as_the_examples_show() {
    play("presence");
}

/// RFC 6121 §5 and §8, XEP-0160, XEP-0203.
#[test]
fn messages_are_exchanged_as_the_examples_show() {
    play("message");
}

/// XEP-0012, XEP-0030, XEP-0049, XEP-0054, XEP-0202.
#[test]
fn extensions_answer_as_their_examples_show() {
    play("extension");
}

#[test]
fn every_script_is_played() {
    let played = ["roster", "subscription", "presence", "message", "extension"];
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_script = path.extension().is_some_and(|extension| extension == "xml");
        assert!(!is_script, "{name} lies in no folder that is played");
        assert!(
            !path.is_dir() || played.contains(&&*name),
            "{name} is not played"
        );
    }
}

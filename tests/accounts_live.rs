//! Account commands act at once on the running server, and what was acknowledged is there after a
//! crash (`Commit first` in lib.rs).

mod common;

use stanzad::server::control::{Password, Reply, Request};

use common::client::{Client, failure_of};
use common::scram::{Channel, Scram};
use common::server::{PASSWORD, Server, site};

const JULIET: &str = "juliet@example.org";
const NEW: &str = "a new passw0rd";

/// Runs `stanzad account VERB JID` beside the running server; it has to succeed.
fn account(server: &Server, verb: &str, jid: &str, password: &str) -> String {
    let input = match password {
        "" => String::new(),
        password => format!("{password}\n"),
    };
    let ended = server.run(&["account", verb, jid], &input);
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    ended.stderr
}

fn can_log_in(server: &Server, jid: &str, password: &str) -> Result<(), String> {
    let (user, domain) = jid.split_once('@').unwrap();
    let mut client = Client::connect(server);
    client.secure(domain);
    match client.scram("SCRAM-SHA-256", user, password) {
        Ok(()) => {
            client.open(domain);
            client.bind(None);
            client.settle();
            Ok(())
        }
        failed => Err(failure_of(failed)),
    }
}

/// The condition and the text of the stream error that ends a stream, which then closes.
fn ended_by(client: &mut Client) -> (String, String) {
    let error = client.element();
    assert!(error.is(stanzad::ns::STREAM, "error"), "{error:?}");
    let condition = error.elements().next().unwrap().name.clone();
    let text = error
        .find(stanzad::ns::STREAM_ERROR, "text")
        .unwrap()
        .text();
    client.closes();
    (condition, text)
}

/// Two sessions of juliet, and one of romeo that nothing may happen to.
fn sessions(server: &Server) -> ([Client; 2], Client) {
    let balcony = Client::login(server, "juliet@example.org/balcony");
    let chamber = Client::login(server, "juliet@example.org/chamber");
    let romeo = Client::login(server, "romeo@example.org/orchard");
    ([balcony, chamber], romeo)
}

#[test]
fn an_account_made_on_a_running_server_logs_in_at_once() {
    let server = Server::start("");
    let jid = "rosaline@example.org";
    assert_eq!(can_log_in(&server, jid, NEW), Err("not-authorized".into()));
    let said = account(&server, "add", jid, NEW);
    assert!(said.contains(jid), "{said}");
    assert_eq!(can_log_in(&server, jid, NEW), Ok(()));
    let again = server.run(&["account", "add", jid], "0ther passw0rd\n");
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
    assert_eq!(can_log_in(&server, jid, NEW), Ok(()));
}

/// RFC 6120 §4.9.3.16: the security context of the streams has changed.
#[test]
fn a_new_password_ends_the_sessions_and_is_the_only_one_that_works() {
    let server = Server::start("");
    let (mine, mut romeo) = sessions(&server);
    account(&server, "passwd", JULIET, NEW);
    for mut client in mine {
        let (condition, text) = ended_by(&mut client);
        assert_eq!(condition, "reset");
        assert!(text.contains("password"), "{text}");
    }
    romeo.settle();
    assert_eq!(can_log_in(&server, JULIET, NEW), Ok(()));
    let old = can_log_in(&server, JULIET, PASSWORD);
    assert_eq!(old, Err("not-authorized".into()));
}

#[test]
fn a_disabled_account_is_out_until_it_is_enabled() {
    let server = Server::start("");
    let (mine, mut romeo) = sessions(&server);
    account(&server, "disable", JULIET, "");
    for mut client in mine {
        let (condition, text) = ended_by(&mut client);
        assert_eq!(condition, "not-authorized");
        assert!(text.contains("disabled"), "{text}");
    }
    romeo.settle();
    let refused = Err("account-disabled".to_owned());
    assert_eq!(can_log_in(&server, JULIET, PASSWORD), refused);
    // Whoever guesses is not told.
    let wrong = can_log_in(&server, JULIET, "wrong");
    assert_eq!(wrong, Err("not-authorized".into()));
    account(&server, "enable", JULIET, "");
    assert_eq!(can_log_in(&server, JULIET, PASSWORD), Ok(()));
}

/// `After a panic` in lib.rs: whoever has crashed the server twice would do it again and again.
#[test]
fn an_account_that_has_crashed_the_server_twice_is_out_until_it_is_enabled() {
    let site = site("");
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let notes = site.path("data/stanzad.panics");
    let lines = [
        format!("{} {JULIET}", now - 500),
        format!("{} romeo@example.org", now - 500),
        format!("{} tybalt@elsewhere.example", now - 9),
        format!("{} tybalt@elsewhere.example", now - 8),
        format!("{} {JULIET}\n", now - 5),
    ];
    std::fs::write(&notes, lines.join("\n")).unwrap();
    let mut server = Server::start_in(site);
    assert!(server.logs("account disabled").contains(JULIET));
    assert!(server.logs("s2s.deny").contains("tybalt@elsewhere.example"));
    let refused = Err("account-disabled".to_owned());
    assert_eq!(can_log_in(&server, JULIET, PASSWORD), refused);
    assert_eq!(can_log_in(&server, "romeo@example.org", PASSWORD), Ok(()));
    account(&server, "enable", JULIET, "");
    server.kill();
    server.start_again();
    // A kill is no crash of the account's doing, and the two that were are dealt with.
    assert_eq!(can_log_in(&server, JULIET, PASSWORD), Ok(()));
    let rest = std::fs::read_to_string(&notes).unwrap();
    assert_eq!(rest, format!("{} romeo@example.org\n", now - 500));
}

#[test]
fn a_deleted_account_is_gone_and_can_be_made_again() {
    let server = Server::start("");
    let (mine, mut romeo) = sessions(&server);
    account(&server, "delete", JULIET, "");
    for mut client in mine {
        let (condition, text) = ended_by(&mut client);
        assert_eq!(condition, "not-authorized");
        assert!(text.contains("deleted"), "{text}");
    }
    romeo.settle();
    let gone = can_log_in(&server, JULIET, PASSWORD);
    assert_eq!(gone, Err("not-authorized".into()));
    account(&server, "add", JULIET, NEW);
    assert_eq!(can_log_in(&server, JULIET, NEW), Ok(()));
    let old = can_log_in(&server, JULIET, PASSWORD);
    assert_eq!(old, Err("not-authorized".into()));
}

/// The sessions of an account that were ended are counted in the reply, and are in no list.
#[test]
fn the_reply_counts_the_sessions_that_it_ended() {
    let server = Server::start("");
    let (mine, _romeo) = sessions(&server);
    assert_eq!(server.sessions(Some(JULIET)).len(), 2);
    let jid = JULIET.to_owned();
    let Reply::Account(change) = server.ask(&Request::AccountDisable { jid }) else {
        panic!("another reply");
    };
    assert_eq!(change.jid, JULIET);
    assert_eq!(change.sessions_ended, 2);
    assert!(server.sessions(Some(JULIET)).is_empty());
    drop(mine);
}

/// How far a login has got when the command comes.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Challenged,
    Authenticated,
    Opened,
}

const STAGES: [Stage; 3] = [Stage::Challenged, Stage::Authenticated, Stage::Opened];

/// Brings a login to a stage, has the command done, and goes on. The login's outcome.
fn interrupted(server: &Server, stage: Stage, command: impl FnOnce()) -> Result<(), String> {
    let mut client = Client::connect(server);
    client.secure("example.org");
    let scram = Scram::new("SCRAM-SHA-256", "juliet", PASSWORD, None, Channel::Unable);
    client.auth("SCRAM-SHA-256", scram.first().as_bytes());
    let proof = scram.proof(&client.challenge().unwrap());
    if matches!(stage, Stage::Challenged) {
        command();
        client.respond(proof.message.as_bytes());
        return match client.outcome() {
            Ok(_) => Ok(()),
            failed => Err(failure_of(failed.map(drop))),
        };
    }
    client.respond(proof.message.as_bytes());
    client.outcome().unwrap();
    if matches!(stage, Stage::Authenticated) {
        command();
        client.open("example.org");
    } else {
        client.open("example.org");
        command();
    }
    let answer = client.try_bind(Some("balcony"));
    match answer.attribute("type") {
        Some("result") => Ok(()),
        _ => Err(common::client::error_of(&answer)),
    }
}

fn fails_in_flight(verb: &str, password: &str) {
    let server = Server::start("");
    for stage in STAGES {
        let outcome = interrupted(&server, stage, || {
            account(&server, verb, JULIET, password);
        });
        let refusal = outcome.expect_err(&format!("{verb} {stage:?}"));
        let expected = match (stage, verb) {
            (Stage::Challenged, "disable") => "account-disabled",
            (Stage::Challenged, _) => "not-authorized",
            // RFC 6120 §7.6.2.2.
            _ => "not-allowed",
        };
        assert_eq!(refusal, expected, "{verb} {stage:?}");
        assert!(server.sessions(Some(JULIET)).is_empty());
        match verb {
            "disable" => drop(account(&server, "enable", JULIET, "")),
            "delete" => drop(account(&server, "add", JULIET, PASSWORD)),
            _ => drop(account(&server, "passwd", JULIET, PASSWORD)),
        }
    }
}

#[test]
fn a_new_password_fails_logins_in_flight() {
    fails_in_flight("passwd", NEW);
}

#[test]
fn disabling_fails_logins_in_flight() {
    fails_in_flight("disable", "");
}

#[test]
fn deleting_fails_logins_in_flight() {
    fails_in_flight("delete", "");
}

/// While a worker compares a password the account changes. Whichever comes first, nobody is in
/// afterwards who has shown the old one.
#[test]
fn a_login_whose_password_is_being_compared_comes_to_nothing() {
    let conf = "[domain.\"example.net\".auth]\nstorage = \"bcrypt\"\nbcrypt_cost = 10\n";
    let server = Server::start(conf);
    let jid = "paris@example.net";
    for verb in ["passwd", "disable", "delete"] {
        let mut client = Client::connect(&server);
        client.secure("example.net");
        client.auth("PLAIN", format!("\0paris\0{PASSWORD}").as_bytes());
        let password = if verb == "passwd" { NEW } else { "" };
        account(&server, verb, jid, password);
        if client.outcome().is_ok() {
            client.open("example.net");
            let answer = client.try_bind(Some("church"));
            assert_eq!(common::client::error_of(&answer), "not-allowed", "{verb}");
        }
        assert!(server.sessions(Some(jid)).is_empty(), "{verb}");
        match verb {
            "disable" => account(&server, "enable", jid, ""),
            "passwd" => account(&server, "passwd", jid, PASSWORD),
            _ => account(&server, "add", jid, PASSWORD),
        };
    }
}

/// What was proven of an account is worth nothing for another of the same name.
#[test]
fn a_login_in_flight_does_not_come_into_an_account_made_anew() {
    let server = Server::start("");
    for stage in STAGES {
        let outcome = interrupted(&server, stage, || {
            account(&server, "delete", JULIET, "");
            account(&server, "add", JULIET, NEW);
        });
        outcome.expect_err(&format!("{stage:?}"));
        account(&server, "passwd", JULIET, PASSWORD);
    }
}

/// Off and on again: who was on the way in has to prove anew that it may come.
#[test]
fn a_login_in_flight_does_not_survive_being_disabled_for_a_moment() {
    let server = Server::start("");
    for stage in STAGES {
        let outcome = interrupted(&server, stage, || {
            account(&server, "disable", JULIET, "");
            account(&server, "enable", JULIET, "");
        });
        outcome.expect_err(&format!("{stage:?}"));
    }
}

/// `Commit first` in lib.rs: what was acknowledged survives `kill -9`.
#[test]
fn an_account_and_a_password_that_were_acknowledged_survive_kill_9() {
    for durability in ["full", "normal"] {
        let conf = format!("[store]\ndurability = \"{durability}\"\n");
        let mut server = Server::start(&conf);
        let names: Vec<String> = (0..8).map(|n| format!("guest{n}@example.org")).collect();
        for jid in &names {
            server.add(jid, NEW);
        }
        let set = Request::AccountPasswd {
            jid: JULIET.to_owned(),
            password: Password::new(NEW.to_owned()),
        };
        server.ask(&set);
        server.kill();
        server.start_again();
        for jid in &names {
            assert_eq!(can_log_in(&server, jid, NEW), Ok(()), "{durability} {jid}");
        }
        assert_eq!(can_log_in(&server, JULIET, NEW), Ok(()), "{durability}");
        let old = can_log_in(&server, JULIET, PASSWORD);
        assert_eq!(old, Err("not-authorized".into()), "{durability}");
        // Once more, for a command of its own and the last of several.
        account(&server, "delete", &names[0], "");
        account(&server, "disable", &names[1], "");
        server.kill();
        server.start_again();
        let gone = can_log_in(&server, &names[0], NEW);
        assert_eq!(gone, Err("not-authorized".into()), "{durability}");
        let out = can_log_in(&server, &names[1], NEW);
        assert_eq!(out, Err("account-disabled".into()), "{durability}");
    }
}

fn json(server: &Server, words: &[&str]) -> serde_json::Value {
    let ended = server.run(words, "");
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn the_list_of_accounts_follows_the_commands() {
    let server = Server::start("");
    account(&server, "disable", JULIET, "");
    account(&server, "delete", "tybalt@example.org", "");
    account(&server, "add", "rosaline@example.net", NEW);
    let names = |words: &[&str]| -> Vec<String> {
        let list = json(&server, words);
        let accounts = list.as_array().unwrap().iter();
        accounts
            .map(|account| {
                let jid = account["jid"].as_str().unwrap();
                match account["enabled"].as_bool().unwrap() {
                    true => jid.to_owned(),
                    false => format!("{jid} disabled"),
                }
            })
            .collect()
    };
    assert_eq!(
        names(&["account", "list", "--json"]),
        [
            "juliet@example.org disabled",
            "mercutio@example.org",
            "nurse@example.org",
            "paris@example.net",
            "romeo@example.org",
            "rosaline@example.net",
        ]
    );
    assert_eq!(
        names(&["account", "list", "--json", "example.net"]),
        ["paris@example.net", "rosaline@example.net"]
    );
}

#[test]
fn the_list_of_accounts_tells_when_one_was_last_there() {
    let server = Server::start("");
    let seen = || {
        let list = json(&server, &["account", "list", "--json", "example.net"]);
        list[0]["last_seen"].as_str().map(str::to_owned)
    };
    assert_eq!(seen(), None);
    let mut client = Client::login(&server, "paris@example.net");
    client.send("</stream:stream>");
    client.closes();
    // The row is written behind the session's end; a command's change comes after it.
    account(&server, "enable", "paris@example.net", "");
    let stamp = seen().expect("it has a last session");
    assert!(stamp.ends_with('Z') && stamp.starts_with("20"), "{stamp}");
}

#[test]
fn the_list_of_sessions_tells_of_each_what_an_operator_asks() {
    let server = Server::start("");
    let (_mine, mut romeo) = sessions(&server);
    romeo.send("<presence><priority>7</priority></presence>");
    romeo.until_settled();
    let list = json(&server, &["sessions", "--json"]);
    assert_eq!(list["left_out"], 0);
    let sessions = list["sessions"].as_array().unwrap();
    let jids: Vec<_> = sessions
        .iter()
        .map(|s| s["jid"].as_str().unwrap())
        .collect();
    assert_eq!(
        jids,
        [
            "juliet@example.org/balcony",
            "juliet@example.org/chamber",
            "romeo@example.org/orchard"
        ]
    );
    let of_romeo = &sessions[2];
    assert_eq!(of_romeo["available"], true);
    assert_eq!(of_romeo["priority"], 7);
    assert_eq!(of_romeo["tls_version"], "TLSv1.3");
    assert_eq!(of_romeo["mechanism"], "SCRAM-SHA-256");
    let address = romeo.tcp().local_addr().unwrap().to_string();
    assert_eq!(of_romeo["address"], address);
    assert_eq!(sessions[0]["available"], false);
    // Of one account, of one session, of one domain.
    let count = |words: &[&str]| {
        let list = json(&server, words);
        list["sessions"].as_array().unwrap().len()
    };
    assert_eq!(count(&["sessions", "--json", JULIET]), 2);
    assert_eq!(
        count(&["sessions", "--json", "juliet@example.org/balcony"]),
        1
    );
    assert_eq!(count(&["sessions", "--json", "--domain", "example.net"]), 0);
    let words = server.run(&["sessions"], "");
    assert!(words.stdout.contains("priority 7"), "{}", words.stdout);
}

/// As with `sessions end` and `account list`: an empty list would say that nobody is there.
#[test]
fn sessions_are_found_however_they_are_written_and_slips_are_told() {
    let server = Server::start("");
    let (_mine, _romeo) = sessions(&server);
    for (words, count) in [
        (&["sessions", "--json", "Juliet@EXAMPLE.org"][..], 2),
        (&["sessions", "--json", "JULIET@example.org/balcony"], 1),
        (&["sessions", "--json", "juliet@example.org/Balcony"], 0),
        (&["sessions", "--json", "--domain", "EXAMPLE.org"], 3),
    ] {
        let list = json(&server, words);
        assert_eq!(
            list["sessions"].as_array().unwrap().len(),
            count,
            "{words:?}"
        );
    }
    for (words, told) in [
        (&["sessions", "@"][..], "names no session"),
        (&["sessions", "example.org"], "names no session"),
        (&["sessions", "end", "example.org"], "names no session"),
        (&["sessions", "--domain", "@"], "names no domain"),
        (
            &["sessions", "--domain", "example.com"],
            "is not served here",
        ),
    ] {
        let refused = server.run(words, "");
        assert_eq!(refused.status, 1, "{words:?}");
        assert!(
            refused.stderr.contains(told),
            "{words:?}: {}",
            refused.stderr
        );
    }
}

#[test]
fn status_counts_what_there_is() {
    let server = Server::start("");
    let (mine, _romeo) = sessions(&server);
    let _connected = Client::connect(&server);
    let status = json(&server, &["status", "--json"]);
    assert_eq!(status["pid"], server.pid());
    assert_eq!(status["generation"], 1);
    assert_eq!(status["sessions"], 3);
    assert_eq!(status["domains"][0], "example.net");
    assert_eq!(status["shards"].as_array().unwrap().len(), 2);
    assert_eq!(status["gates_shut"], 0);
    assert!(status["store_bytes"].as_u64().unwrap() > 0);
    assert!(status["openssl"].as_str().unwrap().contains("OpenSSL"));
    for mut client in mine {
        client.send("</stream:stream>");
        client.closes();
    }
    let status = json(&server, &["status", "--json"]);
    assert_eq!(status["sessions"], 1);
}

#[test]
fn stop_returns_when_the_process_has_ended_and_its_streams_with_it() {
    let mut server = Server::start("");
    let ([mut balcony, _chamber], _romeo) = sessions(&server);
    std::thread::scope(|scope| {
        let stopped = scope.spawn(|| server.site.run(&["stop"], b""));
        balcony.fails("system-shutdown");
        drop(balcony);
        drop((_chamber, _romeo));
        let ended = stopped.join().unwrap();
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        assert!(ended.stderr.contains("has ended"), "{}", ended.stderr);
    });
    assert_eq!(server.wait().code(), Some(0));
    let after = server.run(&["status"], "");
    assert_eq!(after.status, 1);
    assert!(!server.control().exists(), "the control socket is left");
}

/// Its accounts can be changed while no server runs, and the next one knows.
#[test]
fn a_password_set_while_no_server_runs_holds_at_the_next_start() {
    let mut server = Server::start("");
    server.stop();
    account(&server, "passwd", JULIET, NEW);
    server.start_again();
    assert_eq!(can_log_in(&server, JULIET, NEW), Ok(()));
    let old = can_log_in(&server, JULIET, PASSWORD);
    assert_eq!(old, Err("not-authorized".into()));
}

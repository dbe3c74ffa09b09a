//! The commands of the real program where no server runs, or a stand-in answers its control socket:
//! words, exit statuses, what is written.

#[path = "common/site.rs"]
mod site;

use std::fs;
use std::process::Command;
use std::sync::{Arc, Mutex};

use site::{Site, bare, ended};
use stanzad::config::Durability;
use stanzad::server::control::{
    AccountChange, Backend, ControlSocket, ReloadInfo, Reply, Request, SessionInfo, StatusInfo,
    serve,
};
use stanzad::storage::WriterCore;

#[test]
fn help_and_version_are_no_failure() {
    let help = bare(&["--help"]);
    assert_eq!(help.status, 0);
    for command in [
        "run", "demo", "check", "account", "status", "sessions", "reload", "stop",
    ] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{command}: {}",
            help.stdout
        );
    }
    let version = bare(&["--version"]);
    assert_eq!(
        (version.status, version.stdout.as_str()),
        (0, "stanzad 0.1.0\n")
    );
}

#[test]
fn wrong_use_exits_with_2() {
    for words in [
        &[][..],
        &["serve"],
        &["check", "everything"],
        &["account"],
        &["account", "add"],
        &["account", "add", "juliet@example.org", "r0m30myr0m30"],
        &["status", "--yaml"],
        &["sessions", "juliet@example.org", "--domain", "example.org"],
        &["demo", "--config", "x.toml"],
    ] {
        let ended = bare(words);
        assert_eq!(ended.status, 2, "{words:?}");
        assert_eq!(ended.stdout, "", "{words:?}");
    }
}

#[test]
fn a_misspelt_command_gets_a_suggestion() {
    assert!(bare(&["relaod"]).stderr.contains("reload"));
}

#[test]
fn a_good_configuration_is_called_good() {
    let site = Site::new();
    site.certify();
    assert!(
        site.ok(&["check", "config"], "")
            .ends_with("stanzad.toml: good\n")
    );
    let json: serde_json::Value =
        serde_json::from_str(&site.ok(&["check", "config", "--json"], "")).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["problems"], serde_json::json!([]));
}

#[test]
fn every_problem_of_a_configuration_is_told_with_its_place() {
    let site = Site::new();
    fs::write(
        site.path("stanzad.toml"),
        "[server]\nshard = 2\n[c2s]\nidle_seconds = \"long\"\n[domain.\"exa mple.org\"]\n",
    )
    .unwrap();
    let ended = site.run(&["check", "config"], b"");
    assert_eq!(ended.status, 1);
    for place in ["stanzad.toml:2:", "stanzad.toml:4:", "stanzad.toml:5:"] {
        assert!(ended.stdout.contains(place), "{place}: {}", ended.stdout);
    }
    assert!(
        ended.stdout.contains("shards"),
        "did you mean: {}",
        ended.stdout
    );
    let ended = site.run(&["check", "config", "--json"], b"");
    assert_eq!(ended.status, 1);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let lines: Vec<_> = json["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["line"].as_u64().unwrap())
        .collect();
    assert_eq!(lines, [2, 4, 5]);
}

#[test]
fn a_domain_without_its_certificate_fails_the_check() {
    let site = Site::new();
    site.certify();
    fs::remove_file(site.path("certs").join("example.net.key")).unwrap();
    let ended = site.run(&["check", "config"], b"");
    assert_eq!(ended.status, 1);
    assert!(ended.stdout.contains("example.net"), "{}", ended.stdout);
}

/// Issue 3: with an ECDSA certificate alone, DHE-RSA cannot be used.
#[test]
fn dhparam_with_ecdsa_certificates_alone_is_warned_of() {
    let site = Site::new();
    site.certify();
    site.configure("dhparam = \"ffdhe2048\"\n[domain.\"example.org\"]\n[domain.\"example.net\"]\n");
    let said = site.ok(&["check", "config"], "");
    assert!(said.contains("warning: ") && said.contains("RSA"), "{said}");
}

#[test]
fn the_pipeline_is_printed_when_asked_for() {
    let site = Site::new();
    site.certify();
    let short = site.ok(&["check", "config"], "");
    let long = site.ok(&["check", "config", "-v"], "");
    assert!(long.starts_with(&short) && long.len() > short.len());
}

#[test]
fn a_wrong_configuration_stops_every_command_that_needs_it() {
    let site = Site::new();
    site.configure("[domain.\"example.org\"]\nadmin = true\n");
    for words in [
        &["run"][..],
        &["account", "list"],
        &["account", "add", "juliet@example.org"],
        &["reload"],
    ] {
        let said = site.fails(1, words, b"");
        assert!(said.contains("stanzad.toml:7:"), "{words:?}: {said}");
    }
    assert!(!site.path("data").exists());
}

#[test]
fn live_commands_say_that_no_server_runs() {
    let site = Site::new();
    for words in [&["status"][..], &["sessions"], &["reload"], &["stop"]] {
        let said = site.fails(1, words, b"");
        assert!(
            said.contains("not running") && said.contains("control.sock"),
            "{said}"
        );
    }
}

/// Stands in for a running server: holds the data and answers on the control socket.
struct StandIn {
    asked: Mutex<Vec<Request>>,
    reply: Reply,
}

impl Backend for StandIn {
    fn execute(&self, request: Request) -> Reply {
        self.asked.lock().unwrap().push(request);
        self.reply.clone()
    }
}

struct Running {
    stand_in: Arc<StandIn>,
    _store: WriterCore,
    _socket: ControlSocket,
}

fn running(site: &Site, reply: Reply) -> Running {
    let stand_in = Arc::new(StandIn {
        asked: Mutex::default(),
        reply,
    });
    Running {
        stand_in: stand_in.clone(),
        _store: WriterCore::open(&site.path("data"), Durability::Normal).unwrap(),
        _socket: serve(&site.path("run/control.sock"), stand_in).unwrap(),
    }
}

#[test]
fn account_commands_ask_the_server_that_has_the_data() {
    let site = Site::new();
    let change = AccountChange {
        jid: "juliet@example.org".to_string(),
        sessions_ended: 2,
    };
    let running = running(&site, Reply::Account(change));
    let ended = site.run(&["account", "passwd", "juliet@example.org"], b"r0m30\n");
    assert_eq!(ended.status, 0);
    assert!(
        ended.stderr.contains("2 sessions were ended"),
        "{}",
        ended.stderr
    );
    let asked = running.stand_in.asked.lock().unwrap();
    let [Request::AccountPasswd { jid, password }] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(
        (jid.as_str(), password.reveal()),
        ("juliet@example.org", "r0m30")
    );
}

#[test]
fn a_refusal_of_the_server_is_the_commands() {
    let site = Site::new();
    let _running = running(&site, Reply::error("juliet@example.org exists already"));
    let said = site.fails(1, &["account", "add", "juliet@example.org"], b"r0m30\n");
    assert_eq!(said, "stanzad: juliet@example.org exists already\n");
}

#[test]
fn a_held_store_without_a_server_is_explained() {
    let site = Site::new();
    let _store = WriterCore::open(&site.path("data"), Durability::Normal).unwrap();
    let said = site.fails(1, &["account", "list"], b"");
    let pid = std::process::id().to_string();
    assert!(
        said.contains(&pid) && said.contains("control.sock"),
        "{said}"
    );
}

#[test]
fn status_is_for_people_and_for_scripts() {
    let site = Site::new();
    let status = StatusInfo {
        version: "0.1.0".to_string(),
        uptime_seconds: 61,
        domains: vec!["example.org".to_string()],
        ..StatusInfo::default()
    };
    let _running = running(&site, Reply::Status(Box::new(status)));
    let text = site.ok(&["status"], "");
    assert!(
        text.contains("stanzad 0.1.0") && text.contains("1m 1s"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&site.ok(&["status", "--json"], "")).unwrap();
    assert_eq!(json["uptime_seconds"], 61);
    assert_eq!(json["domains"][0], "example.org");
}

#[test]
fn sessions_are_listed_and_narrowed() {
    let site = Site::new();
    let session = SessionInfo {
        jid: "juliet@example.org/balcony".to_string(),
        shard: 1,
        address: "[::1]:40000".to_string(),
        since: "2026-11-24T22:00:00Z".to_string(),
        tls_version: Some("TLSv1.3".to_string()),
        cipher: Some("TLS_AES_256_GCM_SHA384".to_string()),
        group: Some("X25519MLKEM768".to_string()),
        mechanism: "SCRAM-SHA-256-PLUS".to_string(),
        client: Some("Gajim".to_string()),
        available: true,
        priority: 5,
        last_activity_seconds: 12,
    };
    let reply = Reply::Sessions {
        sessions: vec![session],
        left_out: 3,
    };
    let running = running(&site, reply);
    let ended = site.run(&["sessions", "juliet@example.org"], b"");
    assert!(
        ended
            .stdout
            .contains("juliet@example.org/balcony  Gajim   priority 5"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("X25519MLKEM768"), "{}", ended.stdout);
    assert!(ended.stderr.starts_with("3 more"), "{}", ended.stderr);
    let json = site.ok(&["sessions", "--domain", "example.org", "--json"], "");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["sessions"][0]["priority"], 5);
    assert_eq!(json["left_out"], 3);
    let asked = running.stand_in.asked.lock().unwrap();
    assert!(
        matches!(&asked[0], Request::Sessions { jid: Some(jid), domain: None }
        if jid == "juliet@example.org")
    );
    assert!(
        matches!(&asked[1], Request::Sessions { jid: None, domain: Some(domain) }
        if domain == "example.org")
    );
}

#[test]
fn sessions_are_ended_by_name() {
    let site = Site::new();
    let running = running(&site, Reply::SessionsEnded { count: 2 });
    let ended = site.run(&["sessions", "end", "juliet@example.org"], b"");
    assert_eq!((ended.status, ended.stdout.as_str()), (0, ""));
    assert_eq!(
        ended.stderr,
        "2 sessions of juliet@example.org were ended\n"
    );
    let asked = running.stand_in.asked.lock().unwrap();
    assert!(matches!(&asked[0], Request::SessionsEnd { jid } if jid == "juliet@example.org"));
}

#[test]
fn a_session_that_is_not_there_cannot_be_ended() {
    let site = Site::new();
    let _running = running(&site, Reply::SessionsEnded { count: 0 });
    let words = ["sessions", "end", "juliet@example.org/balcony"];
    let said = site.fails(1, &words, b"");
    assert!(
        said.contains("juliet@example.org/balcony has no session to end"),
        "{said}"
    );
}

#[test]
fn a_reload_tells_what_it_could_not_change() {
    let site = Site::new();
    let info = ReloadInfo {
        generation: 2,
        warnings: vec!["the certificate of example.org ends soon".to_string()],
        needs_restart: vec!["server.shards".to_string()],
    };
    let _running = running(&site, Reply::Reloaded(info));
    let ended = site.run(&["reload"], b"");
    assert_eq!((ended.status, ended.stdout.as_str()), (0, ""));
    for words in [
        "warning: the certificate",
        "server.shards has changed",
        "generation 2",
    ] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

#[test]
fn a_demo_does_not_disturb_another_in_the_same_place() {
    let directory = tempfile::tempdir().unwrap();
    let demo = directory.path().join("stanzad-demo");
    fs::create_dir(&demo).unwrap();
    fs::write(demo.join("stanzad.toml"), "of the first").unwrap();
    let _store = WriterCore::open(&demo.join("data"), Durability::Normal).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
    let ended = ended(command.arg("demo").current_dir(directory.path()), b"");
    assert_eq!(ended.status, 1);
    assert!(
        ended.stderr.contains("a demo runs already"),
        "{}",
        ended.stderr
    );
    assert_eq!(
        fs::read_to_string(demo.join("stanzad.toml")).unwrap(),
        "of the first"
    );
}

//! `stanzad account` on the data of a server that is not running.

#[path = "common/site.rs"]
mod site;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use site::{Site, ended};
use stanzad::config::Durability;
use stanzad::storage::WriterCore;

#[test]
fn an_account_lives_through_all_commands() {
    let site = Site::new();
    site.add("juliet@example.org");
    site.add("romeo@example.net");
    let list = site.accounts();
    assert_eq!(list[0]["jid"], "juliet@example.org");
    assert_eq!(list[0]["enabled"], true);
    assert_eq!(list[0]["last_seen"], serde_json::Value::Null);
    assert_eq!(list[1]["jid"], "romeo@example.net");
    site.ok(
        &["account", "passwd", "juliet@example.org"],
        "w1sely&sl0w\n",
    );
    site.ok(&["account", "disable", "juliet@example.org"], "");
    assert_eq!(site.accounts()[0]["enabled"], false);
    site.ok(&["account", "enable", "juliet@example.org"], "");
    assert_eq!(site.accounts()[0]["enabled"], true);
    site.ok(&["account", "delete", "juliet@example.org"], "");
    assert_eq!(site.accounts().as_array().unwrap().len(), 1);
}

#[test]
fn a_list_of_one_domain_leaves_the_others_out() {
    let site = Site::new();
    site.add("juliet@example.org");
    site.add("romeo@example.net");
    let list = site.ok(&["account", "list", "example.net"], "");
    assert!(
        list.contains("romeo@example.net") && !list.contains("juliet"),
        "{list}"
    );
    let words = site.fails(1, &["account", "list", "exmaple.net"], b"");
    assert!(words.contains("example.net, example.org"), "{words}");
}

#[test]
fn a_password_changes_the_stored_credentials() {
    let site = Site::new();
    let jid = stanzad::jid::BareJid::parse("juliet@example.org").unwrap();
    let accepts = |password: &str| {
        let core = WriterCore::open(&site.path("data"), Durability::Normal).unwrap();
        let stored = stanzad::storage::accounts::credentials(core.db(), &jid).unwrap();
        core.close();
        stored.unwrap().1.verify(password)
    };
    site.add("juliet@example.org");
    assert!(accepts("r0m30myr0m30"));
    site.ok(
        &["account", "passwd", "juliet@example.org"],
        "w1sely&sl0w\n",
    );
    assert!(accepts("w1sely&sl0w"));
    assert!(!accepts("r0m30myr0m30"));
}

#[test]
fn credentials_take_the_form_that_the_domain_asks_for() {
    let site = Site::new();
    site.configure(
        "[domain.\"example.org\".auth]\n\
         hashes = [\"SHA-512\"]\n\
         iterations = 5000\n\
         [domain.\"example.net\".auth]\n\
         storage = \"bcrypt\"\n\
         bcrypt_cost = 10\n",
    );
    let stored = |jid: &str| {
        site.add(jid);
        let jid = stanzad::jid::BareJid::parse(jid).unwrap();
        let core = WriterCore::open(&site.path("data"), Durability::Normal).unwrap();
        let stored = stanzad::storage::accounts::credentials(core.db(), &jid).unwrap();
        core.close();
        stored.unwrap().1
    };
    let scram = stored("juliet@example.org");
    let forms: Vec<_> = scram
        .scram
        .iter()
        .map(|form| (form.hash, form.iterations))
        .collect();
    assert_eq!(forms, [(stanzad::sasl::Hash::Sha512, 5000)]);
    assert!(scram.bcrypt.is_none());
    let bcrypt = stored("romeo@example.net");
    assert!(bcrypt.scram.is_empty());
    assert!(bcrypt.bcrypt.is_some_and(|hash| hash.contains("$10$")));
}

#[test]
fn what_does_not_fit_the_stored_accounts_is_a_no() {
    let site = Site::new();
    site.add("juliet@example.org");
    let words = site.fails(1, &["account", "add", "JULIET@example.org"], b"other\n");
    assert!(
        words.contains("juliet@example.org exists already"),
        "{words}"
    );
    for command in ["passwd", "disable", "enable", "delete"] {
        let words = site.fails(1, &["account", command, "romeo@example.org"], b"other\n");
        assert!(
            words.contains("romeo@example.org does not exist"),
            "{command}: {words}"
        );
    }
}

#[test]
fn a_foreign_domain_is_refused_with_the_list_of_ours() {
    let site = Site::new();
    for command in ["add", "passwd", "disable", "enable", "delete"] {
        let words = site.fails(1, &["account", command, "juliet@example.com"], b"r0m30\n");
        assert!(
            words.contains("example.net, example.org"),
            "{command}: {words}"
        );
    }
}

#[test]
fn an_address_that_is_no_accounts_is_wrong_use() {
    let site = Site::new();
    for jid in [
        "",
        "@example.org",
        "juliet@",
        "example.org",
        "juliet@example.org/balcony",
        "a b@example.org",
    ] {
        let words = site.fails(2, &["account", "add", jid], b"r0m30\n");
        assert!(words.contains("juliet@"), "{jid}: {words}");
    }
    assert!(!site.path("data").exists(), "nothing is made for nothing");
}

#[test]
fn an_empty_or_unpreparable_password_makes_no_account() {
    let site = Site::new();
    let long = vec![b'x'; 5000];
    for (password, words) in [
        (&b""[..], "empty"),
        (b"\n", "empty"),
        (b"bell\x07\n", "not allowed"),
        (b"caf\xe9\n", "UTF-8"),
        (&long, "longer than"),
    ] {
        let said = site.fails(1, &["account", "add", "juliet@example.org"], password);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(site.accounts(), serde_json::json!([]));
}

#[test]
fn a_password_is_written_and_said_nowhere() {
    let site = Site::new();
    let ended = site.run(&["account", "add", "juliet@example.org"], b"r0m30myr0m30\n");
    assert_eq!(ended.status, 0);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("r0m30"));
    let mut files = 0;
    for entry in fs::read_dir(site.path("data")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(12).any(|window| window == b"r0m30myr0m30"));
        files += 1;
    }
    assert!(files > 0);
}

#[test]
fn data_are_their_owners_alone_whatever_the_umask() {
    let site = Site::new();
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "umask 000; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_stanzad"),
        ])
        .args(["account", "add", "juliet@example.org", "--config"])
        .arg(site.path("stanzad.toml"));
    assert_eq!(ended(&mut command, b"r0m30\n").status, 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(&site.path("data")), 0o700);
    for entry in fs::read_dir(site.path("data")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn data_that_others_can_read_are_refused_with_the_cure() {
    let site = Site::new();
    site.add("juliet@example.org");
    fs::set_permissions(site.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    let words = site.fails(1, &["account", "list"], b"");
    assert!(words.contains("chmod 700"), "{words}");
}

/// Only root can give files to somebody else, so as another user there is nothing to see here.
#[test]
fn what_root_does_to_a_service_users_data_stays_that_users() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let site = Site::new();
    let (nobody, nogroup) = (65_534, 65_534);
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(site.directory.path());
    // The user has to be able to run the program and to get to the data.
    let program = site.path("stanzad");
    fs::copy(env!("CARGO_BIN_EXE_stanzad"), &program).unwrap();
    open(&program);
    fs::create_dir(site.path("data")).unwrap();
    fs::set_permissions(site.path("data"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(site.path("data"), Some(nobody), Some(nogroup)).unwrap();
    let mut command = Command::new(&program);
    command
        .args(["account", "add", "juliet@example.org", "--config"])
        .arg(site.path("stanzad.toml"));
    let added = ended(&mut command, b"r0m30\n");
    assert_eq!(added.status, 0, "{}", added.stderr);
    let mut files = 0;
    for entry in fs::read_dir(site.path("data")).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), nobody);
        files += 1;
    }
    assert!(files > 0);
}

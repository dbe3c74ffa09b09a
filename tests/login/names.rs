//! User names and passwords of any script: prepared or refused, never altered silently (RFC 7622,
//! RFC 8265).

use super::common::client::{Client, failure_of};
use super::common::scram::{Channel, Scram};
use super::common::server::{PASSWORD, Server};
use super::{binds_as, secured};

fn plain(server: &Server, user: &str, password: &str) -> Result<Client, String> {
    let (mut client, _) = secured(server, "example.org", |_| ());
    match client.plain(user, password) {
        Ok(()) => Ok(client),
        failed => Err(failure_of(failed)),
    }
}

fn scram(server: &Server, user: &str, password: &str) -> Result<Client, String> {
    let (mut client, _) = secured(server, "example.org", |_| ());
    let scram = Scram::new("SCRAM-SHA-256", user, password, None, Channel::Unable);
    match client.scram_with("SCRAM-SHA-256", &scram) {
        Ok(()) => Ok(client),
        failed => Err(failure_of(failed)),
    }
}

/// RFC 7622 §3.3: case, width and composition are not part of a localpart.
#[test]
fn a_name_is_found_however_a_client_spells_it() {
    let server = Server::start("");
    // Greek, with a composed accent.
    server.add("\u{3c6}\u{3af}\u{3bb}\u{3b7}@example.org", "caf\u{e9}");
    let bare = "\u{3c6}\u{3af}\u{3bb}\u{3b7}@example.org";
    let spellings = [
        "\u{3c6}\u{3af}\u{3bb}\u{3b7}",
        "\u{3a6}\u{38a}\u{39b}\u{397}",
        "\u{3c6}\u{3b9}\u{301}\u{3bb}\u{3b7}",
    ];
    for spelling in spellings {
        for log_in in [plain, scram] {
            let mut client = log_in(&server, spelling, "caf\u{e9}").unwrap();
            binds_as(&mut client, bare);
        }
    }
    let mut client = plain(
        &server,
        "\u{ff2a}\u{ff35}\u{ff2c}\u{ff29}\u{ff25}\u{ff34}",
        PASSWORD,
    )
    .unwrap();
    binds_as(&mut client, "juliet@example.org");
}

/// RFC 8265 §4.2.2: spaces are mapped, characters composed, case and width kept.
#[test]
fn a_password_is_prepared_and_nothing_else_is_forgiven() {
    let server = Server::start("");
    server.add("cafe@example.org", "Caf\u{e9} \u{ff34}wo");
    for same in ["Caf\u{e9} \u{ff34}wo", "Cafe\u{301}\u{a0}\u{ff34}wo"] {
        let mut client = plain(&server, "cafe", same).unwrap();
        binds_as(&mut client, "cafe@example.org");
    }
    for other in [
        "caf\u{e9} \u{ff34}wo",
        "Caf\u{e9} Two",
        "Caf\u{e9}\u{ff34}wo",
        "Cafe \u{ff34}wo",
    ] {
        let refusal = plain(&server, "cafe", other).err().unwrap();
        assert_eq!(refusal, "not-authorized", "{other}");
    }
    // A client does the preparation itself for SCRAM (RFC 5802 §2.2).
    let mut client = scram(&server, "cafe", "Caf\u{e9} \u{ff34}wo").unwrap();
    binds_as(&mut client, "cafe@example.org");
}

/// RFC 5802 §5.1: `,` and `=` are escaped, in names that may have them.
#[test]
fn a_name_with_a_comma_or_an_equals_sign_logs_in_by_scram() {
    let server = Server::start("");
    server.add("a=b,c@example.org", PASSWORD);
    for log_in in [plain, scram] {
        let mut client = log_in(&server, "a=b,c", PASSWORD).unwrap();
        binds_as(&mut client, "a=b,c@example.org");
    }
}

/// RFC 7622 §3.3.1, RFC 8265 §4.2: what cannot be prepared is nobody's.
#[test]
fn names_and_passwords_that_cannot_be_prepared_are_refused_as_unknown() {
    let server = Server::start("");
    let names = [
        "a b",
        "a@b",
        "a/b",
        "<a>",
        "\u{7}",
        "\u{202e}a",
        &"a".repeat(1024),
    ];
    for name in names {
        for log_in in [plain, scram] {
            let refusal = log_in(&server, name, PASSWORD).err().unwrap();
            assert_eq!(refusal, "not-authorized", "{name:?}");
        }
    }
    for password in ["r0m30\u{7}", "\u{7f}", "\u{378}", &"x".repeat(4000)] {
        let refusal = plain(&server, "juliet", password).err().unwrap();
        assert_eq!(refusal, "not-authorized", "{password:?}");
    }
}

/// RFC 4616 §2: all of it is UTF-8, and name and password are not empty.
#[test]
fn bytes_that_are_no_text_are_a_malformed_request() {
    let server = Server::start("");
    let messages: [&[u8]; 6] = [
        b"\0juliet\0\xff",
        b"\0jul\xc3\0r0m30",
        b"\0\0r0m30",
        b"\0juliet\0",
        b"juliet",
        b"\0juliet\0r0m30\0",
    ];
    for message in messages {
        let (mut client, _) = secured(&server, "example.org", |_| ());
        client.auth("PLAIN", message);
        let outcome = client.outcome().map(drop);
        assert_eq!(failure_of(outcome), "malformed-request", "{message:?}");
    }
}

/// The operator is told, and nothing is stored.
#[test]
fn an_operator_cannot_make_an_account_whose_name_or_password_cannot_be_prepared() {
    let server = Server::start("");
    for name in ["a b@example.org", "\u{202e}a@example.org", "@example.org"] {
        let ended = server.run(&["account", "add", name], "r0m30myr0m30\n");
        assert_ne!(ended.status, 0, "{name}");
        assert!(
            ended.stderr.contains("names no account"),
            "{}",
            ended.stderr
        );
    }
    let ended = server.run(
        &["account", "add", "new@example.org"],
        "r0m\u{7}30myr0m30\n",
    );
    assert_eq!(ended.status, 1);
    assert!(
        ended.stderr.contains("choose another one"),
        "{}",
        ended.stderr
    );
    assert!(plain(&server, "new", "r0m\u{7}30myr0m30").is_err());
}

//! Failed logins are slowed and refused, for an address and for an account (RFC 6120 §13.12,
//! `Bounds` in lib.rs).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::common::client::{Client, failure_of};
use super::common::server::{PASSWORD, Server};

/// A client behind TLS that comes from an address of its own: all of 127.0.0.0/8 is this machine.
fn from(server: &Server, last: u8) -> Client {
    let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0));
    let mut client = Client::connect_from(address, server.c2s);
    client.secure("example.org");
    client
}

/// A failed login's answer, and how long it took.
fn guess(client: &mut Client, user: &str) -> (String, Duration) {
    let start = Instant::now();
    let failure = failure_of(client.plain(user, "wrong"));
    (failure, start.elapsed())
}

/// A limit so low that a few logins reach it, and the other one out of reach.
fn limits(address: u32, account: u32) -> String {
    format!(
        "[limits]\nlogin_failures_per_address_max = {address}\n\
         login_failures_per_account_max = {account}\n"
    )
}

/// Above half of the limit answers wait for half a second and longer: a bound from below, which a
/// slow machine keeps too.
#[test]
fn guesses_from_one_address_are_slowed_and_then_refused_while_others_log_in() {
    let server = Server::start(&limits(3, 1000));
    let mut refused = false;
    let mut slowest = Duration::ZERO;
    let mut client = from(&server, 2);
    // Each time another account, so that only the address counts.
    for guessed in 0..8 {
        let (failure, took) = guess(&mut client, &format!("user{guessed}"));
        slowest = slowest.max(took);
        if failure == "temporary-auth-failure" {
            refused = true;
            break;
        }
        assert_eq!(failure, "not-authorized");
        if guessed % 3 == 2 {
            client = from(&server, 2);
        }
    }
    assert!(refused, "it is never refused");
    assert!(slowest >= Duration::from_millis(500), "{slowest:?}");
    // The right password, from there: nothing is computed for it.
    let outcome = from(&server, 2).plain("juliet", PASSWORD);
    assert_eq!(failure_of(outcome), "temporary-auth-failure");
    let scram = from(&server, 2).scram("SCRAM-SHA-256", "juliet", PASSWORD);
    assert_eq!(failure_of(scram), "temporary-auth-failure");
    // And from elsewhere.
    from(&server, 3).plain("juliet", PASSWORD).unwrap();
    server.logs("too many failed logins");
}

/// Guessers of one account are refused, wherever each of them comes from, and its owner is not
/// locked out.
#[test]
fn guesses_at_one_account_are_refused_while_its_owner_logs_in() {
    let server = Server::start(&limits(1000, 3));
    let mut refused = false;
    for address in 2..12 {
        let mut client = from(&server, address);
        for _ in 0..2 {
            let (failure, _) = guess(&mut client, "juliet");
            refused |= failure == "temporary-auth-failure";
        }
        if refused {
            break;
        }
    }
    assert!(refused, "it is never refused");
    // Other accounts do not suffer, not even from a guesser's address.
    let mut client = from(&server, 2);
    let outcome = client.plain("romeo", PASSWORD);
    assert!(outcome.is_ok());
    // The owner comes from an address that has not failed.
    from(&server, 200).plain("juliet", PASSWORD).unwrap();
}

/// A name that nobody has is counted like any other: the limit must not tell who exists.
#[test]
fn guesses_at_an_account_that_does_not_exist_are_refused_alike() {
    let server = Server::start(&limits(1000, 2));
    let mut answers = Vec::new();
    for (name, address) in [("juliet", 2), ("ghost", 3)] {
        let mut client = from(&server, address);
        answers.push(
            (0..4)
                .map(|_| guess(&mut client, name).0)
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].last().unwrap(), "temporary-auth-failure");
}

/// RFC 6120 §6.4.5.
#[test]
fn a_stream_ends_after_its_failures() {
    let server = Server::start("[limits]\nlogin_failures_per_stream_max = 3\n");
    let mut client = from(&server, 2);
    for _ in 0..3 {
        assert_eq!(guess(&mut client, "juliet").0, "not-authorized");
    }
    client.fails("policy-violation");
}

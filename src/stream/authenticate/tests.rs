use std::time::Duration;

use openssl::hash::MessageDigest;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;

use super::*;
use crate::config::Auth;
use crate::net::throttle::ThrottleLimits;
use crate::router::effects::Refusal;
use crate::sasl::Storage;
use crate::sasl::credentials::{HashPolicy, work};
use crate::stream::Event;
use crate::stream::testing::{
    Bench, HEADER, Proves, auth, found, header, open, record, response, settings, unknown,
};

const JULIET: &[u8] = b"\0juliet\0secret";
const FIRST: &[u8] = b"n,,n=juliet,r=abcdefghijklmnop";

fn negotiating() -> Bench {
    let mut bench = Bench::new(open());
    bench.open();
    bench
}

fn condition(written: &str) -> &str {
    let start = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><";
    let rest = written.split_once(start).map_or("", |(_, rest)| rest);
    rest.split_once("/>").map_or("", |(condition, _)| condition)
}

fn admitted(bench: &Bench) -> Option<(String, Proof)> {
    bench.actions.iter().find_map(|action| match action {
        Action::Admit(jid, proof) => Some((jid.as_str().to_owned(), *proof)),
        _ => None,
    })
}

fn juliet(proof: Proof) -> Option<(String, Proof)> {
    Some(("juliet@example.org".to_owned(), proof))
}

fn limits(per_address: u32, per_account: u32) -> ThrottleLimits {
    ThrottleLimits {
        connections_per_address_max: 10,
        login_failures_per_address_max: per_address,
        login_failures_per_account_max: per_account,
        ..ThrottleLimits::default()
    }
}

fn data_of(written: &str) -> Vec<u8> {
    let (_, rest) = written.split_once('>').unwrap();
    let (text, _) = rest.split_once('<').unwrap();
    simple::decode(text).unwrap().unwrap().to_vec()
}

fn hmac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.sign_oneshot_to_vec(data).unwrap()
}

/// A client's final message of SCRAM-SHA-256 (RFC 5802 §3).
fn last(challenge: &[u8], password: &str) -> Vec<u8> {
    let challenge = std::str::from_utf8(challenge).unwrap();
    let field = |name: &str| {
        let found = challenge
            .split(',')
            .find_map(|part| part.strip_prefix(name));
        found.unwrap().to_owned()
    };
    let salt = simple::decode(&field("s=")).unwrap().unwrap();
    let mut salted = [0; 32];
    let (rounds, digest) = (field("i=").parse().unwrap(), MessageDigest::sha256());
    pbkdf2_hmac(password.as_bytes(), &salt, rounds, digest, &mut salted).unwrap();
    let client_key = hmac(&salted, b"Client Key");
    let bare = std::str::from_utf8(FIRST)
        .unwrap()
        .trim_start_matches("n,,");
    let without_proof = format!("c=biws,r={}", field("r="));
    let signed = format!("{bare},{challenge},{without_proof}");
    let signature = hmac(&sha256(&client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{without_proof},p={}", simple::encode(&proof)).into_bytes()
}

// What succeeds.

#[test]
fn plain_is_compared_by_a_worker_and_succeeds_after_admission() {
    let mut bench = negotiating();
    assert_eq!(bench.top(&auth("PLAIN", Some(JULIET))), "");
    assert!(
        matches!(&bench.actions[..], [Action::LoadCredentials(jid)] if jid.as_str() == "juliet@example.org")
    );
    assert_eq!(bench.on(found()), "");
    assert_eq!(bench.work(), "", "the account's shard decides");
    assert_eq!(admitted(&bench), juliet(Proof::Credentials(3)));
    let success = bench.on(Event::Admitted(Ok(())));
    assert_eq!(
        success,
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
    assert!(
        matches!(bench.actions[0], Action::Upgrade { generation: 3, .. }),
        "4,096 rounds are few"
    );
    assert!(matches!(
        bench.actions[1..],
        [Action::Restart, Action::AcceptStanzas(262_144)]
    ));
}

#[test]
fn scram_succeeds_with_the_servers_signature_after_admission() {
    let mut bench = negotiating();
    bench.top(&auth("SCRAM-SHA-256", Some(FIRST)));
    let challenge = data_of(&bench.on(found()));
    assert_eq!(bench.top(&response(&last(&challenge, "secret"))), "");
    assert_eq!(admitted(&bench), juliet(Proof::Credentials(3)));
    let success = bench.on(Event::Admitted(Ok(())));
    assert!(data_of(&success).starts_with(b"v="), "{success}");
}

/// RFC 6120 §6.4.2: without an initial response the mechanism is asked by an empty challenge.
#[test]
fn a_mechanism_without_its_initial_response_is_asked_for_it() {
    let mut bench = negotiating();
    let challenge = bench.top(&auth("PLAIN", None));
    assert_eq!(
        challenge,
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>=</challenge>"
    );
    bench.top(&response(JULIET));
    assert_eq!(bench.state(), "loading");
}

/// XEP-0175 §3.
#[test]
fn a_guest_gets_a_name_of_this_shard() {
    for data in [None, Some(&b""[..]), Some(b"some trace")] {
        let mut bench = negotiating();
        assert_eq!(bench.top(&auth("ANONYMOUS", data)), "");
        let (jid, proof) = admitted(&bench).unwrap();
        assert_eq!(proof, Proof::Anonymous);
        assert_eq!(bench.placement.shard_of(&jid), 2);
    }
}

fn with_certificate(proves: &'static [&'static str]) -> Bench {
    let auth = Auth {
        mechanisms: vec![Mechanism::External, Mechanism::Plain],
        ..Auth::default()
    };
    let mut bench = Bench::new(settings(crate::config::C2s::default(), auth));
    bench.proves = Proves(proves);
    bench.secure(vec![vec![1]]);
    let features = bench.on(Event::Open(header(HEADER)));
    assert_eq!(
        features.contains("<mechanism>EXTERNAL</mechanism>"),
        proves.iter().any(|jid| jid.ends_with("@example.org")),
        "{features}"
    );
    bench
}

/// XEP-0178 §2.
#[test]
fn external_takes_the_one_address_that_the_certificate_proves() {
    for data in [None, Some(&b""[..]), Some(b"juliet@example.org")] {
        let mut bench = with_certificate(&["juliet@example.org", "juliet@example.net"]);
        bench.top(&auth("EXTERNAL", data));
        assert_eq!(admitted(&bench), juliet(Proof::Certificate), "{data:?}");
    }
}

#[test]
fn external_among_several_addresses_needs_to_be_told_which() {
    let both: &[&str] = &["nurse@example.org", "juliet@example.org"];
    let mut bench = with_certificate(both);
    assert_eq!(
        condition(&bench.top(&auth("EXTERNAL", Some(b"")))),
        "invalid-authzid"
    );
    bench.top(&auth("EXTERNAL", Some(b"juliet@example.org")));
    assert_eq!(admitted(&bench), juliet(Proof::Certificate));
    let mut bench = with_certificate(both);
    let other = bench.top(&auth("EXTERNAL", Some(b"romeo@example.org")));
    assert_eq!(condition(&other), "invalid-authzid");
}

#[test]
fn external_without_an_address_of_the_domain_is_not_to_be_had() {
    let mut bench = with_certificate(&["juliet@example.net"]);
    let refused = bench.top(&auth("EXTERNAL", Some(b"")));
    assert_eq!(condition(&refused), "invalid-mechanism");
    assert_eq!(admitted(&bench), None);
}

// What fails.

/// RFC 6120 §6.5: each failure of a single element, and the stream goes on.
#[test]
fn what_is_wrong_with_a_login_is_told_by_its_condition() {
    let sasl = |name: &str| format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    let bad_base64 =
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>***</auth>".to_owned();
    for (element, expected) in [
        (sasl("abort"), "aborted"),
        (sasl("response"), "malformed-request"),
        (sasl("auth"), "invalid-mechanism"),
        (auth("X-OAUTH2", Some(JULIET)), "invalid-mechanism"),
        (auth("EXTERNAL", Some(b"")), "invalid-mechanism"),
        (
            auth("SCRAM-SHA-256-PLUS", Some(FIRST)),
            "encryption-required",
        ),
        (bad_base64, "incorrect-encoding"),
        (auth("PLAIN", Some(b"")), "malformed-request"),
        (auth("PLAIN", Some(b"juliet")), "malformed-request"),
        (
            auth("PLAIN", Some(b"romeo@example.org\0juliet\0secret")),
            "invalid-authzid",
        ),
        (auth("PLAIN", Some(b"\0ju liet\0secret")), "not-authorized"),
        (auth("SCRAM-SHA-256", Some(b"n,,r=x")), "malformed-request"),
        (
            auth(
                "SCRAM-SHA-256",
                Some(b"n,a=romeo@example.org,n=juliet,r=abcdefgh"),
            ),
            "invalid-authzid",
        ),
    ] {
        let mut bench = negotiating();
        let written = bench.top(&element);
        assert_eq!(condition(&written), expected, "{element}");
        assert_eq!(bench.state(), "negotiating");
        assert!(bench.actions.is_empty());
    }
}

#[test]
fn an_exchange_can_be_aborted_and_begun_anew() {
    let abort = "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    let mut bench = negotiating();
    bench.top(&auth("PLAIN", None));
    assert_eq!(condition(&bench.top(abort)), "aborted");
    bench.top(&auth("SCRAM-SHA-256", Some(FIRST)));
    bench.on(found());
    assert_eq!(condition(&bench.top(abort)), "aborted");
    bench.top(&auth("PLAIN", Some(JULIET)));
    assert_eq!(bench.state(), "loading");
}

/// RFC 6120 §13.11: who is unknown gets what who is known gets.
#[test]
fn an_unknown_account_and_a_wrong_password_look_the_same() {
    let mut answers = Vec::new();
    for known in [true, false] {
        let answer = |bench: &mut Bench| match known {
            true => bench.on(found()),
            false => bench.on(unknown()),
        };
        let mut bench = negotiating();
        bench.top(&auth("PLAIN", Some(b"\0juliet\0wrong")));
        answer(&mut bench);
        let plain = bench.work();
        bench.top(&auth("SCRAM-SHA-256", Some(FIRST)));
        let challenge = data_of(&answer(&mut bench));
        let scram = bench.top(&response(&last(&challenge, "wrong")));
        assert_eq!(condition(&scram), "not-authorized");
        answers.push((plain, scram));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn a_store_that_fails_is_a_temporary_failure_and_no_guess() {
    let mut bench = negotiating();
    bench.throttle.set_limits(limits(2, 2));
    for _ in 0..3 {
        bench.top(&auth("PLAIN", Some(JULIET)));
        let written = bench.on(Event::Credentials(Err(StoreError::Stopped)));
        assert_eq!(condition(&written), "temporary-auth-failure");
    }
    bench.top(&auth("PLAIN", Some(JULIET)));
    assert_eq!(bench.state(), "loading", "the throttle has counted nothing");
}

#[test]
fn workers_with_too_much_to_do_are_a_temporary_failure() {
    let mut bench = negotiating();
    bench.top(&auth("PLAIN", Some(JULIET)));
    bench.on(found());
    assert_eq!(
        condition(&bench.on(Event::Worked(None))),
        "temporary-auth-failure"
    );
}

/// `Who owns what` in lib.rs: the account's shard has the last word.
#[test]
fn what_changed_on_the_way_to_the_accounts_shard_fails_the_login() {
    for (refusal, expected) in [
        (Refusal::Changed, "not-authorized"),
        (Refusal::Disabled, "account-disabled"),
        (Refusal::Unavailable, "temporary-auth-failure"),
    ] {
        let mut bench = negotiating();
        bench.top(&auth("PLAIN", Some(JULIET)));
        bench.on(found());
        bench.work();
        let written = bench.on(Event::Admitted(Err(refusal)));
        assert_eq!(condition(&written), expected);
        assert!(!written.contains("<success"));
        assert_eq!(bench.state(), "negotiating");
    }
}

// Limits.

#[test]
fn a_failure_is_held_back_as_long_as_the_throttle_says() {
    let mut bench = negotiating();
    bench.throttle.set_limits(limits(2, 100));
    bench.top(&auth("PLAIN", Some(JULIET)));
    bench.on(unknown());
    assert_eq!(bench.work(), "");
    assert_eq!(bench.state(), "delayed");
    assert!(!bench.stream.takes_input());
    let until = bench.stream.deadline(&bench.settings).unwrap();
    assert!(until > bench.now);
    assert_eq!(bench.on(Event::Deadline), "", "not before its time");
    assert_eq!(condition(&bench.deadline()), "not-authorized");
    assert_eq!(bench.now, until);
}

#[test]
fn an_address_above_its_limit_costs_no_look_at_the_store() {
    let mut bench = negotiating();
    bench.throttle.set_limits(limits(2, 100));
    for _ in 0..2 {
        bench
            .throttle
            .login_failed(bench.stream.origin.ip(), "romeo@example.org", bench.now);
    }
    for attempt in [
        auth("PLAIN", Some(JULIET)),
        auth("SCRAM-SHA-256", Some(FIRST)),
    ] {
        let written = bench.top(&attempt);
        assert_eq!(condition(&written), "temporary-auth-failure");
        assert!(bench.actions.is_empty());
    }
}

#[test]
fn a_right_password_is_not_held_back_by_others_failures() {
    let mut bench = negotiating();
    bench.throttle.set_limits(limits(100, 2));
    let stranger = "198.51.100.7".parse().unwrap();
    for _ in 0..2 {
        bench
            .throttle
            .login_failed(stranger, "juliet@example.org", bench.now);
    }
    bench.top(&auth("PLAIN", Some(JULIET)));
    bench.on(found());
    bench.work();
    assert_eq!(admitted(&bench), juliet(Proof::Credentials(3)));
}

/// RFC 6120 §6.4.5.
#[test]
fn the_last_failure_that_a_stream_may_have_ends_it() {
    let mut bench = negotiating();
    let last = bench.settings.limits.login_failures_per_stream_max;
    for n in 1..=last {
        assert_eq!(bench.state(), "negotiating");
        let written = bench.top(&auth("PLAIN", Some(b"")));
        assert_eq!(condition(&written), "malformed-request");
        assert_eq!(written.contains("<policy-violation"), n == last, "{n}");
    }
    assert_eq!(bench.state(), "closing");
}

#[test]
fn the_time_for_a_login_passes_while_a_failure_is_held_back() {
    let mut bench = negotiating();
    bench.throttle.set_limits(limits(2, 100));
    bench.pass(Duration::from_millis(29_900));
    bench.top(&auth("PLAIN", Some(JULIET)));
    bench.on(unknown());
    bench.work();
    let written = bench.deadline();
    assert!(written.contains("<connection-timeout"), "{written}");
}

// Names without an account, in a domain whose accounts differ.

/// The store's answer for an unknown name that resembles an account with these credentials.
fn resembling(credentials: &Credentials) -> Event {
    Event::Credentials(Ok(Login {
        account: None,
        resembles: Some(credentials.form()),
    }))
}

fn known(credentials: &Credentials) -> Event {
    Event::Credentials(Ok(Login {
        account: Some((record(), credentials.clone())),
        resembles: None,
    }))
}

/// Credentials in forms other than the policy's: fewer rounds and a short salt, one hash alone, an
/// imported bcrypt hash, and nothing that could be used.
fn forms() -> Vec<Credentials> {
    let policy = HashPolicy {
        storage: Storage::Scram,
        hashes: vec![Hash::Sha256, Hash::Sha1],
        iterations: 5000,
        bcrypt_cost: 4,
    };
    let derive = |policy: &HashPolicy| Credentials::derive("secret", policy, &|_| [7; 16]).unwrap();
    let mut short = derive(&policy);
    short.scram[0].salt.truncate(7);
    let sha1 = HashPolicy {
        hashes: vec![Hash::Sha1],
        ..policy.clone()
    };
    let bcrypt = HashPolicy {
        storage: Storage::Bcrypt,
        ..policy
    };
    vec![
        short,
        derive(&sha1),
        derive(&bcrypt),
        Credentials::default(),
    ]
}

/// Issue 3, RFC 6120 §13.11.
#[test]
fn an_unknown_name_is_challenged_as_the_account_that_it_resembles() {
    for credentials in forms() {
        for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let challenge = |answer: Event| {
                let mut bench = negotiating();
                bench.top(&auth(mechanism, Some(FIRST)));
                let challenge = data_of(&bench.on(answer));
                let challenge = String::from_utf8(challenge).unwrap();
                let (nonce, rest) = challenge.split_once(",s=").unwrap();
                let (salt, rest) = rest.split_once(',').unwrap();
                (nonce.to_owned(), salt.len(), rest.to_owned())
            };
            let shown = challenge(known(&credentials));
            assert_eq!(shown, challenge(resembling(&credentials)));
        }
    }
}

#[test]
fn an_account_without_the_hash_shows_what_the_policy_gives() {
    let mut bench = negotiating();
    bench.top(&auth("SCRAM-SHA-512", Some(FIRST)));
    let challenge = data_of(&bench.on(known(&forms()[1])));
    let challenge = String::from_utf8(challenge).unwrap();
    assert!(challenge.contains(",i=10000,"), "{challenge}");
}

/// The same work, and the same answer: counted by what is computed, not by a clock.
#[test]
fn a_password_for_an_unknown_name_costs_what_it_costs_the_account_that_it_resembles() {
    for credentials in forms() {
        let spent = |answer: Event, password: &str| {
            let mut bench = negotiating();
            bench.top(&auth(
                "PLAIN",
                Some(format!("\0juliet\0{password}").as_bytes()),
            ));
            bench.on(answer);
            work::take();
            let written = bench.work();
            (written, work::take())
        };
        let wrong = spent(known(&credentials), "wrong");
        assert_eq!(condition(&wrong.0), "not-authorized");
        assert_eq!(wrong.1.is_empty(), credentials == Credentials::default());
        assert_eq!(spent(resembling(&credentials), "wrong"), wrong);
        assert_eq!(spent(resembling(&credentials), "secret"), wrong);
        // bcrypt takes no password of this length, and does no work.
        let long = "x".repeat(1000);
        assert_eq!(
            spent(resembling(&credentials), &long),
            spent(known(&credentials), &long)
        );
    }
}

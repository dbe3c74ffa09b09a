//! RFC 6120 over real sockets: every feature of §15 that binds a server, and every condition of
//! §4.9.3, §6.5 and §8.3.3. The comment above a test names them in brackets: `[bind-gen]`,
//! `[stream/conflict]`, `[sasl/aborted]`, `[stanza/conflict]`. What only streams between servers meet is
//! in `tests/federation`. The tables below have the rest, each with the reason, and the tests at the end
//! hold both against the lists of the RFC.

mod common;

#[path = "rfc6120/addressing.rs"]
mod addressing;
#[path = "rfc6120/binding.rs"]
mod binding;
#[path = "rfc6120/delivery.rs"]
mod delivery;
#[path = "rfc6120/ending.rs"]
mod ending;
#[path = "rfc6120/external.rs"]
mod external;
#[path = "rfc6120/garbage.rs"]
mod garbage;
#[path = "rfc6120/opening.rs"]
mod opening;
#[path = "rfc6120/sasl.rs"]
mod sasl;
#[path = "rfc6120/silence.rs"]
mod silence;
#[path = "rfc6120/stanzas.rs"]
mod stanzas;
#[path = "rfc6120/store.rs"]
mod store;
#[path = "rfc6120/tls.rs"]
mod tls;
#[path = "rfc6120/xml.rs"]
mod xml;

use std::fs;
use std::path::Path;

/// Stream errors of §4.9.3 that this server never sends.
const NEVER_ON_STREAMS: [(&str, &str); 4] = [
    (
        "internal-server-error",
        "faults of our own are answered to the stanza or login that met them; the stream goes on",
    ),
    (
        "remote-connection-failed",
        "a login or a stream of a client needs no other server",
    ),
    (
        "see-other-host",
        "one process serves all clients of a domain",
    ),
    (
        "unsupported-feature",
        "clients are not offered features by clients, and a peer that offers too little may still \
         take a dialback key",
    ),
];

/// SASL failures of §6.5 that this server never sends.
const NEVER_IN_SASL: [(&str, &str); 2] = [
    ("credentials-expired", "passwords do not expire"),
    (
        "mechanism-too-weak",
        "what is too weak is not offered, so that it is an invalid mechanism, or one for TLS",
    ),
];

/// Stanza errors of §8.3.3 that this server never sends itself; those of clients it carries.
const NEVER_IN_STANZAS: [(&str, &str); 8] = [
    (
        "feature-not-implemented",
        "a namespace that is not built gets service-unavailable, and what is built is whole",
    ),
    ("gone", "addresses of deleted accounts are not kept"),
    (
        "not-authorized",
        "a client is authenticated before it can send a stanza; before, the stream ends",
    ),
    (
        "recipient-unavailable",
        "it would tell that the account exists; service-unavailable does not",
    ),
    ("redirect", "accounts have no other address yet"),
    (
        "registration-required",
        "there is no service with registered users yet",
    ),
    ("subscription-required", "there are no subscriptions yet"),
    (
        "undefined-condition",
        "each refusal has a defined condition",
    ),
];

/// RFC 6120 §15.
const FEATURES: [&str; 63] = [
    "bind-gen",
    "bind-mtn",
    "bind-restart",
    "bind-support",
    "sasl-correlate",
    "sasl-errors",
    "sasl-mtn",
    "sasl-restart",
    "sasl-support",
    "security-mti-auth-scram",
    "security-mti-both-external",
    "security-mti-both-plain",
    "security-mti-both-scram",
    "security-mti-confidentiality",
    "stanza-attribute-from",
    "stanza-attribute-from-stamp",
    "stanza-attribute-from-validate",
    "stanza-attribute-id",
    "stanza-attribute-to",
    "stanza-attribute-to-validate",
    "stanza-attribute-type",
    "stanza-attribute-xmllang",
    "stanza-error",
    "stanza-error-child",
    "stanza-error-id",
    "stanza-error-reply",
    "stanza-extension",
    "stanza-iq-child",
    "stanza-iq-id",
    "stanza-iq-reply",
    "stanza-iq-type",
    "stanza-kind-iq",
    "stanza-kind-message",
    "stanza-kind-presence",
    "stream-attribute-initial-from",
    "stream-attribute-initial-lang",
    "stream-attribute-initial-to",
    "stream-attribute-response-from",
    "stream-attribute-response-id",
    "stream-attribute-response-id-unique",
    "stream-attribute-response-to",
    "stream-error-generate",
    "stream-fqdn-resolution",
    "stream-negotiation-complete",
    "stream-negotiation-features",
    "stream-negotiation-restart",
    "stream-reconnect",
    "stream-tcp-binding",
    "tls-certs",
    "tls-mtn",
    "tls-restart",
    "tls-support",
    "tls-correlate",
    "xml-namespace-content-client",
    "xml-namespace-content-server",
    "xml-namespace-streams-declaration",
    "xml-namespace-streams-prefix",
    "xml-restriction-comment",
    "xml-restriction-dtd",
    "xml-restriction-pi",
    "xml-restriction-ref",
    "xml-wellformed-xml",
    "xml-wellformed-ns",
];

/// RFC 6120 §4.9.3.
const STREAM_CONDITIONS: [&str; 25] = [
    "bad-format",
    "bad-namespace-prefix",
    "conflict",
    "connection-timeout",
    "host-gone",
    "host-unknown",
    "improper-addressing",
    "internal-server-error",
    "invalid-from",
    "invalid-namespace",
    "invalid-xml",
    "not-authorized",
    "not-well-formed",
    "policy-violation",
    "remote-connection-failed",
    "reset",
    "resource-constraint",
    "restricted-xml",
    "see-other-host",
    "system-shutdown",
    "undefined-condition",
    "unsupported-encoding",
    "unsupported-feature",
    "unsupported-stanza-type",
    "unsupported-version",
];

/// RFC 6120 §6.5.
const SASL_CONDITIONS: [&str; 11] = [
    "aborted",
    "account-disabled",
    "credentials-expired",
    "encryption-required",
    "incorrect-encoding",
    "invalid-authzid",
    "invalid-mechanism",
    "malformed-request",
    "mechanism-too-weak",
    "not-authorized",
    "temporary-auth-failure",
];

/// RFC 6120 §8.3.3.
const STANZA_CONDITIONS: [&str; 22] = [
    "bad-request",
    "conflict",
    "feature-not-implemented",
    "forbidden",
    "gone",
    "internal-server-error",
    "item-not-found",
    "jid-malformed",
    "not-acceptable",
    "not-allowed",
    "not-authorized",
    "policy-violation",
    "recipient-unavailable",
    "redirect",
    "registration-required",
    "remote-server-not-found",
    "remote-server-timeout",
    "resource-constraint",
    "service-unavailable",
    "subscription-required",
    "undefined-condition",
    "unexpected-request",
];

/// The text of the tests: those of streams of clients, and those of streams between servers.
fn tests() -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = ["rfc6120", "federation"].map(|folder| fs::read_dir(tests.join(folder)).unwrap());
    files
        .into_iter()
        .flatten()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect()
}

/// Each name stands above a test or in the table, and not in both.
fn check(names: &[&str], prefix: &str, table: &[(&str, &str)]) {
    let tests = tests();
    for name in names {
        let is_tested = tests.contains(&format!("[{prefix}{name}]"));
        let is_explained = table.iter().any(|(explained, _)| explained == name);
        assert_ne!(is_tested, is_explained, "{prefix}{name}");
    }
    for (name, _) in table {
        assert!(names.contains(name), "{prefix}{name} is not in the RFC");
    }
}

#[test]
fn every_feature_is_tested() {
    check(&FEATURES, "", &[]);
}

#[test]
fn every_condition_is_tested_or_explained() {
    check(&STREAM_CONDITIONS, "stream/", &NEVER_ON_STREAMS);
    check(&SASL_CONDITIONS, "sasl/", &NEVER_IN_SASL);
    check(&STANZA_CONDITIONS, "stanza/", &NEVER_IN_STANZAS);
}

/// The day one of them is sent after all, it needs a test.
#[test]
fn conditions_that_are_never_sent_do_not_stand_in_the_code() {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    for (_, text) in &mut files {
        // Brackets and spaces alike begin a word.
        *text = text.replace(['(', '[', '&', '|'], " ");
    }
    for (kind, table) in [
        (" StreamCondition::", &NEVER_ON_STREAMS[..]),
        (" SaslFailure::", &NEVER_IN_SASL[..]),
        (" Condition::", &NEVER_IN_STANZAS[..]),
    ] {
        for (name, _) in table {
            let variant = format!("{kind}{}", camel_case(name));
            for (path, text) in &files {
                assert!(!text.contains(&variant), "{variant} in {path}");
            }
        }
    }
}

/// Sources but for those that define the conditions.
fn collect(directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let defines = path.ends_with("src/stanza") || path.ends_with("src/sasl/mod.rs");
        let is_test = path.ends_with("tests.rs");
        if defines || is_test {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path.display().to_string(), text));
        }
    }
}

fn camel_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_uppercase() + rest
    });
    words.collect()
}

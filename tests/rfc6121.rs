//! RFC 6121 over real sockets: the tables of Appendix A rule by rule, those of §8.5 cell by cell,
//! and every feature of §12 that binds a server. The comment above a test names a feature in
//! brackets: `[roster-get]`. The examples of the RFC are scripts, see `tests/dialogs.rs`.

mod common;

#[path = "rfc6121/deletion.rs"]
mod deletion;
#[path = "rfc6121/delivery.rs"]
mod delivery;
#[path = "rfc6121/offline.rs"]
mod offline;
#[path = "rfc6121/order.rs"]
mod order;
#[path = "rfc6121/presence.rs"]
mod presence;
#[path = "rfc6121/privacy.rs"]
mod privacy;
#[path = "rfc6121/rosters.rs"]
mod rosters;
#[path = "rfc6121/states.rs"]
mod states;
#[path = "rfc6121/subscriptions.rs"]
mod subscriptions;

use std::fs;
use std::path::Path;

/// RFC 6121 §12, and the role that each has for a server.
const FEATURES: [(&str, &str); 17] = [
    ("message-body", "N/A"),
    ("message-subject", "N/A"),
    ("message-thread", "N/A"),
    ("message-type-support", "N/A"),
    ("message-type-deliver", "SHOULD"),
    ("presence-notype", "MUST"),
    ("presence-probe", "MUST"),
    ("presence-sub-approval", "MUST"),
    ("presence-sub-cancel", "MUST"),
    ("presence-sub-preapproval", "MAY"),
    ("presence-sub-request", "MUST"),
    ("presence-sub-unsubscribe", "MUST"),
    ("presence-unavailable", "MUST"),
    ("roster-get", "MUST"),
    ("roster-set", "MUST"),
    ("roster-push", "MUST"),
    ("roster-version", "MUST"),
];

#[test]
fn every_feature_that_binds_a_server_is_tested() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rfc6121");
    let tests: String = fs::read_dir(directory)
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    for (feature, role) in FEATURES {
        let is_tested = tests.contains(&format!("[{feature}]"));
        assert_eq!(is_tested, role != "N/A", "{feature}");
    }
}

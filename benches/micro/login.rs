//! Counts SCRAM-SHA-256 exchanges a second, the server's side of them, and beside it the derivation
//! of keys from a password.
//!
//! The load is one client without channel binding and 10,000 rounds of PBKDF2, the default. It
//! serves the decision where each runs (`Threads` in lib.rs): an exchange with stored keys must be
//! cheap enough for the shard's own thread, while what derives keys (a PLAIN login, a new password)
//! is for the workers.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use stanzad::sasl::scram::{Bindings, ClientFirst};
use stanzad::sasl::{Credentials, Hash, HashPolicy, Storage};

use crate::scram;

const PASSWORD: &str = "fiery-footed steeds";
const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqOrOprNGfwEbe";
const SERVER_NONCE: &str = "hvYDpWUa2RaTCAfuxFIlj)hNlF$k0aGSf";

fn derived() -> Credentials {
    let policy = HashPolicy {
        storage: Storage::Scram,
        hashes: vec![Hash::Sha256],
        iterations: 10_000,
        bcrypt_cost: 12,
    };
    let derived = Credentials::derive(PASSWORD, &policy, &|_| [7; 16]);
    derived.expect("the policy is within bounds")
}

pub fn benches(criterion: &mut Criterion) {
    let credentials = derived();
    let verifier = credentials.verifier(Hash::Sha256).expect("it was derived");
    let bindings = Bindings::default();
    let challenge = |first: &str| {
        let first = ClientFirst::parse(first.as_bytes(), Hash::Sha256, false, false, &bindings);
        let first = first.expect("the client's first message is right");
        first.challenge(verifier, true, SERVER_NONCE, None)
    };
    // With the nonces given, the client says the same in each exchange, and need not be measured.
    let (client, first) =
        scram::Exchange::new(scram::Hash::Sha256, "juliet", CLIENT_NONCE.to_owned());
    let (exchange, message) = challenge(&first);
    let answer = client.answer(&message, PASSWORD, &mut None);
    let (proven, last) = answer.expect("the challenge can be answered");
    let success = exchange
        .finish(last.as_bytes())
        .expect("the proof is right");
    proven
        .verify(&success)
        .expect("the server has proven itself");

    let mut group = criterion.benchmark_group("login");
    group.throughput(Throughput::Elements(1));
    group.bench_function("exchange", |b| {
        b.iter(|| {
            let (exchange, message) = challenge(black_box(&first));
            black_box(message);
            exchange.finish(black_box(last.as_bytes()))
        });
    });
    group.sample_size(10);
    group.bench_function("derivation, 10,000 rounds", |b| b.iter(derived));
    group.finish();
}

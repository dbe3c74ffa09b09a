//! Micro-benches of the server's inner parts, each on one thread and without network: what parsing,
//! routing, presence, logins and the store cost apart from TLS, system calls and clients.
//!
//! Each file says what it counts, on what load, and which decision it serves. What is to be compared
//! stands in one group, so that it is measured within one run: figures of two runs, or of two
//! machines, are not compared. `cargo bench --bench micro -- parse` runs one group, and
//! `cargo test --bench micro` each bench once, which tells whether they work and nothing of speed.
//!
//! One program for all, since each would be linked with fat LTO. What it takes a whole server to
//! see, like memory of a session or CPU time of a login over TLS, is counted by `benches/load`.

mod fan_out;
mod login;
mod parse;
mod payload;
mod route;
#[path = "../load/scram.rs"]
#[expect(dead_code, reason = "the load generator uses more of it")]
mod scram;
mod site;
mod store;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    parse::benches,
    payload::benches,
    route::benches,
    fan_out::benches,
    login::benches,
    store::benches
);
criterion_main!(benches);

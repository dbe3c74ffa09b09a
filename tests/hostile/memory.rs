//! What the server may take of memory during an attack, computed from the limits in force, and of CPU.

use std::fs;

use stanzad::limits::{
    CAPABILITIES_BYTES_MAX, INBOX_SERVER_BYTES_MAX, LOG_LINES_MAX, LOG_TEXT_BYTES_MAX,
    OUTPUT_BYTES_MAX, TURN_BYTES_MAX, UNSETTLED_BYTES_MAX, WAITING_BYTES_MAX,
};

use crate::common::server::Server;

/// What a connection may cost before authentication, with TLS (`Bounds` in lib.rs).
const UNAUTHENTICATED_BYTES: usize = 64 * 1024;
/// `c2s.stanza_bytes_max` by default.
const STANZA_BYTES: usize = 256 * 1024;
/// `server.shards` of these tests.
const SHARDS: usize = 2;
/// Receivers that have a gate (`Backpressure` in lib.rs): shards, the store's writer and its
/// readers, the workers.
const RECEIVERS: usize = SHARDS + 3;
/// The page cache of the store's writer (`storage::schema`).
const WRITER_CACHE_BYTES: usize = 16 << 20;
/// A buffer that grows doubles: when it has just grown, the old one is there too.
const GROWTH: usize = 3;

/// What an attack holds at a time.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Connections that are not logged in.
    pub connections: usize,
    /// Sessions.
    pub sessions: usize,
}

/// Bytes that the server may take beside what it takes with the honest sessions alone.
pub fn bound(held: Held) -> usize {
    // What it has not read of its output, what is on the way from it, what waits for its account,
    // one stanza that is being read, and one turn's bytes behind it.
    let session = GROWTH * (OUTPUT_BYTES_MAX + STANZA_BYTES)
        + UNSETTLED_BYTES_MAX
        + INBOX_SERVER_BYTES_MAX
        + TURN_BYTES_MAX;
    held.connections * UNAUTHENTICATED_BYTES + held.sessions * session + shared()
}

/// What all share, whoever comes.
fn shared() -> usize {
    let log_line = 4 * LOG_TEXT_BYTES_MAX;
    RECEIVERS * WAITING_BYTES_MAX
        + SHARDS * CAPABILITIES_BYTES_MAX
        + WRITER_CACHE_BYTES
        + LOG_LINES_MAX * log_line
}

/// CPU that the server has used, in the kernel's ticks.
pub fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // utime and stime (proc_pid_stat(5)).
    let used = [fields[11], fields[12]].map(|field| field.parse::<u64>().unwrap());
    used.iter().sum()
}

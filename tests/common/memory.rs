//! What a server has in memory, as the kernel counts it.

use std::fs;

use super::server::Server;

/// What the most may grow by besides what a test asks about: pages of code that is run for the first
/// time, and freed memory that the allocator keeps for a second.
pub const BESIDE: usize = 1024 * 1024;

/// Forgets the most so far (proc_pid_clear_refs(5)).
pub fn forget_peak(server: &Server) {
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
}

/// The most bytes that were resident since then (proc_pid_status(5)).
pub fn peak_bytes(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

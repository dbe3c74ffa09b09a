//! What a server has in memory, as the kernel counts it.

use std::fs;

use super::server::Server;

/// Bytes that are resident now.
pub fn memory_bytes(server: &Server) -> usize {
    bytes_of(server, "VmRSS:")
}

/// Forgets the most so far (proc_pid_clear_refs(5)).
pub fn forget_peak(server: &Server) {
    fs::write(format!("/proc/{}/clear_refs", server.pid()), "5").unwrap();
}

/// The most that was resident since then.
pub fn peak_bytes(server: &Server) -> usize {
    bytes_of(server, "VmHWM:")
}

/// A line of proc_pid_status(5).
fn bytes_of(server: &Server, name: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<usize>().unwrap() * 1024
}

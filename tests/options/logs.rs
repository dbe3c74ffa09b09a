//! `[log]`.

use std::fs;
use std::time::Instant;

use super::common::client::failure_of;
use super::common::server::{PATIENCE, Server};
use super::{fresh, stranger};

super::cases! {
    level: "log.level",
        ["[log]\nlevel = \"debug\"\n", "[log]\nlevel = \"info\"\n"],
        ["with debug", "without debug"],
        |server| {
            let (_, lines) = story(server);
            let has_debug = lines.iter().any(|line| line.contains(" debug "));
            if has_debug { "with debug" } else { "without debug" }.to_owned()
        };
    to: "log.to",
        ["[log]\nto = \"./log\"\n", "[log]\nto = \"./other\"\n"],
        ["log", "other"],
        |server| story(server).0.to_owned();
    format: "log.format",
        ["[log]\nformat = \"text\"\n", "[log]\nformat = \"json\"\n"],
        ["text", "json"],
        |server| {
            let (_, lines) = story(server);
            let last = lines.last().unwrap();
            match serde_json::from_str::<serde_json::Value>(last) {
                Ok(line) => {
                    assert_eq!(line["level"], "info");
                    "json"
                }
                Err(_) => "text",
            }
            .to_owned()
        };
}

/// Fails a login, and gives the file in which that is logged, with the lines from its beginning to
/// that line.
fn story(server: &Server) -> (&'static str, Vec<String>) {
    let files = ["log", "other"];
    let read = |file: &str| fs::read_to_string(server.site.path(file)).unwrap_or_default();
    let before = files.map(|file| read(file).len());
    let ghost = format!("ghost{}@example.org", fresh());
    let user = ghost.split('@').next().unwrap();
    let outcome = stranger(server).plain(user, "wrong");
    assert_eq!(failure_of(outcome), "not-authorized");
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (file, before) in files.iter().zip(before) {
            let text = read(file);
            let mut lines: Vec<String> = Vec::new();
            for line in text.get(before..).unwrap_or_default().lines() {
                lines.push(line.to_owned());
                if line.contains(&ghost) && line.contains("login failed") {
                    return (file, lines);
                }
            }
        }
        assert!(Instant::now() < deadline, "never logged: {ghost}");
        // The log has a thread of its own; a round trip keeps this loop from spinning.
        server.status();
    }
}

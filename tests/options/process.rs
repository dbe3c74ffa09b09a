//! `[server]`, `[listen]` and `[store]`.

use std::fs;
use std::path::Path;
use std::process::Command;

use stanzad::server::control::{Reply, Request, call};

use super::common::client::{Client, ssl};
use super::common::peer::header;
use super::common::server::{Server, command, site};

super::cases! {
    server_data: "server.data",
        ["[server]\ndata = \"data\"\n", "[server]\ndata = \"data2\"\n"],
        ["6 accounts", "0 accounts"],
        accounts;
    server_shards: "server.shards",
        ["[server]\nshards = 2\n", "[server]\nshards = 3\n"],
        ["2", "3"],
        |server| server.status().shards.len().to_string();
    server_control: "server.control",
        ["[server]\ncontrol = \"run/control.sock\"\n", "[server]\ncontrol = \"run/other.sock\"\n"],
        ["control.sock", "other.sock"],
        controls;
    listen_c2s: "listen.c2s",
        ["[listen]\nc2s = [\"127.0.0.1:0\"]\n", "[listen]\nc2s = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n"],
        ["127.0.0.1", "127.0.0.1 127.0.0.2"],
        |server| listening(server, "c2s");
    listen_c2s_tls: "listen.c2s_tls",
        ["[listen]\nc2s_tls = [\"127.0.0.1:0\"]\n", "[listen]\nc2s_tls = []\n"],
        ["127.0.0.1", ""],
        |server| listening(server, "c2s_tls");
    listen_s2s: "listen.s2s",
        ["[listen]\ns2s = [\"127.0.0.1:0\"]\n", "[listen]\ns2s = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n"],
        ["127.0.0.1", "127.0.0.1 127.0.0.2"],
        |server| listening(server, "s2s");
    listen_s2s_tls: "listen.s2s_tls",
        ["[listen]\ns2s_tls = [\"127.0.0.1:0\"]\n", "[listen]\ns2s_tls = []\n"],
        ["127.0.0.1", ""],
        |server| listening(server, "s2s_tls");
}

/// Tested below, since it takes more than a look.
pub const TESTED_APART: &[&str] = &["store.durability"];

fn accounts(server: &Server) -> String {
    match server.ask(&Request::AccountList { domain: None }) {
        Reply::Accounts(accounts) => format!("{} accounts", accounts.len()),
        other => panic!("{other:?}"),
    }
}

/// The control sockets that are answered.
fn controls(server: &Server) -> String {
    let owner = rustix::process::geteuid().as_raw();
    let files = fs::read_dir(server.site.path("run")).unwrap();
    let answered = files
        .map(|file| file.unwrap().path())
        .filter(|path| call(path, owner, &Request::Status).is_ok());
    let names = answered.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    names.collect::<Vec<_>>().join(" ")
}

/// The addresses of that kind on which a stream can really be opened.
fn listening(server: &Server, kind: &str) -> String {
    let mut found = Vec::new();
    for listener in server.status().listeners {
        if listener.kind != kind {
            continue;
        }
        let address: std::net::SocketAddr = listener.address.parse().unwrap();
        let mut client = Client::connect_to(address);
        if kind.ends_with("_tls") {
            let protocol: &[u8] = match kind {
                "c2s_tls" => b"\x0bxmpp-client",
                _ => b"\x0bxmpp-server",
            };
            let ssl = ssl("example.org", |ssl| ssl.set_alpn_protos(protocol).unwrap());
            client.handshake(ssl).unwrap();
        }
        if kind.starts_with("c2s") {
            client.open("example.org");
        } else {
            client.send(header("capulet.example", "example.org", ""));
            client.opened();
        }
        found.push(address.ip().to_string());
    }
    found.join(" ")
}

/// A library that notes which thread syncs a file, put before the C library's own functions.
const SPY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
static void note(void) {
    char name[17] = { 0 };
    prctl(PR_GET_NAME, name);
    strcat(name, "\n");
    int file = open(getenv("SYNC_NOTES"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0 || write(file, name, strlen(name)) < 0) abort();
    close(file);
}
int fsync(int file) { note(); return syscall(SYS_fsync, file); }
int fdatasync(int file) { note(); return syscall(SYS_fdatasync, file); }
"#;

/// Builds it with the C compiler that building the server takes anyhow.
fn build_spy(directory: &Path) -> std::path::PathBuf {
    let (source, library) = (directory.join("spy.c"), directory.join("spy.so"));
    fs::write(&source, SPY).unwrap();
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(status.unwrap().success(), "the spy is not built");
    library
}

/// Whether each of some commits was synced by the store's writer before it was acknowledged.
fn is_each_synced(server: &Server) -> bool {
    let notes = server.site.path("notes");
    let count = || {
        let notes = fs::read_to_string(&notes).unwrap_or_default();
        notes.lines().filter(|line| *line == "writer").count()
    };
    let before = count();
    for _ in 0..10 {
        server.add(
            &format!("user{}@example.org", super::fresh()),
            "r0m30myr0m30",
        );
    }
    count() - before >= 10
}

/// `store.durability`: with "full" each commit waits for the disk, with "normal" none does.
#[test]
fn store_durability() {
    let site = site("[store]\ndurability = \"normal\"\n");
    let spy = build_spy(site.directory.path());
    let mut run = command(&site);
    run.env("LD_PRELOAD", spy);
    run.env("SYNC_NOTES", site.path("notes"));
    let mut server = Server::start_by(site, run);
    assert!(!is_each_synced(&server));
    server.configure("[store]\ndurability = \"full\"\n");
    assert_eq!(server.reload().needs_restart, ["store.durability"]);
    assert!(!is_each_synced(&server));
    server.stop();
    server.start_again();
    assert!(is_each_synced(&server));
}

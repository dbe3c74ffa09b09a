//! A place for the program to work in: a conf file in a directory of its own, and how commands
//! are run there.

// Each test program uses its share of this.
#![allow(dead_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use stanzad::net::certificate::self_signed;

/// A directory with a conf file for example.org and example.net, and nothing else.
pub struct Site {
    pub directory: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Site {
    pub fn new() -> Site {
        let site = Site {
            directory: tempfile::tempdir().unwrap(),
        };
        site.configure("[domain.\"example.org\"]\n[domain.\"example.net\"]\n");
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn configure(&self, more: &str) {
        let text = format!(
            "[server]\n\
             data = \"data\"\n\
             control = \"run/control.sock\"\n\
             [tls]\n\
             certificates = \"certs\"\n\
             {more}"
        );
        fs::write(self.path("stanzad.toml"), text).unwrap();
    }

    pub fn certify(&self) {
        fs::create_dir(self.path("certs")).unwrap();
        for domain in ["example.org", "example.net"] {
            let (certificate, key) = self_signed(&[domain]).unwrap();
            let file = |ending| self.path("certs").join(format!("{domain}.{ending}"));
            fs::write(file("crt"), certificate).unwrap();
            fs::write(file("key"), key).unwrap();
            fs::set_permissions(file("key"), fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    /// Runs a command with this site's conf file; `input` comes on standard input.
    pub fn run(&self, words: &[&str], input: &[u8]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stanzad"));
        command
            .args(words)
            .arg("--config")
            .arg(self.path("stanzad.toml"));
        ended(&mut command, input)
    }

    /// Runs a command that has to succeed, and gives its standard output.
    pub fn ok(&self, words: &[&str], input: &str) -> String {
        let ended = self.run(words, input.as_bytes());
        assert_eq!(ended.status, 0, "{words:?}: {}", ended.stderr);
        ended.stdout
    }

    /// Runs a command that has to end with `status`, and gives its standard error.
    pub fn fails(&self, status: i32, words: &[&str], input: &[u8]) -> String {
        let ended = self.run(words, input);
        assert_eq!(ended.status, status, "{words:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{words:?}");
        ended.stderr
    }

    pub fn accounts(&self) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["account", "list", "--json"], "")).unwrap()
    }

    pub fn add(&self, jid: &str) {
        self.ok(&["account", "add", jid], "r0m30myr0m30\n");
    }
}

/// The longest that a command may take to its end.
const COMMAND_TIME: Duration = Duration::from_secs(60);

/// Runs a command to its end, which has to come by itself.
pub fn ended(command: &mut Command, input: &[u8]) -> Ended {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    // A command that reads no password may have ended before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(COMMAND_TIME) else {
        // It may end just now, which is as wrong.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        panic!("this does not end: {command:?}");
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    Ended {
        status: status.code().expect("it ended by itself"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs a command without a conf file.
pub fn bare(words: &[&str]) -> Ended {
    ended(Command::new(env!("CARGO_BIN_EXE_stanzad")).args(words), b"")
}

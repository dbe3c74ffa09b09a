//! `stanzad demo` and the commands to a running server, on the real program.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use openssl::ssl::{SslConnector, SslMethod, SslStream};
use rustix::process::{Pid, Signal, kill_process};

/// Demos look for free ports, so two that start at once might find the same.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A demo that has said how to connect.
struct Demo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    greeting: String,
    directory: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Demo {
    fn start(directory: &Path) -> Demo {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = Command::new(env!("CARGO_BIN_EXE_stanzad"))
            .arg("demo")
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut greeting = String::new();
        while !greeting.contains("delete the directory") {
            let read = stdout.read_line(&mut greeting).unwrap();
            assert_ne!(read, 0, "it ended after saying: {greeting}");
        }
        Demo {
            child,
            stdout,
            greeting,
            directory: directory.to_path_buf(),
            _turn: turn,
        }
    }

    /// The lines of the greeting with the accounts.
    fn accounts(&self) -> Vec<String> {
        let lines = self
            .greeting
            .lines()
            .filter(|line| line.contains("password"));
        lines.map(|line| line.trim().to_string()).collect()
    }

    /// The addresses that an option of `[listen]` in its conf file has.
    fn addresses(&self, option: &str) -> Vec<SocketAddr> {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let prefix = format!("{option} = ");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap();
        serde_json::from_str::<Vec<SocketAddr>>(line).unwrap()
    }

    fn config(&self) -> PathBuf {
        self.directory.join("stanzad-demo/stanzad.toml")
    }

    /// A connection by direct TLS that trusts the demo's certificate and nothing else.
    fn connect(&self, address: SocketAddr) -> SslStream<TcpStream> {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector
            .set_ca_file(self.directory.join("stanzad-demo/certs/localhost.crt"))
            .unwrap();
        connector.set_alpn_protos(b"\x0bxmpp-client").unwrap();
        let socket = TcpStream::connect(address).unwrap();
        connector.build().connect("localhost", socket).unwrap()
    }

    /// Runs a command against the demo; it has to succeed. Gives standard output and error.
    fn command(&self, words: &[&str], input: &str) -> (String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stanzad"))
            .args(words)
            .arg("--config")
            .arg(self.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(output.status.success(), "{words:?}: {stderr}");
        (stdout, stderr)
    }

    /// Waits for its end, which has to be a good one, and gives what it said last.
    fn end(mut self) -> String {
        let mut last = String::new();
        self.stdout.read_to_string(&mut last).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        last
    }

    fn interrupt(self) -> String {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::INT).unwrap();
        self.end()
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn ctrl_c_stops_a_demo_cleanly() {
    let directory = tempfile::tempdir().unwrap();
    let last = Demo::start(directory.path()).interrupt();
    assert!(last.contains("Stopped"), "{last}");
    assert!(!directory.path().join("stanzad-demo/control.sock").exists());
}

#[test]
fn a_second_run_keeps_accounts_passwords_and_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let first = Demo::start(directory.path());
    let (accounts, fingerprint) = (first.accounts(), fingerprint(&first.greeting));
    assert_eq!(accounts.len(), 2);
    assert_ne!(
        accounts[0].split(' ').next_back(),
        accounts[1].split(' ').next_back()
    );
    first.interrupt();
    let second = Demo::start(directory.path());
    assert_eq!(second.accounts(), accounts);
    assert_eq!(self::fingerprint(&second.greeting), fingerprint);
    second.interrupt();
}

#[test]
fn a_demo_serves_the_certificate_that_it_tells_of() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    for address in demo.addresses("c2s_tls") {
        assert!(address.ip().is_loopback());
        let stream = demo.connect(address);
        let certificate = stream.ssl().peer_certificate().unwrap().to_der().unwrap();
        let bytes = openssl::sha::sha256(&certificate).map(|byte| format!("{byte:02X}"));
        assert_eq!(bytes.join(":"), fingerprint(&demo.greeting));
    }
    for address in demo.addresses("c2s") {
        assert!(address.ip().is_loopback());
        TcpStream::connect(address).unwrap();
    }
    demo.interrupt();
}

/// It says so: nobody else gets in, and another server on this machine keeps its ports.
#[test]
fn a_demo_listens_to_this_machine_only() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let expected = demo.addresses("c2s").len() + demo.addresses("c2s_tls").len();
    demo.interrupt();
    let log = std::fs::read_to_string(directory.path().join("stanzad-demo/stanzad.log")).unwrap();
    let addresses: Vec<SocketAddr> = log
        .lines()
        .filter_map(|line| {
            line.split_once(" listening kind=")?
                .1
                .split_once("address=")
        })
        .map(|(_, address)| address.parse().unwrap())
        .collect();
    assert_eq!(addresses.len(), expected, "{log}");
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
}

fn fingerprint(greeting: &str) -> String {
    let is_fingerprint = |line: &&str| line.len() == 95 && line.matches(':').count() == 31;
    greeting
        .lines()
        .map(str::trim)
        .find(is_fingerprint)
        .unwrap()
        .to_string()
}

#[test]
fn stop_ends_the_server_before_it_returns() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (_, said) = demo.command(&["stop"], "");
    let pid = demo.child.id();
    assert_eq!(said, format!("stopped; process {pid} has ended\n"));
    // Another process can have the data at once.
    let jid = stanzad::jid::BareJid::parse("juliet@localhost").unwrap();
    let data = directory.path().join("stanzad-demo/data");
    let durability = stanzad::config::Durability::Normal;
    let store = stanzad::storage::WriterCore::open(&data, durability).unwrap();
    assert!(
        stanzad::storage::accounts::find(store.db(), &jid)
            .unwrap()
            .is_some()
    );
    demo.end();
}

#[test]
fn status_tells_of_the_running_server() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (json, _) = demo.command(&["status", "--json"], "");
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["pid"], demo.child.id());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["domains"], serde_json::json!(["localhost"]));
    assert_eq!(status["sessions"], 0);
    assert!(!status["shards"].as_array().unwrap().is_empty());
    let listeners = status["listeners"].as_array().unwrap();
    let told = |kind: &str| -> Vec<SocketAddr> {
        let of_kind = listeners.iter().filter(|listener| listener["kind"] == kind);
        let addresses = of_kind.map(|listener| listener["address"].as_str().unwrap());
        addresses.map(|address| address.parse().unwrap()).collect()
    };
    assert_eq!(told("c2s"), demo.addresses("c2s"));
    assert_eq!(told("c2s_tls"), demo.addresses("c2s_tls"));
    demo.interrupt();
}

#[test]
fn account_commands_act_on_the_running_server() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    demo.command(&["account", "add", "tybalt@localhost"], "r0m30\n");
    demo.command(&["account", "disable", "tybalt@localhost"], "");
    let (json, _) = demo.command(&["account", "list", "--json"], "");
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["jid"])
        .collect();
    assert_eq!(
        names,
        ["juliet@localhost", "romeo@localhost", "tybalt@localhost"]
    );
    assert_eq!(list[2]["enabled"], false);
    demo.command(&["account", "delete", "tybalt@localhost"], "");
    let (list, _) = demo.command(&["account", "list"], "");
    assert!(!list.contains("tybalt"), "{list}");
    demo.interrupt();
}

#[test]
fn a_reload_is_told_with_its_generation() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let (_, said) = demo.command(&["reload"], "");
    assert!(said.contains("generation 2 is in force"), "{said}");
    demo.interrupt();
}

#[test]
fn a_reload_of_a_wrong_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let demo = Demo::start(directory.path());
    let good = std::fs::read_to_string(demo.config()).unwrap();
    std::fs::write(demo.config(), format!("{good}nonsense = 1\n")).unwrap();
    let reload = Command::new(env!("CARGO_BIN_EXE_stanzad"))
        .args(["reload", "--config"])
        .arg(demo.config())
        .output()
        .unwrap();
    assert_eq!(reload.status.code(), Some(1));
    std::fs::write(demo.config(), &good).unwrap();
    let (json, _) = demo.command(&["status", "--json"], "");
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["generation"], 1);
    demo.interrupt();
}

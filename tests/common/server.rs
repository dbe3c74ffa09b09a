//! The real program, started for one test and ended with it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};
use rustix::process::{Pid, Signal};
use stanzad::clock::Wall;
use stanzad::config::{self, Durability};
use stanzad::server::accounts::apply_offline;
use stanzad::server::control::{
    Password, ReloadInfo, Reply, Request, SessionInfo, StatusInfo, call,
};
use stanzad::storage::WriterCore;

use super::names::{NameServer, Zone};
use super::site::{Ended, Site};

/// The password of every account that [`Server::start`] makes.
pub const PASSWORD: &str = "r0m30myr0m30";

/// The accounts that [`Server::start`] makes: enough that some pairs share one of two shards and
/// others do not, whatever the key of the placement.
pub const ACCOUNTS: [&str; 6] = [
    "juliet@example.org",
    "romeo@example.org",
    "mercutio@example.org",
    "tybalt@example.org",
    "nurse@example.org",
    "paris@example.net",
];

/// The longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What the conf file says unless a test says otherwise; `NAMES` is the address of [`NAMES`].
const CONF: &str = r#"
[server]
data = "data"
control = "run/control.sock"
shards = 2
[listen]
c2s = ["127.0.0.1:0"]
c2s_tls = ["127.0.0.1:0"]
component = ["127.0.0.1:0"]
s2s = ["127.0.0.1:0"]
s2s_tls = ["127.0.0.1:0"]
[dns]
servers = ["NAMES"]
[tls]
certificates = "certs"
[auth]
iterations = 4096
[store]
durability = "normal"
[limits]
login_failures_per_address_max = 1000
login_failures_per_account_max = 1000
[log]
level = "debug"
to = "./log"
[domain."example.org"]
[domain."example.net"]
"#;

/// A name server that knows no name: nothing is asked of any outside.
static NAMES: LazyLock<NameServer> = LazyLock::new(|| Zone::of(".").serve());

/// The file of a site over which conf files are laid.
const BASE: &str = "base.toml";

/// The file of a site with the authorities that vouch for other servers, in place of the machine's.
pub const AUTHORITY: &str = "ca.pem";

/// A running server. It is killed when dropped; if the test has failed by then, its log is told.
pub struct Server {
    /// Its directory: `stanzad.toml`, `certs/`, `data/`, `run/control.sock`, `log`, `stderr`.
    pub site: Site,
    /// Where it takes clients that start with STARTTLS.
    pub c2s: SocketAddr,
    /// Where it takes clients that start with TLS.
    pub c2s_tls: SocketAddr,
    /// Where it takes servers that start in the clear.
    pub s2s: SocketAddr,
    /// Where it takes servers that start with TLS.
    pub s2s_tls: SocketAddr,
    child: Child,
    ended: Option<ExitStatus>,
    control: PathBuf,
    notify: UnixDatagram,
    /// What the service manager was told besides, a line for each message.
    notified: Mutex<String>,
    environment: Vec<(OsString, OsString)>,
}

impl Server {
    /// Starts a server for example.org and example.net with [`ACCOUNTS`]. `conf` is TOML that is
    /// laid over the conf file of all tests, table by table and key by key.
    pub fn start(conf: &str) -> Server {
        Server::start_in(site(conf))
    }

    /// Starts a server in a directory made by [`site`] and since changed by the test.
    pub fn start_in(site: Site) -> Server {
        let command = command(&site);
        Server::start_by(site, command)
    }

    /// Starts a server by a command that becomes `stanzad run` with the site's conf file.
    pub fn start_by(site: Site, command: Command) -> Server {
        let set = |(key, value): (&OsStr, Option<&OsStr>)| Some((key.into(), value?.into()));
        let environment = command.get_envs().filter_map(set).collect();
        let (child, notify) = spawn(&site, command);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server {
            control: control_of(&site),
            site,
            c2s: nowhere,
            c2s_tls: nowhere,
            s2s: nowhere,
            s2s_tls: nowhere,
            child,
            ended: None,
            notify,
            notified: Mutex::default(),
            environment,
        };
        server.started();
        server
    }

    /// Starts it again after [`Server::wait`], with what it has stored, on other ports.
    pub fn start_again(&mut self) {
        assert!(self.ended.take().is_some(), "it runs still");
        let mut command = command(&self.site);
        command.envs(self.environment.clone());
        (self.child, self.notify) = spawn(&self.site, command);
        self.control = control_of(&self.site);
        self.started();
    }

    /// Waits until the server tells its service manager that it is ready: after a start, and after
    /// a reload by SIGHUP, be it refused or not.
    pub fn wait_until_ready(&self) {
        let step = Duration::from_millis(200);
        self.notify.set_read_timeout(Some(step)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut message = [0; 256];
        loop {
            match self.notify.recv(&mut message) {
                Ok(length) if message[..length].starts_with(b"READY=1") => return,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&message[..length]);
                    *self.notified.lock().unwrap() += &format!("{}\n", text.trim_end());
                }
                // The executable of a process that has ended cannot be told.
                Err(_) if fs::read_link(format!("/proc/{}/exe", self.pid())).is_err() => {
                    panic!("the server has ended: {}", self.stderr())
                }
                Err(_) => assert!(Instant::now() < deadline, "the server is never ready"),
            }
        }
    }

    /// Whether the service manager was told this before it was told that the server is ready.
    pub fn has_notified(&self, text: &str) -> bool {
        let notified = self.notified.lock().unwrap();
        notified.lines().any(|line| line == text)
    }

    fn started(&mut self) {
        self.wait_until_ready();
        let status = self.status();
        let address = |kind: &str| {
            let mut listeners = status.listeners.iter();
            let found = listeners.find(|listener| listener.kind == kind);
            found.map(|listener| listener.address.parse().unwrap())
        };
        self.c2s = address("c2s").unwrap_or(self.c2s);
        self.c2s_tls = address("c2s_tls").unwrap_or(self.c2s_tls);
        self.s2s = address("s2s").unwrap_or(self.s2s);
        self.s2s_tls = address("s2s_tls").unwrap_or(self.s2s_tls);
    }

    /// What the server writes to standard error.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.site.path("stderr")).unwrap()
    }

    /// The log so far, from level debug on.
    pub fn log(&self) -> String {
        fs::read_to_string(self.site.path("log")).unwrap_or_default()
    }

    /// Waits until the log has a line with this text, and gives the line. The log has a thread of
    /// its own; the server is asked for its status meanwhile, which keeps this loop from spinning.
    pub fn logs(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "never logged: {text}\n{log}");
            self.status();
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of the control socket.
    pub fn control(&self) -> PathBuf {
        self.control.clone()
    }

    /// Asks over the control socket; what the server refuses fails the test.
    pub fn ask(&self, request: &Request) -> Reply {
        let owner = rustix::process::geteuid().as_raw();
        match call(&self.control(), owner, request).unwrap() {
            Reply::Error { text } => panic!("{request:?}: {text}"),
            reply => reply,
        }
    }

    /// What `stanzad status` tells.
    pub fn status(&self) -> StatusInfo {
        match self.ask(&Request::Status) {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// What `stanzad sessions` tells of an account, of a full JID, or of all.
    pub fn sessions(&self, jid: Option<&str>) -> Vec<SessionInfo> {
        let request = Request::Sessions {
            domain: None,
            jid: jid.map(str::to_owned),
        };
        match self.ask(&request) {
            Reply::Sessions { sessions, .. } => sessions,
            other => panic!("{other:?}"),
        }
    }

    /// The shard that owns a full JID's session.
    pub fn shard_of(&self, full_jid: &str) -> usize {
        let sessions = self.sessions(Some(full_jid));
        sessions.first().expect("it has a session").shard
    }

    /// Makes an account while the server runs.
    pub fn add(&self, jid: &str, password: &str) {
        self.ask(&Request::AccountAdd {
            jid: jid.to_owned(),
            password: Password::new(password.to_owned()),
        });
    }

    /// Runs a command of the program against this server.
    pub fn run(&self, words: &[&str], input: &str) -> Ended {
        self.site.run(words, input.as_bytes())
    }

    /// Writes the conf file anew; a reload takes it up.
    pub fn configure(&self, conf: &str) {
        write_conf(&self.site, conf);
    }

    /// Reloads the conf file, which has to succeed.
    pub fn reload(&self) -> ReloadInfo {
        self.try_reload().unwrap()
    }

    /// Reloads the conf file; `Err` is why the server refuses.
    pub fn try_reload(&self) -> Result<ReloadInfo, String> {
        let owner = rustix::process::geteuid().as_raw();
        let reply = call(&self.control(), owner, &Request::Reload).unwrap();
        self.wait_until_ready();
        match reply {
            Reply::Reloaded(info) => Ok(info),
            Reply::Error { text } => Err(text),
            other => panic!("{other:?}"),
        }
    }

    /// Has the server reload by SIGHUP, and waits until it has, or has refused.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
        self.wait_until_ready();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Ends the process at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Stops the server in an orderly way.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.stderr());
    }

    /// Waits for the end of the process, which the test has brought about.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        self.ended = Some(status);
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let early = match self.ended {
            Some(_) => None,
            None => self.child.try_wait().ok().flatten(),
        };
        // It may have ended by itself, which is judged below.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = self.stderr();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(8_000);
            let tail = log.get(tail..).unwrap_or(&log);
            eprintln!("--- log of the server\n{tail}\n--- its stderr\n{stderr}---");
            return;
        }
        assert!(early.is_none(), "the server ended by itself: {stderr}");
        assert!(!stderr.contains("panicked at"), "{stderr}");
    }
}

/// The command that runs a server in a directory: of the program just built, or of the one that `STANZAD`
/// names, so that two builds can be compared.
pub fn command(site: &Site) -> Command {
    let built = || env!("CARGO_BIN_EXE_stanzad").into();
    let mut command = Command::new(std::env::var_os("STANZAD").unwrap_or_else(built));
    command
        .args(["run", "--as-root", "--config"])
        .arg(site.path("stanzad.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if site.path(AUTHORITY).exists() {
        command.env("SSL_CERT_FILE", site.path(AUTHORITY));
    }
    command
}

/// Starts the program; it says on the socket when it is ready (sd_notify(3)).
fn spawn(site: &Site, mut command: Command) -> (Child, UnixDatagram) {
    let socket = site.path("notify");
    // One of an earlier start may be there.
    let _ = fs::remove_file(&socket);
    let notify = UnixDatagram::bind(&socket).unwrap();
    let mut stderr = fs::File::options();
    let stderr = stderr.create(true).append(true).open(site.path("stderr"));
    command
        .env("NOTIFY_SOCKET", &socket)
        .stderr(stderr.unwrap());
    (command.spawn().unwrap(), notify)
}

fn control_of(site: &Site) -> PathBuf {
    let settings = config::load(&site.path("stanzad.toml")).unwrap();
    settings.server.control
}

/// A directory that is ready for a server: conf file, certificates, accounts.
pub fn site(conf: &str) -> Site {
    let base = CONF.replace("NAMES", &NAMES.address.to_string());
    let site = site_of(&base, conf);
    site.certify();
    add_offline(&site, &ACCOUNTS);
    site
}

/// A directory with a conf file, `conf` laid over `base`; it has neither certificates nor accounts.
pub fn site_of(base: &str, conf: &str) -> Site {
    let site = Site::new();
    fs::write(site.path(BASE), base).unwrap();
    write_conf(&site, conf);
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder.create(site.path("data")).unwrap();
    builder.create(site.path("run")).unwrap();
    site
}

/// Does something with the store of a site while no server runs.
pub fn with_store<T>(site: &Site, work: impl FnOnce(&mut WriterCore) -> T) -> T {
    let mut store = WriterCore::open(&site.path("data"), Durability::Normal).unwrap();
    work(&mut store)
}

/// Makes accounts with [`PASSWORD`] while no server runs, without a process for each.
pub fn add_offline(site: &Site, accounts: &[&str]) {
    let path = site.path("stanzad.toml");
    let text = fs::read_to_string(&path).unwrap();
    let settings = config::parse(&text, &path).unwrap();
    with_store(site, |store| {
        for jid in accounts {
            let request = Request::AccountAdd {
                jid: (*jid).to_owned(),
                password: Password::new(PASSWORD.to_owned()),
            };
            let now = Wall::from_micros(1_000_000);
            let reply = apply_offline(store, &settings, &request, now);
            assert!(matches!(reply, Reply::Account(_)), "{reply:?}");
        }
    });
}

/// Puts RSA certificates beside the ECDSA ones, by the convention for two kinds of keys.
pub fn certify_rsa(site: &Site, file: &str, domain: &str) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(159, MsbOption::MAYBE_ZERO, false).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", domain).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = serial.to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(30));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    let context = builder.x509v3_context(None, None);
    let names = SubjectAlternativeName::new().dns(domain).build(&context);
    builder.append_extension(names.unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build().to_pem().unwrap();
    let path = |ending| site.path("certs").join(format!("{file}.{ending}"));
    fs::write(path("crt"), certificate).unwrap();
    fs::write(path("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
    fs::set_permissions(path("key"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Writes the conf file: `conf` laid over the site's base.
pub fn write_conf(site: &Site, conf: &str) {
    let base = fs::read_to_string(site.path(BASE)).unwrap();
    let mut whole: toml::Table = base.parse().unwrap();
    lay_over(&mut whole, conf.parse().unwrap());
    let path = site.path("stanzad.toml");
    fs::write(&path, whole.to_string()).unwrap();
    // It may have secrets.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn lay_over(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

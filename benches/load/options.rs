//! The command line.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use openssl::ssl::SslVersion;

use crate::connection::TlsChoice;
use crate::messages::{Drive, Shape};
use crate::session::{Account, Logins, Mechanism};
use crate::{Timing, answers};

/// Circles of contacts whose accounts log in, unless there are more logins at a time.
const LOGIN_CIRCLES: usize = 10;
/// Files this process needs beside one socket for each session.
const FILES_BESIDE: usize = 32;

/// A load generator for XMPP servers: many TLS clients on one machine, one thread.
#[derive(Debug, Parser)]
#[command(name = "load")]
pub struct Options {
    /// Where the server listens for clients
    #[arg(long, default_value = "127.0.0.1:5222")]
    pub address: SocketAddr,
    /// The domain of the accounts
    #[arg(long, default_value = "example.org")]
    pub domain: String,
    /// Where another server listens for clients, which the receiver of each pair uses
    #[arg(long, requires = "peer_domain")]
    pub peer_address: Option<SocketAddr>,
    /// The domain of the receivers' accounts; {} becomes the number of the pair
    #[arg(long, requires = "peer_address")]
    pub peer_domain: Option<String>,
    /// Process of that server, whose CPU time is added
    #[arg(long, requires = "pid")]
    pub peer_pid: Option<u32>,
    /// How TLS begins: asked for in the stream, or at once (XEP-0368)
    #[arg(long, value_enum, default_value_t = Tls::Starttls)]
    pub tls: Tls,
    /// The only TLS version to offer: 1.2 or 1.3 (default: both)
    #[arg(long, value_parser = tls_version)]
    pub tls_version: Option<SslVersion>,
    /// Key exchange groups to offer, like X25519:P-256 (default: OpenSSL's)
    #[arg(long)]
    pub groups: Option<String>,
    /// The SASL mechanism: SCRAM-SHA-256, SCRAM-SHA-1, SCRAM-SHA-512, PLAIN (default: the first offered)
    #[arg(long, value_parser = mechanism)]
    pub mechanism: Option<Mechanism>,
    /// Localparts of the accounts; {} becomes 0, 1, 2 …
    #[arg(long, default_value = "user{}")]
    pub user_format: String,
    /// Passwords of the accounts; {} as in --user-format
    #[arg(long, default_value = "pw{}")]
    pub password_format: String,
    /// How many accounts to use (default: one for each session; login: 100, or 10 circles)
    #[arg(long)]
    pub accounts: Option<usize>,
    /// Take the accounts from this file instead, a line each: localpart,password
    #[arg(long)]
    pub accounts_file: Option<PathBuf>,
    /// Run this in a shell for each account first: $JID, and the password on standard input
    #[arg(long, value_name = "COMMAND")]
    pub create: Option<String>,
    /// Process of the server: its CPU time and memory are read, and those of its children
    #[arg(long)]
    pub pid: Option<u32>,
    /// Tell how evenly those of its threads share the work whose names begin so (with messages)
    #[arg(long, value_name = "PREFIX")]
    pub threads: Option<String>,
    /// Send no initial presence (not with contacts)
    #[arg(long)]
    pub no_presence: bool,
    /// Seconds before measuring
    #[arg(long, default_value_t = 3.0)]
    pub warm_up_seconds: f64,
    /// Seconds measured
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Name of the server in the report
    #[arg(long, default_value = "server")]
    pub label: String,
    /// Name of the run in the report: runs of one name are compared (default: what it does)
    #[arg(long)]
    pub row: Option<String>,
    /// What is hoped for, as words that the report and its summary repeat
    #[arg(long)]
    pub goal: Option<String>,
    /// Print JSON, one line, on standard output, and the table on standard error
    #[arg(long)]
    pub json: bool,
    /// Ignored: `cargo bench` passes it, after all other arguments
    #[arg(long, hide = true, global = true)]
    pub bench: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Messages in a closed loop: the next is sent when one has arrived
    Messages {
        /// Pairs of a sender and a receiver
        #[arg(long, default_value_t = 50)]
        pairs: usize,
        /// Messages of each pair on their way at a time
        #[arg(long, default_value_t = 1)]
        window: usize,
        #[command(flatten)]
        message: Message,
    },
    /// Messages at a fixed rate, whatever the server makes of it; latency counts from when each was due
    Rate {
        /// Pairs of a sender and a receiver
        #[arg(long, default_value_t = 50)]
        pairs: usize,
        /// Messages a second over all pairs
        #[arg(long, default_value_t = 2000.0)]
        rate: f64,
        #[command(flatten)]
        message: Message,
    },
    /// The first message of each pair, one pair after the other: what it takes when servers must meet
    First {
        /// Pairs of a sender and a receiver
        #[arg(long, default_value_t = 100)]
        links: usize,
    },
    /// Connect, log in, send presence, end the stream; again and again
    Login {
        /// Connections at a time
        #[arg(long, default_value_t = 8)]
        concurrency: usize,
        /// Contacts of each account; `contacts` must have set them up
        #[arg(long, default_value_t = 0)]
        contacts: usize,
        /// Contacts of each who are online
        #[arg(long, default_value_t = 10)]
        online: usize,
    },
    /// Idle sessions: the memory each takes
    Idle {
        /// How many
        #[arg(long, default_value_t = 2000)]
        sessions: usize,
        /// Contacts of each, all online; `contacts` must have set them up
        #[arg(long, default_value_t = 0)]
        contacts: usize,
        /// Seconds until memory is read, before and after
        #[arg(long, default_value_t = 10)]
        settle_seconds: u64,
    },
    /// Changes of presence in a closed loop: the next is sent when all contacts have seen one
    Presence {
        /// How many sessions
        #[arg(long, default_value_t = 510)]
        sessions: usize,
        /// Contacts of each, all online; `contacts` must have set them up
        #[arg(long, default_value_t = 50)]
        contacts: usize,
        /// Changes on their way at a time in each circle of contacts
        #[arg(long, default_value_t = 1)]
        window: usize,
    },
    /// Fresh accounts subscribe to each other, part, and subscribe again
    Subscribe {
        /// Pairs of accounts
        #[arg(long, default_value_t = 200)]
        pairs: usize,
        /// Pairs under way at a time
        #[arg(long, default_value_t = 8)]
        concurrency: usize,
    },
    /// Set up the contacts that other runs need, over the wire; what is there already stays
    Contacts {
        /// How many accounts
        #[arg(long, default_value_t = 510)]
        sessions: usize,
        /// Contacts of each; accounts form circles of one more, in which all are mutual contacts
        #[arg(long, default_value_t = 50)]
        contacts: usize,
    },
    /// Compare reports that --json wrote: medians with their spread, and ratios
    Summary {
        /// The label that others are divided by; in rows without it the first is
        #[arg(long, default_value = "stanzad")]
        base: String,
        /// Print the main figures as tables in Markdown
        #[arg(long)]
        markdown: bool,
        /// Files of reports, one or more in each
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check the generator itself, without a server (the default)
    Check,
}

/// The shape of messages.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Message {
    /// Bytes of a message as sent
    #[arg(long, default_value_t = 300)]
    pub size: usize,
    /// Whether to address the receiver's full or bare JID
    #[arg(long, value_enum, default_value_t = To::Full)]
    pub to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum To {
    Full,
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tls {
    Starttls,
    Direct,
}

impl Command {
    /// The run's name in reports: what makes two runs comparable.
    pub fn row(&self) -> String {
        match self {
            Command::Messages {
                pairs,
                window,
                message,
            } => {
                format!(
                    "messages, {pairs} pairs, window {window}, {}",
                    message.row()
                )
            }
            Command::Rate {
                pairs,
                rate,
                message,
            } => {
                format!("rate {rate}/s, {pairs} pairs, {}", message.row())
            }
            Command::First { links } => format!("first message, {links} pairs"),
            Command::Login {
                concurrency,
                contacts: 0,
                ..
            } => format!("login, {concurrency} at a time"),
            Command::Login {
                concurrency,
                contacts,
                online,
            } => {
                format!("login, {concurrency} at a time, {contacts} contacts, {online} online")
            }
            Command::Idle {
                sessions,
                contacts: 0,
                ..
            } => format!("idle, {sessions} sessions"),
            Command::Idle {
                sessions, contacts, ..
            } => {
                format!("idle, {sessions} sessions, {contacts} contacts")
            }
            Command::Presence {
                sessions,
                contacts,
                window,
            } => {
                format!("presence, {sessions} sessions, {contacts} contacts, window {window}")
            }
            Command::Subscribe { pairs, concurrency } => {
                format!("subscribe, {pairs} pairs, {concurrency} at a time")
            }
            Command::Contacts { sessions, contacts } => {
                format!("contacts, {sessions} accounts, {contacts} each")
            }
            Command::Summary { .. } => "summary".into(),
            Command::Check => "check".into(),
        }
    }

    /// The shape of a message run.
    pub fn shape(&self) -> Option<Shape> {
        let (pairs, drive, message) = match self {
            Command::Messages {
                pairs,
                window,
                message,
            } => (*pairs, Drive::Window(*window), message),
            Command::Rate {
                pairs,
                rate,
                message,
            } => (*pairs, Drive::Rate(*rate), message),
            _ => return None,
        };
        Some(Shape {
            pairs,
            drive,
            size: message.size,
            to_bare: message.to == To::Bare,
        })
    }

    /// Sessions that are open at a time.
    fn sessions(&self) -> usize {
        match self {
            Command::Messages { pairs, .. }
            | Command::Rate { pairs, .. }
            | Command::Subscribe { pairs, .. } => pairs * 2,
            Command::First { links } => links * 2,
            Command::Login {
                concurrency,
                contacts: 0,
                ..
            } => *concurrency,
            // So that as many circles can have a login at a time, and all have their contacts.
            Command::Login {
                concurrency,
                contacts,
                ..
            } => (contacts + 1) * LOGIN_CIRCLES.max(*concurrency),
            Command::Idle { sessions, .. }
            | Command::Presence { sessions, .. }
            | Command::Contacts { sessions, .. } => *sessions,
            Command::Summary { .. } | Command::Check => 0,
        }
    }

    /// What its logins do beside logging in.
    fn manners(&self) -> Manners {
        match self {
            Command::Presence { .. } => Manners::Gathers,
            Command::Login { contacts, .. } | Command::Idle { contacts, .. } if *contacts > 0 => {
                Manners::Gathers
            }
            Command::Subscribe { .. } | Command::Contacts { .. } => Manners::ShowsItself,
            _ => Manners::Plain,
        }
    }
}

/// How sessions log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    /// With initial presence and no roster: all that messages need.
    Plain,
    /// As clients in daily use: the roster first, then presence with capabilities.
    ShowsItself,
    /// The same, but the run sends that presence, and checks whom it reaches.
    Gathers,
}

impl Message {
    fn row(&self) -> String {
        let to = if self.to == To::Full { "full" } else { "bare" };
        format!("{} B to {to} JIDs", self.size)
    }
}

impl Options {
    /// Warm-up and measured time.
    pub fn timing(&self) -> Timing {
        Timing {
            warm_up: Duration::from_secs_f64(self.warm_up_seconds.max(0.0)),
            measured: Duration::from_secs_f64(self.seconds.max(0.1)),
        }
    }

    /// What the logins share.
    pub fn logins(&self) -> Result<Logins, String> {
        let manners = self
            .command
            .as_ref()
            .map_or(Manners::Plain, Command::manners);
        if self.no_presence && manners != Manners::Plain {
            return Err("contacts and --no-presence do not go together".into());
        }
        let tls = TlsChoice {
            version: self.tls_version,
            groups: self.groups.clone(),
        };
        Ok(Logins {
            domain: self.domain.clone(),
            accounts: self.accounts()?,
            context: tls.context()?,
            direct_tls: self.tls == Tls::Direct,
            mechanism: self.mechanism,
            roster: manners != Manners::Plain,
            presence: match manners {
                Manners::Plain => Some("<presence/>".into()).filter(|_| !self.no_presence),
                Manners::ShowsItself => Some(answers::initial_presence()),
                Manners::Gathers => None,
            },
        })
    }

    /// Makes the accounts with the command of `--create`.
    ///
    /// # Errors
    /// If the command fails for one.
    pub fn create_accounts(&self) -> Result<(), String> {
        let Some(command) = &self.create else {
            return Ok(());
        };
        for account in self.accounts()? {
            let jid = format!("{}@{}", account.user, self.domain);
            create(command, &jid, &account.password)
                .map_err(|e| format!("--create, {jid}: {e}"))?;
        }
        Ok(())
    }

    /// Refuses a run that would meet the limit on open files half-way.
    pub fn check_open_files(&self) -> Result<(), String> {
        let limits = fs::read_to_string("/proc/self/limits").map_err(|e| e.to_string())?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let needed = self.command.as_ref().map_or(0, Command::sessions) + FILES_BESIDE;
        match soft {
            Some(soft) if needed > soft => Err(format!(
                "{needed} open files are needed and {soft} allowed; see ulimit -n"
            )),
            _ => Ok(()),
        }
    }

    fn accounts(&self) -> Result<Vec<Account>, String> {
        let sessions = self.command.as_ref().map_or(0, Command::sessions);
        let wanted = match (&self.command, self.accounts) {
            (_, Some(count)) => count,
            (Some(Command::Login { contacts: 0, .. }), None) => sessions.max(100),
            _ => sessions,
        };
        let mut accounts = match &self.accounts_file {
            Some(path) => {
                let text =
                    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                let lines = text
                    .lines()
                    .enumerate()
                    .filter(|(_, line)| !line.trim().is_empty());
                let parsed = lines.map(|(number, line)| {
                    let (user, password) = line.split_once(',').ok_or_else(|| {
                        format!(
                            "{}:{}: wanted localpart,password",
                            path.display(),
                            number + 1
                        )
                    })?;
                    Ok(self.account(user.trim(), password))
                });
                parsed.collect::<Result<Vec<_>, String>>()?
            }
            None => (0..wanted)
                .map(|index| {
                    let index = index.to_string();
                    let user = self.user_format.replace("{}", &index);
                    self.account(&user, &self.password_format.replace("{}", &index))
                })
                .collect(),
        };
        accounts.truncate(wanted);
        if let (Some(address), Some(domain)) = (self.peer_address, &self.peer_domain) {
            self.part(&mut accounts, address, domain);
        }
        if accounts.is_empty() {
            Err("there are no accounts".into())
        } else {
            Ok(accounts)
        }
    }

    fn account(&self, user: &str, password: &str) -> Account {
        Account {
            user: user.to_owned(),
            password: password.to_owned(),
            domain: self.domain.clone(),
            address: self.address,
            keys: None,
        }
    }

    /// Gives each pair, whose members follow one another, an end on another server. Both accounts have
    /// the name and password of the pair's number.
    fn part(&self, accounts: &mut [Account], address: SocketAddr, domain: &str) {
        for (index, account) in accounts.iter_mut().enumerate() {
            let pair = (index / 2).to_string();
            account.user = self.user_format.replace("{}", &pair);
            account.password = self.password_format.replace("{}", &pair);
            if index % 2 == 1 {
                account.domain = domain.replace("{}", &pair);
                account.address = address;
            }
        }
    }
}

fn create(command: &str, jid: &str, password: &str) -> Result<(), String> {
    let mut child = Process::new("sh")
        .args(["-c", command])
        .env("JID", jid)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    // A command that does not read its input is free to do so.
    let _ = writeln!(stdin, "{password}");
    drop(stdin);
    let status = child.wait().map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

fn tls_version(text: &str) -> Result<SslVersion, String> {
    match text {
        "1.2" => Ok(SslVersion::TLS1_2),
        "1.3" => Ok(SslVersion::TLS1_3),
        _ => Err("1.2 or 1.3".into()),
    }
}

fn mechanism(text: &str) -> Result<Mechanism, String> {
    let known = Mechanism::ALL
        .into_iter()
        .find(|mechanism| mechanism.name() == text);
    known.ok_or_else(|| Mechanism::ALL.map(Mechanism::name).join(", "))
}

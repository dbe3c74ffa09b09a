//! The command line: what may be asked, and with which exit status it ends.
//!
//! What a script reads goes to standard output, everything else to standard error. The exit status
//! is 0 when what was asked is done or true, 1 when not, 2 when the command was used wrongly.

mod account;
mod check;
mod ctl;
mod demo;
mod explain;
mod password;
mod run;
mod s2s;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::ctl::Reach;
use crate::config::{self, Settings};
use crate::log::for_people;
use crate::server::privileges;

/// An XMPP server.
#[derive(Debug, Parser)]
#[command(version, about, after_help = AFTER_HELP, arg_required_else_help = true)]
#[command(disable_help_subcommand = false, propagate_version = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Passwords are asked for, or read from standard input when it is not a terminal; they are never \
arguments. stanzad(8) tells more.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve in the foreground until SIGTERM or SIGINT
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Do not warn of running as root
        #[arg(long)]
        as_root: bool,
    },
    /// Serve two accounts on loopback from ./stanzad-demo, to try it out
    Demo,
    /// Check the configuration, certificates, DNS records and ports, or one of them
    #[command(args_conflicts_with_subcommands = true)]
    Check {
        #[command(subcommand)]
        what: Option<Check>,
        #[command(flatten)]
        all: CheckAll,
    },
    /// Manage accounts, whether the server runs or not
    #[command(subcommand)]
    Account(Account),
    /// Tell how the running server is
    Status {
        #[command(flatten)]
        server: Reach,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the sessions on the running server, or end some
    #[command(args_conflicts_with_subcommands = true)]
    Sessions {
        #[command(subcommand)]
        command: Option<Sessions>,
        #[command(flatten)]
        list: SessionList,
    },
    /// Tell why something is refused, or not
    #[command(subcommand)]
    Explain(Explain),
    /// Look at the streams with other servers
    #[command(subcommand)]
    S2s(S2s),
    /// Make the running server read its conf file and certificates again
    Reload {
        #[command(flatten)]
        server: Reach,
    },
    /// Stop the running server and wait until it has ended
    Stop {
        #[command(flatten)]
        server: Reach,
    },
}

#[derive(Debug, Subcommand)]
enum Sessions {
    /// List them; the same without this word
    List(SessionList),
    /// End one, or all of an account
    End {
        /// The session (full JID), or the account (bare JID)
        jid: String,
        #[command(flatten)]
        server: Reach,
    },
}

#[derive(Debug, Args)]
struct SessionList {
    /// Only those of this account (bare JID), or this one (full JID)
    jid: Option<String>,
    /// Only those of this domain
    #[arg(long, conflicts_with = "jid")]
    domain: Option<String>,
    #[command(flatten)]
    server: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Explain {
    /// Whether another server is talked with: the last attempts, and a try just now
    S2s {
        /// Its domain
        remote: String,
        /// The domain here that it is about; all that talk with other servers if it is not given
        #[arg(long, value_name = "DOMAIN")]
        from: Option<String>,
        #[command(flatten)]
        server: Reach,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum S2s {
    /// List them, with what has proven each and what waits
    List {
        /// Only those of this domain, here or elsewhere
        domain: Option<String>,
        #[command(flatten)]
        server: Reach,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Check {
    /// The conf file, what it names, and who can read and change the server's files
    Config {
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Print the pipeline of features too
        #[arg(short, long)]
        verbose: bool,
    },
    /// The DNS records that clients and other servers look for
    Dns(CheckAll),
    /// The certificates of each domain, as the listeners show them
    Certs(CheckAll),
    /// A real TLS handshake on each port of the running server, and a stream for each component
    Ports(CheckAll),
    /// TLS and certificates of any XMPP server
    Tls {
        /// Its domain, and a port if that is not to be looked up
        #[arg(value_name = "HOST[:PORT]")]
        host: String,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct CheckAll {
    #[command(flatten)]
    server: Reach,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Account {
    /// Make an account; its password is asked for
    Add(AccountName),
    /// Change an account's password and end its sessions
    Passwd(AccountName),
    /// Remove an account and all that is stored for it
    Delete(AccountName),
    /// List the accounts
    List {
        /// Only those of this domain
        domain: Option<String>,
        #[command(flatten)]
        config: ConfigFile,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Refuse an account's logins and end its sessions, but keep its data
    Disable(AccountName),
    /// Let a disabled account log in again
    Enable(AccountName),
}

#[derive(Debug, Args)]
struct AccountName {
    /// The account's bare JID, like juliet@example.org
    jid: String,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The conf file
    #[arg(long = "config", value_name = "FILE", default_value = config::DEFAULT_PATH)]
    path: PathBuf,
}

/// Why a command does not end with 0.
#[derive(Debug)]
enum Failure {
    /// It could not be done, or the answer is no (1).
    No(String),
    /// The same, and it has been said already (1).
    Said,
    /// The command was used wrongly (2).
    Usage(String),
}

impl Failure {
    fn no(text: impl Display) -> Failure {
        Failure::No(text.to_string())
    }
}

/// Runs the command that the process was started with. Wrong use and `--help` end the process here.
pub fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = privileges::survive_large_files() {
        complain(&format!(
            "a limit on the size of files would end this: {error}"
        ));
    }
    let done = match command {
        Command::Run { config, as_root } => run::run(&config.path, as_root),
        Command::Demo => demo::run(),
        Command::Check { what: None, all } => check::all(&all.server, all.json),
        Command::Check {
            what: Some(what), ..
        } => check(what),
        Command::Account(command) => account::run(command),
        Command::Status { server, json } => ctl::status(&server, json),
        Command::Sessions {
            command: Some(Sessions::End { jid, server }),
            ..
        } => ctl::end_sessions(&server, jid),
        Command::Sessions {
            command: Some(Sessions::List(list)),
            ..
        }
        | Command::Sessions {
            command: None,
            list,
        } => ctl::sessions(&list.server, list.jid, list.domain, list.json),
        Command::Explain(Explain::S2s {
            remote,
            from,
            server,
            json,
        }) => explain::s2s(&server, &remote, from, json),
        Command::S2s(S2s::List {
            domain,
            server,
            json,
        }) => s2s::list(&server, domain, json),
        Command::Reload { server } => ctl::reload(&server),
        Command::Stop { server } => ctl::stop(&server),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said) => ExitCode::from(1),
        Err(Failure::No(text)) => {
            complain(&text);
            ExitCode::from(1)
        }
        Err(Failure::Usage(text)) => {
            complain(&text);
            ExitCode::from(2)
        }
    }
}

fn check(what: Check) -> Result<(), Failure> {
    match what {
        Check::Config {
            config,
            json,
            verbose,
        } => check::config(&config.path, json, verbose),
        Check::Dns(CheckAll { server, json }) => check::dns(&server, json),
        Check::Certs(CheckAll { server, json }) => check::certs(&server, json),
        Check::Ports(CheckAll { server, json }) => check::ports(&server, json),
        Check::Tls { host, config, json } => check::tls(&config.path, &host, json),
    }
}

/// Says what is wrong. Where even standard error is gone, the exit status remains.
fn complain(text: &str) {
    // Whoever closed standard error does not want to hear it.
    let _ = writeln!(io::stderr(), "stanzad: {}", text.trim_end());
}

/// Remarks on what was done, for people.
fn remark(text: impl Display) {
    // As above: a remark is not worth failing for.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints a result. A reader that has seen enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::no(format_args!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Prints a result as one line of JSON.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_string(value).map_err(Failure::no)?;
    line.push('\n');
    print(&line)
}

/// Reads the conf file, or tells all that is wrong with it.
fn load(path: &std::path::Path) -> Result<Settings, Failure> {
    config::load(path).map_err(Failure::no)
}

/// Characters of a cell of a table, some of which others have written.
const CELL_CHARS_MAX: usize = 512;

/// Rows under a heading, columns as wide as they need to be, the last one ragged.
fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |row: &[String; N]| row.each_ref().map(|cell| for_people(cell, CELL_CHARS_MAX));
    let rows: Vec<[String; N]> = rows.iter().map(shown).collect();
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heading = heading.map(str::to_string);
    for row in std::iter::once(&heading).chain(&rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(&format!("{cell:width$}  "));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_password_is_not_taken_as_an_argument() {
        let given = ["stanzad", "account", "add", "juliet@example.org", "r0m30"];
        assert!(Cli::try_parse_from(given).is_err());
        let given = [
            "stanzad",
            "account",
            "add",
            "juliet@example.org",
            "--password=r0m30",
        ];
        assert!(Cli::try_parse_from(given).is_err());
    }

    #[test]
    fn the_conf_file_can_be_named_for_all_but_demo() {
        let named = |words: &[&str]| {
            let words = [&["stanzad"], words, &["--config", "x.toml"]].concat();
            Cli::try_parse_from(words).is_ok()
        };
        for words in [
            &["run"][..],
            &["check"],
            &["check", "config"],
            &["check", "dns"],
            &["check", "certs"],
            &["check", "ports"],
            &["check", "tls", "b"],
            &["account", "add", "a@b"],
            &["account", "passwd", "a@b"],
            &["account", "delete", "a@b"],
            &["account", "list"],
            &["account", "disable", "a@b"],
            &["account", "enable", "a@b"],
            &["status"],
            &["sessions"],
            &["sessions", "list"],
            &["sessions", "end", "a@b"],
            &["s2s", "list"],
            &["explain", "s2s", "b"],
            &["reload"],
            &["stop"],
        ] {
            assert!(named(words), "{words:?}");
        }
        assert!(!named(&["demo"]), "its conf file is its own");
    }

    /// A client names itself, and another server says why it talks with nobody.
    #[test]
    fn what_others_have_written_begins_no_row_and_drives_no_terminal() {
        let rows = [[format!("x\nromeo\u{9b}2J\u{202e}{}", "y".repeat(9_000))]];
        let told = table(["CLIENT"], &rows);
        let lines: Vec<&str> = told.lines().collect();
        assert!(
            lines.len() == 2 && lines[1].starts_with("x romeo 2J yy"),
            "{told}"
        );
        assert_eq!(lines[1].chars().count(), CELL_CHARS_MAX + 1);
    }

    #[test]
    fn a_table_lines_its_columns_up() {
        let rows = [
            ["juliet@example.org".to_string(), "yes".to_string()],
            ["ä@example.org".to_string(), String::new()],
        ];
        let expected = "JID                 ENABLED\n\
                        juliet@example.org  yes\n\
                        ä@example.org\n";
        assert_eq!(table(["JID", "ENABLED"], &rows), expected);
    }
}

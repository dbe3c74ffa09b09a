//! Drives any XMPP server with many TLS clients on one machine, and tells what each message, login
//! or idle session costs that server.
//!
//! It counts CPU time (user and system) of the server's processes, and latency as clients see it:
//! `messages` (a closed loop), `rate` (an open loop), `login`, `idle` (memory), `presence` (changes
//! in a closed loop), `subscribe` (mutual subscriptions), and `first` (the first message to each of
//! many domains of another server). With `--peer-address` pairs have one end on another server.
//! `contacts` sets up, over the wire, the rosters that `presence` needs, and `login` and `idle` where they are to have some. It serves
//! the comparison with other servers in README.md: run it against each in turn, on the same
//! machine, in the same hour; `compare.sh` does so. Its own CPU time is printed beside: on a
//! machine whose cores it shares with the server it should be the smaller part. One thread drives
//! all clients.

mod answers;
mod connection;
mod first;
mod fleet;
mod gathering;
mod histogram;
mod idle;
mod login;
mod login_contacts;
mod messages;
mod options;
mod people;
mod presence;
mod process;
mod report;
mod roster;
mod scanner;
mod scram;
mod sequence;
mod session;
mod subscribe;
mod subscription;
mod summary;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use fleet::Fleet;
use options::{Command, Options};
use people::Circles;
use process::Usage;
use report::Report;

/// How long a run warms up and is measured.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Reads the usage of the server, if its process is known, and of this process.
#[derive(Clone, Debug)]
pub struct Meter {
    pub server: Option<u32>,
    /// Another server, whose usage is added.
    pub peer: Option<u32>,
    /// How the names begin of those of the server's threads that are to share its work.
    pub threads: Option<String>,
}

/// What server and generator have used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub server: Option<Usage>,
    pub own: Usage,
}

impl Meter {
    /// The usage now.
    ///
    /// # Errors
    /// If the server is gone.
    pub fn read(&self) -> Result<Used, String> {
        let mut server = self.server.map(Usage::of).transpose()?;
        if let (Some(usage), Some(peer)) = (&mut server, self.peer) {
            *usage = usage.and(&Usage::of(peer)?);
        }
        Ok(Used {
            server,
            own: Usage::own(),
        })
    }

    /// CPU time of each of the server's threads that are watched, in a constant order.
    ///
    /// # Errors
    /// If there are none.
    pub fn threads(&self) -> Result<Vec<Duration>, String> {
        match (self.server, &self.threads) {
            (Some(server), Some(prefix)) => process::threads(server, prefix),
            _ => Ok(Vec::new()),
        }
    }
}

impl Used {
    /// CPU time since an earlier reading; memory as it is now.
    pub fn since(&self, earlier: &Used) -> Used {
        let server = self
            .server
            .zip(earlier.server)
            .map(|(now, then)| now.since(&then));
        Used {
            server,
            own: self.own.since(&earlier.own),
        }
    }

    /// CPU time of both together; memory as it was at the later.
    pub fn plus(&self, later: &Used) -> Used {
        let server = self.server.zip(later.server);
        Used {
            server: server.map(|(one, later)| one.plus(&later)),
            own: self.own.plus(&later.own),
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let command = options.command.as_ref().unwrap_or(&Command::Check);
    match command {
        Command::Check => {
            check();
            return Ok(());
        }
        Command::Summary {
            base,
            markdown,
            files,
        } => return summary::print(base, *markdown, files),
        _ => {}
    }
    let meter = Meter {
        server: options.pid,
        peer: options.peer_pid,
        threads: options.threads.clone(),
    };
    meter.read()?;
    let timing = options.timing();
    options.check_open_files()?;
    options.create_accounts()?;
    let row = options.row.clone().unwrap_or_else(|| command.row());
    let mut report = Report::new(options.label.clone(), row);
    if let Some(goal) = &options.goal {
        report.fact("goal", goal.clone());
    }
    report.fact(
        "generator's OpenSSL",
        openssl::version::version().to_owned(),
    );
    let mut fleet = Fleet::new(options.logins()?).map_err(|e| e.to_string())?;
    let outcome = measure(command, &mut fleet, timing, &meter, &mut report);
    if outcome.is_ok()
        && let Err(error) = fleet.dismiss()
    {
        // What was measured stands; the next run may meet them.
        eprintln!("load: {error}");
    }
    if report.is_empty() {
        return outcome;
    }
    if options.json {
        println!("{}", report.json());
        eprint!("{}", report.table());
    } else {
        print!("{}", report.table());
    }
    outcome
}

/// Runs a command that drives a server.
fn measure(
    command: &Command,
    fleet: &mut Fleet,
    timing: Timing,
    meter: &Meter,
    report: &mut Report,
) -> Result<(), String> {
    match *command {
        Command::Messages { .. } | Command::Rate { .. } => {
            let shape = command.shape().expect("both commands have a shape");
            messages::run(fleet, shape, timing, meter, report)
        }
        Command::First { links } => first::run(fleet, links, meter, report),
        Command::Login {
            concurrency,
            contacts: 0,
            ..
        } => login::run(fleet, concurrency, timing, meter, report),
        Command::Login {
            concurrency,
            contacts,
            online,
        } => {
            let shape = login_contacts::Shape {
                contacts,
                online,
                concurrency,
            };
            login_contacts::run(fleet, shape, timing, meter, report)
        }
        Command::Idle {
            sessions,
            contacts,
            settle_seconds,
        } => {
            let settle = Duration::from_secs(settle_seconds);
            idle::run(fleet, (sessions, contacts), settle, meter, report)
        }
        Command::Presence {
            sessions,
            contacts,
            window,
        } => {
            let shape = presence::Shape {
                sessions,
                contacts,
                window,
            };
            presence::run(fleet, shape, timing, meter, report)
        }
        Command::Subscribe { pairs, concurrency } => {
            subscribe::run(fleet, (pairs, concurrency), timing, meter, report)
        }
        Command::Contacts { sessions, contacts } => {
            let circles = Circles::new(contacts, sessions)?;
            subscribe::set_up(fleet, circles, meter, report)
        }
        Command::Check | Command::Summary { .. } => unreachable!("they drive no server"),
    }
}

/// What can be claimed without a server: `cargo test --benches` and `cargo bench` come here.
fn check() {
    answers::check();
    gathering::check();
    histogram::check();
    messages::check();
    people::check();
    presence::check();
    roster::check();
    scanner::check();
    scram::check();
    sequence::check();
    summary::check();
    println!("load: the generator's parts are right; --help tells how to drive a server");
}

//! Drives any XMPP server with many TLS clients on one machine, and tells what each message, login
//! or idle session costs that server.
//!
//! It counts CPU time (user and system) of the server's processes, and latency as clients see it:
//! `messages` (a closed loop), `rate` (an open loop), `login`, and `idle` (memory). It serves the
//! comparison with other servers in DESIGN §11: run it against each in turn, on the same machine, in
//! the same hour; `compare.sh` does so. Its own CPU time is printed beside: on a machine whose cores
//! it shares with the server it should be the smaller part. One thread drives all clients.

mod connection;
mod fleet;
mod histogram;
mod idle;
mod login;
mod messages;
mod options;
mod process;
mod report;
mod scanner;
mod scram;
mod sequence;
mod session;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use fleet::Fleet;
use options::{Command, Options};
use process::Usage;
use report::Report;

/// How long a run warms up and is measured.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Reads the usage of the server, if its process is known, and of this process.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    pub server: Option<u32>,
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
        let server = self.server.map(Usage::of).transpose()?;
        Ok(Used {
            server,
            own: Usage::own(),
        })
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
        Command::Ratios { base, files } => {
            print!("{}", report::ratios(base, files)?);
            return Ok(());
        }
        _ => {}
    }
    let meter = Meter {
        server: options.pid,
    };
    meter.read()?;
    let timing = options.timing();
    options.check_open_files()?;
    options.create_accounts()?;
    let mut report = Report::new(options.label.clone(), command.row());
    report.fact(
        "generator's OpenSSL",
        openssl::version::version().to_owned(),
    );
    let mut fleet = Fleet::new(options.address, options.logins()?).map_err(|e| e.to_string())?;
    let outcome = match command {
        Command::Messages { .. } | Command::Rate { .. } => {
            let shape = command.shape().expect("both commands have a shape");
            messages::run(&mut fleet, shape, timing, &meter, &mut report)
        }
        Command::Login { concurrency } => {
            login::run(&mut fleet, *concurrency, timing, &meter, &mut report)
        }
        Command::Idle {
            sessions,
            settle_seconds,
        } => {
            let settle = Duration::from_secs(*settle_seconds);
            idle::run(&mut fleet, *sessions, settle, &meter, &mut report)
        }
        Command::Check | Command::Ratios { .. } => unreachable!("they returned above"),
    };
    if report.is_empty() {
        return outcome;
    }
    if options.json {
        println!("{:#}", report.json());
        eprint!("{}", report.table());
    } else {
        print!("{}", report.table());
    }
    outcome
}

/// What can be claimed without a server: `cargo test --benches` and `cargo bench` come here.
fn check() {
    scanner::check();
    scram::check();
    histogram::check();
    messages::check();
    sequence::check();
    println!("load: the generator's parts are right; --help tells how to drive a server");
}

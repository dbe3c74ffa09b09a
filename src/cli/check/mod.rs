//! `stanzad check`: proves a deployment by using it, and tells all that is wrong at once.

mod certs;
mod config;
mod dns;
mod files;
mod ports;
mod shown;
mod tls;

use serde::Serialize;

use super::ctl::Reach;
use super::{Failure, load, print, print_json};

pub use config::config;

/// How good or bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Good,
    /// Nothing to worry about, yet worth knowing.
    Note,
    /// Somebody should look.
    Warning,
    /// Somebody will not get through.
    Problem,
}

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The check that it belongs to.
    check: &'static str,
    level: Level,
    /// The domain, file or address that it is about.
    about: String,
    text: String,
}

impl Finding {
    fn new(
        check: &'static str,
        level: Level,
        about: impl ToString,
        text: impl ToString,
    ) -> Finding {
        Finding {
            check,
            level,
            about: about.to_string(),
            text: text.to_string(),
        }
    }
}

/// `stanzad check` without a word: everything.
pub fn all(server: &Reach, json: bool) -> Result<(), Failure> {
    let file = server.conf_file();
    let mut findings = config::findings(file);
    if let Ok(settings) = load(file) {
        findings.extend(certs::findings(&settings));
        findings.extend(dns::findings(&settings, server));
        findings.extend(ports::findings(&settings, server));
    }
    tell(&findings, json)
}

/// `stanzad check certs`
pub fn certs(server: &Reach, json: bool) -> Result<(), Failure> {
    tell(&certs::findings(&load(server.conf_file())?), json)
}

/// `stanzad check dns`
pub fn dns(server: &Reach, json: bool) -> Result<(), Failure> {
    tell(&dns::findings(&load(server.conf_file())?, server), json)
}

/// `stanzad check ports`
pub fn ports(server: &Reach, json: bool) -> Result<(), Failure> {
    tell(&ports::findings(&load(server.conf_file())?, server), json)
}

/// `stanzad check tls`
pub fn tls(file: &std::path::Path, host: &str, json: bool) -> Result<(), Failure> {
    tell(&tls::findings(file, host)?, json)
}

/// Prints what was found. A problem is a no.
fn tell(findings: &[Finding], json: bool) -> Result<(), Failure> {
    let has_problem = findings.iter().any(|one| one.level == Level::Problem);
    if json {
        print_json(&serde_json::json!({ "ok": !has_problem, "findings": findings }))?;
    } else {
        print(&describe(findings))?;
    }
    match has_problem {
        true => Err(Failure::Said),
        false => Ok(()),
    }
}

fn describe(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let Finding {
            check, about, text, ..
        } = finding;
        let kind = match finding.level {
            Level::Good => "",
            Level::Note => "note: ",
            Level::Warning => "warning: ",
            Level::Problem => "PROBLEM: ",
        };
        out.push_str(&format!("{check}: {about}: {kind}{text}\n"));
    }
    let count = |level: Level| findings.iter().filter(|one| one.level == level).count();
    let counted = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        more => format!("{more} {noun}s"),
    };
    out.push_str(&format!(
        "{}, {}\n",
        counted(count(Level::Problem), "problem"),
        counted(count(Level::Warning), "warning")
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_and_are_counted() {
        let findings = [
            Finding::new("dns", Level::Good, "example.org", "fine"),
            Finding::new("certs", Level::Warning, "example.org", "ends soon"),
            Finding::new("ports", Level::Problem, "[::]:5222", "nobody listens"),
        ];
        let expected = "dns: example.org: fine\n\
                        certs: example.org: warning: ends soon\n\
                        ports: [::]:5222: PROBLEM: nobody listens\n\
                        1 problem, 1 warning\n";
        assert_eq!(describe(&findings), expected);
    }
}

//! `stanzad check config`: what is wrong with the conf file and with the modes of the files that the
//! server lives by, all at once, without starting anything.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use super::files::{self, hidden_from_server};
use super::{Failure, Level, print, print_json};
use crate::config::{self, Problem};
use crate::features::FEATURES;
use crate::net::tls::{TlsContexts, TlsSettings};
use crate::router::pipeline::Pipeline;
use crate::server::unusable_trust;

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    file: String,
    ok: bool,
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
}

/// One finding; without a line when it is not about a place in the file.
#[derive(Debug, Serialize)]
struct Finding {
    line: Option<usize>,
    column: Option<usize>,
    text: String,
}

impl Finding {
    fn at(problem: Problem) -> Finding {
        let placed = problem.line > 0;
        Finding {
            line: placed.then_some(problem.line),
            column: placed.then_some(problem.column),
            text: problem.text,
        }
    }

    fn anywhere(text: impl ToString) -> Finding {
        Finding {
            line: None,
            column: None,
            text: text.to_string(),
        }
    }
}

/// `stanzad check config`
pub fn config(path: &Path, json: bool, verbose: bool) -> Result<(), Failure> {
    let report = examine(path, true);
    if json {
        print_json(&report)?;
    } else {
        print(&describe(&report))?;
    }
    if verbose && !json {
        print(&Pipeline::new(FEATURES).describe())?;
    }
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Said)
    }
}

/// The same as findings among others; what `stanzad check certs` tells better is left to that.
pub(super) fn findings(path: &Path) -> Vec<super::Finding> {
    let report = examine(path, false);
    let file = &report.file;
    let kinds = [
        (Level::Problem, report.problems),
        (Level::Warning, report.warnings),
    ];
    let mut found = Vec::new();
    for (level, list) in kinds {
        found.extend(list.into_iter().map(|Finding { line, column, text }| {
            let about = match (line, column) {
                (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
                _ => file.clone(),
            };
            super::Finding::new("config", level, about, text)
        }));
    }
    if report.ok {
        found.push(super::Finding::new("config", Level::Good, file, "good"));
    }
    found
}

fn examine(path: &Path, with_certificates: bool) -> Report {
    let (problems, warnings) = match config::load(path) {
        Ok(settings) => {
            let unusable = unusable_trust(&settings).into_iter();
            let mut problems: Vec<_> = unusable.map(Finding::anywhere).collect();
            let mut warnings: Vec<_> = settings.warnings.iter().cloned().map(Finding::at).collect();
            for (level, text) in files::examine(path, &settings) {
                match level {
                    Level::Problem => problems.push(Finding::anywhere(text)),
                    _ => warnings.push(Finding::anywhere(text)),
                }
            }
            let loaded =
                with_certificates.then(|| TlsContexts::load(&TlsSettings::for_clients(&settings)));
            match loaded {
                None => {}
                Some(Ok((contexts, found))) => {
                    warnings.extend(found.into_iter().map(Finding::anywhere));
                    let infos = contexts.certificates().iter();
                    let read: BTreeSet<_> = infos
                        .flat_map(|info| [&info.file, &info.key_file])
                        .collect();
                    let hidden = read.into_iter();
                    let hidden = hidden.filter_map(|path| hidden_from_server(path, &settings));
                    warnings.extend(hidden.map(Finding::anywhere));
                }
                Some(Err(found)) => problems.extend(found.into_iter().map(Finding::anywhere)),
            }
            (problems, warnings)
        }
        Err(found) => (
            found.list.into_iter().map(Finding::at).collect(),
            Vec::new(),
        ),
    };
    Report {
        file: path.display().to_string(),
        ok: problems.is_empty(),
        problems,
        warnings,
    }
}

fn describe(report: &Report) -> String {
    let mut out = String::new();
    let file = &report.file;
    let kinds = [("", &report.problems), ("warning: ", &report.warnings)];
    for (kind, findings) in kinds {
        for Finding { line, column, text } in findings {
            match (line, column) {
                (Some(line), Some(column)) => {
                    out.push_str(&format!("{file}:{line}:{column}: {kind}{text}\n"));
                }
                _ => out.push_str(&format!("{file}: {kind}{text}\n")),
            }
        }
    }
    if report.ok {
        out.push_str(&format!("{file}: good\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(line: usize, text: &str) -> Finding {
        Finding::at(Problem {
            line,
            column: line.min(1),
            text: text.to_string(),
        })
    }

    #[test]
    fn a_finding_without_a_place_is_told_of_the_file() {
        let report = Report {
            file: "stanzad.toml".to_string(),
            ok: false,
            problems: vec![finding(3, "this is wrong"), finding(0, "and this")],
            warnings: vec![finding(4, "that is odd")],
        };
        let expected = "stanzad.toml:3:1: this is wrong\n\
                        stanzad.toml: and this\n\
                        stanzad.toml:4:1: warning: that is odd\n";
        assert_eq!(describe(&report), expected);
    }

    #[test]
    fn json_says_null_for_the_line_of_a_finding_without_a_place() {
        let text = serde_json::to_string(&finding(0, "odd")).unwrap();
        assert_eq!(text, r#"{"line":null,"column":null,"text":"odd"}"#);
    }
}

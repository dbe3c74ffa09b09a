//! What a run found: a table for people, JSON for `load ratios`, and the table of several servers.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::Used;
use crate::histogram::Histogram;

/// The facts and figures of one run, in the order they are shown.
#[derive(Debug)]
pub struct Report {
    label: String,
    row: String,
    facts: Vec<(String, String)>,
    figures: Vec<(String, f64, &'static str)>,
}

impl Report {
    /// `label` names the server, `row` the run.
    pub fn new(label: String, row: String) -> Report {
        Report {
            label,
            row,
            facts: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.figures.is_empty()
    }

    /// Adds what was true of the run.
    pub fn fact(&mut self, name: &str, value: String) {
        self.facts.push((name.into(), value));
    }

    /// Adds what was measured.
    pub fn figure(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figures.push((name.into(), value, unit));
    }

    /// Adds what TLS agreed on.
    pub fn tls(&mut self, facts: Option<[String; 3]>) {
        if let Some([version, cipher, group]) = facts {
            self.fact("TLS", format!("{version}, {cipher}, {group}"));
        }
    }

    /// Adds the CPU times of server and generator for each of `count` things in `took`.
    pub fn cpu(&mut self, what: &str, count: u64, took: Duration, used: Used) {
        let per = |time: Duration| time.as_secs_f64() * 1e6 / count.max(1) as f64;
        if let Some(server) = used.server {
            self.figure(&format!("server CPU per {what}"), per(server.cpu()), "us");
            self.figure("  user", per(server.user), "us");
            self.figure("  system", per(server.system), "us");
            let share = server.cpu().as_secs_f64() / took.as_secs_f64();
            self.figure("server CPU", share * 100.0, "% of a core");
        }
        self.figure(
            &format!("generator CPU per {what}"),
            per(used.own.cpu()),
            "us",
        );
    }

    /// Adds percentiles of durations.
    pub fn percentiles(&mut self, what: &str, histogram: &Histogram) {
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
            let micros = histogram.percentile(share).as_secs_f64() * 1e6;
            self.figure(&format!("{what} {name}"), micros, "us");
        }
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut table = format!("{}: {}\n", self.label, self.row);
        for (name, value) in &self.facts {
            table += &format!("  {name:<32}  {value}\n");
        }
        for (name, value, unit) in &self.figures {
            table += &format!("  {name:<32} {value:>12.1} {unit}\n");
        }
        table
    }

    /// The same for programs, as one object.
    pub fn json(&self) -> Value {
        let facts: Map<_, _> = self
            .facts
            .iter()
            .map(|(n, v)| (n.clone(), json!(v)))
            .collect();
        let figures = self.figures.iter().map(|(n, v, unit)| {
            (
                n.trim_start().to_owned(),
                json!({ "value": v, "unit": unit }),
            )
        });
        let figures: Map<_, _> = figures.collect();
        json!({ "label": self.label, "row": self.row, "facts": facts, "figures": figures })
    }
}

/// Figures that `load ratios` shows.
const COMPARED: [&str; 15] = [
    "server CPU per message",
    "server CPU per login",
    "server CPU per delivery",
    "server CPU per pair",
    "server memory per session",
    "latency p50",
    "latency p99",
    "messages a second",
    "logins a second",
    "deliveries a second",
    "pairs a second",
    "generator CPU per message",
    "generator CPU per login",
    "generator CPU per delivery",
    "generator CPU per pair",
];

/// The reports of one row, by the server's label.
type Row = BTreeMap<String, Value>;

/// Reads the files that runs with `--json` wrote, and shows for each row every server's figures, and
/// theirs divided by those of server `base`.
///
/// # Errors
/// If a file cannot be read or is no report.
pub fn ratios(base: &str, files: &[PathBuf]) -> Result<String, String> {
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut labels: Vec<String> = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let report: Value =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        let (Some(label), Some(row)) = (report["label"].as_str(), report["row"].as_str()) else {
            return Err(format!("{}: no label or no row", file.display()));
        };
        if !labels.iter().any(|known| known == label) {
            labels.push(label.to_owned());
        }
        rows.entry(row.to_owned())
            .or_default()
            .insert(label.to_owned(), report.clone());
    }
    labels.sort_by_key(|label| label != base);
    let mut table = String::new();
    for (name, row) in &rows {
        let heads: String = labels.iter().map(|label| format!("{label:<20}")).collect();
        table += &format!("{name}\n{:38}{}\n", "", heads.trim_end());
        COMPARED
            .iter()
            .for_each(|figure| table += &compared_line(figure, base, &labels, row));
        for (label, report) in row {
            let tls = report["facts"]["TLS"].as_str().unwrap_or("TLS unknown");
            table += &format!("  {label}: {tls}\n");
        }
    }
    Ok(table)
}

/// One figure of all servers; empty if none has it.
fn compared_line(name: &str, base: &str, labels: &[String], row: &Row) -> String {
    let figure = |label: &str| row.get(label)?["figures"][name]["value"].as_f64();
    let unit = row
        .values()
        .find_map(|report| report["figures"][name]["unit"].as_str());
    let Some(unit) = unit else {
        return String::new();
    };
    let based = figure(base).filter(|based| *based > 0.0);
    let mut line = format!("  {:<36}", format!("{name}, {unit}"));
    for label in labels {
        line += &match (figure(label), based) {
            (None, _) => format!("{:<20}", "-"),
            (Some(value), Some(based)) if label != base => {
                format!("{:<20}", format!("{value:.1} (x{:.2})", value / based))
            }
            (Some(value), _) => format!("{:<20}", format!("{value:.1}")),
        };
    }
    line.trim_end().to_owned() + "\n"
}

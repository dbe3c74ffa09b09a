//! The reports of many runs side by side: medians with their spread, and ratios.
//!
//! Runs of the same row and label are repetitions. A row compares servers, or states of one server;
//! it stands only if all its runs agreed on the same TLS version, suite, group and certificate.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::{Deserializer, Value};

/// Figures that are shown, in this order. Those of Markdown are the first [`MAIN`], where latency
/// is one only with a fixed rate: in a closed loop it says no more than the throughput.
const COMPARED: [&str; 20] = [
    "server CPU per message",
    "server CPU per login",
    "server CPU per delivery",
    "server CPU per pair",
    "server CPU per link",
    "first message p50",
    "server memory per session",
    "busiest over idlest thread",
    "latency p50",
    "latency p99",
    "time to online p50",
    "messages a second",
    "logins a second",
    "deliveries a second",
    "pairs a second",
    "generator CPU per message",
    "generator CPU per login",
    "generator CPU per delivery",
    "generator CPU per pair",
    "first message p99",
];
const MAIN: usize = 10;

/// All runs of one row, by label, both in the order they were first met.
#[derive(Debug)]
struct Row {
    name: String,
    runs: Vec<(String, Vec<Value>)>,
}

/// What repetitions found of one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread {
            median: (low + high) / 2.0,
            min,
            max,
        })
    }

    fn shown(&self) -> String {
        let digits = if self.median < 10.0 { 2 } else { 1 };
        let Spread { median, min, max } = self;
        if min == max {
            return format!("{median:.digits$}");
        }
        format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}

impl Row {
    fn spread(&self, label: &str, figure: &str) -> Option<Spread> {
        let (_, runs) = self.runs.iter().find(|(known, _)| known == label)?;
        let values = runs
            .iter()
            .filter_map(|run| run["figures"][figure]["value"].as_f64());
        Spread::of(values.collect())
    }

    fn reports(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.runs
            .iter()
            .flat_map(|(label, runs)| runs.iter().map(move |run| (label.as_str(), run)))
    }

    fn unit(&self, figure: &str) -> Option<&str> {
        self.reports()
            .find_map(|(_, run)| run["figures"][figure]["unit"].as_str())
    }

    fn fact(&self, name: &str) -> Option<&str> {
        self.reports()
            .find_map(|(_, run)| run["facts"][name].as_str())
    }

    /// The label that others are divided by.
    fn base<'a>(&'a self, wanted: &'a str) -> &'a str {
        let is_there = self.runs.iter().any(|(label, _)| label == wanted);
        if is_there { wanted } else { &self.runs[0].0 }
    }

    /// The lowest median of the others, divided by that of the base.
    fn ratio(&self, base: &str, figure: &str) -> Option<f64> {
        let based = self.spread(base, figure)?.median;
        let others = self.runs.iter().filter(|(label, _)| label != base);
        let lowest = others
            .filter_map(|(label, _)| Some(self.spread(label, figure)?.median))
            .reduce(f64::min)?;
        (based > 0.0).then(|| lowest / based)
    }

    /// What is wrong with the comparison itself.
    fn complaints(&self) -> Vec<String> {
        let mut agreed: Vec<(&str, &str)> = Vec::new();
        for (label, run) in self.reports() {
            let tls = run["facts"]["TLS"].as_str().unwrap_or("unknown");
            if !agreed.iter().any(|(_, known)| *known == tls) {
                agreed.push((label, tls));
            }
        }
        if agreed.len() < 2 {
            return Vec::new();
        }
        let complaint = |(label, tls): &(&str, &str)| format!("{label} agreed on {tls}");
        let all: Vec<_> = agreed.iter().map(complaint).collect();
        vec![format!("{}: TLS differs: {}", self.name, all.join("; "))]
    }

    /// What its runs warned of, once for each label.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (label, runs) in &self.runs {
            let warned: Vec<_> = runs
                .iter()
                .filter_map(|run| run["facts"]["warning"].as_str())
                .collect();
            if let Some(last) = warned.last() {
                let count = format!("{} of {} runs", warned.len(), runs.len());
                warnings.push(format!("{}, {label}, {count}: {last}", self.name));
            }
        }
        warnings
    }
}

/// Prints what the reports in the files tell.
///
/// # Errors
/// If a file cannot be read or holds what is no report, or TLS was not the same within a row.
pub fn print(base: &str, markdown: bool, files: &[PathBuf]) -> Result<(), String> {
    let mut rows = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        add(&mut rows, &text).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    print!(
        "{}",
        if markdown {
            in_markdown(base, &rows)
        } else {
            for_people(base, &rows)
        }
    );
    let complaints: Vec<_> = rows.iter().flat_map(Row::complaints).collect();
    if complaints.is_empty() {
        return Ok(());
    }
    Err(complaints.join("\n"))
}

/// Sorts the reports of a file into rows.
fn add(rows: &mut Vec<Row>, text: &str) -> Result<(), String> {
    for report in Deserializer::from_str(text).into_iter::<Value>() {
        let report = report.map_err(|e| e.to_string())?;
        let (Some(label), Some(name)) = (report["label"].as_str(), report["row"].as_str()) else {
            return Err("no label or no row".into());
        };
        let (label, name) = (label.to_owned(), name.to_owned());
        let at = rows.iter().position(|row| row.name == name);
        let at = at.unwrap_or_else(|| {
            let runs = Vec::new();
            rows.push(Row { name, runs });
            rows.len() - 1
        });
        let runs = &mut rows[at].runs;
        match runs.iter_mut().find(|(known, _)| *known == label) {
            Some((_, runs)) => runs.push(report),
            None => runs.push((label, vec![report])),
        }
    }
    Ok(())
}

fn for_people(base: &str, rows: &[Row]) -> String {
    let mut table = String::new();
    for row in rows {
        let base = row.base(base);
        let labels = || row.runs.iter().map(|(label, runs)| (label, runs.len()));
        let heads: String = labels()
            .map(|(label, runs)| format!("{:<27} ", format!("{label} (of {runs})")))
            .collect();
        let goal = row.fact("goal").unwrap_or_default();
        let _ = writeln!(table, "{}\n{:38}{heads}ratio  {goal}", row.name, "");
        for figure in COMPARED {
            let Some(unit) = row.unit(figure) else {
                continue;
            };
            let _ = write!(table, "  {:<36}", format!("{figure}, {unit}"));
            for (label, _) in labels() {
                let shown = row.spread(label, figure).map_or("-".into(), |s| s.shown());
                let _ = write!(table, "{shown:<27} ");
            }
            let ratio = row.ratio(base, figure);
            let ratio = ratio.filter(|_| !figure.ends_with(" a second"));
            let _ = writeln!(
                table,
                "{}",
                ratio.map_or(String::new(), |r| format!("{r:.2}"))
            );
        }
        let _ = writeln!(table, "  TLS: {}", row.fact("TLS").unwrap_or("unknown"));
    }
    for warning in rows.iter().flat_map(Row::warnings) {
        let _ = writeln!(table, "warning: {warning}");
    }
    table
}

/// One table of the rows that have the base and one of each kind that has not.
fn in_markdown(base: &str, rows: &[Row]) -> String {
    let mut tables = String::new();
    let mut heads: Vec<&String> = Vec::new();
    for row in rows {
        let labels: Vec<&String> = row.runs.iter().map(|(label, _)| label).collect();
        if labels != heads {
            let names: Vec<_> = labels.iter().map(|label| label.as_str()).collect();
            let _ = writeln!(tables, "\n| | {} | ratio | goal |", names.join(" | "));
            let _ = writeln!(tables, "|---|{}---|---|", "---|".repeat(labels.len()));
            heads = labels;
        }
        let is_main = |figure: &&&str| !figure.starts_with("latency") || row.name.contains("rate");
        for figure in COMPARED[..MAIN].iter().filter(is_main) {
            let Some(unit) = row.unit(figure) else {
                continue;
            };
            let unit = if unit == "us" { "µs" } else { unit };
            let _ = write!(tables, "| {}: {figure}, {unit} |", row.name);
            for label in &heads {
                let shown = row.spread(label, figure).map_or("-".into(), |s| s.shown());
                let _ = write!(tables, " {shown} |");
            }
            let ratio = row.ratio(row.base(base), figure);
            let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let goal = row.fact("goal").unwrap_or_default();
            let _ = writeln!(tables, " {ratio} | {goal} |");
        }
    }
    tables
}

/// Claims about summaries, run by `load check`.
pub fn check() {
    let report = |label: &str, cpu: f64, tls: &str| {
        format!(
            r#"{{"label":"{label}","row":"chat","facts":{{"TLS":"{tls}"}},
            "figures":{{"server CPU per message":{{"value":{cpu},"unit":"us"}}}}}}"#
        )
    };
    let mut text: String = [30.0, 10.0, 11.0]
        .map(|cpu| report("ours", cpu, "1.3"))
        .concat();
    text += &report("slow", 44.0, "1.3");
    text += &report("slower", 99.0, "1.3");
    let mut rows = Vec::new();
    add(&mut rows, &text).expect("the reports are well formed");
    let figure = "server CPU per message";
    let found = rows[0].spread("ours", figure).expect("it was measured");
    assert_eq!((found.median, found.min, found.max), (11.0, 10.0, 30.0));
    assert_eq!(rows[0].ratio("ours", figure), Some(4.0));
    assert!(rows[0].complaints().is_empty());
    assert!(in_markdown("ours", &rows).contains("| 11.0 (10.0-30.0) | 44.0 | 99.0 | 4.00 |"));
    add(&mut rows, &report("slow", 44.0, "1.2")).expect("the report is well formed");
    assert_eq!(rows[0].complaints().len(), 1, "TLS 1.2 beside 1.3 is told");
    assert!(add(&mut rows, "{}").is_err());
}

//! What a run found: a table for people, and JSON on one line for programs and `load summary`.

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
    pub fn tls(&mut self, facts: Option<[String; 4]>) {
        if let Some(facts) = facts {
            self.fact("TLS", facts.join(", "));
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

    /// Warns if a run of messages says more about the generator than about the server.
    pub fn compare_with_own(&mut self, used: Used) {
        let Some(server) = used.server else { return };
        if used.own.cpu() > server.cpu() {
            let share = used.own.cpu().as_secs_f64() / server.cpu().as_secs_f64().max(0.001);
            let warning = format!("the generator used {share:.2} times the server's CPU time");
            self.fact("warning", warning);
        }
    }

    /// Adds how unevenly threads of the server have worked, if there are several.
    pub fn threads(&mut self, used: &[Duration]) {
        let (Some(busiest), Some(idlest)) = (used.iter().max(), used.iter().min()) else {
            return;
        };
        let each: Vec<_> = used
            .iter()
            .map(|time| time.as_millis().to_string())
            .collect();
        self.fact("CPU of the threads", format!("{} ms", each.join(", ")));
        if used.len() > 1 {
            let ratio = busiest.as_secs_f64() / idlest.as_secs_f64().max(0.001);
            self.figure("busiest over idlest thread", ratio, "x");
        }
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

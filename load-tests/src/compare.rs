//! Reports of several servers side by side, as multiples of one of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::{fs, io};

use serde::Serialize;
use serde_json::Value;

/// What is compared: scenario, heading, place in the report (`*`: each of a list), factor to the heading's unit, decimals.
const FIGURES: [(&str, &str, &str, f64, usize); 11] = [
    ("closed", "records/s", "/steps/0/throughput", 1.0, 0),
    ("closed", "CPU µs/record", "/steps/0/server/us_each", 1.0, 1),
    ("closed", "ack p50 ms", "/steps/0/ack_latency_us/p50", 1e-3, 2),
    ("closed", "ack p99 ms", "/steps/0/ack_latency_us/p99", 1e-3, 2),
    ("open", "records/s", "/steps/0/throughput", 1.0, 0),
    ("open", "CPU µs/record", "/steps/0/server/us_each", 1.0, 1),
    ("open", "ack p50 ms", "/steps/0/ack_latency_us/p50", 1e-3, 2),
    ("open", "ack p99 ms", "/steps/0/ack_latency_us/p99", 1e-3, 2),
    ("storm", "handshakes/s", "/rounds/*/per_second", 1.0, 0),
    ("storm", "CPU µs/handshake", "/rounds/*/server/us_each", 1.0, 0),
    ("idle", "KiB/connection", "/idle/anonymous_bytes_each", 1.0 / 1024.0, 1),
];

/// Medians by scenario, figure and target.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What the others are multiples of.
    pub baseline: String,
    /// One per line of the table.
    pub lines: Vec<Line>,
    /// Anomalies of all runs, with the run's name.
    pub failures: Vec<String>,
}

/// One figure of all targets.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `closed`, `open`, `storm` or `idle`.
    pub scenario: &'static str,
    /// With its unit.
    pub figure: &'static str,
    /// By target.
    pub targets: BTreeMap<String, Cell>,
    #[serde(skip)]
    decimals: usize,
}

/// One figure of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Of the runs.
    pub median: f64,
    /// As multiple of the baseline's median.
    pub multiple: Option<f64>,
    /// Every run's.
    pub runs: Vec<f64>,
}

impl Comparison {
    /// Reads the `SCENARIO.TARGET.N.json` files of a folder.
    ///
    /// # Errors
    /// A file is unreadable or not JSON.
    pub fn read(dir: &Path, baseline: &str) -> io::Result<Self> {
        let mut reports: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
        let mut failures = Vec::new();
        for name in names(dir)? {
            let [scenario, target, _, "json"] = name.split('.').collect::<Vec<_>>()[..] else { continue };
            let report: Value = serde_json::from_slice(&fs::read(dir.join(&name))?)?;
            let failed = report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str);
            failures.extend(failed.map(|failure| format!("{name}: {failure}")));
            reports.entry((scenario.to_owned(), target.to_owned())).or_default().push(report);
        }
        let lines = FIGURES
            .iter()
            .map(|(scenario, figure, place, factor, decimals)| {
                let of_scenario = reports.iter().filter(|((of, _), _)| of == scenario);
                let runs = of_scenario.map(|((_, target), reports)| {
                    let values = reports.iter().flat_map(|report| values(report, place)).map(|value| value * factor);
                    (target.clone(), values.collect())
                });
                Line { scenario, figure, targets: cells(runs.collect(), baseline), decimals: *decimals }
            })
            .collect();
        Ok(Self { baseline: baseline.to_owned(), lines, failures })
    }

    /// The baseline first.
    fn targets(&self) -> Vec<&str> {
        let all: BTreeSet<_> = self.lines.iter().flat_map(|line| line.targets.keys()).map(String::as_str).collect();
        let (mut first, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|target| *target == self.baseline);
        first.extend(others);
        first
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let targets = self.targets();
        write!(f, "{:<8}{:<18}", "", "")?;
        targets.iter().try_for_each(|target| write!(f, "{target:>18}"))?;
        writeln!(f)?;
        for line in &self.lines {
            write!(f, "{:<8}{:<18}", line.scenario, line.figure)?;
            for target in &targets {
                write!(f, "{:>18}", line.targets.get(*target).map_or("-".to_owned(), |cell| cell.text(line.decimals)))?;
            }
            writeln!(f)?;
        }
        writeln!(f, "(medians; ×: multiple of {} in the same run)", self.baseline)?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "FAILED {failure}"))
    }
}

impl Cell {
    fn text(&self, decimals: usize) -> String {
        let multiple = self.multiple.map_or_else(String::new, |multiple| format!(" ×{multiple:.2}"));
        format!("{:.decimals$}{multiple}", self.median)
    }
}

/// The numbers at a place in a report.
fn values(report: &Value, place: &str) -> Vec<f64> {
    match place.split_once("/*") {
        None => report.pointer(place).and_then(Value::as_f64).into_iter().collect(),
        Some((list, place)) => {
            let entries = report.pointer(list).and_then(Value::as_array).into_iter().flatten();
            entries.filter_map(|entry| entry.pointer(place)?.as_f64()).collect()
        }
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    let mut names: Vec<_> = entries.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn cells(runs: BTreeMap<String, Vec<f64>>, baseline: &str) -> BTreeMap<String, Cell> {
    let base = runs.get(baseline).and_then(|runs| median(runs));
    let cell = |(target, runs): (String, Vec<f64>)| {
        let median = median(&runs)?;
        let multiple = base.filter(|base| target != baseline && *base > 0.0).map(|base| median / base);
        Some((target, Cell { median, multiple, runs }))
    };
    runs.into_iter().filter_map(cell).collect()
}

/// The mean of the middle two of an even number.
fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn compares_medians_with_the_baseline_and_repeats_failures() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str, report: Value| fs::write(dir.path().join(name), report.to_string()).expect("written");
        let closed = |us: f64, failures: Value| json!({"steps": [{"throughput": 5e4, "server": {"us_each": us}}], "failures": failures});
        write("closed.floor.1.json", closed(5.0, json!([])));
        write("closed.floor.2.json", closed(7.0, json!([])));
        write("closed.kafka.1.json", closed(12.0, json!(["3 error responses"])));
        let storm = json!({"rounds": [{"per_second": 10.0}, {"per_second": 30.0}, {"per_second": 20.0}]});
        write("storm.kafka.1.json", storm);
        write("notes.txt", json!(null));
        let comparison = Comparison::read(dir.path(), "floor").expect("read");
        let line = &comparison.lines[1];
        assert_eq!(line.targets["floor"].median, 6.0);
        assert_eq!(line.targets["kafka"].multiple, Some(2.0));
        assert_eq!(comparison.failures, ["closed.kafka.1.json: 3 error responses"]);
        assert_eq!(comparison.lines[8].targets["kafka"].median, 20.0, "of all rounds");
        let table = comparison.to_string();
        assert!(table.contains("12.0 ×2.00") && table.contains("50000 ×1.00"), "{table}");
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}

//! Reports of several servers side by side, as multiples of one of them.

mod figures;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::{fs, io};

use serde::Serialize;
use serde_json::{Value, json};

use self::figures::{Bound, Figure, SCENARIOS, bound};

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
    /// With its size, if it has several.
    pub scenario: String,
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
    /// What it should keep to, if anything.
    pub target: Option<Kept>,
    /// Every run's.
    pub runs: Vec<f64>,
}

/// A bound, and whether it was kept.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    /// With its sign.
    pub bound: String,
    /// Whether the median keeps to it.
    pub met: bool,
}

/// A scenario of several sizes has its size, such as the number of vehicles.
type Scenario = (String, Option<u32>);

/// Of one scenario, by target.
type Reports = BTreeMap<String, Vec<Value>>;

impl Comparison {
    /// Reads the `SCENARIO.TARGET.N.json` files of a folder.
    ///
    /// # Errors
    /// A file is unreadable or not JSON.
    pub fn read(dir: &Path, baseline: &str) -> io::Result<Self> {
        let mut scenarios: BTreeMap<Scenario, Reports> = BTreeMap::new();
        let mut failures = Vec::new();
        for name in names(dir)? {
            let [scenario, target, _, "json"] = name.split('.').collect::<Vec<_>>()[..] else { continue };
            let report: Value = serde_json::from_slice(&fs::read(dir.join(&name))?)?;
            let failed = report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str);
            failures.extend(failed.map(|failure| format!("{name}: {failure}")));
            for (scenario, report) in by_size(scenario, report) {
                scenarios.entry(scenario).or_default().entry(target.to_owned()).or_default().push(report);
            }
        }
        let lines = SCENARIOS.iter().flat_map(|(name, figures)| {
            let sizes = scenarios.iter().filter(move |((of, _), _)| of == name);
            sizes.flat_map(|((_, size), reports)| {
                figures.iter().map(|figure| Line::new(name, *size, figure, reports, baseline))
            })
        });
        Ok(Self { baseline: baseline.to_owned(), lines: lines.collect(), failures })
    }

    /// The baseline first.
    fn targets(&self) -> Vec<&str> {
        let all: BTreeSet<_> = self.lines.iter().flat_map(|line| line.targets.keys()).map(String::as_str).collect();
        let (mut first, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|target| *target == self.baseline);
        first.extend(others);
        first
    }
}

impl Line {
    fn new(scenario: &str, size: Option<u32>, figure: &Figure, reports: &Reports, baseline: &str) -> Self {
        let runs = |reports: &[Value]| -> Vec<f64> {
            reports.iter().flat_map(|report| values(report, figure.place)).map(|value| value * figure.factor).collect()
        };
        let base = reports.get(baseline).and_then(|reports| median(&runs(reports)));
        let cells = reports.iter().filter_map(|(target, reports)| {
            let runs = runs(reports);
            let median = median(&runs)?;
            let multiple = base.filter(|base| target != baseline && *base > 0.0).map(|base| median / base);
            let kept = bound(scenario, figure.heading, target).and_then(|bound| bound.of(median, multiple));
            Some((target.clone(), Cell { median, multiple, target: kept, runs }))
        });
        Self {
            scenario: size.map_or_else(|| scenario.to_owned(), |size| format!("{scenario}-{size}")),
            figure: figure.heading,
            targets: cells.collect(),
            decimals: figure.decimals,
        }
    }

    /// What it should keep to, and whether it does; empty when nothing is asked of it.
    fn verdict(&self) -> String {
        let kept = |(name, cell): (&String, &Cell)| {
            let Kept { bound, met } = cell.target.as_ref()?;
            Some(format!("{name} {bound} {}", if *met { "met" } else { "missed" }))
        };
        self.targets.iter().filter_map(kept).collect::<Vec<_>>().join(", ")
    }
}

impl Bound {
    /// `None` for a multiple when the baseline was not measured.
    fn of(self, median: f64, multiple: Option<f64>) -> Option<Kept> {
        Some(match self {
            Self::AtMost(most) => Kept { bound: format!("≤{most}"), met: median <= most },
            Self::Multiple(most) => Kept { bound: format!("≤×{most}"), met: multiple? <= most },
        })
    }
}

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let targets = self.targets();
        write!(f, "{:<14}{:<17}", "", "")?;
        targets.iter().try_for_each(|target| write!(f, "{target:>16}"))?;
        writeln!(f, "  target")?;
        for line in &self.lines {
            write!(f, "{:<14}{:<17}", line.scenario, line.figure)?;
            for target in &targets {
                write!(f, "{:>16}", line.targets.get(*target).map_or("-".to_owned(), |cell| cell.text(line.decimals)))?;
            }
            writeln!(f, "  {}", line.verdict())?;
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

/// A scenario's name and size. A ramp is a scenario of several sizes in one report.
fn by_size(scenario: &str, report: Value) -> Vec<(Scenario, Value)> {
    if scenario == "ramp" {
        let steps = report["idle"].as_array().into_iter().flatten();
        let size = |step: &Value| step["vehicles"].as_u64().and_then(|vehicles| vehicles.try_into().ok());
        return steps.map(|step| ((scenario.to_owned(), size(step)), json!({ "idle": [step] }))).collect();
    }
    let sized = scenario.rsplit_once('-').and_then(|(name, size)| Some((name, size.parse().ok()?)));
    let (name, size) = sized.map_or((scenario, None), |(name, size)| (name, Some(size)));
    vec![((name.to_owned(), size), report)]
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

    fn line<'a>(comparison: &'a Comparison, scenario: &str, figure: &str) -> &'a Line {
        let mut lines = comparison.lines.iter();
        lines.find(|line| line.scenario == scenario && line.figure == figure).expect("a line")
    }

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
        let cpu = line(&comparison, "closed", "CPU µs/record");
        assert_eq!(cpu.targets["floor"].median, 6.0);
        assert_eq!(cpu.targets["kafka"].multiple, Some(2.0));
        assert_eq!(comparison.failures, ["closed.kafka.1.json: 3 error responses"]);
        assert_eq!(line(&comparison, "storm", "handshakes/s").targets["kafka"].median, 20.0, "of all rounds");
        let table = comparison.to_string();
        assert!(table.contains("12.0 ×2.00") && table.contains("50000 ×1.00"), "{table}");
    }

    #[test]
    fn a_bound_is_met_or_missed_and_is_the_same_for_every_size() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str, report: Value| fs::write(dir.path().join(name), report.to_string()).expect("written");
        let idle = |kib: f64| json!({"idle": [{"anonymous_bytes_each": kib * 1024.0}]});
        write("idle-9000.null.1.json", idle(12.5));
        write("idle-5000.null.1.json", idle(12.0));
        write("idle-5000.floor.1.json", idle(11.0));
        let storm = |us: f64| json!({"rounds": [{"server": {"us_each": us}}]});
        write("storm-1000.floor.1.json", storm(100.0));
        write("storm-1000.kafka.1.json", storm(126.0));
        write("storm-9000.kafka.1.json", storm(126.0));
        let comparison = Comparison::read(dir.path(), "floor").expect("read");
        let verdict = |scenario, figure| line(&comparison, scenario, figure).verdict();
        assert_eq!(verdict("idle-5000", "KiB/connection"), "null ≤12 met");
        assert_eq!(verdict("idle-9000", "KiB/connection"), "null ≤12 missed");
        assert_eq!(verdict("storm-1000", "CPU µs/handshake"), "kafka ≤×1.25 missed");
        assert_eq!(verdict("storm-9000", "CPU µs/handshake"), "", "there is nothing to be a multiple of");
        assert!(comparison.failures.is_empty(), "a missed bound is no anomaly");
        let table = comparison.to_string();
        assert!(table.find("idle-5000") < table.find("idle-9000"), "{table}");
    }

    #[test]
    fn each_step_of_a_ramp_has_its_own_lines() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let step = |vehicles: u32, kib: u32| json!({"vehicles": vehicles, "anonymous_bytes_each": kib * 1024});
        let report = json!({"idle": [step(900, 11), step(12_000, 10)]});
        fs::write(dir.path().join("ramp.null.1.json"), report.to_string()).expect("written");
        let comparison = Comparison::read(dir.path(), "floor").expect("read");
        assert_eq!(line(&comparison, "ramp-900", "KiB/connection").targets["null"].median, 11.0);
        assert_eq!(line(&comparison, "ramp-12000", "KiB/connection").targets["null"].median, 10.0);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}

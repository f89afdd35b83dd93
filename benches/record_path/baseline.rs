//! Compares what was counted with what is committed in `baseline.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// An operation may cost so much more than in the baseline.
const TOLERANCE: f64 = 0.03;

/// Counts per operation.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What the counts depend on besides this repository.
    pub(crate) made_with: Circumstances,
    /// By operation.
    pub(crate) operations: BTreeMap<String, Counts>,
}

/// Other compilers make other code, and the C library picks its routines by the processor.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Circumstances {
    /// `rustc --version`.
    pub(crate) rustc: String,
    /// `valgrind --version`.
    pub(crate) valgrind: String,
    /// Architecture.
    pub(crate) arch: String,
}

/// Of one operation.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// In user space.
    pub(crate) instructions: u64,
    /// Calls of the allocator, rounded down.
    pub(crate) allocations: u64,
}

/// How the counts compare.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Operations that cost more than the tolerance allows, a line each.
    pub(crate) worse: Vec<String>,
    /// Why nothing follows from that, if so.
    pub(crate) not_comparable: Option<String>,
}

impl Circumstances {
    /// Of this machine.
    pub(crate) fn here() -> Self {
        let version = |program: &str| {
            let output = Command::new(program).arg("--version").output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        Self { rustc: version("rustc"), valgrind: version("valgrind"), arch: std::env::consts::ARCH.to_owned() }
    }
}

impl Baseline {
    /// The committed one.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub(crate) fn committed() -> Result<Self, String> {
        let path = path();
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Puts this in the place of the committed one.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn commit(&self) -> Result<PathBuf, String> {
        let path = path();
        let text = serde_json::to_string_pretty(self).expect("string keys") + "\n";
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// The change of an operation against `self`, for the table.
    pub(crate) fn change(&self, operation: &str, now: Counts) -> String {
        match self.operations.get(operation) {
            None => "new".to_owned(),
            Some(before) => format!("{:+.1} %", 100.0 * (ratio(*before, now) - 1.0)),
        }
    }

    /// Whether `now` is worse than `self`.
    pub(crate) fn judge(&self, now: &Self) -> Verdict {
        let worse = now.operations.iter().filter_map(|(operation, now)| {
            let before = self.operations.get(operation)?;
            let more = ratio(*before, *now) > 1.0 + TOLERANCE;
            if more || now.allocations > before.allocations {
                return Some(format!(
                    "{operation}: {} instructions and {} allocations; the baseline has {} and {}",
                    now.instructions, now.allocations, before.instructions, before.allocations
                ));
            }
            None
        });
        let (made_with, here) = (&self.made_with, &now.made_with);
        let not_comparable =
            (made_with != here).then(|| format!("the baseline was made with {made_with:?}, this is {here:?}"));
        Verdict { worse: worse.collect(), not_comparable }
    }
}

fn ratio(before: Counts, now: Counts) -> f64 {
    now.instructions as f64 / before.instructions.max(1) as f64
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "benches", "record_path", "baseline.json"].iter().collect()
}

/// Run by the benchmark itself when cargo runs it as a test: it has no test harness.
pub(crate) fn check_judgement() {
    let circumstances = || Circumstances { rustc: "r".into(), valgrind: "v".into(), arch: "a".into() };
    let counts = |instructions, allocations| Baseline {
        made_with: circumstances(),
        operations: BTreeMap::from([("parse".to_owned(), Counts { instructions, allocations })]),
    };
    let before = counts(1000, 2);
    assert!(before.judge(&counts(1030, 2)).worse.is_empty(), "3 % more is tolerated");
    assert_eq!(before.judge(&counts(1031, 2)).worse.len(), 1);
    assert_eq!(before.judge(&counts(900, 3)).worse.len(), 1, "an allocation more");
    assert!(before.judge(&counts(1031, 2)).not_comparable.is_none());
    let mut elsewhere = counts(1031, 2);
    elsewhere.made_with.rustc = "another".into();
    assert!(before.judge(&elsewhere).not_comparable.is_some());
    assert_eq!(before.change("parse", Counts { instructions: 1010, allocations: 2 }), "+1.0 %");
    assert_eq!(before.change("other", Counts { instructions: 1, allocations: 0 }), "new");
}

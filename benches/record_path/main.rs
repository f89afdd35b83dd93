//! What the record path costs per operation: instructions and allocations, counted by valgrind, and wall time.
//!
//! `cargo bench --bench record_path` runs every case under valgrind, by executing itself with a case and a
//! number of iterations. Two numbers of iterations tell the cost of an operation from that of the process.
//! Prints a table, writes `target/bench/record_path.json`, and fails when an operation costs over 3 % more than
//! `baseline.json` says, or allocates more often. `-- --save-baseline` replaces that file.
//!
//! A second table has the messages of a megabyte that cost the most. It fails, too, when one of them costs over
//! 2.3 times as much as one of half the length.

mod baseline;
mod cases;
mod intake;
mod worst;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use baseline::{Baseline, Circumstances, Counts};
use cases::{CASES, Case};
use worst::{MESSAGE_BYTES, WORST, Worst};

/// Iterations under valgrind: the difference is what is divided.
const FEW: u64 = 1_000;
const MANY: u64 = 11_000;

/// Iterations for the wall time.
const TIMED: u64 = 200_000;

/// A message may cost so many times as much as one of half its length: twice, and what sorting names adds.
const MOST_GROWTH: f64 = 2.3;

/// How this program calls itself.
const CHILD: &str = "--case";
const WORST_CHILD: &str = "--worst";
const SAVE: &str = "--save-baseline";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CHILD) {
        let (name, iterations) = (&arguments[at + 1], arguments[at + 2].parse().expect("a number of iterations"));
        let (_, case) = CASES.iter().find(|(known, _)| known == name).expect("a known case");
        case(iterations);
        return ExitCode::SUCCESS;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == WORST_CHILD) {
        let number = |at: usize| arguments[at].parse::<usize>().expect("a number");
        let worst = Worst::by_name(&arguments[at + 1]).expect("a known message");
        worst.run(number(at + 2), number(at + 3) as u64);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` only wants to know that everything runs.
        CASES.iter().for_each(|(_, case)| case(2));
        WORST.iter().for_each(|worst| assert!(worst.run(1_000, 1) > 0, "{}", worst.name));
        baseline::check_judgement();
        return ExitCode::SUCCESS;
    }
    match report(arguments.iter().any(|argument| argument == SAVE)) {
        Ok(code) => code,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn report(save: bool) -> Result<ExitCode, String> {
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|output| output.status.success()) {
        return Err("valgrind is not installed; it counts the instructions (Debian: apt-get install valgrind)".into());
    }
    let committed = if save { None } else { Some(Baseline::committed()?) };
    let (frame, payload) = cases::sizes();
    println!("frame {frame} bytes, payload {payload} bytes");
    println!("{:<28} {:>14} {:>10} {:>12} {:>10}", "operation", "instructions", "change", "allocations", "ns");
    let mut measured = serde_json::Map::new();
    let mut now = Baseline { made_with: Circumstances::here(), operations: BTreeMap::new() };
    for (name, case) in CASES {
        let counts = counts(name)?;
        let nanoseconds = nanoseconds(case);
        let Counts { instructions, allocations } = counts;
        let change = committed.as_ref().map_or_else(String::new, |before| before.change(name, counts));
        println!("{name:<28} {instructions:>14} {change:>10} {allocations:>12} {nanoseconds:>10.1}");
        let figures =
            serde_json::json!({ "instructions": instructions, "allocations": allocations, "ns": nanoseconds });
        measured.insert(name.into(), figures);
        now.operations.insert(name.into(), counts);
    }
    let not_linear = report_worst(committed.as_ref(), &mut now)?;
    write(&target_folder()?.join("bench/record_path.json"), &serde_json::Value::Object(measured).to_string())?;
    not_linear.iter().for_each(|line| eprintln!("NOT LINEAR {line}"));
    if !not_linear.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let Some(committed) = committed else {
        println!("written to {}", now.commit()?.display());
        return Ok(ExitCode::SUCCESS);
    };
    let verdict = committed.judge(&now);
    verdict.worse.iter().for_each(|line| eprintln!("WORSE {line}"));
    if let Some(reason) = &verdict.not_comparable {
        eprintln!("not judged: {reason}");
        return Ok(ExitCode::SUCCESS);
    }
    Ok(if verdict.worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The table of hostile messages; those that cost more than twice as much when they are twice as long.
fn report_worst(committed: Option<&Baseline>, now: &mut Baseline) -> Result<Vec<String>, String> {
    println!(
        "\n{:<28} {:>14} {:>10} {:>12} {:>10} {:>10}",
        "message of 1 MB", "instructions", "change", "half, times", "ms", "bytes out"
    );
    let mut not_linear = Vec::new();
    for worst in &WORST {
        let instructions = |size: usize| {
            let of = |times: u64| instructions(&[WORST_CHILD, worst.name, &size.to_string(), &times.to_string()]);
            Ok::<_, String>(of(1)?.saturating_sub(of(0)?))
        };
        let (half, whole) = (instructions(MESSAGE_BYTES / 2)?, instructions(MESSAGE_BYTES)?);
        let growth = whole as f64 / half.max(1) as f64;
        let (milliseconds, out) = worst.milliseconds();
        let counts = Counts { instructions: whole, allocations: 0 };
        let change = committed.map_or_else(String::new, |before| before.change(worst.name, counts));
        println!("{:<28} {whole:>14} {change:>10} {growth:>12.2} {milliseconds:>10.1} {out:>9.1}x", worst.name);
        now.operations.insert(worst.name.into(), counts);
        if growth > MOST_GROWTH {
            not_linear.push(format!("{}: {whole} instructions, {half} for one of half its length", worst.name));
        }
    }
    Ok(not_linear)
}

fn counts(case: &str) -> Result<Counts, String> {
    let per_iteration = |count: &dyn Fn(&[&str]) -> Result<u64, String>| {
        let [few, many] = [FEW, MANY].map(|iterations| count(&[CHILD, case, &iterations.to_string()]));
        Ok::<_, String>(many?.saturating_sub(few?) / (MANY - FEW))
    };
    let allocations = |arguments: &[&str]| {
        let log = valgrind(&["--tool=memcheck", "--leak-check=no", "--undef-value-errors=no"], arguments)?;
        number_behind(&log, "total heap usage: ").ok_or(log)
    };
    Ok(Counts { instructions: per_iteration(&instructions)?, allocations: per_iteration(&allocations)? })
}

/// Of the whole process when it calls itself so.
fn instructions(arguments: &[&str]) -> Result<u64, String> {
    let log = valgrind(&["--tool=callgrind", "--callgrind-out-file=/dev/null"], arguments)?;
    number_behind(&log, "Collected : ").ok_or(log)
}

/// The log of a valgrind tool over the whole process, which calls itself with these arguments.
fn valgrind(tool: &[&str], arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("valgrind")
        .args(tool)
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .args(arguments)
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(log) } else { Err(format!("valgrind failed on {arguments:?}:\n{log}")) }
}

/// The first number behind `label`, which may have commas in it.
fn number_behind(log: &str, label: &str) -> Option<u64> {
    let digits = log.lines().find_map(|line| line.split_once(label))?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(digits.len());
    digits[..end].replace(',', "").parse().ok()
}

/// The best of five runs, per operation.
fn nanoseconds(case: Case) -> f64 {
    let run = || {
        let start = Instant::now();
        case(TIMED);
        start.elapsed().as_secs_f64() * 1e9 / TIMED as f64
    };
    (0..5).map(|_| run()).fold(f64::INFINITY, f64::min)
}

/// The executable is in `target/<profile>/deps`.
fn target_folder() -> Result<PathBuf, String> {
    let executable = std::env::current_exe().map_err(|error| error.to_string())?;
    executable.ancestors().nth(3).map(Path::to_owned).ok_or_else(|| "the executable is not in target/".into())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().expect("the file is in a folder");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

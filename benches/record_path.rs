//! What the record path costs per operation: instructions, counted by valgrind, and wall time.
//!
//! `cargo bench --bench record_path` runs every case under callgrind, by executing itself with a case and a
//! number of iterations. Two numbers of iterations tell the cost of an operation from that of the process.
//! Prints a table and writes `target/bench/record_path.json`.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use fleet_telemetry::envelope::{Envelope, message, reply};
use fleet_telemetry::permissions::{Action, Filter, Mode, Rules, Scope, Scopes};
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, ShiftState, Value, value};
use fleet_telemetry::record::{RecordKind, json, transform};
use prost::Message;

const VIN: &str = "5YJ3E1EA7JF000001";

/// Iterations under callgrind: the difference is what is divided.
const FEW: u64 = 100;
const MANY: u64 = 1_100;

/// Iterations for the wall time.
const TIMED: u64 = 1_000_000;

type Case = (&'static str, fn(u64));

const CASES: [Case; 11] = [
    ("envelope_parse", envelope_parse),
    ("rewrite_v_10_fields", rewrite_v),
    ("rewrite_v_string_location", rewrite_v_string_location),
    ("filter_allowed", filter_allowed),
    ("filter_denied_no_location", filter_denied_without_location),
    ("filter_off_no_location", filter_off_without_location),
    ("filter_denied_location", filter_denied),
    ("filter_denied_coarsen", filter_denied_coarsen),
    ("created_at", created_at),
    ("reply_ack", reply_ack),
    ("json_v_10_fields", json_v),
];

/// How this program calls itself.
const CHILD: &str = "--case";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == CHILD) {
        let (name, iterations) = (&arguments[at + 1], arguments[at + 2].parse().expect("a number of iterations"));
        let (_, case) = CASES.iter().find(|(known, _)| known == name).expect("a known case");
        case(iterations);
        return ExitCode::SUCCESS;
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` only wants to know that the cases run.
        CASES.iter().for_each(|(_, case)| case(1));
        return ExitCode::SUCCESS;
    }
    match report() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn report() -> Result<(), String> {
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|output| output.status.success()) {
        return Err("valgrind is not installed; it counts the instructions (Debian: apt-get install valgrind)".into());
    }
    println!("frame {} bytes, payload {} bytes", frame().len(), payload().len());
    println!("{:<28} {:>14} {:>10}", "operation", "instructions", "ns");
    let mut measured = serde_json::Map::new();
    for (name, case) in CASES {
        let instructions = (instructions(name, MANY)? - instructions(name, FEW)?) / (MANY - FEW);
        let nanoseconds = nanoseconds(case);
        println!("{name:<28} {instructions:>14} {nanoseconds:>10.1}");
        measured.insert(name.into(), serde_json::json!({ "instructions": instructions, "ns": nanoseconds }));
    }
    let path = target_folder()?.join("bench/record_path.json");
    write(&path, &serde_json::Value::Object(measured).to_string())
}

/// Instructions of the whole process, which runs a case so many times.
fn instructions(case: &str, iterations: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .args([CHILD, case, &iterations.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not start: {error}"))?;
    let log = String::from_utf8_lossy(&output.stderr);
    let count = log.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or_else(|| format!("valgrind failed on {case}:\n{log}"))
}

/// The best of five runs, per operation.
fn nanoseconds(case: fn(u64)) -> f64 {
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

fn envelope_parse(iterations: u64) {
    let frame = frame();
    for _ in 0..iterations {
        let _ = black_box(Envelope::parse(black_box(&frame)));
    }
}

fn rewrite_v(iterations: u64) {
    rewrite(&payload(), &Filter::off(), iterations);
}

fn rewrite_v_string_location(iterations: u64) {
    let mut data = data();
    data[9] = (Field::Location, value::Value::StringValue("(37.412374 N, 122.145867 W)".into()));
    rewrite(&encoded(data), &Filter::off(), iterations);
}

/// What a vehicle with the permission pays for the filter.
fn filter_allowed(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Drop), Scopes::NONE), iterations);
}

fn filter_denied_without_location(iterations: u64) {
    rewrite(&payload_without_location(), &Filter::new(&rules(Action::Drop), LOCATION), iterations);
}

fn filter_off_without_location(iterations: u64) {
    rewrite(&payload_without_location(), &Filter::off(), iterations);
}

fn filter_denied(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Drop), LOCATION), iterations);
}

fn filter_denied_coarsen(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Coarsen(2)), LOCATION), iterations);
}

fn created_at(iterations: u64) {
    let payload = payload();
    for _ in 0..iterations {
        black_box(transform::created_ms(RecordKind::V, black_box(&payload)));
    }
}

const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

fn rules(action: Action) -> Rules {
    Rules { mode: Mode::Enforce, action, strict: true, enforced: LOCATION, ..Rules::off() }
}

fn payload_without_location() -> Vec<u8> {
    let mut data = data();
    data[9] = (Field::OutsideTemp, value::Value::DoubleValue(11.5));
    encoded(data)
}

fn rewrite(payload: &[u8], filter: &Filter<'_>, iterations: u64) {
    let mut out = Vec::with_capacity(1024);
    for _ in 0..iterations {
        out.clear();
        let filter = black_box(filter);
        transform::rewrite(RecordKind::V, black_box(payload), VIN, filter, &mut out).expect("a valid payload");
        black_box(&out);
    }
}

fn reply_ack(iterations: u64) {
    let mut out = Vec::with_capacity(256);
    for _ in 0..iterations {
        out.clear();
        reply::ack(&mut out, black_box(TXID), black_box(b"V"));
        black_box(&out);
    }
}

fn json_v(iterations: u64) {
    let payload = payload();
    for _ in 0..iterations {
        black_box(json::render(RecordKind::V, black_box(&payload))).expect("a payload with a JSON form");
    }
}

const TXID: &[u8] = b"4a2ad23f-6b28-4d04-8d32-43c9e0c4e1a6";

/// A frame as a vehicle sends it.
fn frame() -> Vec<u8> {
    let sender_id = format!("vehicle_device.{VIN}");
    message::encode(&Envelope {
        txid: TXID,
        topic: b"V",
        sender_id: sender_id.as_bytes(),
        created_at: 1_790_000_000,
        payload: &payload(),
    })
}

fn payload() -> Vec<u8> {
    encoded(data())
}

/// Ten fields of a drive, typed as current firmware sends them.
fn data() -> [(Field, value::Value); 10] {
    use value::Value as Typed;
    let location = LocationValue { latitude: 37.412374, longitude: -122.145867 };
    [
        (Field::VehicleSpeed, Typed::DoubleValue(31.0)),
        (Field::Odometer, Typed::DoubleValue(26_491.313)),
        (Field::PackVoltage, Typed::DoubleValue(353.1)),
        (Field::PackCurrent, Typed::DoubleValue(-12.4)),
        (Field::Soc, Typed::DoubleValue(71.36)),
        (Field::Gear, Typed::ShiftStateValue(ShiftState::D.into())),
        (Field::Locked, Typed::BooleanValue(true)),
        (Field::EstBatteryRange, Typed::DoubleValue(188.2)),
        (Field::Version, Typed::StringValue("2025.44.25.5".into())),
        (Field::Location, Typed::LocationValue(location)),
    ]
}

fn encoded(data: [(Field, value::Value); 10]) -> Vec<u8> {
    let data = data.map(|(key, value)| Datum { key: key.into(), value: Some(Value { value: Some(value) }) });
    let created_at = Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 250_000_000 });
    Payload { data: data.into(), created_at, vin: VIN.into(), is_resend: false }.encode_to_vec()
}

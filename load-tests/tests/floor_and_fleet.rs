//! Simulated vehicles against the floor server over real mutual TLS, in one process.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Parser;
use load_tests::certs::Files;
use load_tests::cli::Arguments;
use load_tests::floor::Floor;
use load_tests::modes;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A floor server; gone with its connections when it is dropped.
struct Running {
    port: u16,
    _runtime: Runtime,
}

impl Running {
    /// On `port`, or a free one for 0.
    fn start(certs: &Path, port: u16) -> Self {
        let files = Files::in_dir(certs);
        files.create().expect("certificates");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let floor = runtime.block_on(Floor::bind((Ipv4Addr::LOCALHOST, port).into(), &files)).expect("bound");
        let port = floor.local_addr().expect("address").port();
        runtime.spawn(floor.serve());
        Self { port, _runtime: runtime }
    }
}

/// Runs a mode for a second against a fresh floor; returns whether it went well, and the report.
fn simulate(mode: &[&str]) -> (bool, Value, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let floor = Running::start(dir.path(), 0);
    let (good, report) = simulate_against(floor.port, mode, &dir);
    (good, report, dir)
}

fn simulate_against(port: u16, mode: &[&str], dir: &tempfile::TempDir) -> (bool, Value) {
    let port = port.to_string();
    let json = dir.path().join("report.json");
    let acks = dir.path().join("acks");
    let paths = [dir.path(), &json, &acks].map(|path| path.to_str().expect("UTF-8").to_owned());
    let common = ["--port", &port, "--certs", &paths[0], "--json", &paths[1], "--record-acks", &paths[2]];
    let times = ["--seconds", "1", "--warmup-seconds", "0.2", "--drain-seconds", "5"];
    let all = ["fleet-sim"].iter().chain(mode).chain(&common).chain(&times);
    let arguments = Arguments::try_parse_from(all).expect("valid arguments");
    let good = modes::run(arguments).expect("ran");
    let report = serde_json::from_slice(&std::fs::read(&json).expect("report")).expect("JSON");
    (good, report)
}

fn total(report: &Value, count: &str) -> u64 {
    report["totals"][count].as_u64().unwrap_or_else(|| panic!("no count {count}"))
}

#[test]
fn every_record_of_a_closed_loop_is_acked_once() {
    let (good, report, dir) = simulate(&["closed", "--vehicles", "10", "--in-flight", "4", "--threads", "2"]);
    assert!(good, "{report}");
    let acked = total(&report, "acked");
    assert!(acked > 100, "{report}");
    assert_eq!(total(&report, "sent"), acked);
    for none in ["lost", "unsent", "duplicates", "errors", "unknown_acks", "wrong_topic", "repeated_acks"] {
        assert_eq!(total(&report, none), 0, "{none}");
    }
    let journal = std::fs::read_to_string(dir.path().join("acks")).expect("list of acks");
    let lines: std::collections::HashSet<_> = journal.lines().collect();
    assert_eq!(lines.len() as u64, acked, "each acked record is listed once");
    assert_eq!(report["steps"][0]["ack_latency_us"]["count"].as_u64().map(|count| count > 0), Some(true));
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let (good, report, _dir) = simulate(&["steady", "--vehicles", "20", "--rate", "400"]);
    assert!(good, "{report}");
    // 1.2 s at 400/s; a busy machine may cut off the end, but must not shift the schedule.
    let made = total(&report, "made");
    assert!((350..=520).contains(&made), "{report}");
}

#[test]
fn a_storm_counts_a_handshake_per_vehicle_and_round() {
    let (good, report, _dir) = simulate(&["storm", "--vehicles", "15", "--reconnects", "1"]);
    assert!(good, "{report}");
    let handshakes: Vec<_> = report["rounds"].as_array().expect("rounds").iter().map(|r| &r["handshakes"]).collect();
    assert_eq!(handshakes, [15, 15]);
    assert_eq!(report["handshake_us"]["count"], 30);
    assert_eq!(report["rounds"][1]["handshake_us"]["count"], 15);
}

#[test]
fn idle_vehicles_send_one_record_each_and_stay() {
    let pid = std::process::id().to_string();
    let (good, report, _dir) = simulate(&["idle", "--vehicles", "25", "--server-pid", &pid]);
    assert!(good, "{report}");
    assert_eq!((total(&report, "acked"), total(&report, "disconnected")), (25, 0));
    assert_eq!(report["idle"][0]["connections"], 25);
}

#[test]
fn idle_vehicles_join_in_waves_that_are_measured_one_by_one() {
    let pid = std::process::id().to_string();
    let (good, report, _dir) = simulate(&["idle", "--vehicles", "25", "--steps", "2", "--server-pid", &pid]);
    assert!(good, "{report}");
    let waves = report["idle"].as_array().expect("waves");
    let of_each = |place| waves.iter().map(|wave| wave.pointer(place).and_then(Value::as_u64)).collect::<Vec<_>>();
    assert_eq!(of_each("/connections"), [Some(12), Some(25)]);
    assert_eq!(of_each("/connecting/handshakes"), [Some(12), Some(13)]);
    assert_eq!(of_each("/connecting/handshake_us/count"), [Some(12), Some(13)]);
}

#[test]
fn a_server_s_cpu_time_and_wake_ups_are_reported_per_record() {
    let pid = std::process::id().to_string();
    let (good, report, _dir) = simulate(&["steady", "--vehicles", "5", "--rate", "100", "--server-pid", &pid]);
    assert!(good, "{report}");
    let server = &report["steps"][0]["server"];
    assert!(server["us_each"].as_f64() > Some(1.0), "{report}");
    assert!(server["wakeups_each"].as_f64() > Some(0.5), "a record every 10 ms wakes somebody: {report}");
    assert!(report["server_peak_anonymous"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().expect("temporary folder");
    Files::in_dir(dir.path()).create().expect("certificates");
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("address").port().to_string();
    drop(listener);
    let certs = dir.path().to_str().expect("UTF-8");
    let arguments =
        ["fleet-sim", "closed", "--vehicles", "1", "--port", &port, "--certs", certs, "--connect-limit-seconds", "0.5"];
    let error = modes::run(Arguments::try_parse_from(arguments).expect("valid")).expect_err("nothing listens");
    assert!(error.to_string().starts_with("no vehicle could connect"), "{error}");
}

#[test]
fn vehicles_come_back_after_a_restart_and_lose_nothing() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let certs = dir.path().to_owned();
    let floor = Running::start(&certs, 0);
    let port = floor.port;
    let restart = thread::spawn(move || {
        thread::sleep(Duration::from_millis(600));
        drop(floor);
        thread::sleep(Duration::from_millis(200));
        Running::start(&certs, port)
    });
    let mode = ["closed", "--vehicles", "10", "--max-backoff-ms", "200"];
    let (good, report) = simulate_against(port, &mode, &dir);
    drop(restart.join().expect("restarted"));
    assert!(good, "{report}");
    assert_eq!(total(&report, "disconnected"), 10);
    assert!(total(&report, "resent") > 0 && total(&report, "connected") == 20, "{report}");
    assert_eq!(total(&report, "acked"), total(&report, "made"));
}

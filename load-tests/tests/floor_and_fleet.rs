//! Simulated vehicles against the floor server over real mutual TLS, in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::Parser;
use load_tests::certs::Files;
use load_tests::cli::Arguments;
use load_tests::floor::Floor;
use load_tests::modes;
use serde_json::Value;

/// Serves on its own thread until the process ends; returns the port.
fn start_floor(certs: &Path) -> u16 {
    let files = Files::in_dir(certs);
    files.create().expect("certificates");
    let (port, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let floor = Floor::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &files).await.expect("bound");
            port.send(floor.local_addr().expect("address").port()).expect("the test waits");
            floor.serve().await.expect("serves");
        });
    });
    started.recv().expect("started")
}

/// Runs a mode for a second against a fresh floor; returns whether it went well, and the report.
fn simulate(mode: &[&str]) -> (bool, Value, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let port = start_floor(dir.path()).to_string();
    let json = dir.path().join("report.json");
    let acks = dir.path().join("acks");
    let paths = [dir.path(), &json, &acks].map(|path| path.to_str().expect("UTF-8").to_owned());
    let common = ["--port", &port, "--certs", &paths[0], "--json", &paths[1], "--record-acks", &paths[2]];
    let times = ["--seconds", "1", "--warmup-seconds", "0.2", "--drain-seconds", "5"];
    let all = ["fleet-sim"].iter().chain(mode).chain(&common).chain(&times);
    let arguments = Arguments::try_parse_from(all).expect("valid arguments");
    let good = modes::run(arguments).expect("ran");
    let report = serde_json::from_slice(&std::fs::read(&json).expect("report")).expect("JSON");
    (good, report, dir)
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
    let throughput = report["steps"][0]["throughput"].as_f64().expect("a number");
    assert!((300.0..500.0).contains(&throughput), "{throughput}");
}

#[test]
fn a_storm_counts_a_handshake_per_vehicle_and_round() {
    let (good, report, _dir) = simulate(&["storm", "--vehicles", "15", "--reconnects", "1"]);
    assert!(good, "{report}");
    let handshakes: Vec<_> = report["rounds"].as_array().expect("rounds").iter().map(|r| &r["handshakes"]).collect();
    assert_eq!(handshakes, [15, 15]);
    assert_eq!(report["handshake_us"]["count"], 30);
}

#[test]
fn idle_vehicles_send_one_record_each_and_stay() {
    let pid = std::process::id().to_string();
    let (good, report, _dir) = simulate(&["idle", "--vehicles", "25", "--server-pid", &pid]);
    assert!(good, "{report}");
    assert_eq!((total(&report, "acked"), total(&report, "disconnected")), (25, 0));
    assert_eq!(report["idle"]["connections"], 25);
}

#[test]
fn acks_that_do_not_match_are_anomalies() {
    // The floor copies the txid from where benchmark records have it; a demo's records have it elsewhere.
    let (good, report, _dir) = simulate(&["demo", "--vehicles", "5", "--drain-seconds", "0.1"]);
    assert!(!good);
    assert!(total(&report, "unknown_acks") + total(&report, "lost") > 0, "{report}");
    assert!(!report["failures"].as_array().expect("failures").is_empty());
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

//! Logs that nobody reads, or that cannot be written.
//!
//! The others feel nothing: 300 vehicles connect and are acked, and the process ends in time.

use std::fs::{File, OpenOptions};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::api::{Api, TOKEN};
use crate::support::pki::Pki;
use crate::support::server::{self, Server, free_port, get};
use crate::support::vehicle::{Vehicle, ack, v_payload};

const VIN: &str = "5YJ3E1EA1KF000001";
const VEHICLES: usize = 300;
const PATIENCE: Duration = Duration::from_secs(60);

/// Certificates, and a configuration with a port and little room for lines.
fn site(change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, Pki, Value) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = server::config(&pki);
    config["port"] = json!(free_port());
    config["limits"] = json!({ "max_log_lines": 100 });
    change(&mut config);
    (dir, pki, config)
}

fn dev_full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// More lines than pipe and queue hold: each vehicle connects, and is acked. All of them stay.
async fn many_vehicles_connect(server: &Server, pki: &Pki) -> Vec<Vehicle> {
    let client = pki.vehicle(VIN);
    let arrive = |n: usize| {
        let client = &client;
        async move {
            let mut vehicle = Vehicle::connect(server.address, client, VIN).await;
            let txid = format!("t{n}");
            vehicle.send("V", &txid, &v_payload(VIN, 1.0)).await;
            assert_eq!(vehicle.receive_within(PATIENCE).await, Some(ack("V", &txid)));
            vehicle
        }
    };
    let arrivals = futures_util::stream::iter(0..VEHICLES).map(|n| tokio::time::timeout(PATIENCE, arrive(n)));
    let arrived = arrivals.buffer_unordered(20).map(|vehicle| vehicle.expect("connected and acked in time"));
    arrived.collect().await
}

/// Ends a server as an operator does, and says how long that took.
fn terminate(server: &mut Server) -> Duration {
    let start = Instant::now();
    server.signal("TERM");
    let status = server.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{status}");
    start.elapsed()
}

/// A sample, or 0 where there is none.
async fn sample(server: &Server, name: &str) -> f64 {
    let (_, body) = get(server.metrics, "/metrics").await;
    body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

async fn until_sample(server: &Server, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let start = Instant::now();
    loop {
        let value = sample(server, name).await;
        if wanted(value) {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "{name} is {value} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const FULL: &str = "log_dropped_lines_total{reason=\"full\"}";
const FAILED: &str = "log_dropped_lines_total{reason=\"failed\"}";

#[tokio::test]
async fn nobody_reads_the_log_and_only_the_log_suffers() {
    let (_dir, pki, config) = site(|_| {});
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    let dropped = until_sample(&server, FULL, |dropped| dropped > 0.0).await;
    server.metric_becomes("log_healthy", 0.0).await;
    assert_eq!(sample(&server, "limit{bound=\"log_lines\"}").await, 100.0);
    assert_eq!(sample(&server, "log_waiting_lines{kind=\"ordinary\"}").await, 100.0);

    // Somebody reads again: what is missing is said, and the next lines come.
    server.read_stderr();
    let notice = server.event("log_lines_dropped").await;
    assert!(notice["lines"].as_f64().unwrap() >= dropped, "{notice}");
    server.metric_becomes("log_healthy", 1.0).await;
    let _vehicle = Vehicle::connect(server.address, &pki.vehicle("LATER"), "LATER").await;
    let later = |event: &Value| event["msg"] == "socket_connected" && event["device_id"] == "LATER";
    server.event_where("the vehicle that came later", PATIENCE, later).await;
    terminate(&mut server);
    server.event("stopped_server").await;
}

#[tokio::test]
async fn sigterm_ends_the_process_in_time_while_nobody_reads_the_log() {
    let (_dir, pki, config) = site(|_| {});
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    until_sample(&server, FULL, |dropped| dropped > 0.0).await;
    let took = terminate(&mut server);
    assert!(took < Duration::from_secs(15), "{took:?}, of which the last lines get one second");
}

#[tokio::test]
async fn the_reader_of_the_log_has_gone_and_only_the_log_suffers() {
    let (_dir, pki, config) = site(|_| {});
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    server.close_stderr();
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    until_sample(&server, FAILED, |dropped| dropped >= 300.0).await;
    let took = terminate(&mut server);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test]
async fn the_disk_of_the_log_is_full_and_only_the_log_suffers() {
    let (_dir, pki, config) = site(|_| {});
    let mut server = Server::start_unread(&pki, &config, dev_full()).await;
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    until_sample(&server, FAILED, |dropped| dropped >= 300.0).await;
    assert_eq!(get(server.status, "/readyz").await.0, 200, "no record depends on the log");
    let took = terminate(&mut server);
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// A server that a shell starts: after `first`, with its streams as `redirect` says.
async fn start_in_a_shell(pki: &Pki, config: &Value, first: &str, redirect: &str) -> Server {
    let script = format!("{first} exec \"$0\" \"$@\" {redirect}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_fleet-telemetry")]);
    Server::start_command(pki, config, shell).await
}

fn to_logger(config: &mut Value) {
    config["records"] = json!({ "V": ["logger"], "alerts": ["sqlite"] });
    config["log_level"] = json!("info");
}

#[tokio::test]
async fn a_record_whose_line_cannot_be_written_is_not_acked() {
    let (_dir, pki, config) = site(to_logger);
    let closed = start_in_a_shell(&pki, &config, "", "2>&-").await;
    let full = {
        let mut config = config.clone();
        for key in ["port", "status_port"] {
            config[key] = json!(free_port());
        }
        config["monitoring"]["prometheus_metrics_port"] = json!(free_port());
        config["sqlite"]["path"] = json!(pki.dir().join("other.db"));
        Server::start_unread(&pki, &config, dev_full()).await
    };
    for (server, why) in [(closed, "stderr leads to /dev/null"), (full, "No space left on device")] {
        let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
        vehicle.send("V", "lost", &v_payload(VIN, 1.0)).await;
        until_sample(&server, "logger_err{record_type=\"V\"}", |lost| lost >= 1.0).await;
        assert_eq!(vehicle.receive_within(Duration::from_millis(500)).await, None, "{why}");
        let reason = server.readiness_becomes(503, PATIENCE).await;
        assert!(reason.contains("logger: ") && reason.contains(why), "{reason}");
        // A record that goes elsewhere is none of the log's business.
        vehicle.send("alerts", "kept", b"").await;
        assert_eq!(vehicle.receive().await, ack("alerts", "kept"), "{why}");
    }
}

#[tokio::test]
async fn a_record_is_acked_again_when_its_line_can_be_written() {
    let (dir, pki, config) = site(|config| {
        to_logger(config);
        config["records"] = json!({ "V": ["logger"] });
    });
    // As on a disk that gets full: no file may grow above some kilobytes.
    let log = dir.path().join("server.log");
    let redirect = format!("2>>'{}'", log.display());
    let server = start_in_a_shell(&pki, &config, "trap '' XFSZ; ulimit -f 32;", &redirect).await;
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "first", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "first").await;
    let mut sent = 0;
    while sample(&server, "logger_err{record_type=\"V\"}").await == 0.0 {
        assert!(sent < 10_000, "the file does not get full");
        sent += 1;
        vehicle.send("V", &format!("filler-{sent}"), &v_payload(VIN, 1.0)).await;
    }
    while vehicle.receive_within(Duration::from_millis(500)).await.is_some() {}
    vehicle.send("V", "lost", &v_payload(VIN, 1.0)).await;
    assert_eq!(vehicle.receive_within(Duration::from_millis(500)).await, None);
    server.readiness_becomes(503, PATIENCE).await;

    // Somebody makes room. The server finds out by itself.
    File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    server.readiness_becomes(200, PATIENCE).await;
    vehicle.send("V", "again", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "again").await;
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("\"record_lines\":") && text.contains("\"again\""), "{text}");
}

#[tokio::test]
async fn records_for_a_log_that_nobody_reads_hold_only_their_own_vehicle_back() {
    let (_dir, pki, config) = site(|config| {
        to_logger(config);
        config["logger"] = json!({ "max_unsettled": 50 });
    });
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    assert_eq!(sample(&server, "dispatcher_unsettled_bytes_limit{dispatcher=\"logger\"}").await, f64::from(64 << 20));
    let mut shown = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // A pipe holds 64 KiB: more than a hundred lines, and then the outbox fills.
    for n in 0..400 {
        shown.send("V", &format!("t{n}"), &v_payload(VIN, 1.0)).await;
    }
    until_sample(&server, "dispatcher_unsettled_records{dispatcher=\"logger\"}", |held| held == 50.0).await;
    let mut acked = 0;
    while shown.receive_within(Duration::from_millis(500)).await.is_some() {
        acked += 1;
    }
    assert!((1..350).contains(&acked), "{acked} acked");
    let reason = server.readiness_becomes(503, PATIENCE).await;
    assert!(reason.contains("logger: stderr has taken nothing for "), "{reason}");
    let other = "5YJ3E1EA1KF000002";
    let mut other = Vehicle::connect(server.address, &pki.vehicle(other), other).await;
    other.send("alerts", "kept", b"").await;
    other.expect_ack("alerts", "kept").await;

    server.read_stderr();
    for n in acked..400 {
        shown.expect_ack("V", &format!("t{n}")).await;
    }
    let written = |server: &Server| server.events("record_payload").len();
    let start = Instant::now();
    while written(&server) < 400 {
        assert!(start.elapsed() < PATIENCE, "{} lines of 400", written(&server));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(written(&server), 400, "each record once");
    server.readiness_becomes(200, PATIENCE).await;
    terminate(&mut server);
}

#[tokio::test]
async fn grants_change_while_nobody_reads_the_log_and_every_change_is_told_in_order_later() {
    let (_dir, pki, config) = site(|config| {
        config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": config["tls"]["ca_file"].as_str().unwrap().replace("vehicle_ca.crt", "p.db") } },
            "api": { "port": free_port(), "token": TOKEN },
        });
    });
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    let api = Api::of(&config);
    let answer = api.grant(VIN).await;
    assert_eq!(answer["audit_line"], Value::Null, "its line is in the pipe");
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    until_sample(&server, FULL, |dropped| dropped > 0.0).await;
    for _ in 0..3 {
        let answer = api.revoke(VIN).await;
        assert_eq!((&answer["changed"], &answer["audit_line"]), (&json!(true), &json!("not_written")));
        assert_eq!(answer["grant"]["state"], "denied");
        let answer = api.grant(VIN).await;
        assert_eq!((&answer["changed"], &answer["audit_line"]), (&json!(true), &json!("not_written")));
    }
    assert_eq!(sample(&server, "log_waiting_lines{kind=\"audit\"}").await, 6.0);

    server.read_stderr();
    server.event_where("the last change", PATIENCE, |event| event["version"] == 7).await;
    let versions: Vec<_> = server.events("permission_changed").iter().map(|event| event["version"].clone()).collect();
    assert_eq!(versions, (1..=7).map(Value::from).collect::<Vec<_>>());
    let answer = api.revoke(VIN).await;
    assert_eq!(answer["audit_line"], Value::Null);
}

#[tokio::test]
async fn without_room_for_its_line_a_consent_is_refused_and_a_revocation_is_not() {
    let (_dir, pki, config) = site(|config| {
        config["limits"] = json!({ "max_log_lines": 5 });
        config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": config["tls"]["ca_file"].as_str().unwrap().replace("vehicle_ca.crt", "p.db") } },
            "api": { "port": free_port(), "token": TOKEN },
        });
    });
    let mut server = Server::start_unread(&pki, &config, Stdio::piped()).await;
    let api = Api::of(&config);
    let _vehicles = many_vehicles_connect(&server, &pki).await;
    server.metric_becomes("log_healthy", 0.0).await;
    for n in 0..5 {
        api.grant(&format!("VIN{n}")).await;
    }
    let path = format!("/v1/vehicles/{VIN}/scopes/vehicle_location");
    let (status, body) = api.ask("PUT", &path, &json!({ "state": "granted" }).to_string()).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("\"audit_unavailable\"") && body.contains("nothing was changed"), "{body}");
    assert_eq!(api.ask("GET", &format!("/v1/vehicles/{VIN}"), "").await.0, 404, "not half made either");
    let answer = api.revoke("VIN0").await;
    assert_eq!((&answer["changed"], &answer["audit_line"]), (&json!(true), &json!("not_written")));
    assert_eq!(sample(&server, "log_dropped_audit_lines_total").await, 1.0);

    server.read_stderr();
    server.event_where("the line that is missing", PATIENCE, |event| event["audit_lines"] == 1).await;
    assert_eq!(api.grant(VIN).await["changed"], true, "there is room again");
    server.events_become("permission_changed", 6).await;
}

#[test]
fn what_is_wrong_at_the_start_comes_out_and_a_log_that_takes_nothing_does_not_change_the_exit_code() {
    let (_dir, pki, mut config) = site(|_| {});
    config["port"] = json!(-1);
    let bad_file = server::write_config(pki.dir(), &config);
    let run = |stderr: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-telemetry"));
        command.arg("--config").arg(&bad_file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.spawn().unwrap().wait_with_output().unwrap()
    };
    let output = run(Stdio::piped());
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("port: -1 is out of range"));
    assert_eq!(run(dev_full().into()).status.code(), Some(64));

    // Found after the log is there: a certificate that cannot be read.
    config["port"] = json!(0);
    config["tls"]["server_cert"] = json!("/does/not/exist");
    server::write_config(pki.dir(), &config);
    let output = run(Stdio::piped());
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("server_failed"));
    assert_eq!(run(dev_full().into()).status.code(), Some(64));
}

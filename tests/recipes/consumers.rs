//! `examples/consumers/`, run against a server that vehicles stream to.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::root;
use super::support::pki::Pki;
use super::support::server::{self, Server};
use super::support::service::{Service, await_port, free_ports};
use super::support::vehicle::{Vehicle, v_payload};

const VIN: &str = "5YJ3E1EA7KF000001";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A service that takes this secret from its environment.
fn webhook(port: u16, folder: &Path) -> Service {
    let log = folder.join("node.log");
    let line = format!("WEBHOOK_SECRET={SECRET} exec node \"$@\"");
    let script = root("examples/consumers/node-webhook/server.mjs");
    let (port_text, records) = (port.to_string(), folder.join("records.ndjson"));
    let arguments = ["-c", &line, "node", script.to_str().unwrap(), &port_text, records.to_str().unwrap()];
    let service = Service::start(&log, "sh", arguments);
    await_port(port, &service, &log);
    service
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The status that a request with these headers is answered with.
fn post(port: u16, headers: &[&str], body: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    connection.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split_whitespace().nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn node_keeps_each_record_once_and_refuses_what_is_not_signed() {
    let [port] = free_ports();
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let node = webhook(port, dir.path());
    let mut config = server::config(&pki);
    config["records"] = json!({ "V": ["http"] });
    config["http"] = json!({ "url": format!("http://127.0.0.1:{port}/"), "signing_secret": SECRET, "linger": "1ms" });
    let server = Server::start(&pki, &config);
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for txid in ["one", "two", "two", "three"] {
        vehicle.send("V", txid, &v_payload(VIN, 1.0)).await;
        vehicle.expect_ack("V", txid).await;
    }
    // Another process knows what the first one kept.
    node.stop();
    let node = webhook(port, dir.path());
    vehicle.send("V", "one", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "one").await;

    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let timestamp = format!("webhook-timestamp: {now}");
    let forged = ["webhook-id: 1", &timestamp, "webhook-signature: v1,AAAA"];
    assert_eq!(post(port, &forged, r#"{"id":"forged"}"#), "401");
    assert_eq!(post(port, &[], r#"{"id":"forged"}"#), "401");
    drop(node);

    let records = lines(&dir.path().join("records.ndjson"));
    let txids: Vec<&str> = records.iter().map(|record| record["txid"].as_str().unwrap()).collect();
    assert_eq!(txids, ["one", "two", "three"]);
    assert!(records.iter().all(|record| record["vin"] == VIN && record["type"] == "V"), "{records:?}");
}

/// Runs it and returns what it says; it must succeed, and soon.
fn finish(command: &mut Command) {
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return assert!(status.success(), "{command:?} ends with {status}");
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn python_keeps_each_record_of_kafka_once_and_types_its_signals() {
    let dir = tempfile::tempdir().unwrap();
    let broker = super::support::kafka::Broker::start();
    let pki = Pki::new(dir.path());
    let mut config = server::config(&pki);
    config["namespace"] = json!("recipes");
    config["records"] = json!({ "V": ["kafka"] });
    config["kafka"] = json!({ "bootstrap.servers": broker.bootstrap() });
    let server = Server::start(&pki, &config);
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let mut send = async |txid: &str, speed: f64| {
        vehicle.send("V", txid, &v_payload(VIN, speed)).await;
        vehicle.expect_ack("V", txid).await;
    };
    send("one", 64.5).await;
    send("two", 65.5).await;
    send("two", 65.5).await;

    let python = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        let path = format!("{}:{}", root("target/tools/consumers").display(), dir.path().display());
        finish(python.env("PYTHONPATH", path).args(arguments));
    };
    let (proto, made) = (root("proto"), dir.path().to_str().unwrap());
    let out = format!("--python_out={made}");
    python(&["-m", "grpc_tools.protoc", "-I", proto.to_str().unwrap(), &out, "vehicle_data.proto"]);
    let consumer = root("examples/consumers/python-kafka/consume.py");
    let database = dir.path().join("vehicles.db");
    let consume = || {
        let files = (consumer.to_str().unwrap(), database.to_str().unwrap());
        python(&[files.0, &broker.bootstrap(), "recipes_V", files.1, "--until-end"]);
    };
    consume();
    send("one", 64.5).await;
    send("three", 66.5).await;
    consume();

    let database = rusqlite::Connection::open(database).unwrap();
    let mut query =
        database.prepare("SELECT vin, value FROM signals WHERE name = 'VehicleSpeed' ORDER BY rowid").unwrap();
    let speeds = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let speeds: Vec<(String, f64)> = speeds.map(Result::unwrap).collect();
    assert_eq!(speeds, [64.5, 65.5, 66.5].map(|speed| (VIN.to_owned(), speed)));
}

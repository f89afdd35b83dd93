//! HTTP, against a server process that fails on command: the contract, and what the dispatcher adds.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, BatchFormat, ClientTls, Env, InFlight, Secret};
use fleet_telemetry::dispatch::{ConnectError, Dispatcher, Health, Outcome, Settled, http};
use fleet_telemetry::proto::webhook;
use fleet_telemetry::record::Topics;
use prost::Message as _;
use serde_json::{Value, json};

use crate::contract::{Bench, Harness, Held, assert_all, number};
use crate::support::docs;
use crate::support::pki::Pki;
use crate::support::service::free_ports;
use crate::support::webhook::{Posted, Receiver};

/// Protobuf bodies.
struct Protobuf(Receiver);

/// Bodies of JSON objects, a line each.
struct Ndjson(Receiver);

mod protobuf {
    use super::*;
    crate::contract::suite!(Protobuf);
}

mod ndjson {
    use super::*;
    crate::contract::suite!(Ndjson);
}

macro_rules! harness {
    ($harness:ident, $format:expr, $not_exact:expr) => {
        impl Harness for $harness {
            const NOT_EXACT: Option<&'static str> = $not_exact;

            async fn start() -> Self {
                Self(Receiver::start())
            }

            async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
                let max_unsettled = InFlight { records: max_unsettled, bytes: 1 << 30 };
                let config = config::Webhook { format: $format, max_unsettled, ..config(self.0.port) };
                Arc::new(http::connect(&config, topics).await.expect("connects"))
            }

            async fn held(&self) -> Vec<Held> {
                held(&self.0)
            }

            async fn cut(&self) {
                self.0.kill();
            }

            async fn restore(&self) {
                self.0.restart();
            }
        }
    };
}

harness!(Protobuf, BatchFormat::Protobuf, None);
harness!(Ndjson, BatchFormat::Ndjson, Some("JSON holds values; the suite over protobuf bodies compares bytes"));

/// A server on `port` of this machine.
fn config(port: u16) -> config::Webhook {
    config::Webhook {
        is_https: false,
        host: "127.0.0.1".to_owned(),
        port,
        authority: format!("127.0.0.1:{port}"),
        path: "/telemetry?from=test".to_owned(),
        format: BatchFormat::Ndjson,
        authorization: None,
        signing_secret: None,
        tls: ClientTls { path: "http.tls".to_owned(), ..ClientTls::default() },
        batch: InFlight { records: 50, bytes: 1 << 20 },
        linger: Duration::from_millis(2),
        connections: 3,
        connect_timeout: Duration::from_secs(10),
        timeout: Duration::from_secs(5),
        max_pause: Duration::from_millis(500),
        max_unsettled: InFlight { records: 10_000, bytes: 1 << 30 },
    }
}

async fn bench(config: &config::Webhook) -> Bench {
    let topics = Topics::new([crate::contract::CUSTOM_TOPIC]);
    let dispatcher = Arc::new(http::connect(config, &topics).await.expect("connects"));
    Bench::over(dispatcher, topics, true)
}

/// The records of a request, with their ids.
fn records(posted: &Posted) -> Vec<(String, Held)> {
    match posted.headers["content-type"].as_str().unwrap() {
        "application/x-ndjson" => {
            posted.body.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(line).collect()
        }
        "application/json" => {
            let lines: Vec<Value> = serde_json::from_slice(&posted.body).unwrap();
            lines.iter().map(|value| line(value.to_string().as_bytes())).collect()
        }
        other => {
            assert!(other.starts_with("application/x-protobuf") && other.ends_with("delimited=true"), "{other}");
            let mut body = &posted.body[..];
            let mut records = Vec::new();
            while !body.is_empty() {
                let webhook::Record { id, vin, r#type, txid, payload, .. } =
                    webhook::Record::decode_length_delimited(&mut body).unwrap();
                records.push((id, Held { vin, topic: r#type, txid, payload: Some(payload) }));
            }
            records
        }
    }
}

fn line(line: &[u8]) -> (String, Held) {
    let value: Value = serde_json::from_slice(line).unwrap();
    let text = |key: &str| value[key].as_str().unwrap().to_owned();
    let txid = match value["txid_base64"].as_str() {
        Some(encoded) => BASE64.decode(encoded.as_bytes()).unwrap(),
        None => text("txid").into_bytes(),
    };
    assert!(value["payload"].is_object() || value["payload_base64"].is_string(), "{value}");
    (text("id"), Held { vin: text("vin"), topic: text("type"), txid, payload: None })
}

/// As a consumer has them that knows what it has seen.
fn held(receiver: &Receiver) -> Vec<Held> {
    let mut seen = HashSet::new();
    let posted = receiver.posted();
    posted.iter().flat_map(records).filter(|(id, _)| seen.insert(id.clone())).map(|(_, held)| held).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_there_in_order_though_the_server_is_killed_again_and_again() {
    const VINS: [&str; 4] = ["VIN0", "VIN1", "VIN2", "VIN3"];
    const RECORDS: usize = 1500;
    let receiver = Receiver::start();
    let bench = Arc::new(bench(&config(receiver.port)).await);
    let sending = tokio::spawn({
        let bench = Arc::clone(&bench);
        async move {
            for n in 0..RECORDS {
                for vin in VINS {
                    bench.send(&bench.record(vin, n)).await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        receiver.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        receiver.restart();
    }
    sending.await.unwrap();
    assert_all(&bench.settled::<Ndjson>(VINS.len() * RECORDS).await, Outcome::Delivered);
    let mut by_vin = BTreeMap::<String, Vec<usize>>::new();
    for held in held(&receiver) {
        by_vin.entry(held.vin).or_default().push(number(&held.txid));
    }
    for vin in VINS {
        assert!(by_vin[vin].iter().copied().eq(0..RECORDS), "{vin}: {} records", by_vin[vin].len());
    }
}

#[tokio::test]
async fn requests_are_signed_as_standard_webhooks_and_keep_their_id_when_they_are_sent_again() {
    let receiver = Receiver::start();
    let config = config::Webhook {
        signing_secret: Some(Secret::from("whsec_c2VjcmV0")),
        authorization: Some(Secret::from("Bearer token")),
        format: BatchFormat::JsonArray,
        connections: 1,
        ..config(receiver.port)
    };
    let bench = bench(&config).await;
    receiver.control(&json!({ "status": 500 }));
    bench.send(&bench.record("VIN", 1)).await;
    bench.until::<Ndjson>("two attempts", || receiver.attempts().len() >= 2).await;
    receiver.behave();
    assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    let ids: HashSet<_> = receiver.attempts().into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids.len(), 1);
    let posted = &receiver.posted()[0];
    let header = |name: &str| posted.headers[name].as_str().unwrap().to_owned();
    assert_eq!((header("authorization").as_str(), posted.path.as_str()), ("Bearer token", "/telemetry?from=test"));
    assert_eq!(header("fleet-telemetry-records"), "1");
    let signed = [header("webhook-id"), header("webhook-timestamp"), String::from_utf8(posted.body.clone()).unwrap()];
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"secret");
    let tag = BASE64.decode(header("webhook-signature").strip_prefix("v1,").unwrap().as_bytes()).unwrap();
    aws_lc_rs::hmac::verify(&key, signed.join(".").as_bytes(), &tag).unwrap();
    let age = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
        - header("webhook-timestamp").parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{age}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let receiver = Receiver::start();
    let config = config::Webhook { max_pause: Duration::from_secs(20), connections: 1, ..config(receiver.port) };
    let bench = bench(&config).await;
    receiver.control(&json!({ "status": 429, "retry_after": "2" }));
    bench.send(&bench.record("VIN", 1)).await;
    bench.until::<Ndjson>("an attempt", || !receiver.attempts().is_empty()).await;
    receiver.behave();
    assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    let attempts = receiver.attempts();
    assert_eq!(attempts.iter().map(|(_, _, status)| *status).collect::<Vec<_>>(), [429, 204]);
    assert!(attempts[1].0 - attempts[0].0 >= 1.9, "{attempts:?}");
}

#[tokio::test]
async fn one_record_that_is_not_wanted_costs_no_other() {
    let receiver = Receiver::start();
    let config = config::Webhook { connections: 1, linger: Duration::from_millis(200), ..config(receiver.port) };
    let bench = bench(&config).await;
    receiver.control(&json!({ "unwanted": "\"txid\":\"txid-000017\"" }));
    for n in 0..40 {
        bench.send(&bench.record("VIN", n)).await;
    }
    let settled = bench.settled::<Ndjson>(40).await;
    let lost: Vec<usize> = settled.iter().filter(|one| one.outcome == Outcome::Lost).map(number_of).collect();
    assert_eq!(lost, [17]);
    let held: Vec<usize> = held(&receiver).iter().map(|held| number(&held.txid)).collect();
    assert_eq!(held, (0..40).filter(|n| *n != 17).collect::<Vec<_>>());
    assert!(receiver.attempts().len() < 20, "halves, not one by one");
}

fn number_of(settled: &Settled) -> usize {
    number(settled.record.txid())
}

#[tokio::test]
async fn some_answers_refuse_for_good_and_others_for_now() {
    let receiver = Receiver::start();
    let bench = bench(&config::Webhook { connections: 1, ..config(receiver.port) }).await;
    for status in [401, 403, 404, 410] {
        receiver.control(&json!({ "status": status }));
        bench.send(&bench.record("VIN", status)).await;
        assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Lost);
    }
    for status in [408, 425, 429, 500, 503, 302] {
        let before = receiver.attempts().len();
        receiver.control(&json!({ "status": status }));
        bench.send(&bench.record("VIN", status)).await;
        bench.until::<Ndjson>("attempts", || receiver.attempts().len() >= before + 2).await;
        let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("{status} is an outage") };
        assert!(reason.starts_with(&status.to_string()) && reason.contains("no, because"), "{reason}");
        receiver.behave();
        assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    }
}

#[tokio::test]
async fn a_server_that_is_slow_or_forgets_to_answer_delays_its_own_records_only() {
    let receiver = Receiver::start();
    let config = config::Webhook { timeout: Duration::from_millis(300), connections: 1, ..config(receiver.port) };
    let bench = bench(&config).await;
    receiver.control(&json!({ "delay": 2 }));
    let start = Instant::now();
    bench.send(&bench.record("VIN", 0)).await;
    bench.until::<Ndjson>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    assert!(start.elapsed() < Duration::from_secs(10));
    receiver.control(&json!({ "forget": true }));
    tokio::time::sleep(Duration::from_millis(500)).await;
    receiver.behave();
    assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    assert_eq!(held(&receiver).len(), 1, "consumers know it by its id");
}

#[tokio::test]
async fn only_a_client_with_its_certificate_is_let_in_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(folder.path());
    pki.write_client("client");
    let path = |name: &str| folder.path().join(name);
    let receiver = Receiver::start_with(vec![path("server.crt"), path("server.key"), path("vehicle_ca.crt")]);
    let tls = ClientTls {
        path: "http.tls".to_owned(),
        ca_file: Some(path("server_ca.crt")),
        certificate: Some((path("client.crt"), path("client.key"))),
        server_name: Some("localhost".to_owned()),
    };
    let secure = config::Webhook { is_https: true, tls, ..config(receiver.port) };
    let bench = bench(&secure).await;
    bench.send(&bench.record("VIN", 1)).await;
    assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    let nobodys = ClientTls { ca_file: Some(path("vehicle_ca.crt")), ..secure.tls.clone() };
    let distrusting = config::Webhook { tls: nobodys, connect_timeout: Duration::from_millis(300), ..secure };
    let error = http::connect(&distrusting, &Topics::new([])).await.expect_err("another authority");
    assert!(error.to_string().contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_server_that_nobody_reaches_is_named_with_the_time_that_was_tried() {
    let [port] = free_ports();
    let config = config::Webhook { connect_timeout: Duration::from_millis(300), ..config(port) };
    let error = http::connect(&config, &Topics::new([])).await.expect_err("nobody listens");
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.starts_with(&format!("http: http.url 127.0.0.1:{port}: ")), "{text}");
    assert!(text.ends_with("tried for 300ms (http.connect_timeout)"), "{text}");
}

#[tokio::test]
async fn the_configuration_of_the_page_is_taken_and_used() {
    let env: Env = [("WEBHOOK_SECRET", "whsec_c2VjcmV0")].into_iter().collect();
    let file = FileConfig::parse(docs::configuration("http").as_bytes()).unwrap();
    let (resolved, warnings) = config::resolve(file, &env).unwrap();
    assert_eq!(warnings, []);
    let receiver = Receiver::start();
    let page = resolved.dispatchers.http.unwrap();
    assert_eq!((page.host.as_str(), page.port, page.path.as_str()), ("example.com", 443, "/telemetry"));
    let here = config(receiver.port);
    let page = config::Webhook { is_https: false, host: here.host, port: here.port, ..page };
    let bench = bench(&page).await;
    bench.send(&bench.record("VIN", 1)).await;
    assert_all(&bench.settled::<Ndjson>(1).await, Outcome::Delivered);
    assert!(receiver.posted()[0].headers["webhook-signature"].is_string());
}

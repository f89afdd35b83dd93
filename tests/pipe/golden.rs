//! The recorded frames through the real server: replies, Kafka messages and log lines are the reference's.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_telemetry::envelope::Envelope;
use serde_json::{Value, json};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

use crate::recorded::{TOPICS, VIN, Vector, assert_same, json_differences, logger_differences, vectors};
use crate::site::Site;
use crate::support::kafka::{Broker, Message};
use crate::support::server::Server;
use crate::support::vehicle::{self, PATIENCE, Vehicle};
use crate::support::wait::found;

const CLIENT_VERSION: &str = "judge-1";

/// A vector of which something is delivered.
struct Delivery<'a> {
    vector: &'a Vector,
    topic: &'a str,
    txid: &'a [u8],
}

#[tokio::test]
async fn recorded_frames_are_answered_delivered_and_logged_as_recorded() {
    let broker = Broker::shared();
    let site = Site::new(broker, "golden", route_everything);
    let server = site.serve();
    let vectors = vectors();
    let during = play(&server, &site, &vectors, false).await;

    let mut compared = 0;
    for topic in TOPICS {
        let expected = deliveries(&vectors, false).filter(|delivery| delivery.topic == topic);
        for (delivery, message) in pairs(expected, from_vehicle(broker.consume(&site.topic(topic)))) {
            let name = &delivery.vector.name;
            if let Some(payload) = &delivery.vector.payload {
                assert_eq!(message.payload, *payload, "{name}");
                compared += 1;
            }
            check_envelope(&delivery, &message, &message.payload, &during);
        }
    }
    assert_eq!(compared, 231, "payloads in the file");
    check_log(&server, &vectors).await;
}

#[tokio::test]
async fn recorded_frames_are_answered_and_delivered_as_recorded_in_json_mode() {
    let broker = Broker::shared();
    let site = Site::new(broker, "golden_json", |config| {
        route_everything(config);
        config["transmit_decoded_records"] = json!(true);
    });
    let server = site.serve();
    let vectors = vectors();
    let during = play(&server, &site, &vectors, true).await;

    let differences = json_differences();
    let mut compared = 0;
    for topic in TOPICS {
        let expected = deliveries(&vectors, true).filter(|delivery| delivery.topic == topic);
        for (delivery, message) in pairs(expected, from_vehicle(broker.consume(&site.topic(topic)))) {
            let Some(payload) = &delivery.vector.payload else { continue };
            let name = &delivery.vector.name;
            let value = serde_json::from_slice(&message.payload).expect(name);
            assert_same(name, delivery.vector.json.as_ref(), &value, &differences);
            check_envelope(&delivery, &message, payload, &during);
            compared += 1;
        }
    }
    assert_eq!(compared, 228, "JSON values in the file");
}

fn route_everything(config: &mut Value) {
    config["connectivity_from_vehicles"] = json!(true);
    for topic in TOPICS {
        config["records"][topic] = if topic == "custom" { json!(["kafka"]) } else { json!(["kafka", "logger"]) };
    }
}

/// Sends every frame and checks every reply; when that was, in milliseconds since the epoch.
async fn play(server: &Server, site: &Site, vectors: &[Vector], json_mode: bool) -> RangeInclusive<u128> {
    let since = epoch_ms();
    let mut request = vehicle::request(server.address);
    request.headers_mut().insert("Version", CLIENT_VERSION.parse().unwrap());
    let mut vehicle = Vehicle::connect_with(server.address, &site.pki.vehicle(VIN), VIN, request).await;
    for vector in vectors {
        vehicle.send_frame(vector.frame.clone()).await;
        for expected in vector.expected_replies(json_mode) {
            let reply = vehicle.receive_bytes(PATIENCE).await;
            assert_eq!(reply.as_ref(), Some(expected), "{}", vector.name);
        }
    }
    assert_eq!(vehicle.receive_bytes(Duration::from_millis(300)).await, None, "nothing is answered twice");
    since..=epoch_ms()
}

/// What is delivered, in the order of the vectors.
fn deliveries(vectors: &[Vector], json_mode: bool) -> impl Iterator<Item = Delivery<'_>> {
    vectors.iter().filter_map(move |vector| {
        let refused = json_mode && vector.replies_in_json_mode.is_some();
        if refused || !(vector.payload.is_some() || vector.is_reply_only()) {
            return None;
        }
        let envelope = Envelope::parse(&vector.frame).expect("it is delivered");
        let topic = TOPICS.into_iter().find(|topic| topic.as_bytes() == envelope.topic).expect("it is routed");
        Some(Delivery { vector, topic, txid: envelope.txid })
    })
}

/// Without the server's own connectivity records, whose txid is the connection id.
fn from_vehicle(messages: Vec<Message>) -> Vec<Message> {
    let is_own = |message: &Message| message.header("txid").is_some_and(|txid| Uuid::try_parse_ascii(txid).is_ok());
    messages.into_iter().filter(|message| !is_own(message)).collect()
}

/// One vehicle is one partition, so what arrives is in the order of what was sent.
fn pairs<A, B>(expected: impl Iterator<Item = A>, found: Vec<B>) -> Vec<(A, B)> {
    let expected: Vec<_> = expected.collect();
    assert_eq!(found.len(), expected.len(), "all are delivered, once");
    expected.into_iter().zip(found).collect()
}

fn check_envelope(delivery: &Delivery<'_>, message: &Message, protobuf: &[u8], during: &RangeInclusive<u128>) {
    let name = &delivery.vector.name;
    assert_eq!(message.key, VIN.as_bytes(), "{name}");
    let received_at = message.timestamp.to_string();
    assert!(during.contains(&u128::try_from(message.timestamp).unwrap()), "{name}: {received_at}");
    let identity = [VIN.as_bytes(), delivery.topic.as_bytes(), delivery.txid, protobuf].join(&0);
    let record_id = format!("{:032x}", xxh3_128(&identity));
    let expected: [(&str, &[u8]); 8] = [
        ("device_client_version", CLIENT_VERSION.as_bytes()),
        ("receivedat", received_at.as_bytes()),
        ("record_id", record_id.as_bytes()),
        ("timestamp", b"0"),
        ("txid", delivery.txid),
        ("txtype", delivery.topic.as_bytes()),
        ("version", b"0"),
        ("vin", VIN.as_bytes()),
    ];
    let mut headers: Vec<_> =
        message.headers.iter().map(|(header, value)| (header.as_str(), value.as_slice())).collect();
    headers.sort_unstable();
    assert_eq!(headers, expected, "{name}");
}

async fn check_log(server: &Server, vectors: &[Vector]) {
    let expected: Vec<_> = deliveries(vectors, false).filter(|delivery| delivery.topic != "custom").collect();
    let differences = logger_differences();
    let lines = log_lines(server, expected.len()).await;
    for (delivery, line) in pairs(expected.into_iter(), lines) {
        let name = &delivery.vector.name;
        assert_eq!(line["vin"], VIN, "{name}");
        assert_eq!(line["metadata"]["txtype"], delivery.topic, "{name}");
        assert_eq!(line["metadata"]["txid"], *String::from_utf8_lossy(delivery.txid), "{name}");
        if !delivery.vector.is_reply_only() {
            assert_same(name, delivery.vector.logger.as_ref(), &line["data"], &differences);
        }
    }
}

/// The lines about what the vehicle sent; the process' output may lag behind its acks.
async fn log_lines(server: &Server, expected: usize) -> Vec<Value> {
    let is_own = |line: &Value| line["metadata"]["txid"].as_str().is_some_and(|txid| Uuid::try_parse(txid).is_ok());
    let lines = async || {
        let mut lines = server.events("record_payload");
        lines.retain(|line| !is_own(line));
        (lines.len() >= expected).then_some(lines)
    };
    found("a line for each record", PATIENCE, lines).await
}

fn epoch_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

//! What the reference server wrote in JSON mode and in its log lines, against ours.
//!
//! The input is the reference's own outgoing payload, so that these tests see the text forms alone.

use fleet_telemetry::dispatch::logger;
#[cfg(feature = "mqtt")]
use fleet_telemetry::dispatch::mqtt::messages as mqtt;
use fleet_telemetry::record::json::{self, JsonError};
use fleet_telemetry::record::{Decoded, RecordKind};
use serde_json::{Value, json};

#[path = "support/golden.rs"]
mod golden;

use golden::{VIN, assert_same, json_differences, logger_differences, mqtt_differences};

/// A vector of which the reference delivered a record.
struct Vector {
    name: String,
    kind: RecordKind,
    payload: Vec<u8>,
    /// Absent when the conversion failed.
    json: Option<Value>,
    fails_in_json_mode: bool,
    /// Absent when the reference lost the line.
    logger: Option<Value>,
    /// Absent when the reference published nothing.
    mqtt: Option<Vec<(String, Value)>>,
}

#[test]
fn json_mode_equals_the_reference() {
    let differences = json_differences();
    for vector in vectors().iter().filter(|vector| vector.json.is_some()) {
        let rendered = json::render(vector.kind, &vector.payload).expect(&vector.name);
        assert_same(&vector.name, vector.json.as_ref(), &parse(&rendered), &differences);
    }
}

#[test]
fn json_mode_fails_where_the_reference_fails() {
    let failing: Vec<_> = vectors().into_iter().filter(|vector| vector.fails_in_json_mode).collect();
    assert_eq!(failing.len(), 3);
    for vector in failing {
        let result = json::render(vector.kind, &vector.payload);
        assert!(matches!(result, Err(JsonError::Timestamp { .. })), "{}: {result:?}", vector.name);
    }
}

#[test]
fn json_is_one_line_without_spaces_between_tokens() {
    let vectors = vectors();
    let one = vectors.iter().find(|vector| vector.name == "alerts_one").expect("in the vectors");
    let rendered = json::render(one.kind, &one.payload).expect("has a JSON form");
    let expected = concat!(
        r#"{"alerts":[{"name":"UI_a001","audiences":["Customer","Service"],"#,
        r#""startedAt":"2026-09-21T14:13:20.000000005Z","endedAt":null}],"#,
        r#""createdAt":"2026-09-21T14:13:20Z","vin":"device-1"}"#
    );
    assert_eq!(String::from_utf8(rendered).expect("JSON is UTF-8"), expected);
}

#[test]
fn log_lines_equal_the_reference() {
    let differences = logger_differences();
    for vector in vectors().iter().filter(|vector| vector.kind.is_known()) {
        let decoded = Decoded::decode(vector.kind, &vector.payload).expect(&vector.name);
        let data = logger::data(&decoded, VIN, false).expect("the kind is known");
        assert_same(&vector.name, vector.logger.as_ref(), &parse(data.as_bytes()), &differences);
    }
}

/// The order of topics is random there; here it is that of the record.
#[cfg(feature = "mqtt")]
#[test]
fn mqtt_messages_equal_the_reference() {
    let mut compared = 0;
    let differences = mqtt_differences();
    for vector in vectors().iter().filter(|vector| vector.kind.is_known()) {
        let decoded = Decoded::decode(vector.kind, &vector.payload).expect(&vector.name);
        let messages = mqtt::messages(&decoded, "base/of", VIN).expect("the kind is known").into_iter();
        let prefix = format!("base/of/{VIN}/");
        let ours = messages.map(|message| {
            let topic = message.topic.strip_prefix(&prefix).expect("the prefix").to_owned();
            (topic, parse(message.payload.as_bytes()))
        });
        let ours: Vec<_> = ours.collect();
        let sorted = |messages: &[(String, Value)]| {
            let mut messages: Vec<_> = messages.iter().map(|(topic, payload)| json!([topic, payload])).collect();
            messages.sort_by_key(|message| message[0].to_string());
            Value::from(messages)
        };
        let differences: Vec<_> =
            differences.iter().map(|(name, ours, why)| (*name, sorted_list(ours), *why)).collect();
        // Of the former no messages were captured.
        let is_uncaptured = ["raw_trailing_bytes", "topic_known_sender_wrong"].contains(&vector.name.as_str());
        if vector.mqtt.is_none() && (is_uncaptured || ours.is_empty()) {
            continue;
        }
        compared += 1;
        assert_same(&vector.name, vector.mqtt.as_deref().map(sorted).as_ref(), &sorted(&ours), &differences);
    }
    assert_eq!(compared, 219, "vectors with messages");
}

#[cfg(feature = "mqtt")]
fn sorted_list(messages: &Value) -> Value {
    let mut messages = messages.as_array().expect("a list").clone();
    messages.sort_by_key(|message| message[0].to_string());
    Value::from(messages)
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<_> = golden::vectors().into_iter().filter_map(delivered).collect();
    assert!(vectors.len() > 200, "only {} vectors", vectors.len());
    vectors
}

fn delivered(vector: golden::Vector) -> Option<Vector> {
    let kind = match vector.topic.as_deref()? {
        "V" => RecordKind::V,
        "alerts" => RecordKind::Alerts,
        "errors" => RecordKind::Errors,
        "connectivity" => RecordKind::Connectivity,
        _ => RecordKind::Custom(0),
    };
    Some(Vector {
        name: vector.name,
        kind,
        payload: vector.payload?,
        fails_in_json_mode: vector.replies_in_json_mode.is_some(),
        json: vector.json,
        logger: vector.logger,
        mqtt: vector.mqtt,
    })
}

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("valid JSON")
}

//! What the reference server wrote in JSON mode and in its log lines, against ours.
//!
//! The input is the reference's own outgoing payload, so that these tests see the text forms alone.

use fleet_telemetry::dispatch::logger;
use fleet_telemetry::record::json::{self, JsonError};
use fleet_telemetry::record::{Decoded, RecordKind};
use serde_json::{Value, json};

/// The device id of the certificate that the vectors were recorded with.
const VIN: &str = "device-1";

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
}

/// Where ours differs from the reference on purpose: vector, our form, why.
fn json_differences() -> Vec<(&'static str, Value, &'static str)> {
    let value = |key: Value, kind: &str, value: Value| json!({ "key": key, "value": { kind: value } });
    vec![(
        "v_unknown_field_number",
        json!({
            "data": [
                value(json!(31_999), "doubleValue", json!(5)),
                value(json!("SemiCruiseSpeedLimitMph"), "doubleValue", json!(6)),
                value(json!("GpsAccuracyMeters"), "booleanValue", json!(true)),
            ],
            "createdAt": "2026-09-21T14:13:20Z",
            "vin": VIN,
            "isResend": false,
        }),
        "our schema knows fields 260 to 269",
    )]
}

/// As [`json_differences`], for log lines.
fn logger_differences() -> Vec<(&'static str, Value, &'static str)> {
    let v = |members: Value| {
        let mut object = json!({ "CreatedAt": "2026-09-21T14:13:20Z", "IsResend": false, "Vin": VIN });
        let all = object.as_object_mut().expect("made above");
        all.extend(members.as_object().expect("callers pass objects").clone());
        object
    };
    let charging = "the reference forgot the kind and drops the datum";
    let non_finite = "JSON has no such number and the reference loses the whole line";
    vec![
        (
            "v_unknown_field_number",
            v(json!({ "31999": 5, "SemiCruiseSpeedLimitMph": 6, "GpsAccuracyMeters": true })),
            "the reference shows all unknown field numbers under one empty name, so that they hide each other",
        ),
        ("kind_charging_value", v(json!({ "VehicleName": "ChargeStateStopped" })), charging),
        ("kind_charging_value_default", v(json!({ "VehicleName": "ChargeStateUnknown" })), charging),
        ("double_nan", v(json!({ "Odometer": "NaN" })), non_finite),
        ("double_inf", v(json!({ "Odometer": "Infinity" })), non_finite),
        ("double_ninf", v(json!({ "Odometer": "-Infinity" })), non_finite),
        ("float_nan", v(json!({ "Odometer": "NaN" })), non_finite),
        ("float_inf", v(json!({ "Odometer": "Infinity" })), non_finite),
        ("float_ninf", v(json!({ "Odometer": "-Infinity" })), non_finite),
    ]
}

#[test]
fn json_mode_equals_the_reference() {
    let differences = json_differences();
    for vector in vectors().iter().filter(|vector| vector.json.is_some()) {
        let rendered = json::render(vector.kind, &vector.payload).expect(&vector.name);
        assert_same(vector, vector.json.as_ref(), &parse(&rendered), &differences);
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
        assert_same(vector, vector.logger.as_ref(), &parse(data.as_bytes()), &differences);
    }
}

/// Differences are exact: ours as listed, and the reference's really another.
fn assert_same(
    vector: &Vector,
    reference: Option<&Value>,
    ours: &Value,
    differences: &[(&'static str, Value, &'static str)],
) {
    let name = &vector.name;
    match differences.iter().find(|(differs, ..)| differs == name) {
        Some((_, expected, why)) => {
            assert!(same(ours, expected), "{name} ({why}): {ours}");
            assert!(!reference.is_some_and(|reference| same(reference, expected)), "{name} no longer differs");
        }
        None => assert!(reference.is_some_and(|reference| same(ours, reference)), "{name}: {ours}, not {reference:?}"),
    }
}

/// Numbers are equal by value: the vectors went through a parser that made `-0` and `5.0` integers.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<_> =
        include_str!("golden/reference.jsonl").lines().filter_map(|line| vector(parse(line.as_bytes()))).collect();
    assert!(vectors.len() > 200, "only {} vectors", vectors.len());
    vectors
}

fn vector(mut line: Value) -> Option<Vector> {
    let kind = match line["topic"].as_str()? {
        "V" => RecordKind::V,
        "alerts" => RecordKind::Alerts,
        "errors" => RecordKind::Errors,
        "connectivity" => RecordKind::Connectivity,
        _ => RecordKind::Custom(0),
    };
    Some(Vector {
        name: line["name"].as_str()?.to_owned(),
        kind,
        payload: hex(line["payload"].as_str()?),
        fails_in_json_mode: !line["replies_in_json_mode"].is_null(),
        json: Some(line["json"].take()).filter(|json| !json.is_null()),
        logger: Some(line["logger"].take()).filter(|logger| !logger.is_null()),
    })
}

fn hex(digits: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("the vectors are hex");
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn parse(text: &[u8]) -> Value {
    serde_json::from_slice(text).expect("valid JSON")
}

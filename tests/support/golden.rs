//! The reference server's recorded answers (`tests/golden/reference.jsonl`), and where ours differ on purpose.
//!
//! They were captured at the reference server's sockets, Kafka topics and log, with the device id [`VIN`], client
//! type `vehicle_device`, the request headers `Version: judge-1` and `X-Network-Interface: wifi`, and `records` that
//! route [`TOPICS`] to Kafka.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The device id of the certificate.
pub const VIN: &str = "device-1";

/// What the reference was configured for.
pub const TOPICS: [&str; 5] = ["V", "alerts", "errors", "connectivity", "custom"];

/// The reference answers these twice, because it acks what it cannot name both as an error and as a record.
/// A vehicle forgets a record at its first ack, so one is enough.
pub const ACKED_ONCE: [&str; 5] = ["no_message", "raw_empty", "raw_four_zero", "type_ack", "type_zero"];

/// One frame and what became of it. Delivered payloads are equal to the byte, without exception.
#[derive(Deserialize)]
pub struct Vector {
    pub name: String,
    #[serde(deserialize_with = "hex")]
    pub frame: Vec<u8>,
    /// In order.
    #[serde(deserialize_with = "hex_list")]
    pub replies: Vec<Vec<u8>>,
    /// Where they are others.
    #[serde(default, deserialize_with = "some_hex_list")]
    pub replies_in_json_mode: Option<Vec<Vec<u8>>>,
    /// Absent when nothing was delivered, or the delivery was not captured.
    pub topic: Option<String>,
    /// As [`Self::topic`].
    #[serde(default, deserialize_with = "some_hex")]
    pub payload: Option<Vec<u8>>,
    /// The value in JSON mode; absent when there is none.
    pub json: Option<Value>,
    /// Topics below `<topic_base>/<vin>/`, with their payloads; absent when nothing was published.
    pub mqtt: Option<Vec<(String, Value)>>,
    /// `data` in the logger's line; absent when there is none, or the reference lost it.
    pub logger: Option<Value>,
}

/// A vector, our form of it, and why it is not the reference's.
pub type Difference = (&'static str, Value, &'static str);

impl Vector {
    /// What this server answers.
    pub fn expected_replies(&self, json_mode: bool) -> &[Vec<u8>] {
        match &self.replies_in_json_mode {
            Some(replies) if json_mode => replies,
            _ if ACKED_ONCE.contains(&self.name.as_str()) => {
                assert!(self.replies.len() == 2 && self.replies[0] == self.replies[1], "{}", self.name);
                &self.replies[..1]
            }
            _ => &self.replies,
        }
    }

    /// Of these only the reply was captured, though something was delivered.
    pub fn is_reply_only(&self) -> bool {
        self.name.starts_with("txid_len_")
    }
}

pub fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = include_str!("../golden/reference.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a vector a line"))
        .collect();
    assert_eq!(vectors.len(), 259, "no vector was lost");
    vectors
}

/// Where JSON mode differs.
pub fn json_differences() -> Vec<Difference> {
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

/// Where log lines differ.
pub fn logger_differences() -> Vec<Difference> {
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

/// Where MQTT differs: topics and payloads.
pub fn mqtt_differences() -> Vec<Difference> {
    let non_finite = "JSON has no such number and the reference loses the whole record";
    let one = |topic: &str, payload: Value| json!([[topic, payload]]);
    let alert = json!({ "Audiences": ["Customer"], "StartedAt": "1970-01-01T00:00:05Z" });
    vec![
        (
            "v_unknown_field_number",
            json!([["v/31999", 5], ["v/SemiCruiseSpeedLimitMph", 6], ["v/GpsAccuracyMeters", true]]),
            "our schema knows fields 260 to 269",
        ),
        ("double_nan", one("v/Odometer", json!("NaN")), non_finite),
        ("double_inf", one("v/Odometer", json!("Infinity")), non_finite),
        ("double_ninf", one("v/Odometer", json!("-Infinity")), non_finite),
        ("float_nan", one("v/Odometer", json!("NaN")), non_finite),
        ("float_inf", one("v/Odometer", json!("Infinity")), non_finite),
        ("float_ninf", one("v/Odometer", json!("-Infinity")), non_finite),
        (
            "alerts_slash_name",
            json!([["alerts/a%2Fb%23c/current", alert], ["alerts/a%2Fb%23c/history", [alert]]]),
            "the broker closes the reference's connection for this topic",
        ),
    ]
}

/// Differences are exact: ours as listed, and the reference's really another.
pub fn assert_same(name: &str, reference: Option<&Value>, ours: &Value, differences: &[Difference]) {
    match differences.iter().find(|(differs, ..)| *differs == name) {
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

fn hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let digits = String::deserialize(deserializer)?;
    HEXLOWER.decode(digits.as_bytes()).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Hex(#[serde(deserialize_with = "hex")] Vec<u8>);

fn hex_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<u8>>, D::Error> {
    Ok(Vec::<Hex>::deserialize(deserializer)?.into_iter().map(|Hex(bytes)| bytes).collect())
}

fn some_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    Ok(Option::<Hex>::deserialize(deserializer)?.map(|Hex(bytes)| bytes))
}

fn some_hex_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Vec<u8>>>, D::Error> {
    let list = Option::<Vec<Hex>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().map(|Hex(bytes)| bytes).collect()))
}

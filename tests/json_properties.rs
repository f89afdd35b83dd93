//! The text forms of generated messages, against prost-reflect as a second opinion and, on request, against Go's
//! protojson, which the reference server uses.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use fleet_telemetry::dispatch::logger;
use fleet_telemetry::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
use fleet_telemetry::proto::vehicle_connectivity::VehicleConnectivity;
use fleet_telemetry::proto::vehicle_data::{self, Datum, Payload, value};
use fleet_telemetry::proto::vehicle_error::{VehicleError, VehicleErrors};
use fleet_telemetry::record::json::{self, JsonError};
use fleet_telemetry::record::{Decoded, RecordKind};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor,
    SerializeOptions, Value,
};
use prost_types::Timestamp;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(fleet_telemetry::proto::DESCRIPTORS).expect("the build wrote them"));

const KINDS: [(RecordKind, &str); 4] = [
    (RecordKind::V, "telemetry.vehicle_data.Payload"),
    (RecordKind::Alerts, "telemetry.vehicle_alerts.VehicleAlerts"),
    (RecordKind::Errors, "telemetry.vehicle_error.VehicleErrors"),
    (RecordKind::Connectivity, "telemetry.vehicle_connectivity.VehicleConnectivity"),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_equals_the_oracle(record in any_record()) {
        let ours = json::render(record.kind, &record.payload).expect("every timestamp is in range");
        let ours: serde_json::Value = serde_json::from_slice(&ours).expect("valid JSON");
        prop_assert_eq!(by_value(ours), by_value(oracle(&record)));
    }

    #[test]
    fn timestamps_out_of_range_have_no_json(timestamp in timestamp_out_of_range()) {
        let Timestamp { seconds, nanos } = timestamp;
        for (kind, payload) in records_with(timestamp) {
            prop_assert_eq!(json::render(kind, &payload), Err(JsonError::Timestamp { seconds, nanos }));
        }
    }

    #[test]
    fn log_lines_are_json_with_sorted_members(record in any_record(), vin in ".{0,5}", verbose: bool) {
        let decoded = Decoded::decode(record.kind, &record.payload).expect("an encoded message");
        let data = logger::data(&decoded, &vin, verbose).expect("the kind is known");
        prop_assert!(serde_json::from_str::<Sorted>(&data).is_ok(), "{data}");
    }

    #[test]
    fn decoding_never_panics(kind in 0..KINDS.len(), bytes in vec(any::<u8>(), 0..64)) {
        let _ = json::render(KINDS[kind].0, &bytes);
    }

    #[test]
    fn numbers_survive_to_the_bit(float: f32, double: f64) {
        let record = numbers(float, double);
        let text = json::render(record.kind, &record.payload).expect("no timestamp");
        let parsed: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
        let number = |at: usize, kind: &str| parsed["data"][at]["value"][kind].as_f64();
        if float.is_finite() {
            // What a reader makes of it who knows that it is a float.
            let read = number(0, "floatValue").map(|float| (float as f32).to_bits());
            prop_assert_eq!(read, Some(float.to_bits()));
        }
        if double.is_finite() {
            prop_assert_eq!(number(1, "doubleValue").map(f64::to_bits), Some(double.to_bits()));
        }
    }
}

/// Needs Go and, the first time, its module proxy: `cargo test --test json_properties -- --ignored`.
#[test]
#[ignore = "needs Go"]
fn json_equals_go_to_the_byte() {
    const CASES: usize = 20_000;
    let mut runner = TestRunner::default();
    let mut one = |strategy: BoxedStrategy<Generated>| strategy.new_tree(&mut runner).expect("no filter").current();
    let records: Vec<_> = (0..CASES)
        .flat_map(|_| [one(any_record().boxed()), one(any_mangled_record().boxed()), one(any_number().boxed())])
        .collect();
    let answers = go_protojson(&records);
    assert_eq!(answers.len(), records.len());
    for (record, go) in records.iter().zip(&answers) {
        let ours = match json::render(record.kind, &record.payload) {
            Ok(text) => String::from_utf8(text).expect("JSON is UTF-8"),
            Err(JsonError::Timestamp { .. }) => "unprintable".to_owned(),
            Err(JsonError::Payload(_)) => "malformed".to_owned(),
        };
        assert_eq!(&ours, go, "{record:x?}");
    }
    let malformed = answers.iter().filter(|answer| *answer == "malformed").count();
    assert!((CASES / 20..CASES).contains(&malformed), "{malformed} of {CASES} mangled records are malformed");
}

/// One answer per record.
fn go_protojson(records: &[Generated]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (schema, input) = (folder.path().join("schema"), folder.path().join("input"));
    std::fs::write(&schema, fleet_telemetry::proto::DESCRIPTORS).expect("written");
    let line = |record: &Generated| format!("{} {}\n", record.message, HEXLOWER.encode(&record.payload));
    std::fs::write(&input, records.iter().map(line).collect::<String>()).expect("written");
    let output = Command::new("go")
        .args(["run", "."])
        .arg(schema)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/json_oracle"))
        .stdin(File::open(input).expect("written above"))
        .stderr(Stdio::inherit())
        .output()
        .expect("Go is installed");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("JSON is UTF-8").lines().map(str::to_owned).collect()
}

/// With an unknown group in it, something behind it, or one byte changed.
fn any_mangled_record() -> impl Strategy<Value = Generated> {
    let mangled = prop_oneof![
        any::<Index>().prop_map(|at| (at, None, b"\xc3\x0c\x08\x05\xc4\x0c".to_vec())),
        any::<(Index, u8)>().prop_map(|(at, byte)| (at, Some(byte), vec![])),
        (any::<Index>(), vec(any::<u8>(), 1..12)).prop_map(|(at, junk)| (at, None, junk)),
    ];
    (any_record(), mangled).prop_map(|(mut record, (at, replaced, inserted))| {
        let at = at.index(record.payload.len() + 1);
        if let (Some(byte), Some(replaced)) = (record.payload.get_mut(at), replaced) {
            *byte = replaced;
        }
        record.payload.splice(at..at, inserted);
        record
    })
}

/// A `V` record with a float and a double of any bits.
fn any_number() -> impl Strategy<Value = Generated> {
    any::<(u32, u64)>().prop_map(|(float, double)| numbers(f32::from_bits(float), f64::from_bits(double)))
}

fn numbers(float: f32, double: f64) -> Generated {
    let datum = |value| Datum { key: 5, value: Some(vehicle_data::Value { value: Some(value) }) };
    let data = vec![datum(value::Value::FloatValue(float)), datum(value::Value::DoubleValue(double))];
    let (kind, message) = KINDS[0];
    Generated { kind, message, payload: Payload { data, ..Payload::default() }.encode_to_vec() }
}

fn oracle(record: &Generated) -> serde_json::Value {
    let message = DynamicMessage::decode(descriptor(record.message), record.payload.as_slice()).expect("encoded by it");
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut text = Vec::new();
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).expect("in range");
    let mut oracle = serde_json::from_slice(&text).expect("it writes JSON");
    add_absent_messages(&descriptor(record.message), &mut oracle);
    oracle
}

/// The oracle leaves messages out that are not set; protojson writes `null`.
fn add_absent_messages(descriptor: &MessageDescriptor, json: &mut serde_json::Value) {
    // Timestamps are no objects.
    let Some(members) = json.as_object_mut() else { return };
    for field in descriptor.fields() {
        let Kind::Message(message) = field.kind() else { continue };
        if field.is_list() {
            let items = members[field.json_name()].as_array_mut().expect("lists are written, be they empty");
            items.iter_mut().for_each(|item| add_absent_messages(&message, item));
        } else if field.containing_oneof().is_none() && !field.is_map() {
            let member = members.entry(field.json_name()).or_insert(serde_json::Value::Null);
            add_absent_messages(&message, member);
        }
    }
}

/// The oracle writes `5.0` where Go writes `5`. No number needs more than a double: 64-bit integers are strings.
fn by_value(json: serde_json::Value) -> serde_json::Value {
    match json {
        serde_json::Value::Number(number) => number.as_f64().into(),
        serde_json::Value::Array(items) => items.into_iter().map(by_value).collect(),
        serde_json::Value::Object(members) => {
            members.into_iter().map(|(name, member)| (name, by_value(member))).collect()
        }
        other => other,
    }
}

fn descriptor(message: &str) -> MessageDescriptor {
    POOL.get_message_by_name(message).expect("in the schema")
}

/// A message of one of the four kinds.
#[derive(Clone, Debug)]
struct Generated {
    kind: RecordKind,
    message: &'static str,
    payload: Vec<u8>,
}

fn any_record() -> impl Strategy<Value = Generated> {
    prop::sample::select(&KINDS[..]).prop_flat_map(|(kind, message)| {
        any_message(&descriptor(message)).prop_map(move |generated| Generated {
            kind,
            message,
            payload: generated.encode_to_vec(),
        })
    })
}

fn any_message(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    if descriptor.full_name() == "google.protobuf.Timestamp" {
        return any_timestamp(descriptor.clone()).boxed();
    }
    let plain = descriptor.fields().filter(|field| field.containing_oneof().is_none());
    let plain: Vec<_> = plain.map(|field| prop::option::of(any_field(field)).boxed()).collect();
    let oneofs: Vec<_> = descriptor.oneofs().map(|oneof| prop::option::of(any_of(&oneof)).boxed()).collect();
    let fields: Vec<_> = plain.into_iter().chain(oneofs).collect();
    let descriptor = descriptor.clone();
    fields
        .prop_map(move |fields| {
            let mut message = DynamicMessage::new(descriptor.clone());
            for (field, value) in fields.into_iter().flatten() {
                message.set_field(&field, value);
            }
            message
        })
        .boxed()
}

fn any_of(oneof: &OneofDescriptor) -> impl Strategy<Value = (FieldDescriptor, Value)> + use<> {
    prop::strategy::Union::new(oneof.fields().map(|field| any_field(field).boxed()))
}

fn any_field(field: FieldDescriptor) -> BoxedStrategy<(FieldDescriptor, Value)> {
    let value = if field.is_map() {
        let pairs = prop::collection::hash_map(any::<String>(), any::<String>(), 0..4);
        pairs.prop_map(|pairs| Value::Map(map(pairs))).boxed()
    } else if field.is_list() {
        vec(any_value(&field.kind()), 0..4).prop_map(Value::List).boxed()
    } else {
        any_value(&field.kind())
    };
    value.prop_map(move |value| (field.clone(), value)).boxed()
}

fn map(pairs: HashMap<String, String>) -> HashMap<MapKey, Value> {
    pairs.into_iter().map(|(key, value)| (MapKey::String(key), Value::String(value))).collect()
}

fn any_value(kind: &Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Int32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Float => prop_oneof![any::<f32>(), prop::num::f32::ANY].prop_map(Value::F32).boxed(),
        Kind::Double => prop_oneof![any::<f64>(), prop::num::f64::ANY].prop_map(Value::F64).boxed(),
        Kind::String => any::<String>().prop_map(Value::String).boxed(),
        Kind::Message(message) => any_message(message).prop_map(Value::Message).boxed(),
        Kind::Enum(_) => prop_oneof![0..300, any::<i32>()].prop_map(Value::EnumNumber).boxed(),
        other => panic!("the schema has no {other:?}"),
    }
}

/// Those with a JSON form, with every number of fraction digits.
fn any_timestamp(descriptor: MessageDescriptor) -> impl Strategy<Value = DynamicMessage> {
    let nanos = prop_oneof![
        Just(0),
        (0..1_000).prop_map(|millis| millis * 1_000_000),
        (0..1_000_000).prop_map(|micros| micros * 1_000),
        0..1_000_000_000,
    ];
    (-62_135_596_800..=253_402_300_799_i64, nanos).prop_map(move |(seconds, nanos)| {
        let mut timestamp = DynamicMessage::new(descriptor.clone());
        timestamp.set_field_by_name("seconds", Value::I64(seconds));
        timestamp.set_field_by_name("nanos", Value::I32(nanos));
        timestamp
    })
}

fn timestamp_out_of_range() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![i64::MIN..-62_135_596_800, 253_402_300_800..=i64::MAX];
    let nanos = prop_oneof![i32::MIN..0, 1_000_000_000..=i32::MAX];
    prop_oneof![
        seconds.prop_map(|seconds| Timestamp { seconds, nanos: 0 }),
        nanos.prop_map(|nanos| Timestamp { seconds: 0, nanos }),
    ]
}

/// One record for each place that a timestamp can be in.
fn records_with(timestamp: Timestamp) -> Vec<(RecordKind, Vec<u8>)> {
    let at = Some(timestamp);
    let alerts = |alert, created_at| VehicleAlerts { alerts: vec![alert], created_at, ..Default::default() };
    let errors = |error, created_at| VehicleErrors { errors: vec![error], created_at, ..Default::default() };
    let started = VehicleAlert { started_at: at, ..Default::default() };
    let ended = VehicleAlert { ended_at: at, ..Default::default() };
    let created = VehicleError { created_at: at, ..Default::default() };
    vec![
        (RecordKind::V, Payload { created_at: at, ..Default::default() }.encode_to_vec()),
        (RecordKind::Alerts, alerts(VehicleAlert::default(), at).encode_to_vec()),
        (RecordKind::Alerts, alerts(started, None).encode_to_vec()),
        (RecordKind::Alerts, alerts(ended, None).encode_to_vec()),
        (RecordKind::Errors, errors(VehicleError::default(), at).encode_to_vec()),
        (RecordKind::Errors, errors(created, None).encode_to_vec()),
        (RecordKind::Connectivity, VehicleConnectivity { created_at: at, ..Default::default() }.encode_to_vec()),
    ]
}

/// Any JSON whose objects have their members in ascending order, without repeats.
struct Sorted;

impl<'de> Deserialize<'de> for Sorted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sorted {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sorted members")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut last = None;
        while let Some((name, Self)) = members.next_entry::<String, Self>()? {
            if last.as_ref() >= Some(&name) {
                return Err(A::Error::custom("not sorted"));
            }
            last = Some(name);
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

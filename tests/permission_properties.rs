//! The filter, against an independent path through prost: whatever a vehicle without the permission sends, in
//! whatever encoding, nothing that tells a place comes out, and everything else does, byte for byte.

#![allow(clippy::unwrap_used)] // a failed helper fails the test

#[path = "support/records.rs"]
mod records;

use std::sync::LazyLock;

use fleet_telemetry::permissions::{Action, Filter, Mode, Rules};
use fleet_telemetry::proto::vehicle_alerts::VehicleAlerts;
use fleet_telemetry::proto::vehicle_connectivity::VehicleConnectivity;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, value::Value as Typed};
use fleet_telemetry::proto::vehicle_error::VehicleErrors;
use fleet_telemetry::protobuf::wire::{self, Fields};
use fleet_telemetry::record::RecordKind;
use fleet_telemetry::record::transform::rewrite;
use fleet_telemetry::scope::{Scope, Scopes};
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage, Value};
use records::Vocabulary;

const VIN: &str = "5YJ3E1EA7JF000001";

/// Texts, and what is left of them in a record that may not tell a place.
const TEXTS: [(&str, &str); 22] = [
    ("", ""),
    ("plain", "plain"),
    ("2025.44.25.5", "2025.44.25.5"),
    ("12:30:00", "12:30:00"),
    ("1.23e-9", "1.23e-9"),
    ("(37.4 N,122.1 W", "([withheld]"),
    ("\u{e9}\u{1f697}", "\u{e9}\u{1f697}"),
    ("lat", "lat"),
    ("37.4", "37.4"),
    ("(37.412374 N, 122.145867 W)", "[withheld]"),
    ("(0 S, 0 E)", "[withheld]"),
    ("(0x1p4 N,  1.5e1 E) tail", "[withheld] tail"),
    ("(inf N, -2 W)", "[withheld]"),
    ("37.412374,-122.145867", "[withheld]"),
    ("37.4,-122.1", "[withheld]"),
    ("lat 37.4 lon -122.1", "[withheld] [withheld]"),
    ("geo:37.412374,-122.145867", "[withheld]"),
    ("37°24'44.5\"N 122°08'45.1\"W", "[withheld] [withheld]"),
    ("{\"latitude\": 37.4, \"longitude\": -122.1}", "{\"[withheld], \"[withheld]}"),
    ("left 37.412374,-122.145867 at 12:30", "left [withheld] at 12:30"),
    ("-122.145867 37.412374", "[withheld]"),
    ("3724.742,N,12208.752,W", "[withheld]"),
];

/// From the vehicle maker's documentation, not from this server's table.
const DOCUMENTED: [i32; 7] = [21, 22, 23, 108, 111, 112, 163];
const STRICT: [i32; 7] = [107, 109, 110, 192, 195, 215, 260];

/// A field of the group `media`, which some rules also enforce.
const MEDIA: i32 = 248;

fn words() -> Vocabulary {
    static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| TEXTS.iter().map(|(text, _)| *text).collect());
    Vocabulary {
        texts: &WORDS,
        numbers: &[0, 8, 21, 21, 22, 64, 108, 110, 163, 195, 229, 248, 260, 300, 1_692_044_886],
    }
}

fn record() -> impl Strategy<Value = (RecordKind, Vec<u8>)> {
    records::record(words())
}

fn rules() -> impl Strategy<Value = Rules> {
    let action = select(vec![Action::Drop, Action::Invalid, Action::Coarsen(0), Action::Coarsen(2)]);
    (action, any::<bool>()).prop_map(|(action, strict)| Rules {
        mode: Mode::Enforce,
        action,
        strict,
        enforced: Scopes::ALL,
        ..Rules::off()
    })
}

fn rewritten(kind: RecordKind, payload: &[u8], filter: &Filter<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    rewrite(kind, payload, VIN, filter, &mut out).unwrap();
    assert!(out.starts_with(b"before"));
    out.split_off(6)
}

fn dynamic(name: &str, bytes: &[u8]) -> DynamicMessage {
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(fleet_telemetry::proto::DESCRIPTORS).unwrap());
    DynamicMessage::decode(POOL.get_message_by_name(name).unwrap(), bytes).unwrap()
}

/// Whether a message, or one in it, has a field that the schema does not know.
fn has_unknown(message: &DynamicMessage) -> bool {
    message.unknown_fields().next().is_some() || message.fields().any(|(_, value)| is_unknown_in(value))
}

fn is_unknown_in(value: &Value) -> bool {
    match value {
        Value::Message(message) => has_unknown(message),
        Value::List(values) => values.iter().any(is_unknown_in),
        _ => false,
    }
}

/// Whether a datum may not pass because of what it says about a place.
fn tells_a_place(datum: &[u8], strict: bool) -> bool {
    let unknown = has_unknown(&dynamic("telemetry.vehicle_data.Datum", datum));
    let datum = Datum::decode(datum).unwrap();
    let is_known = datum.key != 0 && Field::try_from(datum.key).is_ok();
    let by_value = match datum.value.and_then(|value| value.value) {
        Some(Typed::LocationValue(_)) => true,
        Some(Typed::StringValue(text)) => TEXTS.iter().any(|(known, left)| *known == text && left != known),
        _ => false,
    };
    by_value || DOCUMENTED.contains(&datum.key) || (strict && (unknown || !is_known || STRICT.contains(&datum.key)))
}

/// What a datum that is withheld leaves behind.
fn remains(datum: &[u8], action: Action) -> Vec<u8> {
    let decoded = Datum::decode(datum).unwrap();
    let value = match (action, decoded.value.and_then(|value| value.value)) {
        (Action::Invalid, _) => vec![0x50, 1],
        (Action::Coarsen(decimals), Some(Typed::LocationValue(at))) => {
            match (rounded(at.latitude, decimals), rounded(at.longitude, decimals)) {
                (Some(latitude), Some(longitude)) => location(latitude, longitude),
                _ => return Vec::new(),
            }
        }
        (Action::Coarsen(decimals), Some(Typed::StringValue(text))) => match text.as_str() {
            "(37.412374 N, 122.145867 W)" => {
                location(rounded(37.412374, decimals).unwrap(), rounded(-122.145867, decimals).unwrap())
            }
            "(0 S, 0 E)" => location(-0.0, 0.0),
            "(0x1p4 N,  1.5e1 E) tail" => location(16.0, 15.0),
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let mut left = Datum { key: decoded.key, value: None }.encode_to_vec();
    left.extend([0x12, u8::try_from(value.len()).unwrap()]);
    left.extend(value);
    [&[0x0a, u8::try_from(left.len()).unwrap()], &*left].concat()
}

fn rounded(degrees: f64, decimals: u8) -> Option<f64> {
    let factor = 10_f64.powi(i32::from(decimals));
    (degrees.abs() <= 360.0).then(|| (degrees * factor).round() / factor)
}

/// By hand, since prost does not write negative zero.
fn location(latitude: f64, longitude: f64) -> Vec<u8> {
    let mut fields = Vec::new();
    for (tag, degrees) in [(0x09, latitude), (0x11, longitude)] {
        if degrees.to_bits() != 0 {
            fields.push(tag);
            fields.extend(degrees.to_le_bytes());
        }
    }
    [&[0x3a, u8::try_from(fields.len()).unwrap()], &*fields].concat()
}

/// What is to come out of a `V` record, made from what comes out without a filter.
fn expected_v(plain: &[u8], rules: &Rules, denied: Scopes) -> Vec<u8> {
    let denies_location = denied.contains(Scope::VehicleLocation);
    let strips = denies_location && rules.strict;
    let mut out = Vec::new();
    let mut fields = Fields::new(plain);
    while let Some(field) = fields.next().unwrap() {
        let whole = &plain[field.start..field.end];
        match (field.number, field.value) {
            (1, wire::Value::Bytes(datum)) => {
                let is_media = denied.contains(Scope::Media) && Datum::decode(datum).unwrap().key == MEDIA;
                match (is_media, rules.action) {
                    (true, Action::Coarsen(_)) => {}
                    (true, action) => out.extend(remains(datum, action)),
                    (false, action) if denies_location && tells_a_place(datum, rules.strict) => {
                        out.extend(remains(datum, action));
                    }
                    _ => out.extend(whole),
                }
            }
            (2, wire::Value::Bytes(timestamp)) if strips => {
                let known = prost_types::Timestamp::decode(timestamp).unwrap().encode_to_vec();
                out.extend([0x12, u8::try_from(known.len()).unwrap()]);
                out.extend(known);
            }
            (1..=4, _) => out.extend(whole),
            _ if strips => {}
            _ => out.extend(whole),
        }
    }
    out
}

/// Masks the texts of a message. `None` when two keys of a map become one.
fn masked(mut message: DynamicMessage) -> Option<DynamicMessage> {
    for (field, value) in message.fields_mut() {
        if field.name() != "vin" {
            mask(value)?;
        }
    }
    Some(message)
}

fn mask(value: &mut Value) -> Option<()> {
    match value {
        Value::String(text) => *text = left_of(text),
        Value::Message(message) => *message = masked(message.clone())?,
        Value::List(values) => values.iter_mut().try_for_each(mask)?,
        Value::Map(entries) => {
            let masked = entries.iter().map(|(key, value)| {
                let (key, value) = (key.as_str().unwrap(), value.as_str().unwrap());
                let is_number = value.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit());
                let value = if key == "lat" && is_number { "[withheld]".into() } else { left_of(value) };
                (MapKey::String(left_of(key)), Value::String(value))
            });
            let masked: std::collections::HashMap<_, _> = masked.collect();
            if masked.len() < entries.len() {
                return None;
            }
            *entries = masked;
        }
        _ => {}
    }
    Some(())
}

fn left_of(text: &str) -> String {
    TEXTS.iter().find(|(known, _)| *known == text).unwrap().1.to_owned()
}

/// What is to come out of a record of another kind; also without unknown fields when the rules are strict.
fn expected_texts(kind: RecordKind, plain: &[u8], strict: bool) -> Option<DynamicMessage> {
    let (name, known) = match kind {
        RecordKind::Alerts => {
            ("telemetry.vehicle_alerts.VehicleAlerts", VehicleAlerts::decode(plain).unwrap().encode_to_vec())
        }
        RecordKind::Errors => {
            ("telemetry.vehicle_error.VehicleErrors", VehicleErrors::decode(plain).unwrap().encode_to_vec())
        }
        _ => (
            "telemetry.vehicle_connectivity.VehicleConnectivity",
            VehicleConnectivity::decode(plain).unwrap().encode_to_vec(),
        ),
    };
    masked(dynamic(name, if strict { &known } else { plain }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_that_tells_a_place_comes_out_and_everything_else_does(
        (kind, payload) in record(),
        rules in rules(),
        denies_media in any::<bool>(),
    ) {
        let mut denied = Scopes::NONE.with(Scope::VehicleLocation);
        if denies_media {
            denied = denied.with(Scope::Media);
        }
        let plain = rewritten(kind, &payload, &Filter::off());
        let filtered = rewritten(kind, &payload, &Filter::new(&rules, denied));
        if kind == RecordKind::V {
            prop_assert_eq!(filtered, expected_v(&plain, &rules, denied));
        } else {
            let expected = expected_texts(kind, &plain, rules.strict);
            prop_assume!(expected.is_some());
            let expected = expected.unwrap();
            let name = expected.descriptor().full_name().to_owned();
            prop_assert_eq!(dynamic(&name, &filtered), expected);
        }
    }

    #[test]
    fn what_other_scopes_are_denied_does_not_matter_to_location((kind, payload) in record(), rules in rules()) {
        let plain = rewritten(kind, &payload, &Filter::off());
        let denied = Scopes::NONE.with(Scope::Media);
        let filtered = rewritten(kind, &payload, &Filter::new(&rules, denied));
        let expected = if kind == RecordKind::V { expected_v(&plain, &rules, denied) } else { plain };
        prop_assert_eq!(filtered, expected);
    }

    #[test]
    fn allowed_and_audited_records_are_not_touched((kind, payload) in record(), rules in rules()) {
        let plain = rewritten(kind, &payload, &Filter::off());
        prop_assert_eq!(&rewritten(kind, &payload, &Filter::new(&rules, Scopes::NONE)), &plain);
        let audit = Rules { mode: Mode::Audit, ..rules };
        prop_assert_eq!(&rewritten(kind, &payload, &Filter::new(&audit, Scopes::ALL)), &plain);
    }

    #[test]
    fn filtering_twice_changes_nothing_more((kind, payload) in record(), rules in rules()) {
        prop_assume!(kind != RecordKind::Alerts);
        let filter = Filter::new(&rules, Scopes::NONE.with(Scope::VehicleLocation));
        let once = rewritten(kind, &payload, &filter);
        prop_assert_eq!(&rewritten(kind, &once, &filter), &once);
    }

    #[test]
    fn damaged_records_are_accepted_and_refused_as_without_a_filter(
        (kind, payload) in records::damaged(words()),
        rules in rules(),
    ) {
        let filter = Filter::new(&rules, Scopes::ALL);
        let (mut plain, mut out) = (Vec::new(), b"before".to_vec());
        let result = rewrite(kind, &payload, VIN, &filter, &mut out);
        prop_assert_eq!(&result, &rewrite(kind, &payload, VIN, &Filter::off(), &mut plain));
        prop_assert!(out.starts_with(b"before"));
        prop_assert!(result.is_ok() || out.len() == 6);
    }
}

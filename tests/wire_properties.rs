//! Rewriting, against an independent path through prost: decode, apply the rules to the structs, compare with
//! what the rewritten payload decodes to. Messages are generated in every encoding that decoders must accept:
//! any field order, repeated and split messages, long varints, unknown fields.

#![allow(clippy::unwrap_used)] // a failed helper fails the test

#[path = "support/records.rs"]
mod records;

use std::sync::LazyLock;

use fleet_telemetry::envelope::{Envelope, EnvelopeError, reply};
use fleet_telemetry::permissions::Filter;
use fleet_telemetry::proto::vehicle_alerts::VehicleAlerts;
use fleet_telemetry::proto::vehicle_connectivity::VehicleConnectivity;
use fleet_telemetry::proto::vehicle_data::{Field, LocationValue, Payload, Value, value};
use fleet_telemetry::proto::vehicle_error::VehicleErrors;
use fleet_telemetry::protobuf::wire::{self, Fields};
use fleet_telemetry::record::RecordKind;
use fleet_telemetry::record::transform::{PayloadError, rewrite};
use fleet_telemetry::testing::message;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;
use prost_types::Timestamp;
use records::{KINDS, Vocabulary};

const VIN: &str = "5YJ3E1EA7JF000001";

/// What becomes of a string value. The table is written from the reference server's documented behaviour,
/// not from this server's parsers.
const TEXTS: [(&str, Meaning); 16] = [
    ("", Meaning::Text),
    ("plain", Meaning::Text),
    ("1e-5", Meaning::Text),
    ("1.0e39", Meaning::Text),
    ("1.23e-9", Meaning::Decimal("0.00000")),
    ("-1.0e-9", Meaning::Decimal("-0.00000")),
    ("1.23456789e8", Meaning::Decimal("123456792.00000")),
    (".5E+3", Meaning::Decimal("500.00000")),
    ("(37.412374 N, 122.145867 W)", Meaning::Location(37.412374, -122.145867)),
    ("(0 S, 0 E)", Meaning::Location(-0.0, 0.0)),
    ("(0x1p4 N,  1.5e1 E) tail", Meaning::Location(16.0, 15.0)),
    ("(inf N, -2 W)", Meaning::Location(f64::INFINITY, 2.0)),
    ("(37.4 X, 122.1 W)", Meaning::Text),
    ("(37.4 N,122.1 W)", Meaning::Text),
    ("(1e999 N, 2 E)", Meaning::Text),
    ("\u{e9}\u{1f697}", Meaning::Text),
];

#[derive(Clone, Copy, Debug)]
enum Meaning {
    Text,
    Decimal(&'static str),
    Location(f64, f64),
}

fn words() -> Vocabulary {
    static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| TEXTS.iter().map(|(text, _)| *text).collect());
    Vocabulary { texts: &WORDS, numbers: &[0, 1, 2, 21, 64, 259, 315_575_999_999, 315_576_000_000, 1_692_044_886_337] }
}

fn record() -> impl Strategy<Value = (RecordKind, Vec<u8>)> {
    records::record(words())
}

fn damaged() -> impl Strategy<Value = (RecordKind, Vec<u8>)> {
    records::damaged(words())
}

fn rewritten(kind: RecordKind, payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
    let mut out = Vec::new();
    rewrite(kind, payload, VIN, &Filter::off(), &mut out)?;
    Ok(out)
}

fn text_of(value: &Option<Value>) -> Option<Meaning> {
    let Some(Value { value: Some(value::Value::StringValue(text)) }) = value else { return None };
    Some(TEXTS.iter().find(|(known, _)| known == text)?.1)
}

fn expected_v(payload: &[u8]) -> Result<Payload, prost::DecodeError> {
    let mut expected = Payload::decode(payload)?;
    expected.vin = VIN.to_owned();
    let location = expected.data.iter_mut().find(|datum| datum.key == i32::from(Field::Location));
    if let Some(datum) = location
        && let Some(Meaning::Location(latitude, longitude)) = text_of(&datum.value)
    {
        datum.value = Some(Value { value: Some(value::Value::LocationValue(LocationValue { latitude, longitude })) });
    }
    for datum in &mut expected.data {
        if let Some(Meaning::Decimal(text)) = text_of(&datum.value) {
            datum.value = Some(Value { value: Some(value::Value::StringValue(text.to_owned())) });
        }
    }
    Ok(expected)
}

fn expected_alerts(payload: &[u8]) -> Result<VehicleAlerts, prost::DecodeError> {
    let mut expected = VehicleAlerts::decode(payload)?;
    expected.vin = VIN.to_owned();
    for alert in &mut expected.alerts {
        for timestamp in [&mut alert.started_at, &mut alert.ended_at].into_iter().flatten() {
            if timestamp.seconds >= 315_576_000_000 {
                let millis = timestamp.seconds;
                *timestamp = Timestamp { seconds: millis / 1000, nanos: (millis % 1000) as i32 * 1_000_000 };
            }
        }
    }
    Ok(expected)
}

/// Whether prost accepts a payload; if so, that ours decodes to the same values with the rules applied.
fn same_meaning(kind: RecordKind, payload: &[u8], ours: Result<&[u8], &PayloadError>) -> Result<(), TestCaseError> {
    /// Compares by encoding where there are floats, since NaN is not equal to itself.
    fn compare<M: Message + Default + std::fmt::Debug>(
        expected: Result<M, prost::DecodeError>,
        ours: Result<&[u8], &PayloadError>,
        equal: impl Fn(&M, &M) -> bool,
    ) -> Result<(), TestCaseError> {
        match (expected, ours) {
            (Ok(expected), Ok(ours)) => {
                let ours = M::decode(ours).expect("what we rewrote decodes");
                prop_assert!(equal(&expected, &ours), "expected {expected:?}\nrewrote {ours:?}");
            }
            (Ok(expected), Err(error)) => prop_assert!(false, "{error}, but prost reads {expected:?}"),
            (Err(error), Ok(_)) => {
                // A known field of another wire type is an unknown field, as the reference has it; and
                // protobuf-go allows deeper groups and greater field numbers in them than prost.
                let text = error.to_string();
                let known = ["invalid wire type", "recursion limit", "invalid key value"];
                prop_assert!(known.iter().any(|known| text.contains(known)), "accepted, but prost says {text}");
            }
            (Err(_), Err(_)) => {}
        }
        Ok(())
    }
    match kind {
        RecordKind::V => {
            compare(expected_v(payload), ours, |left: &Payload, right| left.encode_to_vec() == right.encode_to_vec())
        }
        RecordKind::Alerts => compare(expected_alerts(payload), ours, PartialEq::eq),
        RecordKind::Errors => {
            // prost reads a map of any wire type, and takes the fields behind a wrong one for an entry.
            prop_assume!(!has_tags_of_another_wire_type(payload));
            let expected =
                VehicleErrors::decode(payload).map(|decoded| VehicleErrors { vin: VIN.to_owned(), ..decoded });
            compare(expected, ours, PartialEq::eq)
        }
        RecordKind::Connectivity => {
            let expected = VehicleConnectivity::decode(payload);
            let expected = expected.map(|decoded| VehicleConnectivity { vin: VIN.to_owned(), ..decoded });
            compare(expected, ours, PartialEq::eq)
        }
        RecordKind::Custom(_) | RecordKind::Other => unreachable!("only known kinds are generated"),
    }
}

fn has_tags_of_another_wire_type(errors: &[u8]) -> bool {
    let is_wrong = |field: wire::Field<'_>| field.number == 3 && !matches!(field.value, wire::Value::Bytes(_));
    fields(errors).any(|error| match (error.number, error.value) {
        (1, wire::Value::Bytes(error)) => fields(error).any(is_wrong),
        _ => false,
    })
}

/// Up to the end or to what is malformed.
fn fields(message: &[u8]) -> impl Iterator<Item = wire::Field<'_>> {
    let mut fields = Fields::new(message);
    std::iter::from_fn(move || fields.next().ok().flatten())
}

/// The encoded fields that no schema knows.
fn unknown_fields(payload: &[u8]) -> Vec<u8> {
    let mut fields = Fields::new(payload);
    let mut found = Vec::new();
    while let Some(field) = fields.next().unwrap() {
        if field.number > 5 {
            found.extend_from_slice(&payload[field.start..field.end]);
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_encoding_of_a_message_is_accepted_and_means_the_same((kind, payload) in record()) {
        let ours = rewritten(kind, &payload);
        prop_assert!(ours.is_ok(), "{ours:?}");
        let ours = ours.unwrap();
        same_meaning(kind, &payload, Ok(&ours))?;
        prop_assert_eq!(unknown_fields(&ours), unknown_fields(&payload));
    }

    #[test]
    fn rewriting_twice_changes_nothing_more((kind, payload) in record()) {
        // Milliseconds great enough are milliseconds again after the division.
        prop_assume!(kind != RecordKind::Alerts);
        let once = rewritten(kind, &payload).unwrap();
        prop_assert_eq!(&rewritten(kind, &once).unwrap(), &once);
    }

    #[test]
    fn damaged_records_are_accepted_and_refused_as_prost_does((kind, payload) in damaged()) {
        let ours = rewritten(kind, &payload);
        same_meaning(kind, &payload, ours.as_deref())?;
    }

    #[test]
    fn arbitrary_bytes_are_accepted_and_refused_as_prost_does(
        kind in select(&KINDS[..]).prop_map(|(kind, _)| kind),
        payload in vec(any::<u8>(), 0..40),
    ) {
        let ours = rewritten(kind, &payload);
        same_meaning(kind, &payload, ours.as_deref())?;
    }

    #[test]
    fn a_refused_payload_leaves_the_buffer_as_it_was((kind, payload) in damaged()) {
        let mut out = b"before".to_vec();
        let result = rewrite(kind, &payload, VIN, &Filter::off(), &mut out);
        prop_assert!(out.starts_with(b"before"));
        prop_assert_eq!(result.is_err(), out.len() == 6);
    }

    #[test]
    fn opaque_payloads_are_not_touched(payload in vec(any::<u8>(), 0..40)) {
        for kind in [RecordKind::Custom(0), RecordKind::Other] {
            prop_assert_eq!(rewritten(kind, &payload), Ok(payload.clone()));
        }
    }

    #[test]
    fn records_arrive_through_the_envelope_and_replies_come_back(
        (_, payload) in record(),
        txid in vec(any::<u8>(), 0..40),
        topic in vec(any::<u8>(), 0..12),
        created_at in any::<u32>(),
    ) {
        let sent = Envelope { txid: &txid, topic: &topic, sender_id: b"vehicle_device.VIN", created_at, payload: &payload };
        let frame = message::encode(&sent);
        prop_assert_eq!(Envelope::parse(&frame), Ok(sent));
        let (mut ack, mut error) = (Vec::new(), Vec::new());
        reply::ack(&mut ack, &txid, &topic);
        reply::error(&mut error, &txid);
        prop_assert_eq!(message::parse_reply(&ack), Some(message::Reply::Ack { txid: &txid, topic: &topic }));
        prop_assert_eq!(message::parse_reply(&error), Some(message::Reply::Error { txid: &txid }));
    }

    #[test]
    fn a_damaged_frame_never_yields_bytes_from_outside(
        (_, payload) in record(),
        damages in vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let sent = Envelope { txid: b"txid", topic: b"V", sender_id: b"vehicle_device.VIN", created_at: 1, payload: &payload };
        let mut frame = message::encode(&sent);
        for (at, byte) in damages {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        let inside = frame.as_ptr_range();
        let is_inside = |part: &[u8]| part.is_empty() || (inside.contains(&part.as_ptr()) && part.as_ptr_range().end <= inside.end);
        match Envelope::parse(&frame) {
            Ok(read) => prop_assert!([read.txid, read.topic, read.sender_id, read.payload].into_iter().all(is_inside)),
            Err(EnvelopeError::UnknownType { txid, .. }) => prop_assert!(is_inside(txid)),
            Err(EnvelopeError::NoMessage | EnvelopeError::Unreadable) => {}
        }
    }
}

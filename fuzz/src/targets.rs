//! What must hold for any input. A target panics when it does not.

use fleet_telemetry::envelope::{Envelope, reply};
use fleet_telemetry::permissions::{Action, Filter, Mode, Rules};
use fleet_telemetry::proto::vehicle_alerts::VehicleAlerts;
use fleet_telemetry::proto::vehicle_connectivity::VehicleConnectivity;
use fleet_telemetry::proto::vehicle_data::{Datum, Payload, value};
use fleet_telemetry::record::{Decoded, RecordKind, json, transform};
use fleet_telemetry::scope::{Scope, Scopes};
use fleet_telemetry::testing::message;
use prost::Message;

const VIN: &str = "5YJ3E1EA7JF000001";

/// The first byte of an input to [`record`], [`json`] and [`filter`] picks the kind of record.
pub const KINDS: [RecordKind; 4] = [RecordKind::V, RecordKind::Alerts, RecordKind::Errors, RecordKind::Connectivity];

/// A frame: what is read of it can be sent again, and replies to it can be read.
pub fn envelope(frame: &[u8]) {
    let _ = message::parse_reply(frame);
    let Ok(envelope) = Envelope::parse(frame) else { return };
    let Envelope { txid, topic, sender_id, payload, .. } = envelope;
    // A hostile frame may point all its vectors at the same bytes; do not spend time on the copies.
    if txid.len() + topic.len() + sender_id.len() + payload.len() > 4 * frame.len() {
        return;
    }
    assert_eq!(Envelope::parse(&message::encode(&envelope)), Ok(envelope));
    let mut ack = Vec::new();
    reply::ack(&mut ack, txid, topic);
    assert_eq!(message::parse_reply(&ack), Some(message::Reply::Ack { txid, topic }));
    let mut error = Vec::new();
    reply::error(&mut error, txid);
    assert_eq!(message::parse_reply(&error), Some(message::Reply::Error { txid }));
}

/// A kind and a payload: whatever prost reads is accepted, an accepted payload carries the certificate's VIN
/// and is in its final form, a refused one leaves the buffer alone.
pub fn record(input: &[u8]) {
    let Some((kind, payload)) = split(input) else { return };
    let mut out = b"before".to_vec();
    let result = transform::rewrite(kind, payload, VIN, &Filter::off(), &mut out);
    assert!(out.starts_with(b"before"));
    let out = out.split_off(6);
    if result.is_err() {
        assert!(out.is_empty(), "a refused payload leaves nothing behind");
        assert!(!prost_reads(kind, payload), "refused a payload that prost reads");
        return;
    }
    if let Ok(decoded) = Decoded::decode(kind, &out) {
        assert_eq!(vin(&decoded), VIN);
    }
    // Great milliseconds are still milliseconds after the division, so alerts may change again.
    if kind != RecordKind::Alerts {
        let mut again = Vec::new();
        transform::rewrite(kind, &out, VIN, &Filter::off(), &mut again).expect("what was rewritten is valid");
        assert_eq!(again, out);
    }
}

/// A kind and a payload: what is rendered is JSON.
pub fn json(input: &[u8]) {
    let Some((kind, payload)) = split(input) else { return };
    let mut out = Vec::new();
    if transform::rewrite(kind, payload, VIN, &Filter::off(), &mut out).is_err() {
        return;
    }
    if let Ok(text) = json::render(kind, &out) {
        serde_json::from_slice::<serde::de::IgnoredAny>(&text).expect("rendered JSON parses");
    }
}

/// A kind, a byte that picks the rules, and a payload of a vehicle that may not tell where it is: accepted as it
/// is without a filter, no location comes out, and what comes out passes the filter as it is.
pub fn filter(input: &[u8]) {
    let Some((kind, [picked, payload @ ..])) = split(input) else { return };
    let rules = Rules {
        mode: Mode::Enforce,
        action: [Action::Drop, Action::Invalid, Action::Coarsen(2)][usize::from(picked >> 1) % 3],
        strict: picked & 1 == 1,
        enforced: Scopes::ALL,
        ..Rules::off()
    };
    let filter = Filter::new(&rules, Scopes::NONE.with(Scope::VehicleLocation));
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    let accepted = transform::rewrite(kind, payload, VIN, &Filter::off(), &mut plain).is_ok();
    assert_eq!(transform::rewrite(kind, payload, VIN, &filter, &mut out).is_ok(), accepted);
    if !accepted {
        return;
    }
    if let Ok(record) = Payload::decode(&*out)
        && kind == RecordKind::V
    {
        record.data.iter().for_each(|datum| assert_withheld(datum, &rules));
    }
    let _ = transform::created_ms(kind, payload);
    // Great milliseconds are still milliseconds after the division, so alerts may change again.
    if kind != RecordKind::Alerts {
        let mut again = Vec::new();
        let result = transform::rewrite(kind, &out, VIN, &filter, &mut again);
        assert_eq!((result.is_ok(), again), (true, out));
    }
}

fn assert_withheld(datum: &Datum, rules: &Rules) {
    const DOCUMENTED: [i32; 7] = [21, 22, 23, 108, 111, 112, 163];
    match datum.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(value::Value::Invalid(true)) if rules.action == Action::Invalid => {}
        Some(value::Value::LocationValue(at)) => {
            assert_eq!(rules.action, Action::Coarsen(2));
            for degrees in [at.latitude, at.longitude] {
                assert!((degrees * 100.0 - (degrees * 100.0).round()).abs() < 1e-9, "{degrees}");
            }
        }
        _ => assert!(!DOCUMENTED.contains(&datum.key), "{datum:?}"),
    }
}

fn split(input: &[u8]) -> Option<(RecordKind, &[u8])> {
    let (kind, payload) = input.split_first()?;
    Some((KINDS[usize::from(*kind) % KINDS.len()], payload))
}

fn prost_reads(kind: RecordKind, payload: &[u8]) -> bool {
    match kind {
        RecordKind::V => Payload::decode(payload).is_ok(),
        RecordKind::Alerts => VehicleAlerts::decode(payload).is_ok(),
        // prost alone reads a map of any wire type, and may miss what is broken behind it.
        RecordKind::Errors => Decoded::decode(kind, payload).is_ok(),
        _ => VehicleConnectivity::decode(payload).is_ok(),
    }
}

fn vin(decoded: &Decoded) -> &str {
    match decoded {
        Decoded::V(message) => &message.vin,
        Decoded::Alerts(message) => &message.vin,
        Decoded::Errors(message) => &message.vin,
        Decoded::Connectivity(message) => &message.vin,
        Decoded::Opaque => "",
    }
}

//! The operations.

use std::hint::black_box;

use fleet_telemetry::envelope::{Envelope, reply};
use fleet_telemetry::permissions::{Action, Filter, Grant, Grants, Mode, Permissions, Rules, State};
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, ShiftState, Value, value};
use fleet_telemetry::record::{RecordKind, json, transform};
use fleet_telemetry::scope::{Scope, Scopes};
use fleet_telemetry::testing::message;
use prost::Message;

use crate::intake::Rig;

const VIN: &str = "5YJ3E1EA7JF000001";
const OTHER_VIN: &str = "5YJ3E1EA7JF000002";

/// Does an operation so many times.
pub(crate) type Case = fn(u64);

/// By name. `intake_*` is all that a session does with a record between the unmasked frame and the hand-off, and
/// with its confirmation; the others are parts of that.
pub(crate) const CASES: [(&str, Case); 15] = [
    ("envelope_parse", envelope_parse),
    ("rewrite_v_10_fields", rewrite_v),
    ("rewrite_v_string_location", rewrite_v_string_location),
    ("filter_allowed", filter_allowed),
    ("filter_denied_no_location", filter_denied_without_location),
    ("filter_off_no_location", filter_off_without_location),
    ("filter_denied_location", filter_denied),
    ("filter_denied_coarsen", filter_denied_coarsen),
    ("created_at", created_at),
    ("reply_ack", reply_ack),
    ("json_v_10_fields", json_v),
    ("intake_no_route", intake_no_route),
    ("intake_hand_off", intake_hand_off),
    ("intake_delivered", intake_delivered),
    ("intake_enforced_half_denied", intake_enforced),
];

/// Of the frame and of the payload in it, in bytes.
pub(crate) fn sizes() -> (usize, usize) {
    (frame(VIN).len(), payload().len())
}

fn envelope_parse(iterations: u64) {
    let frame = frame(VIN);
    for _ in 0..iterations {
        let _ = black_box(Envelope::parse(black_box(&frame)));
    }
}

fn rewrite_v(iterations: u64) {
    rewrite(&payload(), &Filter::off(), iterations);
}

fn rewrite_v_string_location(iterations: u64) {
    let mut data = data();
    data[9] = (Field::Location, value::Value::StringValue("(37.412374 N, 122.145867 W)".into()));
    rewrite(&encoded(data), &Filter::off(), iterations);
}

/// What a vehicle with the permission pays for the filter.
fn filter_allowed(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Drop), Scopes::NONE), iterations);
}

fn filter_denied_without_location(iterations: u64) {
    rewrite(&payload_without_location(), &Filter::new(&rules(Action::Drop), LOCATION), iterations);
}

fn filter_off_without_location(iterations: u64) {
    rewrite(&payload_without_location(), &Filter::off(), iterations);
}

fn filter_denied(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Drop), LOCATION), iterations);
}

fn filter_denied_coarsen(iterations: u64) {
    rewrite(&payload(), &Filter::new(&rules(Action::Coarsen(2)), LOCATION), iterations);
}

fn created_at(iterations: u64) {
    let payload = payload();
    for _ in 0..iterations {
        black_box(transform::created_ms(RecordKind::V, black_box(&payload)));
    }
}

const LOCATION: Scopes = Scopes::NONE.with(Scope::VehicleLocation);

fn rules(action: Action) -> Rules {
    Rules { mode: Mode::Enforce, action, strict: true, enforced: LOCATION, ..Rules::off() }
}

fn payload_without_location() -> Vec<u8> {
    let mut data = data();
    data[9] = (Field::OutsideTemp, value::Value::DoubleValue(11.5));
    encoded(data)
}

fn rewrite(payload: &[u8], filter: &Filter<'_>, iterations: u64) {
    let mut out = Vec::with_capacity(1024);
    for _ in 0..iterations {
        out.clear();
        let filter = black_box(filter);
        transform::rewrite(RecordKind::V, black_box(payload), VIN, filter, &mut out).expect("a valid payload");
        black_box(&out);
    }
}

fn reply_ack(iterations: u64) {
    let mut out = Vec::with_capacity(256);
    for _ in 0..iterations {
        out.clear();
        reply::ack(&mut out, black_box(TXID), black_box(b"V"));
        black_box(&out);
    }
}

fn json_v(iterations: u64) {
    let payload = payload();
    for _ in 0..iterations {
        black_box(json::render(RecordKind::V, black_box(&payload))).expect("a payload with a JSON form");
    }
}

const TXID: &[u8] = b"4a2ad23f-6b28-4d04-8d32-43c9e0c4e1a6";

/// No dispatcher wants the record: it is checked and acked.
fn intake_no_route(iterations: u64) {
    let mut rig = Rig::new(VIN, false, Permissions::off());
    let frame = frame(VIN);
    for _ in 0..iterations {
        black_box(rig.message(black_box(&frame)));
    }
}

/// As far as the hand-off. The dispatcher confirms every thousand records, which is counted as well.
fn intake_hand_off(iterations: u64) {
    let mut rig = Rig::new(VIN, true, Permissions::off());
    let frame = frame(VIN);
    for n in 0..iterations {
        black_box(rig.message(black_box(&frame)));
        if n % 1000 == 999 {
            black_box(rig.confirm());
        }
    }
}

/// With the confirmation of each record, and its ack.
fn intake_delivered(iterations: u64) {
    delivered(&mut Rig::new(VIN, true, Permissions::off()), &frame(VIN), iterations);
}

/// The same for two vehicles in turn, whose owners have and have not allowed the location.
fn intake_enforced(iterations: u64) {
    let mut rigs = [(VIN, State::Granted), (OTHER_VIN, State::Denied)].map(|(vin, state)| {
        let permissions = Permissions::new(rules(Action::Drop));
        permissions.replace(Some(grants(state)));
        (Rig::new(vin, true, permissions), frame(vin))
    });
    for n in 0..iterations {
        let (rig, frame) = &mut rigs[n as usize % 2];
        delivered(rig, frame, 1);
    }
}

fn delivered(rig: &mut Rig, frame: &[u8], iterations: u64) {
    for _ in 0..iterations {
        black_box(rig.message(black_box(frame)));
        black_box(rig.confirm());
    }
}

/// Of a thousand vehicles, so that a look-up has something to look through.
fn grants(state: State) -> Grants {
    let text = String::new;
    let grant = Grant { state, since_ms: 0, expires_ms: None, source: text(), note: text(), version: 1 };
    let mut grants = Grants::default();
    let others = (0..1000).map(|n| format!("5YJ3E1EA9LF{n:06}"));
    for vin in others.chain([VIN.to_owned(), OTHER_VIN.to_owned()]) {
        grants.set(&vin, Scope::VehicleLocation, grant.clone());
    }
    grants
}

/// A frame as a vehicle sends it.
fn frame(vin: &str) -> Vec<u8> {
    let sender_id = format!("vehicle_device.{vin}");
    message::encode(&Envelope {
        txid: TXID,
        topic: b"V",
        sender_id: sender_id.as_bytes(),
        created_at: 1_780_000_000,
        payload: &payload(),
    })
}

fn payload() -> Vec<u8> {
    encoded(data())
}

/// Ten fields of a drive, typed as current firmware sends them.
fn data() -> [(Field, value::Value); 10] {
    use value::Value as Typed;
    let location = LocationValue { latitude: 37.412374, longitude: -122.145867 };
    [
        (Field::VehicleSpeed, Typed::DoubleValue(31.0)),
        (Field::Odometer, Typed::DoubleValue(26_491.313)),
        (Field::PackVoltage, Typed::DoubleValue(353.1)),
        (Field::PackCurrent, Typed::DoubleValue(-12.4)),
        (Field::Soc, Typed::DoubleValue(71.36)),
        (Field::Gear, Typed::ShiftStateValue(ShiftState::D.into())),
        (Field::Locked, Typed::BooleanValue(true)),
        (Field::EstBatteryRange, Typed::DoubleValue(188.2)),
        (Field::Version, Typed::StringValue("2025.44.25.5".into())),
        (Field::Location, Typed::LocationValue(location)),
    ]
}

fn encoded(data: [(Field, value::Value); 10]) -> Vec<u8> {
    let data = data.map(|(key, value)| Datum { key: key.into(), value: Some(Value { value: Some(value) }) });
    // In the past, whatever the clock says: a consent covers nothing from the future.
    let created_at = Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 250_000_000 });
    Payload { data: data.into(), created_at, vin: VIN.into(), is_resend: false }.encode_to_vec()
}

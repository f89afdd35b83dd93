//! How often a record makes the session allocate, counted by the allocator of this test.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../benches/record_path/intake.rs"]
mod intake;

use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::permissions::Permissions;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload, Value, value};
use fleet_telemetry::testing::message;
use prost::Message as _;

use intake::Rig;

const VIN: &str = "5YJ3E1EA7JF000001";
const RECORDS: u64 = 1_000;

fn frame() -> Vec<u8> {
    let value = Some(Value { value: Some(value::Value::DoubleValue(71.5)) });
    let data = vec![Datum { key: Field::Soc.into(), value }; 10];
    let created_at = Some(prost_types::Timestamp { seconds: 1_780_000_000, nanos: 0 });
    let payload = Payload { data, created_at, vin: VIN.into(), is_resend: false }.encode_to_vec();
    message::encode(&Envelope {
        txid: b"4a2ad23f-6b28-4d04-8d32-43c9e0c4e1a6",
        topic: b"V",
        sender_id: format!("vehicle_device.{VIN}").as_bytes(),
        created_at: 1_780_000_000,
        payload: &payload,
    })
}

/// Allocations of so many records, after some that warm up.
fn allocations(rig: &mut Rig, mut each: impl FnMut(&mut Rig, &[u8])) -> u64 {
    let frame = frame();
    each(rig, &frame);
    rig.confirm();
    allocation_counter::measure(|| (0..RECORDS).for_each(|_| each(rig, &frame))).count_total
}

#[test]
fn a_record_that_nobody_wants_allocates_nothing() {
    let mut rig = Rig::new(VIN, false, Permissions::off());
    let count = allocations(&mut rig, |rig, frame| assert!(!rig.message(frame).is_empty(), "it is acked"));
    assert_eq!(count, 0);
}

#[test]
fn a_record_allocates_at_most_twice_before_the_dispatcher_has_it() {
    let mut rig = Rig::new(VIN, true, Permissions::off());
    let count = allocations(&mut rig, |rig, frame| assert!(rig.message(frame).is_empty(), "it is not acked yet"));
    assert!((RECORDS..=2 * RECORDS).contains(&count), "{count} for {RECORDS} records");
    assert!(!rig.confirm().is_empty());
}

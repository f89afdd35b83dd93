//! When a record was made, by the vehicle's clock.

use super::RecordKind;
use crate::protobuf::wire::{Fields, Malformed, Value};

/// The last second of the year 9999, where protobuf's timestamps end.
const LAST_SECOND: i64 = 253_402_300_799;

/// The record's `created_at` in milliseconds since the epoch. `None` when it says none, one before the epoch,
/// or one that no timestamp can be; and for payloads that are malformed or that this server cannot read.
///
/// Looks at the fields of the record itself only, which it steps over by their lengths: the filter must be
/// known before the first datum is, and the time comes after the last.
#[must_use]
pub fn created_ms(kind: RecordKind, payload: &[u8]) -> Option<i64> {
    let number = match kind {
        RecordKind::V | RecordKind::Alerts | RecordKind::Errors => 2,
        RecordKind::Connectivity => 4,
        RecordKind::Custom(_) | RecordKind::Other => return None,
    };
    let rest = after_items(payload);
    if number == 2
        && let Some(timestamp) = only_timestamp(rest)
    {
        let mut created = Timestamp::default();
        merge(&mut created, timestamp).ok()?;
        return created.millis();
    }
    let mut created = None;
    let mut fields = Fields::new(rest);
    while let Some(field) = fields.next().ok()? {
        if let (true, Value::Bytes(timestamp)) = (field.number == number, field.value) {
            // Repeated occurrences are merged.
            merge(created.get_or_insert_default(), timestamp).ok()?;
        }
    }
    created.and_then(Timestamp::millis)
}

/// What follows the items that a record starts with, as far as their tags and lengths have one byte each: most
/// of a record, at a few instructions per item.
fn after_items(mut payload: &[u8]) -> &[u8] {
    const ITEM_TAG: u8 = 1 << 3 | 2;
    while let [ITEM_TAG, len @ ..0x80, rest @ ..] = payload
        && let Some(rest) = rest.get(usize::from(*len)..)
    {
        payload = rest;
    }
    payload
}

/// The timestamp, when the record ends as nearly all do: with it, the VIN, and perhaps `is_resend`.
fn only_timestamp(rest: &[u8]) -> Option<&[u8]> {
    let [TIMESTAMP_TAG, len @ ..0x80, rest @ ..] = rest else { return None };
    let (timestamp, rest) = rest.split_at_checked(usize::from(*len))?;
    let [VIN_TAG, len @ ..0x80, rest @ ..] = rest else { return None };
    let behind = rest.get(usize::from(*len)..)?;
    matches!(behind, [] | [RESEND_TAG, ..0x80]).then_some(timestamp)
}

const TIMESTAMP_TAG: u8 = 2 << 3 | 2;
const VIN_TAG: u8 = 3 << 3 | 2;
const RESEND_TAG: u8 = 4 << 3;

#[derive(Clone, Copy, Default)]
struct Timestamp {
    seconds: i64,
    nanos: i32,
}

impl Timestamp {
    fn millis(self) -> Option<i64> {
        let is_valid = (0..=LAST_SECOND).contains(&self.seconds) && (0..1_000_000_000).contains(&self.nanos);
        is_valid.then(|| self.seconds * 1_000 + i64::from(self.nanos / 1_000_000))
    }
}

fn merge(into: &mut Timestamp, timestamp: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(timestamp);
    while let Some(field) = fields.next()? {
        match (field.number, field.value) {
            (1, Value::Varint(seconds)) => into.seconds = seconds as i64,
            (2, Value::Varint(nanos)) => into.nanos = nanos as i32,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::vehicle_alerts::VehicleAlerts;
    use crate::proto::vehicle_connectivity::VehicleConnectivity;
    use crate::proto::vehicle_data::{Datum, Payload};
    use crate::proto::vehicle_error::VehicleErrors;

    fn at(seconds: i64, nanos: i32) -> Option<i64> {
        let created_at = Some(prost_types::Timestamp { seconds, nanos });
        let data = vec![Datum { key: 8, value: None }; 3];
        let payload = Payload { data, created_at, vin: "VIN".into(), is_resend: true }.encode_to_vec();
        let found = created_ms(RecordKind::V, &payload);
        let alerts = VehicleAlerts { created_at, ..Default::default() }.encode_to_vec();
        assert_eq!(created_ms(RecordKind::Alerts, &alerts), found);
        let errors = VehicleErrors { created_at, ..Default::default() }.encode_to_vec();
        assert_eq!(created_ms(RecordKind::Errors, &errors), found);
        let connectivity = VehicleConnectivity { created_at, ..Default::default() }.encode_to_vec();
        assert_eq!(created_ms(RecordKind::Connectivity, &connectivity), found);
        found
    }

    #[test]
    fn it_is_in_milliseconds() {
        assert_eq!(at(1_790_000_000, 250_999_999), Some(1_790_000_000_250));
        assert_eq!(at(0, 0), Some(0));
        assert_eq!(at(LAST_SECOND, 0), Some(LAST_SECOND * 1_000));
    }

    #[test]
    fn a_time_that_cannot_be_is_none() {
        for (seconds, nanos) in
            [(-1, 0), (i64::MIN, 0), (LAST_SECOND + 1, 0), (i64::MAX, 0), (5, -1), (5, 1_000_000_000)]
        {
            assert_eq!(at(seconds, nanos), None, "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_record_without_one_has_none() {
        assert_eq!(created_ms(RecordKind::V, b""), None);
        assert_eq!(created_ms(RecordKind::V, b"\x1a\x03VIN"), None);
        assert_eq!(created_ms(RecordKind::V, b"\x10\x05"), None, "a field of another wire type");
        assert_eq!(created_ms(RecordKind::V, b"\x12\x02\x08\x05\x12"), None, "malformed");
        assert_eq!(created_ms(RecordKind::V, b"\x12\x02\x08"), None, "malformed");
        assert_eq!(created_ms(RecordKind::Other, b"\x12\x02\x08\x05"), None);
    }

    #[test]
    fn split_timestamps_are_merged_and_the_last_number_wins() {
        let payload = b"\x12\x02\x08\x05\x12\x04\x10\xc0\x84\x3d\x12\x02\x08\x07";
        assert_eq!(created_ms(RecordKind::V, payload), Some(7_001));
    }
}

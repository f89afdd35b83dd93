//! What changes in the alerts of an `alerts` record.

use super::check::{self, Form};
use super::splice::Splice;
use super::stamp::Item;
use super::{PayloadError, schema};
use crate::protobuf::wire::{Field, Fields, Value, put_bytes, put_tag, put_varint, wire_type};

/// From here on, a number of seconds is taken for a number of milliseconds. Source: the greatest number of
/// seconds that protobuf allows in a duration, ten thousand years, which the reference server uses as the limit.
const FIRST_MILLISECONDS: i64 = 315_576_000_000;

const STARTED_AT: u32 = 3;
const ENDED_AT: u32 = 4;

/// One step of the walk: checks an alert and corrects its timestamps.
pub(super) fn alert<'a>(item: &Item<'a>, out: &mut Splice<'a, '_>) -> Result<Form, PayloadError> {
    let mut has_milliseconds = false;
    let form = check::message_with(&schema::VEHICLE_ALERT, item.bytes, item.base(), |field| {
        has_milliseconds |= milliseconds(field).is_some();
    })?;
    if form != Form::Other && has_milliseconds {
        let alert = corrected(item.bytes);
        out.replace(item.start, item.end, |out| put_bytes(out, 1, &alert));
    }
    Ok(form)
}

/// The number in an alert's timestamp if it must be milliseconds. Exact for alerts in the outgoing form.
fn milliseconds(field: &Field<'_>) -> Option<u64> {
    let (STARTED_AT | ENDED_AT, Value::Bytes(timestamp)) = (field.number, field.value) else { return None };
    match Fields::new(timestamp).next().ok()?? {
        Field { number: 1, value: Value::Varint(seconds), .. } if (seconds as i64) >= FIRST_MILLISECONDS => {
            Some(seconds)
        }
        _ => None,
    }
}

/// A valid alert with its milliseconds split into seconds and nanoseconds; the nanoseconds that were sent
/// with them mean nothing.
fn corrected(alert: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(alert.len() + 16);
    let mut splice = Splice::new(alert, &mut out);
    let mut fields = Fields::new(alert);
    while let Ok(Some(field)) = fields.next() {
        if let Some(millis) = milliseconds(&field) {
            let timestamp = timestamp(millis / 1000, millis % 1000 * 1_000_000);
            splice.replace(field.start, field.end, |out| put_bytes(out, field.number, &timestamp));
        }
    }
    splice.finish();
    out
}

fn timestamp(seconds: u64, nanos: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    for (number, value) in [(1, seconds), (2, nanos)] {
        if value != 0 {
            put_tag(&mut out, number, wire_type::VARINT);
            put_varint(&mut out, value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::Timestamp;

    use crate::permissions::Filter;
    use crate::proto::vehicle_alerts::{VehicleAlert, VehicleAlerts};
    use crate::record::RecordKind;
    use crate::record::transform::rewrite;

    fn started_at(seconds: i64, nanos: i32) -> Timestamp {
        let alert = VehicleAlert { started_at: Some(Timestamp { seconds, nanos }), ..Default::default() };
        let payload = VehicleAlerts { alerts: vec![alert], ..Default::default() }.encode_to_vec();
        let mut out = Vec::new();
        rewrite(RecordKind::Alerts, &payload, "VIN", &Filter::off(), &mut out).unwrap();
        let sent = VehicleAlerts::decode(&*out).unwrap();
        assert_eq!(sent.vin, "VIN");
        sent.alerts[0].started_at.unwrap()
    }

    #[test]
    fn milliseconds_become_seconds_and_nanoseconds() {
        assert_eq!(started_at(1_692_044_886_337, 5), Timestamp { seconds: 1_692_044_886, nanos: 337_000_000 });
        assert_eq!(started_at(315_576_000_000, 0), Timestamp { seconds: 315_576_000, nanos: 0 });
    }

    #[test]
    fn seconds_stay() {
        assert_eq!(started_at(315_575_999_999, 7), Timestamp { seconds: 315_575_999_999, nanos: 7 });
        assert_eq!(started_at(-5, 7), Timestamp { seconds: -5, nanos: 7 });
    }
}

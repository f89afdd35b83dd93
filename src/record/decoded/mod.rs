//! The typed form of a payload, for dispatchers that need values.

mod known;
pub mod value;

use std::borrow::Cow;

use prost::Message;

use super::RecordKind;
use super::transform::PayloadError;
use crate::proto::{vehicle_alerts, vehicle_connectivity, vehicle_data, vehicle_error};

/// A payload as its message type.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// Topic `V`.
    V(vehicle_data::Payload),
    /// Topic `alerts`.
    Alerts(vehicle_alerts::VehicleAlerts),
    /// Topic `errors`.
    Errors(vehicle_error::VehicleErrors),
    /// Topic `connectivity`.
    Connectivity(vehicle_connectivity::VehicleConnectivity),
    /// A custom topic: bytes that this server does not understand.
    Opaque,
}

impl Decoded {
    /// Decodes an outgoing payload.
    ///
    /// # Errors
    /// [`PayloadError`] when it is not the message that `kind` promises.
    pub fn decode(kind: RecordKind, payload: &[u8]) -> Result<Self, PayloadError> {
        Ok(match kind {
            RecordKind::V => Self::V(message("telemetry.vehicle_data.Payload", payload)?),
            RecordKind::Alerts => Self::Alerts(message("telemetry.vehicle_alerts.VehicleAlerts", payload)?),
            RecordKind::Errors => Self::Errors(errors(payload)?),
            RecordKind::Connectivity => {
                Self::Connectivity(message("telemetry.vehicle_connectivity.VehicleConnectivity", payload)?)
            }
            RecordKind::Custom(_) | RecordKind::Other => Self::Opaque,
        })
    }
}

/// The name of a field; its decimal number when the schema has none.
pub(crate) fn field_name(key: i32) -> Cow<'static, str> {
    let field = value::Enumerator::new(key, vehicle_data::Field::as_str_name);
    field.name.map_or_else(|| key.to_string().into(), Cow::Borrowed)
}

/// Decodes as leniently as the hot path checks: prost alone refuses a known field number with an unexpected
/// wire type and unknown groups nested more than 100 deep, both of which are merely unknown fields.
fn message<M: Message + Default>(name: &str, payload: &[u8]) -> Result<M, PayloadError> {
    M::decode(payload).or_else(|_| reduced(name, payload))
}

/// The same for a message with a map: prost does not look at a map's wire type, and takes the fields behind a wrong
/// one for an entry.
///
/// A megabyte can have half a million errors, so room for them is made once.
fn errors(payload: &[u8]) -> Result<vehicle_error::VehicleErrors, PayloadError> {
    const NAME: &str = "telemetry.vehicle_error.VehicleErrors";
    let Some(count) = known::firsts(NAME, payload) else { return reduced(NAME, payload) };
    let mut message = vehicle_error::VehicleErrors { errors: Vec::with_capacity(count), ..Default::default() };
    match message.merge(payload) {
        Ok(()) => Ok(message),
        Err(_) => reduced(NAME, payload),
    }
}

/// Decodes only what the schema knows.
fn reduced<M: Message + Default>(name: &str, payload: &[u8]) -> Result<M, PayloadError> {
    known::fields(name, payload)
        .and_then(|known| M::decode(known.as_slice()).ok())
        // prost tells neither where nor, in a stable form, why.
        .ok_or(PayloadError::Malformed { at: 0, reason: "does not decode" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: &[u8]) -> Result<vehicle_data::Payload, PayloadError> {
        match Decoded::decode(RecordKind::V, bytes)? {
            Decoded::V(payload) => Ok(payload),
            other => panic!("V decodes to its message, not {other:?}"),
        }
    }

    /// Payload field 200 as a group that holds itself `depth` times.
    fn groups(depth: usize) -> Vec<u8> {
        [[0xc3, 0x0c].repeat(depth), [0xc4, 0x0c].repeat(depth)].concat()
    }

    #[test]
    fn ignores_unknown_groups_however_deep() {
        let bytes = [&groups(10_000)[..], b"\x1a\x01v"].concat();
        assert_eq!(payload(&bytes).unwrap().vin, "v");
    }

    #[test]
    fn ignores_deep_groups_inside_nested_messages() {
        let group = groups(150);
        let mut bytes = vec![0x0a];
        prost::encode_length_delimiter(2 + group.len(), &mut bytes).unwrap();
        bytes.extend([0x08, 0x08]);
        bytes.extend(group);
        let payload = payload(&bytes).unwrap();
        assert_eq!(payload.data, [vehicle_data::Datum { key: 8, value: None }]);
    }

    #[test]
    fn ignores_known_numbers_with_another_wire_type() {
        // Payload.data as a varint, Value.double_value as a varint.
        let bytes = b"\x08\x05\x0a\x06\x08\x08\x12\x02\x28\x05\x1a\x01v";
        let payload = payload(bytes).unwrap();
        assert_eq!(payload.vin, "v");
        assert_eq!(payload.data[0].value, Some(vehicle_data::Value { value: None }));
    }

    #[test]
    fn ignores_a_map_that_comes_as_another_wire_type() {
        // VehicleError.tags as the varint 5, then VehicleError.name, of five bytes.
        match Decoded::decode(RecordKind::Errors, b"\x0a\x07\x18\x05\x12\x03abc").unwrap() {
            Decoded::Errors(decoded) => {
                assert_eq!(decoded.errors[0].name, "abc");
                assert!(decoded.errors[0].tags.is_empty(), "{:?}", decoded.errors[0].tags);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn keeps_map_entries_and_packed_enums_beside_unknown_fields() {
        let alerts = b"\x08\x01\x0a\x07\x0a\x01x\x12\x02\x01\x02";
        match Decoded::decode(RecordKind::Alerts, alerts).unwrap() {
            Decoded::Alerts(decoded) => assert_eq!(decoded.alerts[0].audiences, [1, 2]),
            other => panic!("{other:?}"),
        }
        let errors = b"\x08\x01\x0a\x08\x1a\x06\x0a\x01k\x12\x01v";
        match Decoded::decode(RecordKind::Errors, errors).unwrap() {
            Decoded::Errors(decoded) => assert_eq!(decoded.errors[0].tags["k"], "v"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refuses_what_is_not_protobuf() {
        for bytes in [
            &b"\x1a\x05v"[..],    // length past the end
            b"\xc3\x0c",          // group without end
            b"\xc3\x0c\xcc\x0c",  // group with another's end
            b"\xc4\x0c",          // end without group
            b"\x1a\x01\xff",      // vin is not UTF-8
            b"\x0f",              // wire type 7
            b"\x00\x00",          // field number 0
            b"\x08\x05\x1a\x05v", // behind a field that needs the lenient path
            b"\x08\x05\x1a\x01\xff",
        ] {
            assert!(payload(bytes).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn leaves_custom_topics_alone() {
        assert_eq!(Decoded::decode(RecordKind::Custom(0), b"\xff"), Ok(Decoded::Opaque));
    }
}

//! Which fields the vehicle's messages have, as constant tables. Source: `proto/*.proto`.

use crate::protobuf::wire::Value;
use crate::record::RecordKind;

/// A message type.
pub(super) struct Message {
    /// By field number.
    fields: &'static [Option<Kind>],
    /// Whether all fields are members of one oneof: at most one is set, and it is written even if zero.
    pub(super) is_oneof: bool,
    /// The field that carries the VIN; 0 in messages without one.
    pub(super) vin: u32,
}

/// The type of a field.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Bool,
    /// `int32` or an enum.
    Int32,
    Int64,
    Float,
    Double,
    /// A string, with its name.
    Text(&'static str),
    Message(&'static Message),
    /// Repeated messages.
    Items(&'static Message),
    /// Repeated enums, packed.
    Enums,
    /// `map<string, string>`, with the name of the field.
    Map(&'static str),
}

impl Message {
    /// What is known about a field; `None` for an unknown number and for a known one of another wire type,
    /// which a decoder must treat as unknown.
    #[inline]
    pub(super) fn kind(&self, number: u32, value: Value<'_>) -> Option<Kind> {
        let kind = (*self.fields.get(number as usize)?)?;
        let fits = match kind {
            Kind::Bool | Kind::Int32 | Kind::Int64 => matches!(value, Value::Varint(_)),
            Kind::Float => matches!(value, Value::Fixed32(_)),
            Kind::Double => matches!(value, Value::Fixed64(_)),
            Kind::Text(_) | Kind::Message(_) | Kind::Items(_) | Kind::Map(_) => matches!(value, Value::Bytes(_)),
            Kind::Enums => matches!(value, Value::Bytes(_) | Value::Varint(_)),
        };
        fits.then_some(kind)
    }
}

/// The message that a topic promises; `None` for topics that this server cannot read.
pub(super) fn of(kind: RecordKind) -> Option<&'static Message> {
    match kind {
        RecordKind::V => Some(&PAYLOAD),
        RecordKind::Alerts => Some(&VEHICLE_ALERTS),
        RecordKind::Errors => Some(&VEHICLE_ERRORS),
        RecordKind::Connectivity => Some(&VEHICLE_CONNECTIVITY),
        RecordKind::Custom(_) | RecordKind::Other => None,
    }
}

static PAYLOAD: Message = Message {
    fields: &[
        None,
        Some(Kind::Items(&DATUM)),
        Some(Kind::Message(&TIMESTAMP)),
        Some(Kind::Text("vin")),
        Some(Kind::Bool),
    ],
    is_oneof: false,
    vin: 3,
};

pub(super) static DATUM: Message = message(&[None, Some(Kind::Int32), Some(Kind::Message(&VALUE))]);

pub(super) static VALUE: Message = Message { fields: &VALUE_FIELDS, is_oneof: true, vin: 0 };

/// One more than the greatest number of a kind of value; a new kind that is an enum is this number alone.
const VALUE_NUMBERS: usize = 56;

/// Those that are not listed are enums, except 20, which is unused.
const VALUE_FIELDS: [Option<Kind>; VALUE_NUMBERS] = {
    let mut fields = [Some(Kind::Int32); VALUE_NUMBERS];
    fields[0] = None;
    fields[1] = Some(Kind::Text("string_value"));
    fields[3] = Some(Kind::Int64);
    fields[4] = Some(Kind::Float);
    fields[5] = Some(Kind::Double);
    fields[6] = Some(Kind::Bool);
    fields[7] = Some(Kind::Message(&LOCATION_VALUE));
    fields[10] = Some(Kind::Bool);
    fields[20] = None;
    fields[21] = Some(Kind::Message(&DOORS));
    fields[31] = Some(Kind::Message(&TIME));
    fields[39] = Some(Kind::Message(&TIRE_LOCATION));
    fields
};

static LOCATION_VALUE: Message = message(&[None, Some(Kind::Double), Some(Kind::Double)]);

static DOORS: Message = message(&DOORS_FIELDS);
const DOORS_FIELDS: [Option<Kind>; 7] = flags();

static TIRE_LOCATION: Message = message(&TIRE_LOCATION_FIELDS);
const TIRE_LOCATION_FIELDS: [Option<Kind>; 11] = flags();

static TIME: Message = message(&[None, Some(Kind::Int32), Some(Kind::Int32), Some(Kind::Int32)]);

static TIMESTAMP: Message = message(&[None, Some(Kind::Int64), Some(Kind::Int32)]);

static VEHICLE_ALERTS: Message = Message {
    fields: &[None, Some(Kind::Items(&VEHICLE_ALERT)), Some(Kind::Message(&TIMESTAMP)), Some(Kind::Text("vin"))],
    is_oneof: false,
    vin: 3,
};

pub(super) static VEHICLE_ALERT: Message = message(&[
    None,
    Some(Kind::Text("name")),
    Some(Kind::Enums),
    Some(Kind::Message(&TIMESTAMP)),
    Some(Kind::Message(&TIMESTAMP)),
]);

static VEHICLE_ERRORS: Message = Message {
    fields: &[None, Some(Kind::Items(&VEHICLE_ERROR)), Some(Kind::Message(&TIMESTAMP)), Some(Kind::Text("vin"))],
    is_oneof: false,
    vin: 3,
};

static VEHICLE_ERROR: Message = message(&[
    None,
    Some(Kind::Message(&TIMESTAMP)),
    Some(Kind::Text("name")),
    Some(Kind::Map("tags")),
    Some(Kind::Text("body")),
]);

static VEHICLE_CONNECTIVITY: Message = Message {
    fields: &[
        None,
        Some(Kind::Text("vin")),
        Some(Kind::Text("connection_id")),
        Some(Kind::Int32),
        Some(Kind::Message(&TIMESTAMP)),
        Some(Kind::Text("network_interface")),
    ],
    is_oneof: false,
    vin: 1,
};

const fn message(fields: &'static [Option<Kind>]) -> Message {
    Message { fields, is_oneof: false, vin: 0 }
}

/// Bools numbered from 1 to `N - 1`.
const fn flags<const N: usize>() -> [Option<Kind>; N] {
    let mut fields = [Some(Kind::Bool); N];
    fields[0] = None;
    fields
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;
    use prost_types::field_descriptor_proto::Type;

    use super::*;

    #[test]
    fn values_are_walked_as_the_schema_has_them() {
        let files = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
        let mut messages = files.file.into_iter().flat_map(|file| file.message_type);
        let value = messages.find(|message| message.name() == "Value").unwrap();
        let number = |field: &prost_types::FieldDescriptorProto| usize::try_from(field.number()).unwrap();
        for field in &value.field {
            let walked = VALUE_FIELDS.get(number(field)).and_then(Option::as_ref);
            let fits = match field.r#type() {
                Type::String => matches!(walked, Some(Kind::Text(_))),
                Type::Int64 => matches!(walked, Some(Kind::Int64)),
                Type::Float => matches!(walked, Some(Kind::Float)),
                Type::Double => matches!(walked, Some(Kind::Double)),
                Type::Bool => matches!(walked, Some(Kind::Bool)),
                Type::Message => matches!(walked, Some(Kind::Message(_))),
                _ => matches!(walked, Some(Kind::Int32)),
            };
            assert!(fits, "{} ({})", field.name(), field.number());
        }
        let known: Vec<usize> = value.field.iter().map(number).collect();
        let walked = (0..VALUE_NUMBERS).filter(|at| VALUE_FIELDS[*at].is_some());
        assert!(walked.clone().all(|at| known.contains(&at)), "{:?}", walked.collect::<Vec<_>>());
    }
}

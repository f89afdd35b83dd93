//! What records hold as columns that a person can query, for the dispatchers that write tables.

use std::borrow::Cow;

use crate::proto::vehicle_alerts::Audience;
use crate::proto::vehicle_connectivity::ConnectivityEvent;
use crate::proto::vehicle_data as proto;
use crate::record::Decoded;
use crate::record::decoded::value::{Content, Enumerator, View};

/// One value, spread over the columns of `fields`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cells<'a> {
    /// What kind of value it is: a closed set, listed in `docs/sqlite.md`.
    pub(crate) kind: &'static str,
    pub(crate) number: Option<Number>,
    pub(crate) text: Option<Cow<'a, str>>,
    pub(crate) latitude: Option<f64>,
    pub(crate) longitude: Option<f64>,
}

/// Integers stay integers: a `long` may not fit a float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Integer(i64),
    Real(f64),
}

impl<'a> Cells<'a> {
    /// `None`: the datum has no value, or one of a kind that this server does not know.
    pub(crate) fn of(view: Option<View<'a>>) -> Self {
        let Some(View { content, .. }) = view else { return Self::empty("none") };
        match content {
            Content::Text(text) => string(text),
            Content::Int(n) => integer("int", i64::from(n)),
            Content::Long(n) => integer("long", n),
            Content::Float(n) => float(n),
            Content::Double(n) => real("double", n),
            Content::Bool(is) => boolean(is),
            Content::Location(at) => location(at),
            Content::Invalid(_) => Self::empty("invalid"),
            Content::Doors(doors) => flags("doors", &door_flags(&doors)),
            Content::Tires(tires) => flags("tires", &tire_flags(&tires)),
            Content::Time(time) => time_of_day(time),
            Content::Enum(enumerator) => named(enumerator),
        }
    }

    fn empty(kind: &'static str) -> Self {
        Self { kind, number: None, text: None, latitude: None, longitude: None }
    }
}

/// Older firmware sends numbers as text; those can be queried as numbers too.
fn string(text: &str) -> Cells<'_> {
    Cells { number: parse_number(text), text: Some(text.into()), ..Cells::empty("string") }
}

/// Decimal notation only, so that "NaN", "infinity" and empty strings stay text.
fn parse_number(text: &str) -> Option<Number> {
    if !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')) {
        return None;
    }
    let integer = text.parse().map(Number::Integer);
    integer.or_else(|_| text.parse().map(Number::Real)).ok().filter(|number| match number {
        Number::Integer(_) => true,
        Number::Real(n) => n.is_finite(),
    })
}

fn integer(kind: &'static str, n: i64) -> Cells<'static> {
    Cells { number: Some(Number::Integer(n)), ..Cells::empty(kind) }
}

/// The shortest decimal that is this float, so that 21.3 is stored as 21.3 and not as 21.299999237….
fn float(n: f32) -> Cells<'static> {
    let mut buffer = ryu::Buffer::new();
    real("float", buffer.format(n).parse().unwrap_or_else(|_| f64::from(n)))
}

/// SQLite has no NaN, and a number that is not one should not look like one.
fn real(kind: &'static str, n: f64) -> Cells<'static> {
    if n.is_finite() {
        Cells { number: Some(Number::Real(n)), ..Cells::empty(kind) }
    } else {
        let text = if n.is_nan() {
            "NaN"
        } else if n > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        Cells { text: Some(text.into()), ..Cells::empty(kind) }
    }
}

fn boolean(is: bool) -> Cells<'static> {
    let text = if is { "true" } else { "false" };
    Cells { number: Some(Number::Integer(is.into())), text: Some(text.into()), ..Cells::empty("boolean") }
}

fn location(at: proto::LocationValue) -> Cells<'static> {
    Cells { latitude: Some(at.latitude), longitude: Some(at.longitude), ..Cells::empty("location") }
}

fn time_of_day(time: proto::Time) -> Cells<'static> {
    let proto::Time { hour, minute, second } = time;
    Cells { text: Some(format!("{hour:02}:{minute:02}:{second:02}").into()), ..Cells::empty("time") }
}

/// A JSON object of booleans.
fn flags(kind: &'static str, flags: &[(&str, bool)]) -> Cells<'static> {
    let members: Vec<String> = flags.iter().map(|(name, is)| format!("\"{name}\":{is}")).collect();
    Cells { text: Some(format!("{{{}}}", members.join(",")).into()), ..Cells::empty(kind) }
}

fn door_flags(doors: &proto::Doors) -> [(&'static str, bool); 6] {
    [
        ("DriverFront", doors.driver_front),
        ("DriverRear", doors.driver_rear),
        ("PassengerFront", doors.passenger_front),
        ("PassengerRear", doors.passenger_rear),
        ("TrunkFront", doors.trunk_front),
        ("TrunkRear", doors.trunk_rear),
    ]
}

fn tire_flags(tires: &proto::TireLocation) -> [(&'static str, bool); 10] {
    [
        ("front_left", tires.front_left),
        ("front_right", tires.front_right),
        ("rear_left", tires.rear_left),
        ("rear_right", tires.rear_right),
        ("semi_middle_axle_left_2", tires.semi_middle_axle_left_2),
        ("semi_middle_axle_right_2", tires.semi_middle_axle_right_2),
        ("semi_rear_axle_left", tires.semi_rear_axle_left),
        ("semi_rear_axle_right", tires.semi_rear_axle_right),
        ("semi_rear_axle_left_2", tires.semi_rear_axle_left_2),
        ("semi_rear_axle_right_2", tires.semi_rear_axle_right_2),
    ]
}

/// A number without a name stays a number.
fn named(enumerator: Enumerator) -> Cells<'static> {
    Cells { text: enumerator.name.map(Cow::Borrowed), ..integer("enum", i64::from(enumerator.number)) }
}

/// When the vehicle made a record; milliseconds since the epoch.
pub(crate) fn created_ms(decoded: &Decoded) -> Option<i64> {
    millis(match decoded {
        Decoded::V(message) => message.created_at.as_ref(),
        Decoded::Alerts(message) => message.created_at.as_ref(),
        Decoded::Errors(message) => message.created_at.as_ref(),
        Decoded::Connectivity(message) => message.created_at.as_ref(),
        Decoded::Opaque => None,
    })
}

/// Milliseconds since the epoch.
pub(crate) fn millis(timestamp: Option<&prost_types::Timestamp>) -> Option<i64> {
    timestamp.map(|at| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos.div_euclid(1_000_000))))
}

/// Its name, or its number.
pub(crate) fn audience(number: i32) -> String {
    Audience::try_from(number).map_or_else(|_| number.to_string(), |audience| audience.as_str_name().to_owned())
}

/// Its name, or its number.
pub(crate) fn status(number: i32) -> String {
    ConnectivityEvent::try_from(number).map_or_else(|_| number.to_string(), |status| status.as_str_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::vehicle_data::Value;
    use crate::proto::vehicle_data::value::Value as Kind;

    fn value(kind: Kind) -> Value {
        Value { value: Some(kind) }
    }

    #[test]
    fn text_that_is_a_decimal_number_is_a_number_too() {
        for (text, number) in [
            ("65.2", Some(Number::Real(65.2))),
            ("-12", Some(Number::Integer(-12))),
            ("1.5e3", Some(Number::Real(1500.0))),
            ("9223372036854775808", Some(Number::Real(9_223_372_036_854_775_808.0))),
            ("1e999", None),
            ("", None),
            ("-", None),
            ("NaN", None),
            ("inf", None),
            ("0x10", None),
            ("e", None),
            ("12 km", None),
        ] {
            let value = value(Kind::StringValue(text.to_owned()));
            let cells = Cells::of(value.view());
            assert_eq!((cells.kind, cells.number), ("string", number), "{text:?}");
            assert_eq!(cells.text.as_deref(), Some(text));
        }
    }

    #[test]
    fn a_float_is_stored_as_people_write_it_and_keeps_its_bits() {
        for n in [21.3_f32, 0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, 16_777_217.0, 1e-45] {
            let Some(Number::Real(stored)) = float(n).number else { panic!("{n} is a number") };
            #[expect(clippy::cast_possible_truncation)]
            let back = stored as f32;
            assert_eq!(back.to_bits(), n.to_bits(), "{n}");
        }
        assert_eq!(float(21.3).number, Some(Number::Real(21.3)));
    }

    #[test]
    fn what_is_not_a_number_is_text() {
        assert_eq!((float(f32::NAN).number, float(f32::NAN).text.as_deref()), (None, Some("NaN")));
        assert_eq!(real("double", f64::INFINITY).text.as_deref(), Some("Infinity"));
        assert_eq!(real("double", f64::NEG_INFINITY).text.as_deref(), Some("-Infinity"));
    }

    /// Every number of the oneof, by reflection on the wire: field `n` of `Value` as a varint.
    #[test]
    fn every_enum_kind_has_names_and_keeps_unknown_numbers() {
        use prost::Message;
        let not_enums = [1, 2, 3, 4, 5, 6, 7, 10, 20, 21, 31, 39];
        for tag in (1..=55_u32).filter(|tag| !not_enums.contains(tag)) {
            // Of the last one no name but that of 0 is published.
            for (number, is_known) in [(u8::from(tag != 55), true), (99, false)] {
                let mut wire = Vec::new();
                prost::encoding::encode_key(tag, prost::encoding::WireType::Varint, &mut wire);
                wire.push(number);
                let value = proto::Value::decode(&wire[..]).expect("valid");
                let cells = Cells::of(value.view());
                assert_eq!((cells.kind, cells.number), ("enum", Some(Number::Integer(number.into()))), "tag {tag}");
                assert_eq!(cells.text.is_some(), is_known, "tag {tag}");
            }
        }
    }

    #[test]
    fn compound_values_are_text_that_can_be_queried() {
        let doors = proto::Doors { driver_front: true, ..Default::default() };
        let with_doors = value(Kind::DoorValue(doors));
        let cells = Cells::of(with_doors.view());
        let json: serde_json::Value = serde_json::from_str(&cells.text.expect("text")).expect("JSON");
        assert_eq!((json["DriverFront"].as_bool(), json["TrunkRear"].as_bool()), (Some(true), Some(false)));
        let time = value(Kind::TimeValue(proto::Time { hour: 7, minute: 5, second: 0 }));
        assert_eq!(Cells::of(time.view()).text.as_deref(), Some("07:05:00"));
        assert_eq!(Cells::of(value(Kind::Invalid(true)).view()), Cells::empty("invalid"));
        assert_eq!(Cells::of(None), Cells::empty("none"));
    }
}

//! What changes in the data of a `V` record.

use std::io::{Cursor, Write as _};

use super::check::{self, Form};
use super::splice::Splice;
use super::stamp::Item;
use super::{PayloadError, schema};
use crate::config::rules::Action;
use crate::permissions::filter::{Decision, Filter, Outcome, Subject, Tally};
use crate::protobuf::wire::{Fields, Value, bytes_len, put_bytes, put_tag, put_varint, varint_len, wire_type};
use crate::protobuf::{decimal, location};
use crate::work;

/// `Field.Location`.
const LOCATION: i32 = 21;

/// The first byte of a `Value` in the outgoing form that is a string.
const STRING_TAG: u8 = (1 << 3) | wire_type::BYTES as u8;

/// Tags of a datum and of its value.
const KEY_TAG: u8 = (1 << 3) | wire_type::VARINT as u8;
const VALUE_TAG: u8 = (2 << 3) | wire_type::BYTES as u8;
const FLOAT_TAG: u8 = (4 << 3) | wire_type::FIXED32 as u8;
const DOUBLE_TAG: u8 = (5 << 3) | wire_type::FIXED64 as u8;

/// `Value { invalid: true }`, encoded.
const INVALID: &[u8] = &[(10 << 3) | wire_type::VARINT as u8, 1];

/// The rules over one record.
pub(super) struct Rewrite<'f> {
    filter: &'f Filter<'f>,
    /// What the filter takes.
    tally: &'f mut Tally,
    /// Only the first datum with the key `Location` is looked at, whatever its value.
    location_seen: bool,
}

/// What becomes of a datum.
enum Verdict {
    Keep,
    /// A string that is a location becomes a location.
    Location(location::Degrees),
    /// A string in scientific notation becomes one in decimal notation.
    Decimal(f32),
    /// The owner has not allowed it: it goes.
    Drop,
    /// The owner has not allowed it: its key stays.
    Invalid,
    /// The owner has not allowed it: its key stays, with this location.
    Coarse(location::Degrees),
}

impl<'f> Rewrite<'f> {
    pub(super) fn new(filter: &'f Filter<'f>, tally: &'f mut Tally) -> Self {
        Self { filter, tally, location_seen: false }
    }

    /// One step of the walk: checks a datum, decides what becomes of it, and puts that into the copy.
    pub(super) fn datum<'a>(&mut self, item: &Item<'a>, out: &mut Splice<'a, '_>) -> Result<Form, PayloadError> {
        let Some(datum) = Datum::read(item)? else { return Ok(Form::Other) };
        let (start, end) = (item.start, item.end);
        match self.decide(&datum) {
            Verdict::Keep => {}
            Verdict::Location(degrees) => {
                out.replace(start, end, |out| datum.put_with(Replacement::location(degrees).bytes(), out));
            }
            Verdict::Decimal(number) => {
                out.replace(start, end, |out| datum.put_with(Replacement::decimal(number).bytes(), out));
            }
            Verdict::Drop => out.replace(start, end, |_| ()),
            Verdict::Invalid => out.replace(start, end, |out| datum.put_only(INVALID, out)),
            Verdict::Coarse(degrees) => {
                out.replace(start, end, |out| datum.put_only(Replacement::location(degrees).bytes(), out));
            }
        }
        Ok(Form::Canonical)
    }

    fn decide(&mut self, datum: &Datum<'_>) -> Verdict {
        if (datum.has_unknown || !self.filter.passes(datum.key, datum.value))
            && let Some(verdict) = self.withhold(datum)
        {
            return verdict;
        }
        let is_location = datum.key == LOCATION && !std::mem::replace(&mut self.location_seen, true);
        let Some(text) = datum.text() else { return Verdict::Keep };
        if is_location && let Some(degrees) = location::parse(text) {
            return Verdict::Location(degrees);
        }
        decimal::parse(text).map_or(Verdict::Keep, Verdict::Decimal)
    }

    /// What the filter makes of a datum; `None` when it passes.
    fn withhold(&mut self, datum: &Datum<'_>) -> Option<Verdict> {
        let decision = match self.filter.datum(datum.key, datum.value) {
            Decision::Keep if datum.has_unknown => self.filter.unknown(),
            decision => decision,
        };
        let (verdict, outcome) = match decision {
            Decision::Keep => return None,
            Decision::Audit => (None, Outcome::Audit),
            Decision::Withhold(Action::Drop) => (Some(Verdict::Drop), Outcome::Drop),
            Decision::Withhold(Action::Invalid) => (Some(Verdict::Invalid), Outcome::Invalid),
            Decision::Withhold(Action::Coarsen(decimals)) => {
                match datum.degrees().and_then(|at| at.rounded(decimals)) {
                    Some(degrees) => (Some(Verdict::Coarse(degrees)), Outcome::Coarsen),
                    None => (Some(Verdict::Drop), Outcome::Drop),
                }
            }
        };
        self.filter.note(self.tally, Subject::Datum(datum.key), outcome);
        verdict
    }
}

/// A datum in the outgoing form: its key, its value, then unknown fields.
struct Datum<'a> {
    bytes: &'a [u8],
    key: i32,
    /// The encoded `Value`; empty when absent.
    value: &'a [u8],
    /// Where the field `value` starts and ends in `bytes`.
    value_at: std::ops::Range<usize>,
    /// Whether it, or its value, has fields that the schema does not know.
    has_unknown: bool,
}

impl<'a> Datum<'a> {
    /// Checks a datum; `None` when it is not in the outgoing form.
    #[inline]
    fn read(item: &Item<'a>) -> Result<Option<Self>, PayloadError> {
        if let Some(datum) = Self::number(item.bytes) {
            return Ok(Some(datum));
        }
        let mut datum = Self { bytes: item.bytes, key: 0, value: b"", value_at: 0..0, has_unknown: false };
        let form = check::message_with(&schema::DATUM, item.bytes, item.base(), |field| match field.value {
            Value::Varint(key) => datum.key = key as i32,
            Value::Bytes(value) => {
                datum.value = value;
                datum.value_at = field.start..field.end;
            }
            _ => {}
        })?;
        datum.has_unknown = form == Form::Extended;
        Ok((form != Form::Other).then_some(datum))
    }

    /// Recognises what most datums are without walking their fields: a known key, and nothing but a number or
    /// a flag. `None` says nothing about the datum.
    #[inline]
    fn number(bytes: &'a [u8]) -> Option<Self> {
        let (key, len, value) = match bytes {
            [KEY_TAG, key @ 1..0x80, VALUE_TAG, len, value @ ..] => (i32::from(*key), len, value),
            [KEY_TAG, low @ 0x80..=0xff, high @ 1..0x80, VALUE_TAG, len, value @ ..] => {
                (i32::from(low & 0x7f) | i32::from(*high) << 7, len, value)
            }
            _ => return None,
        };
        let is_number = match value {
            [DOUBLE_TAG, bits @ ..] => bits.len() == 8,
            [FLOAT_TAG, bits @ ..] => bits.len() == 4,
            [tag @ ..0x80, small @ ..0x80] if tag & 7 == 0 => is_small_number(tag >> 3, *small),
            _ => false,
        };
        // A length of one byte, which is all that these values need.
        let at = bytes.len() - value.len() - 2;
        let datum = Self { bytes, key, value, value_at: at..bytes.len(), has_unknown: false };
        (is_number && usize::from(*len) == value.len()).then_some(datum)
    }

    /// The value if it is a string.
    #[inline]
    fn text(&self) -> Option<&'a str> {
        if self.value.first() != Some(&STRING_TAG) {
            return None;
        }
        work::took(self.value.len());
        match Fields::new(self.value).next().ok()??.value {
            Value::Bytes(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// The location that the value is, or says in the form of old firmware, to be rounded.
    fn degrees(&self) -> Option<location::Degrees> {
        if let Some(text) = self.text() {
            return location::parse_to_round(text);
        }
        let (7, Value::Bytes(location)) =
            Fields::new(self.value).next().ok()?.map(|field| (field.number, field.value))?
        else {
            return None;
        };
        let mut degrees = location::Degrees { latitude: 0.0, longitude: 0.0 };
        let mut fields = Fields::new(location);
        while let Some(field) = fields.next().ok()? {
            match (field.number, field.value) {
                (1, Value::Fixed64(bits)) => degrees.latitude = f64::from_bits(bits),
                (2, Value::Fixed64(bits)) => degrees.longitude = f64::from_bits(bits),
                _ => {}
            }
        }
        Some(degrees)
    }

    /// Appends the field `data` with the key and another value, and nothing else of this datum.
    fn put_only(&self, value: &[u8], out: &mut Vec<u8>) {
        let key = i64::from(self.key) as u64;
        let key_len = if key == 0 { 0 } else { 1 + varint_len(key) };
        put_tag(out, 1, wire_type::BYTES);
        put_varint(out, (key_len + bytes_len(value.len())) as u64);
        if key != 0 {
            put_tag(out, 1, wire_type::VARINT);
            put_varint(out, key);
        }
        put_bytes(out, 2, value);
    }

    /// Appends the field `data` with another value.
    fn put_with(&self, value: &[u8], out: &mut Vec<u8>) {
        work::took(self.bytes.len());
        let len = self.bytes.len() - self.value_at.len() + bytes_len(value.len());
        put_tag(out, 1, wire_type::BYTES);
        put_varint(out, len as u64);
        out.extend_from_slice(&self.bytes[..self.value_at.start]);
        put_bytes(out, 2, value);
        out.extend_from_slice(&self.bytes[self.value_at.end..]);
    }
}

fn is_small_number(number: u8, value: u8) -> bool {
    let value = Value::Varint(value.into());
    let kind = schema::VALUE.kind(number.into(), value);
    kind.is_some_and(|kind| check::value(kind, value, true, 0) == Ok(Form::Canonical))
}

/// An encoded `Value`.
struct Replacement(Cursor<[u8; Self::CAPACITY]>);

impl Replacement {
    /// The longest is the least `f32`: a sign, 39 digits, a point and five digits after tag and length.
    const CAPACITY: usize = 48;
    const FITS: &'static str = "every replacement fits the buffer";

    fn location(degrees: location::Degrees) -> Self {
        let mut fields = Cursor::new([0; 18]);
        for (number, degrees) in [(1, degrees.latitude), (2, degrees.longitude)] {
            // Positive zero is the default; negative zero is not.
            if degrees.to_bits() != 0 {
                fields.write_all(&[number << 3 | wire_type::FIXED64 as u8]).expect(Self::FITS);
                fields.write_all(&degrees.to_le_bytes()).expect(Self::FITS);
            }
        }
        let len = fields.position() as usize;
        Self::of(7, &fields.get_ref()[..len])
    }

    fn decimal(number: f32) -> Self {
        let mut text = Cursor::new([0; Self::CAPACITY - 2]);
        decimal::write(number, &mut text).expect(Self::FITS);
        let len = text.position() as usize;
        Self::of(1, &text.get_ref()[..len])
    }

    fn of(number: u8, bytes: &[u8]) -> Self {
        let mut value = Cursor::new([0; Self::CAPACITY]);
        value.write_all(&[number << 3 | wire_type::BYTES as u8, bytes.len() as u8]).expect(Self::FITS);
        value.write_all(bytes).expect(Self::FITS);
        Self(value)
    }

    fn bytes(&self) -> &[u8] {
        &self.0.get_ref()[..self.0.position() as usize]
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use crate::permissions::{Action, Filter, Mode, Rules};
    use crate::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value, value};
    use crate::record::RecordKind;
    use crate::record::transform::{PayloadError, rewrite};
    use crate::scope::{Scope, Scopes};

    fn rewritten(payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
        let mut out = b"before".to_vec();
        let result = rewrite(RecordKind::V, payload, "VIN", &Filter::off(), &mut out);
        assert!(out.starts_with(b"before"));
        if result.is_err() {
            assert_eq!(out, b"before", "an error leaves the buffer as it was");
        }
        result.map(|()| out.split_off(6))
    }

    fn datum(key: Field, value: value::Value) -> Datum {
        Datum { key: key.into(), value: Some(Value { value: Some(value) }) }
    }

    #[test]
    fn the_longest_decimal_fits() {
        let text = format!("{:.1}e0", f32::MIN);
        let payload = Payload { data: vec![datum(Field::Soc, value::Value::StringValue(text))], ..Default::default() };
        let out = Payload::decode(&*rewritten(&payload.encode_to_vec()).unwrap()).unwrap();
        let expected = format!("{:.5}", f32::MIN);
        assert_eq!(out.data[0], datum(Field::Soc, value::Value::StringValue(expected)));
    }

    #[test]
    fn a_replaced_value_loses_its_unknown_fields_and_its_datum_keeps_them() {
        // datum { key: Location, value { "(1 N, 2 E)", 61: 1 }, 61: 2 }
        let payload = b"\x0a\x16\x08\x15\x12\x0f\x0a\x0a(1 N, 2 E)\xe8\x03\x01\xe8\x03\x02";
        let expected =
            b"\x0a\x1b\x08\x15\x12\x14\x3a\x12\x09\0\0\0\0\0\0\xf0\x3f\x11\0\0\0\0\0\0\0\x40\xe8\x03\x02\x1a\x03VIN";
        assert_eq!(rewritten(payload).unwrap(), expected);
    }

    #[test]
    fn a_withheld_datum_goes_or_leaves_its_key_or_a_coarser_place() {
        let place = LocationValue { latitude: 37.412_374, longitude: -122.145_867 };
        let soc = datum(Field::Soc, value::Value::DoubleValue(71.0));
        let data = vec![
            datum(Field::Location, value::Value::StringValue("(37.412374 N, 122.145867 W)".into())),
            soc.clone(),
            datum(Field::OriginLocation, value::Value::LocationValue(place)),
            datum(Field::GpsHeading, value::Value::DoubleValue(5.0)),
        ];
        let payload = Payload { data, ..Default::default() }.encode_to_vec();
        let filtered = |action| {
            let rules = Rules { mode: Mode::Enforce, action, enforced: Scopes::ALL, ..Rules::off() };
            let filter = Filter::new(&rules, Scopes::NONE.with(Scope::VehicleLocation));
            let mut out = Vec::new();
            rewrite(RecordKind::V, &payload, "VIN", &filter, &mut out).unwrap();
            Payload::decode(&*out).unwrap().data
        };
        assert_eq!(filtered(Action::Drop), std::slice::from_ref(&soc));
        let invalid = |key| datum(key, value::Value::Invalid(true));
        let left = [invalid(Field::Location), soc.clone(), invalid(Field::OriginLocation), invalid(Field::GpsHeading)];
        assert_eq!(filtered(Action::Invalid), left);
        let coarse = value::Value::LocationValue(LocationValue { latitude: 37.4, longitude: -122.1 });
        let left = [datum(Field::Location, coarse.clone()), soc, datum(Field::OriginLocation, coarse)];
        assert_eq!(filtered(Action::Coarsen(1)), left);
    }

    #[test]
    fn errors_say_where() {
        assert_eq!(
            rewritten(b"\x0a\x08\x08\x08\x12\x04\x0a\x02\xc3\x28"),
            Err(PayloadError::InvalidUtf8 { field: "string_value", at: 8 })
        );
        assert_eq!(
            rewritten(b"\x0a\x05\x08\x08\x12\x04\x0a"),
            Err(PayloadError::Malformed { at: 6, reason: "field runs past the end" })
        );
    }
}

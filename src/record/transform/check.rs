//! Validates messages, and says whether they are in the outgoing form.

use std::collections::HashSet;

use super::PayloadError;
use super::schema::{Kind, Message};
use crate::protobuf::wire::{Field, Fields, Packed, Value};
use crate::work;

/// How a valid message is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// As the reference server would encode it: known fields once and in order of their numbers, none at
    /// its default value, all with the shortest tags, lengths and varints.
    Canonical,
    /// The same, with unknown fields after the known ones, here or in a message within.
    Extended,
    /// In any other way.
    Other,
}

impl Form {
    pub(super) fn canonical_if(canonical: bool) -> Self {
        if canonical { Self::Canonical } else { Self::Other }
    }

    /// Of a message in which both are.
    fn and(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Checks all of `bytes`, which start at `base` in the payload.
pub(super) fn message(message: &Message, bytes: &[u8], base: usize) -> Result<Form, PayloadError> {
    message_with(message, bytes, base, |_| ())
}

/// Like [`message`]; shows every known field to `seen`.
#[inline]
pub(super) fn message_with<'a>(
    message: &Message,
    bytes: &'a [u8],
    base: usize,
    mut seen: impl FnMut(&Field<'a>),
) -> Result<Form, PayloadError> {
    let mut fields = Fields::new(bytes);
    let mut order = Order::default();
    let mut form = Form::Canonical;
    let mut map_entries = 0_u32;
    while let Some(field) = fields.next().map_err(PayloadError::malformed(base))? {
        let kind = message.kind(field.number, field.value);
        form = form.and(Form::canonical_if(order.accepts(message, kind, &field)));
        let Some(kind) = kind else {
            form = form.and(Form::Extended);
            continue;
        };
        let value_base = base + field.end - value_len(&field);
        form = form.and(value(kind, field.value, message.is_oneof, value_base)?);
        map_entries += u32::from(matches!(kind, Kind::Map(_)));
        seen(&field);
    }
    if form == Form::Other {
        return Ok(form);
    }
    Ok(form.and(Form::canonical_if(map_entries < 2 || map_keys_are_unique(message, bytes))))
}

/// The order of fields in the outgoing form.
#[derive(Default)]
pub(super) struct Order {
    previous: u32,
}

impl Order {
    /// Greater than any known field's number.
    const UNKNOWN: u32 = u32::MAX;

    /// Whether the tag and length of `field` are as short as can be and it may follow those before it.
    #[inline]
    pub(super) fn accepts(&mut self, message: &Message, kind: Option<Kind>, field: &Field<'_>) -> bool {
        let Some(kind) = kind else {
            self.previous = Self::UNKNOWN;
            return field.tag_is_minimal;
        };
        let previous = std::mem::replace(&mut self.previous, field.number);
        let repeats = matches!(kind, Kind::Items(_) | Kind::Map(_));
        let follows = match message.is_oneof {
            true => previous == 0,
            false => field.number > previous || (repeats && field.number == previous),
        };
        follows && field.tag_is_minimal && field.value_is_minimal
    }
}

/// Checks a known field's value. `may_be_zero`: the field is written even at its default value.
#[inline]
pub(super) fn value(kind: Kind, value: Value<'_>, may_be_zero: bool, base: usize) -> Result<Form, PayloadError> {
    Ok(Form::canonical_if(match (kind, value) {
        (Kind::Bool, Value::Varint(value)) => value == 1 || (may_be_zero && value == 0),
        (Kind::Int32, Value::Varint(value)) => is_int32(value) && (may_be_zero || value != 0),
        (Kind::Int64, Value::Varint(value)) => may_be_zero || value != 0,
        (Kind::Float, Value::Fixed32(bits)) => may_be_zero || bits != 0,
        (Kind::Double, Value::Fixed64(bits)) => may_be_zero || bits != 0,
        (Kind::Text(field), Value::Bytes(bytes)) => {
            text(field, bytes, base)?;
            may_be_zero || !bytes.is_empty()
        }
        (Kind::Message(inner) | Kind::Items(inner), Value::Bytes(bytes)) => return message(inner, bytes, base),
        (Kind::Enums, Value::Bytes(bytes)) => return packed(bytes, base),
        (Kind::Map(field), Value::Bytes(bytes)) => return map_entry(field, bytes, base),
        (Kind::Enums, _) => false,
        _ => unreachable!("the schema only knows fields of the right wire type"),
    }))
}

/// Whether a varint is the encoding of an `int32`: sign-extended to 64 bits.
fn is_int32(value: u64) -> bool {
    value as i32 as u64 == value
}

fn text(field: &'static str, bytes: &[u8], base: usize) -> Result<(), PayloadError> {
    work::took(bytes.len());
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(PayloadError::InvalidUtf8 { field, at: base + error.valid_up_to() }),
    }
}

fn packed(bytes: &[u8], base: usize) -> Result<Form, PayloadError> {
    let mut values = Packed::new(bytes);
    let mut canonical = !bytes.is_empty();
    while let Some((value, is_minimal)) = values.next().map_err(PayloadError::malformed(base))? {
        canonical &= is_minimal && is_int32(value);
    }
    Ok(Form::canonical_if(canonical))
}

/// In the outgoing form an entry has a key and a value, even if empty, and nothing else.
fn map_entry(name: &'static str, bytes: &[u8], base: usize) -> Result<Form, PayloadError> {
    let mut fields = Fields::new(bytes);
    let mut canonical = true;
    let mut known = 0;
    while let Some(field) = fields.next().map_err(PayloadError::malformed(base))? {
        match (field.number, field.value) {
            (1 | 2, Value::Bytes(bytes)) => {
                text(name, bytes, base + field.end - bytes.len())?;
                known += 1;
                canonical &= field.number == known && field.tag_is_minimal && field.value_is_minimal;
            }
            _ => canonical = false,
        }
    }
    Ok(Form::canonical_if(canonical && known == 2))
}

/// `bytes` are a valid message with a map.
fn map_keys_are_unique(message: &Message, bytes: &[u8]) -> bool {
    let mut fields = Fields::new(bytes);
    // Hashed with a key of this process, so that nobody can make keys that clash.
    let mut keys = HashSet::new();
    while let Ok(Some(field)) = fields.next() {
        if let (Some(Kind::Map(_)), Value::Bytes(entry)) = (message.kind(field.number, field.value), field.value) {
            let key = match Fields::new(entry).next() {
                Ok(Some(Field { value: Value::Bytes(key), .. })) => key,
                _ => b"",
            };
            work::took(key.len());
            if !keys.insert(key) {
                return false;
            }
        }
    }
    true
}

/// Length of the content of a length-delimited value; 0 for the others, which have no content to point at.
#[inline]
pub(super) fn value_len(field: &Field<'_>) -> usize {
    match field.value {
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    }
}

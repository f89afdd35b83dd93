//! Brings a message into the outgoing form: what the reference server's decode and encode would make of it.
//!
//! The slow path. It merges repeated occurrences of a field, drops default values, shortens varints, orders
//! fields and keeps unknown ones.

use std::collections::BTreeMap;

use super::schema::{Kind, Message};
use super::{PayloadError, check};
use crate::protobuf::wire::{Fields, Packed, Value, put_bytes, put_tag, put_varint};
use crate::work;

/// The outgoing form of a payload.
pub(super) fn of(message: &'static Message, payload: &[u8]) -> Result<Vec<u8>, PayloadError> {
    check::message(message, payload, 0)?;
    let mut out = Vec::with_capacity(payload.len());
    put_message(&mut out, message, payload)?;
    Ok(out)
}

/// What was read of one field number.
enum Content<'a> {
    /// The last one wins.
    Scalar(Kind, Value<'a>),
    /// Merged: the concatenation of two encodings is the encoding of the merged message.
    Message(&'static Message, Vec<u8>),
    Items(&'static Message, Vec<&'a [u8]>),
    Enums(Vec<u8>),
    /// Keys and values as they came.
    Map(Vec<(&'a [u8], &'a [u8])>),
}

fn put_message(out: &mut Vec<u8>, message: &'static Message, bytes: &[u8]) -> Result<(), PayloadError> {
    let mut known = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next().map_err(PayloadError::malformed(0))? {
        let Some(kind) = message.kind(field.number, field.value) else {
            put_tag(&mut unknown, field.number, field.value.wire_type());
            unknown.extend_from_slice(&bytes[field.tag_end..field.end]);
            work::took(field.end - field.tag_end);
            continue;
        };
        if message.is_oneof {
            known.retain(|number, _| *number == field.number);
        }
        known.entry(field.number).or_insert_with(|| Content::new(kind, field.value)).add(field.value)?;
    }
    for (number, content) in known {
        content.put(out, number, message.is_oneof)?;
    }
    out.extend_from_slice(&unknown);
    Ok(())
}

impl<'a> Content<'a> {
    /// Without the value yet, which is only what a scalar starts with.
    fn new(kind: Kind, value: Value<'a>) -> Self {
        match kind {
            Kind::Message(message) => Self::Message(message, Vec::new()),
            Kind::Items(message) => Self::Items(message, Vec::new()),
            Kind::Enums => Self::Enums(Vec::new()),
            Kind::Map(_) => Self::Map(Vec::new()),
            scalar => Self::Scalar(scalar, value),
        }
    }

    fn add(&mut self, value: Value<'a>) -> Result<(), PayloadError> {
        match (self, value) {
            (Self::Scalar(_, last), value) => *last = value,
            (Self::Message(_, merged), Value::Bytes(bytes)) => {
                merged.extend_from_slice(bytes);
                work::took(bytes.len());
            }
            (Self::Items(_, items), Value::Bytes(bytes)) => items.push(bytes),
            (Self::Enums(packed), Value::Varint(value)) => put_int32(packed, value),
            (Self::Enums(packed), Value::Bytes(bytes)) => {
                let mut values = Packed::new(bytes);
                while let Some((value, _)) = values.next().map_err(PayloadError::malformed(0))? {
                    put_int32(packed, value);
                }
            }
            (Self::Map(map), Value::Bytes(bytes)) => {
                let (key, value) = map_entry(bytes)?;
                // It will be sorted among them.
                work::took(key.len() * (map.len().max(1).ilog2() as usize + 1));
                map.push((key, value));
            }
            _ => unreachable!("the schema only knows fields of the right wire type"),
        }
        Ok(())
    }

    fn put(self, out: &mut Vec<u8>, number: u32, may_be_zero: bool) -> Result<(), PayloadError> {
        match self {
            Self::Scalar(kind, value) => put_scalar(out, number, kind, value, may_be_zero),
            Self::Message(message, bytes) => put_nested(out, number, message, &bytes)?,
            Self::Items(message, items) => {
                for item in items {
                    put_nested(out, number, message, item)?;
                }
            }
            Self::Enums(packed) if packed.is_empty() => {}
            Self::Enums(packed) => put_bytes(out, number, &packed),
            Self::Map(mut entries) => {
                // Go's order is random; ours is the keys'. Stable, so that the last value of a key comes last.
                entries.sort_by_key(|(key, _)| *key);
                let is_last = |at: usize| entries.get(at + 1).is_none_or(|(next, _)| *next != entries[at].0);
                for (key, value) in (0..entries.len()).filter(|at| is_last(*at)).map(|at| entries[at]) {
                    let mut entry = Vec::with_capacity(key.len() + value.len() + 12);
                    put_bytes(&mut entry, 1, key);
                    put_bytes(&mut entry, 2, value);
                    put_bytes(out, number, &entry);
                }
            }
        }
        Ok(())
    }
}

fn put_nested(out: &mut Vec<u8>, number: u32, message: &'static Message, bytes: &[u8]) -> Result<(), PayloadError> {
    let mut nested = Vec::with_capacity(bytes.len());
    put_message(&mut nested, message, bytes)?;
    put_bytes(out, number, &nested);
    Ok(())
}

fn put_scalar(out: &mut Vec<u8>, number: u32, kind: Kind, value: Value<'_>, may_be_zero: bool) {
    let value = match (kind, value) {
        (Kind::Bool, Value::Varint(value)) => Value::Varint(u64::from(value != 0)),
        (Kind::Int32, Value::Varint(value)) => Value::Varint(value as i32 as u64),
        (_, value) => value,
    };
    let is_zero = matches!(value, Value::Varint(0) | Value::Fixed64(0) | Value::Fixed32(0) | Value::Bytes(b""));
    if is_zero && !may_be_zero {
        return;
    }
    put_tag(out, number, value.wire_type());
    match value {
        Value::Varint(value) => put_varint(out, value),
        Value::Fixed64(bits) => out.extend_from_slice(&bits.to_le_bytes()),
        Value::Fixed32(bits) => out.extend_from_slice(&bits.to_le_bytes()),
        Value::Bytes(bytes) => {
            put_varint(out, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Value::Group => unreachable!("no known field is a group"),
    }
}

/// Sign-extended to 64 bits, as the wire format wants it.
fn put_int32(out: &mut Vec<u8>, value: u64) {
    put_varint(out, value as i32 as u64);
}

/// The key and the value, each the last one of its kind; what else is in the entry is dropped.
fn map_entry(bytes: &[u8]) -> Result<(&[u8], &[u8]), PayloadError> {
    let mut entry: (&[u8], &[u8]) = (b"", b"");
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next().map_err(PayloadError::malformed(0))? {
        match (field.number, field.value) {
            (1, Value::Bytes(bytes)) => entry.0 = bytes,
            (2, Value::Bytes(bytes)) => entry.1 = bytes,
            _ => {}
        }
    }
    Ok(entry)
}

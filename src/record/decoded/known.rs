//! Reduces a message to the fields that the schema knows, for payloads that prost alone would refuse.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;
use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

use crate::work;

/// A copy of `bytes`, a message of the type `name`, without the fields that are unknown at any level: by
/// number or by wire type. `None` when `bytes` is not protobuf.
pub(super) fn fields(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut known = Vec::with_capacity(bytes.len());
    copy_known(SCHEMA.get(name)?, bytes, &mut known)?;
    Some(known)
}

/// The fields of every message, by the message's full name.
type Schema = HashMap<String, HashMap<u32, Field>>;

/// A field that the schema knows.
struct Field {
    wire: WireType,
    /// A list of scalars; comes packed as well.
    packable: bool,
    /// The full name of the message that it holds.
    message: Option<String>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).expect("the build wrote the descriptors");
    let mut schema = Schema::new();
    for file in files.file {
        for message in &file.message_type {
            add(&mut schema, file.package(), message);
        }
    }
    schema
});

fn add(schema: &mut Schema, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add(schema, &name, nested);
    }
    let number = |field: &FieldDescriptorProto| u32::try_from(field.number()).expect("field numbers are positive");
    schema.insert(name, message.field.iter().map(|field| (number(field), Field::new(field))).collect());
}

impl Field {
    fn new(field: &FieldDescriptorProto) -> Self {
        let wire = match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => WireType::SixtyFourBit,
            Type::Float | Type::Fixed32 | Type::Sfixed32 => WireType::ThirtyTwoBit,
            Type::String | Type::Bytes | Type::Message => WireType::LengthDelimited,
            Type::Group => WireType::StartGroup,
            _ => WireType::Varint,
        };
        Self {
            wire,
            packable: field.label() == Label::Repeated && wire != WireType::LengthDelimited,
            // Descriptors write it with a leading dot.
            message: (field.r#type() == Type::Message).then(|| field.type_name()[1..].to_owned()),
        }
    }

    fn comes_as(&self, wire: WireType) -> bool {
        wire == self.wire || self.packable && wire == WireType::LengthDelimited
    }
}

/// Recurses along the schema only, which is a few levels deep and has no cycles.
fn copy_known(message: &HashMap<u32, Field>, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while !bytes.is_empty() {
        work::took(1);
        let start = bytes;
        let (number, wire) = decode_key(&mut bytes).ok()?;
        let content = content(number, wire, &mut bytes)?;
        match message.get(&number).filter(|field| field.comes_as(wire)) {
            Some(Field { message: Some(name), .. }) => {
                let mut nested = Vec::with_capacity(content.len());
                copy_known(SCHEMA.get(name)?, content, &mut nested)?;
                encode_key(number, wire, out);
                encode_varint(nested.len() as u64, out);
                work::took(nested.len());
                out.append(&mut nested);
            }
            Some(_) => {
                work::took(content.len());
                out.extend_from_slice(&start[..start.len() - bytes.len()]);
            }
            None => {}
        }
    }
    Some(())
}

/// Moves past the content of a field; returns it for length-delimited fields, else an empty slice.
///
/// Groups are counted, not recursed into: their depth is the client's choice.
fn content<'a>(mut number: u32, mut wire: WireType, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut open = Vec::new();
    loop {
        work::took(1);
        let mut content: &[u8] = &[];
        match wire {
            WireType::Varint => drop(decode_varint(bytes).ok()?),
            WireType::SixtyFourBit => drop(take(8, bytes)?),
            WireType::ThirtyTwoBit => drop(take(4, bytes)?),
            WireType::LengthDelimited => content = take(decode_varint(bytes).ok()?, bytes)?,
            WireType::StartGroup => open.push(number),
            WireType::EndGroup => {
                if open.pop()? != number {
                    return None;
                }
            }
        }
        if open.is_empty() {
            return Some(content);
        }
        (number, wire) = decode_key(bytes).ok()?;
    }
}

fn take<'a>(len: u64, bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let taken = bytes.get(..usize::try_from(len).ok()?)?;
    bytes.advance(taken.len());
    Some(taken)
}

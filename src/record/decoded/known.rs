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
    SCHEMA.copy_known(*SCHEMA.places.get(name)?, bytes, &mut known)?;
    Some(known)
}

/// How many fields with the number 1 a message has, if the schema knows all of its fields, so that [`fields`] would give
/// the same again. `None`: it does not, or `bytes` is not protobuf.
pub(super) fn firsts(name: &str, bytes: &[u8]) -> Option<usize> {
    SCHEMA.firsts(*SCHEMA.places.get(name)?, bytes)
}

/// The fields of every message.
struct Schema {
    /// Where a message is in `messages`, by its full name.
    places: HashMap<String, usize>,
    messages: Vec<Message>,
}

/// The fields of a message, each at its number.
type Message = Vec<Option<Field>>;

/// A field that the schema knows.
struct Field {
    wire: WireType,
    /// A list of scalars; comes packed as well.
    packable: bool,
    /// Where the message is that it holds.
    message: Option<usize>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(crate::proto::DESCRIPTORS).expect("the build wrote the descriptors");
    let mut named = Vec::new();
    for file in &files.file {
        file.message_type.iter().for_each(|message| add(&mut named, file.package(), message));
    }
    let places = named.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
    let messages = named.iter().map(|(_, message)| fields_of(message, &places)).collect();
    Schema { places, messages }
});

/// Lists a message and those within it, by their full names.
fn add<'a>(named: &mut Vec<(String, &'a DescriptorProto)>, scope: &str, message: &'a DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    message.nested_type.iter().for_each(|nested| add(named, &name, nested));
    named.push((name, message));
}

fn fields_of(message: &DescriptorProto, places: &HashMap<String, usize>) -> Message {
    let mut fields = Message::new();
    for field in &message.field {
        let number = usize::try_from(field.number()).expect("field numbers are positive");
        fields.resize_with(fields.len().max(number + 1), || None);
        fields[number] = Some(Field::new(field, places));
    }
    fields
}

impl Field {
    fn new(field: &FieldDescriptorProto, places: &HashMap<String, usize>) -> Self {
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
            // Descriptors write it with a leading dot, and have every message that they name.
            message: (field.r#type() == Type::Message).then(|| places[&field.type_name()[1..]]),
        }
    }

    fn comes_as(&self, wire: WireType) -> bool {
        wire == self.wire || self.packable && wire == WireType::LengthDelimited
    }
}

impl Schema {
    /// `None` when it does not know all fields. Recurses along the schema only.
    fn firsts(&self, message: usize, mut bytes: &[u8]) -> Option<usize> {
        let fields = &self.messages[message];
        let mut firsts = 0;
        while !bytes.is_empty() {
            work::took(1);
            let (number, wire) = decode_key(&mut bytes).ok()?;
            let content = content(number, wire, &mut bytes)?;
            let field = fields.get(number as usize)?.as_ref().filter(|field| field.comes_as(wire))?;
            if let Some(message) = field.message {
                self.firsts(message, content)?;
            }
            firsts += usize::from(number == 1);
        }
        Some(firsts)
    }

    /// Recurses along the schema only, which is a few levels deep and has no cycles.
    fn copy_known(&self, message: usize, mut bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let fields = &self.messages[message];
        while !bytes.is_empty() {
            work::took(1);
            let start = bytes;
            let (number, wire) = decode_key(&mut bytes).ok()?;
            let content = content(number, wire, &mut bytes)?;
            let known = fields.get(number as usize).and_then(Option::as_ref);
            match known.filter(|field| field.comes_as(wire)) {
                Some(Field { message: Some(message), .. }) => {
                    let mut nested = Vec::with_capacity(content.len());
                    self.copy_known(*message, content, &mut nested)?;
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

//! Records in every encoding that decoders must accept: any field order, repeated and split messages, long
//! varints, unknown fields.

#![allow(unreachable_pub, clippy::unwrap_used)] // part of test binaries; a failed helper fails the test

use fleet_telemetry::record::RecordKind;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What generated fields are filled with.
#[derive(Clone, Copy, Debug)]
pub struct Vocabulary {
    pub texts: &'static [&'static str],
    /// Likely numbers, for keys, enums and seconds alike; any other may come too.
    pub numbers: &'static [u64],
}

/// A field to generate: its number and its type.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Varint,
    Enum,
    Fixed32,
    Fixed64,
    Text,
    PackedEnums,
    Message(&'static [(u32, Shape)]),
}

const TIMESTAMP: &[(u32, Shape)] = &[(1, Shape::Varint), (2, Shape::Enum)];
const VALUE: &[(u32, Shape)] = &[
    (1, Shape::Text),
    (1, Shape::Text),
    (2, Shape::Enum),
    (3, Shape::Varint),
    (4, Shape::Fixed32),
    (5, Shape::Fixed64),
    (6, Shape::Varint),
    (7, Shape::Message(&[(1, Shape::Fixed64), (2, Shape::Fixed64)])),
    (9, Shape::Enum),
    (10, Shape::Varint),
    (21, Shape::Message(&[(1, Shape::Varint), (6, Shape::Varint)])),
    (31, Shape::Message(&[(1, Shape::Enum), (2, Shape::Enum), (3, Shape::Enum)])),
    (39, Shape::Message(&[(1, Shape::Varint), (10, Shape::Varint)])),
    (54, Shape::Enum),
];
const DATUM: &[(u32, Shape)] = &[(1, Shape::Enum), (2, Shape::Message(VALUE))];
const PAYLOAD: &[(u32, Shape)] = &[
    (1, Shape::Message(DATUM)),
    (1, Shape::Message(DATUM)),
    (2, Shape::Message(TIMESTAMP)),
    (3, Shape::Text),
    (4, Shape::Varint),
];
const ALERTS: &[(u32, Shape)] = &[
    (
        1,
        Shape::Message(&[
            (1, Shape::Text),
            (2, Shape::PackedEnums),
            (2, Shape::Enum),
            (3, Shape::Message(TIMESTAMP)),
            (4, Shape::Message(TIMESTAMP)),
        ]),
    ),
    (2, Shape::Message(TIMESTAMP)),
    (3, Shape::Text),
];
const ERRORS: &[(u32, Shape)] = &[
    (
        1,
        Shape::Message(&[
            (1, Shape::Message(TIMESTAMP)),
            (2, Shape::Text),
            (3, Shape::Message(&[(1, Shape::Text), (2, Shape::Text)])),
            (4, Shape::Text),
        ]),
    ),
    (2, Shape::Message(TIMESTAMP)),
    (3, Shape::Text),
];
const CONNECTIVITY: &[(u32, Shape)] =
    &[(1, Shape::Text), (2, Shape::Text), (3, Shape::Enum), (4, Shape::Message(TIMESTAMP)), (5, Shape::Text)];

pub const KINDS: [(RecordKind, &[(u32, Shape)]); 4] = [
    (RecordKind::V, PAYLOAD),
    (RecordKind::Alerts, ALERTS),
    (RecordKind::Errors, ERRORS),
    (RecordKind::Connectivity, CONNECTIVITY),
];

fn varint(mut value: u64, extra_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    for _ in 0..extra_bytes.min(10 - out.len()) {
        *out.last_mut().unwrap() |= 0x80;
        out.push(0);
    }
    out
}

/// How many bytes longer than needed: mostly none.
fn extra() -> impl Strategy<Value = usize> {
    prop_oneof![30 => Just(0_usize), 1 => 1..10_usize]
}

fn number(words: Vocabulary) -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => select(words.numbers),
        1 => any::<u64>(),
        1 => any::<i32>().prop_map(|value| value as u64),
    ]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![select(vec![0.0, -0.0, 1.5, f64::NAN, f64::INFINITY]), any::<f64>()]
}

fn field(number: u32, shape: Shape, words: Vocabulary, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let (wire_type, content): (u32, BoxedStrategy<Vec<u8>>) = match shape {
        Shape::Varint | Shape::Enum => {
            (0, (self::number(words), extra()).prop_map(|(v, extra)| varint(v, extra)).boxed())
        }
        Shape::Fixed64 => (1, double().prop_map(|v| v.to_le_bytes().to_vec()).boxed()),
        Shape::Fixed32 => (5, double().prop_map(|v| (v as f32).to_le_bytes().to_vec()).boxed()),
        Shape::Text => (2, delimited(select(words.texts).prop_map(|text| text.as_bytes().to_vec()).boxed())),
        Shape::PackedEnums => (
            2,
            delimited(
                vec(self::number(words), 0..5)
                    .prop_map(|values| values.into_iter().flat_map(|value| varint(value, 0)).collect())
                    .boxed(),
            ),
        ),
        Shape::Message(fields) => (2, delimited(encoded(fields, words, depth + 1))),
    };
    (extra(), content)
        .prop_map(move |(extra, content)| {
            // Tags must fit in 32 bits for prost, so in five bytes.
            let tag = varint(u64::from(number << 3 | wire_type), 0);
            [varint(u64::from(number << 3 | wire_type), extra.min(5 - tag.len())), content].concat()
        })
        .boxed()
}

fn delimited(content: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<Vec<u8>> {
    (extra(), content).prop_map(|(extra, content)| [varint(content.len() as u64, extra), content].concat()).boxed()
}

fn unknown() -> impl Strategy<Value = Vec<u8>> {
    select(vec![
        &b"\xf8\x03\x05"[..],                        // 63: varint
        b"\xc1\x3e\x01\x02\x03\x04\x05\x06\x07\x08", // 1000: fixed 64
        b"\xfa\x03\x02\xff\xfe",                     // 63: bytes that are no text
        b"\xfb\x03\x08\x01\x13\x14\xfc\x03",         // 63: group in group
        b"\xc5\x3e\x01\x02\x03\x04",                 // 1000: fixed 32
    ])
    .prop_map(<[u8]>::to_vec)
}

/// Any encoding of a message with these fields.
fn encoded(fields: &'static [(u32, Shape)], words: Vocabulary, depth: u32) -> BoxedStrategy<Vec<u8>> {
    let one = select(fields).prop_flat_map(move |(number, shape)| field(number, shape, words, depth));
    let count = if depth == 0 { 0..8 } else { 0..4_usize };
    vec(prop_oneof![12 => one.boxed(), 1 => unknown().boxed()], count).prop_map(|fields| fields.concat()).boxed()
}

/// Any record of a known kind.
pub fn record(words: Vocabulary) -> impl Strategy<Value = (RecordKind, Vec<u8>)> {
    select(&KINDS[..]).prop_flat_map(move |(kind, fields)| (Just(kind), encoded(fields, words, 0)))
}

/// A record with some bytes overwritten, cut off or repeated.
pub fn damaged(words: Vocabulary) -> impl Strategy<Value = (RecordKind, Vec<u8>)> {
    (record(words), vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..4)).prop_map(|((kind, mut bytes), damages)| {
        for (at, byte, how) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, byte),
                2 => bytes[at] = byte,
                _ => bytes[at] ^= 1 << (byte & 7),
            }
        }
        (kind, bytes)
    })
}

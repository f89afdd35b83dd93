//! Messages whose form is hostile, not their texts.

use super::assert_linear;
use crate::config;
use crate::dispatch::logger;
use crate::permissions::{Action, Filter, Mode, Rules};
use crate::record::transform::{created_ms, rewrite};
use crate::record::{Decoded, RecordKind, json};
use crate::scope::Scopes;
use crate::session::websocket::Decoder;

/// Fields of a record, in an odd order or form.
const FIELDS: &[(&str, &[u8])] = &[
    ("empty item", b"\x0a\x00"),
    ("item with a key", b"\x0a\x02\x08\x08"),
    ("item with a number", b"\x0a\x0d\x08\x08\x12\x09\x29\x01\x02\x03\x04\x05\x06\x07\x08"),
    ("item with a number in long form", b"\x0a\x06\x08\x88\x80\x80\x80\x00"),
    ("place", b"\x0a\x18\x08\x15\x12\x14\x3a\x12\x09\0\0\0\0\0\0\xf0\x3f\x11\0\0\0\0\0\0\0\x40"),
    ("place as text", b"\x0a\x10\x08\x15\x12\x0c\x0a\x0a(1 N, 2 E)"),
    ("great number as text", b"\x0a\x0b\x08\x08\x12\x07\x0a\x053.e38"),
    ("value that is replaced", b"\x0a\x0d\x08\x08\x12\x04\x3a\x02\xf8\x01\x12\x03\x30\x81\x00"),
    ("values of several kinds", b"\x0a\x0b\x12\x02\x3a\x00\x12\x05\xaa\x01\x00\x30\x01"),
    ("flags", b"\x0a\x05\x12\x03\xba\x02\x00"),
    ("item with an unknown field", b"\x0a\x03\xf8\x03\x01"),
    ("item with a group", b"\x0a\x04\xfb\x03\xfc\x03"),
    ("item of another wire type", b"\x08\x01"),
    ("empty timestamp", b"\x12\x00"),
    ("timestamp", b"\x12\x02\x08\x05"),
    ("timestamp in long form", b"\x12\x06\x08\x85\x80\x80\x80\x00"),
    ("VIN", b"\x1a\x01x"),
    ("flag", b"\x20\x01"),
    ("unknown number", b"\xf8\x03\x01"),
    ("unknown bytes", b"\xfa\x03\x01x"),
    ("unknown group", b"\xfb\x03\xfc\x03"),
    ("groups in a group", b"\xfb\x03\x0b\x0c\x0b\x0c\xfc\x03"),
    ("alert with audiences", b"\x0a\x04\x12\x02\x01\x02"),
    ("alert with unpacked audiences", b"\x0a\x04\x10\x01\x10\x02"),
    ("alert with many timestamps", b"\x0a\x08\x1a\x02\x08\x05\x1a\x02\x10\x05"),
    ("alert in milliseconds", b"\x0a\x0b\x1a\x09\x08\x80\x80\xb0\xc8\xd1\x31\x10\x01"),
    ("error with a tag", b"\x0a\x08\x1a\x06\x0a\x01k\x12\x01v"),
    ("error with an empty tag", b"\x0a\x02\x1a\x00"),
    ("error with a tag twice", b"\x0a\x10\x1a\x06\x0a\x01k\x12\x01v\x1a\x06\x0a\x01k\x12\x01v"),
    ("error with a tag in another order", b"\x0a\x08\x1a\x06\x12\x01v\x0a\x01k"),
    ("error with a tag of another wire type", b"\x0a\x02\x18\x05"),
    ("connection", b"\x12\x01c\x18\x01\x22\x02\x08\x05\x2a\x01n"),
    ("item and timestamp in turn", b"\x0a\x00\x12\x02\x08\x05"),
    ("unknown field and item in turn", b"\xf8\x03\x01\x0a\x02\x08\x08"),
];

const KINDS: [RecordKind; 4] = [RecordKind::V, RecordKind::Alerts, RecordKind::Errors, RecordKind::Connectivity];

/// All that is done to a payload by any rules. It may be one that is refused.
fn handled(kind: RecordKind, payload: &[u8], modes: &[(Mode, Action)]) {
    let _ = created_ms(kind, payload);
    for (mode, action) in modes {
        let rules = Rules { mode: *mode, action: *action, strict: true, enforced: Scopes::ALL, ..Rules::off() };
        let _ = rewrite(kind, payload, "VIN", &Filter::new(&rules, Scopes::ALL), &mut Vec::new());
    }
}

const OFF: (Mode, Action) = (Mode::Off, Action::Drop);
const MODES: [(Mode, Action); 3] =
    [(Mode::Audit, Action::Drop), (Mode::Enforce, Action::Invalid), (Mode::Enforce, Action::Coarsen(2))];

/// What dispatchers make of it.
fn shown(kind: RecordKind, payload: &[u8]) {
    let mut out = Vec::new();
    if rewrite(kind, payload, "VIN", &Filter::off(), &mut out).is_ok() {
        let _ = json::render(kind, &out);
        let _ = Decoded::decode(kind, &out).map(|decoded| logger::data(&decoded, "VIN", true));
    }
}

fn assert_message_is_linear(name: &str, payload: impl Fn(usize) -> Vec<u8>) {
    for kind in KINDS {
        assert_linear(&format!("{kind:?} {name}"), &payload, |payload| handled(kind, payload, &[OFF]));
        assert_linear(&format!("{kind:?} {name}, filtered"), &payload, |payload| handled(kind, payload, &MODES));
        assert_linear(&format!("{kind:?} {name}, shown"), &payload, |payload| shown(kind, payload));
    }
}

fn delimited(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    prost::encode_length_delimiter(content.len(), &mut out).unwrap();
    out.extend(content);
    out
}

#[test]
fn the_same_field_again_and_again_is_linear() {
    for (name, field) in FIELDS {
        let repeated = |size: usize| field.repeat(size / field.len());
        assert_message_is_linear(name, repeated);
        // All of them in one item, one value, one tag, one timestamp.
        for tags in [&[0x0a][..], &[0x0a, 0x12], &[0x0a, 0x1a], &[0x0a, 0x12, 0x3a], &[0x12]] {
            let within = |size| tags.iter().rev().fold(repeated(size), |content, tag| delimited(*tag, &content));
            assert_message_is_linear(&format!("{name} within {tags:x?}"), within);
        }
    }
}

#[test]
fn two_fields_in_turn_are_linear() {
    for ((name, field), (other_name, other)) in FIELDS.iter().flat_map(|a| FIELDS.iter().map(move |b| (a, b))) {
        let both = [*field, other].concat();
        for kind in KINDS {
            let name = format!("{kind:?} {name}, {other_name}");
            assert_linear(&name, |size| both.repeat(size / both.len()), |payload| handled(kind, payload, &MODES[1..2]));
        }
    }
}

#[test]
fn groups_within_groups_are_linear() {
    let nested = |depth: usize| [[0xfb, 0x03].repeat(depth), [0xfc, 0x03].repeat(depth)].concat();
    assert_message_is_linear("nested groups", |size| nested(size / 4));
    assert_message_is_linear("many nested groups", |size| nested(10).repeat(size / 40));
    assert_message_is_linear("groups without an end", |size| [0xfb, 0x03].repeat(size / 2));
    assert_message_is_linear("numbers without an end", |size| vec![0x80; size]);
}

#[test]
fn names_with_much_in_common_are_linear() {
    let tag = |key: String| delimited(0x1a, &[delimited(0x0a, key.as_bytes()), delimited(0x12, b"")].concat());
    let error = |keys: Vec<String>| delimited(0x0a, &keys.into_iter().map(tag).collect::<Vec<_>>().concat());
    assert_message_is_linear("short keys", |size| error((0..size / 9).map(|n| n.to_string()).collect()));
    let long = |n: usize| format!("{}{n}", "k".repeat(100));
    assert_message_is_linear("long keys", |size| error((0..size / 110).map(long).collect()));
    // Masked keys that are numbered, beside keys that are sent with those numbers.
    let numbered = |n: usize| [format!("[withheld] {n}"), format!("37.41,-122.{n:05}")];
    assert_message_is_linear("numbered keys", |size| error((0..size / 40).flat_map(numbered).collect()));
    assert_message_is_linear("numbered keys, the last one first", |size| {
        error((0..size / 40).rev().flat_map(numbered).collect())
    });
}

/// A frame as a client sends it, with a mask of zeros.
fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).ok().filter(|len| *len < 126);
    let mut out = vec![u8::from(fin) << 7 | opcode, 0x80 | len.unwrap_or(126)];
    if len.is_none() {
        out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}

#[test]
fn frames_are_linear_however_they_are_cut() {
    let fragmented = |middle: &[u8], size: usize| {
        [frame(false, 2, b""), middle.repeat(size / middle.len()), frame(true, 0, b"")].concat()
    };
    let between = [frame(false, 0, b"x"), frame(true, 9, &[b'p'; 125])].concat();
    let middles = [
        ("one byte a frame", frame(false, 0, b"x")),
        ("nothing a frame", frame(false, 0, b"")),
        ("pings between", between),
    ];
    for step in [1, 2, 13, usize::MAX] {
        assert_linear(&format!("one frame by {step}"), |size| frame(true, 2, &vec![1; size]), |all| decode(all, step));
        for (name, middle) in &middles {
            assert_linear(&format!("{name} by {step}"), |size| fragmented(middle, size), |all| decode(all, step));
        }
    }
}

fn decode(input: &[u8], step: usize) {
    let config = config::Session { max_fragments: usize::MAX, ..session() };
    let (mut decoder, mut scratch) = (Decoder::new(&config), Vec::new());
    for mut piece in input.chunks(step) {
        while !piece.is_empty() {
            let (read, _) = decoder.decode(piece, &mut scratch).unwrap();
            piece = &piece[read..];
        }
    }
    assert!(scratch.len() <= input.len());
}

fn session() -> config::Session {
    let text = r#"{"port": 1, "tls": {"ca_file": "-", "server_cert": "-", "server_key": "-"}, "records": {}}"#;
    let file = config::file::FileConfig::parse(text.as_bytes()).unwrap();
    config::resolve(file, &config::Env::default()).unwrap().0.session
}

//! The reference server's real answers: for every captured frame, the same reply bytes and the same payload.
//!
//! `tests/golden/reference.jsonl` was captured at the reference server's sockets and Kafka topics, with the
//! device id `device-1`, client type `vehicle_device`, and `records` that route `V`, `alerts`, `errors`,
//! `connectivity` and `custom`.

use fleet_telemetry::envelope::{Envelope, EnvelopeError, message, reply};
use fleet_telemetry::permissions::Filter;
use fleet_telemetry::record::{RecordKind, Topics, transform};
use serde::Deserialize;

const DEVICE_ID: &str = "device-1";
const SENDER_ID: &str = "vehicle_device.device-1";

/// The reference answers these twice, because it acks what it cannot name both as an error and as a record.
/// A vehicle forgets a record at its first ack, so one is enough.
const ACKED_ONCE: [&str; 5] = ["no_message", "raw_empty", "raw_four_zero", "type_ack", "type_zero"];

#[derive(Deserialize)]
struct Vector {
    name: String,
    frame: Hex,
    replies: Vec<Hex>,
    topic: Option<String>,
    payload: Option<Hex>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Hex(Vec<u8>);

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = include_str!("golden/reference.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a vector a line"))
        .collect();
    assert_eq!(vectors.len(), 259, "no vector was lost");
    vectors
}

fn topics() -> Topics {
    Topics::new(["V", "alerts", "errors", "connectivity", "custom"])
}

/// What a server that routes every configured topic does with a frame: its reply, and what it delivers.
fn outcome(frame: &[u8]) -> (Vec<u8>, Option<(RecordKind, Vec<u8>)>) {
    let mut answer = Vec::new();
    let envelope = match Envelope::parse(frame) {
        Ok(envelope) => envelope,
        Err(EnvelopeError::NoMessage) => {
            reply::ack(&mut answer, b"", b"");
            return (answer, None);
        }
        Err(EnvelopeError::UnknownType { txid, .. }) => {
            reply::ack(&mut answer, txid, b"");
            return (answer, None);
        }
        Err(EnvelopeError::Unreadable) => {
            reply::error(&mut answer, b"");
            return (answer, None);
        }
    };
    let kind = topics().kind(envelope.topic);
    let is_sender = envelope.sender_id == SENDER_ID.as_bytes() || envelope.sender_id == DEVICE_ID.as_bytes();
    let mut payload = Vec::new();
    let accepted = (kind != RecordKind::Other || is_sender)
        && transform::rewrite(kind, envelope.payload, DEVICE_ID, &Filter::off(), &mut payload).is_ok();
    if !accepted {
        reply::error(&mut answer, envelope.txid);
        return (answer, None);
    }
    reply::ack(&mut answer, envelope.txid, envelope.topic);
    (answer, (kind != RecordKind::Other).then_some((kind, payload)))
}

#[test]
fn replies_are_the_reference_servers_to_the_byte() {
    for vector in vectors() {
        let (answer, _) = outcome(&vector.frame.0);
        if ACKED_ONCE.contains(&vector.name.as_str()) {
            assert_eq!(vector.replies.len(), 2, "{}", vector.name);
            assert_eq!(vector.replies, [Hex(answer.clone()), Hex(answer)], "{}", vector.name);
        } else {
            assert_eq!(vector.replies, [Hex(answer)], "{}", vector.name);
        }
    }
}

#[test]
fn payloads_are_the_reference_servers_to_the_byte() {
    let mut compared = 0;
    for vector in vectors() {
        let Some(Hex(expected)) = vector.payload else { continue };
        let (_, delivered) = outcome(&vector.frame.0);
        let (kind, payload) = delivered.unwrap_or_else(|| panic!("{} is delivered", vector.name));
        assert_eq!(Some(topics().name(kind)), vector.topic.as_deref(), "{}", vector.name);
        assert_eq!(payload, expected, "{}", vector.name);
        compared += 1;
    }
    assert_eq!(compared, 231, "payloads in the file");
}

#[test]
fn refused_records_are_not_delivered() {
    for vector in vectors() {
        // Of these only the reply was captured.
        if vector.payload.is_some() || vector.name.starts_with("txid_len_") {
            continue;
        }
        assert_eq!(outcome(&vector.frame.0).1, None, "{}", vector.name);
    }
}

#[test]
fn the_simulated_vehicles_frames_are_the_captured_ones() {
    let mut compared = 0;
    for vector in vectors() {
        let Hex(frame) = vector.frame;
        let Ok(envelope) = Envelope::parse(&frame) else { continue };
        if envelope.sender_id != SENDER_ID.as_bytes() {
            continue;
        }
        // One frame was built by hand without alignment, one has bytes after its end.
        if vector.name == "unaligned_1" || vector.name == "raw_trailing_bytes" {
            continue;
        }
        assert_eq!(message::encode(&envelope), frame, "{}", vector.name);
        compared += 1;
    }
    assert!(compared > 200, "{compared} frames compared");
}

#[test]
fn vehicles_read_the_captured_replies() {
    for vector in vectors() {
        for Hex(answer) in vector.replies {
            assert!(message::parse_reply(&answer).is_some(), "{}", vector.name);
        }
    }
}

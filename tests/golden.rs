//! The reference server's real answers: for every captured frame, the same reply bytes and the same payload.

use fleet_telemetry::envelope::{Envelope, EnvelopeError, reply};
use fleet_telemetry::permissions::Filter;
use fleet_telemetry::record::{RecordKind, Topics, transform};
use fleet_telemetry::testing::message;

#[path = "support/golden.rs"]
mod golden;

use golden::{TOPICS, VIN, vectors};

const SENDER_ID: &str = "vehicle_device.device-1";

fn topics() -> Topics {
    Topics::new(TOPICS)
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
    let is_sender = envelope.sender_id == SENDER_ID.as_bytes() || envelope.sender_id == VIN.as_bytes();
    let mut payload = Vec::new();
    let accepted = (kind != RecordKind::Other || is_sender)
        && transform::rewrite(kind, envelope.payload, VIN, &Filter::off(), &mut payload).is_ok();
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
        let (answer, _) = outcome(&vector.frame);
        assert_eq!(vector.expected_replies(false), [answer], "{}", vector.name);
    }
}

#[test]
fn payloads_are_the_reference_servers_to_the_byte() {
    let mut compared = 0;
    for vector in vectors() {
        let Some(expected) = vector.payload else { continue };
        let (_, delivered) = outcome(&vector.frame);
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
        if vector.payload.is_some() || vector.is_reply_only() {
            continue;
        }
        assert_eq!(outcome(&vector.frame).1, None, "{}", vector.name);
    }
}

#[test]
fn the_simulated_vehicles_frames_are_the_captured_ones() {
    let mut compared = 0;
    for vector in vectors() {
        let Ok(envelope) = Envelope::parse(&vector.frame) else { continue };
        if envelope.sender_id != SENDER_ID.as_bytes() {
            continue;
        }
        // One frame was built by hand without alignment, one has bytes after its end.
        if vector.name == "unaligned_1" || vector.name == "raw_trailing_bytes" {
            continue;
        }
        assert_eq!(message::encode(&envelope), vector.frame, "{}", vector.name);
        compared += 1;
    }
    assert!(compared > 200, "{compared} frames compared");
}

#[test]
fn vehicles_read_the_captured_replies() {
    for vector in vectors() {
        for answer in vector.replies {
            assert!(message::parse_reply(&answer).is_some(), "{}", vector.name);
        }
    }
}

//! Runs the fuzz targets over the captured frames, so that they cannot rot. With `FUZZ_SEEDS` set to a folder,
//! also writes their inputs there, in one folder per target (see `scripts/fuzz`).

#![allow(clippy::unwrap_used)] // a failed helper fails the test

#[cfg(all(feature = "mqtt", feature = "redis"))]
#[path = "../fuzz/src/brokers.rs"]
#[allow(unreachable_pub)] // public in the fuzz crate
mod brokers;

#[path = "../fuzz/src/targets.rs"]
#[allow(unreachable_pub)] // public in the fuzz crate
mod targets;

#[path = "../fuzz/src/websocket.rs"]
#[allow(unreachable_pub)] // public in the fuzz crate
mod websocket;

use data_encoding::HEXLOWER;
use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::record::Topics;

fn captured_frames() -> impl Iterator<Item = Vec<u8>> {
    include_str!("golden/reference.jsonl").lines().map(|line| {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        HEXLOWER.decode(vector["frame"].as_str().unwrap().as_bytes()).unwrap()
    })
}

/// How it arrives, then frames of a client around what was captured, in one piece or two, and a ping in between.
fn websocket_input(captured: &[u8], pieces: &[u8]) -> Vec<u8> {
    let (first, second) = captured.split_at(captured.len() / 2);
    let mut input = [&[u8::try_from(pieces.len()).unwrap()], pieces].concat();
    for (opcode, payload) in [(0x82, captured), (0x02, first), (0x89, b"?"), (0x80, second), (0x88, b"\x03\xe8")] {
        // Masked with zeros, so that the fuzzer sees the bytes as they are.
        match u8::try_from(payload.len()) {
            Ok(len @ 0..=125) => input.extend([opcode, 0x80 | len]),
            _ => {
                input.extend([opcode, 0xfe]);
                input.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        input.extend([0; 4]);
        input.extend(payload);
    }
    input
}

/// A kind's number, then the payload.
fn record_input(frame: &[u8]) -> Option<Vec<u8>> {
    let envelope = Envelope::parse(frame).ok()?;
    let kind = Topics::new([]).kind(envelope.topic);
    let number = targets::KINDS.iter().position(|known| *known == kind)?;
    Some([&[u8::try_from(number).unwrap()], envelope.payload].concat())
}

fn run(name: &str, target: fn(&[u8]), inputs: impl Iterator<Item = Vec<u8>>) -> usize {
    let seeds = std::env::var_os("FUZZ_SEEDS").map(|folder| std::path::Path::new(&folder).join(name));
    if let Some(folder) = &seeds {
        std::fs::create_dir_all(folder).unwrap();
    }
    let mut count = 0;
    for input in inputs {
        target(&input);
        if let Some(folder) = &seeds {
            std::fs::write(folder.join(format!("captured-{count:03}")), &input).unwrap();
        }
        count += 1;
    }
    count
}

#[test]
fn captured_frames_pass_the_envelope_target() {
    assert_eq!(run("envelope", targets::envelope, captured_frames()), 259);
}

#[test]
fn captured_payloads_pass_the_record_target() {
    let inputs = captured_frames().filter_map(|frame| record_input(&frame));
    assert!(run("record", targets::record, inputs) > 200);
}

/// Found by the fuzzer: prost takes VehicleError.tags as a varint for an entry, and misses a broken timestamp behind it.
#[test]
fn a_map_that_comes_as_another_wire_type_passes_the_record_target() {
    targets::record(b"\x02\x0a\x08\x18\x06\x0a\x01k\x12\x014");
}

#[test]
fn captured_payloads_pass_the_json_target() {
    let inputs = captured_frames().filter_map(|frame| record_input(&frame));
    assert!(run("json", targets::json, inputs) > 200);
}

#[test]
fn captured_payloads_pass_the_filter_target_under_any_rules() {
    let inputs = captured_frames()
        .filter_map(|frame| record_input(&frame))
        .flat_map(|input| (0..6_u8).map(move |rules| [&input[..1], &[rules], &input[1..]].concat()));
    assert!(run("filter", targets::filter, inputs) > 1_200);
}

#[test]
fn captured_frames_pass_the_websocket_target_however_they_arrive() {
    let pieces: [&[u8]; 4] = [&[], &[0], &[1, 6, 2], &[100]];
    let inputs = captured_frames().zip(pieces.iter().cycle()).map(|(frame, pieces)| websocket_input(&frame, pieces));
    assert_eq!(run("websocket", websocket::decode, inputs), 259);
}

#[cfg(all(feature = "mqtt", feature = "redis"))]
#[test]
fn what_brokers_say_passes_the_mqtt_target() {
    let answers = b"\x20\x02\x01\0\x40\x02\x01\x02\x50\x02\0\x07\x70\x02\0\x07\xd0\0\x20\x02\0\x05\x30\x05";
    let inputs = (0..answers.len()).map(|from| answers[from..].to_vec());
    assert_eq!(run("mqtt", brokers::mqtt, inputs), answers.len());
}

#[cfg(all(feature = "mqtt", feature = "redis"))]
#[test]
fn what_servers_say_passes_the_redis_target() {
    let replies =
        b"+OK\r\n:3\r\n-MOVED 3999 127.0.0.1:6381\r\n$-1\r\n*2\r\n$1\r\na\r\n*1\r\n:7000\r\n*-1\r\n$0\r\n\r\n*1\r\n";
    let inputs = (0..replies.len()).map(|from| replies[from..].to_vec());
    assert_eq!(run("redis", brokers::redis, inputs), replies.len());
}

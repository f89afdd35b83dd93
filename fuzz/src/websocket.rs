//! What must hold for any bytes that come in behind the upgrade. The target panics when it does not.
//!
//! An input is `n`, `n % 8` bytes that say in what pieces the rest arrives, and the rest, which is taken twice: as
//! it is, and as a script of messages that are encoded here and must be decoded to what went in.

use std::time::Duration;

use fleet_telemetry::config;
use fleet_telemetry::session::websocket::{Complete, Decoder, Event, Violation};

/// The stream as it is has small limits, so that an input can reach them.
const SMALL: Limits = Limits { bytes: 600, fragments: 6 };
const LARGE: Limits = Limits { bytes: 1 << 20, fragments: 1 << 10 };
const MAX_CONTROL: usize = 125;
/// What a vector allocates at first.
const LEAST: usize = 8;

#[derive(Clone, Copy)]
struct Limits {
    bytes: usize,
    fragments: usize,
}

/// An event that owns its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Binary(Vec<u8>),
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Refused(Violation),
}

/// The same comes out however the bytes arrive, never more is kept than has arrived or is allowed, and what was
/// encoded comes out again.
pub fn decode(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let Some((pieces, stream)) = rest.split_at_checked(usize::from(count % 8)) else { return };
    let whole = read(stream, &[], SMALL);
    assert_eq!(read(stream, pieces, SMALL), whole);
    assert_eq!(read(stream, &[0], SMALL), whole);

    let (frames, expected) = encode(stream);
    assert_eq!(read(&frames, pieces, LARGE), expected);
}

/// Feeds `stream` in pieces one byte longer than `pieces` say, over and over; with none of them as a whole.
fn read(stream: &[u8], pieces: &[u8], limits: Limits) -> Vec<Seen> {
    let mut decoder = Decoder::new(&session(limits));
    let (mut seen, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
    let mut lengths = pieces.iter().cycle();
    // Where the last data message ended.
    let mut start = 0;
    while at < stream.len() {
        let piece = lengths.next().map_or(stream.len(), |length| usize::from(*length) + 1);
        let end = stream.len().min(at + piece);
        while at < end {
            let event = match decoder.decode(&stream[at..end], &mut scratch) {
                Ok((read, None)) => {
                    assert!(read == end - at, "stopped without a reason");
                    at = end;
                    assert_bounded(decoder.kept_bytes(), at - start, limits);
                    continue;
                }
                Ok((read, Some(complete))) => {
                    assert!(0 < read && read <= end - at);
                    at += read;
                    if matches!(complete, Complete::Binary | Complete::Text) {
                        assert_eq!(decoder.kept_bytes(), 0, "between messages");
                        start = at;
                    }
                    complete.event(&scratch)
                }
                Err(violation) => {
                    at = end;
                    Err(violation)
                }
            };
            assert_bounded(decoder.kept_bytes(), at - start, limits);
            seen.push(own(event));
            match seen.last() {
                Some(Seen::Refused(_)) => return seen,
                Some(Seen::Binary(payload) | Seen::Text(payload)) => assert!(payload.len() <= limits.bytes),
                _ => {}
            }
        }
    }
    seen
}

/// A vector doubles, so up to twice of what is in it is allocated.
fn assert_bounded(kept: usize, arrived: usize, limits: Limits) {
    assert!(kept <= 2 * arrived.max(LEAST), "{kept} bytes are kept of {arrived}");
    assert!(kept <= 2 * (limits.bytes + MAX_CONTROL), "{kept} bytes are kept");
}

fn session(limits: Limits) -> config::Session {
    config::Session {
        max_message_bytes: limits.bytes,
        max_frame_bytes: limits.bytes,
        max_fragments: limits.fragments,
        max_pings_per_second: 0,
        idle_timeout: Duration::ZERO,
        ping_interval: Duration::ZERO,
        max_unsettled: config::InFlight::default(),
        max_kept_bytes: 0,
        max_unread_reply_bytes: 0,
        write_timeout: Duration::ZERO,
        connection_id_from_header: false,
    }
}

fn own(event: Result<Event<'_>, Violation>) -> Seen {
    match event {
        Ok(Event::Binary(payload)) => Seen::Binary(payload.to_vec()),
        Ok(Event::Text(payload)) => Seen::Text(payload.to_vec()),
        Ok(Event::Ping(payload)) => Seen::Ping(payload.to_vec()),
        Ok(Event::Pong) => Seen::Pong,
        Ok(Event::Close(code)) => Seen::Close(code),
        Err(violation) => Seen::Refused(violation),
    }
}

/// Frames as `script` says, and what they are. Each frame takes a byte of the script for what it is, one for its
/// mask, one for its length (in sevens, so that longer lengths occur), and its payload.
fn encode(mut script: &[u8]) -> (Vec<u8>, Vec<Seen>) {
    let (mut frames, mut expected) = (Vec::new(), Vec::new());
    // The data message that is not complete, and whether it is text.
    let mut message: Option<(Vec<u8>, bool)> = None;
    while let [what, mask, length, rest @ ..] = script {
        let fin = what & 0x80 != 0;
        let control = what & 0x40 != 0;
        let longest = if control { MAX_CONTROL } else { usize::MAX };
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(*length) * 7).min(longest));
        script = rest;
        let first = match (what & 0x03, control) {
            (0, true) => {
                expected.push(Seen::Pong);
                0x8a
            }
            (1, true) => {
                expected.push(Seen::Close(None));
                put(&mut frames, 0x88, *mask, &[]);
                continue;
            }
            (_, true) => {
                expected.push(Seen::Ping(payload.to_vec()));
                0x89
            }
            (kind, false) => {
                let opcode = if message.is_some() { 0 } else { 1 + (kind & 1) };
                let (mut bytes, text) = message.take().unwrap_or((Vec::new(), opcode == 1));
                bytes.extend_from_slice(payload);
                match (fin, text) {
                    (false, _) => message = Some((bytes, text)),
                    (true, true) => expected.push(Seen::Text(bytes)),
                    (true, false) => expected.push(Seen::Binary(bytes)),
                }
                u8::from(fin) << 7 | opcode
            }
        };
        put(&mut frames, first, *mask, payload);
    }
    (frames, expected)
}

fn put(out: &mut Vec<u8>, first: u8, mask: u8, payload: &[u8]) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len @ 0..=125), _) => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend(len.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [mask, mask.wrapping_mul(3), !mask, mask ^ 0x55];
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
}

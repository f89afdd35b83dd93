//! The WebSocket reader against RFC 6455: the essence of each category of the Autobahn suite, which itself needs
//! Python 2.7 (see `scripts/autobahn`), and tungstenite as an oracle. Each stream arrives whole, byte by byte and
//! in random pieces, and the same must come out.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cases;
mod oracle;

use std::time::Duration;

use fleet_telemetry::config;
use fleet_telemetry::session::websocket::{Decoder, Event, Violation};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

const MAX_BYTES: usize = 1 << 20;
const MAX_FRAGMENTS: usize = 1 << 14;

/// What came out of the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    /// Refused with this close code; always the last.
    Refused(u16),
}

impl Seen {
    fn of(event: Result<Event<'_>, Violation>) -> Self {
        match event {
            Ok(Event::Text(payload)) => Self::Text(payload.to_vec()),
            Ok(Event::Binary(payload)) => Self::Binary(payload.to_vec()),
            Ok(Event::Ping(payload)) => Self::Ping(payload.to_vec()),
            Ok(Event::Pong) => Self::Pong,
            Ok(Event::Close(code)) => Self::Close(code),
            Err(violation) => Self::Refused(violation.close_code()),
        }
    }

    /// For messages of failed tests: a payload may be long.
    fn brief(&self) -> String {
        let text = format!("{self:?}");
        let end = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
        text[..end].to_owned()
    }
}

fn decoder(max_frame_bytes: usize, max_fragments: usize) -> Decoder {
    Decoder::new(&config::Session {
        max_message_bytes: max_frame_bytes,
        max_frame_bytes,
        max_fragments,
        max_pings_per_second: 1,
        idle_timeout: Duration::ZERO,
        ping_interval: Duration::ZERO,
        max_unsettled: config::InFlight::default(),
        max_kept_bytes: 0,
        max_unread_reply_bytes: 0,
        write_timeout: Duration::ZERO,
        connection_id_from_header: false,
    })
}

/// Feeds `stream` in pieces of the lengths that `next` says, up to its end, a close frame or a violation.
fn read(mut decoder: Decoder, stream: &[u8], mut next: impl FnMut() -> usize) -> Vec<Seen> {
    let (mut seen, mut scratch, mut at) = (Vec::new(), Vec::new(), 0);
    while at < stream.len() {
        let end = stream.len().min(at.saturating_add(next()));
        while at < end {
            let event = match decoder.decode(&stream[at..end], &mut scratch) {
                Ok((read, complete)) => {
                    at += read;
                    let Some(complete) = complete else { continue };
                    complete.event(&scratch)
                }
                Err(violation) => Err(violation),
            };
            seen.push(Seen::of(event));
            if let Some(Seen::Close(_) | Seen::Refused(_)) = seen.last() {
                return seen;
            }
        }
    }
    seen
}

/// What comes out of `stream`, however it arrives.
fn read_every_way(name: &str, stream: &[u8]) -> Vec<Seen> {
    let decoder = || decoder(MAX_BYTES, MAX_FRAGMENTS);
    let whole = read(decoder(), stream, || usize::MAX);
    assert!(read(decoder(), stream, || 1) == whole, "{name}: byte by byte is not the same as whole");
    for longest in [3, 17, 300, 5_000] {
        let mut state = longest as u64;
        let random = read(decoder(), stream, || random(&mut state, longest));
        assert!(random == whole, "{name}: pieces of up to {longest} bytes are not the same as the whole");
    }
    whole
}

/// Between 1 and `longest`; the same in every run.
fn random(state: &mut u64, longest: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    1 + usize::try_from(*state >> 33).unwrap() % longest
}

/// A frame as a client sends it, with tungstenite's header; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    masked_frame(first, Some([0x37, 0xfa, 0x21, 0x3d]), payload)
}

fn masked_frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        is_final: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: OpCode::from(first & 0x0f),
        mask,
    };
    let mut out = Vec::new();
    header.format(payload.len() as u64, &mut out).unwrap();
    let mask = mask.unwrap_or_default();
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

//! tungstenite reads what this server writes, and reads frames as this server does.

use std::io::{self, Cursor, Read, Write};

use fleet_telemetry::session::websocket::{self, Outgoing};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

use super::{Seen, decoder, masked_frame, random, read};

const MAX_BYTES: usize = 600;

#[test]
fn headers_of_every_form_of_length_are_read_by_tungstenite() {
    let opcodes = [
        (Outgoing::Binary, OpCode::Data(Data::Binary)),
        (Outgoing::Ping, OpCode::Control(Control::Ping)),
        (Outgoing::Pong, OpCode::Control(Control::Pong)),
        (Outgoing::Close, OpCode::Control(Control::Close)),
    ];
    for (outgoing, opcode) in opcodes {
        for (len, size) in [(0, 2), (1, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10), (16 << 20, 10)] {
            let mut out = Vec::new();
            websocket::put_header(&mut out, outgoing, len);
            let mut cursor = Cursor::new(&out);
            let header = FrameHeader { opcode, ..FrameHeader::default() };
            assert_eq!(FrameHeader::parse(&mut cursor).unwrap(), Some((header, len as u64)));
            assert_eq!((cursor.position(), out.len() as u64), (size, size), "the shortest form, and nothing behind");
        }
    }
}

#[test]
fn close_frames_are_read_by_tungstenite_with_their_code() {
    for code in [None, Some(1000), Some(1001), Some(1002), Some(1003), Some(1007), Some(1008), Some(1009)] {
        let mut out = Vec::new();
        websocket::put_close(&mut out, code);
        assert_eq!(by_tungstenite(&out, Role::Client), [Seen::Close(code)]);
    }
}

/// A stream that has ended; what is written to it is lost.
struct Ended<'a>(&'a [u8]);

impl Read for Ended<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Ended<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of `stream`, up to its end, a close frame or an error. It gives no close code for what
/// it refuses; 1002 stands for all of them.
fn by_tungstenite(stream: &[u8], role: Role) -> Vec<Seen> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX_BYTES)).max_frame_size(Some(MAX_BYTES));
    let mut socket = WebSocket::from_raw_socket(Ended(stream), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(payload)) => Seen::Binary(payload.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Seen::Pong,
            // What it puts in place of a code that may not be sent.
            Ok(Message::Close(Some(close))) if close.reason.as_str() == "Protocol violation" => Seen::Refused(1002),
            Ok(Message::Close(close)) => Seen::Close(close.map(|close| close.code.into())),
            Ok(Message::Frame(_)) => unreachable!("only for writing"),
            Err(Error::Io(_) | Error::ConnectionClosed) => return seen,
            Err(error) if error.to_string().contains("without closing handshake") => return seen,
            Err(_) => Seen::Refused(1002),
        });
        if let Some(Seen::Close(_) | Seen::Refused(_)) = seen.last() {
            return seen;
        }
    }
}

/// Mostly frames that may be sent. Data is ASCII: tungstenite checks the UTF-8 of text, which is our caller's part.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => select(vec![0x80, 0x00, 0x81, 0x01, 0x82, 0x02]),
        4 => select(vec![0x89, 0x8a]),
        1 => any::<u8>(),
    ];
    let data = prop_oneof![9 => vec(0..0x80_u8, 0..140), 1 => vec(0..0x80_u8, 100..700)];
    let plain = (first, prop::option::weighted(0.98, any::<[u8; 4]>()), data);
    let close =
        (select(vec![0_u16, 1000, 1001, 1004, 1006, 1011, 1015, 2000, 3000, 4999, 5000]), vec(any::<u8>(), 0..3));
    prop_oneof![
        20 => plain.prop_map(|(first, mask, payload)| masked_frame(first, mask, &payload)),
        1 => close.prop_map(|(code, reason)| masked_frame(0x88, Some([5; 4]), &[&code.to_be_bytes()[..], &reason].concat())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn frames_are_read_as_tungstenite_reads_them(frames in vec(any_frame(), 1..12), mut seed in any::<u64>()) {
        let stream = frames.concat();
        let mut ours = read(decoder(MAX_BYTES, usize::MAX), &stream, || random(&mut seed, 50));
        if let Some(Seen::Refused(code)) = ours.last_mut() {
            *code = 1002;
        }
        prop_assert_eq!(ours, by_tungstenite(&stream, Role::Server));
    }
}

/// The one code on which they differ: registered after the RFC (bad gateway), so it may be sent.
#[test]
fn tungstenite_does_not_know_1014() {
    assert!(!CloseCode::from(1014).is_allowed());
}

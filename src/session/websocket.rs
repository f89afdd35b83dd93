//! The server's half of the WebSocket framing (RFC 6455), without I/O.
//!
//! ```text
//!  bytes from the TLS session ──▶ Decoder::decode ──▶ Event (message, ping, close, …) or Violation
//! ```
//!
//! A frame that has arrived whole is unmasked straight from the TLS session's buffer into the caller's
//! scratch buffer, so that a connection that is idle or gets whole frames owns no read buffer at all. Only the
//! pieces of an unfinished message are kept here, and only as many bytes as have really arrived.

use crate::config;
use crate::work;

/// Reads frames; one per connection.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The first bytes of a frame header that is not complete yet.
    head: [u8; MAX_HEADER],
    head_len: u8,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// Unmasked payload of the control frame being read.
    control: Vec<u8>,
    /// Unmasked payload so far of the data message being read.
    message: Vec<u8>,
    /// Frames of the data message so far; 0 between messages.
    fragments: usize,
    /// The data message being read is text.
    text: bool,
}

/// What a client may send.
#[derive(Clone, Copy, Debug)]
struct Limits {
    message_bytes: usize,
    fragments: usize,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Payload bytes already read.
    at: usize,
    len: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// What kind of thing [`Decoder::decode`] completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complete {
    /// A binary message.
    Binary,
    /// A text message.
    Text,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close,
}

impl Complete {
    /// Joins it with its payload.
    ///
    /// # Errors
    /// [`Violation`] for a close frame with a malformed payload.
    pub fn event(self, payload: &[u8]) -> Result<Event<'_>, Violation> {
        Ok(match self {
            Self::Binary => Event::Binary(payload),
            Self::Text => Event::Text(payload),
            Self::Ping => Event::Ping(payload),
            Self::Pong => Event::Pong,
            Self::Close => return close_event(payload),
        })
    }
}

/// Something complete that a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A binary message.
    Binary(&'a [u8]),
    /// A text message; its UTF-8 is not checked.
    Text(&'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong,
    /// The client closes; the code, if it gave one.
    Close(Option<u16>),
}

/// What a client did wrong, or too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Against the protocol.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message longer than is ever read.
    #[error("message of {bytes} bytes or more, the limit is {limit}")]
    TooLong {
        /// Announced or received so far.
        bytes: u64,
        /// `limits.max_frame_bytes`.
        limit: usize,
    },
    /// A message in too many pieces.
    #[error("message in more than {limit} frames")]
    TooManyFragments {
        /// `limits.max_fragments`.
        limit: usize,
    },
    /// A close reason that is not UTF-8.
    #[error("close reason is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// The close code that the client gets (RFC 6455, 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::Protocol(_) => close_code::PROTOCOL_ERROR,
            Self::TooLong { .. } => close_code::TOO_BIG,
            Self::TooManyFragments { .. } => close_code::POLICY,
            Self::CloseReason => close_code::INVALID_PAYLOAD,
        }
    }
}

/// Close codes that this server sends.
pub mod close_code {
    /// The server is going down.
    pub const GOING_AWAY: u16 = 1001;
    /// The client broke the framing rules.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text, where only binary is understood.
    pub const UNSUPPORTED: u16 = 1003;
    /// Not UTF-8 where text is required.
    pub const INVALID_PAYLOAD: u16 = 1007;
    /// A bound of this server was exceeded.
    pub const POLICY: u16 = 1008;
    /// A message longer than this server reads.
    pub const TOO_BIG: u16 = 1009;
    /// The server is overloaded (registered by the `WebSocket` registry of IANA).
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Two bytes, 8 of extended length, 4 of mask.
const MAX_HEADER: usize = 14;
const MAX_CONTROL: usize = 125;

impl Decoder {
    /// A decoder at the start of a connection.
    #[must_use]
    pub fn new(config: &config::Session) -> Self {
        Self {
            limits: Limits { message_bytes: config.max_frame_bytes, fragments: config.max_fragments },
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: None,
            control: Vec::new(),
            message: Vec::new(),
            fragments: 0,
            text: false,
        }
    }

    /// Reads from `input` until something is complete or the input ends. Returns how many bytes were
    /// read, and what they completed: its payload is then in `scratch`.
    ///
    /// # Errors
    /// [`Violation`]: send its close code and read no more.
    pub fn decode(&mut self, input: &[u8], scratch: &mut Vec<u8>) -> Result<(usize, Option<Complete>), Violation> {
        let mut read = 0;
        loop {
            let rest = &input[read..];
            let Some(frame) = self.frame else {
                let Some(header_len) = self.read_header(rest)? else {
                    return Ok((input.len(), None));
                };
                read += header_len;
                continue;
            };
            let take = rest.len().min(frame.len - frame.at);
            let complete = frame.at + take == frame.len;
            read += take;
            if complete && frame.at == 0 && frame.fin && (frame.opcode.is_control() || self.message.is_empty()) {
                // The usual case: the whole message is here.
                scratch.clear();
                append_unmasked(scratch, &rest[..take], frame.mask, 0);
                self.frame = None;
                return Ok((read, Some(self.finish(frame.opcode))));
            }
            let buffer = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
            append_unmasked(buffer, &rest[..take], frame.mask, frame.at);
            if !complete {
                self.frame = Some(Frame { at: frame.at + take, ..frame });
                return Ok((read, None));
            }
            self.frame = None;
            if frame.fin {
                let buffer = if frame.opcode.is_control() { &mut self.control } else { &mut self.message };
                *scratch = std::mem::take(buffer);
                return Ok((read, Some(self.finish(frame.opcode))));
            }
        }
    }

    /// Whether a part of a frame or of a message has arrived, and the rest has not.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.frame.is_some() || self.fragments > 0 || self.head_len > 0
    }

    /// Memory that is kept for a message and a control frame of which only a part has arrived.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.message.capacity() + self.control.capacity()
    }

    /// Completes the header with bytes of `input`: `Some(bytes taken)` when it is complete, and
    /// `self.frame` is then set.
    fn read_header(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        let had = usize::from(self.head_len);
        let take = input.len().min(MAX_HEADER - had);
        work::took(1 + had + take);
        self.head[had..had + take].copy_from_slice(&input[..take]);
        let Some((header_len, frame)) = self.parse_header(&self.head[..had + take])? else {
            self.head_len = u8::try_from(had + take).expect("at most 14");
            return Ok(None);
        };
        self.head_len = 0;
        self.admit(&frame)?;
        self.frame = Some(frame);
        Ok(Some(header_len - had))
    }

    fn parse_header(&self, head: &[u8]) -> Result<Option<(usize, Frame)>, Violation> {
        let &[first, second, ref rest @ ..] = head else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("reserved bits set"));
        }
        let opcode = Opcode::parse(first & 0x0f)?;
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("frame is not masked"));
        }
        let fin = first & 0x80 != 0;
        let short = u64::from(second & 0x7f);
        if opcode.is_control() && (!fin || short > MAX_CONTROL as u64) {
            return Err(Violation::Protocol("control frame fragmented or longer than 125 bytes"));
        }
        let (len, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            len => (len, rest),
        };
        if len >> 63 != 0 {
            return Err(Violation::Protocol("frame length has its highest bit set"));
        }
        if !opcode.is_control() {
            self.check_length(len)?;
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let len = usize::try_from(len).expect("checked against the limit");
        Ok(Some((head.len() - rest.len(), Frame { fin, opcode, mask: *mask, at: 0, len })))
    }

    /// Before a byte of the payload is buffered.
    fn check_length(&self, len: u64) -> Result<(), Violation> {
        let bytes = len.saturating_add(self.message.len() as u64);
        if bytes > self.limits.message_bytes as u64 {
            return Err(Violation::TooLong { bytes, limit: self.limits.message_bytes });
        }
        Ok(())
    }

    fn admit(&mut self, frame: &Frame) -> Result<(), Violation> {
        match frame.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => return Ok(()),
            Opcode::Continuation if self.fragments == 0 => {
                return Err(Violation::Protocol("continuation without a message"));
            }
            Opcode::Text | Opcode::Binary if self.fragments != 0 => {
                return Err(Violation::Protocol("new message inside a fragmented one"));
            }
            Opcode::Continuation => {}
            opcode => self.text = opcode == Opcode::Text,
        }
        self.fragments += 1;
        if self.fragments > self.limits.fragments {
            return Err(Violation::TooManyFragments { limit: self.limits.fragments });
        }
        Ok(())
    }

    fn finish(&mut self, opcode: Opcode) -> Complete {
        match opcode {
            Opcode::Ping => Complete::Ping,
            Opcode::Pong => Complete::Pong,
            Opcode::Close => Complete::Close,
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.fragments = 0;
                if self.text { Complete::Text } else { Complete::Binary }
            }
        }
    }
}

impl Opcode {
    fn parse(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return Err(Violation::Protocol("reserved opcode")),
        })
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, Violation> {
    match payload {
        [] => Ok(Event::Close(None)),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation::Protocol("close code is not one that may be sent"));
            }
            std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
            Ok(Event::Close(Some(code)))
        }
        [_] => Err(Violation::Protocol("close payload of one byte")),
    }
}

/// Appends `masked` without its mask; `at` is its position within the frame's payload.
fn append_unmasked(out: &mut Vec<u8>, masked: &[u8], mut mask: [u8; 4], at: usize) {
    mask.rotate_left(at % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let start = out.len();
    work::took(masked.len());
    out.extend_from_slice(masked);
    // Copied first, then XORed in place eight bytes at a time: the compiler makes vector code of it.
    let (words, tail) = out[start..].as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A frame's opcode, as the server sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// A reply.
    Binary,
    /// Is the client still there?
    Ping,
    /// The answer to a ping.
    Pong,
    /// The end.
    Close,
}

/// Appends the header of an unmasked, unfragmented frame of `len` payload bytes.
pub fn put_header(out: &mut Vec<u8>, opcode: Outgoing, len: usize) {
    out.push(
        0x80 | match opcode {
            Outgoing::Binary => 0x2,
            Outgoing::Close => 0x8,
            Outgoing::Ping => 0x9,
            Outgoing::Pong => 0xa,
        },
    );
    match len {
        0..=125 => out.push(u8::try_from(len).expect("at most 125")),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(len).expect("at most 65,535").to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

/// Appends a close frame without a reason.
pub fn put_close(out: &mut Vec<u8>, code: Option<u16>) {
    let code = code.map(u16::to_be_bytes);
    let payload = code.as_ref().map_or(&[][..], |code| &code[..]);
    put_header(out, Outgoing::Close, payload.len());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BINARY: u8 = 0x2;

    fn decoder(max_bytes: usize, fragments: usize) -> Decoder {
        Decoder {
            limits: Limits { message_bytes: max_bytes, fragments },
            head: [0; MAX_HEADER],
            head_len: 0,
            frame: None,
            control: Vec::new(),
            message: Vec::new(),
            fragments: 0,
            text: false,
        }
    }

    /// A frame as a client sends it.
    fn frame(fin: bool, opcode: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, Outgoing::Binary, payload.len());
        out[0] = u8::from(fin) << 7 | opcode;
        out[1] |= 0x80;
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn describe(event: &Event<'_>) -> String {
        match event {
            Event::Binary(payload) => format!("binary {payload:x?}"),
            Event::Text(payload) => format!("text {payload:x?}"),
            Event::Ping(payload) => format!("ping {payload:x?}"),
            Event::Pong => "pong".to_owned(),
            Event::Close(code) => format!("close {code:?}"),
        }
    }

    /// Feeds `bytes` in pieces of `step` and collects what comes out, up to the first violation.
    fn run(decoder: &mut Decoder, bytes: &[u8], step: usize) -> Vec<String> {
        let mut out = Vec::new();
        let mut scratch = Vec::new();
        for mut piece in bytes.chunks(step) {
            while !piece.is_empty() {
                let step = decoder.decode(piece, &mut scratch).and_then(|(read, complete)| {
                    piece = &piece[read..];
                    complete.map(|complete| complete.event(&scratch)).transpose()
                });
                match step {
                    Ok(event) => out.extend(event.as_ref().map(describe)),
                    Err(violation) => {
                        out.push(format!("{} {violation}", violation.close_code()));
                        return out;
                    }
                }
            }
        }
        out
    }

    fn run_whole(bytes: &[u8]) -> Vec<String> {
        run(&mut decoder(1000, 4), bytes, usize::MAX)
    }

    #[test]
    fn a_whole_frame_leaves_nothing_behind() {
        let mut decoder = decoder(1000, 4);
        assert_eq!(
            run(&mut decoder, &frame(true, BINARY, [1, 2, 3, 4], b"hello"), usize::MAX),
            [describe(&Event::Binary(b"hello"))]
        );
        assert_eq!(decoder.kept_bytes(), 0);
    }

    #[test]
    fn a_control_frame_may_come_inside_a_fragmented_message() {
        let bytes = [
            frame(false, BINARY, [1; 4], b"ab"),
            frame(true, 0x9, [2; 4], b"?"),
            frame(false, 0, [3; 4], b""),
            frame(true, 0, [4; 4], b"cd"),
        ]
        .concat();
        assert_eq!(run_whole(&bytes), [describe(&Event::Ping(b"?")), describe(&Event::Binary(b"abcd"))]);
    }

    #[test]
    fn every_violation_has_its_close_code() {
        let mut unmasked = frame(true, BINARY, [0; 4], b"x");
        unmasked[1] &= 0x7f;
        let starts = |bytes: &[u8], code: &str| {
            let out = run_whole(bytes);
            assert!(out.last().is_some_and(|last| last.starts_with(code)), "{out:?} does not end with {code}");
        };
        starts(&unmasked, "1002");
        starts(&frame(true, 0x3, [0; 4], b""), "1002");
        starts(&frame(true, 0xb, [0; 4], b""), "1002");
        starts(&frame(true, 0x40 | BINARY, [0; 4], b""), "1002");
        starts(&frame(false, 0x9, [0; 4], b""), "1002");
        starts(&frame(true, 0x9, [0; 4], &[0; 126]), "1002");
        starts(&frame(true, 0x0, [0; 4], b""), "1002");
        starts(&[frame(false, BINARY, [0; 4], b"a"), frame(true, BINARY, [0; 4], b"b")].concat(), "1002");
        starts(&frame(true, 0x8, [0; 4], b"\x03"), "1002");
        starts(&frame(true, 0x8, [0; 4], &1005_u16.to_be_bytes()), "1002");
        starts(&frame(true, 0x8, [0; 4], b"\x03\xe8\xff"), "1007");
        starts(&frame(true, BINARY, [0; 4], &[0; 1001]), "1009");
        starts(&[frame(false, BINARY, [0; 4], &[0; 600]), frame(true, 0, [0; 4], &[0; 401])].concat(), "1009");
        let fragments: Vec<_> = [BINARY, 0, 0, 0, 0].map(|opcode| frame(false, opcode, [0; 4], b"")).concat();
        starts(&fragments, "1008");
    }

    #[test]
    fn a_message_too_long_is_refused_by_its_header_alone() {
        let whole = frame(true, BINARY, [0; 4], &[0; 70_000]);
        let mut decoder = decoder(1000, 4);
        assert!(run(&mut decoder, &whole[..10], 1)[0].starts_with("1009"));
        assert_eq!(decoder.kept_bytes(), 0);
    }

    #[test]
    fn close_codes_are_read_and_echoed() {
        assert_eq!(run_whole(&frame(true, 0x8, [7; 4], b"")), ["close None"]);
        assert_eq!(run_whole(&frame(true, 0x8, [7; 4], b"\x03\xe8bye")), ["close Some(1000)"]);
        let mut out = Vec::new();
        put_close(&mut out, Some(close_code::GOING_AWAY));
        assert_eq!(out, [0x88, 2, 0x03, 0xe9]);
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_changes_nothing(
            messages in prop::collection::vec(
                (prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..4), any::<[u8; 4]>()),
                1..4,
            ),
            step in 1_usize..400,
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (fragments, mask) in &messages {
                for (n, fragment) in fragments.iter().enumerate() {
                    let opcode = if n == 0 { BINARY } else { 0 };
                    bytes.extend(frame(n + 1 == fragments.len(), opcode, *mask, fragment));
                }
                expected.push(describe(&Event::Binary(&fragments.concat())));
            }
            prop_assert_eq!(run(&mut decoder(1000, 4), &bytes, step), expected.clone());
            prop_assert_eq!(run(&mut decoder(1000, 4), &bytes, usize::MAX), expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_grow_past_the_limit(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            step in 1_usize..64,
        ) {
            let mut decoder = decoder(500, 3);
            run(&mut decoder, &bytes, step);
            prop_assert!(decoder.message.len() <= 500 && decoder.control.len() <= MAX_CONTROL);
        }
    }
}

//! WebSocket framing (RFC 6455 §5.2) as far as telemetry needs it: unfragmented messages up to 1 MiB.

/// Every telemetry message and every reply.
pub const BINARY: u8 = 2;
/// Ends the connection.
pub const CLOSE: u8 = 8;
/// Wants a pong.
pub const PING: u8 = 9;
/// Answers a ping.
pub const PONG: u8 = 10;

const MAX_PAYLOAD: u64 = 1 << 20;

/// What a peer must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A fragment or a reserved bit.
    #[error("fragmented or extended frame (first byte {0:#04x})")]
    Fragmented(u8),
    /// Longer than anything that telemetry has.
    #[error("frame of {0} bytes, more than 1 MiB")]
    TooLong(u64),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Kind of frame.
    pub opcode: u8,
    /// Present on frames from a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes before the payload.
    pub len: usize,
    /// Bytes of payload.
    pub payload_len: usize,
}

impl Header {
    /// Reads a header; `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] for frames that telemetry does not use.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & 0xf0 != 0x80 || first & 0x0f == 0 {
            return Err(FrameError::Fragmented(first));
        }
        let (extended, short) = match second & 0x7f {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, u64::from(short)),
        };
        let Some(long) = bytes.get(2..2 + extended) else { return Ok(None) };
        let payload_len = long.iter().fold(short, |len, byte| (len << 8) | u64::from(*byte));
        if payload_len > MAX_PAYLOAD {
            return Err(FrameError::TooLong(payload_len));
        }
        let masked = second & 0x80 != 0;
        let mask = match bytes.get(2 + extended..6 + extended) {
            Some(mask) if masked => Some(mask.try_into().expect("four bytes")),
            None if masked => return Ok(None),
            _ => None,
        };
        let len = 2 + extended + if masked { 4 } else { 0 };
        let payload_len = usize::try_from(payload_len).expect("at most 1 MiB");
        Ok(Some(Self { opcode: first & 0x0f, mask, len, payload_len }))
    }
}

/// Appends a client's frame.
pub fn append_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    append_header(out, opcode, 0x80, payload.len());
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Appends a server's frame.
pub fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    append_header(out, opcode, 0, payload.len());
    out.extend_from_slice(payload);
}

/// Masks or unmasks a payload in place.
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let word = u64::from(u32::from_ne_bytes(mask));
    let wide = (word << 32) | word;
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let value = u64::from_ne_bytes(chunk.try_into().expect("eight bytes")) ^ wide;
        chunk.copy_from_slice(&value.to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn append_header(out: &mut Vec<u8>, opcode: u8, mask_bit: u8, len: usize) {
    out.push(0x80 | opcode);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => out.push(mask_bit | short),
        (_, Ok(medium)) => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_class_read_back() {
        for len in [0, 1, 7, 125, 126, 368, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|n| u8::try_from(n % 251).expect("below 251")).collect();
            let mut bytes = Vec::new();
            append_masked(&mut bytes, BINARY, &payload, [1, 2, 3, 4]);
            let header = Header::parse(&bytes).expect("valid").expect("complete");
            assert_eq!((header.opcode, header.mask, header.payload_len), (BINARY, Some([1, 2, 3, 4]), len));
            assert_eq!(header.len + len, bytes.len());
            let mut body = bytes.split_off(header.len);
            apply_mask(&mut body, [1, 2, 3, 4]);
            assert_eq!(body, payload);

            let mut plain = Vec::new();
            append(&mut plain, BINARY, &payload);
            let header = Header::parse(&plain).expect("valid").expect("complete");
            assert_eq!((header.mask, &plain[header.len..]), (None, &payload[..]));
        }
    }

    #[test]
    fn a_cut_header_needs_more_bytes() {
        let mut bytes = Vec::new();
        append_masked(&mut bytes, BINARY, &[0; 300], [9; 4]);
        for cut in 0..8 {
            assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
        }
        assert!(Header::parse(&bytes[..8]).expect("valid").is_some());
    }

    #[test]
    fn fragments_reserved_bits_and_giants_are_refused() {
        assert_eq!(Header::parse(&[0x02, 0]), Err(FrameError::Fragmented(0x02)));
        assert_eq!(Header::parse(&[0xc2, 0]), Err(FrameError::Fragmented(0xc2)));
        assert_eq!(Header::parse(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]), Err(FrameError::TooLong(1 << 32)));
    }
}

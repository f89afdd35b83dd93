//! The FlatBuffers envelope around every record; the layout is drawn in `proto/envelope.fbs`.

pub mod reply;

/// A stream message, borrowed from the frame it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Chosen by the vehicle; replies repeat it.
    pub txid: &'a [u8],
    /// Record type.
    pub topic: &'a [u8],
    /// Who the vehicle says it is: `<client type>.<device id>`; not to be trusted.
    pub sender_id: &'a [u8],
    /// When the vehicle made the message, seconds since the epoch; 0 when absent.
    pub created_at: u32,
    /// Protobuf, by topic.
    pub payload: &'a [u8],
}

/// Why a frame is not a stream message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError<'a> {
    /// An offset or length points outside the frame.
    #[error("not a readable envelope")]
    Unreadable,
    /// Nothing to read, or no message in the envelope: acked with an empty txid and topic.
    #[error("the envelope holds no message")]
    NoMessage,
    /// A message of another type than a stream message: acked with its txid and an empty topic.
    #[error("unknown message type {message_type}")]
    UnknownType {
        /// The envelope's txid.
        txid: &'a [u8],
        /// The union's discriminant.
        message_type: u8,
    },
}

impl<'a> Envelope<'a> {
    /// Reads a frame. Checks every offset against the frame, demands no alignment, does not allocate.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn parse(frame: &'a [u8]) -> Result<Self, EnvelopeError<'a>> {
        if frame.is_empty() {
            return Err(EnvelopeError::NoMessage);
        }
        read(Buffer(frame)).unwrap_or(Err(EnvelopeError::Unreadable))
    }
}

/// Discriminants of the envelope's union.
pub(crate) mod message_type {
    pub(crate) const STREAM: u8 = 4;
    pub(crate) const STREAM_ACK: u8 = 5;
}

/// Positions of the fields in a table's vtable, in bytes.
pub(crate) mod slot {
    pub(crate) const TXID: u16 = 4;
    pub(crate) const TOPIC: u16 = 6;
    pub(crate) const MESSAGE_TYPE: u16 = 8;
    pub(crate) const MESSAGE: u16 = 10;
    pub(crate) const MESSAGE_ID: u16 = 12;

    pub(crate) const CREATED_AT: u16 = 4;
    pub(crate) const SENDER_ID: u16 = 6;
    pub(crate) const PAYLOAD: u16 = 8;
    pub(crate) const DEVICE_TYPE: u16 = 10;
    pub(crate) const DEVICE_ID: u16 = 12;
    pub(crate) const DELIVERED_AT: u16 = 14;
}

/// `None`: something points outside the frame. The fields that nobody uses are checked too, because the
/// reference server reads them and refuses a frame in which they are broken.
fn read(frame: Buffer<'_>) -> Option<Result<Envelope<'_>, EnvelopeError<'_>>> {
    let envelope = frame.root()?;
    let Some(message) = envelope.table(slot::MESSAGE)? else {
        return Some(Err(EnvelopeError::NoMessage));
    };
    let message_type = envelope.u8(slot::MESSAGE_TYPE)?;
    let txid = envelope.bytes(slot::TXID)?;
    if message_type != message_type::STREAM {
        return Some(Err(EnvelopeError::UnknownType { txid, message_type }));
    }
    envelope.bytes(slot::MESSAGE_ID)?;
    message.bytes(slot::DEVICE_TYPE)?;
    message.bytes(slot::DEVICE_ID)?;
    message.u64(slot::DELIVERED_AT)?;
    Some(Ok(Envelope {
        txid,
        topic: envelope.bytes(slot::TOPIC)?,
        sender_id: message.bytes(slot::SENDER_ID)?,
        created_at: message.u32(slot::CREATED_AT)?,
        payload: message.bytes(slot::PAYLOAD)?,
    }))
}

/// A FlatBuffers buffer. Positions are `u32` and wrap, as in the reference server's reader; only what they
/// point at is checked.
#[derive(Clone, Copy)]
pub(crate) struct Buffer<'a>(pub(crate) &'a [u8]);

impl<'a> Buffer<'a> {
    pub(crate) fn root(self) -> Option<Table<'a>> {
        Table::at(self, u32::from_le_bytes(self.array(0)?))
    }

    fn array<const N: usize>(self, at: u32) -> Option<[u8; N]> {
        self.0.get(at as usize..)?.first_chunk().copied()
    }

    /// Follows the relative offset at `at`.
    fn follow(self, at: u32) -> Option<u32> {
        Some(at.wrapping_add(u32::from_le_bytes(self.array(at)?)))
    }

    /// The byte vector whose length word is at `at`.
    fn vector(self, at: u32) -> Option<&'a [u8]> {
        let len = u32::from_le_bytes(self.array(at)?) as usize;
        self.0.get(at.checked_add(4)? as usize..)?.get(..len)
    }
}

/// A table: a position, and a vtable that says where its fields are.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    buffer: Buffer<'a>,
    at: u32,
    vtable: u32,
    vtable_len: u16,
}

impl<'a> Table<'a> {
    fn at(buffer: Buffer<'a>, at: u32) -> Option<Self> {
        let vtable = at.wrapping_sub(u32::from_le_bytes(buffer.array(at)?));
        Some(Self { buffer, at, vtable, vtable_len: u16::from_le_bytes(buffer.array(vtable)?) })
    }

    /// Where a field is; inside: `None` when the table has no such field.
    fn field(&self, slot: u16) -> Option<Option<u32>> {
        if slot >= self.vtable_len {
            return Some(None);
        }
        let offset = u16::from_le_bytes(self.buffer.array(self.vtable.wrapping_add(slot.into()))?);
        Some((offset != 0).then(|| self.at.wrapping_add(offset.into())))
    }

    /// A scalar; zeros when absent.
    fn scalar<const N: usize>(&self, slot: u16) -> Option<[u8; N]> {
        match self.field(slot)? {
            None => Some([0; N]),
            Some(at) => self.buffer.array(at),
        }
    }

    pub(crate) fn u8(&self, slot: u16) -> Option<u8> {
        self.scalar(slot).map(u8::from_le_bytes)
    }

    fn u32(&self, slot: u16) -> Option<u32> {
        self.scalar(slot).map(u32::from_le_bytes)
    }

    fn u64(&self, slot: u16) -> Option<u64> {
        self.scalar(slot).map(u64::from_le_bytes)
    }

    /// A byte vector; empty when absent.
    pub(crate) fn bytes(&self, slot: u16) -> Option<&'a [u8]> {
        match self.field(slot)? {
            None => Some(&[]),
            Some(at) => self.buffer.vector(self.buffer.follow(at)?),
        }
    }

    /// A table; inside: `None` when absent.
    fn table(&self, slot: u16) -> Option<Option<Table<'a>>> {
        match self.field(slot)? {
            None => Some(None),
            Some(at) => Self::at(self.buffer, self.buffer.follow(at)?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::message;

    const SAMPLE: Envelope<'static> = Envelope {
        txid: b"tx-1",
        topic: b"V",
        sender_id: b"vehicle_device.device-1",
        created_at: 7,
        payload: b"payload",
    };

    #[test]
    fn reads_what_a_vehicle_encodes() {
        assert_eq!(Envelope::parse(&message::encode(&SAMPLE)), Ok(SAMPLE));
    }

    #[test]
    fn ignores_bytes_after_the_message() {
        let mut frame = message::encode(&SAMPLE);
        frame.extend_from_slice(b"trailing");
        assert_eq!(Envelope::parse(&frame), Ok(SAMPLE));
    }

    #[test]
    fn an_empty_frame_and_an_empty_table_hold_no_message() {
        assert_eq!(Envelope::parse(b""), Err(EnvelopeError::NoMessage));
        assert_eq!(Envelope::parse(&[0; 4]), Err(EnvelopeError::NoMessage));
    }

    #[test]
    fn a_frame_that_is_cut_short_is_unreadable_or_lacks_only_padding() {
        let frame = message::encode(&SAMPLE);
        // The sender id is last in the buffer; one byte of padding follows it.
        for len in 1..frame.len() - 1 {
            assert_eq!(Envelope::parse(&frame[..len]), Err(EnvelopeError::Unreadable), "cut to {len} bytes");
        }
        assert_eq!(Envelope::parse(&frame[..frame.len() - 1]), Ok(SAMPLE));
    }

    #[test]
    fn other_message_types_are_reported_with_their_txid() {
        let mut frame = message::encode(&SAMPLE);
        frame[35] = 200;
        assert_eq!(Envelope::parse(&frame), Err(EnvelopeError::UnknownType { txid: b"tx-1", message_type: 200 }));
    }

    #[test]
    fn any_flipped_byte_is_survived() {
        let frame = message::encode(&SAMPLE);
        for at in 0..frame.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut broken = frame.clone();
                broken[at] = value;
                let _ = Envelope::parse(&broken);
            }
        }
    }
}

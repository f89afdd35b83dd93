//! What a vehicle sends: the encoder for simulators, tests and fuzz seeds. And what it reads back.

use crate::envelope::{Buffer, Envelope, message_type, slot};

/// Encodes a stream message as a vehicle does. `device_type` and `device_id` are taken from the sender id.
///
/// Unlike the server's replies, vehicles put no NUL after the bytes of a vector.
///
/// # Panics
/// When the message is longer than 4 GiB.
#[must_use]
pub fn encode(envelope: &Envelope<'_>) -> Vec<u8> {
    let (device_type, device_id) = device(envelope.sender_id);
    let mut back = Backwards::default();
    let sender_id = back.vector(envelope.sender_id);
    let payload = back.vector(envelope.payload);
    let device_type = back.vector(device_type);
    let device_id = back.vector(device_id);
    let created_at = (envelope.created_at != 0).then_some(Slot::Word(envelope.created_at));
    // Fields are written in order of their offset: the first in the list is nearest to the table's start.
    let message = back.table(&[
        (slot::DEVICE_ID, Some(Slot::To(device_id))),
        (slot::DEVICE_TYPE, Some(Slot::To(device_type))),
        (slot::PAYLOAD, Some(Slot::To(payload))),
        (slot::SENDER_ID, Some(Slot::To(sender_id))),
        (slot::CREATED_AT, created_at),
    ]);
    let txid = back.vector(envelope.txid);
    let topic = back.vector(envelope.topic);
    let message_id = back.vector(b"");
    let root = back.table(&[
        (slot::MESSAGE_ID, Some(Slot::To(message_id))),
        (slot::MESSAGE, Some(Slot::To(message))),
        (slot::MESSAGE_TYPE, Some(Slot::LastByte(message_type::STREAM))),
        (slot::TOPIC, Some(Slot::To(topic))),
        (slot::TXID, Some(Slot::To(txid))),
    ]);
    back.finish(root)
}

/// What a vehicle reads from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The record is safe.
    Ack {
        /// Of the record.
        txid: &'a [u8],
        /// Of the record.
        topic: &'a [u8],
    },
    /// The record was refused.
    Error {
        /// Of the record; empty when the server could not read it.
        txid: &'a [u8],
    },
}

/// Reads a reply; `None` when it is neither an ack nor an error response.
#[must_use]
pub fn parse_reply(frame: &[u8]) -> Option<Reply<'_>> {
    let envelope = Buffer(frame).root()?;
    let txid = envelope.bytes(slot::TXID)?;
    let topic = envelope.bytes(slot::TOPIC)?;
    match envelope.u8(slot::MESSAGE_TYPE)? {
        message_type::STREAM_ACK => Some(Reply::Ack { txid, topic }),
        message_type::STREAM => Some(Reply::Error { txid }),
        _ => None,
    }
}

/// `<client type>.<device id>`; without a dot, all of it is the device id.
fn device(sender_id: &[u8]) -> (&[u8], &[u8]) {
    match sender_id.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&sender_id[..dot], &sender_id[dot + 1..]),
        None => (b"", sender_id),
    }
}

/// A FlatBuffers builder for tables whose fields are all four bytes wide. Holds the buffer back to front,
/// byte by byte; positions count from the end of the finished buffer.
#[derive(Default)]
struct Backwards(Vec<u8>);

/// A field of a table, four bytes.
#[derive(Clone, Copy)]
enum Slot {
    /// A relative offset to this position.
    To(usize),
    /// A number.
    Word(u32),
    /// A byte after three bytes of padding.
    LastByte(u8),
}

impl Backwards {
    fn vector(&mut self, bytes: &[u8]) -> usize {
        self.0.resize((self.0.len() + bytes.len()).next_multiple_of(4) - bytes.len(), 0);
        self.put(bytes);
        self.word(bytes.len())
    }

    /// `fields` by their vtable slot, in the order in which the table holds them.
    fn table(&mut self, fields: &[(u16, Option<Slot>)]) -> usize {
        let mut vtable = [0_u16; 7];
        vtable[0] = 14;
        vtable[1] = 4;
        for (slot, value) in fields {
            let Some(value) = value else { continue };
            let byte_in_word = if matches!(value, Slot::LastByte(_)) { 3 } else { 0 };
            vtable[usize::from(slot / 2)] = vtable[1] + byte_in_word;
            vtable[1] += 4;
        }
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        for (_, value) in fields.iter().rev() {
            match *value {
                Some(Slot::To(position)) => self.word(self.0.len() + 4 - position),
                Some(Slot::Word(number)) => self.put(&number.to_le_bytes()),
                Some(Slot::LastByte(byte)) => self.put(&[0, 0, 0, byte]),
                None => continue,
            };
        }
        let table = self.word(usize::from(vtable[0]));
        for entry in vtable.iter().rev() {
            self.put(&entry.to_le_bytes());
        }
        table
    }

    fn finish(mut self, root: usize) -> Vec<u8> {
        self.0.resize((self.0.len() + 4).next_multiple_of(4) - 4, 0);
        self.word(self.0.len() + 4 - root);
        self.0.reverse();
        self.0
    }

    fn word(&mut self, value: usize) -> usize {
        self.put(&u32::try_from(value).expect("messages are far shorter than 4 GiB").to_le_bytes())
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.0.extend(bytes.iter().rev());
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, Vector, Verifiable, Verifier, VerifierOptions, WIPOffset};
    use proptest::prelude::*;

    use super::*;

    /// The official builder's buffer, with the vectors and fields created in the order that vehicles use.
    fn built(envelope: &Envelope<'_>, device_type: &[u8], device_id: &[u8]) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::new();
        let sender_id = builder.create_vector(envelope.sender_id);
        let payload = builder.create_vector(envelope.payload);
        let device_type = builder.create_vector(device_type);
        let device_id = builder.create_vector(device_id);
        let table = builder.start_table();
        builder.push_slot(slot::CREATED_AT, envelope.created_at, 0);
        builder.push_slot_always(slot::SENDER_ID, sender_id);
        builder.push_slot_always(slot::PAYLOAD, payload);
        builder.push_slot_always(slot::DEVICE_TYPE, device_type);
        builder.push_slot_always(slot::DEVICE_ID, device_id);
        let message = WIPOffset::<()>::new(builder.end_table(table).value());
        let txid = builder.create_vector(envelope.txid);
        let topic = builder.create_vector(envelope.topic);
        let message_id = builder.create_vector::<u8>(&[]);
        let table = builder.start_table();
        builder.push_slot_always(slot::TXID, txid);
        builder.push_slot_always(slot::TOPIC, topic);
        builder.push_slot_always(slot::MESSAGE_TYPE, message_type::STREAM);
        builder.push_slot_always(slot::MESSAGE, message);
        builder.push_slot_always(slot::MESSAGE_ID, message_id);
        let root = builder.end_table(table);
        builder.finish_minimal(root);
        builder.finished_data().to_vec()
    }

    type Bytes<'a> = ForwardsUOffset<Vector<'a, u8>>;

    struct Stream;

    impl Verifiable for Stream {
        fn run_verifier(v: &mut Verifier<'_, '_>, at: usize) -> Result<(), flatbuffers::InvalidFlatbuffer> {
            v.visit_table(at)?
                .visit_field::<u32>("created_at", slot::CREATED_AT, false)?
                .visit_field::<Bytes<'_>>("sender_id", slot::SENDER_ID, true)?
                .visit_field::<Bytes<'_>>("payload", slot::PAYLOAD, true)?
                .visit_field::<Bytes<'_>>("device_type", slot::DEVICE_TYPE, true)?
                .visit_field::<Bytes<'_>>("device_id", slot::DEVICE_ID, true)?
                .finish();
            Ok(())
        }
    }

    struct Root;

    impl Verifiable for Root {
        fn run_verifier(v: &mut Verifier<'_, '_>, at: usize) -> Result<(), flatbuffers::InvalidFlatbuffer> {
            v.visit_table(at)?
                .visit_field::<Bytes<'_>>("txid", slot::TXID, true)?
                .visit_field::<Bytes<'_>>("topic", slot::TOPIC, true)?
                .visit_field::<u8>("message_type", slot::MESSAGE_TYPE, true)?
                .visit_field::<ForwardsUOffset<Stream>>("message", slot::MESSAGE, true)?
                .finish();
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn frames_equal_what_the_official_builder_makes(
            txid in prop::collection::vec(any::<u8>(), 0..40),
            topic in prop::collection::vec(any::<u8>(), 0..12),
            device_type in "[a-z_]{0,20}",
            device_id in "[A-Z0-9.]{0,20}",
            created_at in prop_oneof![Just(0), any::<u32>()],
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let sender_id = format!("{device_type}.{device_id}").into_bytes();
            let envelope =
                Envelope { txid: &txid, topic: &topic, sender_id: &sender_id, created_at, payload: &payload };
            let frame = encode(&envelope);
            prop_assert_eq!(&frame, &built(&envelope, device_type.as_bytes(), device_id.as_bytes()));
            prop_assert_eq!(Envelope::parse(&frame), Ok(envelope));
            let options = VerifierOptions::default();
            prop_assert!(<ForwardsUOffset<Root>>::run_verifier(&mut Verifier::new(&options, &frame), 0).is_ok());
        }

        #[test]
        fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = (parse_reply(&bytes), Envelope::parse(&bytes).is_ok());
        }
    }

    #[test]
    fn a_sender_without_a_dot_is_all_device_id() {
        assert_eq!(device(b"vehicle_device.a.b"), (&b"vehicle_device"[..], &b"a.b"[..]));
        assert_eq!(device(b"device-1"), (&b""[..], &b"device-1"[..]));
    }
}

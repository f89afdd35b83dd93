//! The two replies that a server sends, to the byte as the reference server builds them.
//!
//! Both start with the same 44 bytes: the root offset, the envelope's vtable and the envelope's table.
//! FlatBuffers builders write back to front, so the vectors that follow are in reverse order of creation.
//!
//! ```text
//!  0  root offset (20) · 2 zero bytes · vtable: 14 24 20 16 15 8 4
//! 20  table: to vtable (14) · to message id (20) · to message · 0 0 0, message type · to topic (16) · to txid
//! 44  message id: empty vector · topic vector · txid vector · the message
//! ```
//!
//! A vector is its length, its bytes and a NUL, then zeros up to the alignment of what follows.

use super::message_type;

/// Appends an ack to `out`: the vehicle may forget the record `txid` of type `topic`.
///
/// Its union points at an empty byte vector, not at a table. Vehicles never follow it.
pub fn ack(out: &mut Vec<u8>, txid: &[u8], topic: &[u8]) {
    out.reserve(ack_len(txid.len(), topic.len()));
    let message = TOPIC_AT + vector_len(topic.len()) + vector_len(txid.len());
    envelope(out, message_type::STREAM_ACK, message, topic.len());
    vector(out, topic);
    vector(out, txid);
    vector(out, b"");
}

/// Appends an error response to `out`: the record `txid` was refused and will never be accepted.
///
/// It is a stream message with an empty topic, an empty sender and a fixed text, whatever the reason was.
pub fn error(out: &mut Vec<u8>, txid: &[u8]) {
    let vtable = error_vtable_at(txid.len());
    let table = vtable + ERROR_VTABLE.len();
    let start = out.len();
    out.reserve(error_len(txid.len()));
    envelope(out, message_type::STREAM, table, 0);
    vector(out, b"");
    word(out, txid.len());
    out.extend_from_slice(txid);
    out.resize(start + vtable, 0);
    out.extend_from_slice(&ERROR_VTABLE);
    // To the vtable, then to device id, device type, payload and sender id.
    for offset in [ERROR_VTABLE.len(), 16, 20, 24, 20 + vector_len(ERROR_TEXT.len())] {
        word(out, offset);
    }
    vector(out, b"");
    vector(out, b"");
    vector(out, ERROR_TEXT);
    vector(out, b"");
}

/// Length of [`ack`]'s output in bytes.
#[must_use]
pub fn ack_len(txid_len: usize, topic_len: usize) -> usize {
    60 + vector_len(topic_len) + vector_len(txid_len)
}

/// Length of [`error`]'s output in bytes.
#[must_use]
pub fn error_len(txid_len: usize) -> usize {
    let vectors = 3 * vector_len(0) + vector_len(ERROR_TEXT.len());
    error_vtable_at(txid_len) + ERROR_VTABLE.len() + ERROR_TABLE_LEN + vectors
}

const ERROR_TEXT: &[u8] = b"incorrect message format";

/// Sizes of vtable and table, then created at (absent), sender id, payload, device type, device id.
const ERROR_VTABLE: [u8; 14] = [14, 0, 20, 0, 0, 0, 16, 0, 12, 0, 8, 0, 4, 0];
const ERROR_TABLE_LEN: usize = 20;

/// Where the topic vector starts.
const TOPIC_AT: usize = 52;

/// The table after the vtable starts at a multiple of four, so the vtable at two more than one.
fn error_vtable_at(txid_len: usize) -> usize {
    let txid_end = TOPIC_AT + vector_len(0) + 4 + txid_len + 1;
    (txid_end + 2).next_multiple_of(4) - 2
}

/// The first 44 bytes and the empty message id; zeros where a reply has something of its own.
const HEAD: [u8; TOPIC_AT] = [
    20, 0, 0, 0, 0, 0, // root offset
    14, 0, 24, 0, 20, 0, 16, 0, 15, 0, 8, 0, 4, 0, // vtable
    14, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, // table
    0, 0, 0, 0, 0, 0, 0, 0, // message id
];

/// Where [`HEAD`] says where the message is, which type it has, and where the txid is.
const MESSAGE_OFFSET: usize = 28;
const MESSAGE_TYPE: usize = 35;
const TXID_OFFSET: usize = 40;

/// The first 44 bytes and the empty message id. `message` is the position of what the union points at.
fn envelope(out: &mut Vec<u8>, message_type: u8, message: usize, topic_len: usize) {
    let mut head = HEAD;
    head[MESSAGE_OFFSET..][..4].copy_from_slice(&word_of(message - MESSAGE_OFFSET));
    head[MESSAGE_TYPE] = message_type;
    head[TXID_OFFSET..][..4].copy_from_slice(&word_of(12 + vector_len(topic_len)));
    out.extend_from_slice(&head);
}

/// A byte vector on the wire: length word, bytes, NUL, padding to a multiple of four.
fn vector(out: &mut Vec<u8>, bytes: &[u8]) {
    let padding = vector_len(bytes.len()) - 4 - bytes.len();
    word(out, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&[0; 4][..padding]);
}

fn vector_len(len: usize) -> usize {
    4 + (len + 1).next_multiple_of(4)
}

fn word(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&word_of(value));
}

fn word_of(value: usize) -> [u8; 4] {
    u32::try_from(value).expect("replies repeat parts of a frame, far below 4 GiB").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use flatbuffers::{FlatBufferBuilder, WIPOffset};
    use proptest::prelude::*;

    use super::*;
    use crate::envelope::{Envelope, slot};
    use crate::testing::message;

    fn hex(bytes: &[u8]) -> String {
        bytes.chunks(4).map(|word| HEXLOWER.encode(word) + " ").collect()
    }

    fn ack_of(txid: &[u8], topic: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        ack(&mut out, txid, topic);
        out
    }

    fn error_of(txid: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        error(&mut out, txid);
        out
    }

    #[test]
    fn acks_are_the_reference_servers_bytes() {
        assert_eq!(
            hex(&ack_of(b"1234", b"V")),
            "14000000 00000e00 18001400 10000f00 08000400 0e000000 14000000 2c000000 00000005 10000000 14000000 \
             00000000 00000000 01000000 56000000 04000000 31323334 00000000 00000000 00000000 "
        );
        assert_eq!(
            hex(&ack_of(b"", b"")),
            "14000000 00000e00 18001400 10000f00 08000400 0e000000 14000000 28000000 00000005 10000000 14000000 \
             00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 "
        );
    }

    #[test]
    fn error_responses_are_the_reference_servers_bytes() {
        assert_eq!(
            hex(&error_of(b"1234")),
            "14000000 00000e00 18001400 10000f00 08000400 0e000000 14000000 38000000 00000004 10000000 14000000 \
             00000000 00000000 00000000 00000000 04000000 31323334 00000e00 14000000 10000c00 08000400 0e000000 \
             10000000 14000000 18000000 34000000 00000000 00000000 00000000 00000000 18000000 696e636f 72726563 \
             74206d65 73736167 6520666f 726d6174 00000000 00000000 00000000 "
        );
        assert_eq!(
            hex(&error_of(b"")),
            "14000000 00000e00 18001400 10000f00 08000400 0e000000 14000000 34000000 00000004 10000000 14000000 \
             00000000 00000000 00000000 00000000 00000000 00000e00 14000000 10000c00 08000400 0e000000 10000000 \
             14000000 18000000 34000000 00000000 00000000 00000000 00000000 18000000 696e636f 72726563 74206d65 \
             73736167 6520666f 726d6174 00000000 00000000 00000000 "
        );
    }

    #[test]
    fn replies_are_appended() {
        let mut out = b"before".to_vec();
        ack(&mut out, b"a", b"V");
        error(&mut out, b"a");
        assert_eq!(out, [&b"before"[..], &ack_of(b"a", b"V"), &error_of(b"a")].concat());
    }

    /// The official builder, used the way the reference server uses its own.
    #[derive(Default)]
    struct Oracle<'b>(FlatBufferBuilder<'b>);

    impl Oracle<'_> {
        fn string(&mut self, bytes: &[u8]) -> WIPOffset<()> {
            WIPOffset::new(self.0.create_byte_string(bytes).value())
        }

        fn envelope(mut self, message_type: u8, message: WIPOffset<()>, txid: &[u8], topic: &[u8]) -> Vec<u8> {
            let (txid, topic, message_id) = (self.string(txid), self.string(topic), self.string(b""));
            let table = self.0.start_table();
            self.0.push_slot_always(slot::TXID, txid);
            self.0.push_slot_always(slot::TOPIC, topic);
            self.0.push_slot_always(slot::MESSAGE_TYPE, message_type);
            self.0.push_slot_always(slot::MESSAGE, message);
            self.0.push_slot_always(slot::MESSAGE_ID, message_id);
            let root = self.0.end_table(table);
            self.0.finish_minimal(root);
            self.0.finished_data().to_vec()
        }

        fn ack(mut self, txid: &[u8], topic: &[u8]) -> Vec<u8> {
            let message = self.string(b"");
            self.envelope(message_type::STREAM_ACK, message, txid, topic)
        }

        fn error(mut self, txid: &[u8]) -> Vec<u8> {
            let (sender, payload) = (self.string(b""), self.string(ERROR_TEXT));
            let (device_type, device_id) = (self.string(b""), self.string(b""));
            let table = self.0.start_table();
            self.0.push_slot_always(slot::SENDER_ID, sender);
            self.0.push_slot_always(slot::PAYLOAD, payload);
            self.0.push_slot_always(slot::DEVICE_TYPE, device_type);
            self.0.push_slot_always(slot::DEVICE_ID, device_id);
            let message = self.0.end_table(table);
            self.envelope(message_type::STREAM, WIPOffset::new(message.value()), txid, b"")
        }
    }

    proptest! {
        #[test]
        fn replies_equal_what_the_official_builder_makes(
            txid in prop::collection::vec(any::<u8>(), 0..70),
            topic in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let (ack, error) = (ack_of(&txid, &topic), error_of(&txid));
            prop_assert_eq!(ack.len(), ack_len(txid.len(), topic.len()));
            prop_assert_eq!(error.len(), error_len(txid.len()));
            prop_assert_eq!(hex(&ack), hex(&Oracle::default().ack(&txid, &topic)));
            prop_assert_eq!(hex(&error), hex(&Oracle::default().error(&txid)));
        }

        #[test]
        fn vehicles_read_their_txid_back(txid in prop::collection::vec(any::<u8>(), 0..70)) {
            let (ack, error) = (ack_of(&txid, b"alerts"), error_of(&txid));
            let read = message::parse_reply(&ack);
            prop_assert_eq!(read, Some(message::Reply::Ack { txid: &txid, topic: b"alerts" }));
            prop_assert_eq!(message::parse_reply(&error), Some(message::Reply::Error { txid: &txid }));
            prop_assert_eq!(Envelope::parse(&error).map(|read| read.payload), Ok(ERROR_TEXT));
        }
    }
}

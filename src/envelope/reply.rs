//! The two replies that a server sends, to the byte as the reference server builds them.

/// Appends an ack to `out`: the vehicle may forget the record `txid` of type `topic`.
pub fn ack(out: &mut Vec<u8>, txid: &[u8], topic: &[u8]) {
    let _ = (out, txid, topic);
}

/// Appends an error response to `out`: the record `txid` was refused and will never be accepted.
pub fn error(out: &mut Vec<u8>, txid: &[u8]) {
    let _ = (out, txid);
}

/// Length of [`ack`]'s output in bytes.
#[must_use]
pub fn ack_len(txid_len: usize, topic_len: usize) -> usize {
    60 + vector_len(topic_len) + vector_len(txid_len)
}

/// Length of [`error`]'s output in bytes.
#[must_use]
pub fn error_len(txid_len: usize) -> usize {
    // The stream table's vtable (14 bytes) ends where its table begins, at a multiple of four.
    60 + (4 + txid_len + 1 + 2).next_multiple_of(4) - 2 + 14 + 20 + 8 + 8 + 32 + 8
}

/// A byte vector on the wire: length word, bytes, NUL, padding to a multiple of four.
fn vector_len(len: usize) -> usize {
    4 + (len + 1).next_multiple_of(4)
}

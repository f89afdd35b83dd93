//! What goes with a record: who it is, and the fields that dispatchers send as headers, attributes or metadata.
//!
//! | field | value |
//! |---|---|
//! | `vin` | device id of the client certificate |
//! | `receivedat` | when the server read the record, milliseconds since the epoch, decimal |
//! | `timestamp` | always `0` (as the reference server sends it) |
//! | `txid` | transaction id that the vehicle chose, its exact bytes |
//! | `txtype` | record type |
//! | `version` | always `0` (as the reference server sends it) |
//! | `device_client_version` | the vehicle's `Version` request header, or empty |

use xxhash_rust::xxh3::Xxh3;

use super::Record;

/// The fields of a record, for as long as they are written down.
pub struct Metadata<'a> {
    record: &'a Record,
    record_type: &'a str,
    received_at: itoa::Buffer,
}

/// How many there are.
pub const FIELDS: usize = 7;

impl Record {
    /// The stable id by which consumers recognise a record that was sent twice: XXH3-128 (seed 0) over VIN, 0, record
    /// type, 0, txid, 0, protobuf payload, where 0 is one zero byte.
    ///
    /// It does not depend on when, over which connection or by which instance the record came, nor on the form in which
    /// it goes out. It is no protection against a vehicle that forges collisions with its own records.
    #[must_use]
    pub fn id(&self, record_type: &str) -> u128 {
        let mut hash = Xxh3::new();
        for part in [self.vin().as_bytes(), record_type.as_bytes(), self.txid()] {
            hash.update(part);
            hash.update(&[0]);
        }
        hash.update(self.payload());
        hash.digest128()
    }

    /// The fields that go with it.
    #[must_use]
    pub fn metadata<'a>(&'a self, record_type: &'a str) -> Metadata<'a> {
        Metadata { record: self, record_type, received_at: itoa::Buffer::new() }
    }
}

impl std::fmt::Debug for Metadata<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("record_type", &self.record_type).finish_non_exhaustive()
    }
}

impl Metadata<'_> {
    /// Names and values, in the reference server's order of headers.
    pub fn fields(&mut self) -> [(&'static str, &[u8]); FIELDS] {
        let record = self.record;
        [
            ("vin", record.vin().as_bytes()),
            ("receivedat", self.received_at.format(record.received().epoch_ms).as_bytes()),
            ("timestamp", b"0"),
            ("txid", record.txid()),
            ("txtype", self.record_type.as_bytes()),
            ("version", b"0"),
            ("device_client_version", record.origin().client_version.as_bytes()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{RecordKind, fixture};

    fn record(payload: &[u8], txid: &[u8]) -> Record {
        Record::from_parts(RecordKind::V, payload, txid, fixture::origin("VIN1"), fixture::received())
    }

    #[test]
    fn the_id_is_that_of_the_joined_parts() {
        let joined = xxhash_rust::xxh3::xxh3_128(b"VIN1\0V\0tx\0payload");
        assert_eq!(record(b"payload", b"tx").id("V"), joined);
    }

    #[test]
    fn the_id_survives_a_reconnection_and_tells_records_apart() {
        let id = |payload, txid| record(payload, txid).id("V");
        assert_eq!(id(b"p", b"t"), id(b"p", b"t"));
        assert_ne!(id(b"p", b"t"), id(b"q", b"t"));
        assert_ne!(id(b"p", b"t"), id(b"p", b"u"));
        assert_ne!(record(b"p", b"t").id("V"), record(b"p", b"t").id("errors"));
    }

    #[test]
    fn the_fields_are_those_of_the_record() {
        let record = record(b"p", b"\xfft");
        let mut metadata = record.metadata("V");
        let fields = metadata.fields();
        assert_eq!(fields[0], ("vin", &b"VIN1"[..]));
        assert_eq!(fields[1], ("receivedat", &b"1790000000123"[..]));
        assert_eq!(fields[3], ("txid", &b"\xfft"[..]));
        assert_eq!(fields[6], ("device_client_version", &b"1.0"[..]));
    }
}

//! The headers of a Kafka message.
//!
//! | header | value |
//! |---|---|
//! | `vin` | device id of the client certificate |
//! | `receivedat` | when the server read the record, milliseconds since the epoch, decimal |
//! | `timestamp` | always `0` (as the reference server sends it) |
//! | `txid` | transaction id that the vehicle chose, its exact bytes |
//! | `txtype` | record type |
//! | `version` | always `0` (as the reference server sends it) |
//! | `device_client_version` | the vehicle's `Version` request header, or empty |
//! | `record_id` | ours: 32 lower-case hexadecimal digits, see [`record_id`] |

use rdkafka::message::{Header, OwnedHeaders, ToBytes};
use xxhash_rust::xxh3::Xxh3;

use crate::record::Record;

/// All headers of `record`.
pub(super) fn headers(record: &Record, record_type: &str) -> OwnedHeaders {
    let received_at = record.received().epoch_ms;
    let id = hex(record_id(record, record_type));
    let headers = OwnedHeaders::new_with_capacity(COUNT);
    let headers = with(headers, "vin", record.vin());
    let headers = with(headers, "receivedat", itoa::Buffer::new().format(received_at));
    let headers = with(headers, "timestamp", "0");
    let headers = with(headers, "txid", record.txid());
    let headers = with(headers, "txtype", record_type);
    let headers = with(headers, "version", "0");
    let headers = with(headers, "device_client_version", &*record.origin().client_version);
    with(headers, "record_id", id.as_slice())
}

const COUNT: usize = 8;

fn with<V: ToBytes + ?Sized>(headers: OwnedHeaders, key: &str, value: &V) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// The stable id by which consumers recognise a record that was sent twice: XXH3-128 (seed 0) over VIN, 0, record
/// type, 0, txid, 0, protobuf payload, where 0 is one zero byte.
///
/// It does not depend on when, over which connection or by which instance the record came, nor on whether payloads
/// go out as JSON. It is no protection against a vehicle that forges collisions with its own records.
fn record_id(record: &Record, record_type: &str) -> u128 {
    let mut hash = Xxh3::new();
    for part in [record.vin().as_bytes(), record_type.as_bytes(), record.txid()] {
        hash.update(part);
        hash.update(&[0]);
    }
    hash.update(record.payload());
    hash.digest128()
}

fn hex(id: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    digits
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::{ClientType, Identity};
    use crate::record::{Origin, Received, RecordKind};

    fn record(payload: &[u8], txid: &[u8], connection: &str) -> Record {
        let origin = Origin {
            identity: Identity::new(ClientType::VehicleDevice, "VIN1"),
            connection_id: connection.into(),
            network_interface: "".into(),
            client_version: "".into(),
        };
        Record::from_parts(RecordKind::V, payload, txid, Arc::new(origin), Received::now())
    }

    #[test]
    fn writes_ids_as_32_lower_case_digits() {
        assert_eq!(&hex(0xab), b"000000000000000000000000000000ab");
        assert_eq!(&hex(u128::MAX - 1), b"fffffffffffffffffffffffffffffffe");
    }

    #[test]
    fn the_id_is_that_of_the_joined_parts() {
        let joined = xxhash_rust::xxh3::xxh3_128(b"VIN1\0V\0tx\0payload");
        assert_eq!(record_id(&record(b"payload", b"tx", "a"), "V"), joined);
    }

    #[test]
    fn the_id_survives_a_reconnection_and_tells_records_apart() {
        let id = |payload, txid, connection| record_id(&record(payload, txid, connection), "V");
        assert_eq!(id(b"p", b"t", "first"), id(b"p", b"t", "second"));
        assert_ne!(id(b"p", b"t", "first"), id(b"q", b"t", "first"));
        assert_ne!(id(b"p", b"t", "first"), id(b"p", b"u", "first"));
        assert_ne!(record_id(&record(b"p", b"t", ""), "V"), record_id(&record(b"p", b"t", ""), "errors"));
    }
}

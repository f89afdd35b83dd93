//! The headers of a Kafka message: the record's metadata (`record::metadata`), and ours, `record_id`: 32 lower-case
//! hexadecimal digits of [`Record::id`].

use rdkafka::message::{Header, OwnedHeaders};

use crate::record::{Record, metadata};

/// All headers of `record`.
pub(super) fn headers(record: &Record, record_type: &str) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(metadata::FIELDS + 1);
    let fields = record.metadata(record_type).fields().into_iter().fold(headers, with);
    with(fields, ("record_id", &hex(record.id(record_type))))
}

fn with(headers: OwnedHeaders, (key, value): (&str, &[u8])) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
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
    use super::*;

    #[test]
    fn writes_ids_as_32_lower_case_digits() {
        assert_eq!(&hex(0xab), b"000000000000000000000000000000ab");
        assert_eq!(&hex(u128::MAX - 1), b"fffffffffffffffffffffffffffffffe");
    }
}

//! How a batch is written.

use bytes::Bytes;
use data_encoding::BASE64;
use prost::Message as _;
use serde::Serialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use crate::config::{BatchFormat, Form};
use crate::proto::webhook;
use crate::record::{Record, RecordKind, Topics};

/// A request's body, and the id of the request.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// The same for the same records.
    pub(super) id: String,
}

/// A record as a JSON object.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    vin: &'a str,
    #[serde(rename = "type")]
    record_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    txid: Option<&'a str>,
    /// Of one that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    txid_base64: Option<String>,
    /// Milliseconds since 1970.
    received_at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    /// Of a custom type, whose payload this server does not understand.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

pub(super) fn content_type(format: BatchFormat) -> &'static str {
    match format {
        BatchFormat::Ndjson => "application/x-ndjson",
        BatchFormat::JsonArray => "application/json",
        BatchFormat::Protobuf => {
            "application/x-protobuf; messageType=\"fleet_telemetry.webhook.Record\"; delimited=true"
        }
    }
}

/// All of `records`, in their order.
///
/// # Errors
/// The place of the first record that has no JSON form, and why.
pub(super) fn write(format: BatchFormat, records: &[Record], topics: &Topics) -> Result<Body, (usize, String)> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| 200 + record.held_bytes()).sum());
    let mut ids = Xxh3::new();
    if format == BatchFormat::JsonArray {
        bytes.push(b'[');
    }
    for (at, record) in records.iter().enumerate() {
        let record_type = topics.name(record.kind());
        let id = record.id(record_type);
        ids.update(&id.to_be_bytes());
        let id = format!("{id:032x}");
        if format == BatchFormat::Protobuf {
            protobuf(&mut bytes, record, record_type, id);
            continue;
        }
        if format == BatchFormat::JsonArray && at > 0 {
            bytes.push(b',');
        }
        json(&mut bytes, record, record_type, id).map_err(|error| (at, error))?;
        if format == BatchFormat::Ndjson {
            bytes.push(b'\n');
        }
    }
    if format == BatchFormat::JsonArray {
        bytes.push(b']');
    }
    Ok(Body { bytes: bytes.into(), id: format!("msg_{:032x}", ids.digest128()) })
}

fn protobuf(out: &mut Vec<u8>, record: &Record, record_type: &str, id: String) {
    let message = webhook::Record {
        id,
        vin: record.vin().to_owned(),
        r#type: record_type.to_owned(),
        txid: record.txid().to_vec(),
        received_at_ms: record.received().epoch_ms,
        payload: record.payload().to_vec(),
    };
    message.encode_length_delimited(out).expect("a vector has room");
}

fn json(out: &mut Vec<u8>, record: &Record, record_type: &str, id: String) -> Result<(), String> {
    let is_opaque = matches!(record.kind(), RecordKind::Custom(_) | RecordKind::Other);
    let payload = if is_opaque { None } else { Some(raw(record)?) };
    let txid = std::str::from_utf8(record.txid());
    let line = Line {
        id,
        vin: record.vin(),
        record_type,
        txid: txid.ok(),
        txid_base64: txid.is_err().then(|| BASE64.encode(record.txid())),
        received_at: record.received().epoch_ms,
        payload,
        payload_base64: is_opaque.then(|| BASE64.encode(record.payload())),
    };
    serde_json::to_writer(out, &line).map_err(|error| error.to_string())
}

fn raw(record: &Record) -> Result<&RawValue, String> {
    let json = record.encoded(Form::Json).map_err(ToString::to_string)?;
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fixture;

    fn batch() -> (Vec<Record>, Topics) {
        let topics = Topics::new(["V", "custom"]);
        let record = |kind: &[u8], payload: &[u8], txid: &[u8]| {
            let (origin, received) = (fixture::origin("VIN"), fixture::received());
            Record::from_parts(topics.kind(kind), payload, txid, origin, received)
        };
        (vec![record(b"V", b"\x1a\x03VIN", b"tx"), record(b"custom", b"\x00\x01", b"\xff")], topics)
    }

    fn text(format: BatchFormat) -> String {
        let (records, topics) = batch();
        String::from_utf8(write(format, &records, &topics).ok().unwrap().bytes.to_vec()).unwrap()
    }

    #[test]
    fn json_has_an_object_for_each_record_in_order() {
        let lines = text(BatchFormat::Ndjson);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 2);
        let (records, topics) = batch();
        let id = format!("{:032x}", records[0].id(topics.name(records[0].kind())));
        assert_eq!(
            lines[0],
            format!(
                "{{\"id\":\"{id}\",\"vin\":\"VIN\",\"type\":\"V\",\"txid\":\"tx\",\"received_at\":1790000000123,\
                 \"payload\":{{\"data\":[],\"createdAt\":null,\"vin\":\"VIN\",\"isResend\":false}}}}"
            )
        );
        assert!(lines[1].contains(r#""txid_base64":"/w==""#) && lines[1].contains(r#""payload_base64":"AAE=""#));
        assert_eq!(text(BatchFormat::JsonArray), format!("[{},{}]", lines[0], lines[1]));
    }

    #[test]
    fn protobuf_has_every_byte_behind_its_length() {
        let (records, topics) = batch();
        let body = write(BatchFormat::Protobuf, &records, &topics).ok().unwrap();
        let mut bytes = body.bytes;
        for record in &records {
            let message = webhook::Record::decode_length_delimited(&mut bytes).unwrap();
            assert_eq!((&message.payload[..], &message.txid[..]), (record.payload(), record.txid()));
            assert_eq!(message.received_at_ms, 1_790_000_000_123);
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_id_of_a_request_is_that_of_its_records() {
        let (records, topics) = batch();
        let id = |records: &[Record], format| write(format, records, &topics).ok().unwrap().id;
        assert_eq!(id(&records, BatchFormat::Ndjson), id(&records, BatchFormat::Protobuf));
        assert_ne!(id(&records, BatchFormat::Ndjson), id(&records[..1], BatchFormat::Ndjson));
    }
}

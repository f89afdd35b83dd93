//! A record: what a vehicle sent, checked, rewritten and ready to hand off.
//!
//! `kind` names record types, `transform` rewrites a payload in one walk,
//! `decoded` and `json` are the value forms that some dispatchers need,
//! `connectivity` makes the records that the server itself sends.

pub mod connectivity;
pub mod decoded;
pub mod json;
pub mod kind;
pub mod metadata;
pub mod transform;

use std::sync::{Arc, OnceLock};

use tokio::time::Instant;

pub use decoded::Decoded;
pub use kind::{RecordKind, Topics};

use crate::config::Form;
use crate::identity::Identity;

/// What all records of one connection share.
#[derive(Clone, Debug)]
pub struct Origin {
    /// From the verified certificate.
    pub identity: Identity,
    /// The label of the connection: the vehicle's `X-TXID` when it is a UUID, else ours.
    pub connection_id: Box<str>,
    /// `X-Network-Interface`, escaped and cut.
    pub network_interface: Box<str>,
    /// The `Version` request header, escaped and cut; the header `device_client_version` of records.
    pub client_version: Box<str>,
}

/// One record. A clone is a reference count; the payload is never copied.
#[derive(Clone, Debug)]
pub struct Record(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    kind: RecordKind,
    /// Payload, then txid, in one allocation.
    bytes: Box<[u8]>,
    payload_len: u32,
    origin: Arc<Origin>,
    received: Received,
    json: OnceLock<Result<Box<[u8]>, json::JsonError>>,
    held_bytes: OnceLock<usize>,
}

/// When a record reached this server, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Milliseconds since the epoch.
    pub epoch_ms: u64,
    /// For latencies.
    pub at: Instant,
}

impl Received {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { epoch_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX), at: Instant::now() }
    }
}

impl Record {
    /// `payload_and_txid` holds the outgoing payload (`payload_len` bytes) followed by the txid.
    ///
    /// # Panics
    /// If `payload_len` is greater than the buffer's length.
    #[must_use]
    pub fn new(
        kind: RecordKind,
        payload_and_txid: Box<[u8]>,
        payload_len: usize,
        origin: Arc<Origin>,
        received: Received,
    ) -> Self {
        assert!(payload_len <= payload_and_txid.len(), "the payload lies within the buffer");
        Self(Arc::new(Inner {
            kind,
            payload_len: u32::try_from(payload_len).expect("messages are bounded to far less than 4 GiB"),
            bytes: payload_and_txid,
            origin,
            received,
            json: OnceLock::new(),
            held_bytes: OnceLock::new(),
        }))
    }

    /// Joins a payload and a txid; for records that are not made on the hot path.
    #[must_use]
    pub fn from_parts(kind: RecordKind, payload: &[u8], txid: &[u8], origin: Arc<Origin>, received: Received) -> Self {
        Self::new(kind, [payload, txid].concat().into(), payload.len(), origin, received)
    }

    /// Memory that the record takes: payload, txid, the JSON form if it has been made, and what goes with them.
    ///
    /// Counted when first asked, and the same ever after: what is added to a bound must be what is taken from it, also
    /// when a dispatcher makes the JSON form in between.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        *self.0.held_bytes.get_or_init(|| {
            let json = self.0.json.get().and_then(|json| json.as_ref().ok()).map_or(0, |json| json.len());
            size_of::<Inner>() + self.0.bytes.len() + json
        })
    }

    /// Whether both are the same record, not two alike.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The record's type.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        self.0.kind
    }

    /// The outgoing protobuf payload (opaque bytes for custom topics).
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.0.bytes[..self.0.payload_len as usize]
    }

    /// The transaction id that the vehicle chose; any bytes.
    #[must_use]
    pub fn txid(&self) -> &[u8] {
        &self.0.bytes[self.0.payload_len as usize..]
    }

    /// The connection that the record came over.
    #[must_use]
    pub fn origin(&self) -> &Arc<Origin> {
        &self.0.origin
    }

    /// The device id of the client certificate, which every output carries as the VIN.
    #[must_use]
    pub fn vin(&self) -> &str {
        self.0.origin.identity.device_id()
    }

    /// When this server read the record.
    #[must_use]
    pub fn received(&self) -> Received {
        self.0.received
    }

    /// The values of the payload. Custom topics are [`Decoded::Opaque`].
    ///
    /// Decoded at each call and not kept: a payload of many small values takes twenty times its size in this form,
    /// which a record that waits for a broker must not hold.
    ///
    /// # Errors
    /// When the payload is not the message that the topic promises; cannot happen for a payload that
    /// came out of [`transform::rewrite`].
    pub fn decode(&self) -> Result<Decoded, transform::PayloadError> {
        Decoded::decode(self.0.kind, self.payload())
    }

    /// The payload in the form that a dispatcher sends.
    ///
    /// # Errors
    /// As [`Self::json`]; protobuf always is there.
    pub fn encoded(&self, form: Form) -> Result<&[u8], &json::JsonError> {
        match form {
            Form::Protobuf => Ok(self.payload()),
            Form::Json => self.json(),
        }
    }

    /// The payload as proto3 JSON, rendered once; `{}` for custom topics.
    ///
    /// # Errors
    /// When a value has no JSON form, such as a timestamp outside years 1 to 9999.
    pub fn json(&self) -> Result<&[u8], &json::JsonError> {
        self.0.json.get_or_init(|| json::render(self.0.kind, self.payload()).map(Into::into)).as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_takes_does_not_change_while_it_is_on_its_way() {
        let record = || Record::from_parts(RecordKind::V, b"", b"tx", fixture::origin("VIN"), fixture::received());
        let late = record();
        let counted = late.held_bytes();
        let json = late.json().expect("a form").len();
        assert_eq!(late.held_bytes(), counted);
        let early = record();
        early.json().expect("a form");
        assert_eq!(early.held_bytes(), counted + json, "a form that is there from the start counts");
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    //! Parts of records for the tests of other modules.

    use super::{Arc, Origin, Received};
    use crate::identity::{ClientType, Identity};

    pub(crate) fn origin(vin: &str) -> Arc<Origin> {
        Arc::new(Origin {
            identity: Identity::new(ClientType::VehicleDevice, vin),
            connection_id: "connection".into(),
            network_interface: "wifi".into(),
            client_version: "1.0".into(),
        })
    }

    pub(crate) fn received() -> Received {
        Received { epoch_ms: 1_790_000_000_123, at: tokio::time::Instant::now() }
    }
}

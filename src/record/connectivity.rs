//! Connectivity records: the server's own statement that a vehicle connected or disconnected.

use std::sync::Arc;

use prost::Message;

use super::{Origin, Received, Record, RecordKind, transform};
use crate::permissions::{Permissions, Seen};
use crate::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};

/// A `connectivity` record; its txid is the connection's id.
///
/// It goes through the same walk as what vehicles send: the network interface is a vehicle's own text.
///
/// # Panics
/// Never: the walk accepts what the encoder writes.
#[must_use]
pub fn record(origin: &Arc<Origin>, event: ConnectivityEvent, permissions: &Permissions) -> Record {
    let received = Received::now();
    let millis = i64::try_from(received.epoch_ms).unwrap_or(i64::MAX);
    let vin = origin.identity.device_id();
    let message = VehicleConnectivity {
        vin: vin.to_owned(),
        connection_id: origin.connection_id.to_string(),
        status: event.into(),
        created_at: Some(prost_types::Timestamp {
            seconds: millis / 1000,
            nanos: i32::try_from(millis % 1000 * 1_000_000).expect("below a billion"),
        }),
        network_interface: origin.network_interface.to_string(),
    };
    let filter = permissions.filter(&mut Seen::default(), vin, || Some(millis), received.epoch_ms);
    let mut payload = Vec::new();
    transform::rewrite(RecordKind::Connectivity, &message.encode_to_vec(), vin, &filter, &mut payload)
        .expect("the walk accepts what the encoder writes");
    let txid = origin.connection_id.as_bytes();
    Record::from_parts(RecordKind::Connectivity, &payload, txid, Arc::clone(origin), received)
}

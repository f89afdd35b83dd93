//! Connectivity records: the server's own statement that a vehicle connected or disconnected.

use std::sync::Arc;

use prost::Message;

use super::{Origin, Received, Record, RecordKind};
use crate::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};

/// A `connectivity` record; its txid is the connection's id.
#[must_use]
pub fn record(origin: &Arc<Origin>, event: ConnectivityEvent) -> Record {
    let received = Received::now();
    let millis = received.epoch_ms;
    let message = VehicleConnectivity {
        vin: origin.identity.device_id().to_owned(),
        connection_id: origin.connection_id.to_string(),
        status: event.into(),
        created_at: Some(prost_types::Timestamp {
            seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            nanos: i32::try_from(millis % 1000 * 1_000_000).expect("below a billion"),
        }),
        network_interface: origin.network_interface.to_string(),
    };
    Record::from_parts(
        RecordKind::Connectivity,
        &message.encode_to_vec(),
        origin.connection_id.as_bytes(),
        Arc::clone(origin),
        received,
    )
}

//! The typed form of a payload, for dispatchers that need values.

use super::RecordKind;
use super::transform::PayloadError;
use crate::proto::{vehicle_alerts, vehicle_connectivity, vehicle_data, vehicle_error};

/// A payload as its message type.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// Topic `V`.
    V(vehicle_data::Payload),
    /// Topic `alerts`.
    Alerts(vehicle_alerts::VehicleAlerts),
    /// Topic `errors`.
    Errors(vehicle_error::VehicleErrors),
    /// Topic `connectivity`.
    Connectivity(vehicle_connectivity::VehicleConnectivity),
    /// A custom topic: bytes that this server does not understand.
    Opaque,
}

impl Decoded {
    /// Decodes an outgoing payload.
    ///
    /// # Errors
    /// [`PayloadError`] when it is not the message that `kind` promises.
    pub fn decode(kind: RecordKind, payload: &[u8]) -> Result<Self, PayloadError> {
        use prost::Message;
        let malformed = |_| PayloadError::Malformed { at: 0, reason: "does not decode" };
        Ok(match kind {
            RecordKind::V => Self::V(Message::decode(payload).map_err(malformed)?),
            RecordKind::Alerts => Self::Alerts(Message::decode(payload).map_err(malformed)?),
            RecordKind::Errors => Self::Errors(Message::decode(payload).map_err(malformed)?),
            RecordKind::Connectivity => Self::Connectivity(Message::decode(payload).map_err(malformed)?),
            RecordKind::Custom(_) | RecordKind::Other => Self::Opaque,
        })
    }
}

//! The vehicle's protobuf messages, generated from `proto/*.proto`.
//!
//! The hot path does not use these types: it walks the wire fields (`protobuf::wire`). They are for
//! dispatchers that need values, for connectivity records and for tests.

#![allow(missing_docs, clippy::all, unreachable_pub)]

/// Topic `V`.
pub mod vehicle_data {
    include!(concat!(env!("OUT_DIR"), "/telemetry.vehicle_data.rs"));
}
/// Topic `alerts`.
pub mod vehicle_alerts {
    include!(concat!(env!("OUT_DIR"), "/telemetry.vehicle_alerts.rs"));
}
/// Topic `errors`.
pub mod vehicle_error {
    include!(concat!(env!("OUT_DIR"), "/telemetry.vehicle_error.rs"));
}
/// Topic `connectivity`.
pub mod vehicle_connectivity {
    include!(concat!(env!("OUT_DIR"), "/telemetry.vehicle_connectivity.rs"));
}
/// Client metrics; not decoded by the server.
pub mod vehicle_metrics {
    include!(concat!(env!("OUT_DIR"), "/telemetry.vehicle_metrics.rs"));
}

/// What the http dispatcher posts.
pub mod webhook {
    include!(concat!(env!("OUT_DIR"), "/fleet_telemetry.webhook.rs"));
}

/// The compiled `FileDescriptorSet` of all messages.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

//! The Kafka dispatcher against a real broker, and against a mock one that fails on demand.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, reason = "a failed step fails its test")]

#[path = "dispatchers/kafka.rs"]
mod dispatcher;

#[allow(unreachable_pub, reason = "shared by several test binaries")]
mod support {
    pub mod kafka;
}

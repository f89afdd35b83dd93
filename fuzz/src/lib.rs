//! Entry points of the fuzz targets; `tests/fuzz_targets.rs` runs them over the captured frames.

pub mod brokers;
pub mod targets;
pub mod websocket;

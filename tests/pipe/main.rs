//! The whole pipe: vehicles over mutual TLS, the server as a process, a real Kafka broker.
#![cfg(all(feature = "kafka", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it measured")]

#[path = "../support/golden.rs"]
mod recorded;
#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod connectivity;
mod drain;
mod fan_out;
mod fleet;
mod golden;
mod site;

//! Peers that mean harm, hang, or are gone; logs that nobody reads; disks that are full. Each test states what the
//! others feel meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod certificates;
mod drain;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod memory;
mod peers;
mod plain_ports;
mod silence;

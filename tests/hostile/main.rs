//! Peers that mean harm, hang, or are gone; logs that nobody reads; disks that are full. Each test states what the
//! others feel meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod certificates;
mod clocks;
mod drain;
mod exhaustion;
mod full_disk;
mod handshakes;
#[cfg(feature = "kafka")]
mod kafka;
mod log;
mod memory;
mod peers;
mod plain_ports;
mod raw_tls;
mod records;
mod requests;
mod silence;
mod witness;

//! The server as a process, over real sockets: certificates, HTTP, the life of a record, bounds, shutdown.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod bounds;
#[cfg(all(feature = "mqtt", feature = "redis"))]
mod brokers;
mod http;
mod identity;
mod life_cycle;
mod metrics;
mod shutdown;
mod tls;

use support::server::{start, start_with};

const VIN: &str = "5YJ3E1EA0PF000001";

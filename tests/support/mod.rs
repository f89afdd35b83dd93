//! What integration tests share: certificates, a server process, vehicles.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it; a test may panic"
)]

pub(crate) mod api;
pub(crate) mod docs;
#[cfg(feature = "kafka")]
pub(crate) mod fence;
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
#[cfg(feature = "mqtt")]
pub(crate) mod mosquitto;
pub(crate) mod pki;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod process;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod vehicle;
pub(crate) mod wait;
#[cfg(feature = "http")]
pub(crate) mod webhook;
#[cfg(feature = "zmq")]
pub(crate) mod zmq;

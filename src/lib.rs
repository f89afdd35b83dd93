//! The fleet telemetry server: vehicles stream to it over WebSockets and mutual TLS, it hands their
//! records to Kafka and other dispatchers, and tells a vehicle "received" once its record is safe.
//!
//! ```text
//! vehicle ══mTLS══▶ listener ─▶ identity ─▶ session ─▶ envelope ─▶ record ─▶ policy ─▶ dispatch ─▶ Kafka, SQLite, …
//!    ▲                                         │                                          │
//!    └────────────── ack / error bytes ◀───────┴───────────── Receipt settles ◀───────────┘
//! ```
//!
//! First come the stages in pipe order, then the ground floor. Which module may know which is written in
//! `scripts/imports`, and checked by it.

pub mod app;
mod preflight;
pub mod shutdown;
pub mod workers;

pub mod listener;

pub mod identity;

pub mod session;

pub mod envelope;

pub mod record;

pub mod permissions;

pub mod grants;

pub mod policy;

pub mod dispatch;

pub mod onboarding;

pub mod admin;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod escape;
pub mod http;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(test)]
mod linear;
pub mod logging;
pub mod metrics;
pub mod open_files;
pub mod places;
pub mod port;
pub mod proto;
pub mod protobuf;
pub mod scope;
#[cfg(feature = "sqlite")]
mod sqlite;
#[doc(hidden)]
pub mod testing;
pub mod tls;
mod work;

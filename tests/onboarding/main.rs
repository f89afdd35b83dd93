//! From a car on the driveway to its first record.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../support/mod.rs"]
mod support;

mod configurations;
mod keys;
mod maker;
#[cfg(feature = "sqlite")]
mod owners;
mod partner;
mod program;
mod site;

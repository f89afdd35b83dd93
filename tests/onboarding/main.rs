//! From a car on the driveway to its first record.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "sqlite")]
mod browser;
mod configurations;
#[cfg(feature = "sqlite")]
mod doctor;
#[cfg(feature = "sqlite")]
mod follow;
mod keys;
mod maker;
#[cfg(feature = "sqlite")]
mod owners;
#[cfg(feature = "sqlite")]
mod pages;
mod partner;
mod program;
mod site;

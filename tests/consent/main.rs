//! What owners have not allowed does not leave the server: the server as a process, with everything it writes to.
#![cfg(all(feature = "kafka", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic, and says what it measured")]

#[path = "../support/mod.rs"]
mod support;

mod actions;
mod corpus;
mod flips;
mod place;
mod replay;
mod site;

//! Pure functions on a payload's bytes: what the stages that look into payloads share.
//!
//! `wire` walks protobuf fields. `decimal` and `location` read what old firmware sends as text, `number` the numbers
//! of Go's `Sscanf` in it.

pub(crate) mod decimal;
pub(crate) mod location;
mod number;
pub mod wire;

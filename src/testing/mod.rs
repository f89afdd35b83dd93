//! What tests, benchmarks, fuzzing and the vehicle simulator share. The server itself uses none of it, and nobody
//! else may count on it.

pub mod message;

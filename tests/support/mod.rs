//! What integration tests share: certificates, a server process, vehicles.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod pki;
pub mod server;
pub mod vehicle;

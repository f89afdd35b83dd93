//! The server as a process, over real sockets: certificates, HTTP, the life of a record, bounds, shutdown.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod bounds;
mod http;
mod identity;
mod life_cycle;
mod metrics;
mod shutdown;
mod tls;

use support::pki::Pki;
use support::server::Server;
use tempfile::TempDir;

const VIN: &str = "5YJ3E1EA0PF000001";

/// A directory, certificates in it, and a server with the default test configuration.
fn start() -> (TempDir, Pki, Server) {
    start_with(|_| {})
}

fn start_with(change: impl FnOnce(&mut serde_json::Value)) -> (TempDir, Pki, Server) {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path());
    let mut config = support::server::config(&pki);
    change(&mut config);
    let server = Server::start(&pki, &config);
    (dir, pki, server)
}

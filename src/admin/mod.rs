//! Plain-HTTP listeners for operators: health and metrics. Vehicles never come here.
//!
//! | listener | paths |
//! |---|---|
//! | [`Surface::Status`] | `/status` (always `ok`, as the reference server), `/livez`, `/readyz` |
//! | [`Surface::Metrics`] | `/metrics`, `/livez`, `/readyz` |
//!
//! Each listener has bounds of its own, and so have scrapes on theirs: neither they nor clients that are silent keep
//! the paths of health from their answers.
//!
//! `/livez` answers as long as the process can. `/readyz` answers 200 `ready`, or 503 with one reason a
//! line while the server loads, drains, has a dispatcher that does not deliver, or cannot verify any vehicle.

mod readiness;
mod routes;
mod scrapes;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;

pub use readiness::{Phase, Readiness};

use crate::config;
use crate::http::{self, Bounds};
use crate::metrics::Metrics;

/// What a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// `status_port`.
    Status,
    /// `monitoring.prometheus_metrics_port`.
    Metrics,
}

impl Surface {
    fn label(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Metrics => "metrics",
        }
    }
}

/// Why vehicles would come in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unhealthy {
    /// The dispatcher that does not deliver, or the key of a file.
    pub part: &'static str,
    /// In its own words.
    pub reason: String,
}

/// What the answers are made of; shared by all listeners.
pub struct State {
    /// Where the process is in its life.
    pub readiness: Readiness,
    /// Asked at each `/readyz`.
    pub unhealthy: Box<dyn Fn() -> Vec<Unhealthy> + Send + Sync>,
    /// Rendered at each `/metrics`.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// A port that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{key}: cannot listen on {address}: {source}")]
pub struct BindError {
    /// The configuration's key.
    pub key: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

/// Binds a listener. `[::]` means all interfaces, also on hosts without IPv6.
///
/// # Errors
/// When the port is taken or the address is not this host's.
pub async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let mut bound = TcpListener::bind(address).await;
    if address.is_ipv6() && address.ip().is_unspecified() && bound.as_ref().is_err_and(is_no_ipv6) {
        bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
    }
    bound.map_err(|source| BindError { key, address, source })
}

fn is_no_ipv6(error: &io::Error) -> bool {
    /// Linux' number for an address family that the kernel does not have.
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Answers requests until `shutdown`, then lets those under way end (for two seconds).
pub async fn serve(
    listener: TcpListener,
    surface: Surface,
    bounds: config::Http,
    state: Arc<State>,
    shutdown: impl Future<Output = ()>,
) {
    let bounds = state.metrics.scope(|| Bounds::register(surface.label(), bounds));
    let router = routes::router(surface, state);
    let answer = |stream, _, visit| http::requests(stream, router.clone(), visit);
    http::serve(listener, bounds, "admin_accept_error", answer, shutdown).await;
}

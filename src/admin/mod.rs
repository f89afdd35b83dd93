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

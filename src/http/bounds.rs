//! The bounds of one plain port, and what is counted when they are reached.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter, gauge};
use strum::{IntoStaticStr, VariantArray};

use crate::config;
use crate::places::{Addresses, Places};

/// What one port allows. Each port has its own: what fills one of them does not fill another.
#[derive(Debug)]
pub struct Bounds {
    pub(super) places: Arc<Places>,
    pub(super) header_timeout: Duration,
    refused: Box<[Counter]>,
}

/// Why a connection was refused, or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Refusal {
    /// The kernel gave no connection.
    Accept,
    /// Its address has as many as it may, and the server is at work for all of them.
    #[strum(serialize = "address_limit")]
    Address,
    /// It waited for its peer, and made room for another one.
    Displaced,
    /// Its peer took too long for a handshake, for a request, or to take the answer.
    Slow,
}

impl Bounds {
    /// Registers with the current recorder. `port` is a label: `status`, `metrics`, `permissions_api`.
    #[must_use]
    pub fn register(port: &'static str, config: config::Http) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^52")]
        for (bound, value) in [
            ("http_connections", config.max_connections),
            ("http_connections_per_address", config.max_connections_per_address),
        ] {
            gauge!("limit", "bound" => bound).set(value as f64);
        }
        let addresses = Arc::new(Addresses::new(config.max_connections_per_address));
        Self {
            places: Places::new(move || config.max_connections, addresses, Duration::ZERO),
            header_timeout: config.header_timeout,
            refused: Refusal::VARIANTS
                .iter()
                .map(|refusal| counter!("http_refused_total", "port" => port, "reason" => <&str>::from(refusal)))
                .collect(),
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].increment(1);
    }
}

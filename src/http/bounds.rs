//! The bounds of one plain port, and what is counted when they are reached.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter, gauge};

use crate::config;
use crate::places::{Addresses, Places};

/// What one port allows. Each port has its own: what fills one of them does not fill another.
#[derive(Debug)]
pub struct Bounds {
    pub(super) places: Arc<Places>,
    pub(super) header_timeout: Duration,
    refused: [Counter; Refusal::ALL.len()],
}

/// Why a connection was refused, or cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The kernel gave no connection.
    Accept,
    /// Its address has as many as it may, and the server is at work for all of them.
    Address,
    /// It waited for its peer, and made room for another one.
    Displaced,
    /// Its peer took too long for a handshake, for a request, or to take the answer.
    Slow,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Accept, Self::Address, Self::Displaced, Self::Slow];

    fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Address => "address_limit",
            Self::Displaced => "displaced",
            Self::Slow => "slow",
        }
    }
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
            refused: Refusal::ALL
                .map(|refusal| counter!("http_refused_total", "port" => port, "reason" => refusal.label())),
        }
    }

    pub(super) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].increment(1);
    }
}

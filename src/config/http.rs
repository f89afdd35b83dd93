//! The part of `limits` that is about plain-HTTP listeners, with the reasons for its defaults.

use std::time::Duration;

use super::duration::{HOUR, SECOND, SHORTEST};
use super::error::Problems;
use super::section::Section;

/// The keys of `limits` about plain-HTTP listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileHttpLimits {
    /// Connections of each plain-HTTP listener.
    pub max_http_connections: Option<i64>,
    /// Of those, per client address.
    pub max_http_connections_per_address: Option<i64>,
    /// Headers of a request to a plain-HTTP listener.
    pub http_header_timeout: Option<Duration>,
}

/// Bounds of each plain-HTTP listener: status, metrics, the API of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// Connections; above, those that wait for their peer make room.
    pub max_connections: usize,
    /// Connections per client address; above, the same among its own.
    pub max_connections_per_address: usize,
    /// From accept, or from a request's first byte, to the end of its headers.
    pub header_timeout: Duration,
}

impl FileHttpLimits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            max_http_connections: section.value("max_http_connections"),
            max_http_connections_per_address: section.value("max_http_connections_per_address"),
            http_header_timeout: section.duration("http_header_timeout"),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            // Scrapers, probes and some applications; an open connection costs a file descriptor.
            max_connections: 128,
            // Nobody alone takes more than half of what all have.
            max_connections_per_address: 64,
            // Whoever asks has the request ready.
            header_timeout: 10 * SECOND,
        }
    }
}

pub(super) fn resolve(limits: &FileHttpLimits, problems: &mut Problems) -> Http {
    let default = Http::default();
    let max_connections = problems.number(
        "limits.max_http_connections",
        limits.max_http_connections,
        2..=100_000,
        default.max_connections,
    );
    Http {
        max_connections,
        max_connections_per_address: problems.number(
            "limits.max_http_connections_per_address",
            limits.max_http_connections_per_address,
            1..=100_000,
            max_connections / 2,
        ),
        header_timeout: problems.duration(
            "limits.http_header_timeout",
            limits.http_header_timeout,
            SHORTEST..=HOUR,
            default.header_timeout,
        ),
    }
}

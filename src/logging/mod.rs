//! Log lines: form, level, and the limits that keep a broken peer from filling the disk.
//!
//! Lines go to stderr in the reference server's two forms, text (`time="…" level=info msg=… key=value`)
//! and JSON, with times in UTC. The message of an event is its name; everything else is in fields.

mod escape;
mod fields;
mod form;
mod layer;
mod rate_limited;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use escape::escape;
pub use fields::spread;
pub use rate_limited::RateLimited;

use crate::config::Log;
use form::Form;
use layer::Lines;

/// Events about handshakes that failed; `tls_handshake_error` is logged here and nowhere else.
pub const HANDSHAKE_TARGET: &str = "fleet_telemetry::handshake";

/// Events of the logger dispatcher. Their fields `data` and `metadata` hold JSON text, which JSON
/// lines embed as it is.
pub const RECORDS_TARGET: &str = "fleet_telemetry::records";

/// Everything of this crate.
const OURS: &str = "fleet_telemetry";

/// Installs the process' logger.
///
/// # Errors
/// When one is installed already.
pub fn init(log: &Log) -> Result<(), TryInitError> {
    let form = if log.json { Form::Json } else { Form::Text };
    tracing_subscriber::registry().with(filter(log)).with(Lines::to_stderr(form)).try_init()
}

/// Libraries are heard at `warn` and above, unless `log_level` asks for more than `info`.
fn filter(log: &Log) -> Targets {
    let libraries = if log.level > LevelFilter::INFO { LevelFilter::INFO } else { log.level.min(LevelFilter::WARN) };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(OURS, log.level)
        // Who changed a consent is on record whatever the level.
        .with_target(crate::permissions::audit::TARGET, log.level.max(LevelFilter::INFO));
    if log.suppress_handshake_errors { filter.with_target(HANDSHAKE_TARGET, LevelFilter::OFF) } else { filter }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn filter_at(level: LevelFilter, suppress_handshake_errors: bool) -> Targets {
        filter(&Log { level, json: false, suppress_handshake_errors })
    }

    #[test]
    fn keeps_libraries_quiet_at_info() {
        let filter = filter_at(LevelFilter::INFO, false);
        assert!(filter.would_enable("fleet_telemetry::session", &Level::INFO));
        assert!(!filter.would_enable("fleet_telemetry::session", &Level::DEBUG));
        assert!(!filter.would_enable("rdkafka::client", &Level::INFO));
        assert!(filter.would_enable("rdkafka::client", &Level::WARN));
    }

    #[test]
    fn never_lets_libraries_say_more_than_we_do() {
        assert!(!filter_at(LevelFilter::ERROR, false).would_enable("rustls", &Level::WARN));
        assert!(!filter_at(LevelFilter::TRACE, false).would_enable("rustls", &Level::DEBUG));
    }

    #[test]
    fn drops_handshake_errors_on_request() {
        assert!(filter_at(LevelFilter::INFO, false).would_enable(HANDSHAKE_TARGET, &Level::INFO));
        assert!(!filter_at(LevelFilter::INFO, true).would_enable(HANDSHAKE_TARGET, &Level::ERROR));
    }
}

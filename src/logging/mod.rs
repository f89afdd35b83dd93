//! Log lines: form, level, and the limits that keep a broken peer from filling the disk.
//!
//! Lines go to stderr in the reference server's two forms, text (`time="…" level=info msg=… key=value`)
//! and JSON, with times in UTC. The message of an event is its name; everything else is in fields.
//!
//! A line is made by the thread that logs and written by a thread of its own, so that nobody waits for whoever
//! should read stderr and does not (docs/adr/0017).

mod backlog;
mod fields;
mod form;
mod layer;
mod log;
mod panic;
mod queue;
mod rate_limited;
mod stderr;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

pub use backlog::{Then, Unwritten};
pub use fields::{Fields, Value};
pub(crate) use layer::Lines;
pub use log::{LastWords, Log};
pub use rate_limited::RateLimited;

use crate::config;

/// Events about handshakes that failed; `tls_handshake_error` is logged here and nowhere else.
pub const HANDSHAKE_TARGET: &str = "fleet_telemetry::handshake";

/// Events of the logger dispatcher. Their fields `data` and `metadata` hold JSON text, which JSON
/// lines embed as it is.
pub const RECORDS_TARGET: &str = "fleet_telemetry::records";

/// Events that say who changed a consent; they are on record whatever the level.
pub const AUDIT_TARGET: &str = "fleet_telemetry::audit";

/// Everything of this crate.
const OURS: &str = "fleet_telemetry";

/// The process has one stderr, and so one log.
static INSTALLED: OnceLock<Log> = OnceLock::new();

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Somebody has installed one already.
    #[error(transparent)]
    Installed(#[from] TryInitError),
    /// The system gives no file descriptor or no thread.
    #[error("the log cannot be started: {0}")]
    Resources(#[from] std::io::Error),
}

/// Installs the process' log, for events and for panics.
///
/// # Errors
/// [`InitError`].
pub fn init(config: &config::Log) -> Result<LastWords, InitError> {
    let log = Log::to_stderr(config)?;
    tracing_subscriber::registry().with(filter(config)).with(Lines(log.clone())).try_init()?;
    panic::log_to(log.clone());
    Ok(LastWords(INSTALLED.get_or_init(|| log).clone()))
}

/// The process' log; `None` before [`init`].
#[must_use]
pub fn installed() -> Option<&'static Log> {
    INSTALLED.get()
}

/// Libraries are heard at `warn` and above, unless `log_level` asks for more than `info`.
fn filter(log: &config::Log) -> Targets {
    let libraries = if log.level > LevelFilter::INFO { LevelFilter::INFO } else { log.level.min(LevelFilter::WARN) };
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(OURS, log.level)
        .with_target(AUDIT_TARGET, log.level.max(LevelFilter::INFO));
    if log.suppress_handshake_errors { filter.with_target(HANDSHAKE_TARGET, LevelFilter::OFF) } else { filter }
}

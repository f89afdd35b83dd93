//! What is logged, and in which form.

use tracing::level_filters::LevelFilter;

use super::error::{ConfigError, Problems, Warning};
use super::section::Section;
use super::{DispatcherName, Env, Route};

/// The values of `log_level`.
pub(super) const LEVELS: &str = "panic, fatal, error, warn, warning, info, debug, trace";

/// Silences the log line about failed TLS handshakes, which load balancers' probes cause by the thousand.
const SUPPRESS_HANDSHAKE_ERRORS: &str = "SUPPRESS_TLS_HANDSHAKE_ERROR_LOGGING";

/// Its keys, which stand in no section of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLog {
    /// `log_level`: least severe level that is logged.
    pub level: Option<String>,
    /// `json_log_enable`: JSON instead of text lines.
    pub json: Option<bool>,
}

/// The keys of `limits` about log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLogLimits {
    /// Log lines that wait to be written.
    pub max_log_lines: Option<i64>,
    /// The same in bytes.
    pub max_log_bytes: Option<i64>,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Log {
    /// Least severe level that is written.
    pub level: LevelFilter,
    /// One JSON object a line instead of text.
    pub json: bool,
    /// Failed TLS handshakes are not logged.
    pub suppress_handshake_errors: bool,
    /// Lines that wait to be written; above, new ones are dropped. As many again are reserved for audit lines.
    pub max_lines: usize,
    /// The same in bytes.
    pub max_bytes: usize,
}

impl FileLog {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { level: section.value("log_level"), json: section.value("json_log_enable") }
    }
}

impl FileLogLimits {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { max_log_lines: section.value("max_log_lines"), max_log_bytes: section.value("max_log_bytes") }
    }
}

pub(super) fn resolve(file: &FileLog, limits: &FileLogLimits, env: &Env, problems: &mut Problems) -> Log {
    let level = match file.level.as_deref() {
        None => LevelFilter::INFO,
        Some(text) => level(text).unwrap_or_else(|| {
            problems.warn(Warning::InvalidLevel { value: crate::escape::escape(text.as_bytes(), 40) });
            LevelFilter::INFO
        }),
    };
    Log {
        level,
        json: file.json.unwrap_or(false),
        suppress_handshake_errors: suppress_handshake_errors(env, problems),
        // A line for each of 5,000 vehicles that come at the same moment and go again.
        max_lines: problems.number("limits.max_log_lines", limits.max_log_lines, 1..=10_000_000, 10_000),
        // Twice what those take, at about 400 bytes each. One line with what clients may write into it is below 4 KiB.
        max_bytes: problems.number("limits.max_log_bytes", limits.max_log_bytes, 16 << 10..=1 << 30, 8 << 20),
    }
}

/// What the level does to the logger's records.
pub(super) fn judge_level(log: &Log, routes: &[Route], problems: &mut Problems) {
    let uses_logger = routes.iter().any(|route| route.dispatchers.contains(&DispatcherName::Logger));
    if uses_logger && log.level < LevelFilter::INFO {
        let advice =
            "the logger's lines have level info, so none is written and no record that goes there is delivered";
        problems.advise("log_level", advice);
    }
}

/// A level by its name. Nothing is logged as "panic" or "fatal", so these show errors.
fn level(name: &str) -> Option<LevelFilter> {
    match name.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Some(LevelFilter::ERROR),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

fn suppress_handshake_errors(env: &Env, problems: &mut Problems) -> bool {
    match env.var(SUPPRESS_HANDSHAKE_ERRORS) {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some(other) => {
            problems.error(ConfigError::Environment {
                name: SUPPRESS_HANDSHAKE_ERRORS,
                value: crate::escape::escape(other.as_bytes(), 40),
                allowed: "1, t, T, true, TRUE, True, 0, f, F, false, FALSE, False",
            });
            false
        }
    }
}

//! `logger`: records as log lines.

use super::InFlight;
use super::error::Problems;
use super::section::Section;
use super::targets::FileTarget;

/// `logger`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLogger {
    /// Each value of `V` becomes an object that names its type.
    pub verbose: Option<bool>,
    /// As for every dispatcher.
    pub target: FileTarget,
    /// Records taken and not written (ours).
    pub max_unsettled: Option<i64>,
    /// Bytes of their lines (ours).
    pub max_unsettled_bytes: Option<i64>,
}

/// Log lines.
#[derive(Clone, Debug)]
pub struct Logger {
    /// Each value of `V` becomes an object that names its type.
    pub verbose: bool,
    /// Records taken and not written, and bytes of them and of their lines; above, vehicles wait.
    pub max_unsettled: InFlight,
}

impl Default for Logger {
    fn default() -> Self {
        // As many records as SQLite holds: about 10 MB of lines. One record of a megabyte may make a line of several.
        Self { verbose: false, max_unsettled: InFlight { records: 10_000, bytes: 64 << 20 } }
    }
}

impl FileLogger {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            verbose: section.value("verbose"),
            target: FileTarget::read(section),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

pub(super) fn resolve(file: &FileLogger, problems: &mut Problems) -> Logger {
    let default = Logger::default();
    Logger {
        verbose: file.verbose.unwrap_or(default.verbose),
        max_unsettled: InFlight {
            records: problems.number(
                "logger.max_unsettled",
                file.max_unsettled,
                1..=10_000_000,
                default.max_unsettled.records,
            ),
            bytes: problems.number(
                "logger.max_unsettled_bytes",
                file.max_unsettled_bytes,
                1 << 20..=1 << 40,
                default.max_unsettled.bytes,
            ),
        },
    }
}

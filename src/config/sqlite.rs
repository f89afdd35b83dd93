//! `sqlite`: the embedded store.

use std::path::PathBuf;
use std::time::Duration;

use super::InFlight;
use super::duration::{DAY, MINUTE, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;
use super::targets::FileTarget;

/// `sqlite`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSqlite {
    /// As for every dispatcher.
    pub target: FileTarget,
    /// The database file.
    pub path: Option<String>,
    /// Records older than this are removed.
    pub max_age: Option<Duration>,
    /// Oldest records are removed above this file size.
    pub max_bytes: Option<i64>,
    /// Records per commit.
    pub batch: Option<i64>,
    /// How long a commit may wait for more records.
    pub linger: Option<Duration>,
    /// Records taken and not committed.
    pub max_unsettled: Option<i64>,
    /// Their bytes.
    pub max_unsettled_bytes: Option<i64>,
}

/// The embedded store.
#[derive(Clone, Debug)]
pub struct Sqlite {
    /// The database file.
    pub path: PathBuf,
    /// Records older than this are removed; `None`: kept.
    pub max_age: Option<Duration>,
    /// Oldest records are removed above this file size in bytes; `None`: kept.
    pub max_bytes: Option<u64>,
    /// Records per commit, at most.
    pub batch: usize,
    /// How long a commit may wait for more records.
    pub linger: Duration,
    /// Taken and not committed; above, vehicles wait.
    pub max_unsettled: InFlight,
}

impl FileSqlite {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            target: FileTarget::read(section),
            path: section.value("path"),
            max_age: section.duration("max_age"),
            max_bytes: section.value("max_bytes"),
            batch: section.value("batch"),
            linger: section.duration("linger"),
            max_unsettled: section.value("max_unsettled"),
            max_unsettled_bytes: section.value("max_unsettled_bytes"),
        }
    }
}

/// Checked whether or not a route uses it; all of it has defaults.
pub(super) fn resolve(file: &FileSqlite, problems: &mut Problems) -> Sqlite {
    if file.path.as_deref() == Some("") {
        problems.error(ConfigError::Missing { key: "sqlite.path", remedy: "give a file, such as \"telemetry.db\"" });
    }
    let max_age = file.max_age.map(|age| problems.duration("sqlite.max_age", Some(age), SECOND..=36_500 * DAY, age));
    // Below a mebibyte the file is little more than SQLite's own pages.
    let max_bytes = file.max_bytes.map(|bytes| problems.number("sqlite.max_bytes", Some(bytes), 1 << 20..=i64::MAX, 0));
    Sqlite {
        path: PathBuf::from(file.path.as_deref().unwrap_or("telemetry.db")),
        max_age,
        max_bytes,
        // One fsync for many records; a commit of a thousand takes some milliseconds.
        batch: problems.number("sqlite.batch", file.batch, 1..=100_000, 1000),
        linger: problems.duration("sqlite.linger", file.linger, Duration::ZERO..=MINUTE, Duration::from_millis(5)),
        max_unsettled: InFlight {
            // Ten full batches: some seconds of a slow disk.
            records: problems.number("sqlite.max_unsettled", file.max_unsettled, 1..=10_000_000, 10_000),
            bytes: problems.number("sqlite.max_unsettled_bytes", file.max_unsettled_bytes, 1 << 20..=1 << 40, 64 << 20),
        },
    }
}

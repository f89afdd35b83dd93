//! `workers`: the threads that run sessions.

use std::time::Duration;

use super::error::Problems;
use super::section::Section;

/// `workers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileWorkers {
    /// How many.
    pub threads: Option<i64>,
    /// How long a busy one waits for more before it sleeps, at most.
    pub coalesce: Option<Duration>,
}

/// The threads that run sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers {
    /// How many; at least 1.
    pub threads: usize,
    /// A busy one waits so long for more before it sleeps, at most; zero: never.
    pub coalesce: Duration,
}

impl FileWorkers {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { threads: section.value("threads"), coalesce: section.duration("coalesce") }
    }
}

pub(super) fn resolve(file: &FileWorkers, problems: &mut Problems) -> Workers {
    // A container's quota counts.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    Workers {
        threads: problems.number("workers.threads", file.threads, 1..=1024, cpus),
        // A fifth of what batching in Kafka adds by default; vehicles do not wait for an ack before they send on.
        coalesce: problems.duration(
            "workers.coalesce",
            file.coalesce,
            Duration::ZERO..=Duration::from_millis(20),
            Duration::from_millis(1),
        ),
    }
}

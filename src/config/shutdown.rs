//! `shutdown`: how the process ends.

use std::time::Duration;

use super::duration::{HOUR, SECOND};
use super::error::{ConfigError, Problems};
use super::section::Section;

/// `shutdown`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileShutdown {
    /// Connections are closed spread over this time.
    pub drain: Option<Duration>,
    /// From the signal to the exit, at most.
    pub deadline: Option<Duration>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// Connections are closed spread over this time.
    pub drain: Duration,
    /// From the signal to the exit, at most.
    pub deadline: Duration,
}

impl FileShutdown {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self { drain: section.duration("drain"), deadline: section.duration("deadline") }
    }
}

pub(super) fn resolve(file: &FileShutdown, problems: &mut Problems) -> Shutdown {
    // Within the 30 s that Kubernetes grants by default.
    let deadline = problems.duration("shutdown.deadline", file.deadline, SECOND..=HOUR, 25 * SECOND);
    // Vehicles that are closed at the same moment come back at the same moment.
    let spread = (deadline / 2).min(10 * SECOND);
    let shutdown =
        Shutdown { drain: problems.duration("shutdown.drain", file.drain, Duration::ZERO..=HOUR, spread), deadline };
    if shutdown.drain > shutdown.deadline / 2 {
        let problem = format!(
            "closing connections would take {:?}, more than half of shutdown.deadline = {:?}; the other half is for \
             records on their way",
            shutdown.drain, shutdown.deadline
        );
        problems.error(ConfigError::Conflict { key: "shutdown.drain", problem });
    }
    shutdown
}

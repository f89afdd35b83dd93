//! What stores say when they fail.

use std::path::PathBuf;

/// Why the store cannot be used at start-up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration or what it names is wrong; trying again does not help.
    #[error("permission store: {0}")]
    Misconfigured(String),
    /// It does not answer.
    #[error("permission store: {0}")]
    Unavailable(String),
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refuses.
    #[error("{path:?}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Somebody has written what is no file of grants; writing over it would lose that.
    #[error("{path:?} must be mended first: {problem}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// SQLite refuses.
    #[cfg(feature = "sqlite")]
    #[error("{path:?}: {source}")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What it says.
        source: rusqlite::Error,
    },
    /// Kafka does not answer or refuses.
    #[error("topic {topic}: {problem}")]
    Kafka {
        /// The topic.
        topic: String,
        /// What is wrong.
        problem: String,
    },
    /// The work ended before its time.
    #[error("the server is stopping")]
    Ended,
}

//! Why the file cannot be used, in words that an operator can act on.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("path is {path:?}: must name a file")]
    NotAFile { path: PathBuf },
    #[error("cannot open {path:?}: the directory {directory:?} does not exist")]
    NoDirectory { path: PathBuf, directory: PathBuf },
    #[error("cannot open {path:?}: permission denied for {who} on {subject}")]
    Denied { path: PathBuf, who: Who, subject: Subject },
    #[error("{path:?} is not an SQLite database, or it is damaged: {message}")]
    NotADatabase { path: PathBuf, message: String },
    #[error("{path:?} is a database of another program (application_id {application_id:#x}, expected {expected:#x})")]
    Foreign { path: PathBuf, application_id: i32, expected: i32 },
    #[error("{path:?} has schema version {version}; this server knows versions up to {known}")]
    Newer { path: PathBuf, version: i32, known: i32 },
    #[error("{path:?} cannot use a write-ahead log (journal_mode is {mode:?}); network file systems are not supported")]
    NoLog { path: PathBuf, mode: String },
    #[error("{path:?} was removed or replaced while it was open")]
    Replaced { path: PathBuf },
    #[error("{path:?}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{path:?}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    /// The operator must change the configuration or the file; trying again does not help.
    pub(crate) fn is_misconfigured(&self) -> bool {
        matches!(
            self,
            Self::NotAFile { .. }
                | Self::NoDirectory { .. }
                | Self::NotADatabase { .. }
                | Self::Foreign { .. }
                | Self::Newer { .. }
                | Self::NoLog { .. }
        )
    }

    /// Somebody else holds the lock; the connection is fine.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. }
            if matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)))
    }

    pub(crate) fn because(path: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::NotADatabase { path: path.to_owned(), message: source.to_string() }
            }
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::denied(path).unwrap_or(Self::Sqlite { path: path.to_owned(), source })
            }
            _ => Self::Sqlite { path: path.to_owned(), source },
        }
    }

    /// `None` when it was not the permissions.
    fn denied(path: &Path) -> Option<Self> {
        let directory = directory_of(path);
        let subject = match OpenOptions::new().read(true).append(true).open(path) {
            Err(error) if is_denied(&error) && path.exists() => path,
            // SQLite makes its log beside the file.
            _ => directory,
        };
        let metadata = subject.metadata().ok()?;
        let who = Who::this_process();
        (!who.may_write(&metadata)).then(|| Self::Denied {
            path: path.to_owned(),
            who,
            subject: Subject::new(subject, &metadata),
        })
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let denied = if is_denied(&source) { Self::denied(path) } else { None };
        denied.unwrap_or(Self::Io { path: path.to_owned(), source })
    }
}

/// The user that this process runs as, where the system tells.
#[derive(Debug)]
pub(crate) struct Who {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Who {
    fn this_process() -> Self {
        // The owner of a process' directory there is its effective user.
        let process = std::fs::metadata("/proc/self").ok();
        Self { uid: process.as_ref().map(MetadataExt::uid), gid: process.as_ref().map(MetadataExt::gid) }
    }

    fn may_write(&self, subject: &Metadata) -> bool {
        let mode = subject.permissions().mode();
        let (Some(uid), Some(gid)) = (self.uid, self.gid) else { return false };
        let bit = if uid == subject.uid() {
            0o200
        } else if gid == subject.gid() {
            0o020
        } else {
            0o002
        };
        mode & bit != 0
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.uid {
            Some(uid) => write!(f, "uid {uid}"),
            None => f.write_str("this user"),
        }
    }
}

/// A file or directory, as its permissions describe it.
#[derive(Debug)]
pub(crate) struct Subject {
    path: PathBuf,
    owner: u32,
    group: u32,
    mode: u32,
}

impl Subject {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        let mode = metadata.permissions().mode() & 0o7777;
        Self { path: path.to_owned(), owner: metadata.uid(), group: metadata.gid(), mode }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, owner, group, mode } = self;
        write!(f, "{path:?} (owner {owner}, group {group}, mode {mode:04o})")
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// Where SQLite makes its log files.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

//! The file: opened, checked, migrated.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use crate::proto::vehicle_data::Field;

/// An open file of the newest schema.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    path: PathBuf,
    /// Device and inode of the open file.
    file: (u64, u64),
}

impl Store {
    /// Opens `path`; creates or migrates it as needed.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        check_path(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| OpenError::because(path, error);
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        let version = recognise(&connection, path)?;
        set_pragmas(&connection, path)?;
        if version < VERSION {
            migrate(&mut connection).map_err(failed)?;
        }
        name_fields(&mut connection).map_err(failed)?;
        let file = std::fs::metadata(path).map_err(|error| OpenError::io(path, error))?;
        Ok(Self { connection, path: path.to_owned(), file: (file.dev(), file.ino()) })
    }

    /// Records written to a file that was deleted would be acked and lost.
    pub(super) fn check_still_there(&self) -> Result<(), OpenError> {
        match std::fs::metadata(&self.path) {
            Ok(file) if (file.dev(), file.ino()) == self.file => Ok(()),
            _ => Err(OpenError::Replaced { path: self.path.clone() }),
        }
    }

    /// Runs `work` in one transaction. `Ok` means that it is committed and synced to the disk.
    pub(super) fn write(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), OpenError> {
        let committed = (|| {
            // Takes the write lock at once, so that nothing fails half-way for want of it.
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work(&transaction)?;
            transaction.commit()
        })();
        committed.map_err(|error| OpenError::because(&self.path, error))
    }

    /// A commit that changes nothing and still goes through the log to the disk.
    pub(super) fn probe(&mut self) -> Result<(), OpenError> {
        self.write(|transaction| transaction.pragma_update(None, "user_version", VERSION))
    }

    /// Moves the write-ahead log into the file, as far as readers let it.
    pub(super) fn fold_log(&self) {
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        if !matches!(folded, Ok(0)) {
            tracing::info!(path = %self.path.display(), "sqlite_log_kept");
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("path is {path:?}: must name a file")]
    NotAFile { path: PathBuf },
    #[error("cannot open {path:?}: the directory {directory:?} does not exist")]
    NoDirectory { path: PathBuf, directory: PathBuf },
    #[error("cannot open {path:?}: permission denied for {who} on {subject}")]
    Denied { path: PathBuf, who: Who, subject: Subject },
    #[error("{path:?} is not an SQLite database, or it is damaged: {message}")]
    NotADatabase { path: PathBuf, message: String },
    #[error(
        "{path:?} is a database of another program (application_id {application_id:#x}, expected {APPLICATION_ID:#x})"
    )]
    Foreign { path: PathBuf, application_id: i32 },
    #[error("{path:?} has schema version {version}; this server knows versions up to {VERSION}")]
    Newer { path: PathBuf, version: i32 },
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
    pub(super) fn is_misconfigured(&self) -> bool {
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
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. }
            if matches!(source.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)))
    }

    fn because(path: &Path, source: rusqlite::Error) -> Self {
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
        let denied = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
        };
        let directory = directory_of(path);
        let subject = match std::fs::OpenOptions::new().read(true).append(true).open(path) {
            Err(error) if denied(&error) && path.exists() => path,
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

    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// The user that this process runs as, where the system tells.
#[derive(Debug)]
pub(super) struct Who {
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
pub(super) struct Subject {
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

fn check_path(path: &Path) -> Result<(), OpenError> {
    if path.as_os_str().is_empty() || path.starts_with(":memory:") || path.is_dir() {
        return Err(OpenError::NotAFile { path: path.to_owned() });
    }
    let directory = directory_of(path);
    match directory.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()), // SQLite's error follows
        _ => Err(OpenError::NoDirectory { path: path.to_owned(), directory: directory.to_owned() }),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The schema version of a file of ours, 0 for an empty one.
fn recognise(connection: &Connection, path: &Path) -> Result<i32, OpenError> {
    let failed = |error| OpenError::because(path, error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let (version, application_id) = (pragma("user_version")?, pragma("application_id")?);
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if objects > 0 && application_id != APPLICATION_ID {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id });
    }
    if version > VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), version });
    }
    Ok(version)
}

fn set_pragmas(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::because(path, error);
    // Must come before the first table; lets `retention` give space back.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoLog { path: path.to_owned(), mode });
    }
    connection.execute_batch(PRAGMAS).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // Another process may have been first.
    for migration in &MIGRATIONS[usize::try_from(version).unwrap_or(0)..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// Completes the names of fields, which grow with the vehicle maker's protobuf and not with the schema.
fn name_fields(connection: &mut Connection) -> rusqlite::Result<()> {
    let known = || (0..MOST_FIELDS).filter_map(|number| Field::try_from(number).ok());
    let stored: i64 = connection.query_row("SELECT count(*) FROM field_names", [], |row| row.get(0))?;
    if usize::try_from(stored).is_ok_and(|stored| stored >= known().count()) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare("INSERT OR REPLACE INTO field_names VALUES (?1, ?2)")?;
        for field in known() {
            insert.execute((field as i32, field.as_str_name()))?;
        }
    }
    transaction.commit()
}

/// `synchronous = FULL` with a write-ahead log: every commit is synced before it returns.
/// `fullfsync` makes that true on macOS too. The log is folded in from 16 MiB on and cut back to 64 MiB
/// after a reader made it grow.
const PRAGMAS: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA wal_autocheckpoint = 4096;
    PRAGMA journal_size_limit = 67108864;
    PRAGMA foreign_keys = OFF;
    PRAGMA cache_size = -16384;
";

/// The step from each version to the next.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "a handful of migrations")]
const VERSION: i32 = MIGRATIONS.len() as i32;

/// "FlTe": tells our files from other programs'.
const APPLICATION_ID: i32 = 0x466c_5465;

/// Above every field number that the protobuf may come to have.
const MOST_FIELDS: i32 = 10_000;

/// Short, so that the writer looks at its deadline in between.
const BUSY_TIMEOUT: Duration = Duration::from_millis(100);

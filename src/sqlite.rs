//! SQLite databases, which are all opened in one way: by this process alone or beside others, in a file that not
//! everybody may read, with commits that are on the disk when they return.

mod error;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub(crate) use self::error::OpenError;
use self::error::directory_of;

/// What one kind of database is.
#[derive(Debug)]
pub(crate) struct Kind {
    /// Tells our files from other programs', and from each other.
    pub(crate) application_id: i32,
    /// The step from each version of the schema to the next.
    pub(crate) migrations: &'static [&'static str],
    /// In force before the first table is made.
    pub(crate) first_pragmas: &'static str,
    /// Beyond those that make commits last.
    pub(crate) pragmas: &'static str,
}

/// An open file of the newest schema.
#[derive(Debug)]
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
    /// Device and inode of the open file.
    file: (u64, u64),
}

/// `synchronous = FULL` with a write-ahead log: every commit is synced before it returns.
/// `fullfsync` makes that true on macOS too.
const DURABLE: &str = "
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
";

impl Kind {
    /// The newest version of the schema.
    pub(crate) fn version(&self) -> i32 {
        i32::try_from(self.migrations.len()).unwrap_or(i32::MAX)
    }
}

impl Database {
    /// Opens `path`; creates or migrates it as needed. `patience` as in [`Self::set_patience`].
    pub(crate) fn open(path: &Path, kind: &Kind, patience: Duration) -> Result<Self, OpenError> {
        check_path(path)?;
        create(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| OpenError::because(path, error);
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(patience).map_err(failed)?;
        let version = recognise(&connection, path, kind)?;
        if version == 0 {
            connection.execute_batch(kind.first_pragmas).map_err(failed)?;
        }
        set_pragmas(&connection, path, kind)?;
        if version < kind.version() {
            migrate(&mut connection, kind).map_err(failed)?;
        }
        let file = identity(path).map_err(|error| OpenError::io(path, error))?;
        Ok(Self { connection, path: path.to_owned(), file })
    }

    /// What is written to a file that was deleted or replaced would be lost.
    pub(crate) fn is_still_there(&self) -> io::Result<bool> {
        identity(&self.path).map(|file| file == self.file)
    }

    /// How long one attempt waits for somebody else's lock.
    pub(crate) fn set_patience(&self, patience: Duration) -> Result<(), OpenError> {
        self.connection.busy_timeout(patience).map_err(|error| self.because(error))
    }

    /// A transaction that takes the write lock at once, so that nothing fails half-way for want of it, and what is
    /// read is what is written over.
    pub(crate) fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    pub(crate) fn because(&self, error: rusqlite::Error) -> OpenError {
        OpenError::because(&self.path, error)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(crate) fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Whether there can be a file at `path`, told without making one.
pub(crate) fn check_path(path: &Path) -> Result<(), OpenError> {
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

/// Records tell where people are, and grants what they allow: not for everybody on the machine. The log files take
/// the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(OpenError::io(path, error)),
    }
}

/// The schema version of a file of ours, 0 for an empty one.
fn recognise(connection: &Connection, path: &Path, kind: &Kind) -> Result<i32, OpenError> {
    let failed = |error| OpenError::because(path, error);
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    let (version, application_id) = (pragma("user_version")?, pragma("application_id")?);
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let expected = kind.application_id;
    if objects > 0 && application_id != expected {
        return Err(OpenError::Foreign { path: path.to_owned(), application_id, expected });
    }
    if version > kind.version() {
        return Err(OpenError::Newer { path: path.to_owned(), version, known: kind.version() });
    }
    Ok(version)
}

fn set_pragmas(connection: &Connection, path: &Path, kind: &Kind) -> Result<(), OpenError> {
    let failed = |error| OpenError::because(path, error);
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoLog { path: path.to_owned(), mode });
    }
    connection.execute_batch(DURABLE).map_err(failed)?;
    connection.execute_batch(kind.pragmas).map_err(failed)
}

fn migrate(connection: &mut Connection, kind: &Kind) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // Another process may have been first.
    for migration in kind.migrations.iter().skip(usize::try_from(version).unwrap_or(0)) {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", kind.application_id)?;
    transaction.pragma_update(None, "user_version", kind.version())?;
    transaction.commit()
}

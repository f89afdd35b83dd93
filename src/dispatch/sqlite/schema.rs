//! The file: opened, checked, migrated.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::error::{OpenError, directory_of};
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
    /// Opens `path`; creates or migrates it as needed. `patience` as in [`Self::set_patience`].
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, OpenError> {
        check_path(path)?;
        create(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| OpenError::because(path, error);
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(patience).map_err(failed)?;
        let version = recognise(&connection, path)?;
        if version == 0 {
            // Must come before the first table; lets `retention` give space back.
            connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
        }
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

    /// How long one attempt waits for somebody else's lock.
    pub(super) fn set_patience(&self, patience: Duration) -> Result<(), OpenError> {
        self.connection.busy_timeout(patience).map_err(|error| OpenError::because(&self.path, error))
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

/// Records tell where people are: not for everybody on the machine. The log files take the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    match OpenOptions::new().write(true).create_new(true).mode(0o640).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(OpenError::io(path, error)),
    }
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
pub(super) const VERSION: i32 = MIGRATIONS.len() as i32;

/// "FlTe": tells our files from other programs'.
pub(super) const APPLICATION_ID: i32 = 0x466c_5465;

/// Above every field number that the protobuf may come to have.
const MOST_FIELDS: i32 = 10_000;

/// The wait for a lock within one attempt; short, so that the writer looks at its deadline in between.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(&directory.path().join("test.db"), LOCK_PATIENCE).expect("opens");
        (directory, store)
    }

    fn pragma<T: rusqlite::types::FromSql>(store: &Store, name: &str) -> T {
        store.connection().pragma_query_value(None, name, |row| row.get(0)).expect("a value")
    }

    #[test]
    fn the_pragmas_that_make_a_commit_survive_power_loss_are_in_force() {
        let (_directory, store) = store();
        assert_eq!(pragma::<String>(&store, "journal_mode"), "wal");
        assert_eq!(pragma::<i32>(&store, "synchronous"), 2, "FULL");
        assert_eq!(pragma::<i32>(&store, "fullfsync"), 1);
        assert_eq!(pragma::<i32>(&store, "checkpoint_fullfsync"), 1);
        assert_eq!(pragma::<i32>(&store, "auto_vacuum"), 2, "incremental");
        assert_eq!(pragma::<i32>(&store, "user_version"), VERSION);
    }

    #[test]
    fn opening_again_changes_nothing_and_keeps_the_pragmas() {
        let (directory, store) = store();
        let changes = |store: &Store| pragma::<i64>(store, "data_version") + pragma::<i64>(store, "schema_version");
        let before = changes(&store);
        let again = Store::open(&directory.path().join("test.db"), LOCK_PATIENCE).expect("opens");
        assert_eq!((changes(&store), pragma::<i32>(&again, "synchronous")), (before, 2));
    }

    #[test]
    fn a_full_disk_fails_the_whole_write_and_ends_with_the_shortage() {
        let (_directory, mut store) = store();
        let pages: i64 = pragma(&store, "page_count");
        store.connection().pragma_update(None, "max_page_count", pages + 2).expect("a limit");
        let insert = |bytes: i64| {
            move |transaction: &Transaction<'_>| {
                transaction.execute("INSERT INTO field_names VALUES (99991, 'first')", [])?;
                transaction.execute("INSERT INTO field_names VALUES (99992, hex(zeroblob(?1)))", [bytes]).map(drop)
            }
        };
        let error = store.write(insert(100_000)).expect_err("full");
        assert!(error.to_string().contains("full") && !error.is_busy(), "{error}");
        let count = |store: &Store| -> i64 {
            let count = "SELECT count(*) FROM field_names WHERE number > 99990";
            store.connection().query_row(count, [], |row| row.get(0)).expect("a count")
        };
        assert_eq!(count(&store), 0, "all or nothing");
        store.connection().pragma_update(None, "max_page_count", 1_000_000).expect("a limit");
        store.write(insert(100_000)).expect("fits");
        assert_eq!(count(&store), 2);
    }

    #[test]
    fn a_write_that_fails_half_way_leaves_nothing() {
        let (_directory, mut store) = store();
        let error = store.write(|transaction| {
            transaction.execute("INSERT INTO field_names VALUES (99991, 'first')", [])?;
            transaction.execute("INSERT INTO field_names VALUES (99991, 'again')", []).map(drop)
        });
        assert!(error.is_err());
        let count = "SELECT count(*) FROM field_names WHERE number = 99991";
        assert_eq!(store.connection().query_row(count, [], |row| row.get::<_, i64>(0)), Ok(0));
    }

    #[test]
    fn the_file_is_not_readable_by_everybody() {
        let (directory, _store) = store();
        for name in ["test.db", "test.db-wal"] {
            let mode = std::fs::metadata(directory.path().join(name)).expect("a file").mode();
            assert_eq!(mode & 0o007, 0, "{name} has mode {mode:o}");
        }
    }

    #[test]
    fn every_field_of_the_protobuf_has_its_name() {
        let (_directory, store) = store();
        let name: String = store
            .connection()
            .query_row("SELECT name FROM field_names WHERE number = ?1", [Field::Soc as i32], |row| row.get(0))
            .expect("a name");
        assert_eq!(name, "Soc");
        let stored: i64 =
            store.connection().query_row("SELECT count(*) FROM field_names", [], |row| row.get(0)).expect("a count");
        let known = (0..MOST_FIELDS * 10).filter(|number| Field::try_from(*number).is_ok()).count();
        assert_eq!(usize::try_from(stored), Ok(known), "{MOST_FIELDS} is above every number");
    }
}

//! The file: what it holds, and how it is written.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use crate::proto::vehicle_data::Field;
use crate::sqlite::{Database, Kind, OpenError};

/// An open file of the newest schema.
#[derive(Debug)]
pub(super) struct Store(Database);

impl Store {
    /// Opens `path`; creates or migrates it as needed. `patience` as in [`Self::set_patience`].
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, OpenError> {
        let mut database = Database::open(path, &KIND, patience)?;
        database.connection().set_prepared_statement_cache_capacity(32);
        name_fields(&mut database).map_err(|error| database.because(error))?;
        Ok(Self(database))
    }

    /// Records written to a file that was deleted would be acked and lost.
    pub(super) fn check_still_there(&self) -> Result<(), OpenError> {
        match self.0.is_still_there() {
            Ok(true) => Ok(()),
            _ => Err(OpenError::Replaced { path: self.0.path().to_owned() }),
        }
    }

    /// Runs `work` in one transaction. `Ok` means that it is committed and synced to the disk.
    pub(super) fn write(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), OpenError> {
        let committed = (|| {
            let transaction = self.0.begin()?;
            work(&transaction)?;
            transaction.commit()
        })();
        committed.map_err(|error| self.0.because(error))
    }

    /// How long one attempt waits for somebody else's lock.
    pub(super) fn set_patience(&self, patience: Duration) -> Result<(), OpenError> {
        self.0.set_patience(patience)
    }

    /// A commit that changes nothing and still goes through the log to the disk.
    pub(super) fn probe(&mut self) -> Result<(), OpenError> {
        self.write(|transaction| transaction.pragma_update(None, "user_version", KIND.version()))
    }

    /// Moves the write-ahead log into the file, as far as readers let it.
    pub(super) fn fold_log(&self) {
        let folded = self.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        if !matches!(folded, Ok(0)) {
            tracing::info!(path = %self.0.path().display(), "sqlite_log_kept");
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.0.connection()
    }

    pub(super) fn connection_mut(&mut self) -> &mut Connection {
        self.0.connection_mut()
    }
}

/// Completes the names of fields, which grow with the vehicle maker's protobuf and not with the schema.
fn name_fields(database: &mut Database) -> rusqlite::Result<()> {
    let known = || (0..MOST_FIELDS).filter_map(|number| Field::try_from(number).ok());
    let stored: i64 = database.connection().query_row("SELECT count(*) FROM field_names", [], |row| row.get(0))?;
    if usize::try_from(stored).is_ok_and(|stored| stored >= known().count()) {
        return Ok(());
    }
    let transaction = database.begin()?;
    {
        let mut insert = transaction.prepare("INSERT OR REPLACE INTO field_names VALUES (?1, ?2)")?;
        for field in known() {
            insert.execute((field as i32, field.as_str_name()))?;
        }
    }
    transaction.commit()
}

const KIND: Kind = Kind {
    // "FlTe".
    application_id: 0x466c_5465,
    migrations: &[include_str!("schema.sql")],
    // Lets `retention` give space back.
    first_pragmas: "PRAGMA auto_vacuum = INCREMENTAL;",
    // The log is folded in from 16 MiB on and cut back to 64 MiB after a reader made it grow.
    pragmas: "
        PRAGMA wal_autocheckpoint = 4096;
        PRAGMA journal_size_limit = 67108864;
        PRAGMA foreign_keys = OFF;
        PRAGMA cache_size = -16384;
    ",
};

/// Above every field number that the protobuf may come to have.
const MOST_FIELDS: i32 = 10_000;

/// The wait for a lock within one attempt; short, so that the writer looks at its deadline in between.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
        assert_eq!(pragma::<i32>(&store, "user_version"), KIND.version());
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

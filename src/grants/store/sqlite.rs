//! An SQLite database: the entries, and every change that was ever made.
//!
//! ```text
//! grants   (vin, scope)  state, since_ms, expires_ms, source, note, version
//! history  id            at_ms, and all of the above, actor, actor_from
//! ```
//!
//! A commit is synced to the disk before it returns. Another process may change the database too: `data_version`
//! is looked at four times a second, and tells of commits by others.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::error::{OpenError, StoreError};
use crate::grants::change::{self, Actor, Change, Entry, ImportError, Planned};
use crate::grants::clock::now_ms;
use crate::grants::ledger::Ledger;
use crate::permissions::{Grant, Grants, State};
use crate::scope::Scope;
use crate::sqlite::{self, Kind};

/// The store.
pub(in crate::grants) struct Sqlite {
    path: PathBuf,
    ledger: Arc<Ledger>,
    /// Held while the database is read or written and the ledger follows; only by threads that may block.
    database: Mutex<Database>,
}

struct Database {
    open: sqlite::Database,
    /// `data_version` when the entries were last read whole.
    seen: i64,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// The wait for another process' lock.
const PATIENCE: Duration = Duration::from_secs(2);
const KIND: Kind = Kind {
    // "FlPe".
    application_id: 0x466c_5065,
    migrations: &[SCHEMA],
    first_pragmas: "",
    pragmas: "",
};

const SCHEMA: &str = "
    CREATE TABLE grants (
        vin TEXT NOT NULL,
        scope TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('granted', 'denied')),
        since_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        source TEXT NOT NULL,
        note TEXT NOT NULL,
        version INTEGER NOT NULL CHECK (version > 0),
        PRIMARY KEY (vin, scope)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        vin TEXT NOT NULL,
        scope TEXT NOT NULL,
        state TEXT NOT NULL,
        since_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        source TEXT NOT NULL,
        note TEXT NOT NULL,
        version INTEGER NOT NULL,
        actor TEXT NOT NULL,
        actor_from TEXT NOT NULL
    ) STRICT;
    CREATE INDEX history_by_vin ON history (vin, id);
";

impl Sqlite {
    /// Opens or creates the database, reads it and starts watching it.
    pub(super) fn open(path: PathBuf, ledger: Arc<Ledger>) -> Result<Arc<Self>, OpenError> {
        let mut database = Database::open(&path)?;
        let grants = database.read().map_err(|error| OpenError::Unavailable(format!("{path:?}: {error}")))?;
        ledger.load(grants);
        ledger.confirm();
        let sqlite = Arc::new(Self { path, ledger, database: Mutex::new(database) });
        let watched = Arc::downgrade(&sqlite);
        std::thread::Builder::new()
            .name("permissions".to_owned())
            .spawn(move || watch(&watched))
            .map_err(|error| OpenError::Unavailable(format!("cannot start its thread: {error}")))?;
        Ok(sqlite)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn commit(&self, changes: &[Change]) -> Result<Vec<Planned>, ImportError> {
        let mut database = self.database();
        self.reopen_if_replaced(&mut database).map_err(|problem| {
            let source = io::Error::other(problem);
            ImportError::of_store(StoreError::Io { path: self.path.clone(), source })
        })?;
        let sqlite = |source| self.failure(source);
        let transaction = database.open.begin().map_err(|error| ImportError::of_store(sqlite(error)))?;
        let planned = change::plan(changes, now_ms(), |vin, scope| entry(&transaction, vin, scope).map_err(sqlite))?;
        for plan in planned.iter().filter(|plan| plan.changed) {
            write(&transaction, plan).map_err(|error| ImportError::of_store(sqlite(error)))?;
        }
        transaction.commit().map_err(|error| ImportError::of_store(sqlite(error)))?;
        // What others have changed before is read at the next look; these entries are newer.
        self.ledger.enforce(&planned);
        Ok(planned)
    }

    pub(super) fn history(&self, vin: &str, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let database = self.database();
        let read = || -> rusqlite::Result<Vec<Entry>> {
            let mut select = database.open.connection().prepare_cached(
                "SELECT scope, state, since_ms, expires_ms, source, note, version, at_ms, actor, actor_from
                 FROM history WHERE vin = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let entries = select.query_map(params![vin, limit], |row| {
                let actor = Actor { who: row.get(8)?, from: row.get(9)? };
                Ok(Entry { at_ms: row.get(7)?, scope: scope(row, 0)?, grant: grant(row, 1)?, actor })
            })?;
            entries.collect()
        };
        read().map_err(|error| self.failure(error))
    }

    /// Follows what others have committed since the last look.
    fn refresh(&self) {
        let mut database = self.database();
        let followed = self.reopen_if_replaced(&mut database).and_then(|reopened| {
            let said = |error: rusqlite::Error| error.to_string();
            if reopened || database.data_version().map_err(said)? != database.seen {
                self.ledger.load(database.read().map_err(said)?);
            }
            Ok(())
        });
        match followed {
            Ok(()) => self.ledger.confirm(),
            Err(problem) => self.ledger.trouble(format!("{:?}: {problem}", self.path)),
        }
    }

    /// A change written to a file that was deleted would be lost. Whether another file was opened.
    fn reopen_if_replaced(&self, database: &mut Database) -> Result<bool, String> {
        if database.open.is_still_there().map_err(|error| error.to_string())? {
            return Ok(false);
        }
        *database = Database::open(&self.path).map_err(|error| error.to_string())?;
        Ok(true)
    }

    fn failure(&self, source: rusqlite::Error) -> StoreError {
        StoreError::Sqlite { path: self.path.clone(), source }
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock()
    }
}

/// Why there could be no database at `path`.
pub(super) fn problem(path: &Path) -> Option<OpenError> {
    sqlite::check_path(path).err().map(|error| OpenError::Misconfigured(why(&error)))
}

impl Database {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let open =
            sqlite::Database::open(path, &KIND, PATIENCE).map_err(|error| OpenError::Misconfigured(why(&error)))?;
        Ok(Self { open, seen: 0 })
    }

    /// All entries.
    fn read(&mut self) -> rusqlite::Result<Grants> {
        // Before the entries: a commit in between is read twice rather than not at all.
        let seen = self.data_version()?;
        let mut grants = Grants::default();
        let mut select = self
            .open
            .connection()
            .prepare_cached("SELECT vin, scope, state, since_ms, expires_ms, source, note, version FROM grants")?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            grants.set(row.get_ref(0)?.as_str()?, scope(row, 1)?, grant(row, 2)?);
        }
        self.seen = seen;
        Ok(grants)
    }

    fn data_version(&self) -> rusqlite::Result<i64> {
        self.open.connection().pragma_query_value(None, "data_version", |row| row.get(0))
    }
}

/// Somebody may have named the store of records.
fn why(error: &sqlite::OpenError) -> String {
    match error {
        sqlite::OpenError::Foreign { path, application_id, expected } => format!(
            "{path:?}: a database of something else (application_id {application_id:#x}, expected {expected:#x}); grants \
             need a file of their own"
        ),
        other => other.to_string(),
    }
}

fn entry(transaction: &Transaction<'_>, vin: &str, scope: Scope) -> rusqlite::Result<Option<Grant>> {
    let mut select = transaction.prepare_cached(
        "SELECT state, since_ms, expires_ms, source, note, version FROM grants WHERE vin = ?1 AND scope = ?2",
    )?;
    select.query_row(params![vin, scope.label()], |row| grant(row, 0)).optional()
}

fn write(transaction: &Transaction<'_>, plan: &Planned) -> rusqlite::Result<()> {
    let Entry { at_ms, scope, grant, actor } = &plan.entry;
    let Grant { state, since_ms, expires_ms, source, note, version } = grant;
    let (scope, state) = (scope.label(), state.label());
    let version = i64::try_from(*version).unwrap_or(i64::MAX);
    transaction
        .prepare_cached("INSERT OR REPLACE INTO grants VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
        .execute(params![plan.vin, scope, state, since_ms, expires_ms, source, note, version])?;
    transaction
        .prepare_cached("INSERT INTO history VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?
        .execute(params![
            at_ms, plan.vin, scope, state, since_ms, expires_ms, source, note, version, actor.who, actor.from
        ])?;
    Ok(())
}

/// State to version, from column `first` on.
fn grant(row: &Row<'_>, first: usize) -> rusqlite::Result<Grant> {
    let state = row.get_ref(first)?.as_str()?;
    let version: i64 = row.get(first + 5)?;
    Ok(Grant {
        state: State::parse(state).ok_or_else(|| unknown(first, "state", state))?,
        since_ms: row.get(first + 1)?,
        expires_ms: row.get(first + 2)?,
        source: row.get(first + 3)?,
        note: row.get(first + 4)?,
        version: u64::try_from(version).unwrap_or(0),
    })
}

fn scope(row: &Row<'_>, column: usize) -> rusqlite::Result<Scope> {
    let name = row.get_ref(column)?.as_str()?;
    Scope::parse(name).ok_or_else(|| unknown(column, "scope", name))
}

fn unknown(column: usize, field: &str, value: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, format!("unknown {field} {value:?}").into())
}

fn watch(sqlite: &Weak<Sqlite>) {
    loop {
        std::thread::sleep(LOOK);
        let Some(sqlite) = sqlite.upgrade() else { return };
        sqlite.refresh();
    }
}

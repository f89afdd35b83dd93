//! The embedded store: one SQLite file that its users can query.
//!
//! ```text
//! sessions ──▶ Batching ──batches──▶ Committer (on a thread of its own) ──BEGIN … COMMIT, fsync──▶ file
//!     ▲                                  │                                              │
//!     └─────────── receipts ◀────────────┴──────────── settled after the commit ◀───────┘
//! ```
//!
//! `schema` says what the file holds, `rows` and `values` turn records into rows, `retention` removes
//! the oldest. The tables and views are described for their users in `docs/sqlite.md`.

mod retention;
mod rows;
mod schema;
mod sink;

use std::path::Path;
use std::time::Duration;

use self::schema::{LOCK_PATIENCE, Store};
use self::sink::Committer;
use super::ConnectError;
use super::batching::{Batching, Settings};
use crate::config::{self, DispatcherName, InFlight};
use crate::record::Topics;
use crate::sqlite::OpenError;

/// Between the attempts at one batch, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Longer than most locks; a batch that cannot be committed for so long is settled as lost.
const GIVE_UP: Duration = Duration::from_secs(10);

/// Opens the file, creating or migrating it as needed, and starts the thread that writes.
///
/// "Delivered" means committed and synced: the record survives `kill -9` and a loss of power.
///
/// # Errors
/// [`ConnectError`] names the path and what is wrong with it.
pub fn connect(config: &config::Sqlite, topics: &Topics) -> Result<Batching, ConnectError> {
    let store = open(&config.path).map_err(connect_error)?;
    let settings = Settings {
        batch: InFlight { records: config.batch, ..config.max_unsettled },
        linger: config.linger,
        pauses: PAUSES,
        give_up: Some(GIVE_UP),
    };
    let sink = Committer::new(config, topics, store);
    Batching::start(DispatcherName::Sqlite, config.max_unsettled, settings, vec![sink]).map_err(|error| {
        let message = format!("cannot start the thread that writes: {error}");
        ConnectError::Unreachable { dispatcher: DispatcherName::Sqlite, message }
    })
}

/// Why there can be no file at the section's path, told without making one.
pub(crate) fn problem(config: &config::Sqlite) -> Option<String> {
    crate::sqlite::check_path(&config.path).err().map(|error| format!("sqlite.path: {error}"))
}

/// How long another process may hold the lock at start-up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A store that has just proved that it can be written.
fn open(path: &Path) -> Result<Store, OpenError> {
    let mut store = Store::open(path, CONNECT_PATIENCE)?;
    store.probe()?;
    store.set_patience(LOCK_PATIENCE)?;
    Ok(store)
}

fn connect_error(error: OpenError) -> ConnectError {
    let dispatcher = DispatcherName::Sqlite;
    let message = error.to_string();
    if error.is_misconfigured() {
        ConnectError::Config { dispatcher, message }
    } else {
        ConnectError::Unreachable { dispatcher, message }
    }
}

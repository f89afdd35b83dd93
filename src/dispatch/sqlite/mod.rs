//! The embedded store: one SQLite file that its users can query.
//!
//! ```text
//! sessions ──dispatch──▶ Queue ──batches──▶ Writer (one thread) ──BEGIN … COMMIT, fsync──▶ file
//!     ▲                                        │                                    │
//!     └───────────── receipts ◀────────────────┴── settled after the commit ◀───────┘
//! ```
//!
//! `schema` opens and migrates the file, `rows` and `values` turn records into rows, `retention` removes
//! the oldest. The tables and views are described for their users in `docs/sqlite.md`.

mod error;
mod queue;
mod retention;
mod rows;
mod schema;
mod values;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use self::error::OpenError;
use self::queue::Queue;
use self::schema::{LOCK_PATIENCE, Store};
use self::writer::Writer;
use super::{ConnectError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::{self, DispatcherName};
use crate::record::{Record, Topics};

/// The embedded store.
///
/// "Delivered" means committed and synced: the record survives `kill -9` and a loss of power.
pub struct Sqlite {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Sqlite {
    /// Opens the file, creating or migrating it as needed, and starts the writer.
    ///
    /// # Errors
    /// [`ConnectError`] names the path and what is wrong with it.
    pub fn connect(config: &config::Sqlite, topics: &Topics) -> Result<Self, ConnectError> {
        check(config).map_err(|message| ConnectError::Config { dispatcher: DispatcherName::Sqlite, message })?;
        let store = open(&config.path).map_err(connect_error)?;
        let queue = Arc::new(Queue::new(config.max_unsettled));
        let writer = Writer::new(Arc::clone(&queue), config, topics, store);
        let thread = std::thread::Builder::new().name("sqlite".to_owned()).spawn(|| writer.run()).map_err(|error| {
            ConnectError::Unreachable {
                dispatcher: DispatcherName::Sqlite,
                message: format!("cannot start the writer's thread: {error}"),
            }
        })?;
        Ok(Self { queue, writer: Mutex::new(Some(thread)) })
    }
}

impl Dispatcher for Sqlite {
    fn name(&self) -> DispatcherName {
        DispatcherName::Sqlite
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        self.queue.offer(record, receipt)
    }

    fn outbox(&self) -> &Outbox {
        self.queue.outbox()
    }

    fn health(&self) -> Health {
        self.queue.health()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.queue.close(deadline).await {
                // The thread is stuck in the file system; it ends with the process.
                return;
            }
            let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(writer) = writer {
                // It has said that it is done, so this does not block.
                let _ = writer.join();
            }
        })
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.queue.begin_close(Instant::now());
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sqlite").field("outbox", self.queue.outbox()).finish_non_exhaustive()
    }
}

/// Below this, the empty schema and one batch would already fill the file.
const LEAST_MAX_BYTES: u64 = 1 << 20;

/// How long another process may hold the lock at start-up.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

fn check(config: &config::Sqlite) -> Result<(), String> {
    match config.max_bytes {
        Some(bytes) if bytes < LEAST_MAX_BYTES => {
            Err(format!("max_bytes is {bytes}; it must be at least {LEAST_MAX_BYTES}"))
        }
        _ => Ok(()),
    }
}

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

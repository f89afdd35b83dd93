//! Where grants live. Each store
//! - is read whole before [`Store::open`] returns, and puts what it reads into the [`Ledger`],
//! - keeps a change, then puts it into the ledger, before [`Store::commit`] returns,
//! - looks at least once a second for what others have changed, and tells the ledger that it could.

pub(super) mod error;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod recent;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use self::error::{OpenError, StoreError};
use super::change::{Change, Entry, ImportError, Planned};
use super::ledger::Ledger;
use crate::config::{self, PermissionStore};

/// One of the stores.
#[derive(Clone)]
pub(super) enum Store {
    File(Arc<file::File>),
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<sqlite::Sqlite>),
    #[cfg(feature = "kafka")]
    Kafka(Arc<kafka::Kafka>),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => write!(f, "file {:?}", file.path()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => write!(f, "sqlite {:?}", sqlite.path()),
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => write!(f, "kafka {:?}", kafka.topic()),
        }
    }
}

/// Why the store could not be opened, as far as that is told without making anything.
pub(super) fn problem(store: &PermissionStore) -> Option<OpenError> {
    match store {
        PermissionStore::File { path } => file::problem(path),
        #[cfg(feature = "sqlite")]
        PermissionStore::Sqlite { path } => sqlite::problem(path),
        _ => None,
    }
}

impl Store {
    pub(super) async fn open(config: &config::Permissions, ledger: &Arc<Ledger>) -> Result<Self, OpenError> {
        let ledger = Arc::clone(ledger);
        match &config.store {
            PermissionStore::File { path } => {
                let path = path.clone();
                blocking(move || file::File::open(path, ledger)).await.map(Self::File)
            }
            #[cfg(feature = "sqlite")]
            PermissionStore::Sqlite { path } => {
                let path = path.clone();
                blocking(move || sqlite::Sqlite::open(path, ledger)).await.map(Self::Sqlite)
            }
            #[cfg(feature = "kafka")]
            PermissionStore::Kafka { topic } => {
                let Some(kafka) = &config.kafka else {
                    return Err(OpenError::Misconfigured("the section kafka is missing".to_owned()));
                };
                kafka::Kafka::open(topic, kafka, ledger).await.map(Self::Kafka)
            }
            #[allow(unreachable_patterns, reason = "reached in a build without one of the stores")]
            other => Err(OpenError::Misconfigured(format!("this build has no {other:?}"))),
        }
    }

    /// All or nothing, except with Kafka.
    pub(super) async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Planned>, ImportError> {
        let ended = || Err(ImportError::of_store(StoreError::Ended));
        match self {
            Self::File(file) => {
                let file = Arc::clone(file);
                tokio::task::spawn_blocking(move || file.commit(&changes)).await.unwrap_or_else(|_| ended())
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => {
                let sqlite = Arc::clone(sqlite);
                tokio::task::spawn_blocking(move || sqlite.commit(&changes)).await.unwrap_or_else(|_| ended())
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => kafka.commit(&changes).await,
        }
    }

    pub(super) async fn history(&self, vin: String, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match self {
            Self::File(file) => Ok(file.history(&vin, limit)),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(sqlite) => {
                let sqlite = Arc::clone(sqlite);
                let read = tokio::task::spawn_blocking(move || sqlite.history(&vin, limit));
                read.await.unwrap_or(Err(StoreError::Ended))
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(kafka) => Ok(kafka.history(&vin, limit)),
        }
    }
}

async fn blocking<T: Send + Sync + 'static>(
    open: impl FnOnce() -> Result<Arc<T>, OpenError> + Send + 'static,
) -> Result<Arc<T>, OpenError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.unwrap_or_else(|_| Err(OpenError::Unavailable(StoreError::Ended.to_string())))
}

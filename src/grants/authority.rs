//! The one writer of grants: decides about changes, has the store keep them, puts them in force.

use std::sync::Arc;
use std::time::Duration;

use super::audit::Audit;
use super::change::{Change, ChangeError, Changed, Entry, ImportError, Imported};
use super::ledger::{Health, Ledger, Page};
use super::store::Store;
use super::store::error::{OpenError, StoreError};
use crate::config;
use crate::permissions::{Grant, Permissions, State};
use crate::scope::Scope;

/// Owns the store. While it lives, what others change there comes into force within a second.
pub struct Authority {
    store: Store,
    ledger: Arc<Ledger>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("store", &self.store).field("health", &self.health()).finish()
    }
}

impl Authority {
    /// Opens the store. When the future is ready, all grants are loaded and in force in `permissions`.
    ///
    /// It registers metrics on the way: run it within a recorder (`Metrics::within`).
    ///
    /// # Errors
    /// [`OpenError`] names the file or topic and what is wrong with it.
    pub async fn open(config: &config::Permissions, permissions: Arc<Permissions>) -> Result<Arc<Self>, OpenError> {
        let ledger = Arc::new(Ledger::new(permissions, config.max_stale, audit(config)?));
        let store = Store::open(config, &ledger).await?;
        // Four looks until the grants are lost.
        let period = (config.max_stale / 4).clamp(Duration::from_millis(10), Duration::from_secs(1));
        tokio::spawn(Ledger::watch(Arc::downgrade(&ledger), period));
        Ok(Arc::new(Self { store, ledger }))
    }

    /// Makes one change: durable in the store and in force here when this returns.
    ///
    /// It is made, or not, even if the caller does not wait for it.
    ///
    /// # Errors
    /// [`ChangeError`]; after [`ChangeError::Store`] the change may have been made or not: make it again.
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let mut changed = self.commit(vec![change]).await.map_err(|refused| refused.error)?;
        Ok(changed.remove(0))
    }

    /// Makes many changes. File and SQLite make all or none; Kafka checks all first, and if it fails in the
    /// middle, some of them have been made.
    ///
    /// # Errors
    /// The first row that is refused, or what is wrong with the store.
    pub async fn import(&self, changes: Vec<Change>) -> Result<Imported, ImportError> {
        let outcomes = self.commit(changes).await?;
        let changed = outcomes.iter().filter(|outcome| outcome.changed).count();
        Ok(Imported { changed, unchanged: outcomes.len() - changed })
    }

    /// What the owner of `vin` has said; `None`: nothing.
    #[must_use]
    pub fn get(&self, vin: &str) -> Option<Vec<(Scope, Grant)>> {
        self.ledger.grants().vehicle(vin).map(|vehicle| vehicle.all().to_vec())
    }

    /// Up to `limit` vehicles after `after`, by VIN.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Page {
        self.ledger.page(after, limit)
    }

    /// The latest `limit` changes of `vin`, newest first: with SQLite all that were ever made, otherwise those
    /// that this process has seen, at most 100 (Kafka: and those that
    /// compaction had left when it started).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history(&self, vin: &str, limit: usize) -> Result<Vec<Entry>, ChangeError> {
        Ok(self.store.history(vin.to_owned(), limit).await?)
    }

    /// How the store is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.ledger.health()
    }

    /// Whether the audit lines of all changes so far are written, after waiting a moment for them. They will be,
    /// unless the process is killed before, or there was no room for the line of a refusal.
    pub async fn is_audited(&self) -> bool {
        self.ledger.is_audited().await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Changed>, ImportError> {
        let consent = changes.iter().position(|change| change.state == State::Granted);
        if let Some(row) = consent.filter(|_| !self.ledger.admits_consents()) {
            return Err(ImportError { row, error: ChangeError::AuditFull });
        }
        let store = self.store.clone();
        // A task of its own: a client that goes away must not leave a change in the store and not in force.
        let committed = tokio::spawn(async move { store.commit(changes).await });
        let planned =
            committed.await.unwrap_or_else(|_| Err(ImportError { row: 0, error: StoreError::Ended.into() }))?;
        Ok(planned.iter().map(super::change::Planned::outcome).collect())
    }
}

#[cfg(feature = "kafka")]
fn audit(config: &config::Permissions) -> Result<Audit, OpenError> {
    Audit::open(config).map_err(|error| OpenError::Misconfigured(error.to_string()))
}

#[cfg(not(feature = "kafka"))]
fn audit(config: &config::Permissions) -> Result<Audit, OpenError> {
    match &config.audit_topic {
        None => Ok(Audit::default()),
        Some(_) => Err(OpenError::Misconfigured("permissions.audit_topic: this build has no kafka".to_owned())),
    }
}

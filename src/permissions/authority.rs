//! The only writer of grants. In this form they live in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::audit::{self, AuditEntry};
use super::clock::now_ms;
use super::{Grant, Grants, Permissions, Scope, State};
use crate::config;

/// Who asks, from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// "token", or the common name of a client certificate.
    pub who: String,
    /// The peer's address.
    pub from: String,
}

/// What somebody wants an entry to be.
#[derive(Clone, Debug)]
pub struct Change {
    /// The vehicle.
    pub vin: String,
    /// The scope.
    pub scope: Scope,
    /// Granted or denied.
    pub state: State,
    /// `None`: from now on.
    pub since_ms: Option<i64>,
    /// Until when, exclusive.
    pub expires_ms: Option<i64>,
    /// For people.
    pub source: String,
    /// For people.
    pub note: String,
    /// The version that must be current; 0: no entry.
    pub expected_version: Option<u64>,
    /// Who asks.
    pub actor: Actor,
}

/// What has become of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The entry as it is now.
    pub grant: Grant,
    /// Whether it was different before.
    pub changed: bool,
}

/// Why an entry is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else was faster.
    #[error("expected version {expected}, the entry is at version {actual}")]
    Conflict {
        /// What the caller has seen.
        expected: u64,
        /// What there is; 0: no entry.
        actual: u64,
    },
    /// A value that no entry can have.
    #[error("{field} {value:?}: {reason}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// As it came.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store is written by somebody else.
    #[error("the store is read-only")]
    ReadOnly,
    /// The store does not work.
    #[error("the store is not available: {0}")]
    Store(String),
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
#[error("row {row}: {error}")]
pub struct ImportError {
    /// Index into the list, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub error: ChangeError,
}

/// What has become of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Entries that were different before.
    pub changed: usize,
    /// Entries that were so already.
    pub unchanged: usize,
}

/// Vehicles in the order of their VINs.
#[derive(Clone, Debug)]
pub struct Page {
    /// With their entries.
    pub vehicles: Vec<(String, Vec<(Scope, Grant)>)>,
    /// Where to go on, if there is more.
    pub next: Option<String>,
}

/// One change of the past.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When, in milliseconds since the epoch.
    pub at_ms: i64,
    /// Of what.
    pub scope: Scope,
    /// The entry as it was from then on.
    pub grant: Grant,
    /// By whom.
    pub actor: Actor,
}

/// Whether the grants are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They are.
    Loaded,
    /// As of some time ago; the store does not answer.
    Stale {
        /// Since when, in milliseconds since the epoch.
        since_ms: i64,
        /// Why.
        error: String,
    },
    /// No more; everything is withheld.
    Lost {
        /// Why.
        error: String,
    },
    /// Not yet; everything is withheld.
    Loading,
}

/// The only writer of grants.
#[derive(Debug)]
pub struct Authority {
    permissions: Arc<Permissions>,
    known: Mutex<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    grants: Grants,
    vehicles: BTreeMap<String, Vec<(Scope, Grant)>>,
    history: BTreeMap<String, Vec<Entry>>,
}

impl Authority {
    /// With no grants.
    ///
    /// # Errors
    /// None in this form.
    pub async fn open(
        _config: &config::Permissions,
        permissions: Arc<Permissions>,
    ) -> Result<Arc<Self>, std::convert::Infallible> {
        permissions.replace(Some(Grants::default()));
        Ok(Arc::new(Self { permissions, known: Mutex::default() }))
    }

    /// Sets one entry; in force when this returns.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        let mut known = self.known();
        let changed = known.change(change)?;
        self.permissions.replace(Some(known.grants.clone()));
        Ok(changed)
    }

    /// Sets all entries or none.
    ///
    /// # Errors
    /// [`ImportError`].
    pub async fn import(&self, changes: Vec<Change>) -> Result<Imported, ImportError> {
        let mut known = self.known();
        let mut next = known.clone();
        let mut imported = Imported { changed: 0, unchanged: 0 };
        for (row, change) in changes.into_iter().enumerate() {
            match next.change(change).map_err(|error| ImportError { row, error })?.changed {
                true => imported.changed += 1,
                false => imported.unchanged += 1,
            }
        }
        *known = next;
        self.permissions.replace(Some(known.grants.clone()));
        Ok(imported)
    }

    /// What is known of one vehicle.
    #[must_use]
    pub fn get(&self, vin: &str) -> Option<Vec<(Scope, Grant)>> {
        self.known().vehicles.get(vin).cloned()
    }

    /// Vehicles behind `after`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Page {
        use std::ops::Bound::{Excluded, Unbounded};
        let known = self.known();
        let from = after.map_or(Unbounded, Excluded);
        let mut vehicles: Vec<_> = known
            .vehicles
            .range::<str, _>((from, Unbounded))
            .take(limit + 1)
            .map(|(vin, scopes)| (vin.clone(), scopes.clone()))
            .collect();
        let more = vehicles.len() > limit;
        vehicles.truncate(limit);
        let next = vehicles.last().filter(|_| more).map(|(vin, _)| vin.clone());
        Page { vehicles, next }
    }

    /// What has changed, newest first.
    ///
    /// # Errors
    /// [`ChangeError::Store`].
    pub async fn history(&self, vin: &str, limit: usize) -> Result<Vec<Entry>, ChangeError> {
        let known = self.known();
        Ok(known.history.get(vin).into_iter().flatten().rev().take(limit).cloned().collect())
    }

    /// Whether the grants are known.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::Loaded
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn change(&mut self, change: Change) -> Result<Changed, ChangeError> {
        for (field, text, most) in [("source", &change.source, 256), ("note", &change.note, 1024)] {
            if text.len() > most {
                let reason = format!("is {} bytes long, at most {most} are allowed", text.len());
                return Err(ChangeError::Invalid { field, value: text.chars().take(100).collect(), reason });
            }
        }
        let entries = self.vehicles.entry(change.vin.clone()).or_default();
        let before = entries.iter().find(|(scope, _)| *scope == change.scope).map(|(_, grant)| grant.clone());
        let actual = before.as_ref().map_or(0, |grant| grant.version);
        if let Some(expected) = change.expected_version.filter(|expected| *expected != actual) {
            return Err(ChangeError::Conflict { expected, actual });
        }
        let now = now_ms();
        let kept = before.as_ref().filter(|grant| grant.state == change.state).map(|grant| grant.since_ms);
        let grant = Grant {
            state: change.state,
            since_ms: change.since_ms.or(kept).unwrap_or(now),
            expires_ms: change.expires_ms,
            source: change.source,
            note: change.note,
            version: actual,
        };
        if before.as_ref() == Some(&grant) {
            return Ok(Changed { grant, changed: false });
        }
        let grant = Grant { version: actual + 1, ..grant };
        entries.retain(|(scope, _)| *scope != change.scope);
        entries.push((change.scope, grant.clone()));
        entries.sort_by_key(|(scope, _)| *scope);
        self.grants.set(&change.vin, change.scope, grant.clone());
        let entry = Entry { at_ms: now, scope: change.scope, grant: grant.clone(), actor: change.actor };
        audit::log(&AuditEntry { vin: change.vin.clone(), entry: entry.clone() });
        self.history.entry(change.vin).or_default().push(entry);
        Ok(Changed { grant, changed: true })
    }
}

//! What the embedded store does with a batch: one commit, upkeep between commits.

use std::time::{Duration, Instant};

use super::retention::{Chunk, Retention};
use super::rows;
use super::schema::{LOCK_PATIENCE, Store};
use crate::config;
use crate::dispatch::batching::{Fate, Sink};
use crate::logging::RateLimited;
use crate::record::{Record, Topics};
use crate::sqlite::OpenError;

/// Owns the connection. All of it blocks, on the thread of its dispatcher.
#[derive(Debug)]
pub(super) struct Committer {
    config: config::Sqlite,
    topics: Topics,
    /// `None` after an error that a fresh connection may cure.
    store: Option<Store>,
    /// The last use of the store failed.
    failed: bool,
    retention: Retention,
    /// What was written since room was made, if it is time to make some.
    outpace: Option<Chunk>,
    upkeep_at: Instant,
    warnings: RateLimited,
}

/// How often age, free pages and, after an error, the disk are looked at.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);

/// Room for records that come meanwhile.
const PAUSE_BETWEEN_STEPS: Duration = Duration::from_millis(2);

impl Committer {
    pub(super) fn new(config: &config::Sqlite, topics: &Topics, store: Store) -> Self {
        Self {
            config: config.clone(),
            topics: topics.clone(),
            store: Some(store),
            failed: false,
            retention: Retention { max_age: config.max_age, max_bytes: config.max_bytes },
            outpace: None,
            upkeep_at: Instant::now(),
            warnings: RateLimited::default(),
        }
    }

    /// All of `records`, or nothing. When it returns `Ok`, the records are synced to the disk.
    fn commit(&mut self, records: &[Record]) -> Result<(), OpenError> {
        let topics = self.topics.clone();
        self.connected()?.write(|transaction| rows::insert(transaction, records, &topics))?;
        self.failed = false;
        // While records stream in, room is made before the next commit that needs it, and the rest now and then.
        let is_oversize = self.store.as_ref().is_some_and(|store| self.retention.is_oversize(store.connection()));
        let is_due = is_oversize || Instant::now() >= self.upkeep_at;
        self.outpace = is_due.then(|| Chunk::to_outpace(records));
        Ok(())
    }

    /// The store, opened again if the last use of it failed; never a file that is no longer at the path.
    fn connected(&mut self) -> Result<&mut Store, OpenError> {
        if let Some(store) = &self.store {
            store.check_still_there()?;
        }
        match self.store.take() {
            Some(store) => Ok(self.store.insert(store)),
            None => Ok(self.store.insert(Store::open(&self.config.path, LOCK_PATIENCE)?)),
        }
    }

    fn suffered(&mut self, error: &OpenError) -> String {
        self.failed = true;
        if !error.is_busy() {
            self.store = None;
        }
        if let Some(skipped) = self.warnings.permit() {
            tracing::warn!(%error, skipped, "sqlite_commit_failed");
        }
        error.to_string()
    }

    /// One bounded step of whatever is due; when to take the next one.
    fn retain(&mut self, chunk: Chunk) -> Duration {
        let step = self.store.as_mut().map(|store| self.retention.step(store.connection_mut(), chunk));
        let more = step.unwrap_or(Ok(false)).unwrap_or_else(|error| {
            if let Some(skipped) = self.warnings.permit() {
                tracing::warn!(%error, skipped, "sqlite_retention_failed");
            }
            false
        });
        let pause = if more { PAUSE_BETWEEN_STEPS } else { UPKEEP_PERIOD };
        self.upkeep_at = Instant::now() + pause;
        pause
    }
}

impl Sink for Committer {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        if let Some(chunk) = self.outpace.take() {
            self.retain(chunk);
        }
        let fate = match self.commit(batch) {
            Ok(()) => Fate::Delivered,
            Err(error) => Fate::Retry(self.suffered(&error)),
        };
        vec![fate; batch.len()]
    }

    /// After an error, finds out by an empty commit whether records would be written again; else makes room.
    async fn probe(&mut self) -> Result<Duration, String> {
        if !self.failed {
            return Ok(self.retain(Chunk::IDLE));
        }
        match self.connected().and_then(Store::probe) {
            Ok(()) => {
                self.failed = false;
                Ok(UPKEEP_PERIOD)
            }
            Err(error) => Err(self.suffered(&error)),
        }
    }

    async fn close(&mut self) {
        if let Some(store) = &self.store {
            store.fold_log();
        }
    }
}

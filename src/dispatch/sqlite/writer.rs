//! The one thread that writes: group commits, retries, upkeep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::OpenError;
use super::queue::{Next, Queue};
use super::retention::{Chunk, Retention};
use super::rows;
use super::schema::{LOCK_PATIENCE, Store};
use crate::config;
use crate::dispatch::{DispatchError, Health};
use crate::logging::RateLimited;
use crate::record::{Record, Topics};

/// Owns the connection.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    config: config::Sqlite,
    topics: Topics,
    /// `None` after an error that a fresh connection may cure.
    store: Option<Store>,
    retention: Retention,
    upkeep_at: Instant,
    warnings: RateLimited,
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, config: &config::Sqlite, topics: &Topics, store: Store) -> Self {
        Self {
            queue,
            config: config.clone(),
            topics: topics.clone(),
            store: Some(store),
            retention: Retention { max_age: config.max_age, max_bytes: config.max_bytes },
            upkeep_at: Instant::now(),
            warnings: RateLimited::default(),
        }
    }

    /// Until the queue is closed.
    pub(super) fn run(self) {
        let _ended = Ended(Arc::clone(&self.queue));
        // Moved, so that the file is closed before the end is announced.
        let mut writer = self;
        loop {
            match writer.queue.next(writer.config.batch, writer.config.linger, writer.upkeep_at) {
                Next::Batch(records) => {
                    writer.write(&records);
                    writer.after_commit(&records);
                }
                Next::Idle => writer.upkeep(Chunk::IDLE),
                Next::Closed => break,
            }
        }
        writer.queue.abandon();
        if let Some(store) = &writer.store {
            store.fold_log();
        }
    }

    /// Commits a batch and settles it. A batch that cannot be committed is kept and tried again, so that
    /// a lock or a short outage loses nothing; after the last attempt it is settled as lost.
    fn write(&mut self, records: &[Record]) {
        let mut delays = RETRY_DELAYS_MS.into_iter().map(Duration::from_millis);
        loop {
            let error = match self.commit(records) {
                Ok(()) => {
                    self.queue.settle(Ok(()));
                    self.queue.set_health(Health::Healthy);
                    return;
                }
                Err(error) => error,
            };
            self.suffered(&error);
            let Some(delay) = delays.next() else {
                return self.queue.settle(Err(&DispatchError::Refused(error.to_string())));
            };
            if !self.queue.pause(delay) {
                return self.queue.settle(Err(&DispatchError::Closed));
            }
        }
    }

    /// All of `records`, or nothing. When it returns `Ok`, the records are synced to the disk.
    fn commit(&mut self, records: &[Record]) -> Result<(), OpenError> {
        let topics = self.topics.clone();
        let store = self.connected()?;
        store.write(|transaction| rows::insert(transaction, records, &topics))
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

    fn suffered(&mut self, error: &OpenError) {
        if !error.is_busy() {
            self.store = None;
        }
        if let Some(skipped) = self.warnings.permit() {
            tracing::warn!(%error, skipped, "sqlite_commit_failed");
        }
        self.queue.set_health(Health::Unhealthy(error.to_string()));
    }

    /// While records stream in, room is made after each commit that needs it, and the rest now and then.
    fn after_commit(&mut self, records: &[Record]) {
        let is_oversize = self.store.as_ref().is_some_and(|store| self.retention.is_oversize(store.connection()));
        if is_oversize || Instant::now() >= self.upkeep_at {
            self.upkeep(Chunk::to_outpace(records));
        }
    }

    /// One bounded step of whatever is due; the next one comes soon if there is more to do.
    fn upkeep(&mut self, chunk: Chunk) {
        let more = if matches!(self.queue.health(), Health::Healthy) { self.retain(chunk) } else { self.probe() };
        let pause = if more { PAUSE_BETWEEN_STEPS } else { UPKEEP_PERIOD };
        self.upkeep_at = Instant::now() + pause;
    }

    fn retain(&mut self, chunk: Chunk) -> bool {
        let Some(store) = &mut self.store else { return false };
        match self.retention.step(store.connection_mut(), chunk) {
            Ok(more) => more,
            Err(error) => {
                if let Some(skipped) = self.warnings.permit() {
                    tracing::warn!(%error, skipped, "sqlite_retention_failed");
                }
                false
            }
        }
    }

    /// Finds out by an empty commit whether records would be written again. Never more to do.
    fn probe(&mut self) -> bool {
        match self.connected().and_then(Store::probe) {
            Ok(()) => self.queue.set_health(Health::Healthy),
            Err(error) => self.suffered(&error),
        }
        false
    }
}

/// Says so when the writer ends, however it does.
struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_health(Health::Unhealthy("the writer's thread panicked".to_owned()));
        }
        self.0.end();
    }
}

/// Between the attempts at one batch; with the waits for a lock, about ten seconds in all.
const RETRY_DELAYS_MS: [u64; 11] = [50, 100, 200, 400, 800, 1000, 1000, 1000, 1000, 1000, 1000];

/// How often age, free pages and, after an error, the disk are looked at.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);

/// Room for records that came meanwhile.
const PAUSE_BETWEEN_STEPS: Duration = Duration::from_millis(2);

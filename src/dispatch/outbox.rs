//! The bound on what a dispatcher may hold, and the wait for room in it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts the records that a dispatcher has taken and not yet settled.
///
/// Full means back-pressure: the session keeps the record, stops reading from its vehicle and waits in
/// [`Outbox::room`].
#[derive(Debug)]
pub struct Outbox {
    limit: usize,
    used: AtomicUsize,
    /// Sessions that wait; lets `leave` skip the notification while nobody does.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Outbox {
    /// Room for `limit` records (at least one).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), used: AtomicUsize::new(0), waiting: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// Takes a place; false when there is none.
    #[must_use]
    pub fn enter(&self) -> bool {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < self.limit).then_some(used + 1))
            .is_ok()
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
        self.wake();
    }

    /// Gives a place back that was not used, because the client library had no room. Wakes nobody: those who
    /// wait would find the library just as full, and wake each other in a circle.
    pub fn withdraw(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }

    /// Wakes whoever waits for room, also when room appeared elsewhere (a client library's own queue).
    pub fn wake(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.freed.notify_one();
        }
    }

    /// Records taken and not settled.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The bound.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Waits until there may be room. A caller that then finds none waits again; the pause bounds how
    /// long a lost wake-up can last and how often a crowd tries.
    pub async fn room(&self) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let guard = Waiting(self);
        let _ = tokio::time::timeout(RETRY, self.freed.notified()).await;
        drop(guard);
    }
}

/// How long to wait for a wake-up before looking again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(250);

struct Waiting<'a>(&'a Outbox);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

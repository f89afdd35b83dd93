//! The end of the process as one value: told to everyone at once, with a deadline.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Cheap to clone; all clones are the same shutdown.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: crate::config::Shutdown,
    draining: AtomicBool,
    started: OnceLock<Instant>,
    notify: Notify,
}

impl Shutdown {
    /// Nothing is shutting down yet.
    #[must_use]
    pub fn new(config: crate::config::Shutdown) -> Self {
        Self(Arc::new(Inner {
            config,
            draining: AtomicBool::new(false),
            started: OnceLock::new(),
            notify: Notify::new(),
        }))
    }

    /// Starts the drain; later calls change nothing.
    pub fn drain(&self) {
        self.0.started.get_or_init(Instant::now);
        self.0.draining.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    /// Whether the drain has started. One atomic load.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Resolves when the drain starts. It need not be polled again before it wakes its task, so it
    /// costs a session nothing per record.
    pub async fn draining(self) {
        let notified = self.0.notify.notified();
        if !self.is_draining() {
            notified.await;
        }
    }

    /// When the process must be gone; `None` before the drain.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.0.started.get().map(|started| *started + self.0.config.deadline)
    }

    /// When one of the connections closes: connections are spread evenly over the drain time by
    /// `position`, so that they do not all come back at the same moment.
    #[must_use]
    pub fn close_at(&self, position: u32) -> Instant {
        let started = *self.0.started.get_or_init(Instant::now);
        started + self.0.config.drain.mul_f64(f64::from(position) / (f64::from(u32::MAX) + 1.0))
    }

    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline().map_or(self.0.config.deadline, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shutdown() -> Shutdown {
        Shutdown::new(crate::config::Shutdown { drain: Duration::from_secs(8), deadline: Duration::from_secs(20) })
    }

    #[test]
    fn connections_close_spread_over_the_drain_time() {
        let shutdown = shutdown();
        shutdown.drain();
        let first = shutdown.close_at(0);
        assert_eq!(shutdown.close_at(u32::MAX / 2 + 1) - first, Duration::from_secs(4));
        assert!(shutdown.close_at(u32::MAX) - first < Duration::from_secs(8));
    }

    #[tokio::test]
    async fn everyone_who_waits_is_told_even_when_the_drain_came_first() {
        let shutdown = shutdown();
        let waits = tokio::spawn(shutdown.clone().draining());
        tokio::task::yield_now().await;
        shutdown.drain();
        waits.await.unwrap();
        shutdown.clone().draining().await;
        assert!(shutdown.is_draining());
    }
}

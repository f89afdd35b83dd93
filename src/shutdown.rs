//! The end of the process as one value: told to everyone at once, with a deadline.
//!
//! ```text
//! signal ──── drain ────▶ goodbyes ──▶ sessions end ──── dispatchers deliver ────▶ deadline
//!        sessions close    the last     none reads       what they hold
//!        one by one        settle       any more
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

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
        self.started();
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

    /// When one of the connections closes: connections are spread evenly over the drain time by
    /// `position`, so that they do not all come back at the same moment.
    #[must_use]
    pub fn close_at(&self, position: u32) -> Instant {
        self.started() + self.0.config.drain.mul_f64(f64::from(position) / (f64::from(u32::MAX) + 1.0))
    }

    /// When the last session says goodbye, whether or not its records have settled.
    #[must_use]
    pub fn goodbyes_by(&self) -> Instant {
        self.after_drain(4)
    }

    /// When nobody waits for a peer's goodbye any more.
    #[must_use]
    pub fn closed_by(&self) -> Instant {
        self.after_drain(6)
    }

    /// When nobody waits any more for room for the record of a connection's end.
    #[must_use]
    pub fn announced_by(&self) -> Instant {
        self.after_drain(7)
    }

    /// When all sessions are over. The rest of the time is the dispatchers'.
    #[must_use]
    pub fn sessions_end(&self) -> Instant {
        self.after_drain(8)
    }

    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let deadline = self.0.config.deadline;
        let started = self.0.started.get();
        started.map_or(deadline, |started| (*started + deadline).saturating_duration_since(Instant::now()))
    }

    fn started(&self) -> Instant {
        *self.0.started.get_or_init(Instant::now)
    }

    /// When so many sixteenths of the time after the drain have passed, which is at least half of the deadline.
    fn after_drain(&self, sixteenths: u32) -> Instant {
        let config = self.0.config;
        self.started() + config.drain + config.deadline.saturating_sub(config.drain) * sixteenths / 16
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

    #[test]
    fn every_stage_has_its_time_and_the_dispatchers_have_what_is_left() {
        let shutdown = shutdown();
        shutdown.drain();
        let start = shutdown.close_at(0);
        assert_eq!(shutdown.goodbyes_by() - start, Duration::from_secs(11));
        assert_eq!(shutdown.sessions_end() - start, Duration::from_secs(14));
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

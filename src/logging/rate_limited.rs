//! Keeps a broken peer from filling the disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets a repeated error be logged once per second and counts what it held back.
#[derive(Debug)]
pub struct RateLimited {
    start: Instant,
    /// Milliseconds after `start` from which the next line may be written.
    next: AtomicU64,
    skipped: AtomicU64,
}

const PERIOD: Duration = Duration::from_secs(1);

impl Default for RateLimited {
    fn default() -> Self {
        Self { start: Instant::now(), next: AtomicU64::new(0), skipped: AtomicU64::new(0) }
    }
}

impl RateLimited {
    /// `Some(lines held back since the last one)` when a line may be written now.
    pub fn permit(&self) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let until = now.saturating_add(u64::try_from(PERIOD.as_millis()).unwrap_or(u64::MAX));
        if now >= next && self.next.compare_exchange(next, until, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.skipped.swap(0, Ordering::Relaxed));
        }
        self.skipped.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_one_line_per_period_and_counts_the_rest() {
        let limited = RateLimited::default();
        assert_eq!(limited.permit(), Some(0));
        assert_eq!(limited.permit(), None);
        assert_eq!(limited.permit(), None);
        limited.next.store(0, Ordering::Relaxed);
        assert_eq!(limited.permit(), Some(2));
    }
}

//! What all sessions together may keep in memory of what did not get further.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of unfinished messages, of records that a full dispatcher did not take, and of replies that a vehicle does not
/// read. Each connection has bounds of its own for them; a hundred thousand connections at their bounds would still be
/// too much. Touched only by sessions that keep something.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// One session's part, given back on drop.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// For `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// Bytes in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

impl Share {
    /// Of nothing yet.
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Makes it `bytes`; false, and unchanged, when there is not so much left.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        let used = &self.budget.used;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let fits = |used: usize| used.checked_add(more).filter(|used| *used <= self.budget.limit);
            if used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
                return false;
            }
        } else if bytes < self.bytes {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_together_never_exceed_the_limit_and_come_back() {
        let budget = Arc::new(Budget::new(100));
        let (mut first, mut second) = (Share::new(&budget), Share::new(&budget));
        assert!(first.resize(60) && second.resize(40));
        assert!(!second.resize(41) && !first.resize(usize::MAX));
        assert_eq!(budget.used(), 100);
        assert!(first.resize(10) && second.resize(90));
        drop(second);
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}

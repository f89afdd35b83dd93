//! When the next producer may be made.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest. Each producer costs the brokers connections and an id, and Kafka that is well again waits no longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Producers that deliver nothing follow each other more and more slowly.
pub(crate) struct Pauses {
    backoff: Backoff,
    /// Records delivered when the last producer was made.
    delivered: u64,
    tries: u32,
    until: Instant,
}

impl Pauses {
    pub(crate) fn new() -> Self {
        Self { backoff: Backoff::new(SHORTEST, LONGEST), delivered: 0, tries: 0, until: Instant::now() }
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Whether the last producer, too, was made without any delivery since the one before it.
    pub(crate) fn is_repeated(&self) -> bool {
        self.tries > 1
    }

    /// A producer is made; `delivered` records have been so far.
    pub(crate) fn step(&mut self, now: Instant, delivered: u64) {
        if delivered != self.delivered {
            self.backoff.reset();
            self.tries = 0;
        }
        self.delivered = delivered;
        self.until = now + self.backoff.delay();
        self.tries += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew_after_a_delivery() {
        let (mut pauses, now) = (Pauses::new(), Instant::now());
        assert!(pauses.is_over(now), "the first comes at once");
        for millis in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            pauses.step(now, 0);
            assert!(!pauses.is_over(now + Duration::from_millis(millis / 2)), "{millis}");
            assert!(pauses.is_over(now + Duration::from_millis(millis * 3 / 2)), "{millis}");
        }
        assert!(pauses.is_repeated());
        pauses.step(now, 1);
        assert!(pauses.is_over(now + SHORTEST * 3 / 2) && !pauses.is_repeated());
    }
}

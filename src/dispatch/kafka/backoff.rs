//! When the next producer may be made.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest. Each producer costs the brokers connections and an id, and Kafka that is well again waits no longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Producers that deliver nothing follow each other more and more slowly.
pub(super) struct Backoff {
    /// Records delivered when the last producer was made.
    delivered: u64,
    tries: u32,
    until: Instant,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { delivered: 0, tries: 0, until: Instant::now() }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Whether the last producer, too, was made without any delivery since the one before it.
    pub(super) fn is_repeated(&self) -> bool {
        self.tries > 1
    }

    /// A producer is made; `delivered` records have been so far.
    pub(super) fn step(&mut self, now: Instant, delivered: u64) {
        if delivered != self.delivered {
            self.tries = 0;
        }
        self.delivered = delivered;
        self.until = now + jittered(SHORTEST.saturating_mul(1 << self.tries.min(16)).min(LONGEST));
        self.tries += 1;
    }
}

/// Between half of it and all of it, so that the instances of a fleet do not come in step.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1000;
    pause / 2 + (pause / 2).mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_longest_and_start_anew_after_a_delivery() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        assert!(backoff.is_over(now), "the first comes at once");
        for longest in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            backoff.step(now, 0);
            assert!(!backoff.is_over(now + Duration::from_millis(longest / 2 - 1)), "{longest}");
            assert!(backoff.is_over(now + Duration::from_millis(longest)), "{longest}");
        }
        assert!(backoff.is_repeated());
        backoff.step(now, 1);
        assert!(backoff.is_over(now + SHORTEST) && !backoff.is_repeated());
    }
}

//! How long a vehicle waits before it connects again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);

/// Exponential back-off with jitter: attempt `n` waits between half of and all of `250 ms × 2ⁿ`, at
/// most the cap.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    /// `cap` bounds every delay; vehicles use 30 s.
    #[must_use]
    pub fn new(cap: Duration) -> Self {
        Self { next: FIRST.min(cap), cap }
    }

    /// The delay before the next attempt.
    pub fn delay(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.cap);
        full / 2 + (full / 2).mul_f64(rng.f64())
    }

    /// Starts over after a connection that worked.
    pub fn reset(&mut self) {
        self.next = FIRST.min(self.cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_within_jitter_and_stop_at_the_cap() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::from_secs(30));
        let mut full = FIRST;
        for _ in 0..20 {
            let delay = backoff.delay(&mut rng);
            assert!(delay >= full / 2 && delay <= full, "{delay:?} for {full:?}");
            full = (full * 2).min(Duration::from_secs(30));
        }
        assert_eq!(full, Duration::from_secs(30));
    }

    #[test]
    fn a_reset_starts_over() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut backoff = Backoff::new(Duration::from_secs(30));
        for _ in 0..5 {
            backoff.delay(&mut rng);
        }
        backoff.reset();
        assert!(backoff.delay(&mut rng) <= FIRST);
    }

    #[test]
    fn a_small_cap_bounds_the_first_delay_too() {
        let cap = Duration::from_millis(20);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut backoff = Backoff::new(cap);
        assert!((0..100).all(|_| backoff.delay(&mut rng) <= cap));
    }
}

//! How long to wait before another attempt.

use std::time::Duration;

/// Delays that double from one attempt to the next, each with up to a quarter more or less, so that many who failed at
/// the same moment do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts with `first`; no delay is longer than `most`, give or take that quarter.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// Before the next attempt.
    pub fn delay(&mut self) -> Duration {
        let delay = self.next.min(self.most);
        self.next = (delay * 2).min(self.most);
        let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
        #[expect(clippy::cast_precision_loss, reason = "a random number does not need to be exact")]
        let share = random as f64 / u64::MAX as f64;
        delay.mul_f64(0.75 + share / 2.0)
    }

    /// After a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_longest_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        for expected in [1, 2, 4, 5, 5] {
            let delay = backoff.delay();
            let expected = expected * SECOND;
            assert!(delay >= expected * 3 / 4 && delay <= expected * 5 / 4, "{delay:?} instead of {expected:?}");
        }
        backoff.reset();
        assert!(backoff.delay() <= SECOND * 5 / 4);
    }

    #[test]
    fn two_who_fail_together_do_not_come_back_together() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|_| Backoff::new(SECOND, SECOND).delay().as_micros()).collect();
        assert!(delays.len() > 50, "{delays:?}");
    }
}

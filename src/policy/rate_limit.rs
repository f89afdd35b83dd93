//! A sliding window over the messages of one connection.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::config::RateLimit;

/// Remembers when the last `messages` messages were accepted. A message is accepted when fewer are
/// remembered, or the oldest of them is at least `interval` old.
#[derive(Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    /// Ascending; never more than `limit.messages`.
    accepted: VecDeque<Instant>,
}

impl RateLimiter {
    /// An empty window.
    #[must_use]
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, accepted: VecDeque::new() }
    }

    /// Counts a message at `now`.
    ///
    /// # Errors
    /// The time from which the window has room; the message is then not counted.
    pub fn accept(&mut self, now: Instant) -> Result<(), Instant> {
        self.room(now)?;
        if self.accepted.len() == self.limit.messages {
            self.accepted.pop_front();
        }
        self.accepted.push_back(now);
        Ok(())
    }

    /// Whether a message at `now` would be accepted.
    ///
    /// # Errors
    /// The time from which the window has room.
    pub fn room(&self, now: Instant) -> Result<(), Instant> {
        if self.accepted.len() < self.limit.messages {
            return Ok(());
        }
        let free_at = self.accepted.front().map_or(now, |oldest| *oldest + self.limit.interval);
        if free_at <= now { Ok(()) } else { Err(free_at) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::OverLimit;

    fn limiter(messages: usize) -> RateLimiter {
        RateLimiter::new(RateLimit { messages, interval: Duration::from_secs(10), over_limit: OverLimit::Drop })
    }

    #[test]
    fn the_window_slides() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut limiter = limiter(2);
        assert_eq!(limiter.accept(at(0)), Ok(()));
        assert_eq!(limiter.accept(at(4)), Ok(()));
        assert_eq!(limiter.accept(at(5)), Err(at(10)));
        assert_eq!(limiter.accept(at(10)), Ok(()));
        assert_eq!(limiter.accept(at(11)), Err(at(14)));
        assert_eq!(limiter.accept(at(14)), Ok(()));
    }

    #[test]
    fn a_refused_message_is_not_counted() {
        let start = Instant::now();
        let mut limiter = limiter(1);
        assert_eq!(limiter.accept(start), Ok(()));
        for _ in 0..5 {
            assert!(limiter.accept(start + Duration::from_secs(9)).is_err());
        }
        assert_eq!(limiter.accept(start + Duration::from_secs(10)), Ok(()));
    }
}

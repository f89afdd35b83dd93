//! Whether records are delivered, judged by what becomes of them. Brokers that answer are not brokers that accept.

use std::time::{Duration, Instant};

/// What has become of records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    /// For a reason that is not in the record.
    pub(super) refused: u64,
    /// Taken and not settled.
    pub(super) waiting: usize,
}

/// Why nothing arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// Everything is refused.
    #[error("every record of the last {seconds} s was refused")]
    Refusing {
        /// Since the first of them.
        seconds: u64,
    },
    /// Nothing is settled at all.
    #[error("no record was confirmed for {seconds} s, and {waiting} wait")]
    Silent {
        /// Since the first of them was waiting.
        seconds: u64,
        /// How many.
        waiting: usize,
    },
}

/// Looks at the counts now and then.
pub(super) struct Standing {
    patience: Duration,
    delivered: u64,
    refused: u64,
    /// Since the last delivery: the first refusal, and the last.
    refusals: Option<(Instant, Instant)>,
    /// Since when something has been waiting without any delivery.
    waiting: Option<Instant>,
}

/// Without any record that could show it, a refusal this long ago says nothing about now.
const FORGET: Duration = Duration::from_secs(60);

impl Standing {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, delivered: 0, refused: 0, refusals: None, waiting: None }
    }

    /// The state of things at `now`.
    pub(super) fn observe(&mut self, now: Instant, counts: Counts) -> Option<Trouble> {
        if counts.delivered != self.delivered {
            (self.refusals, self.waiting) = (None, None);
        } else if counts.refused != self.refused {
            let first = self.refusals.map_or(now, |(first, _)| first);
            self.refusals = Some((first, now));
        }
        (self.delivered, self.refused) = (counts.delivered, counts.refused);
        let forget = FORGET.max(self.patience);
        self.refusals = self.refusals.filter(|(_, last)| now.duration_since(*last) < forget);
        self.waiting = (counts.waiting > 0).then(|| self.waiting.unwrap_or(now));
        self.trouble(now, counts.waiting)
    }

    fn trouble(&self, now: Instant, waiting: usize) -> Option<Trouble> {
        if let Some((first, last)) = self.refusals
            && last.duration_since(first) >= self.patience
        {
            return Some(Trouble::Refusing { seconds: now.duration_since(first).as_secs() });
        }
        let silent = now.duration_since(self.waiting?);
        (silent >= self.patience).then_some(Trouble::Silent { seconds: silent.as_secs(), waiting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observations at a second each: what is delivered and refused in it, and what waits at its end.
    struct Clock {
        standing: Standing,
        start: Instant,
        seconds: u64,
        counts: Counts,
    }

    impl Clock {
        fn new() -> Self {
            let standing = Standing::new(Duration::from_secs(10));
            Self { standing, start: Instant::now(), seconds: 0, counts: Counts::default() }
        }

        fn second(&mut self, delivered: u64, refused: u64, waiting: usize) -> Option<Trouble> {
            self.seconds += 1;
            self.counts = Counts {
                delivered: self.counts.delivered + delivered,
                refused: self.counts.refused + refused,
                waiting,
            };
            self.standing.observe(self.start + Duration::from_secs(self.seconds), self.counts)
        }

        fn seconds(&mut self, count: u64, delivered: u64, refused: u64, waiting: usize) -> Option<Trouble> {
            (0..count).map(|_| self.second(delivered, refused, waiting)).last().unwrap()
        }
    }

    #[test]
    fn nothing_to_deliver_is_no_trouble() {
        assert_eq!(Clock::new().seconds(100, 0, 0, 0), None);
    }

    #[test]
    fn refusals_and_no_delivery_are_trouble_after_a_while_and_until_a_delivery() {
        let mut clock = Clock::new();
        assert_eq!(clock.seconds(10, 0, 1, 0), None);
        assert_eq!(clock.seconds(1, 0, 1, 0), Some(Trouble::Refusing { seconds: 10 }));
        assert_eq!(clock.seconds(30, 0, 0, 0), Some(Trouble::Refusing { seconds: 40 }), "nothing shows otherwise");
        assert_eq!(clock.second(1, 1, 0), None);
    }

    #[test]
    fn refusals_between_deliveries_are_no_trouble() {
        let mut clock = Clock::new();
        for _ in 0..20 {
            assert_eq!(clock.seconds(9, 0, 5, 0), None);
            assert_eq!(clock.second(1, 0, 0), None);
        }
    }

    #[test]
    fn one_refusal_is_no_trouble_and_an_old_one_says_nothing() {
        let mut clock = Clock::new();
        assert_eq!(clock.second(0, 1, 0), None);
        assert_eq!(clock.seconds(60, 0, 0, 0), None);
        assert_eq!(clock.second(0, 1, 0), None, "long ago");
        assert!(clock.seconds(11, 0, 1, 0).is_some());
        assert_eq!(clock.seconds(60, 0, 0, 0), None, "no record came to show it");
    }

    #[test]
    fn records_that_wait_without_any_delivery_are_trouble() {
        let mut clock = Clock::new();
        assert_eq!(clock.seconds(10, 0, 0, 3), None);
        assert_eq!(clock.second(0, 0, 4), Some(Trouble::Silent { seconds: 10, waiting: 4 }));
        assert_eq!(clock.second(1, 0, 3), None);
        assert_eq!(clock.seconds(100, 1, 0, 3), None, "slow, but it goes on");
    }
}

//! The bound on a client's pings.

use std::time::Duration;

use tokio::time::Instant;

/// Counts a client's pings per second.
#[derive(Debug, Default)]
pub(super) struct Pings {
    second: Option<Instant>,
    count: u32,
}

impl Pings {
    pub(super) fn allow(&mut self, now: Instant, per_second: u32) -> bool {
        match self.second {
            Some(start) if now < start + Duration::from_secs(1) => self.count += 1,
            _ => (self.second, self.count) = (Some(now), 1),
        }
        self.count <= per_second
    }
}

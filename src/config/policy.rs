//! `rate_limit` and `connectivity_from_vehicles`: what is accepted from vehicles.

use std::time::Duration;

use super::error::Problems;
use super::section::Section;

/// The keys about what vehicles may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilePolicy {
    /// Messages per connection and interval.
    pub rate_limit: Option<FileRateLimit>,
    /// Vehicles may send topic `connectivity` themselves (ours).
    pub connectivity_from_vehicles: Option<bool>,
}

/// `rate_limit`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRateLimit {
    /// Off by default.
    pub enabled: Option<bool>,
    /// Messages per interval.
    pub message_limit: Option<i64>,
    /// The interval in seconds.
    pub message_interval_time: Option<i64>,
    /// The interval in nanoseconds, the reference server's hidden key; it wins there and here.
    pub message_interval_nanos: Option<i64>,
    /// `back_pressure` or `drop` (ours).
    pub over_limit: Option<String>,
}

/// What is accepted from vehicles.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Messages per connection and interval; `None`: unlimited.
    pub rate_limit: Option<RateLimit>,
    /// Vehicles may send topic `connectivity` themselves.
    pub connectivity_from_vehicles: bool,
}

/// A sliding window over the messages of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Messages per interval.
    pub messages: usize,
    /// The window.
    pub interval: Duration,
    /// What happens to a message over the limit.
    pub over_limit: OverLimit,
}

/// What happens to a message over the rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    /// It waits: nothing is read from the vehicle until the window has room.
    BackPressure,
    /// It is dropped, unacked and counted.
    Drop,
}

impl FilePolicy {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            rate_limit: section.object("rate_limit", FileRateLimit::read),
            connectivity_from_vehicles: section.value("connectivity_from_vehicles"),
        }
    }
}

impl FileRateLimit {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            enabled: section.value("enabled"),
            message_limit: section.value("message_limit"),
            message_interval_time: section.value("message_interval_time"),
            message_interval_nanos: section.hidden_value("MessageIntervalTimeSecond"),
            over_limit: section.value("over_limit"),
        }
    }
}

pub(super) fn resolve(file: &FilePolicy, problems: &mut Problems) -> Policy {
    Policy {
        rate_limit: file.rate_limit.as_ref().and_then(|limit| rate_limit(limit, problems)),
        connectivity_from_vehicles: file.connectivity_from_vehicles.unwrap_or(false),
    }
}

fn rate_limit(limit: &FileRateLimit, problems: &mut Problems) -> Option<RateLimit> {
    let over_limit = match limit.over_limit.as_deref() {
        None | Some("back_pressure") => OverLimit::BackPressure,
        Some("drop") => OverLimit::Drop,
        Some(other) => {
            problems.not_allowed("rate_limit.over_limit", other, "back_pressure, drop");
            OverLimit::BackPressure
        }
    };
    if limit.enabled != Some(true) {
        return None;
    }
    let messages = problems.number("rate_limit.message_limit", limit.message_limit.or(Some(0)), 1..=1_000_000, 0);
    let seconds: u64 = problems.number("rate_limit.message_interval_time", limit.message_interval_time, 1..=86_400, 60);
    let nanos: u64 = problems.number(
        "rate_limit.MessageIntervalTimeSecond",
        limit.message_interval_nanos,
        1..=86_400_000_000_000,
        0,
    );
    if (1..=86_400).contains(&nanos) {
        let advice = format!(
            "the integer {nanos} means {nanos} nanoseconds, whatever the name says; for seconds write \
             \"message_interval_time\": {nanos}"
        );
        problems.advise("rate_limit.MessageIntervalTimeSecond", advice);
    }
    let interval = if nanos > 0 { Duration::from_nanos(nanos) } else { Duration::from_secs(seconds) };
    Some(RateLimit { messages, interval, over_limit })
}

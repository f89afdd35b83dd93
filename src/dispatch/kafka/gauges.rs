//! What the client library holds.

use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};
use rdkafka::producer::Producer as _;

use super::Producer;
use super::shared::Shared;

const EVERY: Duration = Duration::from_secs(5);

/// The parts of the gauge `kafka_produce_queue_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSize {
    /// Both of the others.
    pub total: usize,
    /// Delivery reports, errors and log lines that wait to be handled.
    pub events: usize,
    /// Records taken and not settled.
    pub buffer: usize,
}

impl QueueSize {
    /// `producer`: `None` while it is being replaced.
    pub(super) fn of(producer: Option<&Producer>, shared: &Shared) -> Self {
        let buffer = shared.outbox.used().records;
        // librdkafka counts messages and events together.
        let held = producer.map_or(0, |producer| usize::try_from(producer.in_flight_count()).unwrap_or(0));
        let events = held.saturating_sub(buffer);
        Self { total: buffer + events, events, buffer }
    }
}

pub(super) struct Gauges {
    total: Gauge,
    events: Gauge,
    buffer: Gauge,
    sampled: Option<Instant>,
}

impl Gauges {
    pub(super) fn register() -> Self {
        let part = |part: &'static str| gauge!("kafka_produce_queue_size", "type" => part);
        Self { total: part("total"), events: part("events"), buffer: part("buffer"), sampled: None }
    }

    pub(super) fn sample(&mut self, producer: Option<&Producer>, shared: &Shared) {
        if self.sampled.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        let size = QueueSize::of(producer, shared);
        for (gauge, value) in [(&self.total, size.total), (&self.events, size.events), (&self.buffer, size.buffer)] {
            gauge.set(u32::try_from(value).unwrap_or(u32::MAX));
        }
        self.sampled = Some(Instant::now());
    }
}

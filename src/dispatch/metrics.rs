//! Per-dispatcher metrics, counted by the receipts and nowhere else.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::DispatchError;
use crate::config::DispatcherName;
use crate::logging::RateLimited;
use crate::record::{RecordKind, Topics};

/// Pre-labelled handles of one dispatcher. Names are the reference server's.
pub struct DispatcherMetrics {
    dispatcher: DispatcherName,
    kinds: Box<[PerKind]>,
    errors: Counter,
    dropped: Counter,
    skipped: Counter,
    delivery_seconds: Histogram,
    error_log: RateLimited,
}

struct PerKind {
    topic: Box<str>,
    handed: Counter,
    handed_bytes: Counter,
    delivered: Counter,
    delivered_bytes: Counter,
    reliable_ack: Counter,
    acks: Counter,
    misses: Counter,
    errors: Option<Counter>,
}

impl std::fmt::Debug for DispatcherMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DispatcherMetrics").field("dispatcher", &self.dispatcher).finish_non_exhaustive()
    }
}

impl DispatcherMetrics {
    /// Registers the dispatcher's families with the current recorder.
    #[must_use]
    pub fn register(dispatcher: DispatcherName, topics: &Topics) -> Self {
        let name = dispatcher.label();
        // The reference counts Kafka in two steps, the others in one.
        let (handed, delivered) = match dispatcher {
            DispatcherName::Kafka => ("produce", "produce_ack"),
            // There, `publish` counts messages, of which a record makes several; the dispatcher counts them itself.
            DispatcherName::Mqtt | DispatcherName::Redis | DispatcherName::Zmq => ("handed", "delivered"),
            _ => ("handed", "publish"),
        };
        let kinds = topics.table(|_, topic| {
            let family = |suffix: &str| counter!(format!("{name}_{suffix}"), "record_type" => topic.to_owned());
            let shared =
                |family: &'static str| counter!(family, "record_type" => topic.to_owned(), "dispatcher" => name);
            PerKind {
                topic: topic.into(),
                handed: family(&format!("{handed}_total")),
                handed_bytes: family(&format!("{handed}_total_bytes")),
                delivered: family(&format!("{delivered}_total")),
                delivered_bytes: family(&format!("{delivered}_total_bytes")),
                reliable_ack: family("reliable_ack_total"),
                acks: shared("reliable_ack"),
                misses: shared("reliable_ack_miss"),
                // Kafka's error counter has no labels.
                errors: (dispatcher != DispatcherName::Kafka).then(|| family("err")),
            }
        });
        Self {
            dispatcher,
            kinds,
            errors: match dispatcher {
                DispatcherName::Kafka => counter!("kafka_err"),
                _ => Counter::noop(),
            },
            dropped: counter!("dispatcher_dropped_receipts_total", "dispatcher" => name),
            skipped: counter!("dispatcher_full_drops_total", "dispatcher" => name),
            delivery_seconds: histogram!("delivery_seconds", "dispatcher" => name),
            error_log: RateLimited::default(),
        }
    }

    /// A dispatcher has taken a record.
    pub(super) fn handed(&self, kind: RecordKind, bytes: usize) {
        let handles = &self.kinds[kind.index()];
        handles.handed.increment(1);
        handles.handed_bytes.increment(bytes as u64);
    }

    pub(super) fn delivered(&self, kind: RecordKind, bytes: usize, took: Duration) {
        let handles = &self.kinds[kind.index()];
        handles.delivered.increment(1);
        handles.delivered_bytes.increment(bytes as u64);
        self.delivery_seconds.record(took.as_secs_f64());
    }

    pub(super) fn failed(&self, kind: RecordKind, error: &DispatchError) {
        let handles = &self.kinds[kind.index()];
        self.errors.increment(1);
        if let Some(errors) = &handles.errors {
            errors.increment(1);
        }
        if let Some(skipped) = self.error_log.permit() {
            let dispatcher = self.dispatcher.label();
            tracing::error!(dispatcher, record_type = %handles.topic, %error, skipped, "{dispatcher}_err");
        }
    }

    pub(super) fn dropped(&self, kind: RecordKind) {
        self.dropped.increment(1);
        self.failed(kind, &DispatchError::Closed);
    }

    /// A record for which there was no room.
    pub(super) fn skipped(&self) {
        self.skipped.increment(1);
        if let Some(skipped) = self.error_log.permit() {
            tracing::warn!(dispatcher = self.dispatcher.label(), skipped, "dispatcher_full_record_dropped");
        }
    }

    pub(super) fn ack_returned(&self, kind: RecordKind, reached: bool) {
        let handles = &self.kinds[kind.index()];
        handles.reliable_ack.increment(1);
        if reached { handles.acks.increment(1) } else { handles.misses.increment(1) }
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn has_help_for_every_family_of_every_dispatcher() {
        let metrics = Metrics::default();
        let topics = Topics::new(["V"]);
        metrics.scope(|| {
            DispatcherName::VARIANTS.iter().for_each(|name| drop(DispatcherMetrics::register(*name, &topics)));
        });
        let text = metrics.render();
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for family in families {
            assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        }
    }
}

//! A fresh client, to find out whether Kafka would serve one: at start, and while the producer at hand reaches nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::{Metadata, MetadataTopic};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka::statistics::Statistics;

use crate::logging::RateLimited;

/// What a fresh client did not get.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Obstacle {
    /// librdkafka does not take the properties.
    #[error("{0}")]
    Client(KafkaError),
    /// A producer id, and it never will.
    #[error("{0}; {REMEDY}")]
    NoId(String),
    /// A producer id, in time.
    #[error("a broker answers, but gave no producer id: {0}; if it never does, {REMEDY}")]
    NoIdYet(String),
    /// An answer.
    #[error("{0}")]
    Unreachable(String),
}

/// For brokers that give no producer ids.
pub(crate) const REMEDY: &str =
    "let the user write idempotently (ACL IdempotentWrite), or set kafka.enable.idempotence to false";

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// A look may wait so long for an answer. What librdkafka reports meanwhile is handled afterwards.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Waits until a broker has answered a fresh client, and has given it a producer id if it is to be `idempotent`.
/// Blocks for `timeout` at most, and a little.
pub(crate) fn reach(client: &ClientConfig, idempotent: bool, timeout: Duration) -> Result<(), Obstacle> {
    let deadline = Instant::now() + timeout;
    let mut client = client.clone();
    // The only place where librdkafka says that it has an id.
    client.set("statistics.interval.ms", "100");
    let probe: BaseProducer<Witness> = client.create_with_context(Witness::default()).map_err(Obstacle::Client)?;
    let witness = probe.context();
    let mut answered = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        answered = answered || ask(&probe, left.min(ANSWER_WITHIN)).is_some();
        probe.poll(LOOK);
        if let Some((_, reason)) = probe.client().fatal_error() {
            return Err(Obstacle::NoId(reason));
        }
        if answered && (!idempotent || witness.has_id.load(Ordering::Relaxed)) {
            return Ok(());
        }
        if left.is_zero() {
            let last = witness.last_problem().unwrap_or_else(|| "no answer".to_owned());
            return Err(if answered { Obstacle::NoIdYet(last) } else { Obstacle::Unreachable(last) });
        }
    }
}

/// What a broker answers that knows of brokers. One that its controller has fenced answers and knows none.
pub(crate) fn ask<C: ProducerContext>(producer: &BaseProducer<C>, timeout: Duration) -> Option<Metadata> {
    producer.client().fetch_metadata(None, timeout).ok().filter(|metadata| !metadata.brokers().is_empty())
}

/// The first partition of a topic that begins with `prefix` that takes no records, or perhaps none.
pub(crate) fn ailing(metadata: &Metadata, prefix: &str) -> Option<String> {
    let ours = || metadata.topics().iter().filter(|topic| topic.name().starts_with(prefix));
    let without = |topic: &MetadataTopic| {
        let error = topic.error().map(|error| format!("topic {}: {}", topic.name(), RDKafkaErrorCode::from(error)));
        let leaderless = topic.partitions().iter().find(|partition| partition.leader() < 0);
        error.or_else(|| {
            leaderless.map(|found| format!("topic {}: partition {} has no leader", topic.name(), found.id()))
        })
    };
    let behind = |topic: &MetadataTopic| {
        let found = topic.partitions().iter().find(|found| found.isr().len() < found.replicas().len())?;
        let (in_sync, all) = (found.isr().len(), found.replicas().len());
        Some(format!("topic {}: of partition {}, {in_sync} of {all} replicas are in sync", topic.name(), found.id()))
    };
    ours().find_map(without).or_else(|| ours().find_map(behind))
}

/// What the client said.
#[derive(Default)]
struct Witness {
    has_id: AtomicBool,
    last_problem: Mutex<Option<String>>,
    errors: RateLimited,
}

impl Witness {
    fn last_problem(&self) -> Option<String> {
        self.last_problem.lock().clone()
    }

    fn note(&self, problem: String) {
        *self.last_problem.lock() = Some(problem);
    }
}

impl ClientContext for Witness {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(skipped) = self.errors.permit() {
            tracing::warn!(%error, reason, skipped, "kafka_probe_error");
        }
        match error.rdkafka_error_code() {
            // The reasons come before it.
            Some(RDKafkaErrorCode::AllBrokersDown) => {}
            Some(code) => self.note(format!("{reason} ({code})")),
            None => self.note(reason.to_owned()),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // A refusal that librdkafka takes for passing is only ever logged.
        if facility == "GETPID" && !matches!(level, RDKafkaLogLevel::Debug) {
            self.note(line.to_owned());
        }
        tracing::debug!(facility, line, "librdkafka");
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.eos.is_some_and(|eos| eos.idemp_state == "Assigned") {
            self.has_id.store(true, Ordering::Relaxed);
        }
    }
}

impl ProducerContext for Witness {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

//! The clients' properties, and the topic: made if it is missing, refused if it would forget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use crate::config::{Kafka, kafka_values};
use crate::grants::store::error::OpenError;
use crate::kafka::{self, Quiet};

/// Reads the topic.
pub(super) type Reader = BaseConsumer<Quiet>;

/// Copies of the topic, where there are enough brokers.
const COPIES: usize = 3;
/// Between two attempts to reach a broker.
const RETRY: Duration = Duration::from_millis(100);

/// The operator's connection properties without those that a promise of this store depends on.
fn connection(config: &Kafka) -> ClientConfig {
    /// Of the dispatcher's producer.
    const OTHERS: [&str; 23] = [
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "transactional.id",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "retries",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "delivery.report.only.error",
        "queuing.strategy",
        "linger.ms",
        "queue.buffering.max.ms",
        "queue.buffering.max.messages",
        "queue.buffering.max.kbytes",
        "test.mock.num.brokers",
        "partitioner",
        "group.id",
        "enable.auto.commit",
        "auto.offset.reset",
        "statistics.interval.ms",
    ];
    kafka::config("fleet-telemetry-permissions", &config.properties, &OTHERS)
}

/// A change is confirmed by all replicas in sync, in order, and soon or not at all; once, unless the operator's
/// brokers give no producer ids.
pub(super) fn producer(config: &Kafka) -> ClientConfig {
    let mut client = connection(config);
    client.set("acks", "all");
    let no_ids = kafka_values::flag(&config.properties, "enable.idempotence") == Some(false);
    client.set("enable.idempotence", if no_ids { "false" } else { "true" });
    // One request at a time: the client library infers from a later one that an earlier one has arrived.
    client.set("max.in.flight", "1");
    client.set("linger.ms", "0");
    client.set("message.timeout.ms", CONFIRM_WITHIN.as_millis().to_string());
    client
}

/// After that, a change that no broker has confirmed is reported as failed.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn consumer(config: &Kafka) -> ClientConfig {
    let mut client = connection(config);
    // Never joined: partitions are assigned, and every instance reads all of them.
    client.set("group.id", "fleet-telemetry-permissions");
    client.set("enable.auto.commit", "false");
    client.set("auto.offset.reset", "earliest");
    client.set("enable.partition.eof", "true");
    client.set("allow.auto.create.topics", "false");
    client
}

/// The number of partitions of `topic`, which is made if it is missing.
pub(super) async fn prepare(topic: &str, config: &Kafka, consumer: Arc<Reader>) -> Result<usize, OpenError> {
    let deadline = Instant::now() + config.connect_timeout;
    let admin: AdminClient<Quiet> =
        connection(config).create_with_context(Quiet).map_err(|error| OpenError::Misconfigured(error.to_string()))?;
    let look = |consumer: Arc<Reader>, deadline: Instant| {
        let topic = topic.to_owned();
        async move {
            let looked = tokio::task::spawn_blocking(move || partitions(&consumer, &topic, deadline)).await;
            looked.unwrap_or_else(|_| Err("the look at it was cut short".to_owned()))
        }
    };
    let unavailable = |problem: String| OpenError::Unavailable(format!("topic {topic}: {problem}"));
    match look(Arc::clone(&consumer), deadline).await.map_err(unavailable)? {
        Found::Partitions(count) => {
            check_cleanup(&admin, topic).await?;
            return Ok(count);
        }
        Found::Missing { brokers } => create(&admin, topic, brokers, deadline).await?,
    }
    // It is there; not every broker may know yet.
    let deadline = Instant::now() + CONFIRM_WITHIN;
    while Instant::now() < deadline {
        if let Found::Partitions(count) = look(Arc::clone(&consumer), deadline).await.map_err(unavailable)? {
            return Ok(count);
        }
        tokio::time::sleep(RETRY).await;
    }
    Err(unavailable("does not show up after it was made".to_owned()))
}

enum Found {
    Partitions(usize),
    Missing { brokers: usize },
}

/// Asks until a broker answers. Blocks.
fn partitions(consumer: &Reader, topic: &str, deadline: Instant) -> Result<Found, String> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match consumer.fetch_metadata(Some(topic), left.max(RETRY)) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                let count = found.filter(|found| found.error().is_none()).map_or(0, |found| found.partitions().len());
                if count > 0 {
                    return Ok(Found::Partitions(count));
                }
                let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
                match error {
                    None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                        return Ok(Found::Missing { brokers: metadata.brokers().len() });
                    }
                    Some(RDKafkaErrorCode::LeaderNotAvailable) if left > RETRY => {}
                    Some(error) => return Err(error.to_string()),
                }
            }
            Err(error) if left <= RETRY => return Err(format!("no broker answers: {error}")),
            Err(_) => {}
        }
        std::thread::sleep(RETRY);
    }
}

/// Tries until `deadline`: a cluster that is just starting answers late or not at all.
async fn create(admin: &AdminClient<Quiet>, topic: &str, brokers: usize, deadline: Instant) -> Result<(), OpenError> {
    let copies = brokers.clamp(1, COPIES);
    loop {
        match try_create(admin, topic, copies).await {
            Ok(()) => {
                tracing::info!(topic, copies, "permission_topic_made");
                return Ok(());
            }
            Err(problem) if Instant::now() >= deadline => {
                return Err(OpenError::Unavailable(format!("topic {topic}: cannot be made: {problem}")));
            }
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn try_create(admin: &AdminClient<Quiet>, topic: &str, copies: usize) -> Result<(), String> {
    let replication = TopicReplication::Fixed(i32::try_from(copies).expect("at most three"));
    // One partition: then the log has one order. Entries are small and change seldom.
    let mut wanted = NewTopic::new(topic, 1, replication).set("cleanup.policy", "compact");
    if copies == COPIES {
        wanted = wanted.set("min.insync.replicas", "2");
    }
    let answers = admin.create_topics([&wanted], &AdminOptions::new().request_timeout(Some(CONFIRM_WITHIN))).await;
    match answers.map_err(|error| error.to_string())?.into_iter().next() {
        // Another instance, or an attempt whose answer got lost, may have been first.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, error))) => Err(error.to_string()),
        None => Err("no answer".to_owned()),
    }
}

/// With another policy than compaction the topic would forget consents, and refusals.
async fn check_cleanup(admin: &AdminClient<Quiet>, topic: &str) -> Result<(), OpenError> {
    let resource = ResourceSpecifier::Topic(topic);
    let options = AdminOptions::new().request_timeout(Some(CONFIRM_WITHIN));
    let described = match admin.describe_configs([&resource], &options).await {
        Ok(mut answers) if !answers.is_empty() => answers.remove(0).map_err(|error| error.to_string()),
        Ok(_) => Err("no answer".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match described {
        Ok(described) => {
            let policy = described.get("cleanup.policy").and_then(|entry| entry.value.clone()).unwrap_or_default();
            if policy == "compact" {
                return Ok(());
            }
            Err(OpenError::Misconfigured(format!(
                "topic {topic}: cleanup.policy is {policy:?}, so it would forget grants; it must be \"compact\""
            )))
        }
        // Describing may not be allowed; reading and writing is what counts.
        Err(error) => {
            tracing::warn!(topic, error, "permission_topic_not_checked");
            Ok(())
        }
    }
}

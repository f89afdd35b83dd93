//! A client: its properties, what it says, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext, PurgeConfig};

use crate::config::{kafka_properties, kafka_values};

pub(crate) type Properties = BTreeMap<String, String>;

/// librdkafka wants the first to be no less than the second.
const RECONNECT: [&str; 2] = ["reconnect.backoff.max.ms", "reconnect.backoff.ms"];
/// librdkafka's default would be the greater part of most outages.
const RECONNECT_BACKOFF_MS: &str = "1000";
/// Purged messages report back at once; this only bounds a defect.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The operator's properties, but for those `left_out` and the Go client's, over what is ours for every client. `id`
/// is its `client.id`, unless the operator names one.
pub(crate) fn config(id: &str, properties: &Properties, left_out: &[&str]) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", id);
    if kafka_properties::read(properties, &RECONNECT).is_none() {
        client.set(RECONNECT[0], RECONNECT_BACKOFF_MS);
    }
    let passes = |key: &str| !key.starts_with("go.") && !left_out.contains(&key);
    for (key, value) in properties.iter().filter(|(key, _)| passes(key)) {
        client.set(key, value);
    }
    client.set_log_level(log_level(properties));
    client
}

/// How long a client pauses between two attempts to connect, at most.
pub(crate) fn reconnect_backoff(client: &ClientConfig) -> Duration {
    /// librdkafka's default.
    const DEFAULT_MS: i32 = 10_000;
    let longest = client.get(RECONNECT[0]).and_then(kafka_values::integer).unwrap_or(DEFAULT_MS);
    Duration::from_millis(u64::try_from(longest).unwrap_or(0))
}

/// What librdkafka has against the configuration, naming the property. Values are left out: they may be secrets.
pub(crate) fn blame(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => format!("property {key}: {reason}"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Whether a record comes back because of its producer, not because a broker will not have it: it was taken away
/// from a producer that is replaced, or the numbers by which broker and producer avoid copies do not fit any more.
/// A new producer has new numbers.
pub(crate) fn is_returned(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        DuplicateSequenceNumber, Fatal, Fenced, Inconsistent, InvalidProducerEpoch, OutOfOrderSequenceNumber,
        ProducerFenced, PurgeInflight, PurgeQueue, UnknownProducerId,
    };
    let Some(code) = error.rdkafka_error_code() else { return false };
    matches!(
        code,
        PurgeQueue
            | PurgeInflight
            | Fatal
            | Fenced
            | Inconsistent
            | OutOfOrderSequenceNumber
            | DuplicateSequenceNumber
            | UnknownProducerId
            | InvalidProducerEpoch
            | ProducerFenced
    )
}

/// Makes the producer report on all that it holds.
pub(crate) fn purge<C: ProducerContext>(producer: &BaseProducer<C>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    if let Err(error) = producer.flush(PURGE_TIMEOUT) {
        tracing::error!(%error, "kafka_purge_incomplete");
    }
}

/// A client that has lost Kafka may take its time to end.
pub(crate) fn drop_elsewhere<T: Send + 'static>(client: T) {
    let thread = std::thread::Builder::new().name("kafka-end".to_owned());
    // Without a thread it is dropped here.
    let _ = thread.spawn(move || drop(client));
}

/// What goes wrong shows in what becomes of its work, which is where it is reported; clients repeat themselves.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(?level, facility, line, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka_client_error");
    }
}

impl ConsumerContext for Quiet {}

/// librdkafka's own rule: `debug` implies the most detailed level, else what `log_level` (syslog) says, else info.
fn log_level(properties: &Properties) -> RDKafkaLogLevel {
    if properties.contains_key("debug") {
        return RDKafkaLogLevel::Debug;
    }
    match properties.get("log_level").map(String::as_str) {
        Some("0") => RDKafkaLogLevel::Emerg,
        Some("1") => RDKafkaLogLevel::Alert,
        Some("2") => RDKafkaLogLevel::Critical,
        Some("3") => RDKafkaLogLevel::Error,
        Some("4") => RDKafkaLogLevel::Warning,
        Some("5") => RDKafkaLogLevel::Notice,
        Some("7") => RDKafkaLogLevel::Debug,
        _ => RDKafkaLogLevel::Info,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(given: &[(&str, &str)]) -> Properties {
        given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_operators_properties_pass_but_for_the_go_clients_and_those_that_are_left_out() {
        let given = properties(&[("go.events.channel.size", "10"), ("acks", "1"), ("socket.timeout.ms", "5000")]);
        let client = config("test", &given, &["acks"]);
        assert_eq!(client.get("client.id"), Some("test"));
        assert_eq!(client.get("socket.timeout.ms"), Some("5000"));
        assert_eq!((client.get("acks"), client.get("go.events.channel.size")), (None, None));
        let named = config("test", &properties(&[("client.id", "theirs")]), &[]);
        assert_eq!(named.get("client.id"), Some("theirs"));
    }

    #[test]
    fn knows_how_long_librdkafka_pauses_before_it_connects_again() {
        for (given, pause) in [
            (&[][..], 1000),
            (&[("reconnect.backoff.ms", "50")], 10_000),
            (&[("reconnect.backoff.ms", "50"), ("reconnect.backoff.max.ms", "70")], 70),
        ] {
            let client = config("test", &properties(given), &[]);
            assert_eq!(reconnect_backoff(&client), Duration::from_millis(pause), "{given:?}");
        }
    }
}

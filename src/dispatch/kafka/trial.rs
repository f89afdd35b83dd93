//! Whether librdkafka takes the section, found out without a broker.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::properties;
use crate::config;
use crate::config::kafka_properties;
use crate::kafka;

/// Everything that keeps a producer from being made: each property by itself, then all of them together.
pub(crate) fn problems(config: &config::Kafka) -> Vec<String> {
    let each: Vec<_> = config.properties.iter().filter_map(|(key, value)| problem(key, value)).collect();
    if each.is_empty() { together(config).into_iter().collect() } else { each }
}

/// Without the value, which may be a password under a misspelt name.
fn problem(key: &str, value: &str) -> Option<String> {
    let mut one = ClientConfig::new();
    one.set(key, value);
    match one.create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, problem, ..)) => Some(format!("kafka.{key}: {problem}")),
        Err(error) => Some(format!("kafka.{key}: {error}")),
    }
}

/// Makes a producer that knows no broker, so nobody is contacted.
fn together(config: &config::Kafka) -> Option<String> {
    let trial = properties::client_config(config).and_then(|(mut client, _)| {
        for name in kafka_properties::SERVERS {
            client.remove(name);
        }
        client.create_with_context::<_, BaseProducer<_>>(Silent).map_err(|error| kafka::blame(&error))
    });
    trial.err().map(|problem| format!("kafka: {problem}"))
}

/// librdkafka would complain that there is no broker.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

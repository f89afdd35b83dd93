//! Changes as records of a Kafka topic.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use super::{AuditEntry, json};
use crate::logging::AUDIT_TARGET;

/// How long the last records get to be delivered when the topic is closed.
const FLUSH: Duration = Duration::from_secs(5);

/// One property under its two names.
const EXPIRY: [&str; 2] = ["message.timeout.ms", "delivery.timeout.ms"];

/// A topic that changes are written to. Dropped, it delivers what is waiting.
pub struct Topic {
    name: String,
    producer: ThreadedProducer<Reports>,
}

/// Why there is no topic.
#[derive(Debug, thiserror::Error)]
#[error("permissions.audit_topic: {reason}")]
pub struct TopicError {
    reason: String,
}

impl Topic {
    /// A producer of its own with the operator's librdkafka properties. It connects in the background.
    ///
    /// # Errors
    /// When librdkafka does not take a property; its value is not shown, since it may be a password.
    pub fn open<'a>(
        name: &str,
        properties: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, TopicError> {
        let mut client = ClientConfig::new();
        client.set("client.id", "fleet-telemetry-audit");
        let ours = |key: &str| key.starts_with("go.") || EXPIRY.contains(&key);
        for (key, value) in properties.into_iter().filter(|(key, _)| !ours(key)) {
            client.set(key, value);
        }
        // A record of an audit waits for its broker as long as the process lives.
        client.set(EXPIRY[0], "0");
        let producer = client.create_with_context(Reports).map_err(|error| TopicError { reason: blame(&error) })?;
        Ok(Self { name: name.to_owned(), producer })
    }

    /// Hands one change over and returns at once; what cannot be delivered is logged.
    pub fn write(&self, entry: &AuditEntry) {
        let value = json(entry);
        let record = BaseRecord::to(&self.name).key(&entry.vin).payload(&value);
        if let Err((error, _)) = self.producer.send(record) {
            not_delivered(&self.name, entry.vin.as_bytes(), &error);
        }
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        if let Err(error) = self.producer.flush(FLUSH) {
            let left = self.producer.in_flight_count();
            tracing::error!(target: AUDIT_TARGET, topic = self.name, left, %error, "audit_records_not_delivered");
        }
    }
}

/// Delivery reports, on the producer's own thread.
struct Reports;

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            not_delivered(message.topic(), message.key().unwrap_or_default(), error);
        }
    }
}

/// The change itself is in the log line `permission_changed`.
fn not_delivered(topic: &str, vin: &[u8], error: &KafkaError) {
    let vin = crate::logging::escape(vin, 64);
    tracing::error!(target: AUDIT_TARGET, topic, %vin, %error, "audit_record_not_delivered");
}

fn blame(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, key, _) => format!("property {key}: {reason}"),
        KafkaError::ClientCreation(reason) => reason.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn open(key: &str, value: &str) -> Result<Topic, TopicError> {
        let mut properties = BTreeMap::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
        properties.insert(key.to_owned(), value.to_owned());
        Topic::open("audit", &properties)
    }

    #[test]
    fn a_bad_property_is_named_without_its_value() {
        let error = open("no.such.property", "secret").unwrap_err().to_string();
        assert!(error.starts_with("permissions.audit_topic: property no.such.property"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn properties_of_the_go_client_are_left_out() {
        assert!(open("go.events.channel.size", "10").is_ok());
    }
}

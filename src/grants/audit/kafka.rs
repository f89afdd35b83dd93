//! Changes as records of a Kafka topic.
//!
//! A producer can end in ways that only a new one mends (`docs/adr/0018-replacing-a-producer.md`). The keeper notices,
//! and what the old one held goes out through the new one, in the order of the changes. A record may then be in the
//! topic twice: VIN, scope and version say so.

mod keeper;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use self::keeper::Keeper;
use super::entry::{AuditEntry, json};
use crate::config::kafka_values;
use crate::kafka::{self, Properties, Quiet};
use crate::logging::AUDIT_TARGET;

/// How long the last records get to be delivered when the topic is closed.
const FLUSH: Duration = Duration::from_secs(5);

/// One property under its two names.
const EXPIRY: [&str; 2] = ["message.timeout.ms", "delivery.timeout.ms"];

/// A topic that changes are written to. Dropped, it delivers what is waiting.
pub struct Topic {
    line: Arc<Line>,
    /// The thread that polls the producer and replaces it.
    keeper: Option<JoinHandle<()>>,
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
    pub fn open(name: &str, properties: &Properties) -> Result<Self, TopicError> {
        let mut client = kafka::config("fleet-telemetry-audit", properties, &EXPIRY);
        // A record of an audit waits for its broker as long as the process lives.
        client.set(EXPIRY[0], "0");
        let idempotent = kafka_values::flag(properties, "enable.idempotence") == Some(true);
        let line = Line::open(name, client).map_err(|error| TopicError { reason: kafka::blame(&error) })?;
        let line = Arc::new(line);
        let keeper = Keeper::new(Arc::clone(&line), idempotent).start();
        let keeper = keeper.map_err(|error| TopicError { reason: format!("cannot start its thread: {error}") })?;
        Ok(Self { line, keeper: Some(keeper) })
    }

    /// Hands one change over and returns at once; what cannot be delivered is logged.
    pub fn write(&self, entry: &AuditEntry) {
        self.line.write(entry.vin.clone().into_bytes(), json(entry));
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("name", &self.line.topic).finish_non_exhaustive()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.line.is_closing.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            // A panic has been reported by its own thread.
            let _ = keeper.join();
        }
        self.line.close();
    }
}

type Producer = BaseProducer<Reports>;

/// What those who write and the keeper share.
struct Line {
    topic: String,
    client: ClientConfig,
    /// A std mutex: held to hand records to the client library, which does not block.
    way: Mutex<Way>,
    outcomes: Arc<Outcomes>,
    is_closing: AtomicBool,
}

/// The way to the topic.
struct Way {
    /// `None` for the moment in which it is being replaced.
    producer: Option<Arc<Producer>>,
    /// Handed over in that moment.
    waiting: Vec<Handed>,
    /// Records handed over so far.
    count: usize,
}

/// One record.
struct Handed {
    /// Its place in the order of all records.
    nth: usize,
    vin: Vec<u8>,
    value: Vec<u8>,
}

impl Line {
    fn open(topic: &str, client: ClientConfig) -> KafkaResult<Self> {
        let outcomes = Arc::new(Outcomes::default());
        let producer = client.create_with_context(Reports(Arc::clone(&outcomes)))?;
        let way = Way { producer: Some(Arc::new(producer)), waiting: Vec::new(), count: 0 };
        let (way, is_closing) = (Mutex::new(way), AtomicBool::new(false));
        Ok(Self { topic: topic.to_owned(), client, way, outcomes, is_closing })
    }

    fn write(&self, vin: Vec<u8>, value: Vec<u8>) {
        let mut way = self.way();
        let record = Handed { nth: way.count, vin, value };
        way.count += 1;
        match &way.producer {
            Some(producer) => self.send(producer, &record),
            None => way.waiting.push(record),
        }
    }

    fn send(&self, producer: &Producer, record: &Handed) {
        let message = BaseRecord::with_opaque_to(&self.topic, record.nth).key(&record.vin).payload(&record.value);
        if let Err((error, _)) = producer.send(message) {
            not_delivered(&self.topic, &record.vin, &error);
        }
    }

    fn producer(&self) -> Option<Arc<Producer>> {
        self.way().producer.clone()
    }

    /// A new producer gets what the old one held, and whatever is written meanwhile; how many records that are.
    fn replace(&self) -> KafkaResult<usize> {
        // First, so that there is one whatever happens.
        let fresh = self.client.create_with_context(Reports(Arc::clone(&self.outcomes)))?;
        let old = self.way().producer.take();
        if let Some(old) = old {
            kafka::purge(&old);
            kafka::drop_elsewhere(old);
        }
        let mut way = self.way();
        let mut records = self.outcomes.take_returned();
        records.append(&mut way.waiting);
        records.iter().for_each(|record| self.send(&fresh, record));
        way.producer = Some(Arc::new(fresh));
        Ok(records.len())
    }

    /// Delivers what is waiting, for a while.
    fn close(&self) {
        self.outcomes.is_final.store(true, Ordering::Relaxed);
        let Some(producer) = self.producer() else { return };
        self.outcomes.take_returned().iter().for_each(|record| self.send(&producer, record));
        if let Err(error) = producer.flush(FLUSH) {
            let left = producer.in_flight_count();
            tracing::error!(target: AUDIT_TARGET, topic = self.topic, left, %error, "audit_records_not_delivered");
        }
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock()
    }
}

/// What became of records.
#[derive(Default)]
struct Outcomes {
    delivered: AtomicU64,
    refused: AtomicU64,
    /// Given back by a producer that cannot go on. A std mutex: nobody waits while it is held.
    returned: Mutex<Vec<Handed>>,
    /// There will be no other producer.
    is_final: AtomicBool,
}

impl Outcomes {
    /// In the order in which they were handed over.
    fn take_returned(&self) -> Vec<Handed> {
        let mut returned = std::mem::take(&mut *self.returned());
        returned.sort_by_key(|record| record.nth);
        returned
    }

    fn returned(&self) -> MutexGuard<'_, Vec<Handed>> {
        self.returned.lock()
    }
}

/// Delivery reports, on the thread that polls.
struct Reports(Arc<Outcomes>);

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Quiet.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, nth: usize) {
        let outcomes = &self.0;
        match result {
            Ok(_) => {
                outcomes.delivered.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, message)) if kafka::is_returned(error) && !outcomes.is_final.load(Ordering::Relaxed) => {
                let owned = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
                outcomes.returned().push(Handed { nth, vin: owned(message.key()), value: owned(message.payload()) });
            }
            Err((error, message)) => {
                outcomes.refused.fetch_add(1, Ordering::Relaxed);
                not_delivered(message.topic(), message.key().unwrap_or_default(), error);
            }
        }
    }
}

/// The change itself is in the log line `permission_changed`.
fn not_delivered(topic: &str, vin: &[u8], error: &KafkaError) {
    let vin = crate::escape::escape(vin, 64);
    tracing::error!(target: AUDIT_TARGET, topic, %vin, %error, "audit_record_not_delivered");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(key: &str, value: &str) -> Result<Topic, TopicError> {
        let mut properties = Properties::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
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

    #[test]
    fn what_a_producer_held_goes_to_its_successor_in_the_order_of_the_changes() {
        let properties = Properties::from([("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())]);
        let line = Line::open("audit", kafka::config("test", &properties, &[])).unwrap();
        for vin in ["A", "B", "A"] {
            line.write(vin.into(), b"{}".to_vec());
        }
        assert_eq!(line.replace().unwrap(), 3);
        line.write(b"C".to_vec(), b"{}".to_vec());
        kafka::purge(&line.producer().unwrap());
        let vins: Vec<_> = line.outcomes.take_returned().into_iter().map(|record| record.vin).collect();
        assert_eq!(vins, [b"A", b"B", b"A", b"C"]);
    }
}

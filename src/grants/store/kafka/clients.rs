//! The topic's clients, each of which is replaced when it cannot go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Counter, counter};
use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::topic::{self, Reader};
use crate::config;
use crate::kafka::{Quiet, drop_elsewhere};

pub(super) type Writer = ThreadedProducer<Confirmations>;
/// Partition and offset, or why there is none.
pub(super) type Confirmation = oneshot::Sender<Result<(i32, i64), String>>;

pub(super) struct Clients {
    consumer: ClientConfig,
    producer: ClientConfig,
    reader: Mutex<Arc<Reader>>,
    writer: Mutex<Arc<Writer>>,
    /// A change was not confirmed, or the reader has lost Kafka: the writer may have, too.
    in_doubt: AtomicBool,
    readers: Counter,
    writers: Counter,
}

impl Clients {
    pub(super) fn new(kafka: &config::Kafka) -> Result<Self, KafkaError> {
        let replaced = |client: &'static str| counter!("permission_client_replaced_total", "client" => client);
        let (consumer, producer) = (topic::consumer(kafka), topic::producer(kafka));
        Ok(Self {
            reader: Mutex::new(Arc::new(consumer.create_with_context(Quiet)?)),
            writer: Mutex::new(Arc::new(producer.create_with_context(Confirmations)?)),
            consumer,
            producer,
            in_doubt: AtomicBool::new(false),
            readers: replaced("reader"),
            writers: replaced("writer"),
        })
    }

    pub(super) fn reader(&self) -> Arc<Reader> {
        Arc::clone(&lock(&self.reader))
    }

    pub(super) fn fresh_reader(&self) -> Result<Reader, KafkaError> {
        self.consumer.create_with_context(Quiet)
    }

    pub(super) fn replace_reader(&self, fresh: Reader) {
        let old = std::mem::replace(&mut *lock(&self.reader), Arc::new(fresh));
        drop_elsewhere(old);
        self.readers.increment(1);
        tracing::error!(reason = "it gets no answer, and a fresh one does", "permission_reader_replaced");
    }

    /// The next change gets a new writer. Making one is cheap and changes are rare, so nobody asks whether the old
    /// one would have found Kafka again.
    pub(super) fn doubt_writer(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }

    /// For the next changes.
    pub(super) fn writer(&self) -> Result<Arc<Writer>, KafkaError> {
        let mut writer = lock(&self.writer);
        let doubt = self.in_doubt.load(Ordering::Relaxed).then(|| "it may have lost Kafka".to_owned());
        if let Some(reason) = writer.client().fatal_error().map(|(_, reason)| reason).or(doubt) {
            let fresh = self.producer.create_with_context(Confirmations)?;
            drop_elsewhere(std::mem::replace(&mut *writer, Arc::new(fresh)));
            self.in_doubt.store(false, Ordering::Relaxed);
            self.writers.increment(1);
            tracing::error!(reason, "permission_producer_replaced");
        }
        Ok(Arc::clone(&writer))
    }
}

/// A std mutex: held to clone or swap a pointer, and to make a client.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

/// Hands delivery reports to those who wait for them.
pub(super) struct Confirmations;

impl ClientContext for Confirmations {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Quiet.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = Box<Confirmation>;

    fn delivery(&self, result: &DeliveryResult<'_>, confirmation: Box<Confirmation>) {
        let outcome = match result {
            Ok(message) if message.offset() < 0 => Err("no broker has confirmed it".to_owned()),
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        // Nobody waits any more when the server stops.
        let _ = confirmation.send(outcome);
    }
}

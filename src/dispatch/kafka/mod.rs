//! Kafka: topic `<namespace>_<record type>`, key = VIN, headers as in `message`.
//!
//! # What is promised
//! - **Delivered means confirmed**: a receipt is settled by the delivery report of its own message, after the
//!   broker answered with the configured `acks` (`all` unless the operator says otherwise).
//!   The client library's own inference, "a later request was accepted, so the earlier one must have been", is no
//!   confirmation: such a record is sent again (`docs/adr/0013-only-an-offset-confirms.md`).
//! - **Order per vehicle**: one key is one partition, and the producer is idempotent, so retries neither reorder nor
//!   repeat. Without idempotence (the operator's choice) one request at a time keeps the order.
//! - **Nothing expires** (`message.timeout.ms` = 0 by default). While no broker answers, records wait; the outbox
//!   fills, vehicles are not read from any more, and on recovery all that waits goes out in order. With an expiry
//!   an outage longer than it would lose alerts and errors, which vehicles never resend, and would put resent data
//!   behind newer data.
//! - **A gap is never silent.** A record that the broker refuses for good (too large, not authorised, no such topic)
//!   settles as lost and is not acked; those behind it go on, in order. librdkafka's `enable.gapless.guarantee`
//!   would instead stop every vehicle for one bad record, so it stays off.
//! - **A fatal error of the idempotent producer** (its state and the broker's no longer agree) replaces the
//!   producer: what it held settles as lost, so vehicles resend it; what vehicles offer meanwhile waits.
//!
//! A partition without a leader therefore holds its records, and in the end the outbox; an operator who prefers to
//! lose them sets `message.timeout.ms`. Brokers older than 2.8 that enforce ACLs must grant the producer
//! `IdempotentWrite`, or the operator sets `enable.idempotence` to `false`.
//!
//! A vehicle that resends after its own timeout can still cause a second copy; consumers recognise it by the header
//! `record_id`.

mod context;
mod message;
mod poller;
mod properties;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord};

use self::context::{Context, Shared};
pub use self::poller::QueueSize;
use super::{ConnectError, DispatchError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::{self, DispatcherName};
use crate::record::{Record, Topics};

/// The Kafka dispatcher.
pub struct Kafka {
    /// Replaced by the poller after a fatal error, and only then.
    producer: Arc<ArcSwap<Producer>>,
    shared: Arc<Shared>,
    /// Indexed by [`crate::record::RecordKind::index`].
    topics: Box<[Topic]>,
    json: bool,
    /// The thread that drains delivery reports; gone once closed.
    poller: Mutex<Option<JoinHandle<()>>>,
}

type Producer = BaseProducer<Context>;

/// Where records of one type go.
struct Topic {
    /// With the namespace.
    name: Box<str>,
    record_type: Box<str>,
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka").field("outbox", &self.shared.outbox).finish_non_exhaustive()
    }
}

impl Kafka {
    /// Builds the producer and waits until a broker answers.
    ///
    /// # Errors
    /// [`ConnectError::Config`] names the property that librdkafka does not take; [`ConnectError::Unreachable`]
    /// says where no broker answered within `connect_timeout`, and the last thing that went wrong.
    pub async fn connect(
        config: &config::Kafka,
        dispatchers: &config::Dispatchers,
        topics: &Topics,
    ) -> Result<Self, ConnectError> {
        let client = properties::client_config(config).map_err(refused)?;
        properties::check_namespace(&dispatchers.namespace).map_err(refused)?;
        let shared = Arc::new(Shared::new(config.max_unsettled, properties::confirms(config)));
        let producer = poller::produce(&client, &shared).map_err(|error| refused(properties::blame(&error)))?;
        let producer = Arc::new(ArcSwap::from_pointee(producer));
        let poller = poller::start(client, Arc::clone(&producer), Arc::clone(&shared));
        let kafka = Self {
            producer,
            shared,
            topics: topics.table(|_, record_type| Topic {
                name: format!("{}_{record_type}", dispatchers.namespace).into(),
                record_type: record_type.into(),
            }),
            json: dispatchers.json,
            poller: Mutex::new(Some(poller)),
        };
        kafka.await_broker(config).await?;
        tracing::info!(namespace = %dispatchers.namespace, "kafka_registered");
        Ok(kafka)
    }

    /// What the client library holds, for the gauge `kafka_produce_queue_size`.
    #[must_use]
    pub fn queue_size(&self) -> QueueSize {
        QueueSize::of(&self.producer.load(), &self.shared)
    }

    async fn await_broker(&self, config: &config::Kafka) -> Result<(), ConnectError> {
        let producer = self.producer.load_full();
        let timeout = config.connect_timeout;
        let answered = tokio::task::spawn_blocking(move || poller::broker_answers(&producer, timeout));
        if answered.await.unwrap_or(false) {
            self.shared.up();
            return Ok(());
        }
        let servers = properties::bootstrap_servers(config).unwrap_or_default();
        let last = self.shared.last_error();
        let reason = last.as_deref().unwrap_or("no answer");
        Err(ConnectError::Unreachable {
            dispatcher: DispatcherName::Kafka,
            message: format!("no broker of bootstrap.servers {servers:?} answered within {timeout:?}: {reason}"),
        })
    }

    fn payload<'a>(&self, record: &'a Record) -> Result<&'a [u8], DispatchError> {
        if self.json {
            record.json().map_err(|error| DispatchError::Unsendable(error.to_string()))
        } else {
            Ok(record.payload())
        }
    }

    /// What becomes of a record that the client library did not take.
    fn not_queued(error: &KafkaError, topic: &str, receipt: Receipt) -> Result<(), Full> {
        if is_passing(error) {
            Err(receipt.withdraw())
        } else {
            receipt.failed(&context::failure(error, topic));
            Ok(())
        }
    }

    /// Asks the poller to end by `deadline`; the thread to wait for, unless somebody already does.
    fn end(&self, deadline: Instant) -> Option<JoinHandle<()>> {
        let poller = self.poller.lock().unwrap_or_else(PoisonError::into_inner).take();
        if poller.is_some() {
            self.shared.close(deadline);
        }
        poller
    }
}

/// Room comes back with the next report, a working producer after a fatal error: waiting helps.
fn is_passing(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal))
}

fn refused(message: String) -> ConnectError {
    ConnectError::Config { dispatcher: DispatcherName::Kafka, message }
}

impl Dispatcher for Kafka {
    fn name(&self) -> DispatcherName {
        DispatcherName::Kafka
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        if self.shared.is_closed() {
            receipt.failed(&DispatchError::Closed);
            return Ok(());
        }
        let payload = match self.payload(record) {
            Ok(payload) => payload,
            Err(error) => {
                receipt.failed(&error);
                return Ok(());
            }
        };
        let receipt = self.shared.outbox.enter(receipt)?;
        let topic = &self.topics[record.kind().index()];
        let message = BaseRecord::with_opaque_to(&topic.name, Box::new(receipt))
            .key(record.vin())
            .payload(payload)
            .timestamp(i64::try_from(record.received().epoch_ms).unwrap_or(i64::MAX))
            .headers(message::headers(record, &topic.record_type));
        self.producer
            .load()
            .send(message)
            .or_else(|(error, message)| Self::not_queued(&error, &topic.name, *message.delivery_opaque))
    }

    fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// Unhealthy from "all brokers down" until one of them answers again.
    fn health(&self) -> Health {
        self.shared.health()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(poller) = self.end(deadline) {
                // A panic of the poller has been reported by its own thread.
                let _ = tokio::task::spawn_blocking(move || poller.join()).await;
            }
        })
    }
}

impl Drop for Kafka {
    /// Without [`Dispatcher::close`], what is left is lost at once.
    fn drop(&mut self) {
        if let Some(poller) = self.end(Instant::now()) {
            let _ = poller.join();
        }
    }
}

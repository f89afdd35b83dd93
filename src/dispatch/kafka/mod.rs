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
//! - **A producer that cannot go on is replaced**: after a fatal error (its state and the broker's no longer agree),
//!   and when it reaches no broker though a fresh client does. What it held keeps its receipts and goes out again, in
//!   order, through the new one; what vehicles offer meanwhile waits (`docs/adr/0018-replacing-a-producer.md`).
//!
//! A partition without a leader therefore holds its records, and in the end the outbox; an operator who prefers to
//! lose them sets `message.timeout.ms`. Brokers older than 2.8 that enforce ACLs must grant the producer
//! `IdempotentWrite`, or the operator sets `enable.idempotence` to `false`.
//!
//! A vehicle that resends after its own timeout can still cause a second copy; consumers recognise it by the header
//! `record_id`.

mod context;
mod gauges;
mod message;
mod poller;
mod properties;
mod replace;
mod resend;
mod shared;
mod standing;
pub(crate) mod trial;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord};

use self::context::Context;
pub use self::gauges::QueueSize;
use self::poller::Poller;
use self::replace::{Replacement, Slot};
use self::shared::Shared;
use self::standing::Standing;
use super::{ConnectError, DispatchError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::kafka_properties::{self, Acks};
use crate::config::{self, DispatcherName, Form};
use crate::kafka;
use crate::kafka::probe::{self, Obstacle};
use crate::kafka::watch::Watch;
use crate::record::{Record, Topics};

/// The Kafka dispatcher.
pub struct Kafka {
    /// The poller replaces what is in it, and nobody else.
    slot: Slot,
    shared: Arc<Shared>,
    /// Indexed by [`crate::record::RecordKind::index`].
    topics: Box<[Topic]>,
    form: Form,
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
    /// Builds the producer and waits until Kafka would take records from it.
    ///
    /// # Errors
    /// [`ConnectError::Config`] names the property that librdkafka does not take, or the one that has to change
    /// because brokers give no producer ids; [`ConnectError::Unreachable`] says where no broker answered within
    /// `connect_timeout`, and the last thing that went wrong.
    pub async fn connect(
        config: &config::Kafka,
        dispatchers: &config::Dispatchers,
        topics: &Topics,
    ) -> Result<Self, ConnectError> {
        let (client, meaning) = properties::client_config(config).map_err(refused)?;
        let shared = Arc::new(Shared::new(config.max_unsettled, meaning.acks != Acks::Nobody));
        let producer = replace::produce(&client, &shared).map_err(|error| refused(kafka::blame(&error)))?;
        await_kafka(config, client.clone(), meaning.idempotent).await?;
        let slot: Slot = Arc::new(ArcSwapOption::from_pointee(producer));
        let watch = Watch::new(&client, meaning.idempotent);
        let standing = Standing::new(config.unhealthy_after);
        let replacement = Replacement::new(client);
        let prefix = format!("{}_", dispatchers.namespace);
        let poller = Poller::new(Arc::clone(&slot), Arc::clone(&shared), replacement, watch, standing, &prefix);
        tracing::info!(namespace = %dispatchers.namespace, "kafka_registered");
        Ok(Self {
            slot,
            shared,
            topics: topics.table(|_, record_type| Topic {
                name: format!("{}_{record_type}", dispatchers.namespace).into(),
                record_type: record_type.into(),
            }),
            form: dispatchers.target(DispatcherName::Kafka).form,
            poller: Mutex::new(Some(poller.start())),
        })
    }

    /// What the client library holds, for the gauge `kafka_produce_queue_size`.
    #[must_use]
    pub fn queue_size(&self) -> QueueSize {
        QueueSize::of(self.slot.load().as_deref(), &self.shared)
    }

    fn payload<'a>(&self, record: &'a Record) -> Result<&'a [u8], DispatchError> {
        record.encoded(self.form).map_err(|error| DispatchError::Unsendable(error.to_string()))
    }

    /// What becomes of a record that the client library did not take.
    fn not_queued(&self, error: &KafkaError, topic: &str, receipt: Receipt) -> Result<(), Full> {
        if is_passing(error) {
            Err(receipt.withdraw())
        } else {
            let failure = context::failure(error, topic);
            self.shared.refused(error, &failure);
            receipt.failed(&failure);
            Ok(())
        }
    }

    /// Asks the poller to end by `deadline`; the thread to wait for, unless somebody already does.
    fn end(&self, deadline: Instant) -> Option<JoinHandle<()>> {
        let poller = self.poller.lock().take();
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

/// Asks with a client of its own, whose id tells that ours will get one too.
async fn await_kafka(config: &config::Kafka, client: ClientConfig, idempotent: bool) -> Result<(), ConnectError> {
    let timeout = config.connect_timeout;
    let reached = tokio::task::spawn_blocking(move || probe::reach(&client, idempotent, timeout)).await;
    let servers = kafka_properties::bootstrap_servers(&config.properties).unwrap_or_default();
    let message = match reached {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(Obstacle::Client(error))) => return Err(refused(kafka::blame(&error))),
        Ok(Err(obstacle @ Obstacle::NoId(_))) => return Err(refused(obstacle.to_string())),
        Ok(Err(obstacle @ Obstacle::NoIdYet(_))) => {
            format!("bootstrap.servers {servers:?}: not ready within {timeout:?}: {obstacle}")
        }
        Ok(Err(Obstacle::Unreachable(reason))) => {
            format!("no broker of bootstrap.servers {servers:?} answered within {timeout:?}: {reason}")
        }
        Err(_) => "the look for a broker was cut short".to_owned(),
    };
    Err(ConnectError::Unreachable { dispatcher: DispatcherName::Kafka, message })
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
        let Some(producer) = &*self.slot.load() else {
            return Err(message.delivery_opaque.withdraw());
        };
        producer
            .send(message)
            .or_else(|(error, message)| self.not_queued(&error, &topic.name, *message.delivery_opaque))
    }

    fn outbox(&self) -> &Outbox {
        &self.shared.outbox
    }

    /// Unhealthy from "all brokers down" until one of them answers again, while nothing is delivered though there
    /// is something to deliver, and while producers fail as soon as they are made.
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::DefaultProducerContext;

    use super::*;
    use crate::dispatch::{DispatcherMetrics, Outcome, Outlet, Route, Settled, Target};
    use crate::identity::{ClientType, Identity};
    use crate::record::{Origin, Received, RecordKind};

    const SOON: Duration = Duration::from_secs(30);

    async fn connect(broker: &MockCluster<'static, DefaultProducerContext>) -> (Arc<Kafka>, Route, Arc<Outlet>) {
        let properties = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())].into();
        let max_unsettled = config::InFlight { records: 100, bytes: 1 << 20 };
        let config = config::Kafka { properties, max_unsettled, connect_timeout: SOON, unhealthy_after: SOON };
        let topics = Topics::new([]);
        let kafka = Arc::new(Kafka::connect(&config, &config::Dispatchers::default(), &topics).await.unwrap());
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kafka, &topics));
        let target = Target::new(Arc::clone(&kafka) as Arc<dyn Dispatcher>, metrics);
        (kafka, Route::new(vec![target], &[DispatcherName::Kafka]), Arc::new(Outlet::default()))
    }

    fn record() -> Record {
        let origin = Origin {
            identity: Identity::new(ClientType::VehicleDevice, "VIN1"),
            connection_id: "".into(),
            network_interface: "".into(),
            client_version: "".into(),
        };
        Record::from_parts(RecordKind::V, b"payload", b"tx", Arc::new(origin), Received::now())
    }

    async fn settles(outlet: &Outlet, count: usize) -> Vec<Settled> {
        let mut settled = Vec::new();
        while settled.len() < count {
            let more = std::future::poll_fn(|cx| outlet.poll_settled(cx, &mut settled));
            tokio::time::timeout(SOON, more).await.expect("settles in time");
        }
        settled
    }

    /// What the thread holds, what comes later, and the health, after a panic where `fault` says.
    async fn panics(fault: impl Fn(&Kafka) -> &AtomicBool) {
        let broker = MockCluster::new(1).unwrap();
        let (kafka, route, outlet) = connect(&broker).await;
        // Nothing is answered before the panic, or everything in one batch of reports.
        broker.broker_round_trip_time(1, Duration::from_millis(500)).unwrap();
        for _ in 0..10 {
            route.dispatch(&record(), Some(&outlet)).unwrap();
        }
        fault(&kafka).store(true, Ordering::Relaxed);
        let held = settles(&outlet, 10).await;
        assert!(held.iter().any(|settled| settled.outcome == Outcome::Lost));
        let deadline = Instant::now() + SOON;
        while kafka.health() == Health::Healthy {
            assert!(Instant::now() < deadline, "nobody has noticed");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let Health::Unhealthy(reason) = kafka.health() else { panic!("healthy again") };
        assert!(reason.contains("panicked"), "{reason}");
        route.dispatch(&record(), Some(&outlet)).unwrap();
        assert_eq!(settles(&outlet, 1).await[0].outcome, Outcome::Lost);
        kafka.close(Instant::now() + SOON).await;
        assert_eq!(kafka.outbox().used().records, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_of_the_pollers_thread_is_seen_and_loses_what_it_held() {
        panics(|kafka| &kafka.shared.faults.round).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_over_one_report_settles_those_beside_it() {
        panics(|kafka| &kafka.shared.faults.report).await;
    }
}

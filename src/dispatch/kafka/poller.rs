//! The thread that drains delivery reports, and everything else that may block.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, counter, gauge};
use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig};

use super::context::{self, Context, Shared, Unconfirmed};
use super::{Producer, is_passing};
use crate::dispatch::DispatchError;

/// How long one poll lasts; bounds how late a request to close, a fatal error or a gauge is seen.
const POLL: Duration = Duration::from_millis(100);
const GAUGE_EVERY: Duration = Duration::from_secs(5);
/// While all brokers are down and nothing is sent, this is how their return is noticed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(100);
/// Short, because no reports are drained meanwhile.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Purged messages report back at once; this only bounds a defect.
const PURGE_TIMEOUT: Duration = Duration::from_secs(1);

/// A producer whose callbacks go to `shared`.
pub(super) fn produce(client: &ClientConfig, shared: &Arc<Shared>) -> KafkaResult<Producer> {
    client.create_with_context(Context(Arc::clone(shared)))
}

/// Whether a broker answers a metadata request in time. Blocks.
pub(super) fn broker_answers(producer: &Producer, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if producer.client().fetch_metadata(None, left).is_ok() {
            return true;
        }
        // It also fails at once when a broker that is just starting closes the connection.
        if left <= RETRY {
            return false;
        }
        std::thread::sleep(RETRY);
    }
}

/// Starts the thread. It ends once `shared` is closed and everything has settled.
pub(super) fn start(client: ClientConfig, producer: Arc<ArcSwap<Producer>>, shared: Arc<Shared>) -> JoinHandle<()> {
    let sent_again = counter!("kafka_unconfirmed_total");
    let poller = Poller { client, producer, shared, gauges: Gauges::register(), sent_again, probed: Instant::now() };
    std::thread::Builder::new()
        .name("kafka-poller".to_owned())
        .spawn(move || poller.run())
        .expect("the process may start threads")
}

struct Poller {
    client: ClientConfig,
    producer: Arc<ArcSwap<Producer>>,
    shared: Arc<Shared>,
    gauges: Gauges,
    sent_again: Counter,
    probed: Instant,
}

impl Poller {
    fn run(mut self) {
        loop {
            let producer = self.producer.load_full();
            producer.poll(POLL);
            // librdkafka frees a message only after its report was handled, so who was woken by the report may
            // have found its queue still full.
            self.shared.outbox.wake();
            self.send_again(&producer);
            self.gauges.sample(&producer, &self.shared);
            if let Some(deadline) = self.shared.deadline() {
                self.finish(&producer, deadline);
                return;
            }
            if let Some((_, reason)) = producer.client().fatal_error() {
                self.replace(producer, &reason);
            } else if self.shared.is_down() && self.probed.elapsed() >= PROBE_EVERY {
                self.probe(&producer);
            }
        }
    }

    /// Gives the producer what it called delivered and no broker has confirmed. False when it took nothing.
    ///
    /// Behind what has been sent since, so a record that really was missing comes late, and one that was not comes
    /// twice, under one `record_id`. Either is better than an ack for a record that is nowhere.
    fn send_again(&self, producer: &Producer) -> bool {
        let mut records = 0;
        for Unconfirmed { message, receipt } in self.shared.take_unconfirmed() {
            let record = BaseRecord {
                headers: message.headers().cloned(),
                timestamp: message.timestamp().to_millis(),
                ..BaseRecord::with_opaque_to(message.topic(), receipt)
                    .key(message.key().unwrap_or_default())
                    .payload(message.payload().unwrap_or_default())
            };
            match producer.send(record) {
                Ok(()) => records += 1,
                Err((error, BaseRecord { delivery_opaque: receipt, .. })) if is_passing(&error) => {
                    self.shared.keep_unconfirmed(Unconfirmed { message, receipt });
                }
                Err((error, BaseRecord { delivery_opaque: receipt, .. })) => {
                    receipt.failed(&context::failure(&error, message.topic()));
                }
            }
        }
        if records > 0 {
            self.sent_again.increment(records);
            tracing::warn!(records, "kafka_unconfirmed_sent_again");
        }
        records > 0
    }

    /// Delivers until `deadline`; whatever is left then settles as lost.
    fn finish(&self, producer: &Producer, deadline: Instant) {
        loop {
            settle(producer, deadline);
            if Instant::now() >= deadline || !self.send_again(producer) {
                break;
            }
        }
        for Unconfirmed { receipt, .. } in self.shared.take_unconfirmed() {
            receipt.failed(&DispatchError::Closed);
        }
    }

    fn probe(&mut self, producer: &Producer) {
        if broker_answers(producer, PROBE_TIMEOUT) {
            self.shared.up();
        }
        self.probed = Instant::now();
    }

    /// A fatal error is for good: only a new producer, with a new id, can go on. The old one takes nothing more.
    fn replace(&self, broken: Arc<Producer>, reason: &str) {
        settle(&broken, Instant::now());
        match produce(&self.client, &self.shared) {
            Ok(fresh) => {
                drop(self.producer.swap(Arc::new(fresh)));
                drop_here(broken);
                tracing::error!(reason, "kafka_producer_replaced");
            }
            Err(error) => {
                // The broken one takes nothing, so sessions wait until the next round.
                tracing::error!(reason, %error, "kafka_producer_not_replaced");
            }
        }
    }
}

/// Delivers until `deadline`; whatever is left then settles as lost.
fn settle(producer: &Producer, deadline: Instant) {
    if producer.flush(deadline.saturating_duration_since(Instant::now())).is_ok() {
        return;
    }
    let left = producer.in_flight_count();
    producer.purge(PurgeConfig::default().queue().inflight());
    if let Err(error) = producer.flush(PURGE_TIMEOUT) {
        tracing::error!(%error, "kafka_purge_incomplete");
    }
    tracing::warn!(left, "kafka_records_given_up");
}

/// Dropping a producer blocks, so no session may be the last to hold one.
fn drop_here(producer: Arc<Producer>) {
    let mut held = producer;
    while let Err(still_held) = Arc::try_unwrap(held) {
        held = still_held;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What the client library holds; the parts of the gauge `kafka_produce_queue_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSize {
    /// Both of the others.
    pub total: usize,
    /// Delivery reports, errors and log lines that wait to be handled.
    pub events: usize,
    /// Records taken and not settled.
    pub buffer: usize,
}

impl QueueSize {
    pub(super) fn of(producer: &Producer, shared: &Shared) -> Self {
        let buffer = shared.outbox.used().records;
        // librdkafka counts messages and events together.
        let held = usize::try_from(producer.in_flight_count()).unwrap_or(0);
        let events = held.saturating_sub(buffer);
        Self { total: buffer + events, events, buffer }
    }
}

struct Gauges {
    total: Gauge,
    events: Gauge,
    buffer: Gauge,
    sampled: Option<Instant>,
}

impl Gauges {
    fn register() -> Self {
        let part = |part: &'static str| gauge!("kafka_produce_queue_size", "type" => part);
        Self { total: part("total"), events: part("events"), buffer: part("buffer"), sampled: None }
    }

    fn sample(&mut self, producer: &Producer, shared: &Shared) {
        if self.sampled.is_some_and(|at| at.elapsed() < GAUGE_EVERY) {
            return;
        }
        let size = QueueSize::of(producer, shared);
        for (gauge, value) in [(&self.total, size.total), (&self.events, size.events), (&self.buffer, size.buffer)] {
            gauge.set(u32::try_from(value).unwrap_or(u32::MAX));
        }
        self.sampled = Some(Instant::now());
    }
}

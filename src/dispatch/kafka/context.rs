//! What librdkafka calls back with: delivery reports, client errors, log lines.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::ProducerContext;

use crate::config::InFlight;
use crate::dispatch::{DispatchError, Health, Outbox, Receipt};
use crate::logging::RateLimited;

/// A record that librdkafka reports as delivered though no broker has said so. It keeps its place in the outbox.
///
/// When one request of a partition is refused for now (a new leader that does not know that it is one) and a later
/// one is accepted, librdkafka takes the first for delivered too (`rd_kafka_dr_implicit_ack`): a broker would have
/// refused the gap between their sequence numbers. But a broker that has never seen this producer accepts whatever
/// number comes first, so the record may be nowhere. Such a report carries no offset, unlike every confirmed one.
pub(super) struct Unconfirmed {
    pub(super) message: OwnedMessage,
    pub(super) receipt: Box<Receipt>,
}

/// What sessions, the poller and the callbacks of every producer share.
pub(super) struct Shared {
    pub(super) outbox: Arc<Outbox>,
    /// Set once: nothing is taken any more, and what is held is delivered until then.
    closing: OnceLock<Instant>,
    /// No broker can be reached. The reason is in `last_error`.
    down: AtomicBool,
    /// A std mutex: held to copy a string, only when something is wrong.
    last_error: Mutex<Option<String>>,
    /// Whether the broker answers for every record (`acks` other than 0).
    confirms: bool,
    /// Only the poller's thread looks at them, so nobody ever waits for the lock.
    unconfirmed: Mutex<Vec<Unconfirmed>>,
    errors: RateLimited,
    lines: RateLimited,
}

impl Shared {
    pub(super) fn new(bound: InFlight, confirms: bool) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(bound)),
            closing: OnceLock::new(),
            down: AtomicBool::new(false),
            last_error: Mutex::new(None),
            confirms,
            unconfirmed: Mutex::new(Vec::new()),
            errors: RateLimited::default(),
            lines: RateLimited::default(),
        }
    }

    pub(super) fn close(&self, deadline: Instant) {
        // The first deadline counts.
        let _ = self.closing.set(deadline);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closing.get().is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closing.get().copied()
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// A broker has answered.
    pub(super) fn up(&self) {
        // Read first: this runs for every record, and a plain load keeps the cache line shared.
        if self.is_down() && self.down.swap(false, Ordering::Relaxed) {
            tracing::info!("kafka_reachable_again");
        }
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn health(&self) -> Health {
        if self.is_down() {
            Health::Unhealthy(self.last_error().unwrap_or_else(|| "all brokers are down".to_owned()))
        } else {
            Health::Healthy
        }
    }

    /// What has to be sent once more, in the order of the reports.
    pub(super) fn take_unconfirmed(&self) -> Vec<Unconfirmed> {
        std::mem::take(&mut *self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn keep_unconfirmed(&self, unconfirmed: Unconfirmed) {
        self.unconfirmed.lock().unwrap_or_else(PoisonError::into_inner).push(unconfirmed);
    }

    fn note(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// The callbacks of one producer. All of them run on the poller's thread.
pub(super) struct Context(pub(super) Arc<Shared>);

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Receipt>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        match result {
            Ok(message) if self.0.confirms && message.offset() < 0 => {
                self.0.keep_unconfirmed(Unconfirmed { message: message.detach(), receipt });
            }
            Ok(_) => {
                self.0.up();
                receipt.delivered();
            }
            Err((error, message)) => receipt.failed(&failure(error, message.topic())),
        }
    }
}

impl ClientContext for Context {
    /// Called twice for each error (once by the client, once by the producer), so everything here is idempotent.
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.0.down.store(true, Ordering::Relaxed),
            Some(code) => self.0.note(format!("{reason} ({code})")),
            None => self.0.note(reason.to_owned()),
        }
        if let Some(skipped) = self.0.errors.permit() {
            tracing::error!(%error, reason, skipped, "kafka_client_error");
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        // The operator asked for debug lines by name (`debug`): all of them.
        if matches!(level, RDKafkaLogLevel::Debug) {
            tracing::debug!(facility, line, "librdkafka");
            return;
        }
        let Some(skipped) = self.0.lines.permit() else { return };
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, line, skipped, "librdkafka"),
            // Whatever is an error for us also comes as one, to `error` or in a delivery report.
            _ => tracing::warn!(facility, line, skipped, "librdkafka"),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        tracing::debug!(statistics = %String::from_utf8_lossy(statistics), "librdkafka");
    }
}

/// Why a record was not delivered, as its receipt reports it.
pub(super) fn failure(error: &KafkaError, topic: &str) -> DispatchError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => DispatchError::Closed,
        Some(code) => DispatchError::Refused(format!("topic_partition_error {topic}: {code}")),
        None => DispatchError::Unsendable(format!("{topic}: {error}")),
    }
}

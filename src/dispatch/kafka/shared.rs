//! What sessions, the poller and the callbacks of every producer share, and what they know of Kafka's health.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::resend::Kept;
use super::standing::{Counts, Trouble};
use crate::config::InFlight;
use crate::dispatch::{DispatchError, Health, Outbox};
use crate::logging::RateLimited;

pub(super) struct Shared {
    pub(super) outbox: Arc<Outbox>,
    /// Set once: nothing is taken any more, and what is held is delivered until then.
    closing: OnceLock<Instant>,
    /// No broker can be reached. The reason is in `words`.
    down: AtomicBool,
    /// Whether the broker answers for every record (`acks` other than 0).
    pub(super) confirms: bool,
    /// What librdkafka takes for delivered and no broker has confirmed; goes to the same producer again.
    pub(super) unconfirmed: Kept,
    /// What a producer gave back; goes to its successor.
    pub(super) returned: Kept,
    /// From now on, what a producer gives back is lost.
    giving_up: AtomicBool,
    /// Written by the poller's thread alone.
    delivered: AtomicU64,
    refused: AtomicU64,
    /// A callback panicked: a defect, after which nothing can be relied on.
    pub(super) panicked: AtomicBool,
    /// A std mutex: held to copy a string, only when something is wrong.
    words: Mutex<Words>,
    errors: RateLimited,
    pub(super) lines: RateLimited,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// What is wrong, for operators.
#[derive(Default)]
struct Words {
    /// Of the client.
    last_error: Option<String>,
    /// Of the broker, about the last record that it refused.
    last_refusal: Option<String>,
    /// A partition that takes no records, when nothing settled and brokers were asked.
    ailing: Option<String>,
    /// Producers fail as soon as they are made.
    broken: Option<String>,
    trouble: Option<Trouble>,
    /// The poller's thread has ended: for good.
    dead: bool,
}

impl Shared {
    pub(super) fn new(max_unsettled: InFlight, confirms: bool) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(max_unsettled)),
            closing: OnceLock::new(),
            down: AtomicBool::new(false),
            confirms,
            unconfirmed: Kept::default(),
            returned: Kept::default(),
            giving_up: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            panicked: AtomicBool::new(false),
            words: Mutex::default(),
            errors: RateLimited::default(),
            lines: RateLimited::default(),
            #[cfg(test)]
            faults: Faults::default(),
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

    pub(super) fn give_up(&self) {
        self.giving_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn gives_up(&self) -> bool {
        self.giving_up.load(Ordering::Relaxed)
    }

    pub(super) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Relaxed)
    }

    /// Nobody handles reports any more: nothing is taken from now on.
    pub(super) fn die(&self) {
        self.words().dead = true;
        self.close(Instant::now());
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

    pub(super) fn delivered(&self) {
        self.up();
        // Only the poller's thread comes here.
        self.delivered.store(self.delivered.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A broker, or the client for it, will not have a record.
    pub(super) fn refused(&self, error: &KafkaError, failure: &DispatchError) {
        if is_about_one_record(error) || matches!(failure, DispatchError::Closed) {
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.words().last_refusal = Some(failure.to_string());
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            delivered: self.delivered.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            waiting: self.outbox.used().records,
        }
    }

    pub(super) fn client_error(&self, error: &KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.down.store(true, Ordering::Relaxed),
            Some(code) => self.words().last_error = Some(format!("{reason} ({code})")),
            None => self.words().last_error = Some(reason.to_owned()),
        }
        if let Some(skipped) = self.errors.permit() {
            tracing::error!(%error, reason, skipped, "kafka_client_error");
        }
    }

    pub(super) fn set_trouble(&self, trouble: Option<Trouble>) {
        self.words().trouble = trouble;
    }

    pub(super) fn set_ailing(&self, partition: Option<String>) {
        self.words().ailing = partition;
    }

    pub(super) fn set_broken(&self, reason: Option<String>) {
        self.words().broken = reason;
    }

    pub(super) fn health(&self) -> Health {
        let words = self.words();
        let reason = if words.dead {
            "the thread that handles Kafka's reports has panicked; restart the server".to_owned()
        } else if let Some(broken) = &words.broken {
            broken.clone()
        } else if self.is_down() {
            words.last_error.clone().unwrap_or_else(|| "all brokers are down".to_owned())
        } else if let Some(trouble) = &words.trouble {
            let last = match trouble {
                Trouble::Refusing { .. } => &words.last_refusal,
                Trouble::Silent { .. } if words.ailing.is_some() => &words.ailing,
                Trouble::Silent { .. } => &words.last_error,
            };
            last.as_ref().map_or_else(|| trouble.to_string(), |last| format!("{trouble}: {last}"))
        } else {
            return Health::Healthy;
        };
        Health::Unhealthy(reason)
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock()
    }
}

/// A record that is too large says nothing about the next.
fn is_about_one_record(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{InvalidMessage, InvalidMessageSize, InvalidRecord, InvalidTimestamp, MessageSizeTooLarge};
    match error.rdkafka_error_code() {
        None => true,
        Some(code) => {
            matches!(code, MessageSizeTooLarge | InvalidMessage | InvalidMessageSize | InvalidRecord | InvalidTimestamp)
        }
    }
}

/// Places where a test makes the poller's thread panic.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Faults {
    pub(super) round: AtomicBool,
    pub(super) report: AtomicBool,
}

#[cfg(test)]
impl Faults {
    #[expect(clippy::unused_self, reason = "read as a sentence")]
    pub(super) fn strike(&self, fault: &AtomicBool) {
        assert!(!fault.swap(false, Ordering::Relaxed), "on purpose");
    }
}

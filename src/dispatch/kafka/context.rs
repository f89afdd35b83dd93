//! What librdkafka calls back with: delivery reports, client errors, log lines.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::ProducerContext;

use super::resend::Unsettled;
use super::shared::Shared;
use crate::dispatch::{DispatchError, Receipt};
use crate::kafka;

/// The callbacks of one producer. All of them but `log` run on the poller's thread.
pub(super) struct Context(pub(super) Arc<Shared>);

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Receipt>;

    /// A panic stays here: beyond, it would take the receipts of all other reports of the same batch with it.
    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        if catch_unwind(AssertUnwindSafe(|| self.report(result, receipt))).is_err() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl Context {
    fn report(&self, result: &DeliveryResult<'_>, receipt: Box<Receipt>) {
        let shared = &self.0;
        #[cfg(test)]
        shared.faults.strike(&shared.faults.report);
        match result {
            Ok(message) if shared.confirms && message.offset() < 0 => {
                shared.unconfirmed.keep(Unsettled { message: message.detach(), receipt });
            }
            Ok(_) => {
                shared.delivered();
                receipt.delivered();
            }
            Err((error, message)) if kafka::is_returned(error) && !shared.gives_up() => {
                shared.returned.keep(Unsettled { message: message.detach(), receipt });
            }
            Err((error, message)) => {
                let failure = failure(error, message.topic());
                shared.refused(error, &failure);
                receipt.failed(&failure);
            }
        }
    }
}

impl ClientContext for Context {
    /// Called twice for each error (once by the client, once by the producer), so everything here is idempotent.
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.client_error(&error, reason);
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

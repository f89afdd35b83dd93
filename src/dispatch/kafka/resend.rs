//! Records that came back without an outcome, and their second way out.

use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::BaseRecord;

use super::{Producer, context, is_passing};
use crate::dispatch::{DispatchError, Receipt};

/// A record that left a producer without an outcome. It keeps its place in the outbox and its receipt.
///
/// Either its producer was replaced, or librdkafka reports it as delivered though no broker has said so: when one
/// request of a partition is refused for now (a new leader that does not know that it is one) and a later one is
/// accepted, librdkafka takes the first for delivered too (`rd_kafka_dr_implicit_ack`), since a broker would have
/// refused the gap between their sequence numbers. But a broker that has never seen this producer accepts whatever
/// number comes first, so the record may be nowhere. Such a report carries no offset, unlike every confirmed one.
pub(super) struct Unsettled {
    pub(super) message: OwnedMessage,
    pub(super) receipt: Box<Receipt>,
}

/// What a producer does with a record.
pub(super) enum Sent {
    /// It will report on it.
    Taken,
    /// It will take it later, or its successor will.
    NotNow(Unsettled),
    /// No other will take it either.
    Never(Unsettled, KafkaError),
}

impl Unsettled {
    /// Gives the record to `producer`, as it was.
    pub(super) fn send(self, producer: &Producer) -> Sent {
        let Self { message, receipt } = self;
        let record = BaseRecord {
            headers: message.headers().cloned(),
            timestamp: message.timestamp().to_millis(),
            ..BaseRecord::with_opaque_to(message.topic(), receipt)
                .key(message.key().unwrap_or_default())
                .payload(message.payload().unwrap_or_default())
        };
        let (error, receipt) = match producer.send(record) {
            Ok(()) => return Sent::Taken,
            Err((error, BaseRecord { delivery_opaque, .. })) => (error, delivery_opaque),
        };
        let unsettled = Self { message, receipt };
        if is_passing(&error) { Sent::NotNow(unsettled) } else { Sent::Never(unsettled, error) }
    }

    /// Settles it as lost, for `error`.
    pub(super) fn refused(self, error: &KafkaError) {
        self.receipt.failed(&context::failure(error, self.message.topic()));
    }

    pub(super) fn closed(self) {
        self.receipt.failed(&DispatchError::Closed);
    }
}

/// Some of them. Only the poller's thread looks at them, so nobody ever waits for the lock.
#[derive(Default)]
pub(super) struct Kept(Mutex<Vec<Unsettled>>);

impl Kept {
    pub(super) fn keep(&self, unsettled: Unsettled) {
        self.lock().push(unsettled);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// All of them, in the order in which they came.
    pub(super) fn take(&self) -> Vec<Unsettled> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Vec<Unsettled>> {
        self.0.lock()
    }
}

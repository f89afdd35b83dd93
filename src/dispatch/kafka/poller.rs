//! The thread that drains delivery reports, and everything else that may block.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::Producer;
use super::gauges::Gauges;
use super::replace::{Cause, Replacement, Slot};
use super::resend::{Sent, Unsettled};
use super::shared::Shared;
use super::standing::Standing;
use crate::kafka;
use crate::kafka::probe;
use crate::kafka::watch::{Sight, Signs, Watch};

/// How long one poll lasts; bounds how late a request to close, a fatal error or a gauge is seen.
pub(super) const POLL: Duration = Duration::from_millis(100);
/// A producer that has lived for so long without a fatal error has what it needs.
const SETTLED: Duration = Duration::from_secs(5);

pub(super) struct Poller {
    pub(super) slot: Slot,
    pub(super) shared: Arc<Shared>,
    pub(super) replacement: Replacement,
    pub(super) watch: Watch,
    pub(super) standing: Standing,
    /// Of our topics.
    prefix: Box<str>,
    gauges: Gauges,
    sent_again: Counter,
}

impl Poller {
    pub(super) fn new(
        slot: Slot,
        shared: Arc<Shared>,
        replacement: Replacement,
        watch: Watch,
        standing: Standing,
        prefix: &str,
    ) -> Self {
        let sent_again = counter!("kafka_unconfirmed_total");
        Self {
            slot,
            shared,
            replacement,
            watch,
            standing,
            prefix: prefix.into(),
            gauges: Gauges::register(),
            sent_again,
        }
    }

    /// Starts the thread. It ends once the dispatcher is closed and everything has settled.
    pub(super) fn start(self) -> JoinHandle<()> {
        std::thread::Builder::new()
            .name("kafka-poller".to_owned())
            .spawn(move || self.guarded())
            .expect("the process may start threads")
    }

    /// Without this thread nothing settles. When it panics, nothing more is taken, and what is held is lost.
    fn guarded(self) {
        let (slot, shared) = (Arc::clone(&self.slot), Arc::clone(&self.shared));
        let ended = catch_unwind(AssertUnwindSafe(|| self.run()));
        if ended.is_ok() && !shared.has_panicked() {
            return;
        }
        shared.die();
        tracing::error!("kafka_poller_panicked");
        // Should this panic too, what is left settles as lost when the producer is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| give_up(&slot, &shared)));
    }

    fn run(mut self) {
        while !self.shared.has_panicked() {
            #[cfg(test)]
            self.shared.faults.strike(&self.shared.faults.round);
            let producer = self.slot.load_full();
            match &producer {
                Some(producer) => producer.poll(POLL),
                None => std::thread::sleep(POLL),
            }
            // librdkafka frees a message only after its report was handled, so who was woken by the report may
            // have found its queue still full.
            self.shared.outbox.wake();
            if let Some(producer) = &producer {
                self.send_again(producer);
            }
            self.gauges.sample(producer.as_deref(), &self.shared);
            if let Some(deadline) = self.shared.deadline() {
                drop(producer);
                return self.finish(deadline);
            }
            self.shared.set_trouble(self.standing.observe(Instant::now(), self.shared.counts()));
            let cause = self.cause(producer.as_deref());
            drop(producer);
            if let Some(cause) = cause {
                self.replacement.replace(&self.slot, &self.shared, &cause);
            }
        }
    }

    /// Why the producer has to be replaced now.
    fn cause(&mut self, producer: Option<&Producer>) -> Option<Cause> {
        let Some(producer) = producer else {
            return self.replacement.may_start().then(|| Cause::Fatal("there is none".to_owned()));
        };
        if let Some((code, reason)) = producer.client().fatal_error() {
            self.say_broken(code, &reason);
            return self.replacement.may_start().then_some(Cause::Fatal(reason));
        }
        if self.replacement.age() >= SETTLED {
            self.shared.set_broken(None);
        }
        if !self.shared.returned.is_empty() {
            return self.replacement.may_start().then(|| Cause::Fatal("records came back".to_owned()));
        }
        self.is_stuck(producer).then_some(Cause::Stuck)
    }

    fn is_stuck(&mut self, producer: &Producer) -> bool {
        let counts = self.shared.counts();
        let signs = Signs {
            down: self.shared.is_down(),
            outcomes: counts.delivered + counts.refused,
            waiting: counts.waiting > 0,
        };
        let ask = |timeout| {
            let answer = probe::ask(producer, timeout);
            if let Some(metadata) = &answer {
                self.shared.set_ailing(probe::ailing(metadata, &self.prefix));
            }
            answer.is_some()
        };
        match self.watch.look(signs, ask) {
            Sight::Nothing => false,
            Sight::Answered => {
                self.shared.up();
                false
            }
            Sight::Stuck => self.replacement.may_start(),
        }
    }

    /// One fatal error is mended by the next producer. When that fails too, or will, operators have to know.
    fn say_broken(&self, code: RDKafkaErrorCode, reason: &str) {
        use RDKafkaErrorCode::{ClusterAuthorizationFailed, UnsupportedFeature};
        if matches!(code, ClusterAuthorizationFailed | UnsupportedFeature) {
            self.shared.set_broken(Some(format!("{reason}; {}", probe::REMEDY)));
        } else if self.replacement.is_repeated() {
            self.shared.set_broken(Some(reason.to_owned()));
        }
    }

    /// Gives the producer what it called delivered and no broker has confirmed. False when it took nothing.
    ///
    /// Behind what has been sent since, so a record that really was missing comes late, and one that was not comes
    /// twice, under one `record_id`. Either is better than an ack for a record that is nowhere.
    fn send_again(&self, producer: &Producer) -> bool {
        let mut records = 0;
        for unsettled in self.shared.unconfirmed.take() {
            match unsettled.send(producer) {
                Sent::Taken => records += 1,
                Sent::NotNow(unsettled) => self.shared.unconfirmed.keep(unsettled),
                Sent::Never(unsettled, error) => {
                    unsettled.refused(&error);
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
    fn finish(mut self, deadline: Instant) {
        let is_over = || Instant::now() >= deadline;
        while !is_over() && !self.shared.has_panicked() {
            match self.flush(deadline) {
                Ok(true) => break,
                Ok(false) => {}
                // The pause between two producers counts here, too.
                Err(cause) if !is_over() && self.replacement.may_start() => {
                    self.replacement.replace(&self.slot, &self.shared, &cause);
                }
                Err(_) => std::thread::sleep(POLL.min(deadline.saturating_duration_since(Instant::now()))),
            }
        }
        give_up(&self.slot, &self.shared);
    }

    /// Whether all that the producer held has settled, unless it cannot go on.
    fn flush(&self, deadline: Instant) -> Result<bool, Cause> {
        let Some(producer) = self.slot.load_full() else { return Err(Cause::Fatal("there is none".to_owned())) };
        let flushed = producer.flush(deadline.saturating_duration_since(Instant::now())).is_ok();
        if let Some((_, reason)) = producer.client().fatal_error() {
            return Err(Cause::Fatal(reason));
        }
        if !self.shared.returned.is_empty() {
            return Err(Cause::Fatal("records came back".to_owned()));
        }
        Ok(flushed && !self.send_again(&producer))
    }
}

/// Settles what is left as lost.
fn give_up(slot: &Slot, shared: &Shared) {
    shared.give_up();
    if let Some(producer) = slot.load_full() {
        let left = producer.in_flight_count();
        if left > 0 {
            kafka::purge(&producer);
            tracing::warn!(left, "kafka_records_given_up");
        }
    }
    let kept = [shared.unconfirmed.take(), shared.returned.take()];
    for unsettled in kept.into_iter().flatten() {
        Unsettled::closed(unsettled);
    }
}

//! The thread that polls the producer for reports, watches it, and replaces it when it cannot go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, counter};
use rdkafka::producer::Producer as _;

use super::{Line, Producer};
use crate::kafka::pauses::Pauses;
use crate::kafka::probe;
use crate::kafka::watch::{Sight, Signs, Watch};
use crate::logging::AUDIT_TARGET;

/// How long one poll lasts; bounds how late the end is seen.
const POLL: Duration = Duration::from_millis(100);

pub(super) struct Keeper {
    line: Arc<Line>,
    watch: Watch,
    pauses: Pauses,
    replaced: Counter,
}

impl Keeper {
    pub(super) fn new(line: Arc<Line>, idempotent: bool) -> Self {
        let replaced = counter!("permission_client_replaced_total", "client" => "audit");
        Self { watch: Watch::new(&line.client, idempotent), line, pauses: Pauses::new(), replaced }
    }

    pub(super) fn start(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("permissions-audit".to_owned()).spawn(move || self.run())
    }

    fn run(mut self) {
        while !self.line.is_closing.load(Ordering::Relaxed)
            && let Some(producer) = self.line.producer()
        {
            producer.poll(POLL);
            let cause = self.cause(&producer).filter(|_| self.pauses.is_over(Instant::now()));
            // Whoever drops it last may have to wait for it.
            drop(producer);
            if let Some(cause) = cause {
                self.replace(&cause);
            }
        }
    }

    /// Why the producer has to be replaced now.
    fn cause(&mut self, producer: &Producer) -> Option<String> {
        if let Some((_, reason)) = producer.client().fatal_error() {
            return Some(reason);
        }
        let outcomes = &self.line.outcomes;
        if !outcomes.returned().is_empty() {
            return Some("records came back".to_owned());
        }
        let settled = outcomes.delivered.load(Ordering::Relaxed) + outcomes.refused.load(Ordering::Relaxed);
        // Without a record that waits nobody misses a broker.
        let signs = Signs { down: false, outcomes: settled, waiting: producer.in_flight_count() > 0 };
        let sight = self.watch.look(signs, |timeout| probe::ask(producer, timeout).is_some());
        (sight == Sight::Stuck).then(|| "it reaches no broker, and a fresh client does".to_owned())
    }

    fn replace(&mut self, reason: &str) {
        self.pauses.step(Instant::now(), self.line.outcomes.delivered.load(Ordering::Relaxed));
        let topic = &self.line.topic;
        match self.line.replace() {
            Ok(records) => {
                self.replaced.increment(1);
                tracing::error!(target: AUDIT_TARGET, topic, reason, records, "audit_producer_replaced");
            }
            Err(error) => tracing::error!(target: AUDIT_TARGET, topic, reason, %error, "audit_producer_not_replaced"),
        }
    }
}

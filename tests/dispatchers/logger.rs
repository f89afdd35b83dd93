//! The contract of dispatchers, for log lines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fleet_telemetry::config;
use fleet_telemetry::dispatch::logger::Logger;
use fleet_telemetry::dispatch::{Dispatcher, Full, Health, Outbox, Receipt};
use fleet_telemetry::record::{Record, Topics};
use futures_util::future::BoxFuture;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::contract::{Harness, Held};

crate::contract::suite!(LogLines);

/// Collects the events of one dispatcher.
struct LogLines {
    lines: Lines,
    subscriber: tracing::Dispatch,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Held>>>);

impl Harness for LogLines {
    const EXACT_BYTES: bool = false;
    const OPAQUE: bool = false;

    async fn start() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone()).into();
        Self { lines, subscriber }
    }

    async fn connect(&self, topics: &Topics, _max_unsettled: usize) -> Arc<dyn Dispatcher> {
        let logger = Logger::new(&config::Logger::default(), topics);
        Arc::new(Overheard { logger, subscriber: self.subscriber.clone() })
    }

    async fn held(&self) -> Vec<Held> {
        self.lines.0.lock().unwrap().clone()
    }
}

/// The logger, whose lines go to a subscriber of its own, whatever thread they come from.
#[derive(Debug)]
struct Overheard {
    logger: Logger,
    subscriber: tracing::Dispatch,
}

impl Dispatcher for Overheard {
    fn name(&self) -> config::DispatcherName {
        self.logger.name()
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        tracing::dispatcher::with_default(&self.subscriber, || self.logger.dispatch(record, receipt))
    }

    fn outbox(&self) -> &Outbox {
        self.logger.outbox()
    }

    fn health(&self) -> Health {
        self.logger.health()
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        self.logger.close(deadline)
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if fields.0.get("message").map(String::as_str) != Some("record_payload") {
            return;
        }
        let metadata: BTreeMap<String, String> = serde_json::from_str(&fields.0["metadata"]).unwrap();
        let held = Held {
            vin: metadata["vin"].clone(),
            topic: metadata["txtype"].clone(),
            txid: metadata["txid"].clone().into_bytes(),
            payload: None,
        };
        self.0.lock().unwrap().push(held);
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
}

//! The contract of dispatchers, for log lines.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use fleet_telemetry::config;
use fleet_telemetry::dispatch::Dispatcher;
use fleet_telemetry::dispatch::logger::Logger;
use fleet_telemetry::record::Topics;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::contract::{Harness, Held};

crate::contract::suite!(LogLines);

/// Collects the events of the test's own thread, which is where a record is logged.
struct LogLines {
    lines: Lines,
    _subscriber: DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Held>>>);

impl Harness for LogLines {
    const EXACT_BYTES: bool = false;

    async fn start() -> Self {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        Self { lines, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    async fn connect(&self, topics: &Topics, _max_unsettled: usize) -> Arc<dyn Dispatcher> {
        Arc::new(Logger::new(&config::Logger::default(), topics))
    }

    async fn held(&self) -> Vec<Held> {
        self.lines.0.lock().unwrap().clone()
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

//! The contract of dispatchers, against a real Kafka broker.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use fleet_telemetry::config;
use fleet_telemetry::dispatch::Dispatcher;
use fleet_telemetry::dispatch::kafka::Kafka;
use fleet_telemetry::record::Topics;
use tokio::sync::MutexGuard;

use crate::contract::{Harness, Held};
use crate::support::kafka::Broker;

crate::contract::suite!(Namespace);

/// Topics of its own on the one broker, which is cut off by killing it.
struct Namespace {
    broker: &'static Broker,
    name: String,
    /// Record types that a dispatcher was connected with.
    types: Mutex<Vec<String>>,
    killed: AtomicBool,
    /// One clause after the other: an outage is everybody's.
    _turn: MutexGuard<'static, ()>,
}

/// Not the one that other tests share: this one gets killed.
static BROKER: OnceLock<Broker> = OnceLock::new();
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Harness for Namespace {
    /// More than the others need: a killed broker takes seconds to come back, on a busy machine many.
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self {
            _turn: TURN.lock().await,
            broker: BROKER.get_or_init(Broker::start),
            name: format!("contract{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            types: Mutex::default(),
            killed: AtomicBool::new(false),
        }
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        *self.types.lock().unwrap() = topics.table(|_, name| name.to_owned()).into();
        let config = config::Kafka {
            properties: BTreeMap::from([("bootstrap.servers".to_owned(), self.broker.bootstrap())]),
            max_unsettled: config::InFlight { records: max_unsettled, bytes: 1 << 30 },
            connect_timeout: Self::PATIENCE,
            unhealthy_after: Self::PATIENCE,
        };
        let dispatchers = config::Dispatchers { namespace: self.name.clone(), ..Default::default() };
        Arc::new(Kafka::connect(&config, &dispatchers, topics).await.expect("connects"))
    }

    async fn held(&self) -> Vec<Held> {
        let types = self.types.lock().unwrap().clone();
        types.iter().flat_map(|topic| self.held_of(topic)).collect()
    }

    async fn cut(&self) {
        self.broker.kill();
        self.killed.store(true, Ordering::Relaxed);
    }

    async fn restore(&self) {
        self.revive();
    }
}

impl Namespace {
    fn held_of(&self, topic: &str) -> Vec<Held> {
        let messages = self.broker.consume(&format!("{}_{topic}", self.name));
        let held = messages.into_iter().map(|message| Held {
            vin: String::from_utf8(message.key.clone()).unwrap(),
            topic: String::from_utf8(message.header("txtype").unwrap().to_vec()).unwrap(),
            txid: message.header("txid").unwrap().to_vec(),
            payload: Some(message.payload),
        });
        held.collect()
    }

    fn revive(&self) {
        if self.killed.swap(false, Ordering::Relaxed) {
            self.broker.restart();
        }
    }
}

impl Drop for Namespace {
    /// A clause that fails during an outage must not leave the next one in it.
    fn drop(&mut self) {
        self.revive();
    }
}

//! The contract of dispatchers, against the streams of a real Redis, and of a real cluster.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fleet_telemetry::config::InFlight;
use fleet_telemetry::config::{self, RedisMode};
use fleet_telemetry::dispatch::{Dispatcher, redis};
use fleet_telemetry::record::Topics;
use tokio::sync::MutexGuard;

use crate::contract::{Harness, Held};
use crate::redis::config;
use crate::support::redis::{Cluster, Redis};

/// A server of its own.
struct Single(Redis);

/// A namespace of its own in the one cluster.
struct Namespace {
    cluster: &'static Cluster,
    name: String,
    /// One clause after the other: an outage is everybody's.
    _turn: MutexGuard<'static, ()>,
}

mod one_server {
    use super::*;
    crate::contract::suite!(Single);
}

mod a_cluster {
    use super::*;
    crate::contract::suite!(Namespace);
}

static CLUSTER: OnceLock<Cluster> = OnceLock::new();
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const TYPES: [&str; 5] = ["V", "alerts", "errors", "connectivity", "custom"];

impl Harness for Single {
    async fn start() -> Self {
        Self(Redis::start())
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        connect(config(&[self.0.port]), "single", topics, max_unsettled).await
    }

    async fn held(&self) -> Vec<Held> {
        TYPES.iter().flat_map(|topic| held(&self.0, "single", topic)).collect()
    }

    async fn cut(&self) {
        self.0.kill();
    }

    async fn restore(&self) {
        self.0.restart();
    }
}

impl Harness for Namespace {
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start() -> Self {
        let turn = TURN.lock().await;
        let name = uuid::Uuid::new_v4().to_string();
        let cluster = CLUSTER.get_or_init(Cluster::start);
        cluster.await_ready();
        Self { cluster, name, _turn: turn }
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        // One of the nodes tells of the others.
        let config = config::Redis { mode: RedisMode::Cluster, ..config(&[self.cluster.nodes[1].port]) };
        connect(config, &self.name, topics, max_unsettled).await
    }

    async fn held(&self) -> Vec<Held> {
        let of = |topic: &&str| held(self.cluster.node(&format!("{}_{topic}", self.name)), &self.name, topic);
        TYPES.iter().flat_map(of).collect()
    }

    async fn cut(&self) {
        self.cluster.nodes.iter().for_each(Redis::kill);
    }

    async fn restore(&self) {
        self.cluster.nodes.iter().for_each(Redis::restart);
        self.cluster.await_ready();
    }
}

async fn connect(config: config::Redis, namespace: &str, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
    let config = config::Redis { max_unsettled: InFlight { records: max_unsettled, bytes: 1 << 30 }, ..config };
    let dispatchers = config::Dispatchers { namespace: namespace.to_owned(), ..Default::default() };
    Arc::new(redis::connect(&config, &dispatchers, topics).await.expect("connects"))
}

fn held(server: &Redis, namespace: &str, topic: &str) -> Vec<Held> {
    let entries = server.client().entries(&format!("{namespace}_{topic}"));
    let held = entries.into_iter().map(|entry| Held {
        vin: String::from_utf8(entry["vin"].clone()).unwrap(),
        topic: String::from_utf8(entry["txtype"].clone()).unwrap(),
        txid: entry["txid"].clone(),
        payload: Some(entry["payload"].clone()),
    });
    held.collect()
}

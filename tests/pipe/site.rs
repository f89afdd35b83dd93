//! A place for servers that come and go: certificates, one configuration, fixed ports.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::support;
use crate::support::kafka::Broker;
use crate::support::pki::Pki;
use crate::support::server::{Server, free_port};

pub(crate) struct Site {
    dir: TempDir,
    pub(crate) pki: Pki,
    config: Value,
    namespace: &'static str,
}

impl Site {
    /// `V` goes to Kafka and nothing else anywhere, unless the test changes that.
    pub(crate) fn new(broker: &Broker, namespace: &'static str, change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let mut config = support::server::config(&pki);
        config["port"] = json!(free_port());
        config["log_level"] = json!("info");
        config["namespace"] = json!(namespace);
        config["kafka"] = json!({ "bootstrap.servers": broker.bootstrap() });
        config["kafka_options"] = json!({ "connect_timeout": "60s" });
        config["records"] = json!({ "V": ["kafka"] });
        change(&mut config);
        Self { dir, pki, config, namespace }
    }

    /// A server on the same ports each time.
    pub(crate) fn serve(&self) -> Server {
        Server::start(&self.pki, &self.config)
    }

    /// The Kafka topic of a record type.
    pub(crate) fn topic(&self, record_type: &str) -> String {
        format!("{}_{record_type}", self.namespace)
    }

    /// The embedded store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("telemetry.db")
    }
}

/// The broker that tests stop and kill, one at a time.
pub(crate) async fn stoppable_broker() -> MappedMutexGuard<'static, Broker> {
    static BROKER: Mutex<Option<Broker>> = Mutex::const_new(None);
    let broker = MutexGuard::map(BROKER.lock().await, |broker| broker.get_or_insert_with(Broker::start));
    // A test that failed may have left it stopped.
    broker.resume();
    broker
}

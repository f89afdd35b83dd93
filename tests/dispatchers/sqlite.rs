//! The embedded store.

use std::sync::Arc;

use fleet_telemetry::dispatch::Dispatcher;
use fleet_telemetry::record::Topics;

use crate::contract::{self, Harness, Held};

struct Store;
impl Harness for Store {
    async fn start() -> Self {
        todo!()
    }
    async fn connect(&self, _: &Topics, _: usize) -> Arc<dyn Dispatcher> {
        todo!()
    }
    async fn held(&self) -> Vec<Held> {
        todo!()
    }
}
contract::suite!(Store);

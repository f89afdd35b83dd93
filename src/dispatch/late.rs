//! A dispatcher that the server does not wait for at the start.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::{ConnectError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::backoff::Backoff;
use crate::config::{DispatcherName, InFlight};
use crate::record::Record;

/// Connects in the background, again and again; full until then.
#[derive(Debug)]
pub struct Late {
    shared: Arc<Shared>,
    connecting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    name: DispatcherName,
    up: OnceLock<Arc<dyn Dispatcher>>,
    /// Why it is not up yet.
    trouble: Mutex<String>,
    /// What sessions wait at meanwhile; nobody ever enters it.
    nothing: Outbox,
}

/// Between attempts, at first and at most.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Late {
    /// Starts connecting. Each attempt is a new future of `connect`.
    pub fn start<F>(name: DispatcherName, mut connect: impl FnMut() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<Arc<dyn Dispatcher>, ConnectError>> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            name,
            up: OnceLock::new(),
            trouble: Mutex::new("connecting".to_owned()),
            nothing: Outbox::new(InFlight::default()),
        });
        let task = {
            let shared = Arc::clone(&shared);
            async move {
                let mut backoff = Backoff::new(DELAYS.0, DELAYS.1);
                loop {
                    match connect().await {
                        Ok(dispatcher) => return shared.came_up(dispatcher),
                        Err(error) => shared.failed(&error),
                    }
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        };
        Self { shared, connecting: Mutex::new(Some(tokio::spawn(task))) }
    }

    fn up(&self) -> Option<&Arc<dyn Dispatcher>> {
        self.shared.up.get()
    }
}

impl Shared {
    fn came_up(&self, dispatcher: Arc<dyn Dispatcher>) {
        tracing::info!(activity = true, dispatcher = self.name.label(), "dispatcher_connected_late");
        let _ = self.up.set(dispatcher);
        self.nothing.wake();
    }

    fn failed(&self, error: &ConnectError) {
        tracing::warn!(%error, "dispatcher_not_connected");
        *self.trouble.lock() = format!("not connected: {error}");
    }
}

impl Dispatcher for Late {
    fn name(&self) -> DispatcherName {
        self.shared.name
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        match self.up() {
            Some(dispatcher) => dispatcher.dispatch(record, receipt),
            None => Err(Full(receipt)),
        }
    }

    fn outbox(&self) -> &Outbox {
        self.up().map_or(&self.shared.nothing, |dispatcher| dispatcher.outbox())
    }

    fn health(&self) -> Health {
        match self.up() {
            Some(dispatcher) => dispatcher.health(),
            None => Health::Unhealthy(self.shared.trouble.lock().clone()),
        }
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(connecting) = self.connecting.lock().take() {
                connecting.abort();
            }
            if let Some(dispatcher) = self.up() {
                dispatcher.close(deadline).await;
            }
        })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(connecting) = self.connecting.lock().take() {
            connecting.abort();
        }
    }
}

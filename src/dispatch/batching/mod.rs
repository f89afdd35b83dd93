//! What every dispatcher that sends batches needs, once: queue, linger, order, retries, health, close.
//!
//! ```text
//! sessions ──dispatch──▶ Queue ──batches──▶ Lane ──Sink::send──▶ the other side
//!     ▲                    │                  │ ▲
//!     └──── receipts ◀─────┴──────────────────┘ └─ back-off, then what is left of the batch
//! ```
//!
//! A vehicle belongs to one lane, and a lane sends one batch at a time, so the records of a vehicle arrive in order.
//! Each lane has a sink of its own. All of them run on one thread with a runtime of its own: what blocks there (a
//! file system, say) delays nobody but this dispatcher.

mod lane;
mod queue;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use self::lane::Lane;
use self::queue::Queue;
use super::{Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::{DispatcherName, InFlight};
use crate::record::Record;

/// The author of a dispatcher writes this and nothing else.
pub trait Sink: Send + 'static {
    /// Sends `batch`, which is never empty and holds the records of a vehicle in their order. The fate of each record,
    /// in the order of the batch; one that is missing counts as [`Fate::Retry`].
    ///
    /// Called again with what is to be tried again, after a pause, and with nothing newer before that.
    fn send(&mut self, batch: &[Record]) -> impl Future<Output = Vec<Fate>> + Send;

    /// Called while there is nothing to send: whether records would be taken now. When to ask again.
    ///
    /// # Errors
    /// What keeps them from being taken, for operators.
    fn probe(&mut self) -> impl Future<Output = Result<Duration, String>> + Send;

    /// How long the other side has asked to be left alone, after a send that was to be tried again.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// Nothing will be sent any more.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is safe.
    Delivered,
    /// It is not, for now; and why.
    Retry(String),
    /// It never will be; and why. Others may.
    Refused(String),
}

/// How batches are made and tried again.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Records and bytes of a batch, at most; one record may have more bytes.
    pub batch: InFlight,
    /// How long a batch may wait to become full.
    pub linger: Duration,
    /// The first pause before another attempt, and the longest.
    pub pauses: (Duration, Duration),
    /// After so long a batch is settled as lost; `None`: it is tried until it is delivered.
    pub give_up: Option<Duration>,
}

/// A dispatcher made of sinks.
pub struct Batching {
    name: DispatcherName,
    outbox: Arc<Outbox>,
    lanes: Box<[Arc<Queue>]>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Batching {
    /// Starts a thread for `sinks`, a lane for each; at least one. They hold `bound` together.
    ///
    /// # Errors
    /// When the system gives no thread, or no runtime.
    pub fn start<S: Sink>(
        name: DispatcherName,
        bound: InFlight,
        settings: Settings,
        sinks: Vec<S>,
    ) -> io::Result<Self> {
        let (this, lanes) = Self::new(name, bound, settings, sinks);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(join_all(lanes.into_iter().map(Lane::run)));
        };
        let thread = std::thread::Builder::new().name(name.label().to_owned()).spawn(run)?;
        *this.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(thread);
        Ok(this)
    }

    /// The dispatcher, and its lanes, to be run.
    fn new<S: Sink>(name: DispatcherName, bound: InFlight, settings: Settings, sinks: Vec<S>) -> (Self, Vec<Lane<S>>) {
        assert!(!sinks.is_empty(), "a dispatcher has at least one lane");
        let lanes: Vec<_> = sinks.into_iter().map(|sink| Lane::new(Arc::default(), settings, sink)).collect();
        let queues = lanes.iter().map(|lane| Arc::clone(lane.queue())).collect();
        (Self { name, outbox: Arc::new(Outbox::new(bound)), lanes: queues, thread: std::sync::Mutex::default() }, lanes)
    }

    fn lane(&self, vin: &str) -> &Queue {
        match &*self.lanes {
            [only] => only,
            lanes => {
                let mut hash = Xxh3DefaultBuilder::new().build_hasher();
                hash.write(vin.as_bytes());
                let position = hash.finish() % lanes.len() as u64;
                &lanes[usize::try_from(position).expect("less than the number of lanes")]
            }
        }
    }
}

impl Dispatcher for Batching {
    fn name(&self) -> DispatcherName {
        self.name
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        let receipt = self.outbox.enter(receipt)?;
        self.lane(record.vin()).offer(record, receipt);
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// That of the first lane that is unhealthy.
    fn health(&self) -> Health {
        let mut health = self.lanes.iter().map(|queue| queue.health());
        health.find(|health| *health != Health::Healthy).unwrap_or(Health::Healthy)
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let ended = join_all(self.lanes.iter().map(|queue| queue.close(deadline.into()))).await;
            if ended.contains(&false) {
                // The thread is stuck in a call; it ends with the process.
                return;
            }
            let thread = self.thread.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
            if let Some(thread) = thread {
                // All lanes have said that they are done, so this does not block for long.
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        })
    }
}

impl Drop for Batching {
    fn drop(&mut self) {
        self.lanes.iter().for_each(|queue| queue.begin_close(tokio::time::Instant::now()));
    }
}

impl fmt::Debug for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batching").field("name", &self.name).field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

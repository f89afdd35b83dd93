//! The loop of one lane.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Next, Queue};
use super::{Settings, Sink};
use crate::backoff::Backoff;
use crate::dispatch::{DispatchError, Health};
use crate::record::Record;

/// One batch after the other, over one sink.
pub(super) struct Lane<S> {
    queue: Arc<Queue>,
    settings: Settings,
    sink: S,
    probe_at: Instant,
}

/// After a probe that failed.
const PROBE_AGAIN: Duration = Duration::from_secs(1);

impl<S: Sink> Lane<S> {
    pub(super) fn new(queue: Arc<Queue>, settings: Settings, sink: S) -> Self {
        Self { queue, settings, sink, probe_at: Instant::now() }
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Until the queue is closed.
    pub(super) async fn run(self) {
        let _ended = Ended(Arc::clone(&self.queue));
        // Moved, so that the sink is gone before the end is announced.
        let mut lane = self;
        loop {
            match lane.queue.next(&lane.settings, lane.probe_at).await {
                Next::Batch(records) => lane.send(records).await,
                Next::Idle => lane.probe().await,
                Next::Closed => break,
            }
        }
        lane.queue.abandon();
        lane.sink.close().await;
    }

    /// Sends a batch until all of it is settled. What is to be tried again is kept in its order, so that a short outage
    /// loses nothing.
    async fn send(&mut self, mut left: Vec<Record>) {
        let give_up = self.settings.give_up.map(|after| Instant::now() + after);
        let (first, most) = self.settings.pauses;
        let mut backoff = Backoff::new(first, most);
        loop {
            let fates = self.sink.send(&left).await;
            let (again, reason) = self.queue.settle(fates);
            let mut again = again.into_iter();
            left.retain(|_| again.next().unwrap_or(false));
            let Some(reason) = reason else {
                return self.queue.set_health(Health::Healthy);
            };
            self.queue.set_health(Health::Unhealthy(reason.clone()));
            if give_up.is_some_and(|at| Instant::now() >= at) {
                return self.queue.fail(&DispatchError::Refused(reason));
            }
            let pause = backoff.delay().max(self.sink.pause().unwrap_or_default());
            if !self.queue.pause(pause).await {
                return self.queue.fail(&DispatchError::Closed);
            }
        }
    }

    async fn probe(&mut self) {
        let pause = match self.sink.probe().await {
            Ok(pause) => {
                self.queue.set_health(Health::Healthy);
                pause
            }
            Err(reason) => {
                self.queue.set_health(Health::Unhealthy(reason));
                PROBE_AGAIN
            }
        };
        self.probe_at = Instant::now() + pause;
    }
}

/// Says so when the lane ends, however it does.
struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_health(Health::Unhealthy("its thread panicked; restart the server".to_owned()));
        }
        self.0.end();
    }
}

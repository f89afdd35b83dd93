//! What sessions have handed over and the writer has not settled.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::InFlight;
use crate::dispatch::{DispatchError, Full, Health, Outbox, Receipt};
use crate::record::Record;

/// Between the sessions and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    /// For the writer alone.
    wake: Condvar,
    health: Mutex<Health>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<(Record, Receipt)>,
    /// Receipts of the batch that the writer is at. They stay here so that a close can settle them
    /// even while the writer is stuck in the file system.
    in_hand: Vec<Receipt>,
    /// Records waiting from which the writer wants to be woken; a wake-up is a system call.
    wake_at: usize,
    /// Set once, by the first close: until when to go on.
    closing: Option<Instant>,
}

/// The writer's next work.
#[derive(Debug)]
pub(super) enum Next {
    /// Commit these.
    Batch(Vec<Record>),
    /// Nothing came in time.
    Idle,
    /// Closed, with nothing left or no time left.
    Closed,
}

impl Queue {
    pub(super) fn new(bound: InFlight) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(bound)),
            state: Mutex::new(State { waiting: VecDeque::new(), in_hand: Vec::new(), wake_at: NEVER, closing: None }),
            wake: Condvar::new(),
            health: Mutex::new(Health::Healthy),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Takes a record over, or gives the receipt back. Never blocks on the writer.
    pub(super) fn offer(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        let receipt = self.outbox.enter(receipt)?;
        let mut state = self.lock();
        if state.closing.is_some() {
            drop(state);
            receipt.failed(&DispatchError::Closed);
            return Ok(());
        }
        state.waiting.push_back((record.clone(), receipt));
        if state.waiting.len() >= state.wake_at {
            state.wake_at = NEVER;
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until `idle_at` for a first record, then up to `linger` for a batch of `most`.
    pub(super) fn next(&self, most: usize, linger: Duration, idle_at: Instant) -> Next {
        let most = most.max(1);
        let mut state = self.wait(self.lock(), 1, idle_at);
        if !state.waiting.is_empty() {
            state = self.wait(state, most, Instant::now() + linger);
        }
        if state.out_of_time() {
            return Next::Closed;
        }
        if state.waiting.is_empty() {
            return if state.closing.is_some() { Next::Closed } else { Next::Idle };
        }
        let count = state.waiting.len().min(most);
        let (records, receipts) = state.waiting.drain(..count).unzip();
        state.in_hand = receipts;
        Next::Batch(records)
    }

    /// Settles the batch that the writer is at.
    pub(super) fn settle(&self, result: Result<(), &DispatchError>) {
        let receipts = std::mem::take(&mut self.lock().in_hand);
        Self::settle_all(receipts, result);
    }

    /// Sleeps before another attempt; false when a close leaves no time for it.
    pub(super) fn pause(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        let mut state = self.lock();
        loop {
            let until = state.closing.map_or(until, |deadline| deadline.min(until));
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return !state.out_of_time();
            }
            // A close may wake it early, to a nearer `until`.
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// From here on, records are settled as lost and the writer goes on until `deadline` at most.
    pub(super) fn begin_close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closing = Some(state.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.wake.notify_one();
    }

    /// Returns when everything is settled; whether the writer has ended.
    pub(super) async fn close(&self, deadline: Instant) -> bool {
        self.begin_close(deadline);
        let mut ended = self.ended.subscribe();
        let has_ended =
            tokio::time::timeout_at((deadline + GRACE).into(), ended.wait_for(|ended| *ended)).await.is_ok();
        if !has_ended {
            self.abandon();
        }
        has_ended
    }

    /// The writer's last words, also when it panics.
    pub(super) fn end(&self) {
        self.begin_close(Instant::now());
        self.abandon();
        self.ended.send_replace(true);
    }

    /// Settles everything that is left as lost.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        let in_hand = std::mem::take(&mut state.in_hand);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        let receipts = in_hand.into_iter().chain(waiting.into_iter().map(|(_, receipt)| receipt));
        Self::settle_all(receipts, Err(&DispatchError::Closed));
    }

    fn settle_all(receipts: impl IntoIterator<Item = Receipt>, result: Result<(), &DispatchError>) {
        for receipt in receipts {
            match result {
                Ok(()) => receipt.delivered(),
                Err(error) => receipt.failed(error),
            }
        }
    }

    /// Until `count` records wait, `until` has come, or the queue closes.
    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, count: usize, until: Instant) -> MutexGuard<'a, State> {
        while state.waiting.len() < count && state.closing.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.wake_at = count;
            state = self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wake_at = NEVER;
        state
    }

    /// A std mutex: it is held for a push or a swap, never across a commit.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn out_of_time(&self) -> bool {
        self.closing.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// The writer is awake, or does not want to be woken.
const NEVER: usize = usize::MAX;

/// What a writer that obeys the deadline may still need: one lock attempt and closing the file.
const GRACE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::config::DispatcherName;
    use crate::dispatch::{DispatcherMetrics, Outcome, Outlet};
    use crate::identity::{ClientType, Identity};
    use crate::record::{Origin, Received, RecordKind, Topics};

    /// A queue and a session in front of it.
    struct Bench {
        queue: Arc<Queue>,
        outlet: Arc<Outlet>,
        metrics: Arc<DispatcherMetrics>,
        origin: Arc<Origin>,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                queue: Arc::new(Queue::new(InFlight { records: 100, bytes: 1 << 20 })),
                outlet: Arc::default(),
                metrics: Arc::new(DispatcherMetrics::register(DispatcherName::Sqlite, &Topics::new([]))),
                origin: Arc::new(Origin {
                    identity: Identity::new(ClientType::VehicleDevice, "VIN"),
                    connection_id: "".into(),
                    network_interface: "".into(),
                    client_version: "".into(),
                }),
            }
        }

        fn offer(&self, records: usize) {
            for n in 0..records {
                let txid = n.to_string();
                let origin = Arc::clone(&self.origin);
                let record = Record::from_parts(RecordKind::V, b"", txid.as_bytes(), origin, Received::now());
                let receipt = Receipt::direct(&record, &self.metrics, &self.outlet);
                self.queue.offer(&record, receipt).expect("room");
            }
        }

        fn outcomes(&self) -> Vec<Outcome> {
            let mut settled = Vec::new();
            let _ = self.outlet.poll_settled(&mut Context::from_waker(Waker::noop()), &mut settled);
            settled.into_iter().map(|settled| settled.outcome).collect()
        }
    }

    fn batch(next: Next) -> usize {
        match next {
            Next::Batch(records) => records.len(),
            other => panic!("{other:?} instead of a batch"),
        }
    }

    fn in_an_hour() -> Instant {
        Instant::now() + HOUR
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_batch_is_everything_that_waits_up_to_its_limit() {
        let bench = Bench::new();
        bench.offer(25);
        let taken = [10, 10, 100].map(|most| {
            let count = batch(bench.queue.next(most, Duration::ZERO, in_an_hour()));
            bench.queue.settle(Ok(()));
            count
        });
        assert_eq!(taken, [10, 10, 5]);
        assert_eq!(bench.outcomes(), [Outcome::Delivered; 25]);
        assert!(matches!(bench.queue.next(1, HOUR, Instant::now()), Next::Idle));
    }

    #[test]
    fn a_full_batch_does_not_linger() {
        let bench = Bench::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| batch(bench.queue.next(10, HOUR, in_an_hour())));
            for _ in 0..10 {
                bench.offer(1);
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(writer.join().expect("no panic"), 10);
        });
    }

    #[test]
    fn a_small_batch_goes_after_the_linger() {
        let bench = Bench::new();
        bench.offer(3);
        let start = Instant::now();
        assert_eq!(batch(bench.queue.next(10, Duration::from_millis(50), in_an_hour())), 3);
        assert!(start.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn a_close_ends_lingering_and_pausing() {
        let bench = Bench::new();
        bench.offer(3);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (batch(bench.queue.next(10, HOUR, in_an_hour())), bench.queue.pause(HOUR)));
            std::thread::sleep(Duration::from_millis(50));
            bench.queue.begin_close(Instant::now() + Duration::from_millis(100));
            assert_eq!(writer.join().expect("no panic"), (3, false));
        });
    }

    #[tokio::test]
    async fn close_settles_what_a_stuck_writer_holds_and_its_late_success_acks_nothing() {
        let bench = Bench::new();
        bench.offer(5);
        assert_eq!(batch(bench.queue.next(3, Duration::ZERO, in_an_hour())), 3);
        assert!(!bench.queue.close(Instant::now()).await, "the writer has not ended");
        assert_eq!(bench.outcomes(), [Outcome::Lost; 5]);
        bench.queue.settle(Ok(()));
        assert_eq!(bench.outcomes(), []);
        assert_eq!(bench.queue.outbox().used().records, 0);
    }
}

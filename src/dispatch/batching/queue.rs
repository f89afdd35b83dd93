//! What sessions have handed over and a lane has not settled.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::{Fate, Settings};
use crate::dispatch::{DispatchError, Health, Receipt};
use crate::record::Record;

/// Between the sessions and one lane.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the lane alone.
    wake: Notify,
    health: Mutex<Health>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<(Record, Receipt)>,
    /// Receipts of the batch that the lane is at. They stay here so that a close can settle them even while the
    /// lane is stuck in a call.
    in_hand: Vec<Receipt>,
    /// Records waiting from which the lane wants to be woken; a wake-up is a system call.
    wake_at: usize,
    /// Set once, by the first close: until when to go on.
    closing: Option<Instant>,
}

/// The lane's next work.
#[derive(Debug)]
pub(super) enum Next {
    /// Send these.
    Batch(Vec<Record>),
    /// Nothing came in time.
    Idle,
    /// Closed, with nothing left or no time left.
    Closed,
}

/// The lane is awake, or does not want to be woken.
const NEVER: usize = usize::MAX;

/// What a lane that obeys the deadline may still need: the end of a call, and closing.
const GRACE: Duration = Duration::from_millis(500);

impl Default for Queue {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), in_hand: Vec::new(), wake_at: NEVER, closing: None };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
            health: Mutex::new(Health::Healthy),
            ended: watch::Sender::new(false),
        }
    }
}

impl Queue {
    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Takes a record over. Never blocks on the lane.
    pub(super) fn offer(&self, record: &Record, receipt: Receipt) {
        let mut state = self.lock();
        if state.closing.is_some() {
            drop(state);
            return receipt.failed(&DispatchError::Closed);
        }
        state.waiting.push_back((record.clone(), receipt));
        if state.waiting.len() >= state.wake_at {
            state.wake_at = NEVER;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Waits until `idle_at` for a first record, then for as long as records may linger for a full batch.
    pub(super) async fn next(&self, settings: &Settings, idle_at: Instant) -> Next {
        self.wait(1, idle_at).await;
        if !self.lock().waiting.is_empty() {
            self.wait(settings.batch.records.max(1), Instant::now() + settings.linger).await;
        }
        let mut state = self.lock();
        if state.out_of_time() {
            return Next::Closed;
        }
        if state.waiting.is_empty() {
            return if state.closing.is_some() { Next::Closed } else { Next::Idle };
        }
        Next::Batch(state.take(settings))
    }

    /// Settles the batch that the lane is at; for each record whether it is to be tried again, and one reason for that.
    pub(super) fn settle(&self, fates: Vec<Fate>) -> (Vec<bool>, Option<String>) {
        let receipts = std::mem::take(&mut self.lock().in_hand);
        let mut fates = fates.into_iter();
        let (mut kept, mut reason, mut again) = (Vec::new(), None, Vec::with_capacity(receipts.len()));
        for receipt in receipts {
            let fate = fates.next().unwrap_or_else(|| Fate::Retry("no answer".to_owned()));
            again.push(matches!(fate, Fate::Retry(_)));
            match fate {
                Fate::Delivered => receipt.delivered(),
                Fate::Refused(why) => receipt.failed(&DispatchError::Refused(why)),
                Fate::Retry(why) => {
                    reason.get_or_insert(why);
                    kept.push(receipt);
                }
            }
        }
        if !kept.is_empty() {
            self.keep(kept);
        }
        (again, reason)
    }

    /// Back into the lane's hand, unless the queue has been given up meanwhile.
    fn keep(&self, receipts: Vec<Receipt>) {
        let mut state = self.lock();
        if *self.ended.borrow() || state.out_of_time() {
            drop(state);
            return receipts.into_iter().for_each(|receipt| receipt.failed(&DispatchError::Closed));
        }
        state.in_hand = receipts;
    }

    /// Gives up the batch that the lane is at.
    pub(super) fn fail(&self, error: &DispatchError) {
        let receipts = std::mem::take(&mut self.lock().in_hand);
        receipts.into_iter().for_each(|receipt| receipt.failed(error));
    }

    /// Sleeps before another attempt; false when a close leaves no time for it.
    pub(super) async fn pause(&self, delay: Duration) -> bool {
        let until = Instant::now() + delay;
        loop {
            let until = self.lock().closing.map_or(until, |deadline| deadline.min(until));
            if Instant::now() >= until {
                return !self.lock().out_of_time();
            }
            // A close may wake it early, to a nearer `until`.
            let _ = timeout_at(until, self.wake.notified()).await;
        }
    }

    /// From here on, records are settled as lost and the lane goes on until `deadline` at most.
    pub(super) fn begin_close(&self, deadline: Instant) {
        let mut state = self.lock();
        state.closing = Some(state.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(state);
        self.wake.notify_one();
    }

    /// Returns when everything is settled; whether the lane has ended.
    pub(super) async fn close(&self, deadline: Instant) -> bool {
        self.begin_close(deadline);
        let mut ended = self.ended.subscribe();
        let has_ended = timeout_at(deadline + GRACE, ended.wait_for(|ended| *ended)).await.is_ok();
        if !has_ended {
            self.abandon();
        }
        has_ended
    }

    /// The lane's last words, also when it panics.
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
        receipts.for_each(|receipt| receipt.failed(&DispatchError::Closed));
    }

    /// Until `count` records wait, `until` has come, or the queue closes.
    async fn wait(&self, count: usize, until: Instant) {
        loop {
            {
                let mut state = self.lock();
                if state.waiting.len() >= count || state.closing.is_some() || Instant::now() >= until {
                    state.wake_at = NEVER;
                    return;
                }
                state.wake_at = count;
            }
            let _ = timeout_at(until, self.wake.notified()).await;
        }
    }

    /// A std mutex: it is held for a push or a swap, never while something is sent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The records of the next batch; their receipts are then in hand.
    fn take(&mut self, settings: &Settings) -> Vec<Record> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while let Some((record, _)) = self.waiting.front() {
            bytes += record.held_bytes();
            let is_full = records.len() >= settings.batch.records.max(1) || bytes > settings.batch.bytes;
            if is_full && !records.is_empty() {
                break;
            }
            let (record, receipt) = self.waiting.pop_front().expect("it was there a moment ago");
            records.push(record);
            self.in_hand.push(receipt);
        }
        records
    }

    fn out_of_time(&self) -> bool {
        self.closing.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

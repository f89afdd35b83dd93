//! Between those who log and the thread that writes.
//!
//! ```text
//!  workers ──push──▶ waiting ──next──▶ in hand ──settle──▶ gone
//!               │ no room                 │ could not be written
//!               ▼                         ▼
//!       ordinary: missing     ordinary: missing · audit: kept, tried again · record: its sender is told
//! ```
//!
//! Missing lines are counted, and a line says how many as soon as one can be written.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::backlog::{After, Backlog, Bounds, Class, Kind, Next, Then, Unwritten};

/// Shared by everyone who logs and the writer.
pub(super) struct Queue {
    pub(super) bounds: Bounds,
    state: Mutex<State>,
    /// For the writer alone.
    wake: Condvar,
    /// For those who flush.
    progress: Condvar,
    audit_written: watch::Sender<u64>,
    pub(super) totals: Totals,
}

#[derive(Default)]
struct State {
    backlog: Backlog,
    audit_taken: u64,
    /// The writer wants to be woken; a wake-up is a system call.
    is_asleep: bool,
    flushing: usize,
    is_closed: bool,
}

/// Since the start.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Ordinary lines that found no room.
    pub(super) full: AtomicU64,
    /// Ordinary lines that the system refused.
    pub(super) refused: AtomicU64,
    /// Audit lines that found no room.
    pub(super) audit: AtomicU64,
}

/// A line that takes longer than this is one that nobody reads.
const STUCK: Duration = Duration::from_secs(1);

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            state: Mutex::default(),
            wake: Condvar::new(),
            progress: Condvar::new(),
            audit_written: watch::Sender::new(0),
            totals: Totals::default(),
        }
    }

    /// Hands a line over; never waits for the writer. An ordinary line for which there is no room is counted instead.
    pub(super) fn push(&self, text: String, kind: Kind) {
        let mut state = self.lock();
        let is_ordinary = kind.class() == Class::Ordinary;
        if state.is_closed || is_ordinary && !state.backlog.ordinary.has_room(text.capacity(), self.bounds) {
            state.backlog.missing.count(kind.class());
            drop(state);
            return self.refuse(kind);
        }
        state.audit_taken += u64::from(kind.class() == Class::Audit);
        state.backlog.add(text, kind);
        let wake = std::mem::take(&mut state.is_asleep);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
    }

    fn refuse(&self, kind: Kind) {
        match kind {
            Kind::Ordinary => drop(self.totals.full.fetch_add(1, Ordering::Relaxed)),
            Kind::Audit => drop(self.totals.audit.fetch_add(1, Ordering::Relaxed)),
            Kind::Record(then) => then(Err(Unwritten::GivenUp)),
        }
    }

    /// Counts an audit line that is not even made, because there is no room.
    pub(super) fn lose_audit(&self) {
        self.lock().backlog.missing.count(Class::Audit);
        self.totals.audit.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether what is reserved for audit lines has room.
    pub(super) fn has_room_for_audit(&self) -> bool {
        self.lock().backlog.audit.has_room(0, self.bounds)
    }

    /// Bytes of the lines of records that wait.
    pub(super) fn record_bytes(&self) -> usize {
        self.lock().backlog.records.bytes
    }

    /// Lines and bytes that wait: ordinary ones, and those of the audit.
    pub(super) fn depth(&self) -> [(usize, usize); 2] {
        let state = self.lock();
        [state.backlog.ordinary, state.backlog.audit].map(|used| (used.lines, used.bytes))
    }

    /// What keeps lines from being written; `None`: nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.lock();
        let at_it = state.backlog.in_hand.as_ref().map(|in_hand| in_hand.since.elapsed());
        match (at_it.filter(|time| *time >= STUCK), &state.backlog.failing) {
            (Some(time), _) => Some(format!("stderr has taken nothing for {} s; is it read?", time.as_secs())),
            (None, Some(error)) => Some(format!("stderr: {error}")),
            (None, None) => None,
        }
    }

    /// Audit lines so far; [`Self::audit_reaches`] tells when they are written.
    pub(super) fn audit_mark(&self) -> u64 {
        self.lock().audit_taken
    }

    /// Whether the audit lines up to `mark` are written within `patience`.
    pub(super) async fn audit_reaches(&self, mark: u64, patience: Duration) -> bool {
        let mut written = self.audit_written.subscribe();
        let reached = written.wait_for(|written| *written >= mark);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// Waits for something to write.
    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(next) = state.backlog.take(now) {
                return next;
            }
            if state.is_closed {
                return Next::Closed;
            }
            state.is_asleep = true;
            let retry_at = state.backlog.retry_at.filter(|_| state.backlog.has_arrears());
            state = match retry_at {
                Some(at) => self.wake.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.is_asleep = false;
        }
    }

    /// What became of the line in hand.
    pub(super) fn settle(&self, text: String, result: io::Result<()>) {
        let result = result.map_err(|error| error.to_string());
        let mut state = self.lock();
        let after = state.backlog.tried(text, &result, Instant::now());
        let is_watched = state.flushing > 0;
        drop(state);
        // Without the lock: what a receipt says about a failure is a line, too.
        match after {
            After::Nothing => {}
            After::Dropped => drop(self.totals.refused.fetch_add(1, Ordering::Relaxed)),
            After::Audited => self.audit_written.send_modify(|written| *written += 1),
            After::Tell(then) => then(result.map_err(Unwritten::Refused)),
        }
        if is_watched {
            self.progress.notify_all();
        }
    }

    /// Waits until all that can be written is written, at most until `until`.
    pub(super) fn flush(&self, until: Instant) {
        let mut state = self.lock();
        state.flushing += 1;
        state.backlog.retry_at = None;
        self.wake.notify_one();
        while !state.backlog.is_idle() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.flushing -= 1;
    }

    /// As [`Self::flush`], but not when the writer has been at one line for so long already.
    pub(super) fn flush_unless_stuck(&self, patience: Duration) {
        let at_it = self.lock().backlog.in_hand.as_ref().map(|in_hand| in_hand.since.elapsed());
        if at_it.is_none_or(|time| time < patience) {
            self.flush(Instant::now() + patience);
        }
    }

    /// As [`Backlog::withdraw_records`].
    pub(super) fn withdraw_records(&self) -> Vec<Then> {
        self.lock().backlog.withdraw_records()
    }

    /// The writer goes on with what waits and then ends; new lines count as missing.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Nothing will be written any more: how many lines that leaves.
    pub(super) fn give_up(&self) -> usize {
        let mut state = self.lock();
        state.is_closed = true;
        let records = state.backlog.withdraw_records();
        let left = state.backlog.clear() + records.len();
        drop(state);
        self.wake.notify_one();
        records.into_iter().for_each(|then| then(Err(Unwritten::GivenUp)));
        left
    }

    /// The writer's last words, if it ends before its time.
    pub(super) fn broken(&self, error: &str) {
        self.lock().backlog.failing = Some(error.to_owned());
        self.give_up();
    }

    #[cfg(test)]
    pub(super) fn is_at_a_line(&self) -> bool {
        self.lock().backlog.in_hand.is_some()
    }

    /// A std mutex: held for a push or a take, never while a line is written.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

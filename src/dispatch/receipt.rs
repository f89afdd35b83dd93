//! The promise behind an ack.
//!
//! A dispatcher gets a [`Receipt`] with every record and settles it exactly once. Dropping it unsettled
//! means "not safe": the vehicle is not told anything and will send the record again. There is no registry of
//! sessions and no shared ack channel: a receipt carries its way home, the session's own [`Outlet`].

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;

use super::metrics::DispatcherMetrics;
use super::outbox::Place;
use super::{DispatchError, Full};
use crate::record::{Record, RecordKind};

/// How a record ended, as its session learns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every dispatcher that decides about the ack has it safe.
    Delivered,
    /// At least one of them failed or gave up: never acked.
    Lost,
}

/// A record that has come home.
#[derive(Debug)]
pub struct Settled {
    /// The record.
    pub record: Record,
    /// How it ended.
    pub outcome: Outcome,
}

/// A session's own queue of settled records; the only thing that dispatchers know of a session.
#[derive(Debug, Default)]
pub struct Outlet {
    settled: Mutex<Queue>,
    session: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    records: Vec<Settled>,
    closed: bool,
}

impl Outlet {
    /// Moves everything that has settled into `into`; pending when there is nothing.
    ///
    /// The queue keeps no capacity, so an idle session holds none.
    pub fn poll_settled(&self, cx: &mut Context<'_>, into: &mut Vec<Settled>) -> Poll<()> {
        if self.take(into) {
            return Poll::Ready(());
        }
        self.session.register(cx.waker());
        // Again, for what came between the first look and the registration.
        if self.take(into) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whatever settles from now on is a miss: the session is gone.
    pub fn close(&self) {
        self.lock().closed = true;
    }

    fn take(&self, into: &mut Vec<Settled>) -> bool {
        let mut queue = self.lock();
        if queue.records.is_empty() {
            return false;
        }
        into.append(&mut std::mem::take(&mut queue.records));
        true
    }

    /// False when the session has gone.
    fn settle(&self, settled: Settled) -> bool {
        {
            let mut queue = self.lock();
            if queue.closed {
                return false;
            }
            queue.records.push(settled);
        }
        self.session.wake();
        true
    }

    /// A std mutex: it is held for a push or a swap, never across an await.
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The obligation to say what became of one record at one dispatcher. Move-only.
#[derive(Debug)]
#[must_use = "an unsettled receipt counts as a lost record"]
pub struct Receipt {
    kind: RecordKind,
    bytes: usize,
    held_bytes: usize,
    handed_at: Instant,
    /// In the dispatcher's outbox, from when the dispatcher has taken the record.
    place: Option<Place>,
    metrics: Arc<DispatcherMetrics>,
    home: Home,
    settled: bool,
}

/// Who waits for the outcome.
#[derive(Debug)]
enum Home {
    /// Nobody: the ack does not depend on this dispatcher.
    Nobody,
    /// The session, on this dispatcher alone.
    Session { outlet: Arc<Outlet>, record: Record },
    /// The session, on several dispatchers together.
    Joint(Arc<Joint>),
}

/// One record that several dispatchers must all have safe.
#[derive(Debug)]
pub(super) struct Joint {
    outlet: Arc<Outlet>,
    record: Record,
    waiting: AtomicUsize,
    lost: AtomicBool,
}

impl Joint {
    pub(super) fn new(outlet: Arc<Outlet>, record: Record, dispatchers: usize) -> Arc<Self> {
        Arc::new(Self { outlet, record, waiting: AtomicUsize::new(dispatchers), lost: AtomicBool::new(false) })
    }

    /// `Some(still there)` when this was the last of the dispatchers.
    fn settle(&self, outcome: Outcome) -> Option<bool> {
        if outcome == Outcome::Lost {
            self.lost.store(true, Ordering::Relaxed);
        }
        // AcqRel: the last one sees the others' `lost`.
        if self.waiting.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        let outcome = if self.lost.load(Ordering::Relaxed) { Outcome::Lost } else { Outcome::Delivered };
        Some(self.outlet.settle(Settled { record: self.record.clone(), outcome }))
    }
}

impl Receipt {
    /// For a dispatcher that the ack does not depend on.
    pub(super) fn unobserved(record: &Record, metrics: &Arc<DispatcherMetrics>) -> Self {
        Self::new(record, metrics, Home::Nobody)
    }

    /// For the only dispatcher that decides about the ack.
    pub(super) fn direct(record: &Record, metrics: &Arc<DispatcherMetrics>, outlet: &Arc<Outlet>) -> Self {
        Self::new(record, metrics, Home::Session { outlet: Arc::clone(outlet), record: record.clone() })
    }

    /// For one of several dispatchers that decide together.
    pub(super) fn joint(record: &Record, metrics: &Arc<DispatcherMetrics>, joint: &Arc<Joint>) -> Self {
        Self::new(record, metrics, Home::Joint(Arc::clone(joint)))
    }

    fn new(record: &Record, metrics: &Arc<DispatcherMetrics>, home: Home) -> Self {
        Self {
            kind: record.kind(),
            bytes: record.payload().len(),
            held_bytes: record.held_bytes(),
            handed_at: Instant::now(),
            place: None,
            metrics: Arc::clone(metrics),
            home,
            settled: false,
        }
    }

    /// Memory that the record takes while it is not settled, by [`Record::held_bytes`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn take_place(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// Not taken after all, because the client library behind the outbox has no room: the caller offers it again.
    pub fn withdraw(mut self) -> Full {
        if let Some(place) = self.place.take() {
            place.withdraw();
        }
        Full(self)
    }

    /// When the record was handed over; those of one session in the order of its records.
    #[must_use]
    pub fn handed_at(&self) -> Instant {
        self.handed_at
    }

    /// The record is safe: a broker confirmed it, a commit is on disk.
    pub fn delivered(mut self) {
        self.metrics.delivered(self.kind, self.bytes, self.handed_at.elapsed());
        self.settle(Outcome::Delivered);
    }

    /// The record is lost here. Logged (at a bounded rate) and counted; the vehicle is not told.
    pub fn failed(mut self, error: &DispatchError) {
        self.metrics.failed(self.kind, error);
        self.settle(Outcome::Lost);
    }

    /// There was no room for the record, and nobody waits for what becomes of it here.
    pub(super) fn skipped(mut self) {
        debug_assert!(matches!(self.home, Home::Nobody), "a record that an ack depends on is never left out");
        self.metrics.skipped();
        self.settle(Outcome::Lost);
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        // Before the session learns of it: it may offer its next record at once.
        self.place = None;
        let home = std::mem::replace(&mut self.home, Home::Nobody);
        let reached = match home {
            Home::Nobody => return,
            Home::Session { outlet, record } => Some(outlet.settle(Settled { record, outcome })),
            Home::Joint(joint) => joint.settle(outcome),
        };
        if let (Some(reached), Outcome::Delivered) = (reached, outcome) {
            self.metrics.ack_returned(self.kind, reached);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.settled {
            self.metrics.dropped(self.kind);
            self.settle(Outcome::Lost);
        }
    }
}

//! Hands one record to every dispatcher of its route.

use std::sync::Arc;

use super::receipt::Joint;
use super::{Dispatcher, DispatcherMetrics, Full, Outlet, Receipt};
use crate::config::{DispatcherName, Form, WhenFull};
use crate::record::Record;

/// Where records of one type go, and which of those decide about the ack.
#[derive(Debug)]
pub struct Route {
    /// Those that the ack does not depend on come first.
    targets: Box<[Target]>,
    deciders: usize,
    needs_json: bool,
}

/// One dispatcher of a route.
#[derive(Clone, Debug)]
pub struct Target {
    /// The dispatcher.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// Its metrics.
    pub metrics: Arc<DispatcherMetrics>,
    /// Where no ack depends on a dispatcher.
    pub when_full: WhenFull,
    /// In which form it sends payloads.
    pub form: Form,
}

/// A record that some dispatcher has no room for yet. Offer it again before any later record of its vehicle.
#[derive(Debug)]
pub struct Blocked {
    record: Record,
    /// The target that is full; those before it have the record.
    at: usize,
    receipt: Receipt,
    joint: Option<Arc<Joint>>,
}

impl Target {
    /// A dispatcher whose metrics are `metrics`, treated by default.
    #[must_use]
    pub fn new(dispatcher: Arc<dyn Dispatcher>, metrics: Arc<DispatcherMetrics>) -> Self {
        Self { dispatcher, metrics, when_full: WhenFull::default(), form: Form::default() }
    }

    fn hand(&self, record: &Record, receipt: Receipt, when_full: WhenFull) -> Result<(), Full> {
        match (self.dispatcher.dispatch(record, receipt), when_full) {
            (Ok(()), _) => self.metrics.handed(record.kind(), record.payload().len()),
            (Err(full), WhenFull::Wait) => return Err(full),
            (Err(Full(receipt)), WhenFull::Drop) => receipt.skipped(),
        }
        Ok(())
    }
}

impl Blocked {
    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Route {
    /// `targets` in the order of the configuration; `deciders` are those of them that the ack depends on.
    #[must_use]
    pub fn new(targets: Vec<Target>, deciders: &[DispatcherName]) -> Self {
        // Deciders last: when the ack comes, the others already have the record.
        let (deciders, mut ordered): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| deciders.contains(&target.dispatcher.name()));
        let count = deciders.len();
        if count > 0 {
            // Whoever the ack does not depend on must not delay it.
            ordered.iter_mut().for_each(|target| target.when_full = WhenFull::Drop);
        }
        ordered.extend(deciders);
        Self {
            needs_json: ordered.iter().any(|target| target.form == Form::Json),
            targets: ordered.into(),
            deciders: count,
        }
    }

    /// No dispatcher decides: the record is acked when it is handed off.
    #[must_use]
    pub fn acks_on_receipt(&self) -> bool {
        self.deciders == 0
    }

    /// Some dispatcher sends JSON, so a record without a JSON form cannot be accepted.
    #[must_use]
    pub fn needs_json(&self) -> bool {
        self.needs_json
    }

    /// Hands `record` off. Its outcome comes back through `outlet` unless [`Self::acks_on_receipt`];
    /// without an outlet nobody waits for it.
    ///
    /// # Errors
    /// [`Blocked`] when a dispatcher is full; go on with [`Self::resume`] when
    /// [`Self::blocked_at`] has room.
    pub fn dispatch(&self, record: &Record, outlet: Option<&Arc<Outlet>>) -> Result<(), Box<Blocked>> {
        let joint = outlet
            .filter(|_| self.deciders > 1)
            .map(|outlet| Joint::new(Arc::clone(outlet), record.clone(), self.deciders));
        self.hand_off(record, 0, joint, outlet)
    }

    /// Goes on where `blocked` stopped.
    ///
    /// # Errors
    /// As [`Self::dispatch`].
    #[expect(clippy::boxed_local, reason = "the box goes back and forth between `Blocked` and the session")]
    pub fn resume(&self, blocked: Box<Blocked>, outlet: Option<&Arc<Outlet>>) -> Result<(), Box<Blocked>> {
        let Blocked { record, at, receipt, joint } = *blocked;
        match self.targets[at].hand(&record, receipt, self.when_full(at)) {
            Ok(()) => self.hand_off(&record, at + 1, joint, outlet),
            Err(Full(receipt)) => Err(Box::new(Blocked { record, at, receipt, joint })),
        }
    }

    /// The dispatcher that `blocked` stopped at; wait for room in its outbox.
    #[must_use]
    pub fn blocked_at(&self, blocked: &Blocked) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.targets[blocked.at].dispatcher)
    }

    fn decides(&self, at: usize) -> bool {
        at >= self.targets.len() - self.deciders
    }

    fn when_full(&self, at: usize) -> WhenFull {
        if self.decides(at) { WhenFull::Wait } else { self.targets[at].when_full }
    }

    fn hand_off(
        &self,
        record: &Record,
        from: usize,
        joint: Option<Arc<Joint>>,
        outlet: Option<&Arc<Outlet>>,
    ) -> Result<(), Box<Blocked>> {
        for at in from..self.targets.len() {
            let target = &self.targets[at];
            let receipt = match (outlet.filter(|_| self.decides(at)), &joint) {
                (None, _) => Receipt::unobserved(record, &target.metrics),
                (Some(_), Some(joint)) => Receipt::joint(record, &target.metrics, joint),
                (Some(outlet), None) => Receipt::direct(record, &target.metrics, outlet),
            };
            if let Err(Full(receipt)) = target.hand(record, receipt, self.when_full(at)) {
                return Err(Box::new(Blocked { record: record.clone(), at, receipt, joint }));
            }
        }
        Ok(())
    }
}

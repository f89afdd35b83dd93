//! Hands one record to every dispatcher of its route.

use std::sync::Arc;

use super::receipt::Joint;
use super::{Dispatcher, DispatcherMetrics, Full, Outlet, Receipt};
use crate::config::{AckRule, DispatcherName};
use crate::record::Record;

/// Where records of one type go, and which of those decide about the ack.
#[derive(Debug)]
pub struct Route {
    targets: Box<[Target]>,
    deciders: usize,
}

/// One dispatcher of a route.
#[derive(Clone, Debug)]
pub struct Target {
    /// The dispatcher.
    pub dispatcher: Arc<dyn Dispatcher>,
    /// Its metrics.
    pub metrics: Arc<DispatcherMetrics>,
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
    fn hand(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        self.dispatcher.dispatch(record, receipt)?;
        self.metrics.handed(record.kind(), record.payload().len());
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
    /// `targets` in the order of the configuration.
    #[must_use]
    pub fn new(targets: Vec<Target>, ack: AckRule) -> Self {
        let decides = |name: DispatcherName| match ack {
            AckRule::OnReceipt => false,
            AckRule::AllDurable => name.is_durable(),
            AckRule::By(decider) => name == decider,
        };
        // Deciders last: when the ack comes, the others already have the record.
        let (deciders, mut ordered): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| decides(target.dispatcher.name()));
        let count = deciders.len();
        ordered.extend(deciders);
        Self { targets: ordered.into(), deciders: count }
    }

    /// No dispatcher decides: the record is acked when it is handed off.
    #[must_use]
    pub fn acks_on_receipt(&self) -> bool {
        self.deciders == 0
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
        match self.targets[at].hand(&record, receipt) {
            Ok(()) => self.hand_off(&record, at + 1, joint, outlet),
            Err(Full(receipt)) => Err(Box::new(Blocked { record, at, receipt, joint })),
        }
    }

    /// The dispatcher that `blocked` stopped at; wait for room in its outbox.
    #[must_use]
    pub fn blocked_at(&self, blocked: &Blocked) -> Arc<dyn Dispatcher> {
        Arc::clone(&self.targets[blocked.at].dispatcher)
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
            let decides = at >= self.targets.len() - self.deciders;
            let receipt = match (outlet.filter(|_| decides), &joint) {
                (None, _) => Receipt::unobserved(record, &target.metrics),
                (Some(_), Some(joint)) => Receipt::joint(record, &target.metrics, joint),
                (Some(outlet), None) => Receipt::direct(record, &target.metrics, outlet),
            };
            if let Err(Full(receipt)) = target.hand(record, receipt) {
                return Err(Box::new(Blocked { record: record.clone(), at, receipt, joint }));
            }
        }
        Ok(())
    }
}

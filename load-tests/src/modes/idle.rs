//! What a connection costs while nothing happens.

use std::time::Duration;

use super::{Run, RunError};
use crate::plan::Phase;
use crate::process::Process;
use crate::report::Idle;
use crate::tally::Count;

/// The server has freed what it frees after the last ack.
const SETTLE: Duration = Duration::from_secs(1);

impl Run {
    pub(super) async fn idle(&mut self) -> Result<(), RunError> {
        let memory = |run: &Self| run.server.and_then(Process::memory);
        let before = memory(self);
        self.connect().await?;
        self.fleet.set(Phase::Run(0));
        let vehicles = u64::from(self.plan.vehicles);
        self.until(Some(self.plan.drain), |totals| totals.of(Count::Acked) >= vehicles).await;
        self.pause(SETTLE).await;
        let after = memory(self);
        self.until(self.plan.steps[0].duration, |_| false).await;
        let online = self.fleet.totals().online();
        if online < vehicles {
            self.report.failures.push(format!("{} connections were not held", vehicles - online));
        }
        if let (Some(before), Some(after), Some(held)) = (before, after, memory(self)) {
            self.report.idle = Some(Idle::new(online, before, after, held));
        }
        Ok(())
    }
}

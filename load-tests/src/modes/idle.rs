//! What a connection costs while nothing happens.

use std::time::Duration;

use super::{Run, RunError};
use crate::process::Process;
use crate::report::Idle;
use crate::tally::Count;

/// The server has freed what it frees after the last ack.
const SETTLE: Duration = Duration::from_secs(1);

impl Run {
    pub(super) async fn idle(&mut self) -> Result<(), RunError> {
        let memory = |run: &Self| run.server.and_then(Process::memory);
        let before = memory(self);
        for (wave, called) in self.plan.waves.clone().into_iter().enumerate() {
            let connecting = self.connect(wave).await?;
            self.until(Some(self.plan.drain), |totals| totals.of(Count::Acked) >= u64::from(called)).await;
            self.pause(SETTLE).await;
            let after = memory(self);
            self.until(self.plan.steps[0].duration, |_| false).await;
            let online = self.fleet.totals().online();
            if online < u64::from(called) {
                self.report.failures.push(format!("{} connections were not held", u64::from(called) - online));
            }
            if let (Some(before), Some(after), Some(held)) = (before, after, memory(self)) {
                self.report.idle.push(Idle::new(called, online, connecting, [before, after, held]));
            }
            if self.interrupt.came {
                break;
            }
        }
        Ok(())
    }
}

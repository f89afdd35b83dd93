//! Everybody connects at once.

use std::time::Duration;

use super::{Run, RunError, Sample};
use crate::plan::Phase;
use crate::report::Round;
use crate::tally::Count;

/// Between two rounds: the server cleans up, which is not a handshake.
const BREAK: Duration = Duration::from_millis(500);

impl Run {
    pub(super) async fn storm(&mut self) -> Result<(), RunError> {
        for round in 0..self.plan.waves.len() {
            let round = self.connect(round).await?;
            self.report.rounds.push(round);
            self.fleet.set(Phase::Parked);
            self.until(Some(self.plan.connect_limit), |totals| totals.online() == 0).await;
            self.pause(BREAK).await;
            if self.interrupt.came {
                break;
            }
        }
        Ok(())
    }
}

impl Round {
    /// What happened between two looks. Latencies come when the vehicles leave.
    pub(super) fn new(before: &Sample, after: &Sample) -> Self {
        let handshakes = after.since(before, Count::Connected);
        let seconds = (after.at - before.at).as_secs_f64();
        let [server, simulator] = after.cpu_since(before, handshakes);
        Self {
            handshakes,
            failed: after.since(before, Count::ConnectFailed),
            seconds,
            per_second: handshakes as f64 / seconds,
            server,
            simulator,
            handshake_us: None,
        }
    }
}

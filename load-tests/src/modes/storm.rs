//! Everybody connects at once.

use std::time::Duration;

use super::{Run, RunError};
use crate::plan::Phase;
use crate::report::{CpuReport, Round};
use crate::tally::Count;

/// Between two rounds: the server cleans up, which is not a handshake.
const BREAK: Duration = Duration::from_millis(500);

impl Run {
    pub(super) async fn storm(&mut self, reconnects: u32) -> Result<(), RunError> {
        for _ in 0..=reconnects {
            let before = self.sample();
            self.connect().await?;
            let after = self.sample();
            let handshakes = after.totals.of(Count::Connected) - before.totals.of(Count::Connected);
            let seconds = (after.at - before.at).as_secs_f64();
            let cpu = |before: Option<_>, after: Option<_>| Some(CpuReport::new(after? - before?, handshakes));
            self.report.rounds.push(Round {
                handshakes,
                seconds,
                per_second: handshakes as f64 / seconds,
                server: cpu(before.server, after.server),
                simulator: cpu(before.simulator, after.simulator),
            });
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

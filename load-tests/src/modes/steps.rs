//! Demo, steady, closed and ramp: one step after the other, each measured on its own.

use super::{Run, RunError, Sample};
use crate::latency::Latency;
use crate::plan::{Content, Phase, Step};
use crate::report::StepReport;
use crate::tally::Count;

/// A step that lacks only its latencies, which vehicles keep until they leave.
pub(super) struct Pending {
    number: usize,
    step: Step,
    before: Sample,
    after: Sample,
}

impl Run {
    pub(super) async fn steps(&mut self) -> Result<Vec<Pending>, RunError> {
        self.connect(0).await?;
        let mut measured = Vec::new();
        for (number, step) in self.plan.clone().steps.iter().copied().enumerate() {
            if self.interrupt.came {
                break;
            }
            self.fleet.set(Phase::Run(number));
            let before = self.sample();
            self.until(step.duration, |_| false).await;
            if step.measured {
                measured.push(Pending { number, step, before, after: self.sample() });
            }
        }
        Ok(measured)
    }
}

impl Pending {
    /// The rate of a demo is one of ticks, not of records.
    pub(super) fn report(self, latency: &Latency, content: Content) -> StepReport {
        let is_load = content == Content::Fixed;
        let Self { number, step, before, after } = self;
        let acked = after.since(&before, Count::Acked);
        let seconds = (after.at - before.at).as_secs_f64();
        let [server, simulator] = after.cpu_since(&before, acked);
        StepReport {
            rate: step.rate.filter(|_| is_load),
            seconds,
            sent: after.since(&before, Count::Sent),
            acked,
            throughput: acked as f64 / seconds,
            ack_latency_us: latency.acks(number),
            send_lag_us: latency.sends(number),
            server,
            simulator,
        }
    }
}

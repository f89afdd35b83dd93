//! How long acks and handshakes took.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Histograms of one thread, mergeable.
#[derive(Debug)]
pub struct Latency {
    /// From due to acked, by step of the plan.
    acks: Vec<Histogram<u64>>,
    /// From due to sent, by step: how late this program was.
    sends: Vec<Histogram<u64>>,
    /// From the first SYN to the end of the WebSocket upgrade, by wave.
    handshakes: Vec<Histogram<u64>>,
}

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs)] // the names say it
pub struct Quantiles {
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    #[serde(rename = "p99.9")]
    pub p99_9: u64,
    pub max: u64,
}

impl Latency {
    /// For a plan of so many steps and waves.
    #[must_use]
    pub fn new(steps: usize, waves: usize) -> Self {
        let empty = |count: usize| (0..count.max(1)).map(|_| histogram()).collect();
        Self { acks: empty(steps), sends: empty(steps), handshakes: empty(waves) }
    }

    /// An ack came.
    pub fn acked(&mut self, step: usize, after: Duration) {
        self.acks[step].saturating_record(micros(after));
    }

    /// A message left.
    pub fn sent(&mut self, step: usize, late: Duration) {
        self.sends[step].saturating_record(micros(late));
    }

    /// A connection opened.
    pub fn connected(&mut self, wave: usize, after: Duration) {
        self.handshakes[wave].saturating_record(micros(after));
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        let pairs = self.acks.iter_mut().zip(&other.acks).chain(self.sends.iter_mut().zip(&other.sends));
        for (own, other) in pairs.chain(self.handshakes.iter_mut().zip(&other.handshakes)) {
            own.add(other).expect("all histograms have the same bounds");
        }
    }

    /// Ack latency in a step; `None` without acks.
    #[must_use]
    pub fn acks(&self, step: usize) -> Option<Quantiles> {
        self.acks.get(step).and_then(quantiles)
    }

    /// Lateness of sends in a step.
    #[must_use]
    pub fn sends(&self, step: usize) -> Option<Quantiles> {
        self.sends.get(step).and_then(quantiles)
    }

    /// Handshakes of a wave.
    #[must_use]
    pub fn wave(&self, wave: usize) -> Option<Quantiles> {
        self.handshakes.get(wave).and_then(quantiles)
    }

    /// Handshakes of the whole run.
    #[must_use]
    pub fn handshakes(&self) -> Option<Quantiles> {
        let mut all = histogram();
        self.handshakes.iter().for_each(|wave| all.add(wave).expect("all histograms have the same bounds"));
        quantiles(&all)
    }
}

/// 1 µs to 10 minutes, 0.1 % wide buckets.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    let at = |quantile| histogram.value_at_quantile(quantile);
    (!histogram.is_empty()).then(|| Quantiles {
        count: histogram.len(),
        mean: histogram.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p99_9: at(0.999),
        max: histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_threads_and_keeps_steps_apart() {
        let mut one = Latency::new(2, 2);
        let mut other = Latency::new(2, 2);
        (1..=50).for_each(|n| one.acked(1, Duration::from_micros(n)));
        (51..=100).for_each(|n| other.acked(1, Duration::from_micros(n)));
        one.merge(&other);
        let acks = one.acks(1).expect("acks");
        assert_eq!((acks.count, acks.p50, acks.p90, acks.max), (100, 50, 90, 100));
        assert!(one.acks(0).is_none());
        one.connected(0, Duration::from_micros(1));
        other.connected(1, Duration::from_micros(3));
        one.merge(&other);
        assert_eq!(one.wave(1).map(|wave| (wave.count, wave.max)), Some((1, 3)));
        assert_eq!(one.handshakes().map(|all| (all.count, all.max)), Some((2, 3)));
    }
}

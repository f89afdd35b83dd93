//! What is compared, and what it should be.

/// A figure of one scenario.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// With its unit.
    pub(super) heading: &'static str,
    /// Its place in the report; `*` stands for each of a list.
    pub(super) place: &'static str,
    /// From the report's unit to the heading's.
    pub(super) factor: f64,
    /// Shown.
    pub(super) decimals: usize,
}

/// What a figure should keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// In the heading's unit.
    AtMost(f64),
    /// Of the baseline's figure.
    Multiple(f64),
}

const fn figure(heading: &'static str, place: &'static str, factor: f64, decimals: usize) -> Figure {
    Figure { heading, place, factor, decimals }
}

const RATE: Figure = figure("records/s", "/steps/0/throughput", 1.0, 0);
const CPU: Figure = figure("CPU µs/record", "/steps/0/server/us_each", 1.0, 1);
const WAKE_UPS: Figure = figure("wake-ups/record", "/steps/0/server/wakeups_each", 1.0, 2);
const ACK_P50: Figure = figure("ack p50 ms", "/steps/0/ack_latency_us/p50", 1e-3, 2);
const ACK_P99: Figure = figure("ack p99 ms", "/steps/0/ack_latency_us/p99", 1e-3, 2);
const PEAK: Figure = figure("peak MiB", "/server_peak_anonymous", 1.0 / 1_048_576.0, 1);
const HANDSHAKES: Figure = figure("handshakes/s", "/rounds/*/per_second", 1.0, 0);
const ALL_BACK: Figure = figure("s until all back", "/rounds/*/seconds", 1.0, 2);
const HANDSHAKE_CPU: Figure = figure("CPU µs/handshake", "/rounds/*/server/us_each", 1.0, 0);
const CONNECT_P50: Figure = figure("connect p50 ms", "/rounds/*/handshake_us/p50", 1e-3, 0);
const CONNECT_P99: Figure = figure("connect p99 ms", "/rounds/*/handshake_us/p99", 1e-3, 0);
const FAILED: Figure = figure("failed attempts", "/rounds/*/failed", 1.0, 0);
const KIB: Figure = figure("KiB/connection", "/idle/*/anonymous_bytes_each", 1.0 / 1024.0, 1);
const STEP_HANDSHAKES: Figure = figure("handshakes/s", "/idle/*/connecting/per_second", 1.0, 0);
const STEP_P99: Figure = figure("connect p99 ms", "/idle/*/connecting/handshake_us/p99", 1e-3, 1);
const DEAF_ENDED: Figure = figure("deaf disconnects", "/totals/deaf_ended", 1.0, 0);

const STREAM: &[Figure] = &[RATE, CPU, WAKE_UPS, ACK_P50, ACK_P99];

/// In the order of the table. A scenario of several sizes has each as a suffix: `idle-5000`.
pub(super) const SCENARIOS: [(&str, &[Figure]); 10] = [
    ("closed", STREAM),
    ("open", STREAM),
    ("steady", STREAM),
    ("growth", STREAM),
    ("idle", &[KIB]),
    ("ramp", &[KIB, STEP_HANDSHAKES, STEP_P99]),
    ("storm", &[HANDSHAKES, ALL_BACK, HANDSHAKE_CPU, CONNECT_P50, CONNECT_P99, FAILED, PEAK]),
    ("all-read", &[RATE, CPU, WAKE_UPS, ACK_P50, ACK_P99, PEAK]),
    ("slow-readers", &[RATE, CPU, WAKE_UPS, ACK_P50, ACK_P99, PEAK, DEAF_ENDED]),
    ("slow-broker", &[RATE, CPU, WAKE_UPS, ACK_P50, ACK_P99, PEAK]),
];

/// By scenario, whatever its size, heading and target.
const BOUNDS: [(&str, &str, &str, Bound); 10] = [
    ("closed", CPU.heading, "null", Bound::Multiple(1.5)),
    ("closed", CPU.heading, "kafka", Bound::Multiple(2.0)),
    ("open", CPU.heading, "null", Bound::Multiple(1.4)),
    ("open", CPU.heading, "kafka", Bound::Multiple(1.8)),
    ("open", ACK_P50.heading, "kafka", Bound::AtMost(7.0)),
    ("open", ACK_P99.heading, "kafka", Bound::AtMost(15.0)),
    ("idle", KIB.heading, "null", Bound::AtMost(12.0)),
    ("idle", KIB.heading, "kafka", Bound::AtMost(12.0)),
    ("storm", HANDSHAKE_CPU.heading, "null", Bound::Multiple(1.25)),
    ("storm", HANDSHAKE_CPU.heading, "kafka", Bound::Multiple(1.25)),
];

/// What a target's figure should keep to, if anything.
pub(super) fn bound(scenario: &str, heading: &str, target: &str) -> Option<Bound> {
    let asked = (scenario, heading, target);
    BOUNDS.iter().find(|(scenario, heading, target, _)| (*scenario, *heading, *target) == asked).map(|row| row.3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_of_a_figure_that_is_compared() {
        for (scenario, heading, ..) in BOUNDS {
            let figures = SCENARIOS.iter().find(|(name, _)| *name == scenario).expect("a scenario").1;
            assert!(figures.iter().any(|figure| figure.heading == heading), "{scenario} has no {heading}");
        }
    }
}

//! Histograms of durations with fixed buckets: a sample is two atomic additions, wherever it comes from.
//!
//! The exporter's own keep every sample, with its time, until someone folds them into buckets: at a hundred thousand
//! records a second that is megabytes between two scrapes, an allocation every 64 samples, and a look at the clock.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;
use parking_lot::{Mutex, MutexGuard};

/// Upper bounds of the buckets, in seconds: from a commit in memory to a broker that is gone.
const BOUNDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// One series.
#[derive(Default)]
struct Buckets {
    /// Not cumulative; the last is for what is above every bound.
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// Nanoseconds: 580 years fit.
    sum: AtomicU64,
}

impl HistogramFn for Buckets {
    fn record(&self, seconds: f64) {
        let at = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
        self.sum.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

/// The exporter's recorder, but for histograms.
pub(super) struct WithHistograms {
    exporter: PrometheusRecorder,
    families: Mutex<BTreeMap<KeyName, Family>>,
}

#[derive(Default)]
struct Family {
    help: SharedString,
    /// By labels, as they stand in the text form.
    series: BTreeMap<String, Arc<Buckets>>,
}

impl WithHistograms {
    pub(super) fn new(exporter: PrometheusRecorder) -> Self {
        Self { exporter, families: Mutex::default() }
    }

    pub(super) fn exporter(&self) -> &PrometheusRecorder {
        &self.exporter
    }

    /// Appends all histograms in the Prometheus text form.
    pub(super) fn render(&self, text: &mut String) {
        for (name, family) in &*self.families() {
            if !family.series.is_empty() {
                family.render(name.as_str(), text).expect("writing to a string cannot fail");
            }
        }
    }

    /// A std mutex: held to register and to render.
    fn families(&self) -> MutexGuard<'_, BTreeMap<KeyName, Family>> {
        self.families.lock()
    }
}

impl Family {
    fn render(&self, name: &str, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# HELP {name} {}\n# TYPE {name} histogram", self.help)?;
        for (labels, buckets) in &self.series {
            let mut count = 0;
            let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, bucket) in bounds.zip(&buckets.counts) {
                count += bucket.load(Ordering::Relaxed);
                let comma = if labels.is_empty() { "" } else { "," };
                writeln!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
            }
            #[expect(clippy::cast_precision_loss, reason = "exact to the nanosecond for 104 days")]
            let sum = buckets.sum.load(Ordering::Relaxed) as f64 / 1e9;
            let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            writeln!(text, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}")?;
        }
        writeln!(text)
    }
}

/// `dispatcher="kafka",…`, sorted as they were given.
fn labels(key: &Key) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<_> = key.labels().map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value()))).collect();
    labels.join(",")
}

impl Recorder for WithHistograms {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.families().entry(key).or_default().help = description;
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut families = self.families();
        let family = families.entry(KeyName::from(key.name().to_owned())).or_default();
        Histogram::from_arc(Arc::clone(family.series.entry(labels(key)).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;

    #[test]
    fn puts_seconds_into_buckets() {
        let metrics = Metrics::default();
        let histogram = metrics.scope(|| ::metrics::histogram!("delivery_seconds", "dispatcher" => "ka\"fka"));
        for seconds in [0.0002, 0.00025, 120.0] {
            histogram.record(seconds);
        }
        let text = metrics.render();
        for line in [
            "# TYPE delivery_seconds histogram",
            "delivery_seconds_bucket{dispatcher=\"ka\\\"fka\",le=\"0.0001\"} 0",
            "delivery_seconds_bucket{dispatcher=\"ka\\\"fka\",le=\"0.00025\"} 2",
            "delivery_seconds_bucket{dispatcher=\"ka\\\"fka\",le=\"60\"} 2",
            "delivery_seconds_bucket{dispatcher=\"ka\\\"fka\",le=\"+Inf\"} 3",
            "delivery_seconds_sum{dispatcher=\"ka\\\"fka\"} 120.00045",
            "delivery_seconds_count{dispatcher=\"ka\\\"fka\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_series_without_labels_has_no_empty_braces_but_those_of_its_bounds() {
        let metrics = Metrics::default();
        metrics.scope(|| ::metrics::histogram!("ack_seconds")).record(1.0);
        let text = metrics.render();
        assert!(text.contains("ack_seconds_bucket{le=\"1\"} 1\n"), "{text}");
        assert!(text.contains("ack_seconds_sum 1\nack_seconds_count 1\n"), "{text}");
    }

    #[test]
    fn registering_again_gives_the_same_series() {
        let metrics = Metrics::default();
        for _ in 0..2 {
            metrics.scope(|| ::metrics::histogram!("ack_seconds")).record(0.5);
        }
        assert!(metrics.render().contains("ack_seconds_count 2\n"));
    }

    #[test]
    fn absurd_samples_do_no_harm() {
        let metrics = Metrics::default();
        let histogram = metrics.scope(|| ::metrics::histogram!("ack_seconds"));
        for seconds in [-1.0, f64::NAN, f64::INFINITY] {
            histogram.record(seconds);
        }
        assert!(metrics.render().contains("ack_seconds_count 3\n"));
    }
}

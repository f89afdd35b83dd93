//! The process' metrics: the recorder that every stage registers with, and its Prometheus form.

mod families;
mod histogram;
mod process;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;

use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;

use histogram::WithHistograms;
use process::Process;

/// Content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type OnScrape = Box<dyn Fn() + Send + Sync>;

/// A recorder of its own; nothing is installed process-wide, so tests can have several.
pub struct Metrics {
    recorder: WithHistograms,
    process: Process,
    on_scrape: Mutex<Vec<OnScrape>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let recorder = WithHistograms::new(PrometheusBuilder::new().build_recorder());
        let process = ::metrics::with_local_recorder(&recorder, || {
            families::describe();
            Process::register()
        });
        Self { recorder, process, on_scrape: Mutex::default() }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Runs `register`, whose `counter!`, `gauge!` and `histogram!` register here. Not across an `await`: see
    /// [`Self::within`].
    pub fn scope<T>(&self, register: impl FnOnce() -> T) -> T {
        ::metrics::with_local_recorder(&self.recorder, register)
    }

    /// As [`Self::scope`], for a future: what it registers at any of its steps registers here, but not what it spawns.
    pub async fn within<F: Future>(&self, register: F) -> F::Output {
        let mut register = pin!(register);
        poll_fn(|cx| self.scope(|| register.as_mut().poll(cx))).await
    }

    /// Calls `sample` before every rendering. A gauge that is set there, from the thing it measures,
    /// cannot drift as one that is incremented and decremented can.
    pub fn on_scrape(&self, sample: OnScrape) {
        self.on_scrape.lock().push(sample);
    }

    /// All metrics in the Prometheus text form. Reads `/proc`: some tens of microseconds.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.sample();
        self.scope(|| {
            for sample in &*self.on_scrape.lock() {
                sample();
            }
        });
        let mut text = self.recorder.exporter().handle().render();
        self.recorder.render(&mut text);
        self.process.render_cpu(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_a_scope_registered_with_its_help() {
        let metrics = Metrics::default();
        metrics.scope(|| ::metrics::counter!("record_total", "record_type" => "V")).increment(3);
        let text = metrics.render();
        assert!(text.contains("# HELP record_total "), "{text}");
        assert!(text.contains("# TYPE record_total counter\nrecord_total{record_type=\"V\"} 3\n"), "{text}");
    }

    #[test]
    fn keeps_recorders_apart() {
        let (one, two) = (Metrics::default(), Metrics::default());
        one.scope(|| ::metrics::counter!("record_total")).increment(1);
        assert!(!two.render().contains("record_total"));
    }

    #[tokio::test]
    async fn renders_what_a_future_registered_at_any_of_its_steps() {
        let metrics = Metrics::default();
        let register = async {
            ::metrics::counter!("record_total", "record_type" => "V").increment(1);
            tokio::task::yield_now().await;
            ::metrics::counter!("record_total", "record_type" => "alerts").increment(2);
        };
        metrics.within(register).await;
        let text = metrics.render();
        for line in ["record_total{record_type=\"V\"} 1\n", "record_total{record_type=\"alerts\"} 2\n"] {
            assert!(text.contains(line), "no {line:?}");
        }
    }

    #[test]
    fn samples_at_every_scrape() {
        let metrics = Metrics::default();
        let level = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(7));
        let source = std::sync::Arc::clone(&level);
        let gauge = metrics.scope(|| ::metrics::gauge!("num_connections"));
        metrics.on_scrape(Box::new(move || gauge.set(source.load(std::sync::atomic::Ordering::Relaxed))));
        assert!(metrics.render().contains("num_connections 7\n"));
        level.store(8, std::sync::atomic::Ordering::Relaxed);
        assert!(metrics.render().contains("num_connections 8\n"));
    }

    #[test]
    fn says_which_build_this_is() {
        let build = format!(
            "fleet_telemetry_build_info{{version=\"{}\",commit=\"{}\"}} 1\n",
            env!("CARGO_PKG_VERSION"),
            env!("FLEET_TELEMETRY_COMMIT")
        );
        assert!(Metrics::default().render().contains(&build));
    }

    #[test]
    fn measures_the_process() {
        let metrics = Metrics::default();
        let text = metrics.render();
        let value = |name: &str| {
            let line =
                text.lines().find(|line| line.split(' ').next() == Some(name)).unwrap_or_else(|| panic!("{name}"));
            line.split(' ').nth(1).unwrap().parse::<f64>().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("memory_heap") > 1e5 && value("memory_heap") <= value("process_resident_memory_bytes"));
        assert!(value("memory_stack") > 1e3);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!((0.0..60.0).contains(&value("uptime_sec")));
    }
}

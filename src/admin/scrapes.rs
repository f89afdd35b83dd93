//! Rendering the metrics, however many ask at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::http::Line;
use crate::metrics::Metrics;

/// Whoever asks while a rendering is under way waits for the next one, and shares it with all others who do.
#[derive(Debug, Default)]
pub(super) struct Scrapes(Mutex<Option<Rendering>>);

#[derive(Clone, Debug)]
struct Rendering {
    started: Instant,
    ended: Instant,
    text: Bytes,
}

/// After a rendering, so many times as long nothing is rendered: scrapes take a quarter of one CPU, at most.
const PAUSE: u32 = 3;
/// On a machine so busy that a rendering takes long.
const MAX_PAUSE: Duration = Duration::from_millis(250);

impl Scrapes {
    /// The metrics as they are now or later. `None` when they cannot be rendered.
    pub(super) async fn text(&self, metrics: &Arc<Metrics>, line: &Line) -> Option<Bytes> {
        let asked = Instant::now();
        let mut last = line.wait(self.0.lock()).await;
        if let Some(last) = &*last {
            if last.started > asked {
                return Some(last.text.clone());
            }
            line.wait(tokio::time::sleep_until((last.ended + last.pause()).into())).await;
        }
        let started = Instant::now();
        let metrics = Arc::clone(metrics);
        // Off the workers, which sessions need.
        let text = Bytes::from(tokio::task::spawn_blocking(move || metrics.render()).await.ok()?);
        *last = Some(Rendering { started, ended: Instant::now(), text: text.clone() });
        Some(text)
    }
}

impl Rendering {
    fn pause(&self) -> Duration {
        (self.ended.saturating_duration_since(self.started) * PAUSE).min(MAX_PAUSE)
    }
}

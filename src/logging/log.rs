//! The way from everywhere in the process to the one thread that writes lines.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use time::OffsetDateTime;
use tracing::Level;

use super::backlog::{Bounds, Kind, Then, Unwritten};
use super::fields::Fields;
use super::form::Form;
use super::queue::Queue;
use super::stderr;
use super::writer::Writer;
use crate::config;
use crate::metrics::Metrics;

/// A log with a thread of its own behind it. Clones are the same log; the thread ends after the last of them.
///
/// No call waits for the thread, except those that say for how long.
#[derive(Clone)]
pub struct Log {
    queue: Arc<Closing>,
    form: Form,
    level: tracing::level_filters::LevelFilter,
    /// Whatever is written can be read by nobody.
    leads_nowhere: bool,
}

/// What waits for the process' last words at its end.
const EXIT: Duration = Duration::from_secs(1);

/// How long the end of a change waits for its audit line.
const AUDIT: Duration = Duration::from_secs(1);

impl Log {
    /// A log to the process' stderr.
    ///
    /// # Errors
    /// When the system gives no file descriptor or no thread.
    pub(super) fn to_stderr(config: &config::Log) -> io::Result<Self> {
        let (out, leads_nowhere) = stderr::open()?;
        Ok(Self { leads_nowhere, ..Self::start(config, Box::new(out))? })
    }

    /// A log to `out`, which gets each line in one write.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(config: &config::Log, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let form = if config.json { Form::Json } else { Form::Text };
        let queue = Arc::new(Queue::new(Bounds { lines: config.max_lines, bytes: config.max_bytes }));
        let writer = Writer::new(Arc::clone(&queue), form, out);
        std::thread::Builder::new().name("log".to_owned()).spawn(|| writer.run())?;
        Ok(Self { queue: Arc::new(Closing(queue)), form, level: config.level, leads_nowhere: false })
    }

    /// Whether lines of this level are wanted.
    #[must_use]
    pub fn wants(&self, level: Level) -> bool {
        level <= self.level
    }

    /// A line that may be dropped.
    pub(super) fn line(&self, level: Level, fields: Fields) {
        self.queue.0.push(self.text(level, fields), Kind::Ordinary);
    }

    /// A line about a change of a grant. [`Self::has_room_for_audit`] comes first.
    pub(super) fn audit(&self, level: Level, fields: Fields) {
        self.queue.0.push(self.text(level, fields), Kind::Audit);
    }

    /// A line that shows a record; `then` learns whether it was written. The caller bounds how many wait.
    pub fn record(&self, fields: Fields, then: Then) {
        if self.leads_nowhere {
            return then(Err(Unwritten::Nowhere));
        }
        self.queue.0.push(self.text(Level::INFO, fields), Kind::Record(then));
    }

    fn text(&self, level: Level, fields: Fields) -> String {
        self.form.line(OffsetDateTime::now_utc(), level, fields)
    }

    /// Bytes of the lines of records that wait.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.queue.0.record_bytes()
    }

    /// Lets go of the lines of records that wait: those who wait for them.
    #[must_use]
    pub fn withdraw_records(&self) -> Vec<Then> {
        self.queue.0.withdraw_records()
    }

    /// Whether another change may be announced: its audit lines, however many, will all be kept until they are
    /// written.
    #[must_use]
    pub fn has_room_for_audit(&self) -> bool {
        self.queue.0.has_room_for_audit()
    }

    /// Counts an audit line that is not made because there is no room for it.
    pub fn lose_audit(&self) {
        self.queue.0.lose_audit();
    }

    /// Whether all audit lines so far are written, after waiting a moment for them. Does not wait while lines cannot
    /// be written anyway.
    pub async fn is_audited(&self) -> bool {
        let patience = if self.queue.0.trouble().is_none() { AUDIT } else { Duration::ZERO };
        self.queue.0.audit_reaches(self.queue.0.audit_mark(), patience).await
    }

    /// What keeps lines from being written, or from being read; `None`: nothing.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.leads_nowhere { Some(Unwritten::Nowhere.to_string()) } else { self.queue.0.trouble() }
    }

    /// Waits until what can be written is written, at most so long.
    pub fn flush(&self, patience: Duration) {
        self.queue.0.flush(Instant::now() + patience);
    }

    /// The same for a line that must come out even if the process is about to end. Does not wait if the log is stuck.
    pub(super) fn flush_unless_stuck(&self, patience: Duration) {
        self.queue.0.flush_unless_stuck(patience);
    }

    /// States the bounds, and samples at each scrape what waits and what was dropped.
    pub fn register(&self, metrics: &Metrics) {
        let queue = Arc::clone(&self.queue.0);
        let sample = metrics.scope(|| sampler(queue));
        metrics.on_scrape(Box::new(sample));
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds and depths are far below 2^52")]
fn sampler(queue: Arc<Queue>) -> impl Fn() + Send + Sync {
    gauge!("limit", "bound" => "log_lines").set(queue.bounds.lines as f64);
    gauge!("limit", "bound" => "log_bytes").set(queue.bounds.bytes as f64);
    let healthy = gauge!("log_healthy");
    let waiting = ["ordinary", "audit"]
        .map(|kind| (gauge!("log_waiting_lines", "kind" => kind), gauge!("log_waiting_bytes", "kind" => kind)));
    let dropped = ["full", "failed"].map(|reason| counter!("log_dropped_lines_total", "reason" => reason));
    let audit = counter!("log_dropped_audit_lines_total");
    move || {
        healthy.set(if queue.trouble().is_none() { 1.0 } else { 0.0 });
        for ((lines, bytes), depth) in waiting.iter().zip(queue.depth()) {
            lines.set(depth.0 as f64);
            bytes.set(depth.1 as f64);
        }
        let totals = &queue.totals;
        dropped[0].absolute(totals.full.load(Ordering::Relaxed));
        dropped[1].absolute(totals.refused.load(Ordering::Relaxed));
        audit.absolute(totals.audit.load(Ordering::Relaxed));
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("form", &self.form).field("level", &self.level).finish_non_exhaustive()
    }
}

/// Lets the thread end when nobody can log any more.
struct Closing(Arc<Queue>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Held while the process runs: the end waits for what still waits, but not for ever.
#[derive(Debug)]
#[must_use = "dropped at once, the last lines may not be written"]
pub struct LastWords(pub(super) Log);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.flush(EXIT);
        // Whoever waits for a line is told; that lines are missing cannot be.
        self.0.queue.0.give_up();
    }
}

#[cfg(test)]
impl Log {
    pub(crate) fn depth(&self) -> [(usize, usize); 2] {
        self.queue.0.depth()
    }

    /// Whether the writer is at a line.
    pub(super) fn is_at_a_line(&self) -> bool {
        self.queue.0.is_at_a_line()
    }

    /// Dropped because of no room, refused by the system, and audit lines that were lost.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let totals = &self.queue.0.totals;
        let get = |total: &std::sync::atomic::AtomicU64| total.load(Ordering::Relaxed);
        (get(&totals.full), get(&totals.refused), get(&totals.audit))
    }
}

//! Keeps listeners in step with their files.
//!
//! Each file is read every `tls.reload_interval`, and compared with what is in force. Reading some five files of a few
//! kilobytes costs microseconds, and finds every way in which files are replaced: written in place, renamed over,
//! behind a symbolic link that is swapped (Kubernetes swaps `..data`, two links away from the file), on a file system
//! of another machine, or of a layer below. File system events (inotify) need a watch for each directory on the way,
//! say nothing on network and some overlay file systems, and still have to be followed by reading; times and sizes of
//! files can stay equal when contents change.
//!
//! ```text
//! in force ──differs──▶ changed ──same at the next look──▶ load ──▶ in force
//!    ▲                     │ ▲                               │
//!    └──as it was before───┘ └────────failed: each look──────┘
//! ```
//!
//! Changed files are loaded once they have been the same for two looks, so that what is written in steps (half of a
//! bundle, a certificate before its key) is hardly ever taken for what it will be. When it is, it cannot be used and is
//! tried again, or it can and is replaced two looks later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval, interval_at};

use super::files::{Contents, Digest};
use super::metrics::{self, Reloads};
use super::{Tls, certificate, report};
use crate::metrics::Metrics;

/// Certificates that have ended, or will soon, are complained about this often.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What keeps clients out, or keeps failing, is repeated this often.
const REPEAT: Duration = Duration::from_secs(60);

/// Loads files again when they change.
#[derive(Debug)]
pub struct Watcher {
    interval: Duration,
    watched: Vec<Watched>,
}

#[derive(Clone, Copy)]
enum Occasion {
    HangUp,
    Look,
    Day,
}

/// One listener.
struct Watched {
    tls: Arc<Tls>,
    reloads: Reloads,
    pace: Pace,
    /// When dates were last looked at, in seconds since 1970.
    judged: i64,
    last_error: Option<(String, Instant)>,
    last_trouble: Instant,
}

/// When to load.
#[derive(Debug)]
struct Pace {
    in_force: Digest,
    /// At the last look.
    seen: Digest,
    /// The last load failed.
    is_failing: bool,
}

impl Watcher {
    /// Over nothing yet; looks every `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, watched: Vec::new() }
    }

    /// Watches one more listener, and measures it.
    pub fn add(&mut self, tls: &Arc<Tls>, metrics: &Metrics) {
        metrics::sample(tls, metrics);
        let reloads = metrics.scope(|| Reloads::register(tls.files.listener));
        self.watched.push(Watched::new(Arc::clone(tls), reloads));
    }

    /// For as long as the process lives. Each `hang_up` loads the files at once, changed or not.
    pub async fn run(mut self, mut hang_up: Signal) {
        let mut looks = interval(self.interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut daily = interval_at(tokio::time::Instant::now() + DAY, DAY);
        loop {
            let occasion = tokio::select! {
                Some(()) = hang_up.recv() => Occasion::HangUp,
                _ = looks.tick() => Occasion::Look,
                _ = daily.tick() => Occasion::Day,
            };
            for one in &mut self.watched {
                one.attend(occasion).await;
            }
        }
    }
}

impl Watched {
    fn new(tls: Arc<Tls>, reloads: Reloads) -> Self {
        let (pace, judged) = (Pace::new(tls.loaded.load().digest), certificate::now());
        Self { tls, reloads, pace, judged, last_error: None, last_trouble: Instant::now() }
    }

    async fn attend(&mut self, occasion: Occasion) {
        // Not on a worker, as a file system may take its time. Fails when the process ends.
        let tls = Arc::clone(&self.tls);
        let Ok(contents) = tokio::task::spawn_blocking(move || Contents::read(&tls.files)).await else { return };
        match occasion {
            Occasion::HangUp => self.load(&contents),
            Occasion::Look => self.look(&contents),
            Occasion::Day => report::complaints(self.tls.files.listener, &self.tls.loaded.load(), certificate::now()),
        }
    }

    fn look(&mut self, contents: &Contents) {
        if self.pace.wants(contents.digest()) {
            self.load(contents);
        }
        self.judge_dates(certificate::now());
    }

    fn load(&mut self, contents: &Contents) {
        match self.tls.replace(contents) {
            Ok(()) => {
                self.pace = Pace::new(contents.digest());
                self.judged = certificate::now();
                self.last_error = None;
                self.reloads.succeeded.increment(1);
            }
            Err(error) => {
                self.pace.is_failing = true;
                self.reloads.failed.increment(1);
                self.say_once(error.to_string());
            }
        }
    }

    /// The same error is met at each look.
    fn say_once(&mut self, error: String) {
        let is_said = |(last, at): &(String, Instant)| *last == error && at.elapsed() < REPEAT;
        if !self.last_error.as_ref().is_some_and(is_said) {
            tracing::error!(listener = self.tls.files.listener, error, "tls_reload_error");
            self.last_error = Some((error, Instant::now()));
        }
    }

    fn judge_dates(&mut self, now: i64) {
        let loaded = self.tls.loaded.load();
        let Some(authorities) = &loaded.authorities else { return };
        report::passed(self.tls.files.listener, authorities, self.judged, now);
        let could_come = authorities.trouble(self.judged).is_none();
        if could_come || self.last_trouble.elapsed() >= REPEAT {
            report::nobody_can_come(self.tls.files.listener, authorities, now);
            self.last_trouble = Instant::now();
        }
        self.judged = now;
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("tls", &self.tls).field("pace", &self.pace).finish_non_exhaustive()
    }
}

impl Pace {
    fn new(in_force: Digest) -> Self {
        Self { in_force, seen: in_force, is_failing: false }
    }

    /// Whether what is seen now is to be loaded.
    fn wants(&mut self, seen: Digest) -> bool {
        let is_steady = std::mem::replace(&mut self.seen, seen) == seen;
        is_steady && (self.is_failing || seen != self.in_force)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Digest = [0; 32];
    const HALF: Digest = [1; 32];
    const NEW: Digest = [2; 32];

    #[test]
    fn what_does_not_change_is_not_loaded() {
        let mut pace = Pace::new(OLD);
        assert!((0..5).all(|_| !pace.wants(OLD)));
    }

    #[test]
    fn a_change_is_loaded_when_it_has_been_the_same_for_two_looks() {
        let mut pace = Pace::new(OLD);
        assert_eq!([HALF, NEW, NEW].map(|seen| pace.wants(seen)), [false, false, true]);
    }

    #[test]
    fn a_failed_load_is_tried_again_at_each_look_until_one_succeeds() {
        let mut pace = Pace::new(OLD);
        assert!(!pace.wants(HALF) && pace.wants(HALF));
        pace.is_failing = true;
        assert!(pace.wants(HALF), "whatever was in its way may be gone");
        assert!(!pace.wants(NEW) && pace.wants(NEW));
        pace.is_failing = true;
        assert!(!pace.wants(OLD) && pace.wants(OLD), "also back to what is in force, which ends the failure");
    }
}

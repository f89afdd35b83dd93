//! The threads that run sessions, and when they go to sleep.
//!
//! Vehicles send small records, each alone. Going to sleep and being woken costs a thread several times what a
//! record does, so a busy worker does as network cards do with interrupts: it waits a moment before it sleeps,
//! and then finds several records at once (*coalescing*). A worker that has little to do sleeps at once.
//!
//! ```text
//!  run what is ready ──▶ nothing left ──▶ busy? ── no ──▶ sleep until something happens
//!         ▲                                 │ yes                     │
//!         └───────── look again ◀── pause ──┘                         │
//!         └───────────────────────────────────────────────────────────┘
//! ```

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::config;

/// Wake-ups that a pause must be expected to gather: with fewer it would only be one sleep more.
const LEAST: f64 = 3.0;
/// Wake-ups per worker that are worth waiting for; a pause that gathers them sooner ends sooner.
const ENOUGH: f64 = 32.0;
/// The rate of wake-ups is that of about this time.
const MEMORY: Duration = Duration::from_millis(20);

/// Starts the workers.
///
/// # Errors
/// When the system gives no more threads.
pub fn start(config: &config::Workers) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().thread_name("worker").worker_threads(config.threads);
    if !config.coalesce.is_zero() {
        let gathered = AtomicU64::new(0);
        let (longest, workers) = (config.coalesce, config.threads);
        builder.on_thread_park(move || pause(&gathered, longest, workers));
    }
    builder.build()
}

/// Notes that a session was woken on this thread.
pub(crate) fn note_wake_up() {
    WAKE_UPS.set(WAKE_UPS.get() + 1);
}

thread_local! {
    /// Since this worker's last pause.
    static WAKE_UPS: Cell<u64> = const { Cell::new(0) };
    static PACE: Cell<Option<Pace>> = const { Cell::new(None) };
}

/// Runs when a worker has nothing left to do. All workers wait for the same events, so `gathered` counts for all.
fn pause(gathered: &AtomicU64, longest: Duration, workers: usize) {
    let own = WAKE_UPS.take();
    let total = gathered.fetch_add(own, Ordering::Relaxed) + own;
    let now = Instant::now();
    let mut pace = PACE.get().unwrap_or(Pace { at: now, total, per_second: 0.0 });
    let pause = pace.pause(now, total, longest, workers);
    PACE.set(Some(pace));
    if let Some(pause) = pause {
        std::thread::sleep(pause);
    }
}

/// How often sessions are woken, as one worker sees it.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When it last looked.
    at: Instant,
    /// Wake-ups of all workers until then.
    total: u64,
    per_second: f64,
}

impl Pace {
    /// How long to wait for more; `None`: sleep at once.
    fn pause(&mut self, now: Instant, total: u64, longest: Duration, workers: usize) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "differences are far below 2^52")]
        let (count, workers) = ((total - self.total) as f64, workers as f64);
        if elapsed > 0.0 {
            let weight = elapsed / (elapsed + MEMORY.as_secs_f64());
            self.per_second += weight * (count / elapsed - self.per_second);
            (self.at, self.total) = (now, total);
        }
        let expected = self.per_second * longest.as_secs_f64();
        (expected >= LEAST).then(|| longest.mul_f64((ENOUGH * workers / expected).min(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(1);

    /// The pauses of one of two workers, which looks every `look` while sessions are woken `per_second`.
    fn pauses(per_second: u32, look: Duration, looks: u32) -> Vec<Option<Duration>> {
        let start = Instant::now();
        let mut pace = Pace { at: start, total: 0, per_second: 0.0 };
        (1..=looks)
            .map(|n| {
                let elapsed = look * n;
                let total = (elapsed.as_secs_f64() * f64::from(per_second)) as u64;
                pace.pause(start + elapsed, total, LONGEST, 2)
            })
            .collect()
    }

    #[test]
    fn a_worker_with_little_to_do_sleeps_at_once() {
        assert!(pauses(100, Duration::from_millis(10), 100).iter().all(Option::is_none));
        assert!(pauses(2_500, Duration::from_micros(400), 1_000).iter().all(Option::is_none));
    }

    #[test]
    fn a_busy_worker_pauses_once_it_knows_that_it_is_busy() {
        let pauses = pauses(8_000, Duration::from_micros(125), 1_000);
        assert_eq!(pauses.first(), Some(&None), "a single wake-up says nothing");
        assert_eq!(pauses.last(), Some(&Some(LONGEST)));
    }

    #[test]
    fn a_pause_ends_when_enough_has_gathered() {
        let last = pauses(1_000_000, Duration::from_micros(100), 10_000).pop().flatten().expect("a pause");
        // 32 for each of two workers, at one per microsecond.
        assert!((60..=68).contains(&last.as_micros()), "{last:?}");
    }

    #[test]
    fn a_burst_is_forgotten() {
        let start = Instant::now();
        let mut pace = Pace { at: start, total: 0, per_second: 50_000.0 };
        assert_eq!(pace.pause(start + Duration::from_secs(1), 10, LONGEST, 2), None);
    }

    #[test]
    fn looking_twice_at_the_same_moment_changes_nothing() {
        let now = Instant::now();
        let mut pace = Pace { at: now, total: 5, per_second: 8_000.0 };
        assert_eq!(pace.pause(now, 9, LONGEST, 2), Some(LONGEST));
        assert_eq!(pace.total, 5, "what came since is counted at the next look");
    }

    #[test]
    fn a_runtime_that_coalesces_runs_everything() {
        let config = config::Workers { threads: 2, coalesce: LONGEST };
        let runtime = start(&config).expect("threads");
        let sum = runtime.block_on(async {
            let tasks: Vec<_> = (0..2_000_u64)
                .map(|n| {
                    tokio::spawn(async move {
                        for _ in 0..10 {
                            note_wake_up();
                            tokio::task::yield_now().await;
                        }
                        tokio::time::sleep(Duration::from_micros(n)).await;
                        n
                    })
                })
                .collect();
            let mut sum = 0;
            for task in tasks {
                sum += task.await.expect("ran");
            }
            sum
        });
        assert_eq!(sum, 1_999_000);
    }
}

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
//!
//! Several workers that pause side by side would share what there is to gather. So only as many as the load needs
//! pause for `workers.coalesce`; the others look in now and then, and find out when they are needed. A worker goes
//! for long only while another one is in a short pause, and will look after what comes.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::config;

/// Wake-ups that a pause must be expected to gather: a pause costs what three wake-ups do, or less, and others gather
/// some of them.
const LEAST: f64 = 5.0;
/// Wake-ups per worker that are worth waiting for; a pause that gathers them sooner ends sooner.
const ENOUGH: f64 = 32.0;
/// How much of its time a worker may be busy before the load needs another one.
const FULL: f64 = 0.5;
/// All workers that are not needed together look in so many times less often than one that is.
const RARELY: f64 = 8.0;
/// The most that one of them may be away, in pauses. When the load ends at once, nobody else may look after the last
/// wake-up that came from another thread: Tokio counts a worker in a pause as awake.
const AWAY: f64 = 20.0;
/// Rates are those of about this time.
const MEMORY: Duration = Duration::from_millis(20);

/// Starts the workers.
///
/// # Errors
/// When the system gives no more threads.
pub fn start(config: &config::Workers) -> io::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().thread_name("worker").worker_threads(config.threads);
    if !config.coalesce.is_zero() {
        let policy = Policy { longest: config.coalesce, workers: config.threads };
        let all = Arc::new(All::default());
        builder.on_thread_unpark(|| BUSY_SINCE.set(Some(Instant::now())));
        builder.on_thread_park(move || pause(&all, policy));
    }
    builder.build()
}

/// Notes that a session was woken on this thread.
pub(crate) fn note_wake_up() {
    WAKE_UPS.set(WAKE_UPS.get() + 1);
}

/// What the workers have done since the start, all together.
#[derive(Debug, Default)]
struct All {
    wake_ups: AtomicU64,
    busy_ns: AtomicU64,
    /// Workers that are in a short pause.
    on_call: AtomicUsize,
}

thread_local! {
    /// Since this worker's last pause.
    static WAKE_UPS: Cell<u64> = const { Cell::new(0) };
    /// `None` until the worker has slept for the first time.
    static BUSY_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The load as this worker sees it.
    static SEEN: Cell<Option<Load>> = const { Cell::new(None) };
}

/// Runs when a worker has nothing left to do.
fn pause(all: &All, policy: Policy) {
    let now = Instant::now();
    let busy = BUSY_SINCE.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let wake_ups = add(&all.wake_ups, WAKE_UPS.take());
    let busy_ns = add(&all.busy_ns, u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX));
    let mut load = SEEN.get().unwrap_or_else(|| Load::new(now, wake_ups, busy_ns));
    load.update(now, wake_ups, busy_ns);
    SEEN.set(Some(load));
    match policy.pause(all.on_call.load(Ordering::Relaxed), load.wake_ups_per_second, load.busy) {
        Pause::None => {}
        Pause::Short(time) => {
            all.on_call.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(time);
            all.on_call.fetch_sub(1, Ordering::Relaxed);
        }
        Pause::Long(time) => std::thread::sleep(time),
    }
}

/// The total with `own` in it.
fn add(total: &AtomicU64, own: u64) -> u64 {
    total.fetch_add(own, Ordering::Relaxed).wrapping_add(own)
}

/// The load of all workers together, as one of them sees it.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// When it last looked.
    at: Instant,
    /// The totals until then.
    wake_ups: u64,
    busy_ns: u64,
    /// How often sessions are woken.
    wake_ups_per_second: f64,
    /// How many workers are busy, on average.
    busy: f64,
}

impl Load {
    fn new(at: Instant, wake_ups: u64, busy_ns: u64) -> Self {
        Self { at, wake_ups, busy_ns, wake_ups_per_second: 0.0, busy: 0.0 }
    }

    fn update(&mut self, now: Instant, wake_ups: u64, busy_ns: u64) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        if elapsed == 0.0 {
            return;
        }
        let weight = elapsed / (elapsed + MEMORY.as_secs_f64());
        let woken = wake_ups.wrapping_sub(self.wake_ups);
        let busy = Duration::from_nanos(busy_ns.wrapping_sub(self.busy_ns));
        #[expect(clippy::cast_precision_loss, reason = "differences are far below 2^52")]
        let per_second = woken as f64 / elapsed;
        self.wake_ups_per_second += weight * (per_second - self.wake_ups_per_second);
        self.busy += weight * (busy.as_secs_f64() / elapsed - self.busy);
        (self.at, self.wake_ups, self.busy_ns) = (now, wake_ups, busy_ns);
    }
}

/// When to pause, and for how long.
#[derive(Clone, Copy, Debug)]
struct Policy {
    /// `workers.coalesce`.
    longest: Duration,
    /// `workers.threads`.
    workers: usize,
}

/// What a worker with nothing to do does before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// Nothing.
    None,
    /// It gathers, and then looks after what has come.
    Short(Duration),
    /// It is not needed.
    Long(Duration),
}

impl Policy {
    /// For a worker while `on_call` others are in a short pause.
    fn pause(self, on_call: usize, wake_ups_per_second: f64, busy: f64) -> Pause {
        let expected = wake_ups_per_second * self.longest.as_secs_f64();
        if expected < LEAST {
            return Pause::None;
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and not negative")]
        let needed = (1 + (busy / FULL) as usize).min(self.workers);
        #[expect(clippy::cast_precision_loss, reason = "numbers of threads")]
        let (share, spare) = (needed as f64, (self.workers - needed) as f64);
        if on_call < needed {
            Pause::Short(self.longest.mul_f64((ENOUGH * share / expected).min(1.0)))
        } else {
            Pause::Long(self.longest.mul_f64((RARELY * spare.max(1.0)).min(AWAY)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { longest: Duration::from_millis(1), workers: 4 };

    #[test]
    fn a_worker_with_little_to_do_sleeps_at_once() {
        assert_eq!(POLICY.pause(0, 4_900.0, 0.1), Pause::None);
        assert_eq!(POLICY.pause(3, 4_900.0, 0.1), Pause::None);
    }

    #[test]
    fn one_worker_gathers_what_one_can_do_and_the_others_look_in_now_and_then() {
        assert_eq!(POLICY.pause(0, 8_000.0, 0.2), Pause::Short(Duration::from_millis(1)));
        assert_eq!(POLICY.pause(1, 8_000.0, 0.2), Pause::Long(Duration::from_millis(20)));
    }

    #[test]
    fn the_more_is_to_do_the_more_workers_are_there() {
        assert_eq!(POLICY.pause(1, 8_000.0, 0.6), Pause::Short(Duration::from_millis(1)));
        // Two of them every 16 milliseconds: one every eight.
        assert_eq!(POLICY.pause(2, 8_000.0, 0.6), Pause::Long(Duration::from_millis(16)));
        for on_call in 0..4 {
            assert_eq!(POLICY.pause(on_call, 8_000.0, 3.9), Pause::Short(Duration::from_millis(1)));
        }
    }

    #[test]
    fn nobody_goes_for_long_unless_somebody_is_on_call() {
        for busy in [0.0, 0.7, 2.0, 9.0] {
            assert!(matches!(POLICY.pause(0, 8_000.0, busy), Pause::Short(_)));
        }
        let alone = Policy { workers: 1, ..POLICY };
        assert!(matches!(alone.pause(0, 8_000.0, 0.2), Pause::Short(_)));
    }

    #[test]
    fn a_pause_ends_when_enough_has_gathered() {
        // 32 for each of four workers, at one per microsecond.
        assert_eq!(POLICY.pause(0, 1_000_000.0, 4.0), Pause::Short(Duration::from_micros(128)));
        assert_eq!(POLICY.pause(0, 1_000_000.0, 0.1), Pause::Short(Duration::from_micros(32)));
    }

    /// What a worker that looks every `look` knows of a steady load of `per_second` and `busy`.
    fn load(per_second: u64, busy: f64, look: Duration, looks: u32) -> Load {
        let start = Instant::now();
        let mut load = Load::new(start, 0, 0);
        for elapsed in (1..=looks).map(|n| look * n) {
            let wake_ups = u64::try_from(elapsed.as_millis()).unwrap() * per_second / 1000;
            load.update(start + elapsed, wake_ups, u64::try_from(elapsed.mul_f64(busy).as_nanos()).unwrap());
        }
        load
    }

    #[test]
    fn rates_are_known_after_a_while_however_often_a_worker_looks() {
        for look in [1, 12, 200].map(Duration::from_millis) {
            let load = load(8_000, 0.3, look, 500);
            assert!((7_999.0..8_001.0).contains(&load.wake_ups_per_second), "{load:?}");
            assert!((0.299..0.301).contains(&load.busy), "{load:?}");
        }
        assert!(load(8_000, 0.3, Duration::from_millis(1), 1).wake_ups_per_second < 500.0, "one look says little");
    }

    #[test]
    fn a_burst_is_forgotten() {
        let mut load = load(50_000, 2.0, Duration::from_millis(1), 500);
        load.update(load.at + Duration::from_secs(1), load.wake_ups + 10, load.busy_ns);
        assert!(load.wake_ups_per_second < 1_500.0 && load.busy < 0.1, "{load:?}");
    }

    #[test]
    fn looking_twice_at_the_same_moment_changes_nothing() {
        let mut load = load(8_000, 0.3, Duration::from_millis(1), 500);
        let before = load;
        load.update(load.at, load.wake_ups + 9, load.busy_ns);
        assert_eq!(load.wake_ups, before.wake_ups, "what came since is counted at the next look");
    }

    #[test]
    fn a_runtime_that_coalesces_runs_everything() {
        let config = config::Workers { threads: 2, coalesce: Duration::from_millis(1) };
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

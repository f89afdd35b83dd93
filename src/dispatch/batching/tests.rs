//! Batches on Tokio's clock, before a sink that does as it is told.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant as Now;

use super::*;
use crate::dispatch::{DispatcherMetrics, Outcome, Outlet};
use crate::record::{RecordKind, Topics, fixture};

const SECOND: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(100);

/// What a sink saw, and what it is to answer.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Txids of each call.
    sent: Vec<Vec<String>>,
    /// Fates of the calls to come; then everything is delivered.
    answers: VecDeque<Vec<Fate>>,
    probes: usize,
    down: Option<String>,
    closed: bool,
}

/// A sink that follows a script; a call takes `takes`.
struct Scripted {
    script: Script,
    takes: Duration,
}

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sent(&self) -> Vec<Vec<String>> {
        self.state().sent.clone()
    }

    fn answer(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state().answers.push_back(fates.into_iter().collect());
    }
}

impl Sink for Scripted {
    async fn send(&mut self, batch: &[Record]) -> Vec<Fate> {
        let txids: Vec<_> = batch.iter().map(|record| String::from_utf8_lossy(record.txid()).into_owned()).collect();
        assert!(!txids.contains(&"panic".to_owned()), "a defect");
        let answer = {
            let mut state = self.script.state();
            state.sent.push(txids);
            state.answers.pop_front()
        };
        tokio::time::sleep(self.takes).await;
        answer.unwrap_or_else(|| vec![Fate::Delivered; batch.len()])
    }

    async fn probe(&mut self) -> Result<Duration, String> {
        let mut state = self.script.state();
        state.probes += 1;
        state.down.clone().map_or(Ok(10 * SECOND), Err)
    }

    async fn close(&mut self) {
        self.script.state().closed = true;
    }
}

/// A dispatcher of scripted sinks, and a session in front of it.
struct Bench {
    batching: Batching,
    scripts: Vec<Script>,
    outlet: Arc<Outlet>,
    metrics: Arc<DispatcherMetrics>,
}

fn settings() -> Settings {
    Settings {
        batch: InFlight { records: 10, bytes: 100_000 },
        linger: LINGER,
        pauses: (SECOND, 8 * SECOND),
        give_up: None,
    }
}

impl Bench {
    fn new(lanes: usize, settings: Settings, takes: Duration) -> Self {
        let scripts = vec![Script::default(); lanes].into_iter().map(|_| Script::default()).collect::<Vec<_>>();
        let sinks = scripts.iter().map(|script| Scripted { script: script.clone(), takes }).collect();
        let bound = InFlight { records: 1000, bytes: 1 << 30 };
        let (batching, lanes) = Batching::new(DispatcherName::Kinesis, bound, settings, sinks);
        lanes.into_iter().for_each(|lane| drop(tokio::spawn(lane.run())));
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kinesis, &Topics::new([])));
        Self { batching, scripts, outlet: Arc::default(), metrics }
    }

    fn one() -> Self {
        Self::new(1, settings(), Duration::ZERO)
    }

    fn script(&self) -> &Script {
        &self.scripts[0]
    }

    fn offer(&self, vin: &str, txid: &str, bytes: usize) {
        let record = Record::from_parts(
            RecordKind::V,
            &vec![0; bytes],
            txid.as_bytes(),
            fixture::origin(vin),
            fixture::received(),
        );
        let receipt = Receipt::direct(&record, &self.metrics, &self.outlet);
        self.batching.dispatch(&record, receipt).expect("room");
    }

    fn offer_all(&self, txids: std::ops::Range<u32>) {
        txids.for_each(|n| self.offer("VIN", &n.to_string(), 1));
    }

    /// Txids and outcomes of what has settled.
    fn settled(&self) -> Vec<(String, Outcome)> {
        let mut settled = Vec::new();
        let _ = self.outlet.poll_settled(&mut Context::from_waker(Waker::noop()), &mut settled);
        let txid = |record: &Record| String::from_utf8_lossy(record.txid()).into_owned();
        settled.iter().map(|settled| (txid(&settled.record), settled.outcome)).collect()
    }
}

fn retry() -> Fate {
    Fate::Retry("later".to_owned())
}

fn named(txids: std::ops::Range<u32>, outcome: Outcome) -> Vec<(String, Outcome)> {
    txids.map(|n| (n.to_string(), outcome)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_what_came_while_it_lingered_up_to_its_bounds() {
    let bench = Bench::one();
    let start = Now::now();
    bench.offer_all(0..3);
    tokio::time::sleep(LINGER / 2).await;
    assert!(bench.script().sent().is_empty());
    bench.offer_all(3..5);
    while bench.settled().is_empty() {
        tokio::time::sleep(LINGER / 10).await;
    }
    assert!(start.elapsed() >= LINGER);
    bench.offer_all(5..30);
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.script().sent().iter().map(Vec::len).collect::<Vec<_>>(), [5, 10, 10, 5]);
    assert_eq!(bench.settled(), named(5..30, Outcome::Delivered));
    assert_eq!(bench.batching.outbox().used().records, 0);
}

#[tokio::test(start_paused = true)]
async fn large_records_make_small_batches_and_the_largest_goes_alone() {
    let bench = Bench::one();
    for (n, bytes) in [40_000, 40_000, 40_000, 500_000, 1].into_iter().enumerate() {
        bench.offer("VIN", &n.to_string(), bytes);
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.script().sent(), [vec!["0", "1"], vec!["2"], vec!["3"], vec!["4"]]);
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_does_not_linger() {
    let bench = Bench::new(1, Settings { linger: 3600 * SECOND, ..settings() }, Duration::ZERO);
    bench.offer_all(0..9);
    tokio::time::sleep(SECOND).await;
    assert!(bench.script().sent().is_empty());
    bench.offer_all(9..10);
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.settled(), named(0..10, Outcome::Delivered));
}

#[tokio::test(start_paused = true)]
async fn what_failed_for_now_is_sent_again_in_order_before_anything_newer() {
    let bench = Bench::one();
    bench.script().answer([Fate::Delivered, retry(), Fate::Refused("too large".to_owned()), retry()]);
    bench.script().answer([retry()]);
    bench.offer_all(0..4);
    tokio::time::sleep(LINGER * 2).await;
    assert_eq!(bench.batching.health(), Health::Unhealthy("later".to_owned()));
    assert_eq!(bench.settled(), [("0".to_owned(), Outcome::Delivered), ("2".to_owned(), Outcome::Lost)]);
    bench.offer_all(4..6);
    tokio::time::sleep(60 * SECOND).await;
    // The second answer has one fate only: the other record counts as not sent.
    let again = vec!["1".to_owned(), "3".to_owned()];
    let first = (0..4).map(|n| n.to_string()).collect();
    assert_eq!(bench.script().sent(), [first, again.clone(), again, vec!["4".to_owned(), "5".to_owned()]]);
    let settled: Vec<_> = bench.settled().into_iter().map(|(txid, _)| txid).collect();
    assert_eq!(settled, ["1", "3", "4", "5"]);
    assert_eq!(bench.batching.health(), Health::Healthy);
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_grow_and_in_the_end_the_batch_is_given_up_if_so_configured() {
    let bench = Bench::new(1, Settings { give_up: Some(20 * SECOND), ..settings() }, Duration::ZERO);
    for _ in 0..100 {
        bench.script().answer([retry()]);
    }
    let start = Now::now();
    bench.offer_all(0..1);
    while bench.batching.outbox().used().records > 0 {
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(bench.settled(), named(0..1, Outcome::Lost));
    assert!((20..31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    // 1 + 2 + 4 + 8 + 8 seconds, each up to a quarter more or less.
    let attempts = bench.script().sent().len();
    assert!((5..=7).contains(&attempts), "{attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn an_idle_lane_finds_out_by_itself_whether_the_other_side_is_there() {
    let bench = Bench::one();
    bench.script().state().down = Some("away".to_owned());
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(bench.batching.health(), Health::Unhealthy("away".to_owned()));
    bench.script().state().down = None;
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(bench.batching.health(), Health::Healthy);
    let probes = bench.script().state().probes;
    tokio::time::sleep(100 * SECOND).await;
    assert!(bench.script().state().probes <= probes + 11, "as seldom as the sink asks for");
}

#[tokio::test(start_paused = true)]
async fn a_close_delivers_what_is_there_until_its_deadline() {
    let bench = Bench::new(1, settings(), SECOND);
    bench.offer_all(0..35);
    let deadline = Now::now().into_std() + 2 * SECOND + SECOND / 2;
    // Four batches of a second each; the third has begun when the time is up, and its end is still waited for.
    bench.batching.close(deadline).await;
    let settled = bench.settled();
    assert_eq!(settled.len(), 35);
    let delivered = settled.iter().filter(|(_, outcome)| *outcome == Outcome::Delivered).count();
    assert!(delivered == 20 || delivered == 30, "{delivered}");
    bench.offer("VIN", "late", 1);
    assert_eq!(bench.settled(), [("late".to_owned(), Outcome::Lost)]);
    assert_eq!(bench.batching.outbox().used().records, 0);
    tokio::time::sleep(SECOND).await;
    assert!(bench.script().state().closed);
}

#[tokio::test(start_paused = true)]
async fn a_close_settles_what_a_stuck_sink_holds_and_its_late_success_acks_nothing() {
    let bench = Bench::new(1, settings(), 60 * SECOND);
    bench.offer_all(0..15);
    tokio::time::sleep(SECOND).await;
    bench.batching.close(Now::now().into_std() + SECOND).await;
    assert_eq!(bench.settled().iter().filter(|(_, outcome)| *outcome == Outcome::Lost).count(), 15);
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(bench.settled(), []);
    assert_eq!(bench.batching.outbox().used().records, 0);
}

#[tokio::test(start_paused = true)]
async fn a_close_ends_a_pause_between_attempts() {
    let bench = Bench::one();
    for _ in 0..100 {
        bench.script().answer([retry()]);
    }
    bench.offer_all(0..1);
    tokio::time::sleep(100 * SECOND).await;
    let start = Now::now();
    bench.batching.close(Now::now().into_std() + SECOND).await;
    assert!(start.elapsed() <= 2 * SECOND, "{:?}", start.elapsed());
    assert_eq!(bench.settled(), named(0..1, Outcome::Lost));
}

#[tokio::test(start_paused = true)]
async fn a_vehicle_stays_in_its_lane_and_a_lane_that_is_stuck_delays_no_other() {
    let bench = Bench::new(4, settings(), Duration::ZERO);
    for round in 0..3 {
        for vehicle in 0..40 {
            bench.offer(&format!("VIN{vehicle}"), &format!("{vehicle}-{round}"), 1);
        }
        tokio::time::sleep(SECOND).await;
    }
    let lane_of = |txid: &str| {
        let has = |script: &Script| script.sent().iter().flatten().any(|sent| sent == txid);
        bench.scripts.iter().position(has).expect("it was sent")
    };
    for vehicle in 0..40 {
        let lanes: Vec<_> = (0..3).map(|round| lane_of(&format!("{vehicle}-{round}"))).collect();
        assert!(lanes.windows(2).all(|pair| pair[0] == pair[1]), "{lanes:?}");
    }
    assert!(bench.scripts.iter().all(|script| !script.sent().is_empty()), "all lanes are used");
    bench.settled();
    let stuck = lane_of("0-0");
    for _ in 0..1000 {
        bench.scripts[stuck].answer(vec![retry(); 10]);
    }
    (0..40).for_each(|vehicle| bench.offer(&format!("VIN{vehicle}"), &format!("{vehicle}-last"), 1));
    tokio::time::sleep(SECOND).await;
    let others = (0..40).filter(|vehicle| lane_of(&format!("{vehicle}-0")) != stuck).count();
    assert_eq!(bench.settled().len(), others);
    assert!(matches!(bench.batching.health(), Health::Unhealthy(_)));
}

#[test]
fn a_panic_of_the_thread_is_seen_and_loses_nothing_silently() {
    let (script, bound) = (Script::default(), InFlight { records: 100, bytes: 1 << 20 });
    let sinks = vec![Scripted { script, takes: Duration::ZERO }];
    let batching = Batching::start(DispatcherName::Kinesis, bound, settings(), sinks).expect("a thread");
    let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kinesis, &Topics::new([])));
    let bench = Bench { batching, scripts: Vec::new(), outlet: Arc::default(), metrics };
    bench.offer("VIN", "panic", 1);
    bench.offer("VIN", "behind", 1);
    let deadline = Instant::now() + 30 * SECOND;
    while bench.batching.outbox().used().records > 0 {
        assert!(Instant::now() < deadline, "both settle");
        std::thread::sleep(SECOND / 100);
    }
    assert!(bench.settled().iter().all(|(_, outcome)| *outcome == Outcome::Lost));
    assert!(matches!(bench.batching.health(), Health::Unhealthy(reason) if reason.contains("panicked")));
    bench.offer("VIN", "late", 1);
    assert_eq!(bench.settled(), [("late".to_owned(), Outcome::Lost)]);
}

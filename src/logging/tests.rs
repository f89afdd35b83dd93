//! The log as a whole, over an `Out` that can be blocked or made to fail.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

use super::*;

/// Where a log of a test writes to.
#[derive(Clone, Default)]
pub(super) struct Out(Arc<(Mutex<Way>, Condvar)>);

#[derive(Default)]
struct Way {
    text: String,
    is_blocked: bool,
    error: Option<io::ErrorKind>,
    /// The system takes so many bytes at a time.
    part: Option<usize>,
    writes: usize,
}

impl Out {
    pub(super) fn text(&self) -> String {
        self.0.0.lock().unwrap().text.clone()
    }

    /// Names of the lines, or their field `n`.
    fn lines(&self) -> Vec<String> {
        let name = |line: &str| {
            let after = |key: &str| Some(line.split_once(key)?.1.split(' ').next()?.trim().to_owned());
            after(" n=").or_else(|| after(" msg=")).unwrap_or_else(|| line.to_owned())
        };
        self.text().lines().map(name).collect()
    }

    /// As somebody who does not read.
    pub(super) fn block(&self, is_blocked: bool) {
        self.change(|way| way.is_blocked = is_blocked);
    }

    fn fail(&self, error: Option<io::ErrorKind>) {
        self.change(|way| way.error = error);
    }

    fn change(&self, change: impl FnOnce(&mut Way)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    fn writes(&self) -> usize {
        self.0.0.lock().unwrap().writes
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut way = self.0.1.wait_while(self.0.0.lock().unwrap(), |way| way.is_blocked).unwrap();
        way.writes += 1;
        if let Some(error) = way.error {
            return Err(error.into());
        }
        let part = way.part.unwrap_or(usize::MAX).min(bytes.len());
        way.text.push_str(std::str::from_utf8(&bytes[..part]).unwrap());
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn config() -> config::Log {
    let level = LevelFilter::INFO;
    config::Log { level, json: false, suppress_handshake_errors: false, max_lines: 100, max_bytes: 1 << 20 }
}

pub(super) fn log_to(out: &Out) -> Log {
    Log::start(&config(), Box::new(out.clone())).unwrap()
}

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < PATIENCE, "not {what} in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn line(log: &Log, n: u64) {
    log.line(Level::INFO, Fields::named("line").with("n", n));
}

fn audit(log: &Log, n: u64) {
    log.audit(Level::INFO, Fields::named("audit").with("n", format!("audit-{n}")));
}

/// Where the outcomes of records' lines are collected.
type Outcomes = Arc<Mutex<Vec<(u64, Result<(), Unwritten>)>>>;

fn record(log: &Log, n: u64, outcomes: &Outcomes) {
    let outcomes = Arc::clone(outcomes);
    let then = Box::new(move |outcome| outcomes.lock().unwrap().push((n, outcome)));
    log.record(Fields::named("record").with("n", format!("record-{n}")), then);
}

/// The writer has a line in hand that goes nowhere.
fn stick(log: &Log, out: &Out) {
    out.block(true);
    line(log, 0);
    until("taken", || log.depth() == [(1, 256), (0, 0)] && log.is_at_a_line());
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn lines_come_out_in_order_each_in_one_write() {
    let out = Out::default();
    let log = log_to(&out);
    (0..=50).for_each(|n| line(&log, n));
    log.flush(PATIENCE);
    assert_eq!(out.lines(), numbers(0..=50));
    assert_eq!(out.writes(), 51);
}

#[test]
fn what_finds_no_room_is_dropped_counted_and_told_once_it_can_be_written() {
    let out = Out::default();
    let log = log_to(&out);
    stick(&log, &out);
    let start = Instant::now();
    (1..=1100).for_each(|n| line(&log, n));
    assert!(start.elapsed() < Duration::from_secs(5), "nobody waits");
    assert_eq!(log.totals(), (1001, 0, 0), "one is in hand and 99 wait");
    out.block(false);
    log.flush(PATIENCE);
    let mut lines = out.lines();
    let at = lines.iter().position(|line| line == "log_lines_dropped").unwrap();
    lines.remove(at);
    assert_eq!(lines, numbers(0..=99));
    let text = out.text();
    assert!(text.contains(" level=warning msg=log_lines_dropped context=fleet-telemetry lines=1001\n"), "{text}");
    line(&log, 2000);
    log.flush(PATIENCE);
    assert_eq!(out.lines().last().unwrap(), "2000", "there is room again");
}

#[test]
fn the_bound_holds_in_bytes_too() {
    let out = Out::default();
    let small = config::Log { max_lines: 1_000_000, max_bytes: 16 << 10, ..config() };
    let log = Log::start(&small, Box::new(out.clone())).unwrap();
    stick(&log, &out);
    (1..=1000).for_each(|n| line(&log, n));
    let [(lines, bytes), _] = log.depth();
    assert!(bytes <= 16 << 10 && bytes > 15 << 10 && lines < 100, "{lines} lines, {bytes} bytes");
    assert_eq!(log.totals().0, 1001 - lines as u64);
    log.line(Level::INFO, Fields::named(&"x".repeat(20 << 10)));
    out.block(false);
    log.flush(PATIENCE);
    assert!(!out.text().contains("xxx"), "longer than all the room there is");
}

#[test]
fn a_line_that_the_system_refuses_is_counted_and_told_when_it_takes_lines_again() {
    let out = Out::default();
    let log = log_to(&out);
    out.fail(Some(io::ErrorKind::StorageFull));
    (0..10).for_each(|n| line(&log, n));
    log.flush(PATIENCE);
    assert_eq!(log.totals(), (0, 10, 0));
    let trouble = log.trouble().unwrap();
    assert!(trouble.starts_with("stderr: ") && trouble.contains("space"), "{trouble}");
    out.fail(None);
    // By itself, so that the trouble does not last because nobody logs.
    until("healthy", || log.trouble().is_none());
    assert_eq!(out.lines(), ["log_lines_dropped"]);
    assert!(out.text().ends_with(" lines=10\n"), "{}", out.text());
}

#[test]
fn a_line_that_was_cut_off_is_ended_before_the_next_one() {
    let out = Out::default();
    let log = log_to(&out);
    out.change(|way| way.part = Some(1));
    line(&log, 1);
    log.flush(PATIENCE);
    assert_eq!(out.lines(), ["1"], "a system that takes parts gets the rest");
    // The system takes ten bytes, and then no more.
    let (out, left) = (Out::default(), Arc::new(AtomicUsize::new(10)));
    let log = Log::start(&config(), Box::new(TornAfter { out: out.clone(), left: Arc::clone(&left) })).unwrap();
    line(&log, 1);
    log.flush(PATIENCE);
    left.store(usize::MAX, Ordering::Relaxed);
    line(&log, 2);
    log.flush(PATIENCE);
    let text = out.text();
    let rest: Vec<_> = text.lines().skip(1).collect();
    assert!(text.starts_with("time=\"2") && text.lines().next().unwrap().len() == 10, "{text}");
    assert!(rest.iter().all(|line| line.starts_with("time=") && line.contains(" msg=")), "{text}");
}

/// Takes so many bytes, then refuses.
struct TornAfter {
    out: Out,
    left: Arc<AtomicUsize>,
}

impl Write for TornAfter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed).min(bytes.len());
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if self.left.load(Ordering::Relaxed) != usize::MAX {
            self.left.fetch_sub(left, Ordering::Relaxed);
        }
        self.out.write(&bytes[..left])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_pipe_that_does_not_block_is_waited_for() {
    let out = Out::default();
    let log = log_to(&out);
    out.fail(Some(io::ErrorKind::WouldBlock));
    (0..3).for_each(|n| line(&log, n));
    until("tried", || out.writes() > 3);
    out.fail(None);
    log.flush(PATIENCE);
    assert_eq!(out.lines(), numbers(0..=2));
    assert_eq!(log.totals(), (0, 0, 0));
}

#[test]
fn audit_lines_have_room_of_their_own_and_are_kept_in_order_until_they_are_written() {
    let out = Out::default();
    let log = log_to(&out);
    stick(&log, &out);
    (1..=200).for_each(|n| line(&log, n));
    for n in 0..100 {
        assert!(log.has_room_for_audit(), "{n}");
        audit(&log, n);
    }
    assert!(!log.has_room_for_audit());
    out.change(|way| (way.is_blocked, way.error) = (false, Some(io::ErrorKind::StorageFull)));
    until("tried", || log.totals().1 == 100);
    log.lose_audit();
    assert!(!log.has_room_for_audit(), "what could not be written is still there");
    out.fail(None);
    until("written", || log.has_room_for_audit() && log.depth()[1].0 == 0);
    log.flush(PATIENCE);
    let lines = out.lines();
    let audited: Vec<_> = lines.iter().filter(|line| line.starts_with("audit")).cloned().collect();
    assert_eq!(audited, (0..100).map(|n| format!("audit-{n}")).collect::<Vec<_>>());
    assert!(out.text().contains(" audit_lines=1 context=fleet-telemetry lines=201\n"), "{}", out.text());
}

#[tokio::test]
async fn a_change_is_audited_when_its_line_is_written() {
    let out = Out::default();
    let log = log_to(&out);
    assert!(log.is_audited().await, "there was none");
    audit(&log, 1);
    assert!(log.is_audited().await);
    stick(&log, &out);
    audit(&log, 2);
    assert!(!log.is_audited().await);
    until("seen to be stuck", || log.trouble().is_some_and(|trouble| trouble.contains("has taken nothing for ")));
    out.block(false);
    until("healthy", || log.trouble().is_none());
    assert!(log.is_audited().await);
}

#[test]
fn a_record_is_told_what_became_of_its_line_after_that_is_certain() {
    let (out, outcomes) = (Out::default(), Outcomes::default());
    let log = log_to(&out);
    stick(&log, &out);
    (1..=200).for_each(|n| line(&log, n));
    (0..3).for_each(|n| record(&log, n, &outcomes));
    assert!(log.record_bytes() > 0);
    assert_eq!(*outcomes.lock().unwrap(), [], "nothing is written");
    out.block(false);
    log.flush(PATIENCE);
    until("told", || outcomes.lock().unwrap().len() == 3);
    assert_eq!(*outcomes.lock().unwrap(), [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
    assert_eq!(log.record_bytes(), 0);
    out.fail(Some(io::ErrorKind::BrokenPipe));
    record(&log, 3, &outcomes);
    until("told", || outcomes.lock().unwrap().len() == 4);
    let failed = outcomes.lock().unwrap()[3].clone();
    assert!(matches!(failed, (3, Err(Unwritten::Refused(error))) if error.contains("broken pipe")));
}

#[test]
fn records_can_be_withdrawn_also_the_one_in_hand_and_are_told_once() {
    let (out, outcomes) = (Out::default(), Outcomes::default());
    let log = log_to(&out);
    out.block(true);
    (0..3).for_each(|n| record(&log, n, &outcomes));
    line(&log, 7);
    until("taken", || log.is_at_a_line());
    let withdrawn = log.withdraw_records();
    assert_eq!(withdrawn.len(), 3);
    withdrawn.into_iter().for_each(|then| then(Err(Unwritten::GivenUp)));
    out.block(false);
    log.flush(PATIENCE);
    assert_eq!(out.lines(), ["record-0", "7"], "the one in hand cannot be taken back");
    let given_up = |n| (n, Err(Unwritten::GivenUp));
    assert_eq!(*outcomes.lock().unwrap(), [given_up(0), given_up(1), given_up(2)]);
    assert_eq!(log.record_bytes(), 0);
}

#[test]
fn the_last_words_are_waited_for_but_not_for_ever() {
    let (out, outcomes) = (Out::default(), Outcomes::default());
    let log = log_to(&out);
    (0..50).for_each(|n| line(&log, n));
    drop(LastWords(log));
    assert_eq!(out.lines(), numbers(0..=49));

    let log = log_to(&out);
    stick(&log, &out);
    audit(&log, 1);
    record(&log, 1, &outcomes);
    let start = Instant::now();
    drop(LastWords(log.clone()));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(*outcomes.lock().unwrap(), [(1, Err(Unwritten::GivenUp))]);
    record(&log, 2, &outcomes);
    assert_eq!(outcomes.lock().unwrap().len(), 2, "who comes later is told at once");
    out.block(false);
}

#[test]
fn a_writer_that_panics_holds_nobody_up() {
    struct Broken;
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("on purpose");
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let outcomes = Outcomes::default();
    let log = Log::start(&config(), Box::new(Broken)).unwrap();
    record(&log, 1, &outcomes);
    until("told", || outcomes.lock().unwrap().len() == 1);
    until("seen", || log.trouble().is_some_and(|trouble| trouble.contains("panicked")));
    (0..1000).for_each(|n| line(&log, n));
    assert_eq!(log.totals().0, 1000);
}

fn filter_at(level: LevelFilter, suppress_handshake_errors: bool) -> Targets {
    filter(&config::Log { level, suppress_handshake_errors, ..config() })
}

#[test]
fn keeps_libraries_quiet_at_info() {
    let filter = filter_at(LevelFilter::INFO, false);
    assert!(filter.would_enable("fleet_telemetry::session", &Level::INFO));
    assert!(!filter.would_enable("fleet_telemetry::session", &Level::DEBUG));
    assert!(!filter.would_enable("rdkafka::client", &Level::INFO));
    assert!(filter.would_enable("rdkafka::client", &Level::WARN));
}

#[test]
fn never_lets_libraries_say_more_than_we_do() {
    assert!(!filter_at(LevelFilter::ERROR, false).would_enable("rustls", &Level::WARN));
    assert!(!filter_at(LevelFilter::TRACE, false).would_enable("rustls", &Level::DEBUG));
}

#[test]
fn drops_handshake_errors_on_request() {
    assert!(filter_at(LevelFilter::INFO, false).would_enable(HANDSHAKE_TARGET, &Level::INFO));
    assert!(!filter_at(LevelFilter::INFO, true).would_enable(HANDSHAKE_TARGET, &Level::ERROR));
}

#[test]
fn writes_changes_of_grants_whatever_the_level() {
    let filter = filter_at(LevelFilter::ERROR, false);
    assert!(filter.would_enable(AUDIT_TARGET, &Level::INFO));
    assert!(!filter.would_enable("fleet_telemetry::session", &Level::INFO));
}

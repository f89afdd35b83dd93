//! Routes over dispatchers that are full, or not there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::config::{InFlight, WhenFull};
use crate::record::{RecordKind, fixture};

/// Keeps what it gets.
#[derive(Debug)]
struct Hoard {
    name: DispatcherName,
    outbox: Arc<Outbox>,
    held: Mutex<Vec<Receipt>>,
}

impl Hoard {
    fn new(name: DispatcherName, records: usize) -> Arc<Self> {
        let outbox = Arc::new(Outbox::new(InFlight { records, bytes: 1 << 20 }));
        Arc::new(Self { name, outbox, held: Mutex::default() })
    }

    fn held(&self) -> usize {
        self.held.lock().len()
    }
}

impl Dispatcher for Hoard {
    fn name(&self) -> DispatcherName {
        self.name
    }

    fn dispatch(&self, _: &Record, receipt: Receipt) -> Result<(), Full> {
        let receipt = self.outbox.enter(receipt)?;
        self.held.lock().push(receipt);
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn close(&self, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn target(hoard: &Arc<Hoard>, when_full: WhenFull) -> Target {
    let metrics = Arc::new(DispatcherMetrics::register(hoard.name, &Topics::new([])));
    Target { when_full, ..Target::new(hoard.clone(), metrics) }
}

fn record(txid: &str) -> Record {
    Record::from_parts(RecordKind::V, b"", txid.as_bytes(), fixture::origin("VIN"), fixture::received())
}

#[test]
fn a_full_dispatcher_that_no_ack_depends_on_delays_nobody() {
    let (decider, optional) = (Hoard::new(DispatcherName::Kafka, 100), Hoard::new(DispatcherName::Logger, 2));
    // Whatever is said for routes without a decider.
    let targets = vec![target(&decider, WhenFull::Wait), target(&optional, WhenFull::Wait)];
    let route = Route::new(targets, &[DispatcherName::Kafka]);
    let outlet = Arc::new(Outlet::default());
    for n in 0..10 {
        route.dispatch(&record(&n.to_string()), Some(&outlet)).expect("nobody waits");
    }
    assert_eq!((decider.held(), optional.held()), (10, 2));
}

#[test]
fn a_full_dispatcher_that_an_ack_depends_on_holds_the_record_back() {
    let (decider, optional) = (Hoard::new(DispatcherName::Kafka, 1), Hoard::new(DispatcherName::Logger, 100));
    let targets = vec![target(&decider, WhenFull::Drop), target(&optional, WhenFull::Wait)];
    let route = Route::new(targets, &[DispatcherName::Kafka]);
    let outlet = Arc::new(Outlet::default());
    route.dispatch(&record("a"), Some(&outlet)).expect("room");
    let blocked = route.dispatch(&record("b"), Some(&outlet)).expect_err("no room");
    assert_eq!(route.blocked_at(&blocked).name(), DispatcherName::Kafka);
    decider.held.lock().clear();
    route.resume(blocked, Some(&outlet)).expect("room again");
    assert_eq!((decider.held(), optional.held()), (1, 2));
}

#[test]
fn without_a_decider_the_operator_says_who_waits() {
    for (when_full, taken) in [(WhenFull::Wait, false), (WhenFull::Drop, true)] {
        let optional = Hoard::new(DispatcherName::Logger, 1);
        let route = Route::new(vec![target(&optional, when_full)], &[]);
        route.dispatch(&record("a"), None).expect("room");
        assert_eq!(route.dispatch(&record("b"), None).is_ok(), taken, "{when_full:?}");
        assert_eq!(optional.held(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_dispatcher_is_full_until_it_is_up_and_says_why() {
    let hoard = Hoard::new(DispatcherName::Kafka, 100);
    let attempts = Arc::new(AtomicU32::new(0));
    let late = {
        let (hoard, attempts) = (hoard.clone(), Arc::clone(&attempts));
        Late::start(DispatcherName::Kafka, move || {
            let (hoard, attempt) = (hoard.clone(), attempts.fetch_add(1, Ordering::Relaxed));
            async move {
                if attempt < 3 {
                    let message = format!("attempt {attempt}");
                    return Err(ConnectError::Unreachable { dispatcher: DispatcherName::Kafka, message });
                }
                Ok(hoard as Arc<dyn Dispatcher>)
            }
        })
    };
    let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kafka, &Topics::new([])));
    let offer = |txid: &str| {
        let record = record(txid);
        let receipt = Receipt::unobserved(&record, &metrics);
        late.dispatch(&record, receipt)
    };
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(offer("early").is_err());
    assert_eq!(late.health(), Health::Unhealthy("not connected: kafka: attempt 0".to_owned()));
    tokio::time::timeout(Duration::from_secs(60), async {
        while late.health() != Health::Healthy {
            late.outbox().room().await;
        }
    })
    .await
    .expect("it comes up");
    assert_eq!(attempts.load(Ordering::Relaxed), 4);
    offer("now").expect("room");
    assert_eq!((hoard.held(), late.outbox().limit().records), (1, 100));
}

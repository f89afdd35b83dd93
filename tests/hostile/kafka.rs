//! A broker that answers as one does that its controller has fenced: there are topics, but no brokers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::fence::Fenced;
use super::support::server::start_with;
use super::support::vehicle::{Received, Vehicle, v_payload};

/// What must not be exceeded after the broker is itself again.
const RESUMES: Duration = Duration::from_secs(10);
const FENCED: Duration = Duration::from_secs(1);
const VIN: &str = "5YJ3E1EA7KF000316";

/// The client library recovers by itself, unless it hits the moment in which it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_resume_soon_after_each_time_that_a_broker_knows_no_brokers() {
    rounds(4, "rebootstrap", 0).await;
}

/// It never recovers by itself: the bootstrap servers are not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_resume_soon_with_a_client_that_never_finds_its_brokers_again() {
    let replaced = rounds(3, "none", 0).await;
    assert!((3..=4).contains(&replaced), "{replaced} producers were replaced in three rounds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "ten minutes or more: cargo test --test hostile -- --ignored a_hundred"]
async fn a_hundred_rounds_beside_a_busy_machine() {
    let (rebootstrap, none) = tokio::join!(rounds(100, "rebootstrap", 1), rounds(100, "none", 1));
    println!("replaced: {rebootstrap} and {none} producers");
}

/// Producers replaced. `busy` threads do nothing but to be in the way.
async fn rounds(count: usize, strategy: &str, busy: usize) -> u64 {
    let _busy = Busy::start(busy);
    let broker = Fenced::start(&["test_V"]);
    let (_dir, pki, server) = start_with(|config| {
        config["kafka"] = json!({
            "bootstrap.servers": broker.bootstrap(),
            "metadata.recovery.strategy": strategy,
            // Asked all the time, so that the wrong answer is heard.
            "topic.metadata.refresh.interval.ms": 100,
        });
        config["records"] = json!({ "V": ["kafka"] });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let (mut sent, mut worst) = (0, Duration::ZERO);
    for round in 0..count {
        let unacked: HashSet<_> = {
            let before = sent;
            tokio::join!(broker.fence(FENCED), stream(&mut vehicle, &mut sent, FENCED));
            (before..sent).map(txid).collect()
        };
        let start = Instant::now();
        acked_within(&mut vehicle, unacked, RESUMES, round).await;
        worst = worst.max(start.elapsed());
        assert_eq!(server.readiness_becomes(200, RESUMES).await.trim(), "ready");
    }
    println!("{strategy}: acks resumed after {worst:?} at the latest, in {count} rounds");
    assert_first_appearances(&broker, sent);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let replaced = server.metric(r#"kafka_producer_replaced_total{reason="stuck"}"#).await as u64;
    server.events_become("kafka_producer_replaced", usize::try_from(replaced).unwrap()).await;
    replaced
}

/// A record every 20 ms.
async fn stream(vehicle: &mut Vehicle, sent: &mut u32, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        vehicle.send("V", &txid(*sent), &v_payload(VIN, f64::from(*sent))).await;
        *sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn acked_within(vehicle: &mut Vehicle, mut unacked: HashSet<String>, time: Duration, round: usize) {
    let deadline = Instant::now() + time;
    while !unacked.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        match vehicle.receive_within(left).await {
            Some(Received::Ack { txid, .. }) => {
                assert!(unacked.remove(std::str::from_utf8(&txid).unwrap()), "one ack each");
            }
            other => panic!("round {round}: {} records without an ack after {time:?}: {other:?}", unacked.len()),
        }
    }
}

fn txid(number: u32) -> String {
    format!("{number:06}")
}

/// Every record is there, for the first time after the one before it.
fn assert_first_appearances(broker: &Fenced, sent: u32) {
    let mut seen = HashSet::new();
    let messages = broker.consume("test_V");
    let txids = messages.iter().map(|message| message.header("txid").unwrap().to_vec());
    let first: Vec<_> = txids.filter(|txid| seen.insert(txid.clone())).collect();
    println!("{sent} records, {} messages", messages.len());
    assert!(first.into_iter().eq((0..sent).map(|number| txid(number).into_bytes())), "all of them, in order");
}

/// Ends its threads when it goes.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn start(threads: usize) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(ended)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

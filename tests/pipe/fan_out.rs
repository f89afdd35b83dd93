//! One record to several dispatchers: who decides about the ack, and who waits when one of them is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fleet_telemetry::proto::vehicle_data::{Payload, value};
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use rusqlite::OpenFlags;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::site::{Site, stoppable_broker};
use crate::support::kafka::Broker;
use crate::support::server::free_port;
use crate::support::vehicle::{Vehicle, ack, frame, v_payload};

const VIN: &str = "5YJ3E1EA0PF000001";
const OTHER: &str = "5YJ3E1EA0PF000002";
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for an ack that must not come.
const QUIET: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_record_is_acked_only_when_every_durable_dispatcher_has_it() {
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "all", |config| config["records"]["V"] = json!(["kafka", "sqlite", "logger"]));
    let server = site.serve();
    let mut vehicle = Vehicle::connect(server.address, &site.pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "before", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "before").await;

    broker.pause();
    vehicle.send("V", "during", &v_payload(VIN, 2.0)).await;
    stored_becomes(&site, 2).await;
    assert_eq!(vehicle.receive_within(QUIET).await, None, "Kafka does not have it");
    // The logger decides nothing and waits for nobody.
    server.events_become("record_payload", 2).await;
    broker.resume();
    assert_eq!(vehicle.receive_within(PATIENCE).await, Some(ack("V", "during")));
    assert_eq!(txids(&broker, &site.topic("V")), ["before", "during"]);
}

#[tokio::test]
async fn the_named_ack_source_decides_alone() {
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "named", |config| {
        config["records"]["V"] = json!(["kafka", "sqlite"]);
        config["reliable_ack_sources"] = json!({ "V": "sqlite" });
    });
    let server = site.serve();
    let mut vehicle = Vehicle::connect(server.address, &site.pki.vehicle(VIN), VIN).await;
    broker.pause();
    for n in 0..20 {
        let txid = format!("t{n}");
        vehicle.send("V", &txid, &v_payload(VIN, 1.0)).await;
        vehicle.expect_ack("V", &txid).await;
    }
    broker.resume();
    server.metric_becomes("kafka_produce_ack_total{record_type=\"V\"}", 20.0).await;
    assert_eq!(txids(&broker, &site.topic("V")).len(), 20, "Kafka gets them all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_no_ack_depends_on_may_come_later() {
    let broker = Broker::shared();
    let port = free_port();
    let site = Site::new(broker, "late", |config| {
        config["records"]["V"] = json!(["kafka", "sqlite"]);
        config["reliable_ack_sources"] = json!({ "V": "sqlite" });
        config["kafka"]["bootstrap.servers"] = json!(format!("127.0.0.1:{port}"));
        config["kafka_options"] = json!({ "start": "retry", "connect_timeout": "500ms" });
    });
    let server = site.serve();
    server.readiness_becomes(200, PATIENCE).await;
    let mut vehicle = Vehicle::connect(server.address, &site.pki.vehicle(VIN), VIN).await;
    for n in 0..20 {
        let txid = format!("early{n}");
        vehicle.send("V", &txid, &v_payload(VIN, 1.0)).await;
        vehicle.expect_ack("V", &txid).await;
    }
    assert!(
        server.metric("dispatcher_full_drops_total{dispatcher=\"kafka\"}").await >= 20.0,
        "and says what it missed"
    );
    // A way to the broker; the rest it tells its clients itself.
    let door = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let behind = broker.bootstrap();
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = door.accept().await {
            let mut outside = tokio::net::TcpStream::connect(&behind).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await });
        }
    });
    server.event_where("the late broker", PATIENCE, |event| event["msg"] == "dispatcher_connected_late").await;
    vehicle.send("V", "late", &v_payload(VIN, 2.0)).await;
    vehicle.expect_ack("V", "late").await;
    server.metric_becomes("kafka_produce_ack_total{record_type=\"V\"}", 1.0).await;
    assert_eq!(txids(broker, &site.topic("V")), ["late"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_kafka_queue_holds_back_its_own_vehicles_and_nobody_else() {
    // 60 MB: more than the kernel holds for a reader that does not read.
    const MOST: usize = 300;
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "full", |config| {
        config["records"] = json!({ "V": ["kafka"], "alerts": ["sqlite"] });
        config["kafka_options"]["max_unsettled"] = json!(10);
    });
    let server = site.serve();
    let mut held_back = Vehicle::connect(server.address, &site.pki.vehicle(VIN), VIN).await;
    // The topic exists, and its leader knows the producer, before the broker stops: this is about fullness, not order.
    held_back.send("V", "before", &v_payload(VIN, 1.0)).await;
    held_back.expect_ack("V", "before").await;
    let mut free = Vehicle::connect(server.address, &site.pki.vehicle(OTHER), OTHER).await;
    broker.pause();

    let (mut sink, mut replies) = held_back.socket.split();
    let written = Arc::new(AtomicUsize::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let (counter, told) = (Arc::clone(&written), Arc::clone(&enough));
    let writer = tokio::spawn(async move {
        while counter.load(Ordering::Relaxed) < MOST && !told.load(Ordering::Relaxed) {
            let txid = format!("t{}", counter.load(Ordering::Relaxed));
            let frame = frame("V", &txid, &format!("vehicle_device.{VIN}"), &large_payload());
            sink.send(Message::Binary(frame.into())).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let stalled_at = stands_still(&written).await;
    assert!(stalled_at < MOST, "the vehicle could write {MOST} records of 200 kB, ten of which fit");
    assert!(server.metric("dispatcher_full_waits_total").await >= 1.0);

    let mut slowest = Duration::ZERO;
    for n in 0..100 {
        let (txid, sent) = (format!("a{n}"), Instant::now());
        free.send("alerts", &txid, b"").await;
        free.expect_ack("alerts", &txid).await;
        slowest = slowest.max(sent.elapsed());
    }
    eprintln!("writes stalled after {stalled_at} records of 200 kB; slowest of 100 alerts meanwhile {slowest:?}");
    assert!(!writer.is_finished(), "the broker is still stopped");

    enough.store(true, Ordering::Relaxed);
    broker.resume();
    writer.await.unwrap();
    let records = written.load(Ordering::Relaxed);
    let mut acked = 0;
    while acked < records {
        let reply = tokio::time::timeout(PATIENCE, replies.next()).await.expect("an ack in time");
        acked += usize::from(reply.unwrap().unwrap().is_binary());
    }
    let held = (0..records).map(|n| format!("t{n}"));
    let expected: Vec<_> = std::iter::once("before".to_owned()).chain(held).collect();
    assert_eq!(txids(&broker, &site.topic("V")), expected);
}

#[tokio::test]
async fn readiness_follows_the_broker_and_names_kafka() {
    let broker = stoppable_broker().await;
    let site = Site::new(&broker, "readiness", |_| {});
    let server = site.serve();
    server.readiness_becomes(200, PATIENCE).await;
    broker.kill();
    let killed = Instant::now();
    let body = server.readiness_becomes(503, PATIENCE).await;
    let noticed = killed.elapsed();
    assert!(body.starts_with("kafka: "), "{body}");
    broker.restart();
    let restarted = Instant::now();
    assert_eq!(server.readiness_becomes(200, PATIENCE).await, "ready");
    eprintln!("not ready {noticed:?} after the kill, ready {:?} after the restart", restarted.elapsed());
}

fn txids(broker: &Broker, topic: &str) -> Vec<String> {
    let txid =
        |message: &crate::support::kafka::Message| String::from_utf8(message.header("txid").unwrap().to_vec()).unwrap();
    broker.consume(topic).iter().map(txid).collect()
}

async fn stored_becomes(site: &Site, expected: i64) {
    let store = rusqlite::Connection::open_with_flags(site.store(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    store.busy_timeout(PATIENCE).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored: i64 = store.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
        if stored == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{stored} records are stored, not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where a count no longer changes for a while.
async fn stands_still(count: &AtomicUsize) -> usize {
    let mut last = count.load(Ordering::Relaxed);
    let mut since = Instant::now();
    while last == 0 || since.elapsed() < 2 * QUIET {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count.load(Ordering::Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// 200 kB, so that the kernel's buffers cannot hide that nobody reads.
fn large_payload() -> Vec<u8> {
    let mut payload = Payload::decode(v_payload(VIN, 1.0).as_slice()).unwrap();
    let name = payload.data.last_mut().unwrap().value.as_mut().unwrap();
    name.value = Some(value::Value::StringValue("x".repeat(200_000)));
    payload.encode_to_vec()
}

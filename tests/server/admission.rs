//! Routes, acks and the rate limit, end to end.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::vehicle::{Vehicle, ack, frame, v_payload};
use crate::{VIN, start_with};

#[tokio::test]
async fn a_forged_connectivity_record_is_acked_and_dropped() {
    let (dir, pki, server) = start_with(|config| config["records"]["connectivity"] = json!(["sqlite"]));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("connectivity", "forged", b"").await;
    vehicle.expect_ack("connectivity", "forged").await;
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let forged: i64 =
        store.query_row("SELECT count(*) FROM records WHERE txid = 'forged'", [], |row| row.get(0)).unwrap();
    assert_eq!(forged, 0);
    server.metric_becomes("record_dropped_total{reason=\"forged_connectivity\"}", 1.0).await;
}

#[tokio::test]
async fn a_custom_topic_passes_through_for_its_own_sender_only() {
    let (dir, pki, server) = start_with(|config| config["records"]["custom"] = json!(["sqlite"]));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("custom", "mine", b"\xffopaque").await;
    vehicle.expect_ack("custom", "mine").await;
    vehicle.send_frame(frame("custom", "theirs", "vehicle_device.other", b"x")).await;
    assert!(matches!(vehicle.receive().await, crate::support::vehicle::Received::Error { .. }));
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let payload: Vec<u8> =
        store.query_row("SELECT payload FROM records WHERE type = 'custom'", [], |row| row.get(0)).unwrap();
    assert_eq!(payload, b"\xffopaque");
}

#[tokio::test]
async fn back_pressure_delays_what_is_over_the_rate_limit_and_loses_nothing() {
    let (_dir, pki, server) = start_with(|config| {
        config["rate_limit"] = json!({ "enabled": true, "message_limit": 5, "message_interval_time": 1 });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let started = Instant::now();
    for n in 0..12 {
        vehicle.send("V", &format!("t{n}"), &v_payload(VIN, f64::from(n))).await;
    }
    for n in 0..12 {
        vehicle.expect_ack("V", &format!("t{n}")).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(1900), "12 messages need two more windows of a second");
    assert!(server.metric("rate_limit_waits_total").await >= 2.0);
}

#[tokio::test]
async fn drop_mode_drops_and_counts_what_is_over_the_rate_limit() {
    let (_dir, pki, server) = start_with(|config| {
        config["rate_limit"] =
            json!({ "enabled": true, "message_limit": 2, "message_interval_time": 60, "over_limit": "drop" });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for n in 0..4 {
        vehicle.send("V", &format!("t{n}"), &v_payload(VIN, 1.0)).await;
    }
    let mut acked = vec![vehicle.receive().await, vehicle.receive().await];
    acked.sort_by_key(|reply| format!("{reply:?}"));
    assert_eq!(acked, [ack("V", "t0"), ack("V", "t1")]);
    assert_eq!(vehicle.receive_within(Duration::from_millis(300)).await, None);
    server.metric_becomes("rate_limit_exceeded_total{txtype=\"V\"}", 2.0).await;
}

#[tokio::test]
async fn on_receipt_acks_before_the_store_has_the_record() {
    let (_dir, pki, server) = start_with(|config| {
        config["ack"] = json!("on_receipt");
        config["sqlite"]["linger"] = json!("1s");
        config["sqlite"]["batch"] = json!(1000);
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let started = Instant::now();
    vehicle.send("V", "t", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "t").await;
    assert!(started.elapsed() < Duration::from_millis(900));
}

#[tokio::test]
async fn a_record_of_which_nothing_is_left_is_acked_and_goes_nowhere_if_so_configured() {
    let (dir, pki, server) = start_with(|config| {
        let store = config["sqlite"]["path"].as_str().unwrap().replace("telemetry", "permissions");
        config["permissions"] =
            json!({ "mode": "enforce", "empty_records": "skip", "store": { "sqlite": { "path": store } } });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // Datum { key: Location, value: { string_value: "(1 N, 2 E)" } }
    let location = b"\x0a\x10\x08\x15\x12\x0c\x0a\x0a(1 N, 2 E)";
    vehicle.send("V", "only-location", location).await;
    vehicle.expect_ack("V", "only-location").await;
    vehicle.send("V", "both", &[&v_payload(VIN, 1.0), &location[..]].concat()).await;
    vehicle.expect_ack("V", "both").await;
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let (txid, fields): (String, i64) = store
        .query_row("SELECT txid, (SELECT count(*) FROM fields) FROM records WHERE type = 'V'", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((txid.as_str(), fields), ("both", 2), "speed and name, and no location");
    server.metric_becomes("record_dropped_total{reason=\"withheld\"}", 1.0).await;
}

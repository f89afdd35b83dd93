//! Vehicles that are gone, half there, or quiet.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::server::start_with;
use crate::support::vehicle::{Vehicle, v_payload};

const VIN: &str = "5YJ3E1EA0PF000001";

/// Keeps the store from committing anything, as a disk that hangs does, until it is dropped.
pub(crate) fn hang(path: &std::path::Path) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(path).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    store.execute_batch("BEGIN EXCLUSIVE").unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn vehicles_that_are_gone_while_they_are_held_back_give_their_places_back_within_the_idle_timeout() {
    const VEHICLES: usize = 20;
    let (dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "max_connections": VEHICLES, "ping_interval": "1s", "idle_timeout": "4s" });
        config["sqlite"]["max_unsettled"] = json!(VEHICLES);
    });
    let store = hang(&dir.path().join("telemetry.db"));
    let mut vehicles = Vec::new();
    for n in 0..VEHICLES {
        let vin = format!("5YJ3E1EA0PF1000{n:02}");
        let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(&vin), &vin).await;
        for record in 0..5 {
            vehicle.send("V", &format!("{record}"), &v_payload(&vin, 1.0)).await;
        }
        vehicles.push(vehicle);
    }
    server.metric_becomes("dispatcher_unsettled_records{dispatcher=\"sqlite\"}", VEHICLES as f64).await;
    // Every second one says goodbye to its network only, the others vanish with a reset.
    let gone = Instant::now();
    for (n, vehicle) in vehicles.into_iter().enumerate() {
        let (tcp, _) = vehicle.socket.get_ref().get_ref();
        if n % 2 == 0 {
            tcp.set_zero_linger().unwrap();
        }
        drop(vehicle);
    }
    server.metric_becomes("num_connections", 0.0).await;
    let noticed = gone.elapsed();
    eprintln!("all places came back after {noticed:?}");
    assert!(noticed < Duration::from_secs(5), "the idle timeout is 4 s: {noticed:?}");
    drop(store);
    let mut next = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    next.send("V", "next", &v_payload(VIN, 1.0)).await;
    next.expect_ack("V", "next").await;
}

#[tokio::test]
async fn a_vehicle_that_never_answers_pings_is_not_taken_for_dead() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "ping_interval": "200ms", "idle_timeout": "1s" });
    });
    // tungstenite answers pings only while it is polled.
    let mut deaf = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    server.metric_becomes("silent_connections_total", 1.0).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(server.metric("num_connections").await, 1.0);
    deaf.send("V", "awake", &v_payload(VIN, 1.0)).await;
    deaf.expect_ack("V", "awake").await;
}

#[tokio::test]
async fn a_vehicle_that_answered_a_ping_and_then_none_is_closed() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "ping_interval": "200ms", "idle_timeout": "2s" });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    assert!(matches!(vehicle.socket.next().await, Some(Ok(Message::Ping(_)))));
    vehicle.socket.flush().await.unwrap();
    server.metric_becomes("session_end_total{reason=\"idle\"}", 1.0).await;
}

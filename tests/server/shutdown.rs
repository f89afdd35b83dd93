//! SIGTERM: nothing that was acked is lost, and the process is gone in time.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::vehicle::{PATIENCE, Received, Vehicle, v_payload};
use crate::support::wait::until;
use crate::{VIN, start_with};

#[tokio::test]
async fn records_in_flight_are_settled_and_the_vehicle_is_told_to_come_back() {
    let (dir, pki, mut server) = start_with(|config| config["sqlite"]["linger"] = json!("300ms"));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for n in 0..20 {
        vehicle.send("V", &format!("t{n}"), &v_payload(VIN, f64::from(n))).await;
    }
    server.metric_becomes("record_total{record_type=\"V\"}", 20.0).await;
    server.signal("TERM");
    let mut acked = 0;
    loop {
        match vehicle.receive().await {
            Received::Ack { .. } => acked += 1,
            Received::Closed(code) => {
                assert_eq!(code, Some(1001));
                break;
            }
            Received::Error { .. } => panic!("nothing was wrong with the records"),
        }
    }
    let _ = vehicle.socket.flush().await;
    drop(vehicle);
    assert_eq!(server.wait(Duration::from_secs(10)).code(), Some(0));
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let stored: i64 = store.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!((acked, stored), (20, 20));
}

#[tokio::test]
async fn a_client_that_ignores_the_close_does_not_hold_the_process() {
    let (_dir, pki, mut server) =
        start_with(|config| config["shutdown"] = json!({ "drain": "100ms", "deadline": "4s" }));
    let _deaf = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let started = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait(Duration::from_secs(8)).code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test]
async fn readiness_ends_when_the_drain_starts() {
    let (_dir, pki, server) = start_with(|config| config["shutdown"] = json!({ "drain": "3s", "deadline": "10s" }));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    server.signal("TERM");
    let body = server.readiness_becomes(503, PATIENCE).await;
    assert!(body.contains("draining"), "{body}");
    let is_closed = async || tokio::net::TcpStream::connect(server.address).await.is_err();
    until("new connections are refused", PATIENCE, is_closed).await;
    // The old one may still be in use until its turn comes.
    let _ = vehicle.socket.send(Message::Ping("x".into())).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once_and_says_what_was_not_delivered() {
    let (_dir, pki, mut server) = start_with(|config| {
        config["shutdown"] = json!({ "drain": "20s", "deadline": "40s" });
    });
    let _vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    server.signal("TERM");
    server.readiness_becomes(503, PATIENCE).await;
    server.signal("TERM");
    let started = Instant::now();
    assert_eq!(server.wait(Duration::from_secs(5)).code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(2));
}

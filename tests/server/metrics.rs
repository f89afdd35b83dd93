//! What operators scrape and read.

use crate::support::server::get;
use crate::support::vehicle::{Received, Vehicle, v_payload};
use crate::{VIN, start};

#[tokio::test]
async fn the_reference_servers_families_are_there_with_their_labels() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "t", &v_payload(VIN, 1.0)).await;
    vehicle.expect_ack("V", "t").await;
    vehicle.send_frame(vec![1]).await;
    assert_eq!(vehicle.receive().await, Received::Error { txid: vec![] });
    // Counted when the session has been woken, so perhaps a moment after the ack.
    server.metric_becomes("reliable_ack{record_type=\"V\",dispatcher=\"sqlite\"}", 1.0).await;
    let (_, body) = get(server.metrics, "/metrics").await;
    for line in [
        "record_total{record_type=\"V\"} 1",
        "dispatch_total{record_type=\"V\"} 1",
        "unexpected_record_err_total 1",
        "num_connections 1",
        "ack_seconds_count 1",
        "hand_off_seconds_count 1",
        "delivery_seconds_count{dispatcher=\"sqlite\"} 1",
        "limit{bound=\"message_bytes\"} 1000000",
    ] {
        assert!(body.lines().any(|found| found == line), "no {line} in\n{body}");
    }
    assert!(!body.contains(VIN), "no label holds a VIN");
}

#[tokio::test]
async fn a_topic_that_nobody_configured_is_counted_as_other() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for n in 0..50 {
        vehicle.send(&format!("made-up-{n}"), "t", b"").await;
        vehicle.expect_ack(&format!("made-up-{n}"), "t").await;
    }
    let (_, body) = get(server.metrics, "/metrics").await;
    assert!(!body.contains("made-up"), "{body}");
    assert!(body.contains("record_total{record_type=\"other\"} 50"), "{body}");
}

#[tokio::test]
async fn what_a_vehicle_sends_reaches_the_log_escaped_and_cut() {
    let (_dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let nasty = format!("\u{1b}[31m\n{}", "x".repeat(5000));
    vehicle.send("V", &nasty, &[0xff]).await;
    vehicle.receive().await;
    let logged = server.event("unexpected_record").await;
    let txid = logged["txid"].as_str().unwrap();
    assert!(txid.len() < 200 && !txid.contains('\u{1b}') && !txid.contains('\n'), "{txid:?}");
    assert_eq!(logged["device_id"], VIN);
}

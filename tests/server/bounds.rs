//! Each bound of a connection: what happens beyond it, and that others do not notice.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::support::vehicle::{Received, Vehicle, ack, frame, tls, v_payload};
use crate::{VIN, start, start_with};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn a_frame_above_the_limit_is_closed_with_1009_before_its_payload_is_read() {
    let (_dir, pki, server) = start();
    let mut tls = tls(server.address, &pki.vehicle(VIN)).await.unwrap();
    tls.write_all(UPGRADE).await.unwrap();
    let mut head = vec![0; 4096];
    let read = tls.read(&mut head).await.unwrap();
    assert!(head[..read].starts_with(b"HTTP/1.1 101 "));
    // The header of a frame of 4 MiB and one byte, and nothing else.
    let mut header = vec![0x82, 0x80 | 127];
    header.extend(4_194_305_u64.to_be_bytes());
    header.extend([0; 4]);
    tls.write_all(&header).await.unwrap();
    let mut close = [0; 4];
    tls.read_exact(&mut close).await.unwrap();
    assert_eq!(close, [0x88, 2, 0x03, 0xf1]);
    drop(tls);
    server.metric_becomes("session_end_total{reason=\"too_long\"}", 1.0).await;
}

#[tokio::test]
async fn a_message_in_too_many_pieces_is_closed_with_1008() {
    let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "max_fragments": 3 }));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for n in 0..4 {
        let code = if n == 0 { Data::Binary } else { Data::Continue };
        let piece = Frame::message(vec![0], OpCode::Data(code), false);
        vehicle.socket.send(Message::Frame(piece)).await.unwrap();
    }
    assert_eq!(vehicle.receive().await, Received::Closed(Some(1008)));
}

#[tokio::test]
async fn a_flood_of_pings_is_closed_with_1008() {
    let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "max_pings_per_second": 5 }));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for _ in 0..6 {
        vehicle.socket.send(Message::Ping("x".into())).await.unwrap();
    }
    assert_eq!(vehicle.receive().await, Received::Closed(Some(1008)));
    server.metric_becomes("session_end_total{reason=\"ping_flood\"}", 1.0).await;
}

#[tokio::test]
async fn a_quiet_vehicle_is_pinged_and_one_that_answers_no_more_is_closed() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "ping_interval": "200ms", "idle_timeout": "2s" });
    });
    let mut alive = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // tungstenite answers pings while it is polled; this one is not polled after its first pong.
    let mut silent = Vehicle::connect(server.address, &pki.vehicle("5YJ3E1EA0PF000002"), "5YJ3E1EA0PF000002").await;
    assert!(matches!(silent.socket.next().await, Some(Ok(Message::Ping(_)))));
    silent.socket.flush().await.unwrap();
    assert_eq!(alive.receive_within(Duration::from_secs(4)).await, None, "a vehicle that answers pings stays");
    server.metric_becomes("session_end_total{reason=\"idle\"}", 1.0).await;
    alive.send("V", "still-here", &v_payload(VIN, 1.0)).await;
    alive.expect_ack("V", "still-here").await;
}

#[tokio::test]
async fn a_vehicle_that_reads_no_acks_is_held_back_and_then_closed_and_delays_nobody() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "write_timeout": "1s", "max_unread_reply_bytes": 65536 });
        config["records"] = json!({ "V": ["logger"] });
        config["log_level"] = json!("info");
    });
    let mut deaf = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let other = "5YJ3E1EA0PF000002";
    let mut polite = Vehicle::connect(server.address, &pki.vehicle(other), other).await;
    // Acks repeat the txid, so a long one fills the way back quickly.
    let txid = "x".repeat(100_000);
    let flood = async {
        for _ in 0..400 {
            if deaf.socket.send(Message::Binary(frame("nobody", &txid, VIN, b"").into())).await.is_err() {
                return;
            }
        }
    };
    let others = async {
        for n in 0..20 {
            polite.send("V", &format!("t{n}"), &v_payload(other, 1.0)).await;
            polite.expect_ack("V", &format!("t{n}")).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let _ = tokio::join!(tokio::time::timeout(Duration::from_secs(20), flood), others);
    server.metric_becomes("session_end_total{reason=\"write_timeout\"}", 1.0).await;
}

#[tokio::test]
async fn an_address_has_only_so_many_connections() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "max_connections_per_address": 2 });
    });
    let config = pki.vehicle(VIN);
    let first = Vehicle::connect(server.address, &config, VIN).await;
    let mut second = Vehicle::connect(server.address, &config, VIN).await;
    assert!(tls(server.address, &config).await.is_err());
    server.metric_becomes("connection_refused_total{reason=\"address_limit\"}", 1.0).await;
    drop(first);
    server.metric_becomes("num_connections", 1.0).await;
    let mut third = Vehicle::connect(server.address, &config, VIN).await;
    for vehicle in [&mut second, &mut third] {
        vehicle.send("V", "t", &v_payload(VIN, 1.0)).await;
        assert_eq!(vehicle.receive().await, ack("V", "t"));
    }
}

#[tokio::test]
async fn a_vehicle_that_waits_for_the_rate_limit_is_not_idle() {
    let (_dir, pki, server) = start_with(|config| {
        config["limits"] = json!({ "idle_timeout": "1s", "ping_interval": "500ms" });
        config["rate_limit"] = json!({ "enabled": true, "message_limit": 1, "message_interval_time": 3 });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    for txid in ["first", "second"] {
        vehicle.send("V", txid, &v_payload(VIN, 1.0)).await;
    }
    assert_eq!(vehicle.receive().await, ack("V", "first"));
    assert_eq!(vehicle.receive().await, ack("V", "second"));
}

//! TLS records that no honest library sends, behind a handshake that is in order.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::handshakes::client_hello;
use crate::raw_tls::{ALERT, DATA, HANDSHAKE, RawTls};
use crate::support::server::{start, start_with};
use crate::support::vehicle::{PATIENCE, UPGRADE, frame, masked};
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";

/// Sends `flood` records as fast as they are taken, or until the server has had enough.
async fn flood(raw: &mut RawTls, records: usize, mut next: impl FnMut(&mut RawTls) -> Vec<u8>) {
    for _ in 0..records {
        let record = next(raw);
        if raw.tcp.write_all(&record).await.is_err() {
            return;
        }
    }
}

/// A flood on each of ten connections, one after the other, each of which the server ends.
async fn floods(
    what: &str,
    version: &'static SupportedProtocolVersion,
    records: usize,
    next: fn(&mut RawTls) -> Vec<u8>,
) {
    let (_dir, pki, server) = start();
    let witness = Witness::of(&server, &pki);
    let config = pki.vehicle_with_versions(VIN, &[version]);
    for round in 1..=10 {
        let mut raw = RawTls::connect(server.address, &config).await;
        raw.send(DATA, UPGRADE).await.unwrap();
        server.metric_becomes("num_connections", 2.0).await;
        flood(&mut raw, records, next).await;
        assert!(raw.is_ended(PATIENCE).await, "the server goes on with a connection that it should end");
        server.metric_becomes("session_end_total{reason=\"broken\"}", f64::from(round)).await;
        server.metric_becomes("num_connections", 1.0).await;
    }
    witness.testify(&format!("{what} in {:?}", version.version)).await;
}

#[tokio::test]
async fn a_flood_of_key_updates_ends_the_connection() {
    floods("key updates", &TLS13, 5000, |raw| key_update(raw, false)).await;
    floods("key updates that ask for one back", &TLS13, 5000, |raw| key_update(raw, true)).await;
}

fn key_update(raw: &mut RawTls, asks_back: bool) -> Vec<u8> {
    let record = raw.record(HANDSHAKE, &[24, 0, 0, 1, u8::from(asks_back)]);
    raw.next_key();
    record
}

#[tokio::test]
async fn a_few_key_updates_are_followed() {
    let (_dir, pki, server) = start();
    let mut raw = RawTls::connect(server.address, &pki.vehicle_with_versions(VIN, &[&TLS13])).await;
    raw.send(DATA, UPGRADE).await.unwrap();
    for n in 0..8 {
        raw.send(HANDSHAKE, &[24, 0, 0, 1, n % 2]).await.unwrap();
        raw.next_key();
    }
    raw.send(DATA, &masked(0x82, &frame("alerts", "t", VIN, b""))).await.unwrap();
    server.metric_becomes("ack_total{record_type=\"alerts\"}", 1.0).await;
}

#[tokio::test]
async fn a_flood_of_empty_records_ends_the_connection() {
    for version in [&TLS12, &TLS13] {
        floods("empty records", version, 20_000, |raw| raw.record(DATA, b"")).await;
    }
}

#[tokio::test]
async fn records_of_one_byte_are_put_together() {
    for version in [&TLS12, &TLS13] {
        let (_dir, pki, server) = start_with(|config| config["limits"] = json!({ "max_message_bytes": 8000 }));
        let witness = Witness::of(&server, &pki);
        let mut raw = RawTls::connect(server.address, &pki.vehicle_with_versions(VIN, &[version])).await;
        let message = frame("alerts", "t", VIN, &[]);
        for byte in [UPGRADE, &masked(0x82, &message)].concat() {
            raw.send(DATA, &[byte]).await.unwrap();
        }
        server.metric_becomes("ack_total{record_type=\"alerts\"}", 1.0).await;
        // One that is too long is refused when all of it is there, as any other.
        let long = masked(0x82, &[0; 10_000]);
        flood(&mut raw, long.len(), {
            let mut bytes = long.into_iter();
            move |raw| raw.record(DATA, &[bytes.next().unwrap()])
        })
        .await;
        server.metric_becomes("error_response_total{record_type=\"other\"}", 1.0).await;
        witness.testify(&format!("records of one byte in {:?}", version.version)).await;
    }
}

#[tokio::test]
async fn a_flood_of_alerts_ends_the_connection() {
    for version in [&TLS12, &TLS13] {
        // Warnings, which may be ignored: `user_canceled`.
        floods("alerts", version, 20_000, |raw| raw.record(ALERT, &[1, 90])).await;
    }
}

#[tokio::test]
async fn nobody_renegotiates() {
    floods("renegotiation", &TLS12, 1000, |raw| raw.record(HANDSHAKE, &client_hello([3, 3]))).await;
}

#[tokio::test]
async fn a_record_that_was_tampered_with_ends_the_connection() {
    floods("a forged record", &TLS13, 1, |raw| {
        let mut record = raw.record(DATA, &masked(0x82, &frame("V", "t", VIN, b"")));
        *record.last_mut().unwrap() ^= 1;
        record
    })
    .await;
}

//! Who may stream: the verified leaf decides, before the upgrade is answered.

use fleet_telemetry::proto::vehicle_data::Payload;
use prost::Message;

use crate::support::pki::{Leaf, Pki};
use crate::support::server::{Server, config};
use crate::support::vehicle::{self, Vehicle, v_payload};
use crate::{VIN, start, start_with};

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[tokio::test]
async fn the_certificate_names_the_vehicle_whatever_the_payload_claims() {
    let (dir, pki, server) = start();
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle("device.1"), "someone-else").await;
    vehicle.send("V", "t1", &v_payload("FORGED", 1.0)).await;
    vehicle.expect_ack("V", "t1").await;
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let (vin, payload): (String, Vec<u8>) =
        store.query_row("SELECT vin, payload FROM records", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(vin, "device-1");
    assert_eq!(Payload::decode(payload.as_slice()).unwrap().vin, "device-1");
}

#[tokio::test]
async fn a_certificate_from_a_stranger_or_none_ends_in_the_handshake() {
    let (_dir, pki, server) = start();
    for (config, class) in [
        (pki.stranger(VIN, "Somebody Else"), "unknown_issuer"),
        // Named like the right authority, signed by another key.
        (pki.stranger(VIN, "TeslaMotors"), "bad_certificate"),
        (pki.anonymous(), "no_certificate"),
        (pki.client(&Leaf { common_name: VIN.into(), expired: true, ..Leaf::default() }), "certificate_dates"),
    ] {
        let answer = vehicle::exchange(server.address, &config, UPGRADE).await;
        assert_eq!(answer, "", "{class}");
        server.metric_becomes(&format!("connection_refused_total{{reason=\"{class}\"}}"), 1.0).await;
    }
}

#[tokio::test]
async fn an_issuer_that_is_not_in_the_tables_gets_403_before_the_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::with_issuer(dir.path(), "Some Other CA");
    let server = Server::start(&pki, &config(&pki));
    let answer = vehicle::exchange(server.address, &pki.vehicle(VIN), UPGRADE).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    server.metric_becomes("identity_refused_total{reason=\"unauthorized\"}", 1.0).await;
    let logged = server.event("extract_sender_id_err").await;
    assert_eq!(
        logged["error"],
        format!("create_identity issuer: Some Other CA, common_name: {VIN}, err: unauthorized certificate")
    );
}

#[tokio::test]
async fn the_makers_key_usages_are_needed_for_its_newer_issuers() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::with_issuer(dir.path(), "Tesla Motors Product Issuing CA");
    let server = Server::start(&pki, &config(&pki));
    let maker = |rest: &[u64]| [&[1, 3, 6, 1, 4, 1, 49279, 2], rest].concat();
    let status = async |usages: Vec<Vec<u64>>| {
        let leaf = Leaf { common_name: VIN.into(), usages, ..Leaf::default() };
        // Not an upgrade, so that a granted client gets an answer to look at: 400.
        let answer = vehicle::exchange(server.address, &pki.client(&leaf), b"GET / HTTP/1.0\r\n\r\n").await;
        answer[9..12].to_owned()
    };
    assert_eq!(status(vec![maker(&[5, 1])]).await, "400");
    assert_eq!(status(vec![maker(&[4, 2])]).await, "400");
    assert_eq!(status(vec![]).await, "403");
    assert_eq!(status(vec![maker(&[5, 99])]).await, "403");
    // Excluded wherever it stands in the list.
    assert_eq!(status(vec![maker(&[5, 1, 1])]).await, "403");
    assert_eq!(status(vec![maker(&[5, 1]), maker(&[5, 1, 1])]).await, "403");
}

#[tokio::test]
async fn the_connection_id_is_the_x_txid_only_when_that_is_a_uuid() {
    let (dir, pki, server) = start_with(|config| config["records"]["connectivity"] = serde_json::json!(["sqlite"]));
    let given = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    for txid in [given, "not-a-uuid"] {
        let mut request = vehicle::request(server.address);
        request.headers_mut().insert("X-TXID", txid.parse().unwrap());
        let mut vehicle = Vehicle::connect_with(server.address, &pki.vehicle(VIN), VIN, request).await;
        vehicle.send("V", txid, &v_payload(VIN, 1.0)).await;
        vehicle.expect_ack("V", txid).await;
        vehicle.socket.close(None).await.unwrap();
    }
    server.metric_becomes("sqlite_publish_total{record_type=\"connectivity\"}", 4.0).await;
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let labelled: i64 = store
        .query_row("SELECT count(*) FROM records WHERE type = 'connectivity' AND txid = ?1", [given], |row| row.get(0))
        .unwrap();
    assert_eq!(labelled, 2, "connected and disconnected");
}

#[tokio::test]
async fn a_hang_up_signal_loads_the_certificates_again_and_leaves_connections_alone() {
    let (dir, pki, server) = start();
    let mut before = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let renewed = Pki::new(dir.path());
    server.signal("HUP");
    server.event("tls_reloaded").await;
    let mut after = Vehicle::connect(server.address, &renewed.vehicle(VIN), VIN).await;
    assert!(vehicle::tls(server.address, &pki.vehicle(VIN)).await.is_err(), "the old authority of the server is gone");
    for vehicle in [&mut before, &mut after] {
        vehicle.send("V", "t", &v_payload(VIN, 1.0)).await;
        vehicle.expect_ack("V", "t").await;
    }
    // A broken file changes nothing.
    std::fs::write(dir.path().join("vehicle_ca.crt"), "nothing").unwrap();
    server.signal("HUP");
    server.event("tls_reload_error").await;
    Vehicle::connect(server.address, &renewed.vehicle(VIN), VIN).await;
}

//! The server's own statements about connections, as Kafka consumers get them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_telemetry::proto::vehicle_connectivity::{ConnectivityEvent, VehicleConnectivity};
use prost::Message as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use crate::site::Site;
use crate::support::kafka::{Broker, Message};
use crate::support::server::Server;
use crate::support::vehicle::{self, Received, Vehicle};

const VIN: &str = "5YJ3E1EA0PF000001";
const LEAVES: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";
const STAYS: &str = "0e2cc53c-2d52-4d5e-8b8f-f6cd6c9c1a1e";

#[tokio::test]
async fn connections_are_told_to_kafka_when_they_begin_and_end_even_by_a_drain() {
    let broker = Broker::shared();
    let site = Site::new(broker, "connectivity", |config| config["records"]["connectivity"] = json!(["kafka"]));
    let mut server = site.serve();
    let since = epoch_ms();
    let tls = site.pki.vehicle(VIN);
    let mut leaves = Vehicle::connect_with(server.address, &tls, VIN, request(&server, LEAVES, "cellular")).await;
    server.metric_becomes(PUBLISHED, 1.0).await;
    leaves.socket.close(None).await.unwrap();
    assert!(matches!(leaves.receive().await, Received::Closed(_)));
    server.metric_becomes(PUBLISHED, 2.0).await;
    let mut stays = Vehicle::connect_with(server.address, &tls, VIN, request(&server, STAYS, "wifi")).await;
    server.metric_becomes(PUBLISHED, 3.0).await;
    server.signal("TERM");
    assert_eq!(stays.receive().await, Received::Closed(Some(1001)));
    drop(stays);
    assert_eq!(server.wait(Duration::from_secs(11)).code(), Some(0));
    let until = epoch_ms();

    let messages = broker.consume(&site.topic("connectivity"));
    let expected = [
        (LEAVES, "cellular", ConnectivityEvent::Connected),
        (LEAVES, "cellular", ConnectivityEvent::Disconnected),
        (STAYS, "wifi", ConnectivityEvent::Connected),
        (STAYS, "wifi", ConnectivityEvent::Disconnected),
    ];
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, (connection_id, network_interface, status)) in messages.iter().zip(expected) {
        let record = VehicleConnectivity::decode(message.payload.as_slice()).unwrap();
        assert_eq!(record.vin, VIN);
        assert_eq!(record.connection_id, connection_id);
        assert_eq!(record.network_interface, network_interface);
        assert_eq!(record.status(), status);
        let at = record.created_at.unwrap();
        let at = u128::try_from(at.seconds).unwrap() * 1000 + u128::try_from(at.nanos).unwrap() / 1_000_000;
        assert!((since..=until).contains(&at), "{at} within {since}..={until}");
        check_envelope(message, connection_id);
    }
    assert!(messages.is_sorted_by_key(|message| message.timestamp));
}

const PUBLISHED: &str = "kafka_produce_ack_total{record_type=\"connectivity\"}";

fn check_envelope(message: &Message, connection_id: &str) {
    assert_eq!(message.key, VIN.as_bytes());
    assert_eq!(message.header("txid"), Some(connection_id.as_bytes()));
    assert_eq!(message.header("txtype"), Some(&b"connectivity"[..]));
    assert_eq!(message.header("vin"), Some(VIN.as_bytes()));
}

fn request(server: &Server, connection_id: &str, network_interface: &str) -> Request {
    let mut request = vehicle::request(server.address);
    request.headers_mut().insert("X-TXID", connection_id.parse().unwrap());
    request.headers_mut().insert("X-Network-Interface", network_interface.parse().unwrap());
    request
}

fn epoch_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

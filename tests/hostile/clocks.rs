//! Vehicles whose clock is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value, value};
use fleet_telemetry::testing::message;
use prost::Message;
use serde_json::json;

use crate::support::api::{Api, TOKEN};
use crate::support::server::{free_port, start_with};
use crate::support::vehicle::Vehicle;
use crate::witness::Witness;

const VIN: &str = "5YJ3E1EA0PF000001";

/// Seconds since 1970: the first, one in 2100, and those at the ends of the type.
const WRONG: [i64; 5] = [0, 4_102_444_800, -1, i64::MIN, i64::MAX];

/// A place, at that time.
fn place(seconds: i64) -> Vec<u8> {
    let location = value::Value::LocationValue(LocationValue { latitude: 37.4, longitude: -122.1 });
    Payload {
        data: vec![Datum { key: Field::Location.into(), value: Some(Value { value: Some(location) }) }],
        created_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        vin: VIN.to_owned(),
        is_resend: false,
    }
    .encode_to_vec()
}

async fn send(vehicle: &mut Vehicle, txid: &str, seconds: i64) {
    let sender = format!("vehicle_device.{VIN}");
    let envelope = Envelope {
        txid: txid.as_bytes(),
        topic: b"V",
        sender_id: sender.as_bytes(),
        created_at: u32::try_from(seconds).unwrap_or(u32::MAX),
        payload: &place(seconds),
    };
    vehicle.send_frame(message::encode(&envelope)).await;
}

#[tokio::test]
async fn a_wrong_clock_delays_no_ack_and_opens_no_way_around_a_refusal() {
    let (dir, pki, server) = start_with(|config| {
        let store = config["sqlite"]["path"].as_str().unwrap().replace("telemetry", "permissions");
        config["permissions"] = json!({
            "mode": "enforce",
            "store": { "sqlite": { "path": store } },
            "api": { "port": free_port(), "token": TOKEN },
        });
    });
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    let api = Api::of(&config);
    let witness = Witness::of(&server, &pki);
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    // Never asked, then allowed, then refused again.
    for phase in ["before", "granted", "refused"] {
        match phase {
            "granted" => drop(api.grant(VIN).await),
            "refused" => drop(api.revoke(VIN).await),
            _ => {}
        }
        // By the second, so that this one is not before the consent.
        let right = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed() + 1;
        for seconds in WRONG.into_iter().chain([right]) {
            let txid = format!("{phase} {}", if seconds == right { "right".to_owned() } else { seconds.to_string() });
            send(&mut vehicle, &txid, seconds).await;
            vehicle.expect_ack("V", &txid).await;
        }
    }
    witness.testify("clocks from 1970 to 2100").await;
    let store = rusqlite::Connection::open(dir.path().join("telemetry.db")).unwrap();
    let mut select = store.prepare("SELECT txid, payload FROM records WHERE vin = ?1").unwrap();
    let rows = select.query_map([VIN], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))).unwrap();
    let rows: Vec<_> = rows.map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 * (WRONG.len() + 1), "each is stored");
    for (txid, payload) in rows {
        let places = Payload::decode(payload.as_slice()).unwrap().data.len();
        // Who does not know when a place was, cannot know that it was allowed then.
        assert_eq!(places, usize::from(txid == "granted right"), "{txid}");
    }
}

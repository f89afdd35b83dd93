//! A server that enforces permissions, and vehicles whose records have a place and a time.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use fleet_telemetry::envelope::Envelope;
use fleet_telemetry::proto::vehicle_data::value::Value as Typed;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value as FieldValue};
use fleet_telemetry::testing::message;
use prost::Message as _;
use prost_types::Timestamp;
use rusqlite::OpenFlags;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support;
use crate::support::api::{Api, TOKEN};
use crate::support::pki::Pki;
use crate::support::server::{Server, free_port};
use crate::support::vehicle::Vehicle;

pub(crate) struct Site {
    dir: TempDir,
    pub(crate) pki: Pki,
    pub(crate) config: Value,
}

impl Site {
    /// Everything goes to SQLite; location needs a grant, and nobody has one.
    pub(crate) fn new(change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        let mut config = support::server::config(&pki);
        config["port"] = json!(free_port());
        config["log_level"] = json!("info");
        config["permissions"] = json!({
            "mode": "enforce",
            "default": "deny",
            "strict": true,
            "action": "drop",
            "store": { "sqlite": { "path": dir.path().join("permissions.db") } },
            "api": { "port": free_port(), "token": TOKEN },
        });
        change(&mut config);
        Self { dir, pki, config }
    }

    /// On the same ports each time.
    pub(crate) fn serve(&self) -> Server {
        Server::start(&self.pki, &self.config)
    }

    pub(crate) fn api(&self) -> Api {
        Api::of(&self.config)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub(crate) async fn vehicle(&self, server: &Server, vin: &str) -> Vehicle {
        Vehicle::connect(server.address, &self.pki.vehicle(vin), vin).await
    }

    /// The data of a stored `V` record; it must be there once.
    pub(crate) fn stored(&self, txid: &str) -> Vec<Datum> {
        let store = self.store();
        let payload: Vec<u8> =
            store.query_row("SELECT payload FROM records WHERE txid = ?", [txid], |row| row.get(0)).unwrap();
        Payload::decode(payload.as_slice()).unwrap().data
    }

    pub(crate) fn store(&self) -> rusqlite::Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let store = rusqlite::Connection::open_with_flags(self.path("telemetry.db"), flags).unwrap();
        store.busy_timeout(support::vehicle::PATIENCE).unwrap();
        store
    }

    /// Sends a record with a place and a speed, waits for its ack, and tells whether the place was stored.
    pub(crate) async fn keeps_place(&self, vehicle: &mut Vehicle, txid: &str, created: Option<Timestamp>) -> bool {
        vehicle.send("V", txid, &record(&vehicle.vin, created)).await;
        vehicle.expect_ack("V", txid).await;
        has_place(&self.stored(txid))
    }
}

pub(crate) const PLACE: LocationValue = LocationValue { latitude: 48.137_154_3, longitude: 11.576_124_7 };
const SPEED: f64 = 33.5;

/// A record with a place and a speed.
pub(crate) fn record(vin: &str, created_at: Option<Timestamp>) -> Vec<u8> {
    let data = vec![datum(Field::Location, Typed::LocationValue(PLACE)), speed()];
    Payload { data, created_at, vin: vin.to_owned(), is_resend: false }.encode_to_vec()
}

/// Whether the place of [`record`] is among the data. Its speed must be, whoever has allowed what.
pub(crate) fn has_place(data: &[Datum]) -> bool {
    assert!(data.contains(&speed()), "a speed tells no place: {data:?}");
    match data.len() {
        1 => false,
        2 => data.contains(&datum(Field::Location, Typed::LocationValue(PLACE))),
        _ => panic!("nobody sent {data:?}"),
    }
}

fn speed() -> Datum {
    datum(Field::VehicleSpeed, Typed::DoubleValue(SPEED))
}

pub(crate) fn datum(key: impl Into<i32>, value: Typed) -> Datum {
    Datum { key: key.into(), value: Some(FieldValue { value: Some(value) }) }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// In milliseconds since the epoch.
pub(crate) fn at(millis: i64) -> Option<Timestamp> {
    let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap();
    Some(Timestamp { seconds: millis.div_euclid(1000), nanos })
}

pub(crate) fn now() -> Option<Timestamp> {
    at(now_ms())
}

/// A frame that was made now, by its envelope too.
pub(crate) fn frame(topic: &str, txid: &str, vin: &str, payload: &[u8]) -> Vec<u8> {
    message::encode(&Envelope {
        txid: txid.as_bytes(),
        topic: topic.as_bytes(),
        sender_id: format!("vehicle_device.{vin}").as_bytes(),
        created_at: u32::try_from(now_ms() / 1000).unwrap(),
        payload,
    })
}

//! From a vehicle to a broker and to a stream, through the server as operators run it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::mosquitto::Mosquitto;
use crate::support::redis::Redis;
use crate::support::vehicle::{PATIENCE, Vehicle, ack, v_payload};
use crate::support::wait::until;
use crate::{VIN, start_with};

/// Long enough for an ack that must not come.
const QUIET: Duration = Duration::from_secs(1);
const SECRET: &str = "of-the-broker";

/// MQTT and Redis for everything, with a password from a file.
fn configure(config: &mut Value, broker: &Mosquitto, redis: &Redis) {
    let both = json!(["mqtt", "redis"]);
    config["records"] = json!({ "V": both, "connectivity": both });
    config["mqtt"] = json!({
        "broker": format!("127.0.0.1:{}", broker.port), "qos": 1, "retained": true, "topic_base": "cars",
        "username": "telemetry", "password_file": broker.dir().join("secret"), "home_assistant": {},
    });
    config["redis"] =
        json!({ "addrs": [format!("127.0.0.1:{}", redis.port)], "streams": {}, "publish_vin_topics": true });
}

fn broker() -> Mosquitto {
    Mosquitto::prepared("allow_anonymous false\npassword_file DIR/passwords", |dir| {
        std::fs::write(dir.join("secret"), format!("{SECRET}\n")).unwrap();
        let mut passwd = std::process::Command::new("mosquitto_passwd");
        let file = dir.join("passwords");
        assert!(passwd.args(["-b", "-c", file.to_str().unwrap(), "telemetry", SECRET]).status().unwrap().success());
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_acked_once_the_broker_and_the_stream_have_it() {
    let (broker, redis) = (broker(), Redis::start());
    let subscriber = broker.subscribe_as("server", &["-u", "telemetry", "-P", SECRET]);
    let listener = redis.listen();
    let (_dir, pki, mut server) = start_with(|config| configure(config, &broker, &redis));
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    vehicle.send("V", "before", &v_payload(VIN, 42.5)).await;
    vehicle.expect_ack("V", "before").await;
    let last = subscriber.last();
    assert_eq!(last[&format!("cars/{VIN}/v/VehicleSpeed")].payload, "42.5");
    assert_eq!(last[&format!("cars/{VIN}/connectivity")].json()["Status"], "CONNECTED");
    let announced = last[&format!("homeassistant/sensor/{VIN}/VehicleSpeed/config")].json();
    assert_eq!(announced["availability"][0]["topic"], format!("cars/{VIN}/connectivity"));
    assert_eq!(redis.client().entries("test_V").len(), 1);
    let channel = format!("test_V_{{{VIN}}}");
    until("it is heard", PATIENCE, async || listener.heard().iter().any(|(heard, _)| *heard == channel)).await;

    for stopped in [true, false] {
        if stopped {
            broker.pause()
        } else {
            redis.pause()
        }
        let txid = format!("during {stopped}");
        vehicle.send("V", &txid, &v_payload(VIN, 43.5)).await;
        assert_eq!(vehicle.receive_within(QUIET).await, None, "one of them does not have it");
        if stopped {
            broker.resume()
        } else {
            redis.resume()
        }
        assert_eq!(vehicle.receive_within(PATIENCE).await, Some(ack("V", &txid)));
    }
    server.metric_becomes("mqtt_delivered_total{record_type=\"V\"}", 3.0).await;
    server.metric_becomes("redis_delivered_total{record_type=\"V\"}", 3.0).await;

    server.signal("TERM");
    assert_eq!(server.wait(PATIENCE).code(), Some(0));
    assert_eq!(subscriber.last()[&format!("cars/{VIN}/connectivity")].json()["Status"], "DISCONNECTED");
    assert!(!server.stderr().contains(SECRET), "no log line shows a secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_takes_back_is_gone_from_the_broker_and_stays_away() {
    let (broker, redis) = (broker(), Redis::start());
    let credentials = ["-u", "telemetry", "-P", SECRET];
    let grants = broker.dir().join("grants.json");
    let say = |state: &str| {
        let entry = json!({
            "vin": VIN, "scope": "vehicle_location", "state": state, "since": "2025-01-01T00:00:00Z", "expires": null,
            "source": "owner", "note": "",
        });
        // Replaced whole, so that nobody reads half of it.
        let new = grants.with_extension("new");
        std::fs::write(&new, json!({ "version": 1, "grants": [entry] }).to_string()).unwrap();
        std::fs::rename(new, &grants).unwrap();
    };
    say("granted");
    let (_dir, pki, server) = start_with(|config| {
        configure(config, &broker, &redis);
        config["permissions"] = json!({ "mode": "enforce", "store": { "file": { "path": grants } } });
    });
    let mut vehicle = Vehicle::connect(server.address, &pki.vehicle(VIN), VIN).await;
    let topic = format!("cars/{VIN}/v/Location");
    let is_there = || broker.subscribe_as("look", &credentials).last().get(&topic).is_some_and(|heard| heard.retained);
    vehicle.send("V", "granted", &place()).await;
    vehicle.expect_ack("V", "granted").await;
    assert!(is_there());
    say("denied");
    until("the place is gone", PATIENCE, async || !is_there()).await;
    vehicle.send("V", "denied", &place()).await;
    vehicle.expect_ack("V", "denied").await;
    assert!(!is_there());
}

/// A record with a place, made now.
fn place() -> Vec<u8> {
    use fleet_telemetry::proto::vehicle_data::value::Value as Kind;
    use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value};
    use prost::Message as _;

    let place = Kind::LocationValue(LocationValue { latitude: 37.412_374, longitude: -122.145_867 });
    let data = vec![Datum { key: Field::Location.into(), value: Some(Value { value: Some(place) }) }];
    let seconds = fleet_telemetry::record::Received::now().epoch_ms / 1000;
    let created_at = Some(prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap(), nanos: 0 });
    Payload { data, created_at, vin: VIN.to_owned(), is_resend: false }.encode_to_vec()
}

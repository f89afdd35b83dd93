//! What an MQTT broker keeps, and what Home Assistant is told, when owners change their mind.

use std::sync::Arc;
use std::time::Duration;

use fleet_telemetry::config::{self, HomeAssistant};
use fleet_telemetry::dispatch::{Outcome, mqtt};
use fleet_telemetry::permissions::{Action, Grant, Grants, Mode, Permissions, Rules, State};
use fleet_telemetry::proto::vehicle_data::value::Value as Kind;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, LocationValue, Payload, Value};
use fleet_telemetry::record::{Received, Record, RecordKind, Topics};
use fleet_telemetry::scope::{Scope, Scopes};
use prost::Message as _;

use crate::contract::{Bench, CUSTOM_TOPIC, Patient, assert_all, origin};
use crate::mqtt::config;
use crate::support::mosquitto::Mosquitto;
use crate::support::wait;

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_retains_of_a_field_is_removed_when_its_consent_ends() {
    let site = Site::start(Action::Drop).await;
    site.say("VIN", State::Granted, None);
    site.send("VIN").await;
    assert_eq!(site.retained("VIN"), ["Location", "Soc"]);
    site.say("VIN", State::Denied, None);
    wait::until("the place is removed", PATIENCE, async || site.retained("VIN") == ["Soc"]).await;
    site.send("VIN").await;
    assert_eq!(site.retained("VIN"), ["Soc"]);
    site.say("VIN", State::Granted, None);
    site.send("VIN").await;
    assert_eq!(site.retained("VIN"), ["Location", "Soc"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_expires_ends_without_anybody_saying_so() {
    let site = Site::start(Action::Drop).await;
    site.say("VIN", State::Granted, Some(Duration::from_secs(3)));
    site.say("OTHER", State::Granted, None);
    site.send("VIN").await;
    site.send("OTHER").await;
    assert_eq!(site.retained("VIN"), ["Location", "Soc"]);
    wait::until("the place is removed", PATIENCE, async || site.retained("VIN") == ["Soc"]).await;
    assert_eq!(site.retained("OTHER"), ["Location", "Soc"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_waited_while_consent_ended_goes_out_without_what_it_covered() {
    let site = Site::start(Action::Drop).await;
    site.say("VIN", State::Granted, None);
    let subscriber = site.broker.subscribe();
    site.broker.kill();
    site.bench.send(&record("VIN")).await;
    site.bench
        .until::<Patient>("tried", || site.bench.dispatcher.health() != fleet_telemetry::dispatch::Health::Healthy)
        .await;
    site.say("VIN", State::Denied, None);
    site.broker.restart();
    assert_all(&site.bench.settled::<Patient>(1).await, Outcome::Delivered);
    let heard = subscriber.heard();
    assert!(heard.iter().any(|heard| heard.topic == "cars/VIN/v/Soc"));
    let places = heard.iter().filter(|heard| heard.topic == "cars/VIN/v/Location" && !heard.payload.is_empty());
    assert_eq!(places.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_process_left_is_removed_too() {
    let site = Site::start(Action::Drop).await;
    for vin in ["SAID", "SILENT"] {
        site.say(vin, State::Granted, None);
        site.send(vin).await;
    }
    site.bench.close::<Patient>().await;
    // Owners change their minds while no server runs. One of them has no entry any more.
    let next = Site::at(site.broker, Action::Drop, None).await;
    next.say("SAID", State::Denied, None);
    wait::until("the place is removed", PATIENCE, async || next.retained("SAID") == ["Soc"]).await;
    assert_eq!(next.retained("SILENT"), ["Location", "Soc"], "nobody knows of it yet");
    next.send("SILENT").await;
    assert_eq!(next.retained("SILENT"), ["Soc"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_assistant_is_told_of_each_field_once_and_never_of_what_is_withheld() {
    for action in [Action::Drop, Action::Invalid] {
        let home = HomeAssistant { discovery_prefix: "home".to_owned(), has_connectivity: true };
        let site = Site::at(Mosquitto::start(), action, Some(home)).await;
        let subscriber = site.broker.subscribe();
        site.say("VIN", State::Denied, None);
        site.send("VIN").await;
        site.send("VIN").await;
        let announced = |text: &str| {
            let heard = subscriber.heard().into_iter().filter(|heard| heard.topic.starts_with("home/"));
            heard.filter(|heard| heard.topic.contains(text) && !heard.payload.is_empty()).count()
        };
        assert_eq!(announced("/Soc/config"), 1, "once");
        assert_eq!(announced("/Location/config"), 0, "withheld: {action:?}");
        site.say("VIN", State::Granted, None);
        site.send("VIN").await;
        assert_eq!(announced("device_tracker/VIN/Location/config"), 1);
        assert_eq!(site.configs(), ["device_tracker/VIN/Location", "sensor/VIN/Soc"]);
        site.say("VIN", State::Denied, None);
        wait::until("it is taken back", PATIENCE, async || site.configs() == ["sensor/VIN/Soc"]).await;
        site.say("VIN", State::Granted, None);
        site.send("VIN").await;
        assert_eq!(site.configs(), ["device_tracker/VIN/Location", "sensor/VIN/Soc"], "told again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_place_is_replaced_where_places_are_rounded() {
    let site = Site::start(Action::Coarsen(1)).await;
    site.say("VIN", State::Granted, None);
    site.send("VIN").await;
    site.say("VIN", State::Denied, None);
    wait::until("the place is removed", PATIENCE, async || site.retained("VIN") == ["Soc"]).await;
    site.send("VIN").await;
    let place = &site.broker.subscribe().last()["cars/VIN/v/Location"];
    assert_eq!(place.payload, r#"{"latitude":37.4,"longitude":-122.1}"#);
}

/// A broker and a dispatcher that retains, for vehicles whose places need consent.
struct Site {
    broker: Mosquitto,
    permissions: Arc<Permissions>,
    bench: Bench,
}

impl Site {
    async fn start(action: Action) -> Self {
        Self::at(Mosquitto::start(), action, None).await
    }

    async fn at(broker: Mosquitto, action: Action, home_assistant: Option<HomeAssistant>) -> Self {
        let enforced = Scopes::NONE.with(Scope::VehicleLocation);
        let rules = Rules { mode: Mode::Enforce, action, strict: true, deny_unknown: true, enforced, ..Rules::off() };
        let permissions = Arc::new(Permissions::new(rules));
        let config = config::Mqtt { retained: true, home_assistant, ..config(broker.port) };
        let topics = Topics::new([CUSTOM_TOPIC]);
        let dispatcher = mqtt::connect(&config, &topics, &permissions).await.expect("connects");
        Self { broker, permissions, bench: Bench::over(Arc::new(dispatcher), topics, false) }
    }

    /// What an owner says about the place of a vehicle.
    fn say(&self, vin: &str, state: State, expires: Option<Duration>) {
        let now = i64::try_from(Received::now().epoch_ms).unwrap();
        let expires_ms = expires.map(|after| now + i64::try_from(after.as_millis()).unwrap());
        let text = String::new;
        let grant = Grant { state, since_ms: 0, expires_ms, source: text(), note: text(), version: 1 };
        let mut grants: Grants = self.permissions.grants().unwrap_or_default();
        grants.set(vin, Scope::VehicleLocation, grant);
        self.permissions.replace(Some(grants));
    }

    /// A record as it comes out of the filter now.
    async fn send(&self, vin: &str) {
        let plain = record(vin);
        let now = Received::now();
        let filter = self.permissions.filter(&mut Default::default(), vin, || Some(1), now.epoch_ms);
        let mut payload = Vec::new();
        fleet_telemetry::record::transform::rewrite(RecordKind::V, plain.payload(), vin, &filter, &mut payload)
            .unwrap();
        self.bench.send(&Record::from_parts(RecordKind::V, &payload, b"tx", origin(vin), now)).await;
        assert_all(&self.bench.settled::<Patient>(1).await, Outcome::Delivered);
    }

    /// The fields of which the broker retains a value.
    fn retained(&self, vin: &str) -> Vec<String> {
        let prefix = format!("cars/{vin}/v/");
        let last = self.broker.subscribe().last();
        let retained = last.into_values().filter(|heard| heard.retained);
        retained.filter_map(|heard| heard.topic.strip_prefix(&prefix).map(str::to_owned)).collect()
    }

    /// The entities that Home Assistant would find.
    fn configs(&self) -> Vec<String> {
        let last = self.broker.subscribe().last();
        let retained = last.into_values().filter(|heard| heard.retained);
        let between = |topic: &str| Some(topic.strip_prefix("home/")?.strip_suffix("/config")?.to_owned());
        retained.filter_map(|heard| between(&heard.topic)).collect()
    }
}

/// Made long after any consent that these tests give.
fn record(vin: &str) -> Record {
    let datum = |key: Field, value| Datum { key: key.into(), value: Some(Value { value: Some(value) }) };
    let place = LocationValue { latitude: 37.412_374, longitude: -122.145_867 };
    let data = vec![datum(Field::Soc, Kind::DoubleValue(71.0)), datum(Field::Location, Kind::LocationValue(place))];
    let now = i64::try_from(Received::now().epoch_ms / 1000).unwrap();
    let created_at = Some(prost_types::Timestamp { seconds: now, nanos: 0 });
    let payload = Payload { data, created_at, vin: vin.to_owned(), is_resend: false }.encode_to_vec();
    Record::from_parts(RecordKind::V, &payload, b"tx", origin(vin), Received::now())
}

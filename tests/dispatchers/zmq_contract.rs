//! The contract of dispatchers, with libzmq's subscribers: that nobody subscribes is the outage.

use std::sync::{Arc, Mutex};

use fleet_telemetry::config::InFlight;
use fleet_telemetry::config::{self, NoSubscriber};
use fleet_telemetry::dispatch::{Dispatcher, zmq};
use fleet_telemetry::proto::{vehicle_alerts, vehicle_connectivity, vehicle_data, vehicle_error};
use fleet_telemetry::record::Topics;
use prost::Message as _;

use crate::contract::{Harness, Held};
use crate::support::service::free_ports;
use crate::support::zmq::Subscriber;
use crate::zmq::config;

crate::contract::suite!(Audience);

/// Somebody who subscribes, and what those before them have heard.
struct Audience {
    port: u16,
    present: Mutex<Option<Subscriber>>,
    heard: Mutex<Vec<(String, Vec<u8>)>>,
}

impl Harness for Audience {
    const NOT_EXACT: Option<&'static str> = Some("messages hold type and payload, no transaction id");
    const OPAQUE: bool = false;

    async fn start() -> Self {
        let [port] = free_ports();
        Self { port, present: Mutex::new(Some(Subscriber::plain(port))), heard: Mutex::default() }
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
        let config = config::Zmq {
            no_subscriber: NoSubscriber::Wait,
            max_unsettled: InFlight { records: max_unsettled, bytes: 1 << 30 },
            ..config(self.port)
        };
        let dispatchers = config::Dispatchers { namespace: "tesla".to_owned(), ..Default::default() };
        Arc::new(zmq::connect(&config, &dispatchers, topics).await.expect("binds"))
    }

    async fn held(&self) -> Vec<Held> {
        let now = self.present.lock().unwrap().as_ref().map(Subscriber::heard).unwrap_or_default();
        self.heard.lock().unwrap().iter().chain(&now).map(held).collect()
    }

    async fn cut(&self) {
        if let Some(subscriber) = self.present.lock().unwrap().take() {
            self.heard.lock().unwrap().extend(subscriber.heard());
        }
        // Until the socket has noticed, records are for somebody who has just gone.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }

    async fn restore(&self) {
        *self.present.lock().unwrap() = Some(Subscriber::plain(self.port));
    }
}

/// The record that a message is, told from its number.
fn held((topic, payload): &(String, Vec<u8>)) -> Held {
    let topic = topic.strip_prefix("tesla_").unwrap();
    let number = |text: &str| text.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let bytes = &payload[..];
    let (vin, n) = match topic {
        "V" => {
            let payload = vehicle_data::Payload::decode(bytes).unwrap();
            let value = payload.data[0].value.as_ref().unwrap().value.as_ref().unwrap();
            let vehicle_data::value::Value::DoubleValue(odometer) = value else { panic!("{value:?}") };
            (payload.vin, *odometer as usize)
        }
        "alerts" => {
            let alerts = vehicle_alerts::VehicleAlerts::decode(bytes).unwrap();
            (alerts.vin, number(&alerts.alerts[0].name))
        }
        "errors" => {
            let errors = vehicle_error::VehicleErrors::decode(bytes).unwrap();
            (errors.vin, number(&errors.errors[0].name))
        }
        _ => {
            let connectivity = vehicle_connectivity::VehicleConnectivity::decode(bytes).unwrap();
            (connectivity.vin, number(&connectivity.connection_id))
        }
    };
    let txid = format!("txid-{n:06}").into_bytes();
    Held { vin, topic: topic.to_owned(), txid, payload: Some(payload.clone()) }
}

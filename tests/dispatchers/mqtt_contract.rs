//! The contract of dispatchers, against a real MQTT broker.

use std::sync::Arc;

use fleet_telemetry::config::{self, InFlight};
use fleet_telemetry::dispatch::{Dispatcher, mqtt};
use fleet_telemetry::permissions::Permissions;
use fleet_telemetry::record::Topics;

use crate::contract::{Harness, Held};
use crate::mqtt::config;
use crate::support::mosquitto::{Heard, Mosquitto, Subscriber};

/// At least once.
struct Plain(Site);

/// Exactly once, over a session that outlives connections.
struct Session(Site);

/// A broker and somebody who subscribes.
struct Site {
    broker: Mosquitto,
    subscriber: Subscriber,
}

mod at_least_once {
    use super::*;
    crate::contract::suite!(Plain);
}

mod exactly_once {
    use super::*;
    crate::contract::suite!(Session);
}

const NOT_EXACT: Option<&str> = Some("messages hold values, neither payloads nor transaction ids");

macro_rules! harness {
    ($harness:ident, $config:expr) => {
        impl Harness for $harness {
            const NOT_EXACT: Option<&'static str> = NOT_EXACT;
            const OPAQUE: bool = false;

            async fn start() -> Self {
                Self(Site::start())
            }

            async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher> {
                let config: config::Mqtt = $config(config(self.0.broker.port));
                self.0.connect(topics, max_unsettled, config).await
            }

            async fn held(&self) -> Vec<Held> {
                self.0.subscriber.heard().iter().filter_map(held).collect()
            }

            async fn cut(&self) {
                self.0.broker.kill();
            }

            async fn restore(&self) {
                self.0.broker.restart();
            }
        }
    };
}

harness!(Plain, |config| config);
harness!(Session, |config| config::Mqtt {
    qos: config::QoS::ExactlyOnce,
    clean_session: false,
    client_id: "server".to_owned(),
    ..config
});

impl Site {
    fn start() -> Self {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe();
        Self { broker, subscriber }
    }

    async fn connect(&self, topics: &Topics, max_unsettled: usize, config: config::Mqtt) -> Arc<dyn Dispatcher> {
        let config = config::Mqtt { max_unsettled: InFlight { records: max_unsettled, bytes: 1 << 30 }, ..config };
        Arc::new(mqtt::connect(&config, topics, &Arc::new(Permissions::off())).await.expect("connects"))
    }
}

/// The record that a message comes from, told from its number; `None` for further messages of the same record.
fn held(heard: &Heard) -> Option<Held> {
    let mut levels = heard.topic.strip_prefix("cars/")?.split('/');
    let (vin, kind) = (levels.next()?, levels.next()?);
    let number = |text: &str| text.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let (topic, n) = match (kind, levels.next(), levels.next()) {
        ("v", Some("Odometer"), _) => ("V", heard.json().as_f64().unwrap() as usize),
        ("alerts", Some(name), Some("current")) => ("alerts", number(name)),
        ("errors", Some(name), _) => ("errors", number(name)),
        ("connectivity", None, _) => ("connectivity", number(heard.json()["ConnectionId"].as_str().unwrap())),
        _ => return None,
    };
    let txid = format!("txid-{n:06}").into_bytes();
    Some(Held { vin: vin.to_owned(), topic: topic.to_owned(), txid, payload: None })
}

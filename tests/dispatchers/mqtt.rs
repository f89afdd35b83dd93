//! MQTT, against a real broker: what it adds to the contract.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, ClientTls, Env, InFlight, QoS};
use fleet_telemetry::dispatch::{ConnectError, Health, Outcome, mqtt};
use fleet_telemetry::permissions::Permissions;
use fleet_telemetry::proto::vehicle_data::value::Value as Kind;
use fleet_telemetry::proto::vehicle_data::{Datum, Field, Payload, Value};
use fleet_telemetry::proto::vehicle_error::{VehicleError, VehicleErrors};
use fleet_telemetry::record::{Received, Record, RecordKind, Topics};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use prost::Message as _;
use tokio::task::JoinHandle;

use crate::contract::{Bench, CUSTOM_TOPIC, Patient, assert_all, measure, number, origin};
use crate::support::docs;
use crate::support::mosquitto::{Mosquitto, Subscriber};
use crate::support::pki::Pki;
use crate::support::service::free_ports;

/// A broker on `port` of this machine.
pub(crate) fn config(port: u16) -> config::Mqtt {
    config::Mqtt {
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        client_id: String::new(),
        username: None,
        password: None,
        topic_base: "cars".to_owned(),
        qos: QoS::AtLeastOnce,
        retained: false,
        clean_session: true,
        connect_timeout: Duration::from_secs(10),
        publish_timeout: Duration::from_millis(2_500),
        disconnect_timeout: Duration::from_millis(250),
        connect_retry_interval: Duration::from_millis(500),
        keep_alive: 30,
        home_assistant: None,
        max_vehicles: 1000,
        max_unsettled: InFlight { records: 10_000, bytes: 1 << 30 },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_there_in_order_though_the_broker_is_stopped_again_and_again() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let site = Site::under_load(&config::Mqtt { qos, ..config(0) }).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            site.broker.stop();
            tokio::time::sleep(Duration::from_millis(200)).await;
            site.broker.restart();
        }
        let (settled, heard) = site.ended().await;
        assert_eq!(settled.len(), VINS.len() * RECORDS);
        for vin in VINS {
            let all: Vec<usize> = (0..RECORDS).map(|n| n * 5).collect();
            assert!(heard[vin] == all, "{vin}, {qos:?}: {} of {}", heard[vin].len(), all.len());
        }
    }
}

/// This broker keeps what it has in memory: when it is killed, what it had confirmed a moment ago dies with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_again_and_again_loses_nothing_but_what_it_had_itself() {
    let site = Site::under_load(&config(0)).await;
    let mut kills = Vec::new();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        site.subscriber.heard();
        site.broker.kill();
        kills.push(Instant::now());
        tokio::time::sleep(Duration::from_millis(200)).await;
        site.broker.restart();
    }
    let (settled, heard) = site.ended().await;
    assert_eq!(settled.len(), VINS.len() * RECORDS);
    let mut missing = 0;
    for (vin, n, at) in settled {
        if !heard[vin.as_str()].contains(&n) {
            missing += 1;
            let before = kills.iter().filter_map(|kill| kill.checked_duration_since(at));
            assert!(before.min().is_some_and(|before| before < Duration::from_secs(1)), "{vin} {n} was not sent again");
        }
    }
    assert!(missing < VINS.len() * RECORDS / 2, "{missing}");
    for vin in VINS {
        assert!(heard[vin].is_sorted(), "{vin}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_answers_nothing_delivers_nothing_and_is_said_to_be_unhealthy_until_it_does() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe();
    let config = config::Mqtt {
        publish_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_millis(500),
        ..config(broker.port)
    };
    let bench = bench(&config).await;
    broker.pause();
    for n in 0..20 {
        bench.send(&bench.record("VIN", n)).await;
    }
    bench.until::<Patient>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("unhealthy") };
    assert!(reason.starts_with(&format!("127.0.0.1:{}: ", broker.port)) && reason.contains("no"), "{reason}");
    assert_eq!(bench.dispatcher.outbox().used().records, 20);
    broker.resume();
    assert_all(&bench.settled::<Patient>(20).await, Outcome::Delivered);
    bench.until::<Patient>("healthy", || bench.dispatcher.health() == Health::Healthy).await;
    assert!(subscriber.heard().iter().any(|heard| heard.topic == "cars/VIN/connectivity"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_for_which_the_broker_ends_connections_is_refused_and_the_others_go_on() {
    let broker = Mosquitto::with("max_packet_size 2000");
    let subscriber = broker.subscribe();
    let bench = bench(&config(broker.port)).await;
    let data = vec![datum(Field::VehicleName, Kind::StringValue("x".repeat(3_000)))];
    let large = payload_record("LARGE", data);
    let before: Vec<_> = (0..10).map(|n| bench.record("VIN", n)).collect();
    let after: Vec<_> = (10..20).map(|n| bench.record("VIN", n)).collect();
    for record in before.iter().chain([&large]).chain(&after) {
        bench.send(record).await;
    }
    for settled in bench.settled::<Patient>(21).await {
        let expected = if settled.record.vin() == "LARGE" { Outcome::Lost } else { Outcome::Delivered };
        assert_eq!(settled.outcome, expected, "{:?}", settled.record.txid());
    }
    let topics: Vec<_> = subscriber.heard().into_iter().map(|heard| heard.topic).collect();
    assert!(!topics.iter().any(|topic| topic.starts_with("cars/LARGE/")), "{topics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_no_topics_stop_nobody() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe();
    let bench = bench(&config(broker.port)).await;
    let names = ["a/b#c", "+", "", "\0\u{1}\u{9f}", "\u{ffff}", "ü € 🚗", &"long ".repeat(500)];
    let errors = names.map(|name| VehicleError { name: name.to_owned(), ..VehicleError::default() });
    let payload = VehicleErrors { errors: errors.into(), ..VehicleErrors::default() }.encode_to_vec();
    for vin in ["VIN", "v/i+n#"] {
        let record = Record::from_parts(RecordKind::Errors, &payload, b"tx", origin(vin), Received::now());
        bench.send(&record).await;
        assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    }
    let topics: Vec<_> = subscriber.heard().into_iter().map(|heard| heard.topic).collect();
    let of = |vin: &str| -> Vec<String> {
        let prefix = format!("cars/{vin}/errors/");
        topics.iter().filter_map(|topic| topic.strip_prefix(&prefix)).map(str::to_owned).collect()
    };
    assert_eq!(of("VIN")[..6], ["a%2Fb%23c", "%2B", "", "%00%01%C2%9F", "%EF%BF%BF", "ü € 🚗"]);
    assert_eq!(of("VIN")[6].len(), 512);
    assert_eq!(of("v%2Fi%2Bn%23"), of("VIN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_confirmation_a_record_still_waits_for_a_connection() {
    let broker = Mosquitto::start();
    let bench = bench(&config::Mqtt { qos: QoS::AtMostOnce, retained: true, ..config(broker.port) }).await;
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    broker.kill();
    bench.send(&bench.record("VIN", 5)).await;
    bench.until::<Patient>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    assert_eq!(bench.dispatcher.outbox().used().records, 1, "not delivered to nobody");
    broker.restart();
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    // Nobody may have been there to hear it, but the broker keeps it for those who come later.
    let later = broker.subscribe();
    let odometer = &later.last()["cars/VIN/v/Odometer"];
    assert_eq!((odometer.payload.as_str(), odometer.qos, odometer.retained), ("5.5", 0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_types_that_nobody_can_read_are_refused() {
    let broker = Mosquitto::start();
    let bench = bench(&config(broker.port)).await;
    let custom = bench.topics.kind(CUSTOM_TOPIC.as_bytes());
    bench.send(&Record::from_parts(custom, b"opaque", b"tx", origin("VIN"), Received::now())).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Lost);
    assert_eq!(bench.dispatcher.health(), Health::Healthy);
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_or_refuses_is_named_with_what_it_said() {
    let [port] = free_ports();
    let nobody = config::Mqtt { connect_timeout: Duration::from_millis(300), ..config(port) };
    let error = failure(&nobody).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("mqtt: mqtt.broker 127.0.0.1:{port}: ")), "{text}");
    assert!(text.contains("refused") && text.contains("tried for 300ms (mqtt.connect_timeout_ms)"), "{text}");

    let broker = Mosquitto::with("allow_anonymous false");
    let stranger =
        config::Mqtt { username: Some("me".to_owned()), password: Some("hidden".into()), ..config(broker.port) };
    let error = failure(&stranger).await;
    assert!(matches!(error, ConnectError::Config { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("refuses the connection") && text.contains("mqtt.password"), "{text}");
    assert!(!format!("{text} {stranger:?}").contains("hidden"));
}

const VINS: [&str; 3] = ["A", "B", "C"];
/// Of each vehicle.
const RECORDS: usize = 1_000;

/// A broker, somebody who subscribes, and vehicles that send.
struct Site {
    broker: Mosquitto,
    subscriber: Subscriber,
    bench: Arc<Bench>,
    sending: JoinHandle<()>,
    settling: JoinHandle<Vec<Acked>>,
}

/// A record that was acked: of whom, which, and when.
type Acked = (String, usize, Instant);

impl Site {
    async fn under_load(of: &config::Mqtt) -> Self {
        let broker = Mosquitto::start();
        let subscriber = broker.subscribe();
        let bench = Arc::new(bench(&config::Mqtt { port: broker.port, ..of.clone() }).await);
        let sending = Arc::clone(&bench);
        let sending = tokio::spawn(async move {
            for n in (0..RECORDS).map(|n| n * 5) {
                for vin in VINS {
                    sending.send(&sending.record(vin, n)).await;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        let settling = Arc::clone(&bench);
        let settling = tokio::spawn(async move {
            let mut acked = Vec::new();
            while acked.len() < VINS.len() * RECORDS {
                for settled in settling.some_settled::<Patient>().await {
                    assert_eq!(settled.outcome, Outcome::Delivered);
                    acked.push((settled.record.vin().to_owned(), number(settled.record.txid()), Instant::now()));
                }
            }
            acked
        });
        Self { broker, subscriber, bench, sending, settling }
    }

    /// What was acked, and what was heard of each vehicle, each record where it came for the first time.
    async fn ended(self) -> (Vec<Acked>, BTreeMap<&'static str, Vec<usize>>) {
        self.sending.await.unwrap();
        let acked = self.settling.await.unwrap();
        self.bench.close::<Patient>().await;
        let heard = self.subscriber.heard();
        let of = |vin: &'static str| {
            let topic = format!("cars/{vin}/v/Odometer");
            let mut seen = HashSet::new();
            let heard = heard.iter().filter(|heard| heard.topic == topic);
            let numbers = heard.map(|heard| heard.json().as_f64().unwrap() as usize);
            (vin, numbers.filter(|n| seen.insert(*n)).collect())
        };
        (acked, VINS.into_iter().map(of).collect())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_both_sides_show_who_they_are() {
    let lines = "cafile DIR/vehicle_ca.crt\ncertfile DIR/server.crt\nkeyfile DIR/server.key\nrequire_certificate true\n\
                 use_identity_as_username true\nallow_anonymous false";
    let broker = Mosquitto::prepared(lines, |dir| Pki::new(dir).write_client("telemetry"));
    let file = |name: &str| broker.dir().join(name);
    let tls = ClientTls {
        path: "mqtt.tls".to_owned(),
        ca_file: Some(file("server_ca.crt")),
        certificate: Some((file("client.crt"), file("client.key"))),
        server_name: None,
    };
    let with = |tls: &ClientTls| config::Mqtt {
        tls: Some(tls.clone()),
        connect_timeout: Duration::from_millis(1_500),
        ..config(broker.port)
    };
    let paths = [file("server_ca.crt"), file("client.crt"), file("client.key")];
    let [ca, cert, key] = [0, 1, 2].map(|at| paths[at].to_str().unwrap());
    let subscriber = broker.subscribe_as("tls", &["--cafile", ca, "--cert", cert, "--key", key]);
    let bench = bench(&with(&tls)).await;
    for n in 0..200 {
        bench.send(&bench.record("VIN", n)).await;
    }
    assert_all(&bench.settled::<Patient>(200).await, Outcome::Delivered);
    assert_eq!(subscriber.last()["cars/VIN/v/Odometer"].payload, "199.5");

    for (wrong, expected) in [
        (ClientTls { certificate: None, ..tls.clone() }, ""),
        (ClientTls { ca_file: Some(file("vehicle_ca.crt")), ..tls.clone() }, "UnknownIssuer"),
        (ClientTls { ca_file: None, ..tls.clone() }, "UnknownIssuer"),
        (ClientTls { server_name: Some("elsewhere.example".to_owned()), ..tls.clone() }, "elsewhere.example"),
    ] {
        let text = failure(&with(&wrong)).await.to_string();
        assert!(text.starts_with("mqtt: mqtt.broker 127.0.0.1:") && text.contains(expected), "{text}");
    }
    let nowhere = ClientTls { ca_file: Some("/nowhere".into()), ..tls };
    assert!(failure(&with(&nowhere)).await.to_string().starts_with("mqtt: mqtt.tls.ca_file: /nowhere: "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_the_messages_that_the_broker_has() {
    let broker = Mosquitto::start();
    let recorder = PrometheusBuilder::new().build_recorder();
    let topics = Topics::new([CUSTOM_TOPIC]);
    let permissions = Arc::new(Permissions::off());
    let config = config(broker.port);
    let connecting = mqtt::connect(&config, &topics, &permissions);
    let dispatcher = within(&recorder, connecting).await.expect("connects");
    let bench = Bench::over(Arc::new(dispatcher), topics, false);
    for n in 0..5 {
        bench.send(&bench.record("VIN", n)).await;
    }
    assert_all(&bench.settled::<Patient>(5).await, Outcome::Delivered);
    let page = recorder.handle().render();
    // Two of `V`, since the last of the five stands for a custom type.
    for (kind, messages) in [("V", 6), ("alerts", 2), ("errors", 1), ("connectivity", 1)] {
        let line = format!("mqtt_publish_total{{record_type=\"{kind}\"}} {messages}");
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    let event = r#"{"ConnectionId":"connection 3","CreatedAt":"2025-06-15T15:06:43Z","Status":"CONNECTED"}"#;
    assert!(
        page.contains(&format!("mqtt_publish_total_bytes{{record_type=\"connectivity\"}} {}", event.len())),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: records per second, printed"]
async fn measures_the_rate() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let broker = Mosquitto::start();
        print!("{qos:?}: ");
        measure(&bench(&config::Mqtt { qos, ..config(broker.port) }).await).await;
    }
}

/// What `docs/dispatchers/mqtt.md` shows works, with another address and other files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_the_documentation_works() {
    let lines = "allow_anonymous false\npassword_file DIR/passwords";
    let broker = Mosquitto::prepared(lines, |dir| {
        let file = dir.join("passwords");
        let mut passwd = std::process::Command::new("mosquitto_passwd");
        let status = passwd.args(["-b", "-c", file.to_str().unwrap(), "telemetry", "of the test"]).status();
        assert!(status.unwrap().success());
    });
    let text = docs::configuration("mqtt").replace("broker.example:1883", &format!("127.0.0.1:{}", broker.port));
    let env = Env::from_iter([("MQTT_PASSWORD", "of the test")]);
    let (config, warnings) = config::resolve(FileConfig::parse(text.as_bytes()).unwrap(), &env).unwrap();
    assert_eq!(warnings, []);
    let subscriber = broker.subscribe_as("docs", &["-u", "telemetry", "-P", "of the test"]);
    let bench = bench(&config.dispatchers.mqtt.unwrap()).await;
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    let last = subscriber.last();
    assert_eq!(last["cars/VIN/v/Odometer"].payload, "0.5");
    assert_eq!(last["homeassistant/sensor/VIN/Odometer/config"].json()["unit_of_measurement"], "mi");
}

async fn bench(config: &config::Mqtt) -> Bench {
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher = mqtt::connect(config, &topics, &Arc::new(Permissions::off())).await.expect("connects");
    Bench::over(Arc::new(dispatcher), topics, false)
}

/// Polls `future` with `recorder` in place.
async fn within<F: Future>(recorder: &PrometheusRecorder, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| metrics::with_local_recorder(recorder, || future.as_mut().poll(cx))).await
}

async fn failure(config: &config::Mqtt) -> ConnectError {
    mqtt::connect(config, &Topics::new([]), &Arc::new(Permissions::off())).await.expect_err("nothing to connect to")
}

fn datum(field: Field, value: Kind) -> Datum {
    Datum { key: field.into(), value: Some(Value { value: Some(value) }) }
}

fn payload_record(vin: &str, data: Vec<Datum>) -> Record {
    let payload = Payload { data, ..Payload::default() }.encode_to_vec();
    Record::from_parts(RecordKind::V, &payload, b"tx", origin(vin), Received::now())
}

//! ZeroMQ, with libzmq's subscribers: what it adds to the contract.

use std::sync::Arc;
use std::time::Duration;

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, Curve, Env, InFlight, NoSubscriber};
use fleet_telemetry::dispatch::{ConnectError, Health, Outcome, zmq};
use fleet_telemetry::proto::vehicle_data::Payload;
use fleet_telemetry::proto::vehicle_data::value::Value as Kind;
use fleet_telemetry::record::{Received, Record, Topics};
use prost::Message as _;

use crate::contract::{Bench, CUSTOM_TOPIC, Patient, assert_all, measure, origin};
use crate::support::docs;
use crate::support::service::free_ports;
use crate::support::wait;
use crate::support::zmq::{Pair, Subscriber};

const PATIENCE: Duration = Duration::from_secs(30);

/// A socket on `port` of this machine.
pub(crate) fn config(port: u16) -> config::Zmq {
    config::Zmq {
        addr: format!("tcp://127.0.0.1:{port}"),
        curve: None,
        verbose: false,
        high_water_mark: 100_000,
        no_subscriber: NoSubscriber::Wait,
        max_unsettled: InFlight { records: 10_000, bytes: 1 << 30 },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_subscriber_gets_type_and_payload_to_the_byte() {
    let [port] = free_ports();
    let bench = bench(&config(port)).await;
    let subscribers = [Subscriber::plain(port), Subscriber::plain(port)];
    let custom = bench.topics.kind(CUSTOM_TOPIC.as_bytes());
    let payloads = [(0..=255).collect::<Vec<u8>>(), vec![], vec![0xff; 200_000]];
    // Both are known to be there when both have heard something.
    for subscriber in &subscribers {
        wait::until("somebody listens", PATIENCE, async || {
            bench.send(&bench.record("VIN", 0)).await;
            assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
            !subscriber.heard_so_far().is_empty()
        })
        .await;
    }
    for payload in &payloads {
        bench.send(&Record::from_parts(custom, payload, b"tx", origin("VIN"), Received::now())).await;
    }
    assert_all(&bench.settled::<Patient>(3).await, Outcome::Delivered);
    for subscriber in &subscribers {
        let heard = subscriber.heard();
        let (first, last) = heard.split_at(heard.len() - 3);
        assert!(first.iter().all(|(topic, _)| topic == "tesla_V"));
        assert!(last.iter().zip(&payloads).all(|((topic, heard), sent)| topic == "tesla_custom" && heard == sent));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_curve_only_those_on_the_list_hear_anything() {
    let dir = tempfile::tempdir().unwrap();
    let (server, allowed, stranger) = (Pair::generate(), Pair::generate(), Pair::generate());
    let curve = Curve { server_key: dir.path().join("server.json"), allowed_keys: dir.path().join("allowed.json") };
    let key = serde_json::json!({ "secret": server.secret, "public": server.public });
    std::fs::write(&curve.server_key, key.to_string()).unwrap();
    std::fs::write(&curve.allowed_keys, serde_json::json!([allowed.public]).to_string()).unwrap();
    let [port] = free_ports();
    let bench = bench(&config::Zmq { curve: Some(curve), verbose: true, ..config(port) }).await;
    let refused = [
        Subscriber::curve(port, &server.public, &stranger),
        Subscriber::curve(port, &stranger.public, &allowed),
        Subscriber::plain(port),
    ];
    bench.send(&bench.record("VIN", 0)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.dispatcher.outbox().used().records, 1, "none of them counts");
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("nobody is there") };
    assert_eq!(reason, "nobody subscribes (zmq.no_subscriber)");
    let friend = Subscriber::curve(port, &server.public, &allowed);
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    wait::until("the friend hears it", PATIENCE, async || !friend.heard_so_far().is_empty()).await;
    for subscriber in refused {
        assert_eq!(subscriber.heard_so_far(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_for_nobody_are_delivered_where_the_configuration_says_so() {
    let [port] = free_ports();
    let bench = bench(&config::Zmq { no_subscriber: NoSubscriber::Deliver, ..config(port) }).await;
    for n in 0..100 {
        bench.send(&bench.record("VIN", n)).await;
    }
    assert_all(&bench.settled::<Patient>(100).await, Outcome::Delivered);
    assert_eq!(bench.dispatcher.health(), Health::Healthy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_takes_nothing_delays_nobody() {
    let [port] = free_ports();
    let bench = bench(&config::Zmq { high_water_mark: 10, ..config(port) }).await;
    let (stuck, lively) = (Subscriber::plain(port), Subscriber::plain(port));
    for subscriber in [&stuck, &lively] {
        wait::until("somebody listens", PATIENCE, async || {
            bench.send(&bench.record("VIN", 0)).await;
            assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
            !subscriber.heard_so_far().is_empty()
        })
        .await;
    }
    stuck.pause();
    let custom = bench.topics.kind(CUSTOM_TOPIC.as_bytes());
    let large = vec![7; 500_000];
    let before = lively.heard().len();
    for _ in 0..200 {
        bench.send(&Record::from_parts(custom, &large, b"tx", origin("VIN"), Received::now())).await;
        assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
        // As slowly as somebody can take them who takes them.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let heard = lively.heard().len() - before;
    assert!(heard > 150, "{heard} of 200 by the one who listens");
    stuck.resume();
    let heard = stuck.heard().len();
    assert!(heard < 150, "{heard} of 200 by the one who did not: what was above its mark is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_after_one_that_was_killed_under_load_hears_the_rest_in_order() {
    let [port] = free_ports();
    let bench = Arc::new(bench(&config(port)).await);
    let first = Subscriber::plain(port);
    let sending = {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            for n in (0..5_000).step_by(5) {
                bench.send(&bench.record("VIN", n)).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    };
    wait::until("somebody listens", PATIENCE, async || first.heard_so_far().len() > 100).await;
    drop(first);
    // Nobody is there: what comes meanwhile waits.
    bench.until::<Patient>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    let second = Subscriber::plain(port);
    sending.await.unwrap();
    assert_all(&bench.settled::<Patient>(1_000).await, Outcome::Delivered);
    let heard: Vec<f64> = second.heard().iter().map(|(_, payload)| odometer(payload)).collect();
    assert!(heard.len() > 100 && heard.is_sorted(), "{} in order: {}", heard.len(), heard.is_sorted());
    assert_eq!(heard.last(), Some(&4_995.5), "to the end");
    let missing = heard.windows(2).filter(|pair| pair[1] - pair[0] != 5.0).count();
    assert_eq!(missing, 0, "from where it came in, nothing is missing");
}

fn odometer(payload: &[u8]) -> f64 {
    let payload = Payload::decode(payload).unwrap();
    let value = payload.data[0].value.as_ref().unwrap().value.as_ref().unwrap();
    let Kind::DoubleValue(odometer) = value else { panic!("{value:?}") };
    *odometer
}

#[tokio::test]
async fn an_address_that_cannot_be_bound_ends_the_start() {
    let [port] = free_ports();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = failure(&config(port)).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    assert!(error.to_string().starts_with(&format!("zmq: zmq.addr tcp://127.0.0.1:{port}: ")), "{error}");
    for addr in ["5284", "inproc://x", "udp://127.0.0.1:1"] {
        let error = failure(&config::Zmq { addr: addr.to_owned(), ..config(port) }).await;
        assert!(matches!(error, ConnectError::Config { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("zmq: zmq.addr {addr:?}: ")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: records per second, printed"]
async fn measures_the_rate() {
    let [port] = free_ports();
    let bench = bench(&config(port)).await;
    let _subscriber = Subscriber::plain(port);
    measure(&bench).await;
}

/// What `docs/dispatchers/zmq.md` shows works, with another address and other files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_the_documentation_works() {
    let dir = tempfile::tempdir().unwrap();
    let (server, client) = (Pair::generate(), Pair::generate());
    let key = serde_json::json!({ "secret": server.secret, "public": server.public });
    std::fs::write(dir.path().join("zmq_server_key.json"), key.to_string()).unwrap();
    std::fs::write(dir.path().join("zmq_allowed.json"), serde_json::json!([client.public]).to_string()).unwrap();
    let [port] = free_ports();
    let text = docs::configuration("zmq").replace("tcp://*:5284", &format!("tcp://127.0.0.1:{port}"));
    let text = text.replace("/etc/fleet-telemetry/zmq", &format!("{}/zmq", dir.path().display()));
    let parsed = FileConfig::parse(text.as_bytes()).unwrap();
    let (config, _) = config::resolve(parsed, &Env::default()).unwrap();
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher =
        zmq::connect(config.dispatchers.zmq.as_ref().unwrap(), &config.dispatchers, &topics).await.expect("binds");
    let bench = Bench::over(Arc::new(dispatcher), topics, true);
    let subscriber = Subscriber::curve(port, &server.public, &client);
    wait::until("heard", PATIENCE, async || {
        bench.send(&bench.record("VIN", 0)).await;
        assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
        subscriber.heard_so_far().first().is_some_and(|(topic, _)| topic == "tesla_telemetry_V")
    })
    .await;
}

fn dispatchers() -> config::Dispatchers {
    config::Dispatchers { namespace: "tesla".to_owned(), ..Default::default() }
}

async fn bench(config: &config::Zmq) -> Bench {
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher = zmq::connect(config, &dispatchers(), &topics).await.expect("binds");
    Bench::over(Arc::new(dispatcher), topics, true)
}

async fn failure(config: &config::Zmq) -> ConnectError {
    zmq::connect(config, &dispatchers(), &Topics::new([])).await.expect_err("nothing to bind")
}

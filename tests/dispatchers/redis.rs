//! Redis, against real servers: what it adds to the contract.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_telemetry::config::file::FileConfig;
use fleet_telemetry::config::{self, ClientTls, Env, Form, InFlight, NoChannel, RedisMode, Streams, Target};
use fleet_telemetry::dispatch::{ConnectError, Health, Outcome, redis};
use fleet_telemetry::record::{Received, RecordKind, Topics};

use crate::contract::{Bench, CUSTOM_TOPIC, Patient, assert_all, measure, number};
use crate::support::docs;
use crate::support::pki::Pki;
use crate::support::redis::{Client, Redis, Reply};
use crate::support::service::free_ports;
use crate::support::wait;

/// Streams of servers on `ports` of this machine.
pub(crate) fn config(ports: &[u16]) -> config::Redis {
    config::Redis {
        addresses: ports.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect(),
        mode: RedisMode::Single,
        sentinel_password: None,
        username: None,
        password: None,
        db: 0,
        tls: None,
        publish_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(10),
        publish_vin_topics: false,
        subscriber_set_prefix: None,
        no_channel: NoChannel::Deliver,
        streams: Some(Streams { max_length: None }),
        max_unsettled: InFlight { records: 10_000, bytes: 1 << 30 },
    }
}

/// Channels instead.
pub(crate) fn channels(ports: &[u16]) -> config::Redis {
    config::Redis { streams: None, publish_vin_topics: true, ..config(ports) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_listens_gets_the_payload_on_the_channel_of_the_vehicle() {
    let server = Redis::start();
    let listener = server.listen();
    let bench = bench(&channels(&[server.port])).await;
    let sent: Vec<_> = (0..20).map(|n| bench.record("VIN", n)).collect();
    for record in &sent {
        bench.send(record).await;
    }
    assert_all(&bench.settled::<Patient>(20).await, Outcome::Delivered);
    wait::until("all are heard", PATIENCE, async || listener.heard().len() == 20).await;
    let expected = sent
        .iter()
        .map(|record| (format!("tesla_{}_{{VIN}}", bench.topics.name(record.kind())), record.payload().to_vec()));
    assert!(listener.heard().into_iter().eq(expected), "in order, each to the byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_sets_name_more_channels_until_their_leases_end() {
    let server = Redis::start();
    let listener = server.listen();
    let config = config::Redis { subscriber_set_prefix: Some("subs".to_owned()), ..channels(&[server.port]) };
    let bench = bench(&config).await;
    let now = Received::now().epoch_ms / 1000;
    let mut client = server.client();
    for (channel, ends) in [("long", now + 3600), ("ended", now - 1)] {
        let ends = ends.to_string();
        client.command(&[b"ZADD", b"subs_tesla_V_{VIN}", ends.as_bytes(), channel.as_bytes()]);
    }
    for vin in ["VIN", "OTHER"] {
        bench.send(&bench.record(vin, 0)).await;
        assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    }
    wait::until("all are heard", PATIENCE, async || listener.heard().len() == 3).await;
    let channels: Vec<_> = listener.heard().into_iter().map(|(channel, _)| channel).collect();
    assert_eq!(channels, ["long", "tesla_V_{VIN}", "tesla_V_{OTHER}"]);
    let members = client.command(&[b"ZRANGE", b"subs_tesla_V_{VIN}", b"0", b"-1"]);
    assert_eq!(members, Reply::List(vec![Reply::Text(b"long".to_vec())]), "a lease that has ended is removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_no_channel_wants_is_what_the_configuration_says() {
    let server = Redis::start();
    for (no_channel, expected) in [(NoChannel::Refuse, Outcome::Lost), (NoChannel::Deliver, Outcome::Delivered)] {
        let config = config::Redis {
            publish_vin_topics: false,
            subscriber_set_prefix: Some("subs".to_owned()),
            no_channel,
            ..channels(&[server.port])
        };
        let bench = bench(&config).await;
        bench.send(&bench.record("VIN", 0)).await;
        assert_all(&bench.settled::<Patient>(1).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acked_is_in_the_stream_in_order_though_the_server_is_killed_again_and_again() {
    let server = Redis::start();
    let bench = bench(&config(&[server.port])).await;
    let (acked, ()) = tokio::join!(load(&bench), async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            server.kill();
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.restart();
        }
    });
    assert_eq!(acked, VINS.len() * RECORDS);
    assert_in_order(&mut server.client());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_nothing_delays_nobody_for_longer_than_the_timeout() {
    let server = Redis::start();
    let timeout = Duration::from_millis(500);
    let bench = bench(&config::Redis { publish_timeout: timeout, ..channels(&[server.port]) }).await;
    server.pause();
    let start = Instant::now();
    bench.send(&bench.record("VIN", 0)).await;
    bench.until::<Patient>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("unhealthy") };
    assert_eq!(reason, format!("127.0.0.1:{}: no answer in {timeout:?}", server.port));
    // Whoever listens has no use for old news, so it is given up.
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Lost);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    server.resume();
    bench.until::<Patient>("healthy", || bench.dispatcher.health() == Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_for_now_waits_and_what_it_refuses_for_good_does_not() {
    let server = Redis::start();
    let bench = bench(&config(&[server.port])).await;
    let mut client = server.client();
    // Somebody else has a text where the stream of alerts belongs.
    client.command(&[b"SET", b"tesla_alerts", b"text"]);
    for n in 0..3 {
        bench.send(&bench.record("VIN", n)).await;
    }
    for settled in bench.settled::<Patient>(3).await {
        let is_alert = settled.record.kind() == RecordKind::Alerts;
        assert_eq!(settled.outcome, if is_alert { Outcome::Lost } else { Outcome::Delivered });
    }
    client.command(&[b"CONFIG", b"SET", b"maxmemory", b"1"]);
    bench.send(&bench.record("VIN", 5)).await;
    bench.until::<Patient>("unhealthy", || bench.dispatcher.health() != Health::Healthy).await;
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("unhealthy") };
    assert!(reason.contains("OOM"), "{reason}");
    client.command(&[b"CONFIG", b"SET", b"maxmemory", b"0"]);
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_what_identifies_a_record_and_no_more_entries_than_it_may() {
    let server = Redis::start();
    let config = config::Redis { streams: Some(Streams { max_length: Some(1_000) }), ..config(&[server.port]) };
    let dispatchers = {
        let mut dispatchers = dispatchers();
        let target = Target { form: Form::Json, ..Target::default() };
        dispatchers.targets.insert(config::DispatcherName::Redis, target);
        dispatchers
    };
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher = redis::connect(&config, &dispatchers, &topics).await.expect("connects");
    let bench = Bench::over(Arc::new(dispatcher), topics, true);
    let record = bench.record("VIN", 0);
    for _ in 0..3_000 {
        bench.send(&record).await;
    }
    assert_all(&bench.settled::<Patient>(3_000).await, Outcome::Delivered);
    let entries = server.client().entries("tesla_V");
    // "About": whole nodes of the stream are removed, each of a hundred entries.
    assert!((1_000..1_200).contains(&entries.len()), "{}", entries.len());
    let entry = &entries[0];
    let mut names: Vec<_> = entry.keys().map(String::as_str).collect();
    names.sort_unstable();
    let expected = [
        "device_client_version",
        "payload",
        "receivedat",
        "record_id",
        "timestamp",
        "txid",
        "txtype",
        "version",
        "vin",
    ];
    assert_eq!(names, expected);
    assert_eq!(entry["record_id"], format!("{:032x}", record.id("V")).into_bytes());
    let payload: serde_json::Value = serde_json::from_slice(&entry["payload"]).expect("JSON");
    assert_eq!(payload["vin"], "VIN");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_with_credentials_of_its_own() {
    let options = [
        ["--tls-port", "PORT"],
        ["--tls-cert-file", "DIR/server.crt"],
        ["--tls-key-file", "DIR/server.key"],
        ["--tls-ca-cert-file", "DIR/vehicle_ca.crt"],
        ["--aclfile", "DIR/users.acl"],
    ];
    let server = Redis::with(options.as_flattened(), |dir| {
        Pki::new(dir).write_client("telemetry");
        std::fs::write(dir.join("users.acl"), "user telemetry on >hidden ~* &* +@all\nuser default off\n").unwrap();
    });
    let file = |name: &str| server.dir().join(name);
    let tls = ClientTls {
        path: "redis.tls".to_owned(),
        ca_file: Some(file("server_ca.crt")),
        certificate: Some((file("client.crt"), file("client.key"))),
        server_name: Some("localhost".to_owned()),
    };
    let with = |password: &str, tls: &ClientTls| config::Redis {
        username: Some("telemetry".to_owned()),
        password: Some(password.into()),
        tls: Some(tls.clone()),
        connect_timeout: Duration::from_millis(1_500),
        ..config(&[server.port])
    };
    let bench = bench(&with("hidden", &tls)).await;
    for n in 0..100 {
        bench.send(&bench.record("VIN", n)).await;
    }
    assert_all(&bench.settled::<Patient>(100).await, Outcome::Delivered);
    let wrong = failure(&with("wrong-secret", &tls)).await;
    assert!(matches!(wrong, ConnectError::Config { .. }), "{wrong}");
    let text = wrong.to_string();
    assert!(text.contains("WRONGPASS") && text.contains("redis.password") && !text.contains("wrong-secret"), "{text}");
    let elsewhere = ClientTls { server_name: Some("elsewhere.example".to_owned()), ..tls.clone() };
    assert!(failure(&with("hidden", &elsewhere)).await.to_string().contains("elsewhere.example"));
    let anonymous = ClientTls { certificate: None, ..tls };
    let text = failure(&with("hidden", &anonymous)).await.to_string();
    assert!(text.starts_with("redis: redis_connect_error 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_with_what_happened() {
    let [first, second] = free_ports();
    let mode = RedisMode::Cluster;
    let nobody = config::Redis { mode, connect_timeout: Duration::from_millis(300), ..config(&[first, second]) };
    let error = failure(&nobody).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("127.0.0.1:{first}: ")) && text.contains(&format!("127.0.0.1:{second}: ")),
        "{text}"
    );
    assert!(text.contains("tried for 300ms (redis.connect_timeout)"), "{text}");
    let alone = Redis::start();
    let text =
        failure(&config::Redis { addresses: vec![("127.0.0.1".to_owned(), alone.port)], ..nobody }).await.to_string();
    assert!(text.contains("cluster support disabled"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: records per second, printed"]
async fn measures_the_rate() {
    let server = Redis::start();
    for (name, config) in [("streams", config(&[server.port])), ("channels", channels(&[server.port]))] {
        print!("{name}: ");
        measure(&bench(&config).await).await;
    }
}

/// What `docs/dispatchers/redis.md` shows works, with another address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_the_documentation_works() {
    let server = Redis::with(&["--requirepass", "of the test"], |_| ());
    let text = docs::configuration("redis").replace("redis.example:6379", &format!("127.0.0.1:{}", server.port));
    let env = Env::from_iter([("TELEMETRY_REDIS", "of the test")]);
    let (config, warnings) = config::resolve(FileConfig::parse(text.as_bytes()).unwrap(), &env).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.routes[0].deciders, [config::DispatcherName::Redis], "acked when it is in the stream");
    let topics = Topics::new([CUSTOM_TOPIC]);
    let redis_config = config.dispatchers.redis.clone().unwrap();
    let dispatcher = redis::connect(&redis_config, &config.dispatchers, &topics).await.expect("connects");
    let bench = Bench::over(Arc::new(dispatcher), topics, true);
    bench.send(&bench.record("VIN", 0)).await;
    assert_all(&bench.settled::<Patient>(1).await, Outcome::Delivered);
    let mut client = server.client();
    client.command(&[b"AUTH", b"of the test"]);
    assert_eq!(client.entries("tesla_telemetry_V").len(), 1);
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const VINS: [&str; 3] = ["A", "B", "C"];
/// Of each vehicle.
pub(crate) const RECORDS: usize = 1_000;

/// Vehicles that send, until all is acked; how much was.
pub(crate) async fn load(bench: &Bench) -> usize {
    let sending = async {
        for n in (0..RECORDS).map(|n| n * 5) {
            for vin in VINS {
                bench.send(&bench.record(vin, n)).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let settling = async {
        let mut acked = 0;
        while acked < VINS.len() * RECORDS {
            let settled = bench.some_settled::<Patient>().await;
            assert_all(&settled, Outcome::Delivered);
            acked += settled.len();
        }
        acked
    };
    tokio::join!(sending, settling).1
}

/// Every record of [`load`] is there, for the first time behind the one before it.
pub(crate) fn assert_in_order(client: &mut Client) {
    let entries = client.entries("tesla_V");
    for vin in VINS {
        let mut seen = HashSet::new();
        let of_vin = entries.iter().filter(|entry| entry["vin"] == vin.as_bytes());
        let first: Vec<_> = of_vin.map(|entry| number(&entry["txid"])).filter(|n| seen.insert(*n)).collect();
        assert!(first.iter().copied().eq((0..RECORDS).map(|n| n * 5)), "{vin}: {} of {RECORDS}", first.len());
    }
}

fn dispatchers() -> config::Dispatchers {
    config::Dispatchers { namespace: "tesla".to_owned(), ..Default::default() }
}

pub(crate) async fn bench(config: &config::Redis) -> Bench {
    let topics = Topics::new([CUSTOM_TOPIC]);
    let dispatcher = redis::connect(config, &dispatchers(), &topics).await.expect("connects");
    Bench::over(Arc::new(dispatcher), topics, true)
}

pub(crate) async fn failure(config: &config::Redis) -> ConnectError {
    redis::connect(config, &dispatchers(), &Topics::new([])).await.expect_err("nothing to connect to")
}

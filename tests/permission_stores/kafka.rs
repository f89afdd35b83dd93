//! A compacted topic, on a real broker.

use std::sync::Arc;
use std::time::Duration;

use fleet_telemetry::config::{self, PermissionStore};
use fleet_telemetry::grants::{Authority, ChangeError, Health};
use fleet_telemetry::metrics::Metrics;
use fleet_telemetry::permissions::{Permissions, State};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::support::fence::Fenced;
use super::support::kafka::{Broker, Message};
use super::{FOLLOWS, HOUR, SOON, change, configure, is_stale, open, try_open, until, withholds_everything};

fn config(broker: &Broker, topic: &str) -> config::Permissions {
    // Properties of the dispatcher's that would break this store's promises have no effect on it.
    config_with(topic, &[("bootstrap.servers", &broker.bootstrap()), ("acks", "1"), ("linger.ms", "3000")])
}

fn config_with(topic: &str, properties: &[(&str, &str)]) -> config::Permissions {
    let mut config = configure(PermissionStore::Kafka { topic: topic.to_owned() }, HOUR);
    config.kafka = Some(config::Kafka {
        properties: properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        max_unsettled: config::InFlight { records: 1000, bytes: 1 << 30 },
        connect_timeout: Duration::from_secs(20),
        unhealthy_after: Duration::from_secs(30),
    });
    config
}

fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_counts_can_be_scraped() {
    let config = config(Broker::shared(), "grants-counted");
    let metrics = Metrics::default();
    let permissions = Arc::new(Permissions::new(config.rules.clone()));
    let _authority = metrics.within(Authority::open(&config, permissions)).await.unwrap();
    let text = metrics.render();
    for client in ["reader", "writer"] {
        let line = format!("permission_client_replaced_total{{client=\"{client}\"}} 0\n");
        assert!(text.contains(&line), "no {line:?} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_one_log() {
    let broker = Broker::shared();
    let config = config(broker, "grants-shared");
    let (one, other) = (open(&config).await, open(&config).await);
    assert_eq!(other.authority.health(), Health::Loaded);
    one.grant("A").await;
    assert!(one.allows("A"), "in force before it returns");
    let delay = until("the other follows", FOLLOWS, || other.allows("A")).await;
    println!("a grant followed after {delay:?}");
    other.revoke("A").await;
    assert!(!other.allows("A"));
    let delay = until("the first follows", FOLLOWS, || !one.allows("A")).await;
    println!("a revocation followed after {delay:?}");

    one.grant("A").await;
    let mut late = change("A", State::Denied);
    late.expected_version = Some(2);
    let error = other.authority.change(late).await.unwrap_err();
    assert!(matches!(error, ChangeError::Conflict { expected: 2, actual: 3 }), "{error}");
    assert!(!other.authority.change(change("A", State::Granted)).await.unwrap().changed);
    assert!(other.allows("A"));
    let versions = |entries: Vec<_>| entries.into_iter().map(version).collect::<Vec<_>>();
    assert_eq!(versions(one.authority.history("A", 10).await.unwrap()), [3, 2, 1]);
    assert_eq!(versions(other.authority.history("A", 2).await.unwrap()), [3, 2]);
    one.revoke("A").await;

    drop((one, other));
    let third = open(&config).await;
    assert!(!third.allows("A"), "read to its end before it opens");
    assert_eq!(third.location("A").unwrap().version, 4);
}

fn version(entry: fleet_telemetry::grants::Entry) -> u64 {
    entry.grant.version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topic_is_made_compacted_and_one_that_forgets_is_refused() {
    let broker = Broker::shared();
    drop(open(&config(broker, "grants-made")).await);
    let (admin, options) = (admin(broker), AdminOptions::new());
    let described = admin.describe_configs([&ResourceSpecifier::Topic("grants-made")], &options).await.unwrap();
    let policy = described[0].as_ref().unwrap().get("cleanup.policy").unwrap().value.clone();
    assert_eq!(policy.as_deref(), Some("compact"));
    let forgetful = NewTopic::new("grants-forgetful", 1, TopicReplication::Fixed(1)).set("cleanup.policy", "delete");
    admin.create_topics([&forgetful], &options).await.unwrap()[0].as_ref().unwrap();
    let error = try_open(&config(broker, "grants-forgetful")).await.err().unwrap().to_string();
    assert!(error.contains("grants-forgetful") && error.contains("must be \"compact\""), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_are_confirmed_together_and_read_back() {
    let broker = Broker::shared();
    let config = config(broker, "grants-many");
    let instance = open(&config).await;
    let changes: Vec<_> = (0..2500).map(|n| change(&format!("VIN{n}"), State::Granted)).collect();
    let imported = instance.authority.import(changes).await.unwrap();
    assert_eq!((imported.changed, imported.unchanged), (2500, 0));
    assert!(instance.allows("VIN0") && instance.allows("VIN2499"));
    let again = open(&config).await;
    assert!((0..2500).all(|n| again.allows(&format!("VIN{n}"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_counts_as_a_refusal() {
    let broker = Broker::shared();
    let config = config(broker, "grants-foreign");
    let instance = open(&config).await;
    instance.grant("A").await;
    instance.grant("B").await;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap();
    let send = |key: &str, value: &str| {
        producer.send(BaseRecord::to("grants-foreign").key(key).payload(value)).map_err(|(error, _)| error).unwrap();
    };
    send("A|vehicle_location", "nonsense");
    send("nonsense", "nonsense");
    producer.send(BaseRecord::<str, str>::to("grants-foreign").key("B|vehicle_location")).unwrap();
    producer.flush(SOON).unwrap();
    until("refused", FOLLOWS, || !instance.allows("A")).await;
    assert_eq!(instance.location("A").unwrap().state, State::Denied);
    until("a tombstone removes", FOLLOWS, || instance.location("B").is_none()).await;
    assert_eq!(instance.grant("A").await.version, 3, "and it goes on");
    assert!(instance.allows("A") && instance.authority.health() == Health::Loaded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_leaves_what_is_known_for_a_while_and_comes_back() {
    let broker = Broker::start();
    let mut config = config(&broker, "grants");
    config.max_stale = Duration::from_secs(8);
    let instance = open(&config).await;
    instance.grant("A").await;
    instance.revoke("B").await;
    broker.pause();
    until("slow is stale", Duration::from_secs(7), || is_stale(&instance.authority.health(), "topic grants")).await;
    assert!(instance.allows("A") && !instance.allows("B"));
    broker.resume();
    until("it answers again", SOON, || instance.authority.health() == Health::Loaded).await;
    broker.kill();
    until("stale", Duration::from_secs(7), || is_stale(&instance.authority.health(), "topic grants")).await;
    assert!(instance.allows("A") && !instance.allows("B"));
    let error = instance.authority.change(change("A", State::Denied)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Store(_)), "{error}");
    until("lost", SOON, || matches!(instance.authority.health(), Health::Lost { .. })).await;
    assert!(withholds_everything(&instance.permissions));
    broker.restart();
    until("in force again", SOON, || instance.allows("A")).await;
    instance.revoke("A").await;
    assert!(!instance.allows("A"));
    drop(instance);
    let again = open(&config).await;
    assert!(!again.allows("A") && !again.allows("B"));
}

/// The clients forget their brokers and, as they are told here, do not ask the bootstrap servers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_have_lost_kafka_are_replaced() {
    let broker = Fenced::start(&["grants-lost"]);
    let servers = broker.bootstrap();
    let config = config_with(
        "grants-lost",
        &[
            ("bootstrap.servers", &servers),
            ("metadata.recovery.strategy", "none"),
            ("topic.metadata.refresh.interval.ms", "100"),
        ],
    );
    let instance = open(&config).await;
    instance.grant("A").await;
    for round in 0..2 {
        // Fenced first, then cut off: both clients ask again.
        tokio::join!(broker.fence(Duration::from_secs(2)), async { broker.cut() });
        until("it has lost Kafka", SOON, || is_stale(&instance.authority.health(), "topic grants-lost")).await;
        assert!(instance.allows("A"), "what is known stays in force");
        until("it has found Kafka", SOON, || instance.authority.health() == Health::Loaded).await;
        let vin = format!("B{round}");
        instance.grant(&vin).await;
        assert!(instance.allows(&vin), "changes are confirmed again, the first one at once");
    }
    instance.revoke("A").await;
    let again = open(&config).await;
    assert!(!again.allows("A") && again.allows("B0") && again.allows("B1"));
}

/// As above; the store is another one, and no change waits for the audit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audits_producer_that_has_lost_kafka_is_replaced_and_its_records_arrive_in_order() {
    let broker = Fenced::start(&["audit-lost"]);
    let servers = broker.bootstrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grants.json");
    std::fs::write(&path, "{\"version\": 1, \"grants\": []}").unwrap();
    let mut config = config_with(
        "unused",
        &[
            ("bootstrap.servers", &servers),
            ("metadata.recovery.strategy", "none"),
            ("topic.metadata.refresh.interval.ms", "100"),
        ],
    );
    config.store = PermissionStore::File { path };
    config.audit_topic = Some("audit-lost".to_owned());
    let metrics = Metrics::default();
    let permissions = Arc::new(Permissions::new(config.rules.clone()));
    let authority = metrics.within(Authority::open(&config, permissions)).await.unwrap();
    let versions = || -> Vec<u64> {
        let value = |message: &Message| serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap();
        broker.consume("audit-lost").iter().map(|message| value(message)["version"].as_u64().unwrap()).collect()
    };
    authority.change(change("A", State::Granted)).await.unwrap();
    until("the first record arrives", SOON, || versions() == [1]).await;
    // It forgets its brokers, and loses the connection that it still has.
    tokio::join!(broker.fence(Duration::from_secs(2)), async { broker.cut() });
    for state in [State::Denied, State::Granted, State::Denied] {
        authority.change(change("A", state)).await.unwrap();
    }
    until("the others arrive", SOON, || versions() == [1, 2, 3, 4]).await;
    let replaced = "permission_client_replaced_total{client=\"audit\"} 1";
    assert!(metrics.render().contains(replaced), "{}", metrics.render());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_made_anew_is_not_believed() {
    let broker = Broker::shared();
    let config = config(broker, "grants-anew");
    let instance = open(&config).await;
    instance.revoke("A").await;
    instance.grant("B").await;
    let (admin, options) = (admin(broker), AdminOptions::new());
    admin.delete_topics(&["grants-anew"], &options).await.unwrap()[0].as_ref().unwrap();
    until("gone", SOON, || is_stale(&instance.authority.health(), "topic grants-anew")).await;
    let again = open(&config).await;
    until("shorter", SOON, || is_stale(&instance.authority.health(), "become shorter")).await;
    for vin in ["C", "D", "E"] {
        again.grant(vin).await;
    }
    tokio::time::sleep(FOLLOWS).await;
    assert!(is_stale(&instance.authority.health(), "become shorter"), "also when it is longer again");
    assert!(instance.allows("B") && instance.location("A").is_some(), "until max_stale");
    let error = instance.authority.change(change("A", State::Granted)).await.unwrap_err().to_string();
    assert!(error.contains("become shorter"), "{error}");
}

#[tokio::test]
async fn without_a_broker_it_does_not_open_and_nothing_is_let_through() {
    let mut config = configure(PermissionStore::Kafka { topic: "grants".to_owned() }, HOUR);
    config.kafka = Some(config::Kafka {
        properties: [("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())].into(),
        max_unsettled: config::InFlight { records: 1000, bytes: 1 << 30 },
        connect_timeout: Duration::from_secs(1),
        unhealthy_after: Duration::from_secs(30),
    });
    let error = try_open(&config).await.err().unwrap().to_string();
    assert!(error.contains("topic grants") && error.contains("no broker answers"), "{error}");
}

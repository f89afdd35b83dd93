//! Kafka that is there and takes nothing, and producers that cannot go on.

use std::time::{Duration, Instant};

use fleet_telemetry::dispatch::{ConnectError, Dispatcher as _, Health, Outcome};
use fleet_telemetry::metrics::Metrics;
use fleet_telemetry::record::RecordKind;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::kafka::{Connected, SOON, Setup, all, fleet, mock, numbers_by_vin, outcomes, record};
use crate::support::fence::Fenced;
use crate::support::kafka::{Message, consume};

const REMEDY: &str = "enable.idempotence to false";

/// One message a request, sent at once: what stops in the middle stops between records.
const ONE_BY_ONE: [(&str, &str); 2] = [("batch.num.messages", "1"), ("linger.ms", "0")];

/// With its metrics.
async fn connect(setup: Setup) -> (Connected, Metrics) {
    let metrics = Metrics::default();
    let mut connecting = std::pin::pin!(setup.connect());
    let connected = std::future::poll_fn(|cx| metrics.scope(|| connecting.as_mut().poll(cx))).await.unwrap();
    (connected, metrics)
}

fn metric(metrics: &Metrics, line: &str) -> u64 {
    let rendered = metrics.render();
    let value = rendered.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {line} in\n{rendered}"))
}

/// Hands every record over, waiting for room where there is none.
async fn send_all(kafka: &Connected, count: u32) {
    for record in fleet(count) {
        let mut blocked = kafka.route.dispatch(&record, Some(&kafka.outlet)).err();
        while let Some(waiting) = blocked.take() {
            kafka.route.blocked_at(&waiting).outbox().room().await;
            blocked = kafka.route.resume(waiting, Some(&kafka.outlet)).err();
        }
    }
}

/// Of every vehicle: all numbers below `count`, each for the first time after the one before it.
fn assert_first_appearances_in_order(messages: &[Message], count: u32) {
    let by_vin = numbers_by_vin(messages);
    assert_eq!(by_vin.len(), 3);
    for (vin, numbers) in by_vin {
        let mut seen = std::collections::HashSet::new();
        let first: Vec<_> = numbers.iter().copied().filter(|number| seen.insert(*number)).collect();
        assert!(first.iter().copied().eq(0..count), "{vin}: {numbers:?}");
    }
}

/// The client forgets its brokers and, as it is told here, does not ask the bootstrap servers again.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_has_lost_kafka_is_replaced_and_loses_neither_records_nor_their_order() {
    let broker = Fenced::start(&["stuck_V"]);
    let properties = vec![
        ("metadata.recovery.strategy", "none"),
        ("topic.metadata.refresh.interval.ms", "100"),
        ONE_BY_ONE[0],
        ONE_BY_ONE[1],
    ];
    let setup = Setup { properties, ..Setup::new(broker.bootstrap(), "stuck") };
    let (kafka, metrics) = connect(setup).await;
    kafka.send(&record("VIN0", RecordKind::V, b"first", &0_u32.to_be_bytes()));
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));

    // Slow answers, so that some are on their way when the client forgets its broker.
    broker.mock().broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
    let sending = async {
        send_all(&kafka, 100).await;
    };
    tokio::join!(broker.fence(Duration::from_secs(1)), sending);
    kafka.until("it has lost Kafka", |health| matches!(health, Health::Unhealthy(_))).await;
    broker.mock().broker_round_trip_time(1, Duration::ZERO).unwrap();
    let start = Instant::now();
    let settled = kafka.settled(300).await;
    println!("settled {:?} after the broker is back", start.elapsed());
    assert!(all(&settled, Outcome::Delivered));
    assert_eq!(kafka.kafka.outbox().used().records, 0);
    assert_eq!(kafka.kafka.health(), Health::Healthy);
    assert_eq!(metric(&metrics, r#"kafka_producer_replaced_total{reason="stuck"}"#), 1);
    assert!(metric(&metrics, "kafka_returned_total") > 0);
    let mut messages = broker.consume("stuck_V");
    messages.retain(|message| message.key != b"VIN0");
    assert_first_appearances_in_order(&messages, 100);
    assert!(messages.iter().all(|message| message.headers.len() == 8 && message.header("record_id").is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_loses_neither_records_nor_their_order() {
    let mock = mock();
    let setup = Setup { properties: ONE_BY_ONE.into(), ..Setup::new(mock.bootstrap_servers(), "fatal") };
    let (kafka, metrics) = connect(setup).await;
    send_all(&kafka, 1).await;
    assert!(all(&kafka.settled(3).await, Outcome::Delivered));
    mock.broker_round_trip_time(1, Duration::from_millis(20)).unwrap();
    let passing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    let broken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[passing, passing, broken]);
    send_all(&kafka, 100).await;
    assert!(all(&kafka.settled(300).await, Outcome::Delivered));
    assert_eq!(metric(&metrics, r#"kafka_producer_replaced_total{reason="fatal"}"#), 1);
    assert_eq!(kafka.kafka.outbox().used().records, 0);
    let messages = consume(&mock.bootstrap_servers(), "fatal_V");
    // The first round of the fleet has the number that the second begins with.
    assert_first_appearances_in_order(&messages, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_delivers_what_a_broken_producer_gave_back() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "closing").connect().await.unwrap();
    mock.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let broken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[broken]);
    kafka.send(&record("VIN1", RecordKind::V, b"tx", b"payload"));
    kafka.kafka.close(Instant::now() + SOON).await;
    assert_eq!(outcomes(&kafka.settles_within(Duration::ZERO, 1).await), [(&b"tx"[..], Outcome::Delivered)]);
}

/// Sends a record every 50 ms until the dispatcher's health is as wanted; the reason.
async fn keep_sending(kafka: &Connected, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
    let deadline = Instant::now() + 2 * SOON;
    loop {
        let _ = kafka.route.dispatch(&record("VIN1", RecordKind::V, b"tx", b"payload"), Some(&kafka.outlet));
        let health = kafka.kafka.health();
        if wanted(&health) {
            return health;
        }
        assert!(Instant::now() < deadline, "{what}: still {health:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn reason(health: &Health) -> &str {
    match health {
        Health::Unhealthy(reason) => reason,
        Health::Healthy => panic!("healthy"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_refuse_every_record_make_it_unhealthy_in_their_words_until_they_accept_one() {
    for (namespace, error, words) in [
        ("denied", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed"),
        ("policy", RDKafkaRespErr::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "Policy violation"),
    ] {
        let mock = mock();
        let unhealthy_after = Duration::from_secs(1);
        let setup = Setup { unhealthy_after, ..Setup::new(mock.bootstrap_servers(), namespace) };
        let kafka = setup.connect().await.unwrap();
        kafka.send(&record("VIN1", RecordKind::V, b"tx", b"payload"));
        assert!(all(&kafka.settled(1).await, Outcome::Delivered));
        mock.request_errors(RDKafkaApiKey::Produce, &[error; 1000]);
        let health = keep_sending(&kafka, namespace, |health| matches!(health, Health::Unhealthy(_))).await;
        let text = reason(&health);
        assert!(text.contains("was refused") && text.contains(words), "{text}");
        mock.clear_request_errors(RDKafkaApiKey::Produce);
        keep_sending(&kafka, "it accepts again", |health| *health == Health::Healthy).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_makes_it_unhealthy() {
    let mock = mock();
    mock.topic_error("missing_V", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let setup = Setup {
        unhealthy_after: Duration::from_secs(1),
        properties: vec![("topic.metadata.propagation.max.ms", "0")],
        ..Setup::new(mock.bootstrap_servers(), "missing")
    };
    let kafka = setup.connect().await.unwrap();
    let refused = |health: &Health| matches!(health, Health::Unhealthy(text) if text.contains("Unknown topic"));
    let health = keep_sending(&kafka, "the topic is missing", refused).await;
    assert!(reason(&health).contains("missing_V"), "{health:?}");
}

/// librdkafka tries for ever, as it is told to, and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_wait_without_an_end_make_it_unhealthy_until_one_is_delivered() {
    let mock = mock();
    let unhealthy_after = Duration::from_secs(1);
    let setup = Setup { unhealthy_after, ..Setup::new(mock.bootstrap_servers(), "replicas") };
    let kafka = setup.connect().await.unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
    kafka.send(&record("VIN1", RecordKind::V, b"tx", b"payload"));
    kafka.until("nothing is confirmed", |health| matches!(health, Health::Unhealthy(_))).await;
    let health = kafka.kafka.health();
    assert!(
        reason(&health).contains("no record was confirmed for") && reason(&health).contains("1 wait"),
        "{health:?}"
    );
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));
    kafka.until("it is confirmed", |health| *health == Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_for_a_partition_without_a_leader_make_it_unhealthy_and_it_says_so() {
    let mock = mock();
    mock.create_topic("leaderless_V", 1, 1).unwrap();
    let unhealthy_after = Duration::from_secs(1);
    let setup = Setup { unhealthy_after, ..Setup::new(mock.bootstrap_servers(), "leaderless") };
    let kafka = setup.connect().await.unwrap();
    mock.partition_leader("leaderless_V", 0, None).unwrap();
    kafka.send(&record("VIN1", RecordKind::V, b"tx", b"payload"));
    let words = "topic leaderless_V: partition 0 has no leader";
    kafka.until("no leader", |health| matches!(health, Health::Unhealthy(text) if text.contains(words))).await;
    mock.partition_leader("leaderless_V", 0, Some(1)).unwrap();
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));
    kafka.until("it has a leader", |health| *health == Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_give_no_producer_id_end_the_start_with_the_remedy() {
    let old = mock();
    old.apiversion(RDKafkaApiKey::InitProducerId, None, None).unwrap();
    let denying = mock();
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 100];
    denying.request_errors(RDKafkaApiKey::InitProducerId, &denied);
    for broker in [&old, &denying] {
        let start = Instant::now();
        let error = Setup::new(broker.bootstrap_servers(), "n").connect().await.err().expect("no id");
        assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
        assert!(matches!(error, ConnectError::Config { .. }) && error.to_string().contains(REMEDY), "{error}");
        let properties = vec![("enable.idempotence", "f")];
        let kafka = Setup { properties, ..Setup::new(broker.bootstrap_servers(), "n") }.connect().await.unwrap();
        kafka.send(&record("VIN1", RecordKind::V, b"tx", b"payload"));
        assert!(all(&kafka.settled(1).await, Outcome::Delivered));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_on_putting_the_producer_id_off_end_the_start_in_time() {
    let mock = mock();
    let busy = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 1000];
    mock.request_errors(RDKafkaApiKey::InitProducerId, &busy);
    let setup = Setup { connect_timeout: Duration::from_secs(2), ..Setup::new(mock.bootstrap_servers(), "n") };
    let error = setup.connect().await.err().expect("no id");
    let text = error.to_string();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{text}");
    assert!(text.contains(REMEDY) && text.contains("Coordinator load in progress"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_gets_no_id_any_more_says_so_and_its_successors_take_their_time() {
    let mock = mock();
    let (kafka, metrics) = connect(Setup::new(mock.bootstrap_servers(), "ids")).await;
    kafka.send(&record("VIN1", RecordKind::V, b"first", b"payload"));
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));
    let denied = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 1000];
    mock.request_errors(RDKafkaApiKey::InitProducerId, &denied);
    let broken = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[broken]);
    kafka.send(&record("VIN1", RecordKind::V, b"second", b"payload"));
    kafka.until("no id", |health| matches!(health, Health::Unhealthy(text) if text.contains(REMEDY))).await;
    let settled = kafka.settles_within(Duration::from_secs(6), 1).await;
    assert_eq!(outcomes(&settled), [], "it waits");
    let replaced = metric(&metrics, r#"kafka_producer_replaced_total{reason="fatal"}"#);
    assert!((2..=7).contains(&replaced), "{replaced} producers in six seconds");
    assert!(matches!(kafka.kafka.health(), Health::Unhealthy(_)));

    mock.clear_request_errors(RDKafkaApiKey::InitProducerId);
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"second"[..], Outcome::Delivered)]);
    kafka.until("it has its id", |health| *health == Health::Healthy).await;
}

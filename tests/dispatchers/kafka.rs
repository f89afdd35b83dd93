//! What only Kafka does; what every dispatcher must do is in the contract suite.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_telemetry::config::{self, DispatcherName};
use fleet_telemetry::dispatch::kafka::Kafka;
use fleet_telemetry::dispatch::{
    ConnectError, Dispatcher, DispatcherMetrics, Health, Outcome, Outlet, Route, Settled, Target,
};
use fleet_telemetry::identity::{ClientType, Identity};
use fleet_telemetry::record::{Origin, Received, Record, RecordKind, Topics};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::kafka::{Broker, Message, consume};

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A connected dispatcher as the only one of a route.
pub(crate) struct Connected {
    pub(crate) kafka: Arc<Kafka>,
    pub(crate) route: Route,
    pub(crate) outlet: Arc<Outlet>,
}

/// What a test wants other than the default.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) bootstrap: String,
    pub(crate) namespace: &'static str,
    pub(crate) json: bool,
    pub(crate) max_unsettled: usize,
    pub(crate) properties: Vec<(&'static str, &'static str)>,
    pub(crate) connect_timeout: Duration,
    pub(crate) unhealthy_after: Duration,
}

impl Setup {
    pub(crate) fn new(bootstrap: impl Into<String>, namespace: &'static str) -> Self {
        Self {
            bootstrap: bootstrap.into(),
            namespace,
            json: false,
            max_unsettled: 10_000,
            properties: Vec::new(),
            connect_timeout: Duration::from_secs(20),
            unhealthy_after: Duration::from_secs(30),
        }
    }

    pub(crate) async fn connect(self) -> Result<Connected, ConnectError> {
        let mut properties: BTreeMap<String, String> =
            self.properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        properties.insert("bootstrap.servers".to_owned(), self.bootstrap);
        let Self { max_unsettled, connect_timeout, unhealthy_after, .. } = self;
        let max_unsettled = config::InFlight { records: max_unsettled, bytes: 1 << 30 };
        let config = config::Kafka { properties, max_unsettled, connect_timeout, unhealthy_after };
        let form = if self.json { config::Form::Json } else { config::Form::Protobuf };
        let targets = [(DispatcherName::Kafka, config::Target { form, ..config::Target::default() })].into();
        let dispatchers = config::Dispatchers { namespace: self.namespace.to_owned(), targets, ..Default::default() };
        let topics = Topics::new(["custom"]);
        let kafka = Arc::new(Kafka::connect(&config, &dispatchers, &topics).await?);
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Kafka, &topics));
        let target = Target::new(Arc::clone(&kafka) as Arc<dyn Dispatcher>, metrics);
        Ok(Connected {
            kafka,
            route: Route::new(vec![target], &[DispatcherName::Kafka]),
            outlet: Arc::new(Outlet::default()),
        })
    }
}

impl Connected {
    pub(crate) fn send(&self, record: &Record) {
        self.route.dispatch(record, Some(&self.outlet)).expect("there is room");
    }

    /// Waits for `count` outcomes, then makes sure that there are no more.
    pub(crate) async fn settled(&self, count: usize) -> Vec<Settled> {
        let mut settled = self.settles_within(SOON, count).await;
        settled.extend(self.settles_within(Duration::from_millis(200), usize::MAX).await);
        assert_eq!(settled.len(), count, "every record settles exactly once");
        settled
    }

    /// What settles until there are `count` or `time` is over.
    pub(crate) async fn settles_within(&self, time: Duration, count: usize) -> Vec<Settled> {
        let deadline = tokio::time::Instant::now() + time;
        let mut settled = Vec::new();
        while settled.len() < count {
            let more = poll_fn(|cx| self.outlet.poll_settled(cx, &mut settled));
            if tokio::time::timeout_at(deadline, more).await.is_err() {
                break;
            }
        }
        settled
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Health) -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition(&self.kafka.health()) {
            assert!(Instant::now() < deadline, "{what}: still {:?}", self.kafka.health());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn outcomes(settled: &[Settled]) -> Vec<(&[u8], Outcome)> {
    settled.iter().map(|settled| (settled.record.txid(), settled.outcome)).collect()
}

pub(crate) fn all(settled: &[Settled], outcome: Outcome) -> bool {
    settled.iter().all(|settled| settled.outcome == outcome)
}

pub(crate) fn record(vin: &str, kind: RecordKind, txid: &[u8], payload: &[u8]) -> Record {
    let origin = Origin {
        identity: Identity::new(ClientType::VehicleDevice, vin),
        connection_id: "connection".into(),
        network_interface: "wifi".into(),
        client_version: "1.2.3".into(),
    };
    Record::from_parts(kind, payload, txid, Arc::new(origin), Received::now())
}

/// `count` numbered records for each of three vehicles, interleaved.
pub(crate) fn fleet(count: u32) -> Vec<Record> {
    let number = |n: u32| n.to_be_bytes();
    (0..count)
        .flat_map(|n| ["VIN1", "VIN2", "VIN3"].map(|vin| record(vin, RecordKind::V, &number(n), &number(n))))
        .collect()
}

/// The numbers that each vehicle's records carry, in the order of their partition.
pub(crate) fn numbers_by_vin(messages: &[Message]) -> HashMap<String, Vec<u32>> {
    let mut by_vin: HashMap<String, Vec<u32>> = HashMap::new();
    for message in messages {
        let vin = String::from_utf8(message.key.clone()).unwrap();
        by_vin.entry(vin).or_default().push(u32::from_be_bytes(message.payload[..].try_into().unwrap()));
    }
    by_vin
}

fn assert_complete_and_in_order(messages: &[Message], count: u32) {
    let by_vin = numbers_by_vin(messages);
    assert_eq!(by_vin.len(), 3);
    for (vin, numbers) in by_vin {
        assert!(numbers.iter().copied().eq(0..count), "{vin}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_topic_key_headers_and_payload_bytes() {
    let broker = Broker::shared();
    let kafka = Setup::new(broker.bootstrap(), "shape").connect().await.unwrap();
    let sent = record("VIN1", RecordKind::V, b"\x00tx\xff", b"\x0a\x00payload");
    kafka.send(&sent);
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"\x00tx\xff"[..], Outcome::Delivered)]);

    let messages = broker.consume("shape_V");
    let [message] = &messages[..] else { panic!("one message, not {messages:?}") };
    assert_eq!(message.key, b"VIN1");
    assert_eq!(message.payload, b"\x0a\x00payload");
    let received_at = sent.received().epoch_ms;
    assert_eq!(message.timestamp, i64::try_from(received_at).unwrap());
    let id = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(b"VIN1\0V\0\x00tx\xff\0\x0a\x00payload"));
    let expected: Vec<(String, Vec<u8>)> = [
        ("vin", &b"VIN1"[..]),
        ("receivedat", received_at.to_string().as_bytes()),
        ("timestamp", b"0"),
        ("txid", b"\x00tx\xff"),
        ("txtype", b"V"),
        ("version", b"0"),
        ("device_client_version", b"1.2.3"),
        ("record_id", id.as_bytes()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_vec()))
    .into();
    assert_eq!(message.headers, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_every_record_type_to_its_own_topic() {
    let broker = Broker::shared();
    let kafka = Setup::new(broker.bootstrap(), "types").connect().await.unwrap();
    let kinds = [
        (RecordKind::V, "V"),
        (RecordKind::Alerts, "alerts"),
        (RecordKind::Errors, "errors"),
        (RecordKind::Connectivity, "connectivity"),
        (RecordKind::Custom(0), "custom"),
    ];
    for (kind, name) in kinds {
        kafka.send(&record("VIN1", kind, b"tx", name.as_bytes()));
    }
    assert!(all(&kafka.settled(kinds.len()).await, Outcome::Delivered));
    for (_, name) in kinds {
        let messages = broker.consume(&format!("types_{name}"));
        assert_eq!(messages.len(), 1, "{name}");
        assert_eq!(messages[0].payload, name.as_bytes());
        assert_eq!(messages[0].header("txtype"), Some(name.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_mode_sends_the_rendered_payload_under_the_same_record_id() {
    let broker = Broker::shared();
    let record = record("VIN1", RecordKind::V, b"tx", b"");
    let mut ids = Vec::new();
    for (namespace, json) in [("binary", false), ("json", true)] {
        let kafka = Setup { json, ..Setup::new(broker.bootstrap(), namespace) }.connect().await.unwrap();
        kafka.send(&record);
        assert!(all(&kafka.settled(1).await, Outcome::Delivered));
        let message = broker.consume(&format!("{namespace}_V")).remove(0);
        let expected = if json { record.json().unwrap() } else { record.payload() };
        assert_eq!(message.payload, expected);
        ids.push(message.header("record_id").unwrap().to_vec());
    }
    assert!(!record.json().unwrap().is_empty());
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_only_after_the_broker_confirms() {
    let broker = Broker::start();
    let kafka = Setup::new(broker.bootstrap(), "paused").connect().await.unwrap();
    kafka.send(&record("VIN1", RecordKind::V, b"before", &0_u32.to_be_bytes()));
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));

    broker.pause();
    for record in fleet(50) {
        kafka.send(&record);
    }
    let settled = kafka.settles_within(Duration::from_secs(2), 1).await;
    assert_eq!(outcomes(&settled), [], "nothing is confirmed, nothing settles");
    assert_eq!(kafka.kafka.queue_size().buffer, 150);

    broker.resume();
    assert!(all(&kafka.settled(150).await, Outcome::Delivered));
    assert_eq!(kafka.kafka.outbox().used().records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn delivers_in_order_once_a_killed_broker_is_back() {
    let broker = Broker::start();
    let kafka = Setup::new(broker.bootstrap(), "killed").connect().await.unwrap();
    let records = fleet(200);
    let (before, after) = records.split_at(300);
    // Killed with requests in flight: no waiting for these.
    before.iter().for_each(|record| kafka.send(record));
    broker.kill();
    after.iter().for_each(|record| kafka.send(record));
    let early = kafka.settles_within(Duration::from_secs(2), usize::MAX).await;
    assert!(early.len() <= before.len() && all(&early, Outcome::Delivered));
    kafka.until("the broker is gone", |health| matches!(health, Health::Unhealthy(_))).await;

    broker.restart();
    let late = kafka.settled(records.len() - early.len()).await;
    assert!(all(&late, Outcome::Delivered));
    assert_eq!(kafka.kafka.health(), Health::Healthy);
    assert_complete_and_in_order(&broker.consume("killed_V"), 200);

    // Without any traffic, too, or a server that gets no vehicles while it is not ready would stay so.
    broker.kill();
    kafka.until("the broker is gone again", |health| matches!(health, Health::Unhealthy(_))).await;
    broker.restart();
    kafka.until("the broker is back again", |health| *health == Health::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn close_delivers_what_is_held() {
    let broker = Broker::shared();
    // A linger far beyond the test: only the flush can send these.
    let properties = vec![("linger.ms", "60000")];
    let kafka = Setup { properties, ..Setup::new(broker.bootstrap(), "flushed") }.connect().await.unwrap();
    for record in fleet(10) {
        kafka.send(&record);
    }
    assert!(kafka.settles_within(Duration::from_millis(300), 1).await.is_empty());
    kafka.kafka.close(Instant::now() + SOON).await;
    assert!(all(&kafka.settles_within(Duration::ZERO, 30).await, Outcome::Delivered));
    assert_complete_and_in_order(&broker.consume("flushed_V"), 10);

    kafka.send(&record("VIN1", RecordKind::V, b"late", b""));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"late"[..], Outcome::Lost)]);
}

/// One broker inside this process that fails on demand.
pub(crate) fn mock() -> MockCluster<'static, DefaultProducerContext> {
    MockCluster::new(1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn close_gives_up_at_its_deadline() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "given_up").connect().await.unwrap();
    mock.broker_down(1).unwrap();
    for record in fleet(5) {
        kafka.send(&record);
    }
    let start = Instant::now();
    kafka.kafka.close(start + Duration::from_millis(500)).await;
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(all(&kafka.settled(15).await, Outcome::Lost));
    assert_eq!(kafka.kafka.outbox().used().records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_dropped_dispatcher_are_lost() {
    let mock = mock();
    let Connected { kafka, route, outlet } = Setup::new(mock.bootstrap_servers(), "n").connect().await.unwrap();
    mock.broker_down(1).unwrap();
    route.dispatch(&record("VIN1", RecordKind::V, b"tx", b""), Some(&outlet)).unwrap();
    drop((kafka, route));
    let mut settled = Vec::new();
    poll_fn(|cx| outlet.poll_settled(cx, &mut settled)).await;
    assert_eq!(outcomes(&settled), [(&b"tx"[..], Outcome::Lost)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_blocks_until_a_report_makes_room() {
    blocks_and_goes_on(|setup| setup.max_unsettled = 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_client_queue_blocks_until_a_report_makes_room() {
    blocks_and_goes_on(|setup| setup.properties.push(("queue.buffering.max.messages", "3"))).await;
}

async fn blocks_and_goes_on(limit_to_three: impl Fn(&mut Setup)) {
    let mock = mock();
    let mut setup = Setup::new(mock.bootstrap_servers(), "full");
    limit_to_three(&mut setup);
    let kafka = setup.connect().await.unwrap();
    mock.broker_down(1).unwrap();
    let records = fleet(2);
    records[..3].iter().for_each(|record| kafka.send(record));
    let blocked = kafka.route.dispatch(&records[3], Some(&kafka.outlet)).expect_err("three fit");
    assert_eq!(kafka.kafka.outbox().used().records, 3, "a record that was refused holds no place");
    let blocked = kafka.route.resume(blocked, Some(&kafka.outlet)).expect_err("still full");

    mock.broker_up(1).unwrap();
    let mut blocked = Some(blocked);
    tokio::time::timeout(SOON, async {
        while let Some(waiting) = blocked.take() {
            kafka.route.blocked_at(&waiting).outbox().room().await;
            blocked = kafka.route.resume(waiting, Some(&kafka.outlet)).err();
        }
    })
    .await
    .expect("room comes back");
    assert!(all(&kafka.settled(4).await, Outcome::Delivered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_is_lost_and_the_next_is_delivered() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "refused").connect().await.unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    kafka.send(&record("VIN1", RecordKind::V, b"refused", b"payload"));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"refused"[..], Outcome::Lost)]);
    kafka.send(&record("VIN1", RecordKind::V, b"next", b"payload"));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"next"[..], Outcome::Delivered)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_with_others_in_flight_loses_one_record_and_no_order() {
    let mock = mock();
    let properties = vec![("batch.num.messages", "1"), ("linger.ms", "0")];
    let kafka = Setup { properties, ..Setup::new(mock.bootstrap_servers(), "gap") }.connect().await.unwrap();
    // Slow answers, so that several requests are in flight when the first is refused.
    mock.broker_round_trip_time(1, Duration::from_millis(50)).unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    for n in 0..30_u32 {
        kafka.send(&record("VIN1", RecordKind::V, &n.to_be_bytes(), &n.to_be_bytes()));
    }
    let settled = kafka.settled(30).await;
    let lost: Vec<&[u8]> =
        settled.iter().filter(|s| s.outcome == Outcome::Lost).map(|settled| settled.record.txid()).collect();
    assert_eq!(lost, [0_u32.to_be_bytes()]);
    let arrived = numbers_by_vin(&consume(&mock.bootstrap_servers(), "gap_V")).remove("VIN1").unwrap();
    assert!(arrived.iter().copied().eq(1..30), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_broker_is_lost_and_the_others_keep_their_order() {
    let broker = Broker::shared();
    // The client lets it pass; one message per request, so that others are in flight around it.
    let properties = vec![("message.max.bytes", "4000000"), ("batch.num.messages", "1"), ("linger.ms", "0")];
    let kafka = Setup { properties, ..Setup::new(broker.bootstrap(), "large") }.connect().await.unwrap();
    let number = |n: u32| n.to_be_bytes();
    for n in 0..100 {
        if n == 50 {
            kafka.send(&record("VIN1", RecordKind::V, b"huge", &vec![0; 2 << 20]));
        }
        kafka.send(&record("VIN1", RecordKind::V, &number(n), &number(n)));
    }
    let settled = kafka.settled(101).await;
    let lost: Vec<&[u8]> =
        settled.iter().filter(|s| s.outcome == Outcome::Lost).map(|settled| settled.record.txid()).collect();
    assert_eq!(lost, [b"huge"]);
    let arrived = numbers_by_vin(&broker.consume("large_V")).remove("VIN1").unwrap();
    assert!(arrived.iter().copied().eq(0..100), "{arrived:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_the_client_is_lost_at_once() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "large").connect().await.unwrap();
    kafka.send(&record("VIN1", RecordKind::V, b"huge", &vec![0; 2 << 20]));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"huge"[..], Outcome::Lost)]);
    assert_eq!(kafka.kafka.outbox().used().records, 0);
    // The longest payload that a vehicle may send fits.
    kafka.send(&record("VIN1", RecordKind::V, b"longest", &vec![0; 1_000_000]));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"longest"[..], Outcome::Delivered)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_what_the_broker_refuses_for_now() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "retried").connect().await.unwrap();
    let passing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    mock.request_errors(RDKafkaApiKey::Produce, &[passing, passing, passing]);
    for record in fleet(20) {
        kafka.send(&record);
    }
    assert!(all(&kafka.settled(60).await, Outcome::Delivered));
}

/// A broker that takes whatever sequence number comes first, as Kafka does from a producer that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_a_later_one_vouches_for_is_sent_again_before_it_counts_as_delivered() {
    let mock = mock();
    // One message per request, and an answer that comes when all of them are on their way.
    mock.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let properties = vec![("batch.num.messages", "1"), ("linger.ms", "0")];
    let kafka = Setup { properties, ..Setup::new(mock.bootstrap_servers(), "vouched") }.connect().await.unwrap();
    kafka.send(&record("VIN1", RecordKind::V, b"first", b"payload"));
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));

    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
    for txid in [b"second", b"third_"] {
        kafka.send(&record("VIN1", RecordKind::V, txid, b"payload"));
    }
    assert!(all(&kafka.settled(2).await, Outcome::Delivered));
    assert_eq!(kafka.kafka.outbox().used().records, 0);
    let messages = consume(&mock.bootstrap_servers(), "vouched_V");
    let mut arrived: Vec<_> = messages.iter().map(|message| message.header("txid").unwrap()).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, [&b"first"[..], b"second", b"third_"]);
    assert!(
        messages.iter().all(|message| message.key == b"VIN1" && message.headers.len() == messages[0].headers.len())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn goes_on_with_a_new_producer_after_a_fatal_error() {
    let mock = mock();
    let kafka = Setup::new(mock.bootstrap_servers(), "fatal").connect().await.unwrap();
    kafka.send(&record("VIN1", RecordKind::V, b"first", b"payload"));
    assert!(all(&kafka.settled(1).await, Outcome::Delivered));
    let desynchronised = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    mock.request_errors(RDKafkaApiKey::Produce, &[desynchronised]);
    // Its producer breaks over it, and the next one delivers it.
    kafka.send(&record("VIN1", RecordKind::V, b"broken", b"payload"));
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"broken"[..], Outcome::Delivered)]);

    let next = record("VIN1", RecordKind::V, b"next", b"payload");
    let mut blocked = kafka.route.dispatch(&next, Some(&kafka.outlet)).err();
    while let Some(waiting) = blocked.take() {
        kafka.route.blocked_at(&waiting).outbox().room().await;
        blocked = kafka.route.resume(waiting, Some(&kafka.outlet)).err();
    }
    assert_eq!(outcomes(&kafka.settled(1).await), [(&b"next"[..], Outcome::Delivered)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn says_where_no_broker_answered_and_why() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let connect_timeout = Duration::from_millis(700);
    let start = Instant::now();
    let setup = Setup { connect_timeout, ..Setup::new(unused.to_string(), "n") };
    let error = setup.connect().await.err().expect("nothing listens there");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    let text = error.to_string();
    for part in ["kafka: ", "bootstrap.servers", &unused.to_string(), "700ms", "Connection refused"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_property_that_cannot_be_used() {
    for (key, value) in [
        ("no.such.property", "1"),
        ("compression.type", "rar"),
        ("delivery.report.only.error", "true"),
        ("ssl.ca.location", "/no/such/file.pem"),
    ] {
        let properties = vec![(key, value), ("security.protocol", "ssl")];
        let setup = Setup { properties, ..Setup::new("127.0.0.1:1", "n") };
        let error = setup.connect().await.err().expect("the configuration is bad");
        assert!(matches!(error, ConnectError::Config { .. }), "{error}");
        assert!(error.to_string().contains(key), "{key:?} is not in {:?}", error.to_string());
    }
}

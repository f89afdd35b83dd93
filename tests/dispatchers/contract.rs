//! The contract of [`Dispatcher`], as tests that run against every implementation.
//!
//! A dispatcher's test file implements [`Harness`] and writes `contract::suite!(ItsHarness);`. A clause that does not
//! apply to it prints so, with the reason.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fleet_telemetry::dispatch::{
    Blocked, Dispatcher, DispatcherMetrics, Health, Outcome, Outlet, Route, Settled, Target,
};
use fleet_telemetry::identity::{ClientType, Identity};
use fleet_telemetry::proto::{vehicle_alerts, vehicle_connectivity, vehicle_data, vehicle_error};
use fleet_telemetry::record::{Origin, Received, Record, RecordKind, Topics};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use prost::Message;

use crate::support::process;

/// What a dispatcher's tests provide: the other side, and connections to it.
pub(crate) trait Harness: Sized {
    /// Why not every byte of a txid and of a custom topic's payload comes out as it went in; `None`: it does.
    const NOT_EXACT: Option<&'static str> = None;

    /// Takes records of custom topics, whose payload is opaque.
    const OPAQUE: bool = true;

    /// Upper bound of anything that the contract waits for.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Starts a fresh other side that holds nothing.
    async fn start() -> Self;

    /// A connected dispatcher with room for `max_unsettled` records.
    async fn connect(&self, topics: &Topics, max_unsettled: usize) -> Arc<dyn Dispatcher>;

    /// Everything that the other side holds; records of one vehicle in the order in which it got them.
    async fn held(&self) -> Vec<Held>;

    /// Makes the other side unavailable until [`Self::restore`].
    async fn cut(&self);

    /// Ends what [`Self::cut`] began.
    async fn restore(&self);
}

/// One record on the other side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    /// The vehicle.
    pub(crate) vin: String,
    /// The record type, without namespace.
    pub(crate) topic: String,
    /// The transaction id.
    pub(crate) txid: Vec<u8>,
    /// The protobuf payload; `None` where the other side holds another form of it.
    pub(crate) payload: Option<Vec<u8>>,
}

/// One test per clause against a [`Harness`].
macro_rules! suite {
    ($harness:ty) => {
        $crate::contract::suite! { $harness:
            every_record_comes_out_exactly_once,
            every_byte_comes_out_as_it_went_in,
            delivered_means_that_it_can_be_read_back,
            the_order_of_each_vehicle_is_kept,
            nothing_is_delivered_during_an_outage,
            health_follows_an_outage,
            a_full_dispatcher_gives_the_receipt_back_and_wakes_whoever_waits,
            close_delivers_what_is_held,
            close_ends_at_its_deadline_during_an_outage,
            what_comes_after_close_is_lost,
        }
    };
    ($harness:ty: $($clause:ident,)*) => {
        mod keeps_the_contract {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $clause() {
                    $crate::contract::$clause::<$harness>().await;
                }
            )*
        }
    };
}
pub(crate) use suite;

pub(crate) async fn every_record_comes_out_exactly_once<H: Harness>() {
    let harness = H::start().await;
    // Less room than records: the way through `Full` is part of it.
    let bench = Bench::new(&harness, 64).await;
    let sent: Vec<Record> = (0..600).map(|n| bench.record(&format!("VIN{}", n % 3), n)).collect();
    for record in &sent {
        bench.send(record).await;
    }
    let settled = bench.settled::<H>(sent.len()).await;
    assert_all(&settled, Outcome::Delivered);
    bench.close::<H>().await;
    bench.assert_nothing_is_left();
    assert_same(&harness.held().await, &sent, &bench.topics);
}

pub(crate) async fn every_byte_comes_out_as_it_went_in<H: Harness>() {
    if let Some(reason) = H::NOT_EXACT {
        eprintln!("not applicable: {reason}");
        return;
    }
    let harness = H::start().await;
    let bench = Bench::new(&harness, 64).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let custom = bench.topics.kind(CUSTOM_TOPIC.as_bytes());
    let vin = "5YJ3E1EA1KF000001";
    let sent = vec![
        Record::from_parts(custom, &all_bytes, &all_bytes, origin(vin), Received::now()),
        Record::from_parts(custom, b"", b"empty payload", origin(vin), Received::now()),
        Record::from_parts(custom, b"empty txid", b"", origin(vin), Received::now()),
        Record::from_parts(custom, &[0], &[0], origin(vin), Received::now()),
        Record::from_parts(custom, &vec![0xff; 200_000], b"large", origin(vin), Received::now()),
        bench.record("vin with spaces, \"quotes\" and \u{00fc}", 0),
    ];
    for record in &sent {
        bench.send(record).await;
    }
    assert_all(&bench.settled::<H>(sent.len()).await, Outcome::Delivered);
    assert_same(&harness.held().await, &sent, &bench.topics);
}

pub(crate) async fn delivered_means_that_it_can_be_read_back<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 64).await;
    for n in 0..10 {
        let record = bench.record("VIN", n);
        bench.send(&record).await;
        let settled = bench.settled::<H>(1).await;
        assert_all(&settled, Outcome::Delivered);
        // Before anything is closed or flushed.
        assert_holds(&harness.held().await, &settled, &bench.topics);
    }
}

pub(crate) async fn the_order_of_each_vehicle_is_kept<H: Harness>() {
    let harness = H::start().await;
    let bench = Arc::new(Bench::new(&harness, 32).await);
    let vehicles = (0..4).map(|vehicle| {
        let bench = bench.with_own_outlet();
        tokio::spawn(async move {
            for n in 0..200 {
                bench.send(&bench.record(&format!("VIN{vehicle}"), n)).await;
            }
            assert_all(&bench.settled::<H>(200).await, Outcome::Delivered);
        })
    });
    for vehicle in vehicles.collect::<Vec<_>>() {
        vehicle.await.expect("the vehicle's task ends");
    }
    bench.close::<H>().await;
    let mut by_vin = BTreeMap::<String, Vec<Vec<u8>>>::new();
    for held in harness.held().await {
        by_vin.entry(held.vin).or_default().push(held.txid);
    }
    assert_eq!(by_vin.len(), 4);
    let in_order: Vec<Vec<u8>> = (0..200).map(txid).collect();
    for (vin, txids) in by_vin {
        // Topics of one vehicle may be separate queues; each keeps its order.
        for kind in 0..KINDS {
            let of_kind = |txids: &[Vec<u8>]| -> Vec<Vec<u8>> {
                txids.iter().filter(|txid| number(txid) % KINDS == kind).cloned().collect()
            };
            assert_eq!(of_kind(&txids), of_kind(&in_order), "{vin}, records of kind {kind}");
        }
    }
}

pub(crate) async fn nothing_is_delivered_during_an_outage<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 64).await;
    harness.cut().await;
    for n in 0..5 {
        bench.send(&bench.record("VIN", n)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut settled = bench.settled_so_far();
    assert_all(&settled, Outcome::Lost);
    harness.restore().await;
    for n in 5..10 {
        bench.send(&bench.record("VIN", n)).await;
    }
    settled.extend(bench.settled::<H>(10 - settled.len()).await);
    bench.until_delivered::<H>(100).await;
    let delivered: Vec<_> = settled.into_iter().filter(|settled| settled.outcome == Outcome::Delivered).collect();
    assert_holds(&harness.held().await, &delivered, &bench.topics);
    bench.close::<H>().await;
    bench.assert_nothing_is_left();
}

pub(crate) async fn health_follows_an_outage<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 64).await;
    bench.until_delivered::<H>(0).await;
    assert_eq!(bench.dispatcher.health(), Health::Healthy);
    harness.cut().await;
    bench.send(&bench.record("VIN", 1)).await;
    bench.until::<H>("unhealthy", || matches!(bench.dispatcher.health(), Health::Unhealthy(_))).await;
    let Health::Unhealthy(reason) = bench.dispatcher.health() else { panic!("unhealthy until it is restored") };
    assert!(!reason.is_empty(), "says why");
    harness.restore().await;
    bench.until_delivered::<H>(2).await;
    bench.until::<H>("healthy", || bench.dispatcher.health() == Health::Healthy).await;
}

pub(crate) async fn a_full_dispatcher_gives_the_receipt_back_and_wakes_whoever_waits<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 8).await;
    harness.cut().await;
    assert_eq!(bench.dispatcher.outbox().limit().records, 8);
    let mut n = 0;
    let blocked = loop {
        assert!(n <= 8, "the ninth record finds no room");
        match bench.try_send(&bench.record("VIN", n)) {
            Ok(()) => n += 1,
            Err(blocked) => break blocked,
        }
    };
    let waiting = bench.resume(blocked);
    let restored = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        harness.restore().await;
    };
    tokio::time::timeout(H::PATIENCE, futures_util::future::join(waiting, restored)).await.expect("room appears");
    let settled = bench.settled::<H>(n + 1).await;
    let mut txids: Vec<_> = settled.iter().map(|settled| settled.record.txid().to_vec()).collect();
    txids.sort();
    assert_eq!(txids, (0..=n).map(txid).collect::<Vec<_>>(), "each receipt settles once");
    bench.close::<H>().await;
    bench.assert_nothing_is_left();
}

pub(crate) async fn close_delivers_what_is_held<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 1000).await;
    let sent: Vec<Record> = (0..500).map(|n| bench.record("VIN", n)).collect();
    for record in &sent {
        bench.send(record).await;
    }
    bench.close::<H>().await;
    let settled = bench.settled_so_far();
    assert_eq!(settled.len(), sent.len(), "everything is settled when close returns");
    assert_all(&settled, Outcome::Delivered);
    assert_same(&harness.held().await, &sent, &bench.topics);
    bench.close::<H>().await;
    bench.assert_nothing_is_left();
}

pub(crate) async fn close_ends_at_its_deadline_during_an_outage<H: Harness>() {
    let harness = H::start().await;
    let bench = Bench::new(&harness, 64).await;
    harness.cut().await;
    for n in 0..20 {
        bench.send(&bench.record("VIN", n)).await;
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    bench.dispatcher.close(deadline).await;
    let late = deadline.elapsed();
    assert!(late < Duration::from_secs(3), "{late:?} after the deadline");
    let settled = bench.settled_so_far();
    assert_eq!(settled.len(), 20, "everything is settled when close returns");
    assert_all(&settled, Outcome::Lost);
    bench.assert_nothing_is_left();
    harness.restore().await;
}

pub(crate) async fn what_comes_after_close_is_lost<H: Harness>() {
    let harness = H::start().await;
    // The limit may not be reached by records that nobody will settle.
    let bench = Bench::new(&harness, 4).await;
    bench.close::<H>().await;
    for n in 0..20 {
        bench.send(&bench.record("VIN", n)).await;
    }
    assert_all(&bench.settled::<H>(20).await, Outcome::Lost);
    assert_eq!(harness.held().await, []);
    bench.assert_nothing_is_left();
}

/// A dispatcher behind a route on which it decides, and a session's end of it.
pub(crate) struct Bench {
    pub(crate) topics: Topics,
    pub(crate) dispatcher: Arc<dyn Dispatcher>,
    route: Arc<Route>,
    outlet: Arc<Outlet>,
    metrics: PrometheusHandle,
    opaque: bool,
}

impl Bench {
    pub(crate) async fn new<H: Harness>(harness: &H, max_unsettled: usize) -> Self {
        let topics = Topics::new([CUSTOM_TOPIC]);
        let dispatcher =
            tokio::time::timeout(H::PATIENCE, harness.connect(&topics, max_unsettled)).await.expect("connects in time");
        Self::over(dispatcher, topics, H::OPAQUE)
    }

    pub(crate) fn over(dispatcher: Arc<dyn Dispatcher>, topics: Topics, opaque: bool) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let metrics = recorder.handle();
        let name = dispatcher.name();
        let handles = ::metrics::with_local_recorder(&recorder, || DispatcherMetrics::register(name, &topics));
        let target = Target::new(Arc::clone(&dispatcher), Arc::new(handles));
        let route = Arc::new(Route::new(vec![target], &[name]));
        Self { topics, dispatcher, route, outlet: Arc::default(), metrics, opaque }
    }

    fn with_own_outlet(&self) -> Self {
        Self {
            topics: self.topics.clone(),
            dispatcher: Arc::clone(&self.dispatcher),
            route: Arc::clone(&self.route),
            outlet: Arc::default(),
            opaque: self.opaque,
            metrics: self.metrics.clone(),
        }
    }

    /// Record number `n`; its kind and content follow from `n`.
    pub(crate) fn record(&self, vin: &str, n: usize) -> Record {
        let is_opaque = n % KINDS == KINDS - 1;
        let shape = if is_opaque && !self.opaque { 0 } else { n % KINDS };
        let (kind, payload) = content(&self.topics, vin, shape, n);
        Record::from_parts(kind, &payload, &txid(n), origin(vin), Received::now())
    }

    /// Hands a record off as a session does: waits for room and offers it again.
    pub(crate) async fn send(&self, record: &Record) {
        if let Err(blocked) = self.try_send(record) {
            self.resume(blocked).await;
        }
    }

    /// Hands a record off if there is room.
    pub(crate) fn try_send(&self, record: &Record) -> Result<(), Box<Blocked>> {
        self.route.dispatch(record, Some(&self.outlet))
    }

    pub(crate) async fn resume(&self, mut blocked: Box<Blocked>) {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < ROOM_PATIENCE, "no room in {ROOM_PATIENCE:?}");
            self.route.blocked_at(&blocked).outbox().room().await;
            match self.route.resume(blocked, Some(&self.outlet)) {
                Ok(()) => return,
                Err(again) => blocked = again,
            }
        }
    }

    pub(crate) async fn settled<H: Harness>(&self, count: usize) -> Vec<Settled> {
        let mut settled = Vec::new();
        let all = async {
            while settled.len() < count {
                poll_fn(|cx| self.outlet.poll_settled(cx, &mut settled)).await;
            }
        };
        let in_time = tokio::time::timeout(H::PATIENCE, all).await.is_ok();
        assert!(in_time, "{} of {count} receipts settled in {:?}", settled.len(), H::PATIENCE);
        assert_eq!(settled.len(), count, "receipts settle once");
        settled
    }

    /// What has settled, when something has.
    pub(crate) async fn some_settled<H: Harness>(&self) -> Vec<Settled> {
        let mut settled = Vec::new();
        let some = poll_fn(|cx| self.outlet.poll_settled(cx, &mut settled));
        tokio::time::timeout(H::PATIENCE, some).await.expect("something settles in time");
        settled
    }

    fn settled_so_far(&self) -> Vec<Settled> {
        let mut settled = Vec::new();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(()) = self.outlet.poll_settled(&mut cx, &mut settled) {}
        settled
    }

    /// Sends records, numbered from `from`, until one is delivered.
    async fn until_delivered<H: Harness>(&self, from: usize) {
        let start = Instant::now();
        let own = self.with_own_outlet();
        for n in from.. {
            own.send(&own.record("VIN", n)).await;
            if own.settled::<H>(1).await[0].outcome == Outcome::Delivered {
                return;
            }
            assert!(start.elapsed() < H::PATIENCE, "nothing delivered in {:?}", H::PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) async fn until<H: Harness>(&self, what: &str, reached: impl Fn() -> bool) {
        let start = Instant::now();
        while !reached() {
            assert!(start.elapsed() < H::PATIENCE, "not {what} in {:?}", H::PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn close<H: Harness>(&self) {
        let close = self.dispatcher.close(Instant::now() + H::PATIENCE);
        tokio::time::timeout(H::PATIENCE * 2, close).await.expect("close ends");
    }

    /// Every receipt is settled by a decision, none by being dropped.
    fn assert_nothing_is_left(&self) {
        assert!(self.settled_so_far().is_empty(), "receipts settle once");
        assert_eq!(self.dispatcher.outbox().used().records, 0, "places are given back");
        let rendered = self.metrics.render();
        let sample = |name: &str| -> f64 {
            let line = rendered.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().expect("a number"))
        };
        assert_eq!(sample("dispatcher_dropped_receipts_total"), 0.0, "{rendered}");
    }
}

pub(crate) fn assert_all(settled: &[Settled], outcome: Outcome) {
    for one in settled {
        let txid = String::from_utf8_lossy(one.record.txid());
        assert_eq!(one.outcome, outcome, "record {txid} of {}", one.record.vin());
    }
}

/// `held` is exactly `sent`, in whatever order.
fn assert_same(held: &[Held], sent: &[Record], topics: &Topics) {
    let mut held = held.to_vec();
    let with_payload = held.iter().all(|held| held.payload.is_some());
    let mut sent: Vec<Held> = sent.iter().map(|record| expected(record, topics, with_payload)).collect();
    held.sort();
    sent.sort();
    assert_eq!(held.len(), sent.len(), "records on the other side");
    for (held, sent) in held.iter().zip(&sent) {
        assert_eq!(held, sent);
    }
}

/// `held` has each of `settled` once.
fn assert_holds(held: &[Held], settled: &[Settled], topics: &Topics) {
    let with_payload = held.iter().all(|held| held.payload.is_some());
    for settled in settled {
        let expected = expected(&settled.record, topics, with_payload);
        assert_eq!(held.iter().filter(|held| **held == expected).count(), 1, "{expected:?}");
    }
}

fn expected(record: &Record, topics: &Topics, with_payload: bool) -> Held {
    Held {
        vin: record.vin().to_owned(),
        topic: topics.name(record.kind()).to_owned(),
        txid: record.txid().to_vec(),
        payload: with_payload.then(|| record.payload().to_vec()),
    }
}

/// No dispatcher of these tests is full for longer.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const CUSTOM_TOPIC: &str = "custom";
const KINDS: usize = 5;

fn txid(n: usize) -> Vec<u8> {
    format!("txid-{n:06}").into_bytes()
}

pub(crate) fn number(txid: &[u8]) -> usize {
    let digits = std::str::from_utf8(txid).expect("made by txid").trim_start_matches("txid-");
    digits.parse().expect("made by txid")
}

pub(crate) fn origin(vin: &str) -> Arc<Origin> {
    Arc::new(Origin {
        identity: Identity::new(ClientType::VehicleDevice, vin),
        connection_id: "3f1c1f0e-6f0a-4a53-9d53-6b5a6f4c8a01".into(),
        network_interface: "wifi".into(),
        client_version: "1.1.0".into(),
    })
}

/// Of one of [`KINDS`] shapes; `n` can be told from it.
fn content(topics: &Topics, vin: &str, shape: usize, n: usize) -> (RecordKind, Vec<u8>) {
    let seconds = 1_750_000_000 + i64::try_from(n).expect("a small number");
    let created_at = Some(prost_types::Timestamp { seconds, nanos: 123_000_000 });
    let vin = vin.to_owned();
    match shape {
        0 => {
            (RecordKind::V, vehicle_data::Payload { data: data(n), created_at, vin, is_resend: false }.encode_to_vec())
        }
        1 => {
            let alert = vehicle_alerts::VehicleAlert {
                name: format!("alert {n}"),
                audiences: vec![vehicle_alerts::Audience::Customer.into()],
                started_at: created_at,
                ended_at: None,
            };
            (RecordKind::Alerts, vehicle_alerts::VehicleAlerts { alerts: vec![alert], created_at, vin }.encode_to_vec())
        }
        2 => {
            let error = vehicle_error::VehicleError {
                name: format!("error {n}"),
                created_at,
                tags: [("tag".to_owned(), "value".to_owned())].into(),
                body: "body".to_owned(),
            };
            (RecordKind::Errors, vehicle_error::VehicleErrors { errors: vec![error], created_at, vin }.encode_to_vec())
        }
        3 => {
            let connectivity = vehicle_connectivity::VehicleConnectivity {
                vin,
                connection_id: format!("connection {n}"),
                status: vehicle_connectivity::ConnectivityEvent::Connected.into(),
                created_at,
                network_interface: "wifi".to_owned(),
            };
            (RecordKind::Connectivity, connectivity.encode_to_vec())
        }
        _ => (topics.kind(CUSTOM_TOPIC.as_bytes()), format!("opaque {n}").into_bytes()),
    }
}

fn data(n: usize) -> Vec<vehicle_data::Datum> {
    use vehicle_data::value::Value;
    let datum = |key: vehicle_data::Field, value| vehicle_data::Datum {
        key: key.into(),
        value: Some(vehicle_data::Value { value: Some(value) }),
    };
    #[allow(clippy::cast_precision_loss)]
    let odometer = n as f64 + 0.5;
    vec![
        datum(vehicle_data::Field::Odometer, Value::DoubleValue(odometer)),
        datum(vehicle_data::Field::Gear, Value::ShiftStateValue(vehicle_data::ShiftState::D.into())),
        datum(
            vehicle_data::Field::Location,
            Value::LocationValue(vehicle_data::LocationValue { latitude: 37.4, longitude: -122.1 }),
        ),
    ]
}

/// Sends records of three fields from a hundred vehicles as fast as they are taken; prints how many a second were
/// delivered, and what that took of this process' time.
pub(crate) async fn measure(bench: &Bench) {
    const RECORDS: usize = 20_000;
    let records: Vec<Record> =
        (0..RECORDS).map(|n| bench.record(&format!("5YJ3E1EA1KF{:06}", n % 100), n * KINDS)).collect();
    let (start, before) = (Instant::now(), process::cpu_ms(std::process::id()));
    let sending = async {
        for record in &records {
            bench.send(record).await;
        }
    };
    let (settled, ()) = tokio::join!(bench.settled::<Patient>(RECORDS), sending);
    assert_all(&settled, Outcome::Delivered);
    #[allow(clippy::cast_precision_loss)]
    let (count, cpu) = (RECORDS as f64, (process::cpu_ms(std::process::id()) - before) as f64);
    println!("{:.0} records/s, {:.0} µs of CPU each", count / start.elapsed().as_secs_f64(), cpu * 1000.0 / count);
}

/// For tests that are no clauses: everything takes longer on a busy machine.
pub(crate) struct Patient;

impl Harness for Patient {
    const PATIENCE: Duration = Duration::from_secs(60);

    async fn start() -> Self {
        Self
    }

    async fn connect(&self, _: &Topics, _: usize) -> Arc<dyn Dispatcher> {
        unreachable!("only its patience is asked for")
    }

    async fn held(&self) -> Vec<Held> {
        Vec::new()
    }

    async fn cut(&self) {}

    async fn restore(&self) {}
}

//! A session's intake without a socket, before a dispatcher that confirms when it is told to: what a record costs
//! from the unmasked frame to the hand-off, and from the confirmation to the ack.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use fleet_telemetry::config::{self, DispatcherName, Env};
use fleet_telemetry::dispatch::{Dispatcher, DispatcherMetrics, Full, Health, Outbox, Receipt, Route, Settled, Target};
use fleet_telemetry::identity::{ClientType, Identity};
use fleet_telemetry::logging::RateLimited;
use fleet_telemetry::permissions::Permissions;
use fleet_telemetry::policy::{Policy, Routes};
use fleet_telemetry::record::{Origin, Record, Topics};
use fleet_telemetry::session::budget::Budget;
use fleet_telemetry::session::intake::{Intake, Turn};
use fleet_telemetry::session::{Pipeline, SessionMetrics};
use fleet_telemetry::shutdown::Shutdown;
use futures_util::future::BoxFuture;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};

/// What a vehicle's session does with its records.
pub(crate) struct Rig {
    pipeline: Pipeline,
    intake: Intake,
    sink: Arc<Sink>,
    record: Vec<u8>,
    replies: Vec<u8>,
    settled: Vec<Settled>,
}

impl Rig {
    /// A session of `vin`. Topic `V` goes to the dispatcher, or nowhere.
    pub(crate) fn new(vin: &str, routed: bool, permissions: Permissions) -> Self {
        let config = r#"{"port": 1, "tls": {"ca_file": "-", "server_cert": "-", "server_key": "-"}, "records": {}}"#;
        let file = config::file::FileConfig::parse(config.as_bytes()).expect("JSON");
        let (config, _) = config::resolve(file, &Env::default()).expect("a valid configuration");
        let topics = Topics::new([]);
        let sink = Arc::new(Sink { outbox: Outbox::new(Outbox::MOST), held: Mutex::new(Vec::with_capacity(HELD)) });
        let handles = with_local_recorder(&Counting, || DispatcherMetrics::register(sink.name(), &topics));
        let target = Target::new(sink.clone(), Arc::new(handles));
        let route = routed.then(|| ("V", Route::new(vec![target], &[DispatcherName::Kafka])));
        let pipeline = Pipeline {
            permissions: Arc::new(permissions),
            policy: Policy::new(Routes::new(&topics, route), &config.policy),
            metrics: with_local_recorder(&Counting, || SessionMetrics::register(&topics, &config.session)),
            session: config.session,
            rate_limit: None,
            shutdown: Shutdown::new(config.shutdown),
            refusals: RateLimited::default(),
            budget: Arc::new(Budget::new(1 << 30)),
            topics,
        };
        let origin = Origin {
            identity: Identity::new(ClientType::VehicleDevice, vin),
            connection_id: "".into(),
            network_interface: "".into(),
            client_version: "".into(),
        };
        let buffer = || Vec::with_capacity(4096);
        let (record, replies, settled) = (buffer(), buffer(), Vec::with_capacity(HELD));
        Self { pipeline, intake: Intake::new(Arc::new(origin), None), sink, record, replies, settled }
    }

    /// Handles a message as far as the hand-off; gives the replies to the vehicle so far.
    pub(crate) fn message(&mut self, frame: &[u8]) -> &[u8] {
        self.replies.clear();
        let Self { pipeline, intake, record, replies, .. } = self;
        intake.message(frame, &mut Turn { pipeline, buffer: record, replies });
        &self.replies
    }

    /// Has the dispatcher confirm everything; gives the acks.
    pub(crate) fn confirm(&mut self) -> &[u8] {
        self.replies.clear();
        self.sink.held().drain(..).for_each(Receipt::delivered);
        let mut cx = Context::from_waker(Waker::noop());
        while self.intake.outlet().poll_settled(&mut cx, &mut self.settled).is_ready() {
            for settled in self.settled.drain(..) {
                let (pipeline, buffer, replies) = (&self.pipeline, &mut self.record, &mut self.replies);
                self.intake.settled(&settled, &mut Turn { pipeline, buffer, replies });
            }
        }
        &self.replies
    }
}

/// Counts as the server's own recorder does, and throws histograms away. Starting that one takes some million
/// instructions, never the same number.
struct Counting;

impl Recorder for Counting {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(AtomicU64::new(0)))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Records that may wait for their confirmation.
const HELD: usize = 4096;

/// Keeps receipts until it is told to settle them.
#[derive(Debug)]
struct Sink {
    outbox: Outbox,
    held: Mutex<Vec<Receipt>>,
}

impl Sink {
    fn held(&self) -> std::sync::MutexGuard<'_, Vec<Receipt>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dispatcher for Sink {
    /// A durable one, whose confirmation decides about the ack.
    fn name(&self) -> DispatcherName {
        DispatcherName::Kafka
    }

    fn dispatch(&self, _: &Record, receipt: Receipt) -> Result<(), Full> {
        let mut held = self.held();
        if held.len() == HELD {
            return Err(Full(receipt));
        }
        held.push(receipt);
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn close(&self, _: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

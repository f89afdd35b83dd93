//! Records as log lines, for debugging: one line `record_payload` per record.
//!
//! The fields `metadata` and `data` hold JSON text. An operator routes a topic here to see its values, so these
//! lines are the one place in the logs that shows what a vehicle sent.
//!
//! A record is delivered when its line has been written. The thread that writes the log does it, and says so; until
//! then the record has its place in the outbox.

mod data;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tracing::{Level, error, info};

pub use data::data;

use super::{DispatchError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::{self, DispatcherName};
use crate::logging::{Fields, Log, RateLimited, Then, Unwritten, Value};
use crate::proto::vehicle_data::Payload;
use crate::record::decoded::field_name;
use crate::record::json::text::{self, Object};
use crate::record::{Decoded, Record, Topics};

/// The target of all events about records.
const TARGET: &str = "fleet_telemetry::records";

/// The dispatcher that writes log lines.
///
/// "Delivered" means that the system has taken the line. What becomes of it then is not this process' business.
#[derive(Debug)]
pub struct Logger {
    verbose: bool,
    topics: Topics,
    log: Log,
    outbox: Arc<Outbox>,
    unsettled: Arc<Unsettled>,
    closed: AtomicBool,
    refusals: RateLimited,
}

/// Receipts that the log has and has not settled, for a close that waits.
#[derive(Debug, Default)]
struct Unsettled {
    receipts: AtomicUsize,
    settled: Notify,
}

impl Logger {
    /// Needs no connection.
    #[must_use]
    pub fn new(config: &config::Logger, topics: &Topics, log: Log) -> Self {
        Self {
            verbose: config.verbose,
            topics: topics.clone(),
            log,
            outbox: Arc::new(Outbox::new(config.max_unsettled)),
            unsettled: Arc::default(),
            closed: AtomicBool::new(false),
            refusals: RateLimited::default(),
        }
    }

    /// Makes the record's line; the receipt goes with it.
    fn log(&self, record: &Record, receipt: Receipt) {
        match self.line(record) {
            Ok(line) => self.log.record(line, Unsettled::settle(&self.unsettled, receipt)),
            Err(error) => receipt.failed(&error),
        }
    }

    fn line(&self, record: &Record) -> Result<Fields, DispatchError> {
        if !record.kind().is_known() {
            return Err(self.refuse(record));
        }
        if !self.log.wants(Level::INFO) {
            return Err(DispatchError::Unsendable("log_level is above info, so its line is not written".to_owned()));
        }
        let decoded = record.decode().map_err(|error| DispatchError::Unsendable(error.to_string()))?;
        let vin = record.vin();
        if let Decoded::V(payload) = &decoded {
            log_skipped(payload, vin);
        }
        // Only an opaque payload has none, and such a record is refused.
        let data = data(&decoded, vin, self.verbose).ok_or_else(|| self.refuse(record))?;
        let metadata = metadata(record, &self.topics);
        let line = Fields::named("record_payload").with("vin", vin).with("activity", true);
        Ok(line.with("metadata", Value::Json(metadata)).with("data", Value::Json(data)))
    }

    /// A route that sends opaque payloads here is a mistake in the configuration.
    fn refuse(&self, record: &Record) -> DispatchError {
        let txtype = self.topics.name(record.kind());
        let error = format!("unknown txType: {txtype}");
        if let Some(skipped) = self.refusals.permit() {
            let metadata = metadata(record, &self.topics);
            error!(target: TARGET, error, vin = record.vin(), txtype, %metadata, skipped, "record_logging_error");
        }
        DispatchError::Unsendable(error)
    }
}

impl Dispatcher for Logger {
    fn name(&self) -> DispatcherName {
        DispatcherName::Logger
    }

    fn dispatch(&self, record: &Record, receipt: Receipt) -> Result<(), Full> {
        if self.closed.load(Ordering::Acquire) {
            receipt.failed(&DispatchError::Closed);
            return Ok(());
        }
        let receipt = self.outbox.enter(receipt)?;
        // A line is longer than its record. Looked at before it is made: a session that waits for room would make it
        // again and again.
        if self.log.record_bytes() >= self.outbox.limit().bytes {
            return Err(receipt.withdraw());
        }
        self.log(record, receipt);
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn health(&self) -> Health {
        self.log.trouble().map_or(Health::Healthy, Health::Unhealthy)
    }

    fn close(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        self.closed.store(true, Ordering::Release);
        async move {
            if tokio::time::timeout_at(deadline.into(), self.unsettled.all_settled()).await.is_err() {
                self.log.withdraw_records().into_iter().for_each(|then| then(Err(Unwritten::GivenUp)));
            }
        }
        .boxed()
    }
}

impl Unsettled {
    /// What the log calls with the fate of a line.
    fn settle(this: &Arc<Self>, receipt: Receipt) -> Then {
        this.receipts.fetch_add(1, Ordering::AcqRel);
        let this = Arc::clone(this);
        Box::new(move |written| {
            match written {
                Ok(()) => receipt.delivered(),
                Err(Unwritten::GivenUp) => receipt.failed(&DispatchError::Closed),
                Err(refused) => receipt.failed(&DispatchError::Refused(refused.to_string())),
            }
            this.receipts.fetch_sub(1, Ordering::AcqRel);
            this.settled.notify_one();
        })
    }

    async fn all_settled(&self) {
        while self.receipts.load(Ordering::Acquire) > 0 {
            self.settled.notified().await;
        }
    }
}

/// Says what the record's line leaves out: at most two events, however many data a vehicle sends.
fn log_skipped(payload: &Payload, vin: &str) {
    let without_value = payload.data.iter().filter(|datum| datum.value.is_none()).count();
    if without_value > 0 {
        info!(target: TARGET, vin, count = without_value, activity = true, "unknown_payload_data_type");
    }
    let mut without_content =
        payload.data.iter().filter(|datum| datum.value.as_ref().is_some_and(|value| value.value.is_none()));
    if let Some(first) = without_content.next() {
        let name = field_name(first.key);
        let count = 1 + without_content.count();
        info!(target: TARGET, %name, vin, count, activity = true, "unknown_payload_value_data_type");
    }
}

/// What other dispatchers send as headers, as a JSON object; its members in the order of their names.
fn metadata(record: &Record, topics: &Topics) -> String {
    let mut metadata = record.metadata(topics.name(record.kind()));
    let mut fields = metadata.fields();
    fields.sort_unstable_by_key(|(name, _)| *name);
    let mut out = String::new();
    let mut object = Object::open(&mut out);
    for (name, value) in fields {
        text::log_safe_string(object.member(name), &printable(value));
    }
    object.close();
    out
}

/// Each byte that is not UTF-8 becomes a replacement character, as Go's JSON encoder has it.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;
    use std::time::Duration;

    use prost::Message;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::dispatch::{DispatcherMetrics, Outcome, Outlet};
    use crate::identity::{ClientType, Identity};
    use crate::logging::Lines;
    use crate::proto::vehicle_data::{Datum, Value, value};
    use crate::record::{Origin, Received, RecordKind};

    /// Lines as they are written.
    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<String>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record(kind: RecordKind, payload: &[u8]) -> Record {
        let origin = Arc::new(Origin {
            identity: Identity::new(ClientType::VehicleDevice, "device-1"),
            connection_id: "connection".into(),
            network_interface: "wifi".into(),
            client_version: "<1>".into(),
        });
        let received = Received { epoch_ms: 1_790_000_000_123, at: tokio::time::Instant::now() };
        Record::from_parts(kind, payload, b"tx\xff\xfe\"", origin, received)
    }

    fn config_at(level: Level) -> config::Log {
        let level = level.into();
        config::Log { level, json: true, suppress_handshake_errors: false, max_lines: 100, max_bytes: 1 << 20 }
    }

    /// The lines that `record` makes, without their times, and what its receipt says.
    fn logged(record: &Record) -> (Vec<String>, Outcome) {
        logged_at(Level::INFO, record)
    }

    fn logged_at(level: Level, record: &Record) -> (Vec<String>, Outcome) {
        let topics = Topics::new(["custom"]);
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Logger, &topics));
        let outlet = Arc::new(Outlet::default());
        let out = Out::default();
        let log = Log::start(&config_at(level), Box::new(out.clone())).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Lines(log.clone())), || {
            let logger = Logger::new(&config::Logger::default(), &topics, log.clone());
            logger.dispatch(record, Receipt::direct(record, &metrics, &outlet)).unwrap();
        });
        log.flush(Duration::from_secs(60));
        let mut settled = Vec::new();
        let start = Instant::now();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        while outlet.poll_settled(&mut cx, &mut settled).is_pending() {
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        let text = out.0.lock().unwrap().clone();
        let without_time = |line: &str| {
            let (before, time) = line.split_once(",\"time\":").unwrap();
            format!("{before}{}", time.find([',', '}']).map_or("", |end| &time[end..]))
        };
        (text.lines().map(without_time).collect(), settled[0].outcome)
    }

    const METADATA: &str = concat!(
        r#"{"device_client_version":"\u003c1\u003e","receivedat":"1790000000123","timestamp":"0","#,
        "\"txid\":\"tx\u{fffd}\u{fffd}\\\"\",",
        r#""txtype":"TYPE","version":"0","vin":"device-1"}"#
    );

    #[test]
    fn one_line_per_record_shows_its_values_and_settles_it() {
        let payload = Payload { vin: "claimed".into(), ..Payload::default() };
        let (lines, outcome) = logged(&record(RecordKind::V, &payload.encode_to_vec()));
        let data = r#"{"CreatedAt":"1970-01-01T00:00:00Z","IsResend":false,"Vin":"device-1"}"#;
        let metadata = METADATA.replace("TYPE", "V");
        let line = format!(
            r#"{{"activity":true,"context":"fleet-telemetry","data":{data},"level":"info","metadata":{metadata},"msg":"record_payload","vin":"device-1"}}"#
        );
        assert_eq!(lines, [line]);
        assert_eq!(outcome, Outcome::Delivered);
    }

    #[test]
    fn data_that_are_left_out_are_said_once_per_record() {
        let datum = |key, value| Datum { key, value };
        let content = Some(Value { value: Some(value::Value::IntValue(1)) });
        let data = vec![
            datum(8, None),
            datum(8, None),
            datum(31_999, Some(Value::default())),
            datum(5, Some(Value::default())),
            datum(5, content),
        ];
        let (lines, _) = logged(&record(RecordKind::V, &Payload { data, ..Payload::default() }.encode_to_vec()));
        let begin = r#"{"activity":true,"context":"fleet-telemetry","count":2,"level":"info","msg":"unknown_payload_"#;
        assert_eq!(lines[0], format!(r#"{begin}data_type","vin":"device-1"}}"#));
        assert_eq!(lines[1], format!(r#"{begin}value_data_type","name":"31999","vin":"device-1"}}"#));
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn opaque_payloads_are_refused() {
        let (lines, outcome) = logged(&record(RecordKind::Custom(0), b"\xff"));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let metadata: serde_json::Value = serde_json::from_str(&METADATA.replace("TYPE", "custom")).unwrap();
        let expected = serde_json::json!({
            "context": "fleet-telemetry", "level": "error", "msg": "record_logging_error", "metadata": metadata,
            "error": "unknown txType: custom", "vin": "device-1", "txtype": "custom", "skipped": 0
        });
        assert_eq!(line, expected);
        assert_eq!(outcome, Outcome::Lost);
    }

    #[test]
    fn a_record_whose_line_is_not_wanted_is_not_delivered() {
        let (_, outcome) = logged_at(Level::WARN, &record(RecordKind::V, &Payload::default().encode_to_vec()));
        assert_eq!(outcome, Outcome::Lost);
    }
}

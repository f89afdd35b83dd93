//! Records as log lines, for debugging: one event `record_payload` per record.
//!
//! The fields `metadata` and `data` hold JSON text. An operator routes a topic here to see its values, so these
//! lines are the one place in the logs that shows what a vehicle sent.

mod data;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{self, BoxFuture};
use tracing::{Level, enabled, error, info};

pub use data::data;

use super::{DispatchError, Dispatcher, Full, Health, Outbox, Receipt};
use crate::config::{self, DispatcherName};
use crate::logging::RateLimited;
use crate::proto::vehicle_data::Payload;
use crate::record::json::text::{self, Object};
use crate::record::{Decoded, Record, Topics};

/// The target of all events about records.
const TARGET: &str = "fleet_telemetry::records";

/// The dispatcher that writes log lines.
#[derive(Debug)]
pub struct Logger {
    verbose: bool,
    topics: Topics,
    /// Nothing is held: a record is written before `dispatch` returns.
    outbox: Outbox,
    closed: AtomicBool,
    refusals: RateLimited,
}

impl Logger {
    /// Needs no connection.
    #[must_use]
    pub fn new(config: &config::Logger, topics: &Topics) -> Self {
        Self {
            verbose: config.verbose,
            topics: topics.clone(),
            outbox: Outbox::new(Outbox::MOST),
            closed: AtomicBool::new(false),
            refusals: RateLimited::default(),
        }
    }

    fn log(&self, record: &Record) -> Result<(), DispatchError> {
        if !record.kind().is_known() {
            return Err(self.refuse(record));
        }
        if !enabled!(target: TARGET, Level::INFO) {
            return Ok(());
        }
        let decoded = record.decode().map_err(|error| DispatchError::Unsendable(error.to_string()))?;
        let vin = record.vin();
        if let Decoded::V(payload) = &decoded {
            log_skipped(payload, vin);
        }
        if let Some(data) = data(&decoded, vin, self.verbose) {
            let metadata = metadata(record, &self.topics);
            info!(target: TARGET, vin, %metadata, %data, activity = true, "record_payload");
        }
        Ok(())
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
        match self.log(record) {
            Ok(()) => receipt.delivered(),
            Err(error) => receipt.failed(&error),
        }
        Ok(())
    }

    fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    fn health(&self) -> Health {
        Health::Healthy
    }

    fn close(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        self.closed.store(true, Ordering::Release);
        future::ready(()).boxed()
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
        let name = data::field_name(first.key);
        let count = 1 + without_content.count();
        info!(target: TARGET, %name, vin, count, activity = true, "unknown_payload_value_data_type");
    }
}

/// What other dispatchers send as headers, as a JSON object.
fn metadata(record: &Record, topics: &Topics) -> String {
    let mut out = String::new();
    let mut object = Object::open(&mut out);
    text::log_safe_string(object.member("device_client_version"), &record.origin().client_version);
    text::display(object.member("receivedat"), format_args!("\"{}\"", record.received().epoch_ms));
    // The reference server never sets these two.
    text::plain_string(object.member("timestamp"), "0");
    text::log_safe_string(object.member("txid"), &printable(record.txid()));
    text::log_safe_string(object.member("txtype"), topics.name(record.kind()));
    text::plain_string(object.member("version"), "0");
    text::log_safe_string(object.member("vin"), record.vin());
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
    use std::fmt::{Debug, Write};
    use std::sync::{Arc, Mutex};

    use prost::Message;
    use tracing::field::{Field, Visit};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;
    use crate::dispatch::{DispatcherMetrics, Outcome, Outlet};
    use crate::identity::{ClientType, Identity};
    use crate::proto::vehicle_data::{Datum, Value, value};
    use crate::record::{Origin, Received, RecordKind};

    /// Events as `level message field=value …`.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: tracing::Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(format!("{}{}", event.metadata().level(), line.0));
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            match field.name() {
                "message" => self.0.insert_str(0, &format!(" {value:?}")),
                name => write!(self.0, " {name}={value:?}").unwrap(),
            }
        }

        fn record_str(&mut self, field: &Field, value: &str) {
            write!(self.0, " {}={value}", field.name()).unwrap();
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

    /// The lines that `record` makes, and what its receipt says.
    fn logged(record: &Record) -> (Vec<String>, Outcome) {
        let topics = Topics::new(["custom"]);
        let metrics = Arc::new(DispatcherMetrics::register(DispatcherName::Logger, &topics));
        let outlet = Arc::new(Outlet::default());
        let lines = Lines::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines.clone()), || {
            let logger = Logger::new(&config::Logger::default(), &topics);
            logger.dispatch(record, Receipt::direct(record, &metrics, &outlet)).unwrap();
        });
        let mut settled = Vec::new();
        let waker = futures_util::task::noop_waker();
        assert!(outlet.poll_settled(&mut std::task::Context::from_waker(&waker), &mut settled).is_ready());
        (lines.0.lock().unwrap().clone(), settled[0].outcome)
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
        let line = format!("INFO record_payload vin=device-1 metadata={metadata} data={data} activity=true");
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
        assert_eq!(lines[0], "INFO unknown_payload_data_type vin=device-1 count=2 activity=true");
        assert_eq!(lines[1], "INFO unknown_payload_value_data_type name=31999 vin=device-1 count=2 activity=true");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn opaque_payloads_are_refused() {
        let (lines, outcome) = logged(&record(RecordKind::Custom(0), b"\xff"));
        let metadata = METADATA.replace("TYPE", "custom");
        let line = format!(
            "ERROR record_logging_error error=unknown txType: custom vin=device-1 txtype=custom metadata={metadata} skipped=0"
        );
        assert_eq!(lines[0], line);
        assert_eq!(outcome, Outcome::Lost);
    }
}

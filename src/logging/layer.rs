//! From events to lines.

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::fields::Fields;
use super::log::Log;
use super::{AUDIT_TARGET, OURS, RECORDS_TARGET};

/// Makes one line per event, with the fields of the spans around it, on the thread that logs.
#[derive(Debug)]
pub(crate) struct Lines(pub(crate) Log);

impl<S: Subscriber + for<'lookup> LookupSpan<'lookup>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::of_line();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.extend(of_span);
            }
        }
        let (target, level) = (event.metadata().target(), *event.metadata().level());
        match target {
            RECORDS_TARGET => fields = fields.embedding_json(),
            target if is_ours(target) => {}
            library => fields.name_library(library),
        }
        event.record(&mut fields);
        // Changes are told at `info`; above it are lines about the topic, which anything may repeat.
        if target == AUDIT_TARGET && level == Level::INFO {
            self.0.audit(level, fields);
        } else {
            self.0.line(level, fields);
        }
    }
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::OffsetDateTime;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::logging::tests::{Out, config};

    /// The line that `log` writes, without its time.
    fn line(json: bool, log: impl FnOnce()) -> String {
        let out = Out::default();
        let lines = Log::start(&crate::config::Log { json, ..config() }, Box::new(out.clone())).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Lines(lines.clone())), log);
        lines.flush(Duration::from_secs(60));
        out.text()
    }

    fn text(log: impl FnOnce()) -> String {
        let line = line(false, log);
        let (time, rest) = line.split_once(" level=").unwrap();
        assert_eq!(time.len(), "time=\"2026-01-02T03:04:05Z\"".len());
        format!("level={rest}")
    }

    fn json(log: impl FnOnce()) -> (String, serde_json::Value) {
        let line = line(true, log);
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let mut value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let time = value.as_object_mut().unwrap().remove("time").unwrap();
        OffsetDateTime::parse(time.as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap();
        (line, value)
    }

    #[test]
    fn writes_text_with_sorted_keys() {
        assert_eq!(
            text(|| tracing::info!(activity = true, b = 2, a = "x y", "starting_server")),
            "level=info msg=starting_server a=\"x y\" activity=true b=2 context=fleet-telemetry\n"
        );
        assert_eq!(
            text(|| tracing::warn!(path = "/a-b_c.d@e^f+g", empty = "", "two words")),
            "level=warning msg=\"two words\" context=fleet-telemetry empty= path=/a-b_c.d@e^f+g\n"
        );
    }

    #[test]
    fn cannot_be_tricked_into_a_second_line() {
        assert_eq!(
            text(|| tracing::info!(agent = "x\" level=error\nmsg=forged\u{202e}\\", "m")),
            "level=info msg=m agent=\"x\\\" level=error\\nmsg=forged\\u{202e}\\\\\" context=fleet-telemetry\n"
        );
        let (_, value) = json(|| tracing::info!(agent = "x\"},\n{\u{0}\u{e0001}", "m"));
        assert_eq!(value["agent"], "x\"},\n{\u{0}\u{e0001}");
    }

    #[test]
    fn writes_json_with_sorted_keys() {
        let (line, value) = json(|| tracing::debug!(n = -1, z = 1.5, nan = f64::NAN, big = u64::MAX, "event"));
        let expected = serde_json::json!({
            "big": u64::MAX, "context": "fleet-telemetry", "level": "debug", "msg": "event", "n": -1, "nan": "NaN", "z": 1.5
        });
        assert_eq!(value, expected);
        let names = ["big", "context", "level", "msg", "n", "nan", "time", "z"];
        let positions: Vec<_> = names.map(|name| line.find(&format!("\"{name}\":")).unwrap()).to_vec();
        assert!(positions.is_sorted(), "{line}");
    }

    #[test]
    fn gives_every_error_line_an_error_field() {
        let (_, value) = json(|| tracing::error!("kafka_err"));
        assert_eq!(value["error"], serde_json::Value::Null);
        assert!(value.as_object().unwrap().contains_key("error"));
        assert!(text(|| tracing::error!("kafka_err")).contains(" error=\"<nil>\""));
        let error = std::io::Error::other("broken");
        assert!(text(|| tracing::error!(%error, "kafka_err")).contains(" error=broken\n"));
    }

    #[test]
    fn renames_fields_that_every_line_has() {
        let (_, value) = json(|| tracing::info!(time = 1, level = "x", msg = "y", context = "z", "event"));
        let expected = serde_json::json!({
            "context": "fleet-telemetry", "level": "info", "msg": "event",
            "fields.context": "z", "fields.level": "x", "fields.msg": "y", "fields.time": 1
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn embeds_the_json_of_records_only() {
        let (line, _) =
            json(|| tracing::info!(target: RECORDS_TARGET, data = r#"{"a":[1]}"#, vin = "V", "record_payload"));
        assert!(line.contains(r#""data":{"a":[1]},"#), "{line}");
        let (line, _) = json(|| tracing::info!(data = r#"{"a":1}"#, "elsewhere"));
        assert!(line.contains(r#""data":"{\"a\":1}""#), "{line}");
    }

    #[test]
    fn names_the_library_that_a_line_comes_from() {
        assert!(text(|| tracing::warn!(target: "rustls::x", "m")).contains(" library=\"rustls::x\"\n"));
        assert!(!text(|| tracing::warn!(target: "fleet_telemetry::session", "m")).contains("library"));
    }

    #[test]
    fn adds_the_fields_of_spans_and_lets_the_event_win() {
        let (_, value) = json(|| {
            let session = tracing::info_span!("session", txid = "t", device_id = tracing::field::Empty, both = "span");
            session.record("device_id", "VIN");
            session.in_scope(|| tracing::info!(both = "event", "socket_connected"));
        });
        assert_eq!(
            (&value["txid"], &value["device_id"], &value["both"]),
            (&"t".into(), &"VIN".into(), &"event".into())
        );
    }
}

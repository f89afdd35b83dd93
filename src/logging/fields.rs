//! The fields of one line.

use std::collections::BTreeMap;
use std::fmt;

use tracing::field::{Field, Visit};

/// The constant field of every line.
const CONTEXT: &str = "fleet-telemetry";

/// Names that every line has already; an event's own fields of these names get a prefix.
const TAKEN: [&str; 4] = ["time", "level", "msg", "context"];

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    /// JSON text, embedded as it is where the line is JSON.
    Json(String),
}

/// The fields of an event or a span, sorted by name, and the message.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) message: String,
    pub(super) values: BTreeMap<String, Value>,
    /// `data` and `metadata` hold JSON text.
    embeds_json: bool,
}

impl Fields {
    /// The fields that all lines share.
    pub(super) fn of_line() -> Self {
        let context = ("context".to_owned(), Value::Text(CONTEXT.to_owned()));
        Self { values: BTreeMap::from([context]), ..Self::default() }
    }

    pub(super) fn embedding_json(mut self) -> Self {
        self.embeds_json = true;
        self
    }

    /// Those of a span, under whatever is nearer to the event.
    pub(super) fn extend(&mut self, span: &Self) {
        self.values.extend(span.values.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn set(&mut self, field: &Field, value: Value) {
        let name = field.name();
        match name {
            "message" => self.message = value.into_text(),
            // Where in a library a line of the `log` crate came from, except for the module.
            _ if name.starts_with("log.") && name != "log.target" => {}
            _ if TAKEN.contains(&name) => drop(self.values.insert(format!("fields.{name}"), value)),
            _ => drop(self.values.insert(name.to_owned(), value)),
        }
    }

    fn set_text(&mut self, field: &Field, text: String) {
        let is_json = self.embeds_json && matches!(field.name(), "data" | "metadata");
        self.set(field, if is_json { Value::Json(text) } else { Value::Text(text) });
    }
}

impl Value {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Json(text) => text,
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Signed(value) => value.to_string(),
            Self::Unsigned(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set_text(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::Float(value));
    }
}

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
pub enum Value {
    /// None.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Signed(i64),
    /// An integer that is not negative.
    Unsigned(u64),
    /// Any other number.
    Float(f64),
    /// Text; a line shows it escaped.
    Text(String),
    /// JSON text, embedded as it is where the line is JSON.
    Json(String),
}

/// The fields of an event or a span, sorted by name, and the message.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(super) message: String,
    pub(super) values: BTreeMap<String, Value>,
    /// `data` and `metadata` hold JSON text.
    embeds_json: bool,
}

impl Fields {
    /// Those of a line that is made without an event, with its name.
    #[must_use]
    pub fn named(message: &str) -> Self {
        Self { message: message.to_owned(), ..Self::of_line() }
    }

    /// One more field.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value.into());
        self
    }

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

    /// The target of a line that is not ours.
    pub(super) fn name_library(&mut self, target: &str) {
        self.values.insert("library".to_owned(), Value::Text(target.to_owned()));
    }

    fn set(&mut self, name: &str, value: Value) {
        match name {
            "message" => self.message = value.into_text(),
            // Lines of the `log` crate carry their origin in fields.
            "log.target" => drop(self.values.insert("library".to_owned(), value)),
            _ if name.starts_with("log.") => {}
            _ if TAKEN.contains(&name) => drop(self.values.insert(format!("fields.{name}"), value)),
            _ => drop(self.values.insert(name.to_owned(), value)),
        }
    }

    fn set_text(&mut self, field: &Field, text: String) {
        match field.name() {
            "data" | "metadata" if self.embeds_json => self.set(field.name(), Value::Json(text)),
            name => self.set(name, Value::Text(text)),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
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
        self.set(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::Float(value));
    }
}

//! The two forms of a line.

use std::fmt::Write;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use tracing::Level;

use super::fields::{Fields, Value};
use crate::escape::is_unprintable;

/// RFC 3339 to the second.
const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `time="…" level=info msg=… key=value`, keys sorted after the first three.
    Text,
    /// One object, all keys sorted.
    Json,
}

impl Form {
    /// The whole line with its line feed.
    pub(super) fn line(self, time: OffsetDateTime, level: Level, mut fields: Fields) -> String {
        if level == Level::ERROR {
            // Whoever filters for errors finds the key in each of them.
            fields.values.entry("error".to_owned()).or_insert(Value::Null);
        }
        match self {
            Self::Text => text(time, level, &fields),
            Self::Json => json(time, level, fields),
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn text(time: OffsetDateTime, level: Level, fields: &Fields) -> String {
    let mut line = String::with_capacity(256);
    let time = time.format(SECONDS).unwrap_or_default();
    let _ = write!(line, "time=\"{time}\" level={} msg=", level_name(level));
    push_text(&mut line, &fields.message);
    for (name, value) in &fields.values {
        line.push(' ');
        line.push_str(name);
        line.push('=');
        match value {
            Value::Null => line.push_str("\"<nil>\""),
            Value::Bool(value) => drop(write!(line, "{value}")),
            Value::Signed(value) => drop(write!(line, "{value}")),
            Value::Unsigned(value) => drop(write!(line, "{value}")),
            Value::Float(value) => drop(write!(line, "{value}")),
            Value::Text(value) | Value::Json(value) => push_text(&mut line, value),
        }
    }
    line.push('\n');
    line
}

/// Quoted unless it is plain.
fn push_text(line: &mut String, text: &str) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(is_plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            c if is_unprintable(c) => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('"');
}

fn json(time: OffsetDateTime, level: Level, fields: Fields) -> String {
    let Fields { message, mut values, .. } = fields;
    values.insert("time".to_owned(), Value::Text(time.format(&Rfc3339).unwrap_or_default()));
    values.insert("level".to_owned(), Value::Text(level_name(level).to_owned()));
    values.insert("msg".to_owned(), Value::Text(message));
    let mut line = String::with_capacity(256);
    for (name, value) in &values {
        line.push(if line.is_empty() { '{' } else { ',' });
        push_json(&mut line, name);
        line.push(':');
        match value {
            Value::Null => line.push_str("null"),
            Value::Bool(value) => drop(write!(line, "{value}")),
            Value::Signed(value) => drop(write!(line, "{value}")),
            Value::Unsigned(value) => drop(write!(line, "{value}")),
            Value::Float(value) if value.is_finite() => drop(write!(line, "{value}")),
            // JSON has no NaN; text keeps the line valid.
            Value::Float(value) => drop(write!(line, "\"{value}\"")),
            Value::Text(value) => push_json(&mut line, value),
            Value::Json(value) => line.push_str(value),
        }
    }
    line.push_str("}\n");
    line
}

/// A JSON string; what could confuse a terminal is escaped too.
fn push_json(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if is_unprintable(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(line, "\\u{unit:04x}");
                }
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

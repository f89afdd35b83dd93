//! `onboarding.telemetry`: what vehicles are told to send. Its rules are the vehicle maker's, and judged where it is used.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::required;
use crate::config::error::Problems;
use crate::config::json::Json;
use crate::config::section::Section;

/// Between two sendings of a value that has not changed, in seconds: the maker's remedy for signals that are lost.
pub const RESEND_SECONDS: u64 = 300;

/// `onboarding.telemetry`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FileTelemetry {
    /// The name by which vehicles reach the server.
    pub hostname: Option<String>,
    /// The port that they connect to.
    pub port: Option<i64>,
    /// PEM of the server's authorities.
    pub ca_file: Option<String>,
    /// Field to seconds, or to the maker's own form.
    pub fields: Option<Map<String, Value>>,
    /// Types of alerts.
    pub alert_types: Option<Vec<String>>,
}

/// What vehicles are told to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// The name by which vehicles reach the server.
    pub hostname: String,
    /// The port that they connect to.
    pub port: u16,
    /// PEM of the authorities that the server's certificate comes from: intermediate and root.
    pub ca_file: PathBuf,
    /// In the maker's form.
    pub fields: Map<String, Value>,
    /// Types of alerts.
    pub alert_types: Vec<String>,
}

impl FileTelemetry {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            hostname: section.value("hostname"),
            port: section.value("port"),
            ca_file: section.value("ca_file"),
            fields: section
                .map("fields")
                .map(|fields| fields.into_iter().map(|(name, json)| (name, plain(json))).collect()),
            alert_types: section.value("alert_types"),
        }
    }
}

pub(super) fn resolve(section: &FileTelemetry, problems: &mut Problems) -> Telemetry {
    let fields = section.fields.clone().unwrap_or_default();
    if fields.is_empty() {
        let remedy = "name what vehicles send, such as {\"Soc\": 60}: a field, and every how many seconds at most";
        required::<String>("onboarding.telemetry.fields", None, remedy, problems);
    }
    Telemetry {
        hostname: required(
            "onboarding.telemetry.hostname",
            section.hostname.as_deref(),
            "give the name by which vehicles reach this server",
            problems,
        ),
        port: problems.number("onboarding.telemetry.port", section.port, 1..=65_535, 443),
        ca_file: required(
            "onboarding.telemetry.ca_file",
            section.ca_file.as_deref(),
            "give the PEM of the authorities that tls.server_cert comes from: intermediate and root",
            problems,
        ),
        fields: fields.into_iter().map(|(name, value)| (name, whole(value))).collect(),
        alert_types: section.alert_types.clone().unwrap_or_default(),
    }
}

/// `60` is the short form of an interval.
fn whole(value: Value) -> Value {
    match value.as_u64() {
        Some(seconds) => json!({"interval_seconds": seconds, "resend_interval_seconds": RESEND_SECONDS.max(seconds)}),
        None => value,
    }
}

fn plain(json: Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => value.into(),
        Json::Number(value) => value.into(),
        Json::String(value) => value.into(),
        Json::Array(items) => items.into_iter().map(plain).collect(),
        Json::Object(members) => members.into_iter().map(|(name, value)| (name, plain(value))).collect(),
    }
}

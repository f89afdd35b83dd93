//! What callers may say. Every refusal names the field, the value and what is allowed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::refusal::{Refusal, scopes};
use crate::permissions::{Actor, Change};
use crate::permissions::{Scope, State, clock};

/// Longest device id, in bytes; VINs have 17.
const VIN_BYTES: usize = 64;
/// From the request's headers to the end of its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// One entry, as somebody wants it to be: the body of a `PUT`, or a row of an import.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    pub(super) state: String,
    pub(super) since: Option<String>,
    pub(super) expires: Option<String>,
    pub(super) source: Option<String>,
    pub(super) note: Option<String>,
    pub(super) expected_version: Option<u64>,
}

impl Wish {
    /// Checks everything.
    pub(super) fn change(self, vin: String, scope: Scope, actor: Actor, now_ms: i64) -> Result<Change, Refusal> {
        let since_ms = time("since", self.since.as_deref())?;
        let expires_ms = time("expires", self.expires.as_deref())?;
        if let (Some(expires), Some(text)) = (expires_ms, &self.expires)
            && expires <= since_ms.unwrap_or(now_ms)
        {
            let since = clock::rfc3339(since_ms.unwrap_or(now_ms));
            return Err(Refusal::bad("expires", text, format!("must be later than since, which is {since}")));
        }
        Ok(Change {
            vin,
            scope,
            state: state(&self.state)?,
            since_ms,
            expires_ms,
            source: self.source.unwrap_or_default(),
            note: self.note.unwrap_or_default(),
            expected_version: self.expected_version,
            actor,
        })
    }
}

pub(super) fn vin(text: &str) -> Result<String, Refusal> {
    let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if (1..=VIN_BYTES).contains(&text.len()) && text.bytes().all(valid) {
        return Ok(text.to_owned());
    }
    Err(Refusal::bad("vin", text, format!("must be 1 to {VIN_BYTES} visible ASCII characters without '/'")))
}

pub(super) fn scope(text: &str) -> Result<Scope, Refusal> {
    Scope::parse(text).ok_or_else(|| Refusal::bad("scope", text, format!("must be one of {}", scopes())))
}

fn state(text: &str) -> Result<State, Refusal> {
    State::parse(text).ok_or_else(|| Refusal::bad("state", text, "must be one of granted, denied"))
}

fn time(field: &'static str, text: Option<&str>) -> Result<Option<i64>, Refusal> {
    let bad = |text| Refusal::bad(field, text, "must be a time by RFC 3339, such as 2026-01-31T08:00:00Z, or null");
    text.map(|text| clock::parse_rfc3339(text).ok_or_else(|| bad(text))).transpose()
}

/// Exactly one JSON document of the form `T`.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| blame(&error))?;
    reader.end().map_err(|error| Refusal::bad("body", "", format!("is not one JSON document: {error}")))?;
    Ok(value)
}

/// Which member, of which row.
fn blame(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    let mut field = None;
    let mut row = None;
    for segment in error.path() {
        match segment {
            Segment::Map { key } => field = Some(key.as_str()),
            Segment::Seq { index } => row = Some(*index),
            _ => {}
        }
    }
    let message = error.inner().to_string();
    // What is missing or unknown is named by the message only.
    let named = message.split('`').nth(1).filter(|_| message.contains(" field `"));
    let refusal = Refusal::bad(named.or(field).unwrap_or("body"), "", message.as_str());
    match row {
        Some(row) => refusal.in_row(row),
        None => refusal,
    }
}

/// The whole body, if it is no longer than `limit` and comes in time.
pub(super) async fn body(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) | Err(_) => Err(Refusal::too_large(limit)),
    }
}

/// The version of `If-Match: "3"`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    let bad =
        || Refusal::bad("if-match", &text, "must be one entity tag with a version, such as \"3\" with the quotes");
    version.map(Some).ok_or_else(bad)
}

/// The VIN of the path.
pub(super) struct Vehicle(pub(super) String);

/// VIN and scope of the path.
pub(super) struct Entry(pub(super) String, pub(super) Scope);

/// Path parameters by name, decoded.
async fn path<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<HashMap<String, String>, Refusal> {
    let bad = |parts: &Parts| Refusal::bad("path", parts.uri.path(), "is not valid UTF-8 when decoded");
    match Path::from_request_parts(parts, state).await {
        Ok(Path(parameters)) => Ok(parameters),
        Err(_) => Err(bad(parts)),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Vehicle {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let parameters = path(parts, state).await?;
        Ok(Self(vin(parameters.get("vin").map_or("", String::as_str))?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Entry {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let parameters = path(parts, state).await?;
        let parameter = |name| parameters.get(name).map_or("", String::as_str);
        Ok(Self(vin(parameter("vin"))?, scope(parameter("scope"))?))
    }
}

/// The parameters behind the `?`. Each has to be taken; [`Self::finish`] refuses what is left.
pub(super) struct Parameters(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(_) => Err(Refusal::bad("query", parts.uri.query().unwrap_or_default(), "cannot be decoded")),
        }
    }
}

impl Parameters {
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A number from 1 to `most`.
    pub(super) fn count(&mut self, name: &'static str, default: usize, most: usize) -> Result<usize, Refusal> {
        let Some(text) = self.0.remove(name) else { return Ok(default) };
        let bad = || Refusal::bad(name, &text, format!("must be a number from 1 to {most}"));
        text.parse().ok().filter(|count| (1..=most).contains(count)).ok_or_else(bad)
    }

    pub(super) fn finish(self, allowed: &str) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            None => Ok(()),
            Some((name, value)) => {
                let message = format!("unknown parameter {name}, expected {allowed}");
                Err(Refusal::bad(name, &value, message))
            }
        }
    }
}

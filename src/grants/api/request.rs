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

use super::refusal::Refusal;
use crate::grants::change::check_vin;
use crate::grants::{Actor, Change, Invalid, document};
use crate::scope::Scope;

/// From the request's headers to the end of its body, and a second more for each MiB that it may have.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// One entry, as somebody wants it to be: the body of a `PUT`.
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
    /// Bounds of texts and times are looked at when the change is made.
    pub(super) fn change(self, vin: String, scope: Scope, actor: Actor) -> Result<Change, Invalid> {
        Ok(Change {
            vin,
            scope,
            state: document::state(&self.state)?,
            since_ms: document::time("since", self.since.as_deref())?,
            expires_ms: document::time("expires", self.expires.as_deref())?,
            source: self.source.unwrap_or_default(),
            note: self.note.unwrap_or_default(),
            expected_version: self.expected_version,
            actor,
        })
    }
}

/// The whole body, if it is no longer than `limit` and comes in time.
pub(super) async fn body(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let patience = BODY_TIMEOUT + Duration::from_secs((limit >> 20) as u64);
    match tokio::time::timeout(patience, axum::body::to_bytes(body, limit)).await {
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

fn vin(parameters: &HashMap<String, String>) -> Result<String, Invalid> {
    let vin = parameters.get("vin").map_or("", String::as_str);
    check_vin(vin).map(|()| vin.to_owned())
}

impl<S: Send + Sync> FromRequestParts<S> for Vehicle {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        Ok(Self(vin(&path(parts, state).await?)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Entry {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let parameters = path(parts, state).await?;
        let scope = parameters.get("scope").map_or("", String::as_str);
        Ok(Self(vin(&parameters)?, document::scope(scope)?))
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

//! Everything at once: import and export.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::refusal::Refusal;
use super::request::{self, Parameters};
use super::view::AuditLine;
use crate::grants::Actor;
use crate::grants::document::{self, Format, Row};

/// Longest document of an import, in bytes.
const DOCUMENT_BYTES: usize = 64 << 20;
/// Vehicles that are read from the authority at a time.
const PAGE: usize = 1000;

#[derive(Serialize)]
struct ImportedView {
    changed: usize,
    unchanged: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_line: Option<AuditLine>,
}

pub(super) async fn import(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let format = content_type(&headers)?;
    let _turn = api.imports.acquire().await.expect("the semaphore is never closed");
    let bytes = request::body(body, DOCUMENT_BYTES).await?;
    let changes = document::changes(format.parse(&bytes)?, &actor)?;
    let imported = api.authority.import(changes).await.map_err(|error| Refusal::of_import(&error))?;
    let audit_line = AuditLine::unless_written(&api, imported.changed > 0).await;
    let view = ImportedView { changed: imported.changed, unchanged: imported.unchanged, audit_line };
    Ok(Json(view).into_response())
}

fn content_type(headers: &HeaderMap) -> Result<Format, Refusal> {
    let value = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes())).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    match essence.to_ascii_lowercase().as_str() {
        "application/json" => Ok(Format::Json),
        "text/csv" => Ok(Format::Csv),
        _ => Err(Refusal::unsupported(&value)),
    }
}

pub(super) async fn export(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    mut query: Parameters,
) -> Result<Response, Refusal> {
    let format = match query.text("format").as_deref() {
        Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some(other) => return Err(Refusal::bad("format", other, "must be one of json, csv")),
        None if prefers_csv(&headers) => Format::Csv,
        None => Format::Json,
    };
    query.finish("format")?;
    Refusal::unless_known(&api.authority.health())?;
    let kind = match format {
        Format::Json => "application/json",
        Format::Csv => "text/csv; charset=utf-8",
    };
    Ok(([(CONTENT_TYPE, kind)], format.render(rows(&api))).into_response())
}

fn prefers_csv(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = accepted.split(',').next().unwrap_or_default();
    first.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv")
}

fn rows(api: &Api) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = api.authority.list(after.as_deref(), PAGE);
        for (vin, entries) in &page.vehicles {
            rows.extend(entries.iter().map(|(scope, grant)| Row::of(vin, *scope, grant)));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
}

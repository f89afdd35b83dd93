//! Entries of vehicles: read, write, history, access.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::access::Access;
use super::refusal::Refusal;
use super::request::{self, Entry, Parameters, Vehicle, Wish};
use super::view::{AuditLine, EntryView, VehicleView};
use crate::grants::written::WrittenGrant;
use crate::grants::{Actor, ChangeError, clock, document};

/// Longest body of a `PUT`, in bytes.
const BODY_BYTES: usize = 1 << 20;
/// Vehicles in a page, and changes in a history.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[derive(Serialize)]
pub(super) struct ListView {
    vehicles: Vec<VehicleView>,
    next: Option<String>,
}

pub(super) async fn list(State(api): State<Arc<Api>>, mut query: Parameters) -> Result<Json<ListView>, Refusal> {
    let after = query.text("after");
    let limit = query.count("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    query.finish("after, limit")?;
    Refusal::unless_known(&api.authority.health())?;
    let page = api.authority.list(after.as_deref(), limit);
    let vehicles = page.vehicles.into_iter().map(|(vin, entries)| VehicleView::new(vin, entries)).collect();
    Ok(Json(ListView { vehicles, next: page.next }))
}

pub(super) async fn show(State(api): State<Arc<Api>>, Vehicle(vin): Vehicle) -> Result<Json<VehicleView>, Refusal> {
    Refusal::unless_known(&api.authority.health())?;
    match api.authority.get(&vin) {
        Some(entries) => Ok(Json(VehicleView::new(vin, entries))),
        None => Err(Refusal::vehicle_unknown(&vin)),
    }
}

pub(super) async fn access(State(api): State<Arc<Api>>, Vehicle(vin): Vehicle) -> Result<Json<Access>, Refusal> {
    Refusal::unless_known(&api.authority.health())?;
    let entries = api.authority.get(&vin);
    Ok(Json(Access::check(vin, &api.rules, entries.as_deref(), clock::now_ms())))
}

#[derive(Serialize)]
struct ChangedView {
    vin: String,
    scope: &'static str,
    changed: bool,
    grant: WrittenGrant,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_line: Option<AuditLine>,
}

pub(super) async fn put(
    State(api): State<Arc<Api>>,
    Extension(actor): Extension<Actor>,
    Entry(vin, scope): Entry,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let mut wish: Wish = document::json(&request::body(body, BODY_BYTES).await?)?;
    let precondition = request::if_match(&headers)?;
    if let (Some(header), Some(member)) = (precondition, wish.expected_version)
        && header != member
    {
        let message = format!("differs from If-Match, which is {header}; one of both is enough");
        return Err(Refusal::bad("expected_version", &member.to_string(), message));
    }
    wish.expected_version = precondition.or(wish.expected_version);
    let change = wish.change(vin.clone(), scope, actor)?;
    let changed = api.authority.change(change).await.map_err(|error| refuse(&error, precondition))?;
    let audit_line = AuditLine::unless_written(&api, changed.changed).await;
    let tag = format!("\"{}\"", changed.grant.version);
    let grant = WrittenGrant::from(&changed.grant);
    let view = ChangedView { vin, scope: scope.label(), changed: changed.changed, grant, audit_line };
    Ok(([(ETAG, tag)], Json(view)).into_response())
}

fn refuse(error: &ChangeError, precondition: Option<u64>) -> Refusal {
    let refusal = Refusal::of_change(error);
    if precondition.is_some() { refusal.of_precondition() } else { refusal }
}

#[derive(Serialize)]
pub(super) struct HistoryView {
    vin: String,
    changes: Vec<EntryView>,
}

pub(super) async fn history(
    State(api): State<Arc<Api>>,
    Vehicle(vin): Vehicle,
    mut query: Parameters,
) -> Result<Json<HistoryView>, Refusal> {
    let limit = query.count("limit", DEFAULT_LIMIT, MAX_LIMIT)?;
    query.finish("limit")?;
    let changes = api.authority.history(&vin, limit).await.map_err(|error| Refusal::of_change(&error))?;
    if changes.is_empty() && api.authority.get(&vin).is_none() {
        return Err(Refusal::vehicle_unknown(&vin));
    }
    Ok(Json(HistoryView { vin, changes: changes.into_iter().map(EntryView::from).collect() }))
}

//! What each request does.

use std::sync::Arc;

use axum::extract::{Form, Path, Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Json, http::HeaderValue};
use serde::Deserialize;
use serde_json::json;

use super::sessions::Session;
use super::{Pages, texts, views};
use crate::onboarding::consent;
use crate::onboarding::deploy::{self, Outcome};
use crate::onboarding::fleet_api::{FleetStatus, Pairing};
use crate::onboarding::owners::{Callback, OwnersError};
use crate::onboarding::telemetry::{Document, Facts, build};
use crate::onboarding::vault::OwnedVehicle;
use crate::tls::certificate;

type Shared = State<Arc<Pages>>;

#[derive(Debug, Deserialize)]
pub(super) struct Proof {
    #[serde(default)]
    proof: String,
}

pub(super) async fn connect(State(pages): Shared) -> Response {
    views::connect(&pages.section.domain, &pages.asked)
}

/// A link works once, so it is made when it is used.
pub(super) async fn leave(State(pages): Shared) -> Response {
    match pages.owners.link(&consent::scopes(&pages.asked)) {
        Ok(link) => Redirect::to(&link).into_response(),
        Err(error) => views::trouble(&error),
    }
}

pub(super) async fn callback(State(pages): Shared, Query(callback): Query<Callback>) -> Response {
    let owner = match pages.owners.arrive(&callback).await {
        Ok(owner) => owner,
        Err(error) => return views::trouble(&error),
    };
    if let (Some(follower), Ok(vehicles)) = (&pages.follower, pages.owners.vault().vehicles(Some(&owner.sub))) {
        follower.apply(&owner, &vehicles).await;
    }
    let cookie = pages.sessions.begin(&owner.sub, pages.is_secure());
    let Some(Ok(cookie)) = cookie.map(|cookie| HeaderValue::from_str(&cookie)) else {
        return views::trouble(&OwnersError::NoRandomness);
    };
    ([(SET_COOKIE, cookie)], Redirect::to("/vehicles")).into_response()
}

pub(super) async fn vehicles(State(pages): Shared, headers: HeaderMap) -> Response {
    let Some(session) = pages.sessions.of(&headers) else { return views::signed_out() };
    let shown = async {
        let owner = pages.owners.vault().owner(&session.sub)?.ok_or(OwnersError::State)?;
        let vehicles = pages.owners.vault().vehicles(Some(&session.sub))?;
        let missing = consent::missing(&pages.asked, &owner.scopes);
        let status = if missing.is_empty() && !vehicles.is_empty() {
            status(&pages, &session, &vehicles).await?
        } else {
            FleetStatus::default()
        };
        Ok::<_, OwnersError>(views::vehicles(&vehicles, &status, &missing, &session.proof))
    };
    shown.await.unwrap_or_else(|error| views::trouble(&error))
}

async fn status(pages: &Pages, session: &Session, vehicles: &[OwnedVehicle]) -> Result<FleetStatus, OwnersError> {
    let vins: Vec<_> = vehicles.iter().map(|vehicle| vehicle.vin.as_str()).collect();
    let mut session = pages.owners.session(&session.sub).await?;
    session.fleet_status(&vins).await
}

/// Why a browser is shown nothing.
enum Refused {
    SignedOut,
    Trouble(Box<OwnersError>),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        match self {
            Self::SignedOut => views::signed_out(),
            Self::Trouble(error) => views::trouble(&error),
        }
    }
}

impl<E: Into<OwnersError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Trouble(Box::new(error.into()))
    }
}

/// A vehicle of the owner whose browser it is; of nobody else.
fn own(pages: &Pages, headers: &HeaderMap, vin: &str) -> Result<(Session, OwnedVehicle), Refused> {
    let session = pages.sessions.of(headers).ok_or(Refused::SignedOut)?;
    let vehicles = pages.owners.vault().vehicles(Some(&session.sub))?;
    let no_owner = || OwnersError::NoOwner { vin: crate::escape::escape(vin.as_bytes(), 40) };
    let own = vehicles.into_iter().find(|vehicle| vehicle.vin == vin).ok_or_else(no_owner)?;
    Ok((session, own))
}

async fn pairing(pages: &Pages, session: &Session, vehicle: &OwnedVehicle) -> Result<Pairing, OwnersError> {
    let status = status(pages, session, std::slice::from_ref(vehicle)).await?;
    Ok(status.pairing(&vehicle.vin))
}

pub(super) async fn vehicle(State(pages): Shared, headers: HeaderMap, Path(vin): Path<String>) -> Response {
    let (session, vehicle) = match own(&pages, &headers, &vin) {
        Ok(own) => own,
        Err(refusal) => return refusal.into_response(),
    };
    match pairing(&pages, &session, &vehicle).await {
        Ok(pairing) => {
            let link = crate::onboarding::pairing_link(&pages.section, &vehicle.vin);
            views::vehicle(&vehicle, pairing, &link, &session.proof)
        }
        Err(error) => views::trouble(&error),
    }
}

pub(super) async fn state(State(pages): Shared, headers: HeaderMap, Path(vin): Path<String>) -> Response {
    let (session, vehicle) = match own(&pages, &headers, &vin) {
        Ok(own) => own,
        Err(refusal) => return refusal.into_response(),
    };
    let state = match pairing(&pages, &session, &vehicle).await {
        Ok(pairing) => match deploy::needs(pairing) {
            None => json!({"done": true, "code": "paired", "text": texts::PAIR_DONE}),
            Some(reason) => json!({"done": false, "code": reason.code, "text": texts::PAIR_WAITING}),
        },
        Err(error) => json!({"done": false, "code": error.code(), "text": error.to_string()}),
    };
    Json(state).into_response()
}

pub(super) async fn start(
    State(pages): Shared,
    headers: HeaderMap,
    Path(vin): Path<String>,
    Form(proof): Form<Proof>,
) -> Response {
    let vehicle = match own(&pages, &headers, &vin) {
        Ok((session, vehicle)) if session.proof == proof.proof => vehicle,
        Ok(_) => return views::signed_out(),
        Err(refusal) => return refusal.into_response(),
    };
    let Some(telemetry) = &pages.section.telemetry else {
        return views::not_started("the operator has not said what should be sent (onboarding.telemetry)");
    };
    let config = match build::of_server(telemetry) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%error, "telemetry_not_built");
            return views::not_started("the operator's configuration cannot be used at the moment");
        }
    };
    let facts = Facts { domain: Some(pages.section.domain.clone()), now: certificate::now(), ..Facts::default() };
    let document = Document { vins: vec![vehicle.vin.clone()], config };
    let outcomes = deploy::push(&pages.owners, &pages.key, &document, &facts).await;
    match outcomes.into_values().next() {
        Some(Outcome::Pushed) => views::started(),
        Some(Outcome::Skipped(reason)) => views::not_started(&reason.text),
        None => views::not_started("nothing came of it"),
    }
}

pub(super) async fn ask_withdraw(State(pages): Shared, headers: HeaderMap, Path(vin): Path<String>) -> Response {
    match own(&pages, &headers, &vin) {
        Ok((session, vehicle)) => views::ask_withdraw(&vehicle, &session.proof),
        Err(refusal) => refusal.into_response(),
    }
}

/// The configuration goes first, as only the owner's token can delete it; then the grants, then the tokens.
pub(super) async fn withdraw(
    State(pages): Shared,
    headers: HeaderMap,
    Path(vin): Path<String>,
    Form(proof): Form<Proof>,
) -> Response {
    let (session, vehicle) = match own(&pages, &headers, &vin) {
        Ok((session, vehicle)) if session.proof == proof.proof => (session, vehicle),
        Ok(_) => return views::signed_out(),
        Err(refusal) => return refusal.into_response(),
    };
    // From this moment nothing of it leaves, whatever the maker answers.
    if let Some(follower) = &pages.follower {
        follower.deny(&vehicle.vin).await;
    }
    let deleted = async {
        let mut owner = pages.owners.session(&session.sub).await?;
        owner.delete(&vehicle.vin).await?;
        Ok::<_, OwnersError>(pages.owners.vault().forget_vehicle(&vehicle.vin)?)
    };
    match deleted.await {
        Ok(()) => {
            tracing::info!(activity = true, "owner_withdrew");
            let client = pages.section.application.as_ref().map_or("", |application| &application.client_id);
            views::withdrawn(&format!("{}?revoke_client_id={client}", pages.section.maker.revoke_url))
        }
        Err(error) => views::trouble(&error),
    }
}

pub(super) const BAD: StatusCode = StatusCode::BAD_REQUEST;

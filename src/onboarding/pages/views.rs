//! What each page shows.

use axum::http::StatusCode;
use axum::response::Response;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};

use super::html::{form, list, page, text};
use super::{steps, texts};
use crate::onboarding::consent::Asked;
use crate::onboarding::deploy;
use crate::onboarding::fleet_api::{FleetStatus, Pairing};
use crate::onboarding::owners::OwnersError;
use crate::onboarding::vault::OwnedVehicle;

pub(super) fn connect(domain: &str, asked: &[Asked]) -> Response {
    let groups = asked.iter().flat_map(|asked| asked.groups.iter().copied());
    let body = format!(
        "<p>{}</p><p>{}</p>{}<p>{}</p><p><strong>{}</strong></p><form method=\"post\" action=\"/connect\"><button>{}</button></form>\
         <p>{}</p>",
        text(domain),
        text(texts::CONNECT_INTRO),
        list(groups, "ul"),
        text(texts::HOME),
        text(texts::CONNECT_SELECT),
        text(texts::CONNECT_BUTTON),
        text(texts::CONNECT_BACK),
    );
    page(StatusCode::OK, texts::CONNECT, &body)
}

pub(super) fn vehicles(vehicles: &[OwnedVehicle], status: &FleetStatus, missing: &[&str], proof: &str) -> Response {
    let mut body = String::new();
    if !missing.is_empty() {
        let (again, button) = (text(texts::VEHICLES_AGAIN), text(texts::VEHICLES_ASK_AGAIN));
        let missing = text(&missing.join(", "));
        body.push_str(&format!(
            "<p class=\"status\" role=\"alert\">{again} {missing}</p><form method=\"post\" action=\"/connect\"><button>{button}</button></form>"
        ));
    }
    let intro = if vehicles.is_empty() { texts::VEHICLES_NONE } else { texts::VEHICLES_INTRO };
    body.push_str(&format!("<p>{}</p>", text(intro)));
    for vehicle in vehicles {
        let next = if missing.is_empty() { next(vehicle, status.pairing(&vehicle.vin), proof) } else { String::new() };
        let withdraw = text(texts::WITHDRAW);
        let vin = text(&vehicle.vin);
        body.push_str(&format!(
            "<section class=\"card\"><h2>{}</h2><div class=\"vin\">{vin}</div><div class=\"row\">{next}<a class=\"button quiet\" \
             href=\"/vehicles/{vin}/withdraw\">{withdraw}</a></div></section>",
            text(name(vehicle)),
        ));
    }
    page(StatusCode::OK, texts::VEHICLES, &body)
}

fn name(vehicle: &OwnedVehicle) -> &str {
    if vehicle.name.is_empty() { "Car" } else { &vehicle.name }
}

fn next(vehicle: &OwnedVehicle, pairing: Pairing, proof: &str) -> String {
    let vin = &vehicle.vin;
    match deploy::needs(pairing) {
        None => form(&format!("/vehicles/{vin}/start"), proof, texts::NEXT_START),
        Some(_) if matches!(pairing, Pairing::KeyNeeded | Pairing::Unknown) => {
            format!("<a class=\"button\" href=\"/vehicles/{}\">{}</a>", text(vin), text(texts::NEXT_PAIR))
        }
        Some(reason) => format!("<span>{}</span>", text(&reason.text)),
    }
}

pub(super) fn vehicle(vehicle: &OwnedVehicle, pairing: Pairing, link: &str, proof: &str) -> Response {
    let vin = text(&vehicle.vin);
    let start = form(&format!("/vehicles/{}/start", vehicle.vin), proof, texts::NEXT_START);
    let needs = deploy::needs(pairing);
    let (status, hidden) = if needs.is_none() { (texts::PAIR_DONE, "") } else { (texts::PAIR_WAITING, " hidden") };
    let code = code(link);
    let link = text(link);
    let elses = texts::PAIR_ELSE.iter().map(|(says, means)| format!("{says}: {means}.")).collect::<Vec<_>>();
    let body = format!(
        "<p>{}<br><span class=\"vin\">{vin}</span></p><p id=\"status\" class=\"status\" role=\"status\" aria-live=\"polite\" \
         data-state=\"/vehicles/{vin}/state\">{}</p><div id=\"after\"{hidden}>{start}</div><h2>Before you begin</h2>{}<h2>Then</h2>{}\
         <div class=\"code\" role=\"img\" aria-label=\"{}\">{code}</div><p class=\"phone\"><a class=\"button\" href=\"{link}\">{}</a></p>\
         <p><a href=\"{link}\">{link}</a></p><noscript><p><a class=\"button quiet\" href=\"/vehicles/{vin}\">{}</a></p></noscript>\
         <h2>If it says something else</h2>{}<p><a href=\"/vehicles\">{}</a></p><script src=\"/poll.js\" defer></script>",
        text(name(vehicle)),
        text(status),
        list(texts::PAIR_BEFORE, "ul"),
        list(texts::PAIR_STEPS, "ol"),
        text(texts::PAIR_CODE),
        text(texts::PAIR_BUTTON),
        text(texts::PAIR_RELOAD),
        list(elses.iter().map(String::as_str), "ul"),
        text(texts::VEHICLES),
    );
    page(StatusCode::OK, texts::PAIR, &body)
}

/// Nothing, if the link is too long for a code; it stands beside it.
fn code(link: &str) -> String {
    let code = QrCode::with_error_correction_level(link, EcLevel::Q);
    let draw = |code: QrCode| code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    let svg = code.map(draw).unwrap_or_default();
    // Inside of HTML it has no declaration.
    svg.split_once("?>").map_or(svg.clone(), |(_, rest)| rest.to_owned())
}

pub(super) fn started() -> Response {
    let body = format!("<p class=\"status\" role=\"status\">{}</p>{}", text(texts::STARTED), back());
    page(StatusCode::OK, texts::NEXT_START, &body)
}

pub(super) fn not_started(why: &str) -> Response {
    let body = format!("<p class=\"status\" role=\"alert\">{}</p>{}", text(why), back());
    page(steps::BAD, texts::NOT_STARTED, &body)
}

pub(super) fn ask_withdraw(vehicle: &OwnedVehicle, proof: &str) -> Response {
    let action = format!("/vehicles/{}/withdraw", vehicle.vin);
    let body = format!(
        "<p>{}<br><span class=\"vin\">{}</span></p><p>{}</p>{}{}",
        text(name(vehicle)),
        text(&vehicle.vin),
        text(texts::WITHDRAW_INTRO),
        form(&action, proof, texts::WITHDRAW_BUTTON),
        back(),
    );
    page(StatusCode::OK, texts::WITHDRAW, &body)
}

pub(super) fn withdrawn(revoke: &str) -> Response {
    let body = format!(
        "<p class=\"status\" role=\"status\">{}</p><p>{}</p><p><a href=\"{}\">{}</a></p>",
        text(texts::WITHDRAWN_TEXT),
        text(texts::WITHDRAWN_KEY),
        text(revoke),
        text(texts::WITHDRAWN_CONSENT),
    );
    page(StatusCode::OK, texts::WITHDRAWN, &body)
}

pub(super) fn signed_out() -> Response {
    let body = format!("<p>{}</p>{}", text(texts::SIGNED_OUT), again());
    page(StatusCode::UNAUTHORIZED, texts::TROUBLE, &body)
}

pub(super) fn trouble(error: &OwnersError) -> Response {
    tracing::warn!(code = error.code(), "owner_page_failed");
    let body = format!(
        "<p class=\"status\" role=\"alert\">{}</p><p><code>{}</code></p>{}",
        text(&error.to_string()),
        text(error.code()),
        again(),
    );
    page(steps::BAD, texts::TROUBLE, &body)
}

fn back() -> String {
    format!("<p><a href=\"/vehicles\">{}</a></p>", text(texts::VEHICLES))
}

fn again() -> String {
    format!("<p><a class=\"button\" href=\"/connect\">{}</a></p>", text(texts::AGAIN))
}
